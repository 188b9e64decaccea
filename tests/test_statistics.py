"""Truths about `study.statistics`: hand-worked examples, brute force, exact combinatorics, simulation."""

import itertools
import math

import numpy as np
import pytest
from sklearn import metrics

from attentdiffernet.study import statistics as st

pytestmark = pytest.mark.quick

LABELS = np.array([0, 0, 0, 0, 1, 1, 1])
SCORES = np.array([1.0, 2.0, 3.0, 4.0, 2.0, 5.0, 3.5])


def sample(seed, n=30, m=20, shift=1.0, decimals=None):
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(size=n), rng.normal(shift, 1.3, size=m)])
    return np.repeat([0, 1], [n, m]), scores if decimals is None else scores.round(decimals)


def brute_force_covariance(labels, *detectors):
    """DeLong 1988, eq. 4-6, as printed: placements by comparing every pair."""

    def psi(x, y):
        return 1.0 if x > y else 0.5 if x == y else 0.0

    v10, v01 = [], []
    for scores in detectors:
        anomalous, normal = scores[labels == 1], scores[labels == 0]
        v10.append([sum(psi(x, y) for y in normal) / len(normal) for x in anomalous])
        v01.append([sum(psi(x, y) for x in anomalous) / len(anomalous) for y in normal])

    def cov(a, b):
        mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
        return sum((p - mean_a) * (q - mean_b) for p, q in zip(a, b, strict=True)) / (len(a) - 1)

    k = range(len(detectors))
    return np.array([[cov(v10[r], v10[s]) / len(v10[0]) + cov(v01[r], v01[s]) / len(v01[0]) for s in k] for r in k])


# -- AUROC and DeLong


def test_auroc_by_hand():
    # Anomaly 2 beats 1, ties with 2: 1.5 of 4; 5 beats all: 4; 3.5 beats 1, 2, 3: 3. Together 8.5 of 12 pairs.
    assert st.auroc(LABELS, SCORES) == 8.5 / 12
    assert st.auroc([0, 1], [3.0, 3.0]) == 0.5
    assert st.auroc([0, 0, 1], [1, 2, 3]) == 1 and st.auroc([1, 1, 0], [1, 2, 3]) == 0


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize("seed", range(5))
def test_auroc_equals_scikit_learn(seed, decimals):
    labels, scores = sample(seed, decimals=decimals)
    assert st.auroc(labels, scores) == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-14)
    assert st.auroc(1 - labels, scores) == pytest.approx(1 - st.auroc(labels, scores), abs=1e-14)
    assert st.auroc(labels, np.exp(scores)) == st.auroc(labels, scores)


def test_delong_variance_by_hand():
    # V10 = 3/8, 1, 3/4: deviations -8, 7, 1 (/24) from 17/24, variance 114 / 576 / 2 = 19/192.
    # V01 = 1, 5/6, 2/3, 1/3: deviations 7, 3, -1, -9 (/24), variance 140 / 576 / 3 = 35/432.
    # 19/192 / 3 + 35/432 / 4 = 23/432.
    above, below = st._placements(np.array(LABELS, dtype=bool), np.array(SCORES, dtype=float))
    assert st._variance(above, below) == pytest.approx(23 / 432)


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_delong_test_equals_brute_force(decimals):
    labels, a = sample(0, decimals=decimals)
    b = a + sample(1, decimals=decimals)[1]
    covariance = brute_force_covariance(labels, a, b)
    test = st.delong_test(labels, a, b)
    assert [test.auroc_a, test.auroc_b] == pytest.approx([st.auroc(labels, a), st.auroc(labels, b)])
    contrast = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert (test.high - test.low) / 2 == pytest.approx(1.959964 * math.sqrt(contrast))


def test_interval_is_delong_on_the_logit_scale():
    labels, scores = sample(3)
    interval = st.auroc_interval(labels, scores)
    area, variance = st.auroc(labels, scores), brute_force_covariance(labels, scores).item()
    centre = math.log(area / (1 - area))
    for bound, sign in ((interval.low, -1), (interval.high, 1)):
        moved = (math.log(bound / (1 - bound)) - centre) * area * (1 - area)
        assert moved == pytest.approx(sign * 1.959964 * math.sqrt(variance), rel=1e-6)
    assert (interval.n_normal, interval.n_anomalous) == (30, 20)


