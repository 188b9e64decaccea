"""How good a detector is, and how certain that is: AUROC, intervals, paired tests, operating points, thresholds.

Labels are 0 (normal) or 1 (anomalous), scores are finite and higher for more anomalous images, shape (n,);
an image is flagged when its score is *above* the threshold; rates and areas lie in [0, 1]. Bad input raises ValueError.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]
BEYOND_STANDARD_ERROR = 0.32  # two-sided p value of a difference of one standard error


@dataclass(frozen=True)
class AurocInterval:
    """method: `DeLong, logit` or `Clopper-Pearson` (see `auroc_interval`)."""

    auroc: float
    low: float
    high: float
    level: float
    n_normal: int
    n_anomalous: int
    method: str


@dataclass(frozen=True)
class Difference:
    """Of two AUROCs on the same images: `difference` = a - b with its interval; p_value for "no difference"."""

    auroc_a: float
    auroc_b: float
    difference: float
    low: float
    high: float
    p_value: float
    level: float
    method: str


@dataclass(frozen=True)
class Estimate:
    """A mean over images with its interval; p_value for "it is 0"."""

    value: float
    low: float
    high: float
    p_value: float
    level: float


@dataclass(frozen=True)
class RocCurve:
    """From (0, 0) to (1, 1), each (k,). All thresholds are finite, and `operating_point` at each gives its point."""

    fpr: Floats
    tpr: Floats
    thresholds: Floats


@dataclass(frozen=True)
class RocBand:
    """low <= true TPR at fpr <= high, pointwise; each (k,)."""

    fpr: Floats
    low: Floats
    high: Floats
    level: float


@dataclass(frozen=True)
class OperatingPoint:
    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def tpr(self) -> float:
        return self.true_positives / (self.true_positives + self.false_negatives)

    @property
    def fpr(self) -> float:
        return self.false_positives / (self.false_positives + self.true_negatives)

    @property
    def precision(self) -> float:
        """nan where nothing is flagged."""
        flagged = self.true_positives + self.false_positives
        return self.true_positives / flagged if flagged else math.nan

    @property
    def f1(self) -> float:
        return 2 * self.true_positives / (2 * self.true_positives + self.false_positives + self.false_negatives)


# -- input


def _scores(values: ArrayLike, what: str = "scores") -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{what} must be a list of one number per image, got shape {array.shape}")
    if bad := int((~np.isfinite(array)).sum()):
        raise ValueError(f"{what} must be finite numbers, got {bad} of {array.size} that are nan or infinite")
    return array


def _is_anomalous(labels: ArrayLike, *scores: Floats) -> NDArray[np.bool_]:
    array = np.asarray(labels)
    if unknown := sorted(set(array.ravel().tolist()) - {0, 1}, key=str):
        raise ValueError(f"Labels must be 0 (normal) or 1 (anomalous), got {', '.join(map(repr, unknown[:5]))}")
    for values in scores:
        if array.shape != values.shape:
            raise ValueError(f"One label per score is needed, got {array.size} labels and {values.size} scores")
    if len(set(array.tolist())) < 2:
        raise ValueError(f"Normal and anomalous images are needed, got only label {int(array[0])}")
    return array.astype(bool)


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    values = _scores(scores)
    return _is_anomalous(labels, values), values


def _share(value: float, what: str) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{what} must lie between 0 and 1, got {value}")
    return float(value)


# -- AUROC, its interval, paired comparison


def _midranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _placements(anomalous: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """How many normals each anomaly outscores, and by how many anomalies each normal is outscored; ties count 1/2.

    Returns (n_anomalous,), (n_normal,): DeLong's V10 and V01 before division, from midranks in O(n log n) (Sun & Xu
    2014). Left as half-integers, which floats hold exactly, so that equal scorings differ by exactly 0.
    """
    ranks = _midranks(scores)
    above = ranks[anomalous] - _midranks(scores[anomalous])
    below = anomalous.sum() - (ranks[~anomalous] - _midranks(scores[~anomalous]))
    return above, below


def _mean_placements(anomalous: NDArray[np.bool_], scores: list[Floats]) -> tuple[Floats, Floats]:
    above, below = zip(*(_placements(anomalous, values) for values in scores), strict=True)
    return np.mean(above, axis=0), np.mean(below, axis=0)


def _variance(above: Floats, below: Floats) -> float:
    """DeLong's variance (1988, eq. 4-6) of an AUROC, or of a difference of two, from its placements."""
    m, n = above.size, below.size
    return float(above.var(ddof=1) / n**2 / m + below.var(ddof=1) / m**2 / n)


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Probability that an anomalous image outscores a normal one, ties counting half (Mann-Whitney)."""
    anomalous, values = _checked(labels, scores)
    above, below = _placements(anomalous, values)
    return float(above.sum() / (above.size * below.size))


def _need_two(anomalous: NDArray[np.bool_]) -> None:
    if min(anomalous.sum(), (~anomalous).sum()) < 2:
        raise ValueError(
            f"A variance needs two images of each class, got {int((~anomalous).sum())} normal and "
            f"{int(anomalous.sum())} anomalous"
        )


def _clopper_pearson(successes: ArrayLike, trials: int, level: float) -> tuple[Floats, Floats]:
    """Exact binomial interval (Clopper & Pearson 1934); successes may be an array, and need not be whole."""
    k = np.asarray(successes, dtype=np.float64)
    tail = (1 - level) / 2
    with np.errstate(all="ignore"):  # the beta functions have no value at 0 of n and n of n, where the bound is known
        low = np.where(k > 0, special.betaincinv(np.maximum(k, 1e-12), trials - k + 1, tail), 0.0)
        high = np.where(k < trials, special.betaincinv(k + 1, np.maximum(trials - k, 1e-12), 1 - tail), 1.0)
    return low, high


def auroc_interval(labels: ArrayLike, scores: ArrayLike, level: float = 0.95) -> AurocInterval:
    """AUROC with a confidence interval over test images (not over seeds).

    DeLong's variance on the logit scale: unlike the plain interval, clipped at 1, it stays inside (0, 1) and keeps its
    coverage near 1 (Pepe 2003; Kottas et al. 2014).

    Where that variance is 0 (AUROC 0 or 1, or all scores equal) or undefined (one image in a class): Clopper-Pearson
    with min(n_normal, n_anomalous) trials. So many pairs (normal, anomalous) can be formed without using an image
    twice; they are independent, each ordered rightly with probability AUROC, and under perfect separation all are. So
    the bound for AUROC 1 (or 0) is exact: at least the level whatever the distributions, the two-sided kin of the rule
    of three. It is wide, wider than DeLong's interval just below 1, which leans on large samples there.
    """
    anomalous, values = _checked(labels, scores)
    _share(level, "The level")
    above, below = _placements(anomalous, values)
    m, n = above.size, below.size
    area = float(above.sum() / (m * n))
    variance = _variance(above, below) if min(m, n) > 1 else 0.0
    if variance > 0:
        method, reach = "DeLong, logit", special.ndtri((1 + level) / 2) * math.sqrt(variance) / (area * (1 - area))
        low, high = special.expit(special.logit(area) + np.array([-reach, reach]))
    else:
        method = "Clopper-Pearson"
        low, high = _clopper_pearson(area * min(m, n), min(m, n), level)
    return AurocInterval(area, float(low), float(high), level, n, m, method)


def delong_test(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, level: float = 0.95) -> Difference:
    """AUROC of a minus AUROC of b on the same images: normal interval (clipped to [-1, 1]) and two-sided p value.

    DeLong et al. 1988. Covers other images of the same kind, not other seeds. Where no image is placed differently
    the variance is 0, which does not prove equality: the interval then allows for the share of pairs
    (normal, anomalous) on which a and b may still disagree when none of min(n_normal, n_anomalous) independent ones
    showed it (Clopper-Pearson), and the p value is that of a sign test on those pairs.
    """
    return delong_test_of_means(labels, [_scores(scores_a)], [_scores(scores_b)], level)


def beats(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, p_value: float) -> bool:
    """Whether the AUROC of a is higher, with a p value (`delong_test`) below this one. A rule asks this before it
    departs from its default. False with fewer than two images of a class."""
    anomalous = _is_anomalous(labels, _scores(scores_a), _scores(scores_b))
    if min(anomalous.sum(), (~anomalous).sum()) < 2 or auroc(labels, scores_a) <= auroc(labels, scores_b):
        return False
    return delong_test(labels, scores_a, scores_b).p_value < p_value


def delong_test_of_means(
    labels: ArrayLike, scores_a: Sequence[ArrayLike], scores_b: Sequence[ArrayLike], level: float = 0.95
) -> Difference:
    """As `delong_test`, of the mean AUROC of detectors a, for example of several seeds, minus that of detectors b.

    All score the same images, so an error that they share is counted once, not once per seed. Covers other images with
    these same detectors; for other seeds see `mean_interval` of the seeds' differences.
    """
    if not (len(scores_a) and len(scores_b)):
        raise ValueError(f"Detectors are needed on both sides, got {len(scores_a)} and {len(scores_b)}")
    a, b = [_scores(scores) for scores in scores_a], [_scores(scores) for scores in scores_b]
    anomalous = _is_anomalous(labels, *a, *b)
    _need_two(anomalous)
    _share(level, "The level")
    above_a, below_a = _mean_placements(anomalous, a)
    above_b, below_b = _mean_placements(anomalous, b)
    m, n = above_a.size, below_a.size
    area_a, area_b = float(above_a.sum() / (m * n)), float(above_b.sum() / (m * n))
    difference = float((above_a - above_b).sum() / (m * n))
    variance = _variance(above_a - above_b, below_a - below_b)
    if variance > 0:
        error = math.sqrt(variance)
        reach = float(special.ndtri((1 + level) / 2)) * error
        p_value = float(2 * special.ndtr(-abs(difference) / error))
        method = "DeLong"
    else:
        pairs = min(m, n)
        reach = float(_clopper_pearson(0, pairs, level)[1]) * (1 + abs(difference))
        p_value = 1.0 if difference == 0 else 2.0 ** (1 - pairs)
        method = "Clopper-Pearson"
    low, high = max(-1.0, difference - reach), min(1.0, difference + reach)
    return Difference(area_a, area_b, difference, low, high, p_value, level, method)


def bootstrap_difference(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """As `delong_test`, without its normal approximation: paired bootstrap, percentile interval.

    Images are drawn with replacement within each class, the same ones for a and b. The p value is twice the smaller
    share of resamples on either side of 0, never below 2 / (n_resamples + 1) (Davison & Hinkley 1997, ch. 4-5).
    Memory: O(n_normal · (n_anomalous + n_resamples)).
    """
    a, b = _scores(scores_a), _scores(scores_b)
    anomalous = _is_anomalous(labels, a, b)
    _share(level, "The level")
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be 1 or more, got {n_resamples}")

    def wins(scores: Floats) -> Floats:  # (m, n): 1 where the anomaly scores higher, 1/2 for a tie
        return (np.sign(scores[anomalous][:, None] - scores[~anomalous][None]) + 1) / 2

    wins_a, wins_b = wins(a), wins(b)
    m, n = wins_a.shape
    # A resample is the number of times each image was drawn, so its AUROC is a product of matrices.
    drawn_anomalous, drawn_normal = _times_drawn(m, n, n_resamples, seed)
    resampled = ((drawn_anomalous @ (wins_a - wins_b)) * drawn_normal).sum(axis=1) / (m * n)
    low, high, p_value = _percentiles(resampled, level)
    return Difference(
        float(wins_a.mean()),
        float(wins_b.mean()),
        float((wins_a - wins_b).mean()),
        low,
        high,
        p_value,
        level,
        "bootstrap",
    )


@lru_cache(maxsize=2)  # of one category: drawing takes most of the time, and its runs are of the same images
def _times_drawn(m: int, n: int, n_resamples: int, seed: int) -> tuple[Floats, Floats]:
    """How often each image is drawn in each resample: (n_resamples, m) and (n_resamples, n)."""
    rng = np.random.default_rng(seed)
    one, other = (rng.multinomial(k, np.full(k, 1 / k), size=n_resamples).astype(np.float64) for k in (m, n))
    one.flags.writeable = other.flags.writeable = False
    return one, other


def _percentiles(resampled: Floats, level: float) -> tuple[float, float, float]:
    """Interval and two-sided p value for 0, see `bootstrap_difference`."""
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    tails = [(1 + int((side * resampled <= 0).sum())) / (resampled.size + 1) for side in (-1, 1)]
    return float(low), float(high), min(1.0, 2 * min(tails))


# -- means over images


def bootstrap_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    strata: Sequence[str],
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Sum of the numerators over that of the denominators, one of each per image, (n,): bootstrap, percentile interval.

    Not the mean of ratios, which would depend mostly on the few images with the smallest denominators. With
    denominators of 1 it is a mean; with numerators that are differences of two detectors on the same images, it is a
    paired comparison. Images are drawn with replacement within each stratum (a defect), so that the mix of defects
    stays as it is, but from all images where a stratum has a single one, which would never vary. With one image the
    interval and the p value are nan. Where all images agree the interval has no width, however few they are.
    """
    above, below = _scores(numerators, "numerators"), _scores(denominators, "denominators")
    if not above.size == below.size == len(strata):
        raise ValueError(
            f"One numerator, denominator and stratum per image is needed, got {above.size}, {below.size}, {len(strata)}"
        )
    if not (below > 0).all():
        raise ValueError(f"denominators must be above 0, got {below.min()}")
    _share(level, "The level")
    value = float(above.sum() / below.sum())
    if above.size == 1:
        return Estimate(value, math.nan, math.nan, math.nan, level)
    drawn = _drawn(tuple(strata), n_resamples, seed)
    return Estimate(value, *_percentiles((drawn @ above) / (drawn @ below), level), level)


