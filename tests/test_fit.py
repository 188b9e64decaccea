"""Fitting: what is held out, that a seed decides all, that the threshold keeps its promise, that defects stand out."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

import attentdiffernet as adn
from attentdiffernet import attention_training, calibration, differnet, gate_decision, packing
from attentdiffernet.calibration import split_normals
from attentdiffernet.category import InspectionDataset, InspectionImage
from attentdiffernet.datasets.sample import draw
from attentdiffernet.errors import DatasetError, ImageError
from attentdiffernet.explain import methods_of
from attentdiffernet.features import FeatureExtractor
from attentdiffernet.flow_fitting import FEATURE_DEVIATION, fit_flow, fit_gaussian
from attentdiffernet.images import read_image
from attentdiffernet.model import AttentDifferNet, ModelConfig
from attentdiffernet.options import AttentionConfig, FlowConfig, Options
from attentdiffernet.scoring import score_images
from attentdiffernet.study.statistics import auroc, conformal_threshold
from attentdiffernet.views import even_angles, make_views

OPTIONS = Options(
    flow=FlowConfig(n_blocks=2, hidden_width=16, hidden_layers=1),
    attention=AttentionConfig(training="untrained"),
    weights="random",
    image_size=63,
    n_scales=1,
    views="rotations",
    resize="squeeze",
    exposure="as_is",
    readout="z2_of_mean",
    training_views=2,
    scoring_views=2,
    epochs=3,
    batch_size=8,
    learning_rate=2e-3,
    calibration_fraction=0.25,
    false_positive_rate=0.4,  # which 2 held-out images of 8 can promise
)


def images(n):
    return [InspectionImage(f"{i}.png", f"good/{i}.png", "good", 0) for i in range(n)]


def trained(category, cache=None, progress=lambda *what: None, **options):
    options = dataclasses.replace(OPTIONS, **options)
    return adn.fit(InspectionDataset(category).train, options, cache=cache, progress=progress)


def scores(detector, paths, n_views=None):
    return [verdict.score for verdict in detector.inspect_all(paths, n_views)]


# -- the split


@pytest.mark.parametrize(
    ("n", "fraction", "held_out"), [(5, 0.2, 1), (10, 0.2, 2), (8, 0.25, 2), (5, 0.01, 1), (5, 0.99, 4)]
)
def test_the_split(n, fraction, held_out):
    options = dataclasses.replace(OPTIONS, calibration_fraction=fraction)
    everything = images(n)
    fit, calibration = split_normals(everything, options)
    assert len(calibration) == held_out and sorted(fit + calibration, key=everything.index) == everything
    assert fit == sorted(fit, key=everything.index)
    assert split_normals(everything, dataclasses.replace(options, seed=9)) == (fit, calibration)


def test_another_data_seed_holds_others_out():
    splits = [split_normals(images(20), dataclasses.replace(OPTIONS, data_seed=seed))[1] for seed in range(5)]
    assert len({tuple(image.name for image in split) for split in splits}) > 1


@pytest.mark.parametrize("n", [0, 1, 4])
def test_too_few_images_are_refused(n):
    with pytest.raises(DatasetError, match=f"^Training needs 5 normal images or more, got {n}$"):
        split_normals(images(n), OPTIONS)


# -- training


@pytest.mark.usefixtures("global_state_kept")
def test_a_seed_decides_everything(category, tmp_path):
    first = trained(category, cache=tmp_path)
    again = trained(category, cache=tmp_path)
    other = trained(category, cache=tmp_path, seed=1)
    assert first.calibration == again.calibration
    assert other.calibration.scores != first.calibration.scores
    image = InspectionDataset(category).test[0].path
    assert scores(first, [image]) == scores(again, [image])


def test_the_detector_says_what_was_done(category):
    told = []
    detector = trained(category, progress=lambda *what: told.append(what))
    fit, held_out = split_normals(InspectionDataset(category).train, OPTIONS)
    calibrated, found = detector.calibration, detector.findings
    assert detector.data.n_fitted == len(fit) == 6
    assert detector.options == OPTIONS and found.scoring_views == calibrated.n_views == 2
    assert (found.views, found.readout, found.training_views) == ("rotations", "z2_of_mean", 2)
    assert found.feature_scale == detector.model.feature_scale != 1 and found.gates_judged == ()
    assert not any(parameter.requires_grad for parameter in detector.model.parameters())
    # It was calibrated as a checkpoint will hold it, in half precision.
    assert all(torch.equal(p, p.half().to(p.dtype)) for p in detector.model.flow.parameters())
    # The threshold is the conformal quantile of the scores of the held-out normals, and these are what anyone computes.
    paths = [image.path for image in held_out]
    assert sorted(scores(detector, paths)) == pytest.approx(calibrated.scores, rel=1e-5)
    wanted = conformal_threshold(calibrated.scores, OPTIONS.false_positive_rate)
    assert (calibrated.threshold, calibrated.false_positive_rate) == wanted == (max(calibrated.scores), 1 / 3)
    # The unit of a colour scale is the 99th percentile of the same map over them.
    assert list(calibrated.map_references) == methods_of(detector.model.config)
    values = np.concatenate([detector.raw_map(read_image(path), "grad-cam").ravel() for path in paths])
    assert calibrated.map_references["grad-cam"] == pytest.approx(np.quantile(values, 0.99), rel=1e-5)
    stages = [stage for stage, done, total in told if done == total]
    assert stages == [
        "features of training images",
        "fitting the flow",
        "features of held-out normals",
        "maps of held-out normals",
    ]


def test_of_few_images_each_is_scored_by_a_flow_that_was_fitted_to_others(category, tmp_path):
    options = dataclasses.replace(OPTIONS, false_positive_rate=0.05)
    detector = trained(category, cache=tmp_path, false_positive_rate=0.05)
    calibrated, paths = detector.calibration, [image.path for image in InspectionDataset(category).train]
    assert calibrated.cross_validated and detector.data.n_fitted == len(paths) == 8
    assert (calibrated.threshold, calibrated.false_positive_rate) == (max(calibrated.scores), 1 / 9)
    assert sorted(detector.left_out) == list(range(8))
    assert sorted(detector.left_out.values()) == list(calibrated.scores)

    fitted, held_out = split_normals(range(8), options)
    order = [*fitted, *held_out]
    folds = torch.randperm(8, generator=torch.Generator().manual_seed(options.data_seed)).tensor_split(5)
    for fold in (folds[0], folds[4]):
        model = AttentDifferNet(ModelConfig.of(options, detector.findings), options.seed).eval()
        others = [paths[number] for k, number in enumerate(order) if k not in fold]
        features = FeatureExtractor(model).random_views(others, options.training_views, options.data_seed)
        fit_flow(model.flow, fit_gaussian(model, features.flatten(0, 1)), options)
        packing.round_as_stored(model)
        for number in (order[k] for k in fold.tolist()):
            (score,) = score_images(model, [paths[number]], 2)
            assert score.value == pytest.approx(detector.left_out[number], rel=1e-4)

    again = adn.load(detector.save(tmp_path / "model"))
    assert again.calibration == calibrated and "8 of them set the threshold" in again.card()
    few = trained(category, cache=tmp_path, false_positive_rate=0.4)
    assert not few.calibration.cross_validated and few.data.n_fitted == 6, "two held out promise what is asked"


LARGER = {"image_size": 252, "n_scales": 1}  # separation trains at the half and quarter size
SEPARATION = {"variant": "cbam", "attention": AttentionConfig(training="separation"), **LARGER}


@pytest.fixture
def _two_steps(monkeypatch):
    """Of training gates; and no maps, which take longer than all else and are not what is asked about gates."""
    monkeypatch.setattr(attention_training, "STEPS", {"separation": 2})
    monkeypatch.setattr(calibration, "explain", lambda model, tensor, method: np.ones((2, 2)))


@pytest.mark.parametrize("variant", ["cbam", "simam"])
@pytest.mark.usefixtures("_two_steps", "global_state_kept")
def test_gates_that_do_not_help_leave_differnet(variant, category, tmp_path, monkeypatch):
    """Score by score, and at hardly any cost: its features are in the cache."""
    monkeypatch.setattr(gate_decision, "beats", lambda *what: False)
    plain = trained(category, cache=tmp_path, **LARGER)
    before = FeatureExtractor.views_computed
    detector = trained(category, cache=tmp_path, **SEPARATION | {"variant": variant})
    assert not detector.findings.gates_kept and len(detector.findings.gates_judged) == 2
    assert "did not measurably help" in detector.note and "left at 1" in detector.choices
    assert detector.calibration.scores == plain.calibration.scores
    assert detector.calibration.threshold == plain.calibration.threshold
    views = torch.rand(2, 3, 252, 252, generator=torch.Generator().manual_seed(0))
    assert torch.equal(detector.model(views)[0], plain.model(views)[0])
    n_fitted, n_judged = detector.data.n_fitted, len(plain.calibration.scores)
    judged_twice = 2 * (1 + gate_decision.JUDGED_DEFECTS) * n_judged * OPTIONS.training_views
    assert FeatureExtractor.views_computed - before == n_fitted * OPTIONS.training_views + judged_twice

    again = adn.load(detector.save(tmp_path / "model"))
    assert (again.findings, again.fingerprint) == (detector.findings, detector.fingerprint)
    image = InspectionDataset(category).test[0].path
    assert scores(again, [image]) == scores(plain, [image])


@pytest.mark.usefixtures("_two_steps")
def test_gates_that_help_are_kept(category, tmp_path, monkeypatch):
    judged = []
    monkeypatch.setattr(gate_decision, "beats", lambda *what: judged.append(what) or True)
    told = []
    before = FeatureExtractor.views_computed
    detector = trained(category, None, lambda *what: told.append(what), **SEPARATION)
    fitted, held_out = detector.data.n_fitted, len(detector.calibration.scores)
    views = 2 * fitted + 2 * (1 + gate_decision.JUDGED_DEFECTS) * held_out + held_out
    assert FeatureExtractor.views_computed - before == 2 * views, "features are computed once even without a cache"
    assert detector.findings.gates_kept and "trained on synthetic defects" in detector.note
    plain = trained(category, cache=tmp_path, **LARGER)
    views = torch.rand(2, 3, 252, 252)
    assert not torch.equal(detector.model.features(views), plain.model.features(views))
    [(labels, with_gates, without, _)] = judged
    assert labels.tolist() == [0] * 2 + [1] * 6 and with_gates.shape == without.shape == (8,)
    assert not np.array_equal(with_gates, without)
    assert detector.findings.gates_judged == (auroc(labels, with_gates), auroc(labels, without))
    # Without gates it is DifferNet: as fitted, before it is rounded to what a checkpoint holds.
    assert sorted(without[:2]) == pytest.approx(plain.calibration.scores, rel=1e-2)
    assert ("judging attention on synthetic defects", 8, 8) in told
    few = trained(category, tmp_path, **SEPARATION, false_positive_rate=0.05)
    assert not few.calibration.cross_validated and few.data.n_fitted == 6, "the gates have seen these"


@pytest.mark.usefixtures("_two_steps")
def test_gates_are_always_kept_where_that_is_asked(category, monkeypatch):
    monkeypatch.setattr(gate_decision, "beats", lambda *what: pytest.fail("it was judged"))
    detector = trained(category, variant="cbam", attention=AttentionConfig(keep="always"), **LARGER)
    gates = detector.model.backbone.attention_blocks()["attention1"].channel.excite
    assert gates.bias.abs().sum() > 0


def test_obvious_defects_stand_out(tmp_path):
    for part, defect, seeds in (
        ("train", "good", range(12)),
        ("test", "good", (20, 21, 22)),
        ("test", "donut", (30, 31, 32)),
    ):
        (tmp_path / part / defect).mkdir(parents=True)
        for seed in seeds:
            Image.fromarray(draw("wafer", defect, seed).image).save(tmp_path / part / defect / f"{seed}.png")
    detector = trained(tmp_path, image_size=126, training_views=4, epochs=8, batch_size=16, learning_rate=5e-3)
    images = InspectionDataset(tmp_path).test
    found = list(zip(images, detector.inspect_all(images), strict=True))
    good, donut = ([verdict for image, verdict in found if image.label == label] for label in (0, 1))
    assert len(good) == len(donut) == 3
    assert min(v.score for v in donut) > 1.3 * max(v.score for v in good)
    assert all(verdict.anomalous for verdict in donut)


def test_an_image_that_cannot_be_read_stops_training_with_its_name(category, tmp_path):
    train = InspectionDataset(category).train
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad = [dataclasses.replace(image, path=tmp_path / "bad.png") for image in train]
    with pytest.raises(ImageError, match=r"^bad\.png is not an image"):
        adn.fit(bad, OPTIONS)


# -- attention


def test_attention_is_trained_where_asked(category, monkeypatch):
    calls = []
    monkeypatch.setattr(differnet, "fit_attention", lambda *args: calls.append(args[0].config.variant))
    for variant, how in (("se", "proxy"), ("none", "proxy"), ("cbam", "untrained"), ("cbam", "joint")):
        trained(category, epochs=1, variant=variant, attention=AttentionConfig(training=how))
    assert calls == ["se", "cbam"]


def test_views_of_calibration_and_scoring_are_the_same(category):
    detector = trained(category, epochs=1)
    _, held_out = split_normals(InspectionDataset(category).train, OPTIONS)
    views = make_views(detector.model.prepare(read_image(held_out[0].path)), even_angles(2))
    with torch.no_grad():
        score = detector.model.score(detector.model.features(views)[None]).item()
    assert min(abs(score - other) for other in detector.calibration.scores) < 1e-5


@pytest.mark.parametrize("kind", ["none", "se", "cbam"])
def test_every_variant_gives_its_flow_features_of_one_size(kind, category):
    """Gates shrink features; a flow fitted to small ones for a few epochs would lose by that alone."""
    detector = trained(category, variant=kind)
    fit, _ = split_normals(InspectionDataset(category).train, OPTIONS)
    rows = FeatureExtractor(detector.model).random_views([image.path for image in fit], OPTIONS.training_views, 0)
    scaled = rows.flatten(0, 1) * detector.model.feature_scale
    assert float(scaled.std(0).mean()) == pytest.approx(FEATURE_DEVIATION, rel=1e-4)


@pytest.mark.parametrize("recipe", ["fast", "paper"])
def test_a_look_after_each_epoch_sees_the_model_so_far_and_changes_nothing(category, recipe):
    flow = dataclasses.replace(OPTIONS.flow, whitening=recipe == "fast")
    options = dataclasses.replace(OPTIONS, recipe=recipe, epochs=2, flow=flow, readout="z2", scoring_views=1)
    train = InspectionDataset(category).train
    rows, seen = torch.randn(4, 256, generator=torch.Generator().manual_seed(0)), []

    def look(model, epoch):
        with torch.no_grad():
            seen.append((epoch, float(model.row_scores(rows).mean())))

    looked_at = adn.fit(train, options, after_epoch=look)
    assert [epoch for epoch, _ in seen] == [1, 2] and seen[0][1] != seen[1][1]
    with torch.no_grad():
        assert float(looked_at.model.row_scores(rows).mean()) == pytest.approx(seen[1][1], rel=1e-2), "up to rounding"
    assert looked_at.fingerprint == adn.fit(train, options).fingerprint


def test_grey_values_of_12_bits_are_seen_by_one_scale_decided_at_training(tmp_path):
    rng = np.random.default_rng(0)
    parts = [rng.normal(1500, 200, (80, 80)).clip(0, 4095) for _ in range(8)]
    parts[5][0, 0] = 4000
    for k, part in enumerate(parts):
        Image.fromarray(part.astype(np.uint16)).save(tmp_path / f"{k}.tif")
    detector = adn.fit(tmp_path / "*.tif", OPTIONS)
    assert detector.findings.value_range == 4095 and "| Grey values | 0 to 4095 |" in detector.card()
    detector = adn.load(detector.save(tmp_path / "model"))
    eight_bits = np.repeat(np.round(parts[3].astype(np.uint16) * (255 / 4095)).astype(np.uint8)[..., None], 3, 2)
    stream = io.BytesIO((tmp_path / "3.tif").read_bytes())
    by_file, by_stream = detector.inspect(tmp_path / "3.tif"), detector.inspect(stream)
    assert by_file.score == by_stream.score == detector.inspect(eight_bits).score
    np.testing.assert_array_equal(by_file.map("grad-cam"), detector.inspect(eight_bits).map("grad-cam"))
    Image.fromarray(np.full((80, 80), 5000, np.uint16)).save(tmp_path / "16 bits.tif")
    (verdict,) = detector.inspect_all([tmp_path / "16 bits.tif"])
    assert "has grey values from 5000 to 5000; here they may be 0 to 4095" in verdict.error
    wider = adn.fit(tmp_path / "[0-7].tif", dataclasses.replace(OPTIONS, value_range=65535.0))
    assert wider.findings.value_range == 65535 and wider.fingerprint != detector.fingerprint
    assert not wider.inspect(tmp_path / "16 bits.tif").error