def test_interval_covers_the_truth_in_about_95_of_100_samples():
    # Two normals, shift d: AUROC = Phi(d / sqrt(2)). 1500 samples: the standard error of the share is 0.6 %.
    rng = np.random.default_rng(0)
    labels, truth = np.repeat([0, 1], [40, 25]), 0.9
    shift = 1.2815515655446004 * math.sqrt(2)
    hits = 0
    for _ in range(1500):
        interval = st.auroc_interval(labels, rng.normal(labels * shift))
        hits += interval.low <= truth <= interval.high
    assert 0.93 < hits / 1500 < 0.975


def test_interval_of_a_perfect_detector_is_exact():
    # 0 of 20 pairs in the wrong order: Clopper-Pearson's lower bound solves p ** 20 = 0.025.
    labels = np.repeat([0, 1], [20, 63])
    interval = st.auroc_interval(labels, labels)
    assert interval.low == pytest.approx(0.025 ** (1 / 20)) and interval.high == 1
    mirrored = st.auroc_interval(labels, -labels)
    assert (mirrored.low, mirrored.high) == pytest.approx((0, 1 - interval.low))


@pytest.mark.parametrize(
    ("labels", "scores"), [([0, 1], [1, 2]), ([0, 0, 0, 1], [1, 2, 4, 3]), ([0, 0, 1, 1], [1] * 4)]
)
def test_interval_without_a_variance_is_wide_and_holds_the_estimate(labels, scores):
    interval = st.auroc_interval(labels, scores)
    assert 0 <= interval.low <= interval.auroc <= interval.high <= 1
    assert interval.high - interval.low > 0.8 and interval.method == "Clopper-Pearson"


def test_paired_test_is_antisymmetric_and_sees_no_difference_between_equals():
    labels, a = sample(0)
    b = a + sample(5)[1]
    ab, ba = st.delong_test(labels, a, b), st.delong_test(labels, b, a)
    assert (ab.difference, ab.low, ab.high) == pytest.approx((-ba.difference, -ba.high, -ba.low))
    assert ab.p_value == pytest.approx(ba.p_value) and 0 < ab.p_value < 1
    assert ab.difference == pytest.approx(ab.auroc_a - ab.auroc_b)
    for same in (a, np.exp(a)):
        test = st.delong_test(labels, a, same)
        assert (test.difference, test.p_value) == (0, 1)
        # 20 independent pairs without a disagreement do not prove that there is none.
        assert test.high == -test.low == pytest.approx(1 - 0.025 ** (1 / 20))


def test_paired_test_rejects_true_equality_in_about_5_of_100_samples():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [40, 30])
    p_values = []
    for _ in range(1000):
        shared = rng.normal(labels * 1.0)
        p_values.append(st.delong_test(labels, *(shared + rng.normal(size=(2, 70)))).p_value)
    assert 0.03 < np.mean(np.array(p_values) < 0.05) < 0.075


def test_opposite_detectors_differ_as_surely_as_a_sign_test_says():
    labels = np.repeat([0, 1], [6, 9])
    test = st.delong_test(labels, labels, -labels)
    assert (test.difference, test.p_value) == (1, 2 * 0.5**6) and test.high == 1


def test_bootstrap_agrees_with_delong_and_repeats_itself():
    labels, a = sample(0, n=150, m=120)
    b = a + 0.7 * sample(7, n=150, m=120, shift=0.0)[1]
    delong, bootstrap = st.delong_test(labels, a, b), st.bootstrap_difference(labels, a, b, n_resamples=4000)
    width = delong.high - delong.low
    assert bootstrap.difference == pytest.approx(delong.difference)
    assert bootstrap.low == pytest.approx(delong.low, abs=0.07 * width)
    assert bootstrap.high == pytest.approx(delong.high, abs=0.07 * width)
    assert bootstrap.p_value == pytest.approx(delong.p_value, abs=0.03)
    assert st.bootstrap_difference(labels, a, b) == st.bootstrap_difference(labels, a, b)
    assert st.bootstrap_difference(labels, a, b, seed=1) != st.bootstrap_difference(labels, a, b)
    assert st.bootstrap_difference(labels, a, a).p_value == 1


