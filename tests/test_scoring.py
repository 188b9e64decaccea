"""Anomaly scores: the formula, and that all ways to a score end at the same number."""

import math
from types import GeneratorType

import pytest
import torch

from attentdiffernet.category import InspectionDataset
from attentdiffernet.errors import ImageError
from attentdiffernet.features import ON_CPU, FeatureExtractor
from attentdiffernet.findings import Calibration
from attentdiffernet.images import read_image
from attentdiffernet.scoring import (
    faster_precision,
    group_ends,
    prepared,
    running_score,
    score_image,
    score_images,
    score_images_until_settled,
    score_progressively,
    score_until_settled,
)
from attentdiffernet.views import FEW_VIEWS, even_angles, make_views, to_tensor
from attentdiffernet.words import READOUTS


@pytest.mark.parametrize("n_views", [1, 3])
def test_all_ways_lead_to_the_same_score(n_views, tiny, category):
    models = {"DifferNet": tiny("none"), "SE": tiny("se"), "other": tiny("cbam", placement="before_pool")}
    path = InspectionDataset(category).test[0].path
    image = to_tensor(read_image(path), 256)
    *_, last = score_progressively(models, dict.fromkeys(models, image), n_views)
    for name, model in models.items():
        with torch.no_grad():
            features = model.features(make_views(image, even_angles(n_views)))
            z, _ = model.latent(features.mean(0, keepdim=True))
        assert model.config.readout == "z2_of_mean"
        expected = pytest.approx(z.square().mean().item(), rel=1e-4)
        assert score_image(model, image, n_views) == expected
        for source in (path, str(path), read_image(path)):
            (found,) = score_images(model, [source], n_views)
            assert (found.value, found.n_views) == (expected, n_views)
            assert found.standard_error == pytest.approx(last[name].standard_error, rel=1e-2, nan_ok=True)
        assert last[name].value == expected and last[name].n_views == n_views


def test_a_score_can_be_had_after_any_group_of_views(small, small_image):
    model, n_views = small("se", readout="z2"), 13
    with torch.no_grad():
        each = model(make_views(small_image, even_angles(n_views)))[0].square().mean(1)
    running = [scores["SE"] for scores in score_progressively({"SE": model}, {"SE": small_image}, n_views)]
    assert [score.n_views for score in running] == [2, 4, 8, 13]
    for score in running:
        seen = each[: score.n_views]
        assert score.value == pytest.approx(seen.mean().item(), rel=1e-4)
        assert score.standard_error == pytest.approx(seen.std().item() / math.sqrt(len(seen)), rel=1e-2)
    (only,) = score_progressively({"SE": model}, {"SE": small_image}, 1)
    assert only["SE"].n_views == 1 and math.isnan(only["SE"].standard_error)
    assert [s["SE"].n_views for s in score_progressively({"SE": model}, {"SE": small_image}, 4, first=1)] == [1, 2, 4]
    assert [s["SE"].n_views for s in score_progressively({"SE": model}, {"SE": small_image}, 4, first=9)] == [4]


@pytest.mark.parametrize("n_views", [2, 3, 7])
@pytest.mark.parametrize("readout", READOUTS)
def test_the_standard_error_is_the_jackknifes(readout, n_views, small):
    """The score is computed anew without each view in turn (Quenouille, Tukey)."""
    model = small(readout=readout)
    features = torch.rand(n_views, model.n_features, generator=torch.Generator().manual_seed(4))
    running = running_score(model, features)
    without = [float(model.score(torch.cat([features[:i], features[i + 1 :]])[None]).double()) for i in range(n_views)]
    mean = sum(without) / n_views
    expected = math.sqrt((n_views - 1) / n_views * sum((x - mean) ** 2 for x in without))
    assert running.n_views == n_views and running.value == pytest.approx(float(model.score(features[None])))
    assert running.standard_error == pytest.approx(expected, rel=1e-2) and expected > 0


@pytest.mark.parametrize("readout", ["z2", "z2_of_mean"])
def test_the_standard_error_is_what_the_choice_of_views_adds(readout, small):
    """Over many draws of views it is the deviation of their scores."""
    model, rng = small(readout=readout), torch.Generator().manual_seed(0)
    centre = torch.rand(model.n_features, generator=rng)
    draws = [centre + 0.05 * torch.randn(16, model.n_features, generator=rng) for _ in range(150)]
    scores = [running_score(model, features) for features in draws]
    spread = torch.tensor([score.value for score in scores]).std().item()
    told = math.sqrt(sum(score.standard_error**2 for score in scores) / len(scores))
    assert told == pytest.approx(spread, rel=0.25)