@lru_cache(maxsize=4)  # many figures of the same images stand in one table
def _drawn(strata: tuple[str, ...], n_resamples: int, seed: int) -> Floats:
    """How often each image is drawn in each resample, (n_resamples, n), as numbers for products of matrices."""
    names, stratum = np.unique(np.array(strata), return_inverse=True)
    if np.bincount(stratum).min() == 1:
        names, stratum = names[:1], np.zeros_like(stratum)
    rng = np.random.default_rng(seed)
    drawn = np.empty((n_resamples, len(strata)))
    for k in range(len(names)):
        own = np.flatnonzero(stratum == k)
        drawn[:, own] = rng.multinomial(own.size, np.full(own.size, 1 / own.size), size=n_resamples)
    drawn.flags.writeable = False
    return drawn


def rate_interval(hits: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of values in [0, 1], one per image, and its interval: (rate, low, high).

    Clopper-Pearson, also for values between 0 and 1. These vary less than hits and misses of the same mean, so the
    interval is rather too wide than too narrow. It has a width even where all images agree; a bootstrap has none there.
    """
    values = _scores(hits, "hits")
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"hits must lie in [0, 1], got {values.min()} to {values.max()}")
    low, high = _clopper_pearson(values.sum(), values.size, _share(level, "The level"))
    return float(values.mean()), float(low), float(high)


# -- many tests, many seeds


def holm(p_values: ArrayLike) -> Floats:
    """Adjusted p values (k,) in the same order (Holm 1979).

    If those below a level are called differences, the chance of one false claim among all k is at most that level,
    however the tests depend on each other.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p values must be a list of numbers in [0, 1], got {p_values!r}")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    factors = np.arange(values.size, 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * values[order]))
    return adjusted


def mean_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) of the mean that further values, for example of other seeds, would have: Student's t interval.
    Needs two values or more."""
    array = _scores(values, "values")
    _share(level, "The level")
    if array.size < 2:
        raise ValueError("An interval over values needs two of them, got 1")
    reach = float(special.stdtrit(array.size - 1, (1 + level) / 2)) * float(array.std(ddof=1)) / math.sqrt(array.size)
    return float(array.mean()), float(array.mean()) - reach, float(array.mean()) + reach


# -- the ROC curve


def roc_curve(labels: ArrayLike, scores: ArrayLike, drop_intermediate: bool = False) -> RocCurve:
    """The curve through one point per distinct score; drop_intermediate leaves out those on a straight line.

    scikit-learn starts with threshold inf because it flags scores >= threshold. Here scores > threshold are flagged:
    the first threshold is the highest score, the last lies just below the lowest.
    """
    anomalous, values = _checked(labels, scores)
    distinct, inverse = np.unique(-values, return_inverse=True)
    false = np.concatenate([[0], np.cumsum(np.bincount(inverse[~anomalous], minlength=distinct.size))])
    true = np.concatenate([[0], np.cumsum(np.bincount(inverse[anomalous], minlength=distinct.size))])
    thresholds = np.append(-distinct, np.nextafter(values.min(), -np.inf))
    if drop_intermediate:
        turn = np.diff(false[:-1]) * np.diff(true[1:]) != np.diff(false[1:]) * np.diff(true[:-1])
        keep = np.concatenate([[True], turn, [True]])
        false, true, thresholds = false[keep], true[keep], thresholds[keep]
    return RocCurve(false / false[-1], true / true[-1], thresholds)


def roc_band(labels: ArrayLike, scores: ArrayLike, level: float = 0.95, n_points: int = 201) -> RocBand:
    """Pointwise band around the ROC curve on an even grid of FPR.

    Each threshold gives a rectangle, Clopper-Pearson for FPR x Clopper-Pearson for TPR, each at sqrt(level), as normal
    and anomalous images are independent (Campbell 1994; Macskassy, Provost & Rosset 2005). A ROC curve only rises, so
    a rectangle bounds it from below to the right of its lower right corner and from above to the left of its upper
    left one. Conservative, never empty, and no resampling. It holds for one threshold at a time, not for all at once.
    """
    anomalous, values = _checked(labels, scores)
    _share(level, "The level")
    m, n = int(anomalous.sum()), int((~anomalous).sum())
    curve = roc_curve(anomalous, values)
    tpr_low, tpr_high = _clopper_pearson(curve.tpr * m, m, math.sqrt(level))
    fpr_low, fpr_high = _clopper_pearson(curve.fpr * n, n, math.sqrt(level))
    grid = np.linspace(0, 1, n_points)
    last = np.searchsorted(fpr_high, grid, side="right") - 1  # the last rectangle wholly to the left
    first = np.searchsorted(fpr_low, grid, side="left")  # the first wholly to the right
    low = np.where(last >= 0, tpr_low[last], 0.0)
    high = np.append(tpr_high, 1.0)[first]
    return RocBand(grid, low, high, level)


def partial_auroc(labels: ArrayLike, scores: ArrayLike, max_fpr: float = 0.1) -> float:
    """Area up to max_fpr, standardised: 0.5 for chance, 1 for a perfect detector (McClish 1989)."""
    anomalous, values = _checked(labels, scores)
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr must lie in (0, 1], got {max_fpr}")
    return float(_sklearn_metrics().roc_auc_score(anomalous, values, max_fpr=max_fpr))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under precision over recall, as steps. Depends on the share of anomalies, unlike the AUROC."""
    anomalous, values = _checked(labels, scores)
    return float(_sklearn_metrics().average_precision_score(anomalous, values))