def test_bootstrap_resamples_images_not_pairs():
    # Two of each: by enumeration of the 16 equally likely resamples of (a perfect, b with one normal on top).
    labels, a, b = np.array([0, 0, 1, 1]), np.array([0.0, 0, 1, 1]), np.array([0.0, 2, 1, 1])
    exact = []
    for i, j in itertools.product(itertools.product([0, 1], repeat=2), itertools.product([2, 3], repeat=2)):
        rows = [*i, *j]
        exact.append(st.auroc([0, 0, 1, 1], a[rows]) - st.auroc([0, 0, 1, 1], b[rows]))
    interval = st.bootstrap_difference(labels, a, b, level=0.4, n_resamples=20000)
    assert (interval.low, interval.high) == tuple(np.quantile(exact, [0.3, 0.7]))


def test_means_over_seeds_are_tested_as_a_contrast_of_the_whole_covariance():
    labels, first = sample(3, n=40, m=25)
    rng = np.random.default_rng(0)
    rows = [first + rng.normal(0, spread, first.size) for spread in (0.3, 0.5, 0.4, 0.9, 0.8, 1.0)]
    test = st.delong_test_of_means(labels, rows[:3], rows[3:])
    weights = np.repeat([1 / 3, -1 / 3], 3)
    areas = np.array([st.auroc(labels, row) for row in rows])
    variance = weights @ brute_force_covariance(labels, *rows) @ weights
    assert test.difference == pytest.approx(weights @ areas, abs=1e-12)
    assert (test.high - test.low) / 2 == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-6)
    assert st.delong_test_of_means(labels, rows[:1], rows[3:4]) == st.delong_test(labels, rows[0], rows[3])
    thrice = st.delong_test_of_means(labels, [rows[0]] * 3, [rows[3]] * 3)
    once = st.delong_test(labels, rows[0], rows[3])
    assert thrice.p_value == pytest.approx(once.p_value), "the same images seen thrice are no more images"
    assert st.delong_test_of_means(labels, rows[:3], rows[2::-1]).p_value == 1


def test_holm_by_hand_and_no_claim_where_nothing_is():
    assert st.holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert st.holm([0.7]).tolist() == [0.7] and st.holm([]).tolist() == [] and st.holm([0.6, 0.9]).tolist() == [1, 1]
    rng = np.random.default_rng(0)
    claims = [(st.holm(rng.uniform(size=8)) < 0.05).any() for _ in range(4000)]
    assert np.mean(claims) == pytest.approx(0.05, abs=0.012), "one false claim among all eight, not in each"


def test_an_interval_over_seeds_by_hand_and_its_coverage():
    assert st.mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    rng = np.random.default_rng(0)
    intervals = [st.mean_interval(rng.normal(5, 2, 3)) for _ in range(4000)]
    assert np.mean([low <= 5 <= high for _, low, high in intervals]) == pytest.approx(0.95, abs=0.012)


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()
    st.bootstrap_difference(LABELS, SCORES, -SCORES, n_resamples=10)
    assert (np.random.get_state()[1] == before).all()


# -- the ROC curve


@pytest.mark.parametrize("decimals", [None, 0])
def test_roc_curve_equals_scikit_learn(decimals):
    labels, scores = sample(4, decimals=decimals)
    fpr, tpr, thresholds = metrics.roc_curve(labels, scores, drop_intermediate=False)
    curve = st.roc_curve(labels, scores)
    assert curve.fpr == pytest.approx(fpr) and curve.tpr == pytest.approx(tpr)
    # Flagged are scores > threshold, there >=: each of its thresholds is the next lower one here.
    assert (curve.thresholds[:-1] == thresholds[1:]).all()
    assert metrics.auc(curve.fpr, curve.tpr) == pytest.approx(st.auroc(labels, scores))


@pytest.mark.parametrize("drop_intermediate", [False, True])
def test_each_point_of_the_curve_is_the_operating_point_at_its_threshold(drop_intermediate):
    labels, scores = sample(4, decimals=1)
    curve = st.roc_curve(labels, scores, drop_intermediate)
    assert np.isfinite(curve.thresholds).all() and (np.diff(curve.thresholds) < 0).all()
    for fpr, tpr, threshold in zip(curve.fpr, curve.tpr, curve.thresholds, strict=True):
        point = st.operating_point(labels, scores, threshold)
        assert (point.fpr, point.tpr) == (fpr, tpr)
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)