@pytest.mark.parametrize(
    ("n_views", "ends"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (5, [1, 2, 4, 5]), (64, [1, 2, 4, 8, 16, 32, 64])],
)
def test_a_look_after_each_doubling(n_views, ends):
    assert group_ends(n_views) == ends


def test_models_of_other_kinds_of_views_are_scored_together(small, small_image):
    """Each sees its own views; the one that has all of its views waits for the others with its score as it is."""
    models = {kind: small("se", views=kind) for kind in ("rotations", "flips", "none")}
    models["eight"] = small("cbam", views="dihedral", readout="z2")
    steps = list(score_progressively(models, dict.fromkeys(models, small_image), 5))
    assert [{name: score.n_views for name, score in step.items()} for step in steps] == [
        {"rotations": n, "flips": min(n, 4), "none": 1, "eight": n} for n in (2, 4, 5)
    ]
    for step in steps:
        for name, model in models.items():
            views = model.views(5)[: step[name].n_views]
            expected = running_score(model, FeatureExtractor(model).of_image(small_image, views))
            assert step[name].value == pytest.approx(expected.value, rel=1e-5)
            assert step[name].standard_error == pytest.approx(expected.standard_error, rel=1e-2, nan_ok=True)
    for name, model in models.items():
        assert steps[-1][name].value == pytest.approx(score_image(model, small_image, 5), rel=1e-5)


@pytest.mark.parametrize(("kind", "seen"), [("none", [1]), ("flips", [2, 4]), ("dihedral", [2, 4, 8])])
def test_where_there_are_few_views_all_are_taken(kind, seen, small, small_image):
    model = small(views=kind)
    steps = list(score_progressively({"only": model}, {"only": small_image}, 16))
    assert [step["only"].n_views for step in steps] == seen
    assert steps[-1]["only"].value == pytest.approx(score_image(model, small_image, 16), rel=1e-5)
    assert score_image(model, small_image, 16) == score_image(model, small_image, len(FEW_VIEWS[kind]))


@pytest.mark.parametrize("kind", ["flips", "dihedral"])
def test_all_copies_of_a_part_have_one_score_where_views_are_a_group(kind, small, small_image):
    model = small(views=kind)
    score = score_image(model, small_image, 8)
    assert score_image(model, small_image.flip(2), 8) == pytest.approx(score, rel=1e-4)
    turned = score_image(model, small_image.rot90(1, (1, 2)), 8)
    assert (turned == pytest.approx(score, rel=1e-4)) == (kind == "dihedral")


def test_stems_are_shared_by_models_of_the_same_views_only(small, small_image, monkeypatch):
    kinds = {"a": "rotations", "b": "flips", "c": "rotations", "d": "flips"}
    models = {name: small("se" if name in "ab" else "cbam", views=kind) for name, kind in kinds.items()}
    calls = []
    for name, model in models.items():
        monkeypatch.setattr(model, "stems", lambda views, n=name, m=model: calls.append(n) or type(m).stems(m, views))
    list(score_progressively(models, dict.fromkeys(models, small_image), 8))
    assert calls == ["a", "b", "a", "b", "a"], "after 2, 4 and 8 views; of flips there are 4"


def test_each_model_takes_the_image_in_its_own_size_aspect_and_exposure(small, monkeypatch):
    """Together they have the scores that each has alone; what is equal is computed once."""
    kinds: dict[str, dict] = {
        "squeezed": {"kind": "none"},
        "alike": {},
        "aspect": {"resize": "keep_aspect"},
        "exposure": {"exposure": "standardised"},
        "larger": {"image_size": 96},
        "upright": {"views": "none"},
    }
    models = {name: small(**{"kind": "se", "views": "flips", "image_size": 80, **kind}) for name, kind in kinds.items()}
    pixels = (255 * torch.rand(70, 130, 3, generator=torch.Generator().manual_seed(3)) ** 2).byte().numpy()
    images = prepared(models, pixels)
    assert images["squeezed"] is images["alike"] is images["upright"]
    assert len({tuple(image.flatten().tolist()) for image in images.values()}) == 4
    calls = []
    for name, model in models.items():
        monkeypatch.setattr(model, "stems", lambda views, n=name, m=model: calls.append(n) or type(m).stems(m, views))
    *_, last = score_progressively(models, images, 2)
    assert calls == ["squeezed", "aspect", "exposure", "larger", "upright"]
    for name, model in models.items():
        assert last[name].value == pytest.approx(score_image(model, model.prepare(pixels), 2), rel=1e-5), name