def _sklearn_metrics() -> Any:
    from sklearn import metrics  # a second to import, and only needed here

    return metrics


# -- thresholds


def operating_point(labels: ArrayLike, scores: ArrayLike, threshold: float) -> OperatingPoint:
    """What happens when every image above the threshold is flagged."""
    anomalous, values = _checked(labels, scores)
    if math.isnan(threshold):
        raise ValueError("The threshold must be a number, got nan")
    flagged = values > threshold
    return OperatingPoint(
        float(threshold),
        true_positives=int((flagged & anomalous).sum()),
        false_positives=int((flagged & ~anomalous).sum()),
        true_negatives=int((~flagged & ~anomalous).sum()),
        false_negatives=int((~flagged & anomalous).sum()),
    )


def operating_point_at_fpr(labels: ArrayLike, scores: ArrayLike, false_positive_rate: float) -> OperatingPoint:
    """The most sensitive point that flags at most this share of *these* normals: a description of the test images.

    A threshold to work with comes from held-out normals: `conformal_threshold`.
    """
    if not 0 <= false_positive_rate <= 1:
        raise ValueError(f"The false-positive rate must lie in [0, 1], got {false_positive_rate}")
    curve = roc_curve(labels, scores)
    allowed = np.flatnonzero(curve.fpr <= false_positive_rate)
    # The highest threshold among equally sensitive points: no false alarm without a gain.
    best = allowed[np.argmax(curve.tpr[allowed])]
    return operating_point(labels, scores, curve.thresholds[best])