def test_dropping_intermediate_points_keeps_the_curve():
    labels, scores = sample(4)
    full, short = st.roc_curve(labels, scores), st.roc_curve(labels, scores, drop_intermediate=True)
    assert short.fpr.size < full.fpr.size
    assert metrics.auc(short.fpr, short.tpr) == pytest.approx(metrics.auc(full.fpr, full.tpr))
    perfect = st.roc_curve([0, 0, 1, 1], [1, 2, 3, 4], drop_intermediate=True)
    assert (perfect.fpr.tolist(), perfect.tpr.tolist()) == ([0, 0, 1], [0, 1, 1])


def test_roc_band_holds_the_curve_and_shrinks_with_more_images():
    def mean_width(n):
        labels, scores = sample(6, n=n, m=n)
        band, curve = st.roc_band(labels, scores), st.roc_curve(labels, scores)
        below = np.searchsorted(curve.fpr, band.fpr, side="left")
        above = np.searchsorted(curve.fpr, band.fpr, side="right") - 1
        assert (band.low <= curve.tpr[above]).all() and (curve.tpr[np.maximum(below - 1, 0)] <= band.high).all()
        assert (np.diff(band.low) >= 0).all() and (np.diff(band.high) >= 0).all()
        return (band.high - band.low).mean()

    assert mean_width(25) > mean_width(100) > mean_width(1600) > 0


def test_roc_band_covers_a_point_of_the_true_curve():
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], [60, 50])
    truth = 0.6387  # TPR at FPR 0.1 of two unit normals 1.637 apart: Phi(1.637 - 1.2816)
    hits = 0
    for _ in range(300):
        band = st.roc_band(labels, rng.normal(labels * 1.637))
        hits += band.low[20] <= truth <= band.high[20]
    assert hits / 300 > 0.95


# -- other measures


def test_partial_auroc_and_average_precision():
    labels, scores = sample(8)
    assert st.partial_auroc(labels, scores, 1.0) == pytest.approx(st.auroc(labels, scores))
    assert st.partial_auroc([0, 0, 1, 1], [1, 2, 3, 4]) == 1
    # Precision at the two anomalies, by falling score: 1/1 and 2/3.
    assert st.average_precision([1, 0, 1, 0], [4, 3, 2, 1]) == pytest.approx((1 + 2 / 3) / 2)


def test_operating_point_by_hand():
    point = st.operating_point(LABELS, SCORES, 3.0)  # flagged: 4 (normal), 5 and 3.5; a score equal to it is not
    assert (point.true_positives, point.false_positives, point.true_negatives, point.false_negatives) == (2, 1, 3, 1)
    assert (point.tpr, point.fpr, point.precision, point.f1) == (2 / 3, 1 / 4, 2 / 3, 2 / 3)
    assert math.isnan(st.operating_point(LABELS, SCORES, 9.0).precision)


def test_operating_point_at_fpr_is_the_most_sensitive_allowed():
    labels, scores = sample(9, decimals=1)
    for rate in (0, 0.05, 0.1, 0.5, 1):
        best = st.operating_point_at_fpr(labels, scores, rate)
        assert best.fpr <= rate
        for threshold in [*scores, scores.min() - 1]:
            other = st.operating_point(labels, scores, threshold)
            assert other.fpr > rate or (other.tpr, -other.fpr) <= (best.tpr, -best.fpr)


def test_fpr_at_tpr_and_best_f1_against_all_thresholds():
    labels, scores = sample(10, decimals=1)
    points = [st.operating_point(labels, scores, threshold) for threshold in [*scores, scores.min() - 1]]
    assert st.fpr_at_tpr(labels, scores, 0.9) == min(point.fpr for point in points if point.tpr >= 0.9)
    assert st.f1_max(labels, scores).f1 == pytest.approx(max(point.f1 for point in points))


# -- thresholds from held-out normals


@pytest.mark.parametrize("n", [1, 2, 4, 5])
@pytest.mark.parametrize("rate", [0.05, 0.2, 1 / 3, 0.5, 0.9])
def test_conformal_guarantee_by_counting_orders(n, rate):
    # Exchangeable: each of the n + 1 distinct scores is the new one equally often. Count those above their threshold.
    values = np.arange(n + 1.0)
    exceeds = [value > st.conformal_threshold(np.delete(values, i), rate)[0] for i, value in enumerate(values)]
    guaranteed = st.conformal_threshold(values[1:], rate)[1]
    assert np.mean(exceeds) == pytest.approx(guaranteed)
    assert guaranteed <= rate + 1e-12 or guaranteed == 1 / (n + 1)