# -- as few views as a verdict needs

SETTLING = {"1": 3.0, "2": 2.0, "4": 1.5}


def calibration(threshold, n_views=8, settling=SETTLING):
    return Calibration(threshold, n_views, 0.05, (1.0,), {}, {}, settling, 0.95 if settling else 0.0)


@pytest.mark.parametrize(
    ("n_views", "factor"),
    [(1, 3), (2, 2), (4, 1.5), (8, 1.5 ** math.sqrt(1 / 2)), (16, math.sqrt(1.5)), (64, 1.5**0.25)],
)
def test_a_score_far_from_the_threshold_is_settled(n_views, factor):
    settled = calibration(2.0).settled
    for side in (1, -1):
        assert settled(2 * (1.001 * factor) ** side, n_views)
        assert not settled(2 * (0.999 * factor) ** side, n_views)
    assert not settled(2.0, n_views)


def test_after_a_number_of_views_nobody_measured_nothing_is_settled():
    assert not any(calibration(2.0).settled(score, n) for score in (0.0, 2.0, 1e9) for n in (3, 5, 6, 7))


def test_without_settling_the_calibrated_number_of_views_decides():
    settled = calibration(2.0, settling={}).settled
    assert [settled(score, n) for n in (1, 7, 8, 9) for score in (0.0, 2.0, 1e9)] == 6 * [False] + 6 * [True]


@pytest.fixture
def model_and_scores(small, small_image):
    """A model, and the running score of `small_image` by number of views."""
    model = small()
    features = FeatureExtractor(model).of_image(small_image, model.views(64))
    return model, {n: running_score(model, features[:n]).value for n in group_ends(64)}


@pytest.mark.parametrize(
    ("threshold", "settling", "max_views", "n_views"),
    [
        (0.01, SETTLING, 64, 1),  # far above: one view is enough
        (100.0, SETTLING, 64, 1),  # far below
        (1.0, {"1": 1e9, "2": 1e9, "4": 1.0}, 64, 4),
        (1.0, {"1": 1e9, "2": 1e9, "4": 1e9}, 64, 64),  # goes on beyond the calibrated 8
        (1.0, {"1": 1e9, "2": 1e9, "4": 1e9}, 16, 16),
        (1.0, {"1": 1e9, "2": 1e9, "4": 1e9}, 2, 2),  # at most as many as were asked for
        (1.0, {}, 64, 8),
    ],
)
def test_only_as_many_views_as_the_verdict_needs(
    threshold, settling, max_views, n_views, model_and_scores, small_image, monkeypatch
):
    model, scores = model_and_scores
    runs = []
    monkeypatch.setattr(model, "features", lambda views: runs.append(len(views)) or type(model).features(model, views))
    # In units of the score that it will end at, and not quite that one.
    given = calibration(1.0001 * threshold * scores[n_views], settling=settling)
    score = score_until_settled(model, given, small_image, max_views)
    assert score.n_views == n_views == sum(runs), "no view is computed that is not counted"
    assert score.value == pytest.approx(scores[n_views], rel=1e-4)


@pytest.mark.parametrize(("kind", "n_views"), [("none", 1), ("flips", 4)])
def test_of_few_views_the_last_one_ends_it(kind, n_views, small, small_image):
    model = small(views=kind)
    end = score_image(model, small_image, 64)
    settling = {str(n): 1e9 for n in group_ends(n_views)[:-1]}
    score = score_until_settled(model, calibration(end, n_views, settling), small_image)
    assert score.n_views == n_views and score.value == pytest.approx(end, rel=1e-4)