def fpr_at_tpr(labels: ArrayLike, scores: ArrayLike, true_positive_rate: float = 0.95) -> float:
    """Share of normals that must be flagged so that at least this share of anomalies is."""
    if not 0 < true_positive_rate <= 1:
        raise ValueError(f"The true-positive rate must lie in (0, 1], got {true_positive_rate}")
    curve = roc_curve(labels, scores)
    return float(curve.fpr[np.argmax(curve.tpr >= true_positive_rate)])


def f1_max(labels: ArrayLike, scores: ArrayLike) -> OperatingPoint:
    """The point of highest F1. Its threshold is chosen on the test images, so its F1 is optimistic."""
    anomalous, values = _checked(labels, scores)
    curve, m, n = roc_curve(anomalous, values), anomalous.sum(), (~anomalous).sum()
    f1 = 2 * curve.tpr * m / (curve.tpr * m + curve.fpr * n + m)
    return operating_point(anomalous, values, curve.thresholds[np.argmax(f1)])


def conformal_threshold(calibration_scores: ArrayLike, false_positive_rate: float) -> tuple[float, float]:
    """(threshold, guaranteed_rate) from the scores of normals that were held out of training.

    The ceil((n + 1)(1 - rate))-th smallest of n scores. A new normal exceeds it with probability at most
    guaranteed_rate <= rate, if it is exchangeable with the held-out ones: no other assumption, any n (split conformal
    prediction, Vovk et al. 2005; Papadopoulos et al. 2002). The probability is over the draw of the held-out normals
    too. Where n < 1 / rate - 1 no score is high enough for the rate: the largest one is returned, with the rate
    1 / (n + 1) that it does guarantee.
    """
    scores = np.sort(_scores(calibration_scores, "calibration scores"))
    _share(false_positive_rate, "The false-positive rate")
    n = scores.size
    # How many ranks of n + 1 may lie above the threshold; the margin keeps 0.29 · 100 from becoming 28.
    above = min(max(1, math.floor((n + 1) * false_positive_rate + 1e-9)), n)
    return float(scores[n - above]), above / (n + 1)