@pytest.mark.parametrize("values", list(itertools.combinations_with_replacement([0.0, 1.0, 2.0], 5)))
def test_conformal_guarantee_holds_with_ties(values):
    for rate in (0.2, 0.4, 0.6):
        results = [st.conformal_threshold(values[:i] + values[i + 1 :], rate) for i in range(5)]
        exceeds = [values[i] > threshold for i, (threshold, _) in enumerate(results)]
        assert np.mean(exceeds) <= results[0][1] <= rate + 1e-12


def test_conformal_threshold_is_the_order_statistic_it_says():
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))  # 1..99
    for percent in range(1, 100):
        threshold, guaranteed = st.conformal_threshold(scores, percent / 100)
        assert (threshold, guaranteed) == (100 - percent, percent / 100)  # the (100 - percent)-th smallest
    assert st.conformal_threshold(scores[:10], 0.05) == (scores[:10].max(), 1 / 11)


def test_the_rate_of_a_threshold_by_hand():
    scores = np.arange(1.0, 20.0)  # 19 of them
    for percent in range(5, 100, 5):
        assert st.conformal_rate(scores, st.conformal_threshold(scores, percent / 100)[0]) == percent / 100
    assert [st.conformal_rate(scores, threshold) for threshold in (0, 18.5, 19, 99)] == [1, 0.1, 0.05, 0.05]
    low, high = st.false_alarm_interval(19, 1)  # below all: P(Beta(20, 0) mass at 1), bounded by the lowest of 19
    assert high == 1 and low == pytest.approx(0.025 ** (1 / 19))


def test_the_number_flagged_of_new_normals_lies_in_its_range():
    assert st.flagged_range(1, 0.5, 20) == (0, 20), "uniform on 0..20"
    # Beta(1, 2): P(k of 2) = (3 - k) / 6
    assert st.flagged_range(2, 1 / 3, 2, level=0.5) == (0, 1)
    low, high = st.flagged_range(20, 2 / 21, 60)
    rng, inside = np.random.default_rng(0), []
    for _ in range(2000):
        threshold, rate = st.conformal_threshold(rng.random(20), 0.1)
        assert rate == 2 / 21
        inside.append(low <= (rng.random(60) > threshold).sum() <= high)
    assert 0.94 < np.mean(inside) < 0.985, "of whole numbers, a little more than the level"
    with pytest.raises(ValueError, match="promises 1 to 4 of 5"):
        st.flagged_range(4, 1, 10)


def test_percentile_by_hand():
    assert [st.percentile_among([1, 2, 2, 3], score) for score in (0, 1, 2, 2.5, 9)] == [0, 12.5, 50, 75, 100]


# -- refusals


@pytest.mark.parametrize("call", [st.auroc, st.auroc_interval, st.roc_curve, st.average_precision, st.f1_max])
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1], [1, 2], "only label 1"),
        ([0, 1], [1, math.nan], "1 of 2 that are nan"),
        ([0, 1], [1, math.inf], "nan or infinite"),
        ([0, 1, 1], [1, 2], "3 labels and 2 scores"),
        ([0, 2], [1, 2], "0 .normal. or 1 .anomalous., got 2"),
        ([0, "x"], [1, 2], "got '0', 'x'"),
        ([], [], "one number per image"),
    ],
)
def test_bad_input_is_refused_in_words(call, labels, scores, message):
    with pytest.raises(ValueError, match=message):
        call(labels, scores)