def test_stems_are_run_once_for_variants_that_share_them(tiny, image, monkeypatch):
    models = {kind: tiny(kind) for kind in ("none", "se", "cbam")} | {"apart": tiny("se", placement="before_pool")}
    calls = []
    for name, model in models.items():
        monkeypatch.setattr(model, "stems", lambda views, n=name, m=model: calls.append(n) or type(m).stems(m, views))
    list(score_progressively(models, dict.fromkeys(models, image), 4))
    assert calls == ["none", "apart"] * 2, "after 2 and 4 views"


def test_scores_are_streamed(tiny, category, monkeypatch):
    model = tiny("none")
    calls = []
    monkeypatch.setattr(model, "features", lambda views: calls.append(len(views)) or type(model).features(model, views))
    paths = [image.path for image in InspectionDataset(category).test]
    scores = score_images(model, paths, 2)
    assert isinstance(scores, GeneratorType) and calls == []
    next(scores)
    assert calls == [2], "one image at a time"
    assert len(list(scores)) == len(paths) - 1


# -- bfloat16


@pytest.mark.parametrize("kind", ["none", "se", "cbam"])
def test_bfloat16_moves_scores_a_little_and_changes_no_weight(kind, small, small_image, monkeypatch):
    model = small(kind)
    fingerprint, before = model.backbone.fingerprint(), score_image(model, small_image, 4)
    with torch.no_grad():
        stems = model.stems(make_views(small_image, even_angles(4)))
    monkeypatch.setattr(model, "precision", "bfloat16")
    with torch.no_grad():
        assert all(map(torch.equal, stems, model.stems(make_views(small_image, even_angles(4))))), "pixels keep float32"
        assert model.features_from_stems(stems).dtype == torch.float32
    after = score_image(model, small_image, 4)
    assert after != before and after == pytest.approx(before, rel=0.05)
    assert model.backbone.fingerprint() == fingerprint


def test_features_of_each_precision_are_kept_apart(small, monkeypatch):
    digests = [FeatureExtractor(small()).backbone_digest]
    monkeypatch.setattr(small(), "precision", "bfloat16")
    digests.append(FeatureExtractor(small()).backbone_digest)
    assert len(set(digests)) == 2


@pytest.mark.parametrize(("cost", "taken"), [(0.5, "bfloat16"), (0.9, "float32"), (1.5, "float32"), (400.0, "float32")])
def test_bfloat16_is_taken_where_the_clock_says_so(cost, taken, small, monkeypatch):
    """A clock that goes on by what a run costs: 1 in float32."""
    model, now, runs = small(), [0.0], []

    def run(stems):
        runs.append(model.precision)
        now[0] += 1.0 if model.precision == "float32" else cost
        return torch.zeros(1, 256)

    monkeypatch.setattr(model, "features_from_stems", run)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    assert faster_precision(model) == taken and model.precision == "float32"
    assert len(runs) == (2 if cost > 20 else 10), "where it is far too slow, it is tried once"


@pytest.mark.usefixtures("global_state_kept")
def test_scoring_leaves_global_state_alone(tiny, image):
    score_image(tiny("cbam"), image, 2)


@pytest.mark.parametrize("settled", [False, True])
def test_files_are_read_a_few_ahead_and_a_bad_one_stops_nothing(settled, tiny, category, tmp_path, monkeypatch):
    from attentdiffernet import features, scoring

    good = str(InspectionDataset(category).test[0].path)
    (tmp_path / "bad.png").write_bytes(b"no image")
    too_long = "x" * 5000 + ".png"  # the system refuses to look it up
    asked = []
    for module in (features, scoring):
        monkeypatch.setattr(module, "pixels_of", lambda path: asked.append(path) or read_image(path))
    paths = [good, str(tmp_path / "bad.png"), str(tmp_path / "gone.png"), too_long, good] + [good] * 20
    model = tiny("none")
    scores = score_images_until_settled(model, calibration(1.0, 1, {}), paths, 1) if settled else None
    scores = scores or score_images(model, paths, 1)
    first = next(scores)
    assert 1 <= len(asked) <= ON_CPU.ahead + 1 and len(asked) < len(paths)
    rest = [next(scores) for _ in range(4)]
    assert [isinstance(found, ImageError) for found in rest] == [True, True, True, False]
    assert rest[-1].value == first.value
    assert str(rest[0]).startswith("bad.png is not an image") and str(rest[1]) == "There is no file gone.png"
    assert "name too long" in str(rest[2])
