"""PatchCore behind the interface that all detectors share."""

import dataclasses
import functools
import json
import math
import shutil
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import attentdiffernet as adn
from attentdiffernet import attention_training, checkpoint, patchcore_attention
from attentdiffernet.cli import app
from attentdiffernet.cli.train import _method_and_variant
from attentdiffernet.detector import NearestNormal
from attentdiffernet.errors import AttentDifferNetError, CheckpointError, DatasetError, WeightsError
from attentdiffernet.options import AttentionConfig, PatchCoreConfig
from attentdiffernet.patchcore_attention import AttendedMaps
from attentdiffernet.patchcore_detector import PatchCoreDetector
from attentdiffernet.study import records
from attentdiffernet.words import METHOD_TITLES, MapName

OPTIONS = adn.Options(method="patchcore", image_size=128, patchcore=PatchCoreConfig(bank_size=100))


def stripes(seed, height=120, width=160):
    """Vertical stripes of any phase: (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    wave = 0.5 + 0.3 * np.sin(np.arange(width) / 6 + 6 * rng.random()) + 0.02 * rng.standard_normal((height, width))
    return np.repeat((255 * wave.clip(0, 1)).astype(np.uint8)[..., None], 3, -1)


def with_defect(image):
    """Noise in rows 40..60, columns 90..115."""
    image = image.copy()
    image[40:60, 90:115] = np.random.default_rng(0).integers(0, 255, (20, 25, 3))
    return image


@pytest.fixture(scope="module")
def detector():
    return adn.fit([stripes(seed) for seed in range(12)], OPTIONS, data=adn.DataCard("drawn", "stripes"))


def test_the_default_backbone_is_a_choice_of_the_method():
    assert OPTIONS.backbone == "tf_efficientnet_lite0" and adn.Options().backbone == "alexnet"
    assert adn.Options.from_dict(OPTIONS.to_dict()) == OPTIONS


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "patchcore", "variant": "pooling"},
        {"method": "patchcore", "variant": "se", "attention": AttentionConfig(training="joint")},
        {"variant": "places"},
        {"method": "patchcore", "variant": "places", "readout": "reweighted"},
        {"method": "patchcore", "variant": "places", "patchcore": PatchCoreConfig(n_calibrated=1)},
        {"method": "patchcore", "recipe": "paper"},
        {"method": "patchcore", "views": "flips"},
        {"method": "patchcore", "readout": "z2"},
        {"readout": "maximum"},
        {"method": "patchcore", "backbone": "alexnet"},
        {"patchcore": PatchCoreConfig(strides=(8,)), "method": "padim"},
    ],
)
def test_options_of_another_method_are_refused(asked):
    with pytest.raises(AttentDifferNetError):
        adn.Options(**asked)


@pytest.mark.parametrize("asked", [{"strides": (16, 8)}, {"bank_size": 0}, {"highest": 0}, {"highest": 2.5}])
def test_sizes_out_of_bounds_are_refused(asked):
    with pytest.raises(AttentDifferNetError):
        PatchCoreConfig(**asked)


def test_a_defect_is_found_where_it_is(detector):
    normal, anomalous = stripes(50), with_defect(stripes(51))
    verdict = detector.inspect(anomalous)
    assert verdict.anomalous and verdict.percentile == 100
    assert math.isnan(verdict.standard_error) and verdict.n_views == 1
    assert detector.inspect(normal).score < verdict.score
    heat = verdict.map()
    assert heat.shape == (120, 160)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 36 <= row < 64 and 86 <= column < 119
    assert heat.max() > 1  # of what normal images reach


def test_the_nearest_normal_place_is_named(detector):
    found = detector.nearest_normal(with_defect(stripes(51)))
    y, x = found.position
    assert 36 <= 120 * y < 64 and 86 <= 160 * x < 119
    assert 0 <= found.image < 12 and all(0 < share < 1 for share in found.normal_position)
    assert found.distance > 0


def test_score_map_and_nearest_place_are_read_from_one_look_at_the_image(detector):
    looks = []
    seen = detector.model.network.register_forward_hook(lambda *_: looks.append(1))
    image = with_defect(stripes(51))
    verdict = detector.inspect(image)
    heat, near = verdict.map(), detector.nearest_normal(image)
    assert len(looks) == 1
    image[:] = stripes(52)  # the same array with other pixels is another image
    assert detector.nearest_normal(image) != near and len(looks) == 2
    assert not np.array_equal(detector.inspect(image).map(), heat) and len(looks) == 3
    other = detector.with_readout("maximum")
    assert other.inspect(image).score > detector.inspect(image).score and len(looks) == 5
    seen.remove()


def test_every_training_image_calibrates(detector):
    assert len(detector.calibration.scores) == 12 and detector.data.n_fitted == 12
    assert detector.calibration.false_positive_rate == pytest.approx(1 / 13)
    assert detector.findings.views == "none" and detector.findings.resize == "squeeze"


def test_a_bad_file_gives_an_error_and_the_next_image_goes_on(detector, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    first, second, third = detector.inspect_all([stripes(50), bad, stripes(50)])
    assert second.error and not first.error and first.score == third.score


def test_a_reloaded_detector_is_the_same(detector, tmp_path):
    folder = detector.save(tmp_path / "model")
    again = adn.load(folder)
    assert isinstance(again, PatchCoreDetector)
    assert again.fingerprint == detector.fingerprint and again.options == detector.options
    image = with_defect(stripes(51))
    one, other = detector.inspect(image), again.inspect(image)
    assert one.score == other.score and one.threshold == other.threshold
    assert np.array_equal(one.map("distance"), other.map("distance"))
    assert "PatchCore: stripes" in again.card()
    assert (folder / "model.safetensors").stat().st_size < 8e6


@pytest.mark.parametrize("damage", ["lacks", "shape", "nan"])
def test_a_damaged_bank_is_refused(detector, tmp_path, damage):
    folder = detector.save(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    if damage == "lacks":
        del tensors["position"]
    elif damage == "shape":
        tensors["vector"] = tensors["vector"][:, 1:].contiguous()
    else:
        tensors["vector"][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="safetensors"):
        adn.load(folder)


def test_another_backbone_is_refused(detector, tmp_path):
    folder = detector.save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["options"]["weights"] = "random"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="fingerprint"):
        adn.load(folder)


def test_another_readout(detector):
    image = with_defect(stripes(51))
    assert detector.with_readout("maximum").inspect(image).score > detector.inspect(image).score
    assert detector.findings.readout == "mean_of_highest"


def test_one_image_is_too_few():
    with pytest.raises(DatasetError, match="2 normal images"):
        adn.fit([stripes(0)], OPTIONS)


def test_maps_that_it_lacks_are_refused(detector):
    with pytest.raises(AttentDifferNetError, match="distance"):
        detector.inspect(stripes(50)).map("grad-cam")


def test_the_seed_decides(detector):
    images = [stripes(seed) for seed in range(12)]
    assert adn.fit(images, OPTIONS).fingerprint == detector.fingerprint
    assert adn.fit(images, dataclasses.replace(OPTIONS, seed=1)).fingerprint != detector.fingerprint


def test_the_command_trains_it(tmp_path, monkeypatch):
    small = functools.partial(adn.Options, image_size=128)  # the command has no option for the size
    monkeypatch.setattr("attentdiffernet.cli.train.Options", small)
    folder = tmp_path / "drawn" / "stripes" / "train" / "good"
    folder.mkdir(parents=True)
    for seed in range(4):
        Image.fromarray(stripes(seed, 60, 80)).save(folder / f"{seed}.png")
    asked = ["train", str(tmp_path / "drawn" / "stripes"), "--method", "patchcore", "--out", str(tmp_path / "model")]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert "Weighted PatchCore of stripes" in result.output
    assert adn.load(tmp_path / "model").data.n_fitted == 4


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        (("auto", "auto", "auto"), ("differnet", "none")),
        (("patchcore", "auto", "auto"), ("patchcore", "places")),
        (("patchcore", "none", "auto"), ("patchcore", "none")),
        (("auto", "places", "auto"), ("patchcore", "places")),
        (("auto", "auto", "maximum"), ("patchcore", "places")),
        (("auto", "auto", "reweighted"), ("patchcore", "none")),
        (("auto", "cbam", "auto"), ("differnet", "cbam")),
    ],
)
def test_the_command_trains_the_method_that_has_what_is_asked_for(asked, taken):
    method, variant = _method_and_variant(*asked)
    assert (method, variant) == taken
    readout = {} if asked[2] == "auto" else {"readout": asked[2]}
    adn.Options(variant, method=method, **readout)  # which would refuse what does not go together


def test_explain_shows_the_first_map_and_the_nearest_normal_place_in_words(detector, tmp_path):
    model, picture, out = detector.save(tmp_path / "model"), tmp_path / "part.png", tmp_path / "map.png"
    Image.fromarray(with_defect(stripes(51))).save(picture)
    result = CliRunner().invoke(app, ["explain", str(model), str(picture), "--out", str(out)])
    assert result.exit_code == 0, result.output
    shows, nearest, highest = result.output.splitlines()
    assert shows == detector.what_it_shows("distance") and highest.startswith("Highest value: ")
    assert nearest == str(detector.nearest_normal(with_defect(stripes(51))))
    told = NearestNormal((0.25, 0.6), 2, (0.5, 0.75), 3.14159)
    assert str(told) == (
        "The place farthest from all normal ones is at 60 % of the width and 25 % of the height (distance 3.14). It "
        "looks most like the place at 75 % of the width and 50 % of the height of training image 3."
    )
    asked = ["explain", str(model), str(picture), "--out", str(out), "--method", "grad-cam"]
    refused = CliRunner().invoke(app, asked)
    assert isinstance(refused.exception, AttentDifferNetError) and "PatchCore has no grad-cam map" in str(
        refused.exception
    )


def test_every_map_has_a_title_and_can_be_asked_for():
    assert set(get_args(MapName)) == set(METHOD_TITLES)


def test_evaluate_and_score_write_it_as_a_method(detector, tmp_path):
    category, model = tmp_path / "drawn" / "stripes", detector.save(tmp_path / "model")
    for name, image in (("good/0", stripes(50)), ("noise/0", with_defect(stripes(51)))):
        (category / "test" / name).parent.mkdir(parents=True)
        Image.fromarray(image).save(category / "test" / f"{name}.png")
    (category / "train" / "good").mkdir(parents=True)
    Image.fromarray(stripes(0)).save(category / "train" / "good" / "0.png")
    evaluated = CliRunner().invoke(app, ["evaluate", str(model), str(category), "--results", str(tmp_path)])
    assert evaluated.exit_code == 0 and "AUROC 1.0000" in evaluated.output, evaluated.output
    (run,) = records.runs_of(tmp_path).values()
    assert run.run == "drawn-stripes-patchcore-tf_efficientnet_lite0-s0"
    assert (run.variant, run.backbone, run.epochs, run.n_views) == ("patchcore", "tf_efficientnet_lite0", 0, 1)
    assert CliRunner().invoke(app, ["summarise", str(tmp_path)]).exit_code == 0
    stored = records.read_scores(records.score_path(tmp_path, "drawn", "stripes", run.run))
    scored = CliRunner().invoke(app, ["score", str(model), str(category / "test" / "noise")])
    assert scored.exit_code == 0 and f"{stored['score'].max():.5g}"[:-1] in scored.output, scored.output


# -- with attention


def attended(variant="se", keep="always", n=12):
    options = dataclasses.replace(OPTIONS, variant=variant, attention=AttentionConfig(keep=keep))
    return adn.fit([stripes(seed) for seed in range(n)], options, data=adn.DataCard("drawn", "stripes"))


def test_gates_at_one_are_patchcore_without_attention(detector):
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    network = detector.model.network.network
    for variant in ("none", "se", "cbam"):
        for one, same in zip(AttendedMaps(network, variant, AttentionConfig())(images), network(images), strict=True):
            assert torch.equal(one, same), variant


@pytest.mark.parametrize("variant", ["se", "cbam"])
def test_trained_gates_change_the_maps_and_come_back_from_the_checkpoint(detector, variant, tmp_path, monkeypatch):
    monkeypatch.setitem(attention_training.STEPS, "separation", 5)
    found = attended(variant)
    image = with_defect(stripes(51))
    assert found.title == f"PatchCore ({variant.upper()})" and found.options.key == f"patchcore-{variant}"
    assert found.findings.gates_kept and not found.findings.gates_judged, "kept whatever they do"
    assert any(float(tensor.abs().max()) > 0 for name, tensor in found.tensors().items() if "excite" in name)
    assert found.inspect(image).anomalous
    assert not np.array_equal(found.inspect(image).map(), detector.inspect(image).map())
    again = adn.load(found.save(tmp_path / "model"))
    assert again.fingerprint == found.fingerprint != detector.fingerprint
    assert again.inspect(image).score == found.inspect(image).score
    assert np.array_equal(again.inspect(image).map(), found.inspect(image).map())
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"# PatchCore ({variant.upper()}): stripes" in card and "behind each feature map" in card


def test_weights_of_places_come_back_from_the_checkpoint(detector, tmp_path):
    found = attended("places")
    assert found.title == "Weighted PatchCore" and "weights of places, measured on normal" in found.choices
    image = with_defect(stripes(51))
    assert found.inspect(image).anomalous and found.inspect(image).score != detector.inspect(image).score
    again = adn.load(found.save(tmp_path / "model"))
    assert again.fingerprint == found.fingerprint != detector.fingerprint
    assert again.inspect(image).score == found.inspect(image).score
    card = (tmp_path / "model" / "README.md").read_text()
    assert "farther normal images lie from each other" in card and "1 view (none)" in card
    assert "Placement" not in card, "weights of places have none"


@pytest.mark.parametrize("damage", ["missing", "negative", "nan", "flat", "empty", "double"])
def test_damaged_weights_of_places_are_refused(damage, tmp_path):
    folder = attended("places", n=4).save(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    weight = tensors.pop("place_weight")
    damaged = {"negative": -weight, "nan": weight * math.nan, "flat": weight.flatten(), "empty": weight[:0]}
    damaged["double"] = weight.double()
    if damage in damaged:
        tensors["place_weight"] = damaged[damage].contiguous()
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {checkpoint.CHECKSUM: None}))  # look at the tensors
    with pytest.raises(CheckpointError, match=r"no bank|not finite"):
        adn.load(folder)


def test_training_moves_defects_away_from_normal_images(monkeypatch):
    """As its objective says, on the images that it is measured on: the same draws, with gates that move and without."""
    softplus, losses = patchcore_attention.F.softplus, {}
    for rate in (0.0, attention_training.LEARNING_RATE["separation"]):
        told = losses[rate] = []
        monkeypatch.setattr(
            patchcore_attention.F, "softplus", lambda x, told=told: told.append(float(x.detach().mean())) or softplus(x)
        )
        monkeypatch.setitem(attention_training.LEARNING_RATE, "separation", rate)
        attended(n=6)
    still, moving = losses.values()
    assert len(still) == len(moving) == attention_training.n_steps("separation", 3)
    assert moving[0] == still[0] and np.mean(moving[-7:]) < np.mean(still[-7:]) - 0.02


@pytest.mark.parametrize("variant", ["se", "places"])
def test_gates_are_kept_only_where_they_help(detector, variant, monkeypatch):
    monkeypatch.setitem(attention_training.STEPS, "separation", 2)
    few = attended(variant, keep="if_better", n=7)
    assert not few.findings.gates_kept, "two images are too few to judge"
    assert "too few images to judge" in few.card() and "too few images to judge" in few.choices
    assert variant == "se" or "too few images to judge the weights" in few.what_it_shows("distance")
    assert "AttentDifferNet (e Silva" not in few.card(), "these are PatchCore's"
    for helps in (True, False):
        monkeypatch.setattr(patchcore_attention, "beats", lambda *_, helps=helps: helps)
        found = attended(variant, keep="if_better")
        assert found.findings.gates_kept == helps and len(found.findings.gates_judged) == 2
        assert ("did not measurably help" in found.card()) == (not helps) and "than DifferNet" not in found.card()
        same = found.inspect(stripes(50)).score == detector.inspect(stripes(50)).score
        assert same != helps, "left at 1 it is PatchCore without attention"
        assert ("left at 1" in found.choices) != helps


def test_images_of_other_aspects_and_of_standardised_exposure_are_attended(monkeypatch):
    monkeypatch.setitem(attention_training.STEPS, "separation", 1)
    options = dataclasses.replace(OPTIONS, variant="se", resize="keep_aspect", exposure="standardised")
    wide = [stripes(seed, 90, 180 + 10 * (seed % 3)) for seed in range(10)]
    found = adn.fit(wide, options, data=adn.DataCard("drawn", "stripes"))
    assert math.isfinite(found.inspect(stripes(50, 90, 200)).score)


@pytest.fixture(scope="module")
def with_gates(tmp_path_factory):
    """A model folder with gates: leave it as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(attention_training.STEPS, "separation", 1)
        return attended(n=4).save(tmp_path_factory.mktemp("gates") / "model")


@pytest.mark.parametrize("damage", ["missing", "shape", "nan", "more", "type"])
def test_damaged_gates_are_refused(damage, with_gates, tmp_path):
    folder = shutil.copytree(with_gates, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.startswith("attention."))
    changed = {
        "missing": lambda: tensors.pop(name),
        "shape": lambda: tensors.update({name: tensors[name][:1].contiguous()}),
        "nan": lambda: tensors.update({name: tensors[name] * math.nan}),
        "more": lambda: tensors.update({"attention.9": torch.zeros(1)}),
        "type": lambda: tensors.update({name: tensors[name].double()}),
    }
    changed[damage]()
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {checkpoint.CHECKSUM: None}))  # look at the tensors
    with pytest.raises(CheckpointError, match=r"attention blocks|not finite"):
        adn.load(folder)