def test_bad_parameters_are_refused_in_words():
    for call, message in [
        (lambda: st.delong_test([0, 1, 1], [1, 2, 3], [3, 2, 1]), "1 normal and 2 anomalous"),
        (lambda: st.delong_test(LABELS, SCORES, SCORES[:-1]), "7 labels and 6 scores"),
        (lambda: st.conformal_threshold([1, 2], 0), "between 0 and 1, got 0"),
        (lambda: st.conformal_threshold([], 0.1), "calibration scores"),
        (lambda: st.auroc_interval(LABELS, SCORES, 95), "level must lie between 0 and 1"),
        (lambda: st.partial_auroc(LABELS, SCORES, 0), "max_fpr"),
        (lambda: st.percentile_among([1], math.nan), "nan"),
        (lambda: st.delong_test_of_means(LABELS, [SCORES], []), "both sides, got 1 and 0"),
        (lambda: st.holm([0.5, math.nan]), r"numbers in \[0, 1\]"),
        (lambda: st.mean_interval([1.0]), "needs two of them, got 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


# -- means over images


def test_bootstrap_ratio_by_hand():
    found = st.bootstrap_ratio([1.0, 3.0, 2.0], [1.0, 2.0, 1.0], ["a"] * 3)
    assert found.value == 6 / 4  # not the mean of 1, 1.5 and 2
    assert 1 <= found.low < found.value < found.high <= 2
    assert found.p_value == 2 / 2001, "no resample reaches 0"


def test_bootstrap_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).normal(0.3, 1, size=400)
    found = st.bootstrap_ratio(values, np.ones(400), ["a"] * 400)
    half = 1.96 * values.std() / 20
    assert (found.low, found.high) == (
        pytest.approx(values.mean() - half, abs=0.02),
        pytest.approx(values.mean() + half, abs=0.02),
    )
    assert found == st.bootstrap_ratio(values, np.ones(400), ["a"] * 400), "the same seed, the same interval"
    assert st.bootstrap_ratio(values - values.mean(), np.ones(400), ["a"] * 400).p_value > 0.9


def test_strata_keep_their_shares():
    values, strata = [0.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"]
    ones = np.ones(4)
    found = st.bootstrap_ratio(values, ones, strata)
    assert (found.low, found.high) == (0.5, 0.5), "within a defect nothing varies"
    loose = st.bootstrap_ratio(values, ones, ["a"] * 4)
    assert loose.low < 0.5 < loose.high
    alone = st.bootstrap_ratio(values, ones, ["a", "a", "a", "b"])  # one of b would never vary: drawn from all
    assert (alone.low, alone.high) == (loose.low, loose.high)


def test_a_single_image_has_no_interval():
    found = st.bootstrap_ratio([0.4], [0.2], ["a"])
    assert found.value == 2 and all(map(math.isnan, (found.low, found.high, found.p_value)))


def test_rate_interval_by_hand():
    # 0 of 10: 1 - 0.025 ** (1 / 10); 10 of 10 is its mirror image
    assert st.rate_interval([0.0] * 10) == (0, 0, pytest.approx(1 - 0.025**0.1))
    assert st.rate_interval([1.0] * 10) == (1, pytest.approx(0.025**0.1), 1)
    assert st.rate_interval([1.0, 0.0]) == st.rate_interval([0.5, 0.5])
    rate, low, high = st.rate_interval([0.01] * 40)
    assert rate == pytest.approx(0.01) and 0 <= low < 0.01 < 0.05 < high
    with pytest.raises(ValueError, match=r"hits must lie in \[0, 1\], got 0.0 to 2.0"):
        st.rate_interval([0.0, 2.0])


@pytest.mark.parametrize(
    ("numerators", "denominators", "strata", "message"),
    [
        ([1.0, 2.0], [1.0], ["a", "a"], "is needed, got 2, 1, 2"),
        ([1.0, 2.0], [1.0, 1.0], ["a"], "is needed, got 2, 2, 1"),
        ([1.0, 2.0], [1.0, 0.0], ["a", "a"], "denominators must be above 0"),
        ([1.0, math.nan], [1.0, 1.0], ["a", "a"], "numerators must be finite"),
    ],
)
def test_a_bootstrap_refuses_bad_input(numerators, denominators, strata, message):
    with pytest.raises(ValueError, match=message):
        st.bootstrap_ratio(numerators, denominators, strata)


def test_what_beats_another_is_told_by_a_paired_test():
    labels = np.repeat([0, 1], 30)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=60)
    weak, strong = noise + 0.5 * labels, noise + 3 * labels
    assert st.beats(labels, strong, weak, 0.05) and not st.beats(labels, weak, strong, 0.05)
    assert not st.beats(labels, weak + 1e-9 * rng.normal(size=60), weak, 0.05)
    assert not st.beats([0, 0, 1], [0, 0, 1], [1, 1, 0], 0.32), "one anomalous image proves nothing"