def conformal_rate(calibration_scores: ArrayLike, threshold: float) -> float:
    """The other way round: the share of new normals that a threshold flags at most, as `conformal_threshold` has it.
    Of a threshold that was set in advance; one that was chosen by looking at scores flags more than it seems."""
    scores = _scores(calibration_scores, "calibration scores")
    if math.isnan(threshold):
        raise ValueError("The threshold must be a number, got nan")
    return (1 + int((scores > threshold).sum())) / (scores.size + 1)


def false_alarm_interval(n: int, guaranteed_rate: float, level: float = 0.95) -> tuple[float, float]:
    """(low, high) of the share of new normals that a threshold of `conformal_threshold` flags, for the n scores drawn.

    The guaranteed rate is its mean over draws of held-out normals. For one draw the share is Beta(k, n + 1 - k)
    distributed, where k of n + 1 ranks lie above the threshold (Vovk 2012, Conditional validity of inductive conformal
    predictors): few scores leave it wide. Continuous scores; ties make it smaller.
    """
    if n < 1:
        raise ValueError(f"An interval needs one held-out normal or more, got {n}")
    above, tail = round(guaranteed_rate * (n + 1)), (1 - level) / 2
    if above == n + 1:  # a threshold below all scores
        return float(special.betaincinv(n, 1, tail)), 1.0
    low, high = special.betaincinv(above, n + 1 - above, [tail, 1 - tail])
    return float(low), float(high)


def flagged_range(n: int, guaranteed_rate: float, n_new: int, level: float = 0.95) -> tuple[int, int]:
    """(least, most) of n_new other normals that a threshold of `conformal_threshold` flags, at this level: the share is
    Beta distributed as in `false_alarm_interval`, and the number of n_new images beta-binomial."""
    from scipy import stats  # slow to import, and needed for a table alone

    above = round(guaranteed_rate * (n + 1))
    if not 1 <= above <= n:
        raise ValueError(f"A threshold from {n} scores promises 1 to {n} of {n + 1}, got {guaranteed_rate}")
    number = stats.betabinom(n_new, above, n + 1 - above)
    return int(number.ppf((1 - level) / 2)), int(number.ppf((1 + level) / 2))


def percentile_among(calibration_scores: ArrayLike, score: float) -> float:
    """Share of held-out normals that score lower, in percent; equal ones count half."""
    calibration = _scores(calibration_scores, "calibration scores")
    if math.isnan(score):
        raise ValueError("The score must be a number, got nan")
    return float(100 * ((calibration < score).mean() + (calibration == score).mean() / 2))
