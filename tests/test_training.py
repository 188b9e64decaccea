"""Training: what is held out, that a seed decides all, that the threshold keeps its promise, that defects stand out."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from attentdiffernet import attention_training, training
from attentdiffernet.category import InspectionDataset, InspectionImage
from attentdiffernet.checkpoint import DataCard, load, save
from attentdiffernet.config import (
    FEATURE_DEVIATION,
    AttentionConfig,
    FlowConfig,
    ModelConfig,
    ScoringConfig,
    TrainingConfig,
)
from attentdiffernet.datasets.sample import draw
from attentdiffernet.errors import AttentDifferNetError, DatasetError, ImageError
from attentdiffernet.explain import explain, methods_of
from attentdiffernet.features import FeatureExtractor
from attentdiffernet.images import read_image
from attentdiffernet.scoring import score_images
from attentdiffernet.study.statistics import auroc, conformal_threshold
from attentdiffernet.views import even_angles, make_views, to_tensor

FLOW = FlowConfig(n_blocks=2, hidden_width=16, hidden_layers=1)
CONFIG = TrainingConfig(epochs=3, views_per_image=2, batch_size=8, learning_rate=2e-3, calibration_fraction=0.25)


def images(n):
    return [InspectionImage(f"{i}.png", f"good/{i}.png", "good", 0) for i in range(n)]


def trained(category, config=CONFIG, attention=None, **changes):
    model_config = ModelConfig(
        attention or AttentionConfig(training="untrained"), FLOW, weights="random", image_size=256
    )
    card = DataCard("sample", "wafer")
    return training.train(InspectionDataset(category).train, model_config, config, ScoringConfig(2), card, **changes)


# -- the split


@pytest.mark.parametrize(
    ("n", "fraction", "held_out"), [(5, 0.2, 1), (10, 0.2, 2), (8, 0.25, 2), (5, 0.01, 1), (5, 0.99, 4)]
)
def test_the_split(n, fraction, held_out):
    config = dataclasses.replace(CONFIG, calibration_fraction=fraction)
    everything = images(n)
    fit, calibration = training.split_normals(everything, config)
    assert len(calibration) == held_out and sorted(fit + calibration, key=everything.index) == everything
    assert fit == sorted(fit, key=everything.index)
    assert training.split_normals(everything, dataclasses.replace(config, seed=9)) == (fit, calibration)


def test_another_data_seed_holds_others_out():
    splits = [training.split_normals(images(20), dataclasses.replace(CONFIG, data_seed=seed))[1] for seed in range(5)]
    assert len({tuple(image.name for image in split) for split in splits}) > 1


@pytest.mark.parametrize("n", [0, 1, 4])
def test_too_few_images_are_refused(n):
    with pytest.raises(DatasetError, match=f"^Training needs 5 normal images or more, got {n}$"):
        training.split_normals(images(n), CONFIG)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[
            ("epochs", 0),
            ("batch_size", 0),
            ("views_per_image", 1.5),
            ("seed", -1),
            ("data_seed", 2**31),
            ("seed", "0"),
        ],
        *[("calibration_fraction", 0.0), ("false_positive_rate", 1.0), ("feature_noise", -0.1), ("betas", (0.8,))],
    ],
)
def test_options_out_of_bounds_are_refused(name, value):
    with pytest.raises(AttentDifferNetError, match=f"^{name} must "):
        TrainingConfig(**{name: value})


# -- training


@pytest.mark.usefixtures("global_state_kept")
def test_a_seed_decides_everything(category, tmp_path):
    first = trained(category, cache=tmp_path)
    again = trained(category, cache=tmp_path)
    other = trained(category, dataclasses.replace(CONFIG, seed=1), cache=tmp_path)
    assert first.calibration == again.calibration
    assert other.calibration.scores != first.calibration.scores
    image = InspectionDataset(category).test[0].path
    assert list(score_images(first.model, [image], 2)) == list(score_images(again.model, [image], 2))


def test_the_detector_says_what_was_done(category):
    told = []
    detector = trained(category, progress=lambda *what: told.append(what))
    fit, held_out = training.split_normals(InspectionDataset(category).train, CONFIG)
    calibration = detector.calibration
    assert detector.data.n_fitted == len(fit) == 6
    assert detector.training == CONFIG and detector.scoring.n_views == calibration.n_views == 2
    assert not any(parameter.requires_grad for parameter in detector.model.parameters())
    # It was calibrated as a checkpoint will hold it, in half precision.
    assert all(torch.equal(p, p.half().to(p.dtype)) for p in detector.model.flow.parameters())
    # The threshold is the conformal quantile of the scores of the held-out normals, and these are what anyone computes.
    paths = [image.path for image in held_out]
    assert sorted(score_images(detector.model, paths, 2)) == pytest.approx(calibration.scores, rel=1e-5)
    wanted = conformal_threshold(calibration.scores, CONFIG.false_positive_rate)
    assert (calibration.threshold, calibration.false_positive_rate) == wanted == (max(calibration.scores), 1 / 3)
    # The unit of a colour scale is the 99th percentile of the same map over them.
    assert list(calibration.map_references) == methods_of(detector.model.config)
    tensors = [to_tensor(read_image(path), 256) for path in paths]
    values = np.concatenate([explain(detector.model, tensor, "grad-cam").ravel() for tensor in tensors])
    assert calibration.map_references["grad-cam"] == pytest.approx(np.quantile(values, 0.99), rel=1e-5)
    stages = [stage for stage, done, total in told if done == total]
    assert stages == [
        "features of training images",
        "fitting the flow",
        "features of images to score",
        "maps of held-out normals",
    ]


SEPARATION = AttentionConfig("cbam", training="separation")


@pytest.fixture
def _two_steps(monkeypatch):
    monkeypatch.setattr(attention_training, "STEPS", {"separation": 2})


@pytest.mark.usefixtures("_two_steps", "global_state_kept")
def test_gates_that_do_not_help_leave_differnet(category, tmp_path, monkeypatch):
    """Score by score, and at hardly any cost: its features are in the cache."""
    monkeypatch.setattr(training, "beats", lambda *what: False)
    plain = trained(category, cache=tmp_path)
    before = FeatureExtractor.views_computed
    detector = trained(category, attention=SEPARATION, cache=tmp_path)
    config = detector.model.config.attention
    assert config == dataclasses.replace(SEPARATION, strength=0.0, judged=config.judged)
    assert "left at 1" in config.training_note and "left at 1" in config.choices
    assert detector.calibration.scores == plain.calibration.scores
    assert detector.calibration.threshold == plain.calibration.threshold
    views = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    assert torch.equal(detector.model(views)[0], plain.model(views)[0])
    n_fitted, n_judged = detector.data.n_fitted, len(plain.calibration.scores)
    judged_twice = 2 * (1 + training.JUDGED_DEFECTS) * n_judged * CONFIG.views_per_image
    assert FeatureExtractor.views_computed - before == n_fitted * CONFIG.views_per_image + judged_twice

    save(detector, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.model.config.attention == config
    image = InspectionDataset(category).test[0].path
    assert list(score_images(again.model, [image], 2)) == list(score_images(plain.model, [image], 2))


@pytest.mark.usefixtures("_two_steps")
def test_gates_that_help_are_kept(category, tmp_path, monkeypatch):
    judged = []
    monkeypatch.setattr(training, "beats", lambda *what: judged.append(what) or True)
    told = []
    detector = trained(category, attention=SEPARATION, cache=tmp_path, progress=lambda *what: told.append(what))
    config = detector.model.config.attention
    assert config == dataclasses.replace(SEPARATION, judged=config.judged)
    assert "trained on synthetic defects" in SEPARATION.training_note
    plain = trained(category, cache=tmp_path)
    views = torch.rand(2, 3, 256, 256)
    assert not torch.equal(detector.model.features(views), plain.model.features(views))
    [(labels, with_gates, without, _)] = judged
    assert labels.tolist() == [0] * 2 + [1] * 6 and with_gates.shape == without.shape == (8,)
    assert not np.array_equal(with_gates, without)
    assert config.judged == (auroc(labels, with_gates), auroc(labels, without))
    # Without gates it is DifferNet that is asked: as fitted before it is rounded to what a checkpoint holds.
    assert sorted(without[:2]) == pytest.approx(plain.calibration.scores, rel=1e-2)
    assert ("judging attention on synthetic defects", 8, 8) in told


@pytest.mark.usefixtures("_two_steps")
def test_gates_are_kept_unjudged_where_that_is_asked(category, monkeypatch):
    monkeypatch.setattr(training, "beats", lambda *what: pytest.fail("it was judged"))
    blocks = dataclasses.replace(SEPARATION, training="separation_unjudged")
    gates = trained(category, attention=blocks).model.backbone.attention_blocks()["attention1"].channel.excite
    assert gates.bias.abs().sum() > 0


@pytest.mark.usefixtures("_two_steps")
def test_features_are_computed_once_even_without_a_cache(category, monkeypatch):
    monkeypatch.setattr(training, "beats", lambda *what: True)
    before = FeatureExtractor.views_computed
    detector = trained(category, attention=SEPARATION)
    fitted, held_out = detector.data.n_fitted, len(detector.calibration.scores)
    views = 2 * fitted + 2 * (1 + training.JUDGED_DEFECTS) * held_out + held_out
    assert FeatureExtractor.views_computed - before == 2 * views


def test_obvious_defects_stand_out(tmp_path):
    for part, defect, seeds in (
        ("train", "good", range(12)),
        ("test", "good", (20, 21, 22)),
        ("test", "donut", (30, 31, 32)),
    ):
        (tmp_path / part / defect).mkdir(parents=True)
        for seed in seeds:
            Image.fromarray(draw("wafer", defect, seed).image).save(tmp_path / part / defect / f"{seed}.png")
    config = dataclasses.replace(CONFIG, epochs=15, views_per_image=4, batch_size=16, learning_rate=5e-3)
    detector = trained(tmp_path, config)
    images = InspectionDataset(tmp_path).test
    scores = list(score_images(detector.model, [image.path for image in images], 2))
    good, donut = ([s for s, image in zip(scores, images, strict=True) if image.label == label] for label in (0, 1))
    assert len(good) == len(donut) == 3
    assert min(donut) > 1.3 * max(good)
    assert all(detector.is_anomalous(score) for score in donut)


def test_an_image_that_cannot_be_read_stops_training_with_its_name(category, tmp_path):
    train = InspectionDataset(category).train
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad = [dataclasses.replace(image, path=tmp_path / "bad.png") for image in train]
    config = ModelConfig(flow=FLOW, weights="random", image_size=256)
    with pytest.raises(ImageError, match=r"^bad\.png is not an image"):
        training.train(bad, config, CONFIG, ScoringConfig(2), DataCard("a", "b"))


# -- attention


def test_train_trains_attention_where_asked(category, monkeypatch):
    calls = []
    monkeypatch.setattr(training, "fit_attention", lambda *args: calls.append(args[0].config.attention.kind))
    for kind, how in (("se", "proxy"), ("none", "proxy"), ("cbam", "untrained"), ("cbam", "joint")):
        trained(category, dataclasses.replace(CONFIG, epochs=1), AttentionConfig(kind, training=how))
    assert calls == ["se", "cbam"]


def test_views_of_calibration_and_scoring_are_the_same(category):
    detector = trained(category, dataclasses.replace(CONFIG, epochs=1))
    _, held_out = training.split_normals(InspectionDataset(category).train, CONFIG)
    views = make_views(detector.model.prepare(read_image(held_out[0].path)), even_angles(2))
    with torch.no_grad():
        score = detector.model.score(detector.model.features(views)[None]).item()
    assert min(abs(score - other) for other in detector.calibration.scores) < 1e-5


@pytest.mark.parametrize("kind", ["none", "se", "cbam"])
def test_every_variant_gives_its_flow_features_of_one_size(kind, category):
    """Gates shrink features; a flow fitted to small ones for a few epochs would lose by that alone."""
    detector = trained(category, attention=AttentionConfig(kind, training="untrained"))
    fit, _ = training.split_normals(InspectionDataset(category).train, CONFIG)
    rows = FeatureExtractor(detector.model).random_views([image.path for image in fit], CONFIG.views_per_image, 0)
    scaled = rows.flatten(0, 1) * detector.model.config.feature_scale
    assert float(scaled.std(0).mean()) == pytest.approx(FEATURE_DEVIATION, rel=1e-4)


@pytest.mark.parametrize("recipe", ["fast", "paper"])
def test_a_look_after_each_epoch_sees_the_model_so_far_and_changes_nothing(category, recipe):
    config = dataclasses.replace(CONFIG, recipe=recipe, epochs=2)
    flow = FLOW if recipe == "fast" else dataclasses.replace(FLOW, whitening=False)
    model_config = ModelConfig(AttentionConfig(), flow, weights="random", image_size=256, readout="z2")
    arguments = InspectionDataset(category).train, model_config, config, ScoringConfig(1), DataCard("sample", "wafer")
    rows, seen = torch.randn(4, 768, generator=torch.Generator().manual_seed(0)), []

    def look(model, epoch):
        with torch.no_grad():
            seen.append((epoch, float(model.row_scores(rows).mean())))

    looked_at = training.train(*arguments, after_epoch=look)
    assert [epoch for epoch, _ in seen] == [1, 2] and seen[0][1] != seen[1][1]
    with torch.no_grad():
        assert float(looked_at.model.row_scores(rows).mean()) == pytest.approx(seen[1][1], rel=1e-2), "up to rounding"
    assert looked_at.fingerprint == training.train(*arguments).fingerprint
