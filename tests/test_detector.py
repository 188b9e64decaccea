"""The two verbs: what a verdict says, which images are taken, that one bad file stops nothing, that nothing is lost."""

import dataclasses
import doctest
import functools
import math
import shutil
from types import GeneratorType

import numpy as np
import pytest
import torch
from PIL import Image

import attentdiffernet as adn
from attentdiffernet.category import InspectionDataset
from attentdiffernet.detector import Detector
from attentdiffernet.errors import AttentDifferNetError, DatasetError, ImageError
from attentdiffernet.explain import relative_heat
from attentdiffernet.figures.overlay import overlay
from attentdiffernet.images import read_image
from attentdiffernet.options import AttentionConfig, FlowConfig, Options
from attentdiffernet.scoring import score_image, score_until_settled
from attentdiffernet.study.statistics import percentile_among

SMALL = Options(
    flow=FlowConfig(n_blocks=1, hidden_width=8, hidden_layers=1),
    weights="random",
    image_size=63,
    n_scales=1,
    views="flips",
    resize="squeeze",
    exposure="as_is",
    readout="z2_of_mean",
    epochs=2,
)


@pytest.fixture(scope="module")
def fitted(category):
    return adn.fit(InspectionDataset(category).train, SMALL)


@pytest.fixture(scope="module")
def paths(category):
    return [image.path for image in InspectionDataset(category).test]


def same_pixels(name, a, b):
    assert np.array_equal(np.asarray(a), np.asarray(b)), name


# -- one image


def test_a_verdict_says_all_that_is_known(fitted, paths):
    verdict = fitted.inspect(paths[0])
    model, calibration = fitted.model, fitted.calibration
    score = score_image(model, model.prepare(read_image(paths[0])), calibration.n_views)
    assert verdict.score == pytest.approx(score, rel=1e-6)
    assert (verdict.name, verdict.threshold, verdict.n_views) == (str(paths[0]), calibration.threshold, 4)
    assert verdict.percentile == percentile_among(calibration.scores, verdict.score)
    assert verdict.anomalous == (verdict.score > verdict.threshold) and verdict.error == ""
    assert 0 < verdict.standard_error < verdict.score


def test_an_image_may_be_a_path_an_open_file_or_an_array(fitted, paths):
    with open(paths[0], "rb") as file:
        verdicts = [fitted.inspect(image) for image in (paths[0], str(paths[0]), read_image(paths[0]), file)]
    assert len({verdict.score for verdict in verdicts}) == 1
    assert [verdict.name for verdict in verdicts] == [str(paths[0])] * 2 + ["image 1"] * 2


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (np.zeros((20, 20, 3)), r"must be an array \(H, W, 3\) of uint8, got \(20, 20, 3\) of float64"),
        (np.zeros((20, 20), np.uint8), r"must be an array \(H, W, 3\) of uint8"),
        (np.zeros((20, 8, 3), np.uint8), "needs 16 px or more per side, got 8 x 20 px"),
        ("gone.png", r"There is no file gone\.png"),
    ],
)
def test_what_is_not_an_image_is_an_error(image, complaint, fitted):
    with pytest.raises(ImageError, match=complaint):
        fitted.inspect(image)


def test_other_numbers_of_views(fitted, paths):
    assert fitted.inspect(paths[0], n_views=2).n_views == 2
    assert math.isnan(fitted.inspect(paths[0], n_views=1).standard_error)
    with pytest.raises(AttentDifferNetError, match="1 to 256 views, got 0"):
        fitted.inspect(paths[0], n_views=0)


def test_an_early_verdict_has_the_percentile_of_the_score_that_it_shows(fitted, paths):
    early = {"1": 3.0, "2": 2.0}  # after one view, scores are three times too high
    calibration = dataclasses.replace(
        fitted.calibration, threshold=1e-9, early_ratio=early, settling={"1": 1.0, "2": 1.0}, confidence=0.97
    )
    detector = type(fitted)(fitted.model, fitted.options, fitted.findings, calibration, fitted.data)
    verdict = detector.inspect(paths[0], until_settled=True)
    raw = detector.inspect(paths[0], n_views=1)
    assert (verdict.n_views, verdict.score) == (1, pytest.approx(raw.score / 3))
    assert verdict.percentile == percentile_among(calibration.scores, verdict.score)
    prepared = detector.model.prepare(read_image(paths[0]))
    assert verdict.score == score_until_settled(detector.model, calibration, prepared).value


def test_until_settled_takes_as_many_views_as_were_asked_for_at_most(fitted, paths):
    never = dataclasses.replace(fitted.calibration, n_views=100, early_ratio={}, settling={}, confidence=0.0)
    detector = fitted.with_calibration(never)
    assert detector.inspect(paths[0], n_views=2, until_settled=True).n_views == 2
    assert (fitted.usual_views(until_settled=True), detector.usual_views(until_settled=True)) == (64, 100)


# -- maps


@pytest.mark.parametrize("method", ["grad-cam", "attention", "gradient"])
def test_maps_have_the_images_own_size_in_units_of_normals(method, fitted, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 110, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "part.png")
    verdict = fitted.inspect(tmp_path / "part.png")
    heat = verdict.map(method)
    raw, reference = fitted.raw_map(pixels, method), fitted.calibration.map_references[method]
    assert heat.shape == (70, 110) and heat.dtype == np.float32 and heat.min() >= 0
    assert heat.mean() == pytest.approx(raw.mean() / reference, rel=0.2)
    assert heat.max() <= raw.max() / reference * (1 + 1e-6)
    values, scale = relative_heat({"": raw}, {"": reference})
    same_pixels("overlay", verdict.overlay(method), overlay(pixels, values[""], *scale))


def test_a_map_that_the_detector_lacks_is_an_error(fitted, paths):
    assert fitted.maps == ("grad-cam", "attention", "gradient")
    for ask in (fitted.inspect(paths[0]).map, fitted.inspect(paths[0]).overlay):
        with pytest.raises(AttentDifferNetError, match="DifferNet has no spatial-gate map; it has grad-cam, attention"):
            ask("spatial-gate")
    with pytest.raises(AttentDifferNetError, match="has no lime map"):
        fitted.raw_map(read_image(paths[0]), "lime")


# -- many images


def test_images_come_in_order_one_by_one_and_a_bad_one_stops_nothing(fitted, paths, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    told = []
    mixed = [paths[0], tmp_path / "bad.png", read_image(paths[1]), str(paths[2])]
    verdicts = fitted.inspect_all(mixed, progress=lambda *what: told.append(what))
    assert isinstance(verdicts, GeneratorType)
    first, bad, array, last = verdicts
    assert [v.name for v in (first, bad, array, last)] == [
        str(paths[0]), str(tmp_path / "bad.png"), "image 3", str(paths[2])
    ]  # fmt: skip
    assert bad.anomalous is None and math.isnan(bad.score) and bad.error.startswith("bad.png is not an image")
    with pytest.raises(ImageError, match=r"bad\.png is not an image"):
        bad.map()
    for verdict, path in ((first, paths[0]), (array, paths[1]), (last, paths[2])):
        assert verdict.score == pytest.approx(fitted.inspect(path).score, rel=1e-6)
    assert told == [("scoring", done, 4) for done in (1, 2, 3, 4)]


def test_a_map_may_be_asked_for_within_the_loop_and_loops_may_run_side_by_side(fitted, paths):
    for verdict in fitted.inspect_all(paths[:2]):
        assert not torch.is_inference_mode_enabled()
        same_pixels(verdict.name, verdict.map("grad-cam"), fitted.inspect(verdict.name).map("grad-cam"))
    for one, other in zip(fitted.inspect_all(paths), fitted.inspect_all(paths), strict=True):
        assert one.score == other.score
    assert not torch.is_inference_mode_enabled()


def test_folders_and_globs_are_searched(fitted, category, paths):
    names = [verdict.name for verdict in fitted.inspect_all(category / "test")]
    assert sorted(names) == sorted(map(str, paths))
    assert [v.name for v in fitted.inspect_all(f"{category}/test/good/*.png")] == [
        name for name in names if "/good/" in name
    ]
    with pytest.raises(DatasetError, match="There is no file or folder"):
        list(fitted.inspect_all(category / "gone"))


# -- fitting


def test_normals_may_be_a_folder_a_glob_files_or_arrays(fitted, category):
    folder = category / "train" / "good"
    files = sorted(folder.iterdir())
    for images in (folder, f"{folder}/*.png", files, list(map(str, files))):
        assert adn.fit(images, SMALL).fingerprint == fitted.fingerprint
    arrays = adn.fit([read_image(path) for path in files], SMALL)
    assert arrays.calibration.n_views == 4 and arrays.data.n_fitted == fitted.data.n_fitted


def test_another_readout_shares_the_model_and_leaves_it_as_it_is(fitted, paths):
    other = fitted.with_readout("z2")
    assert (other.findings.readout, fitted.findings.readout) == ("z2", "z2_of_mean")
    assert other.inspect(paths[0]).score > fitted.inspect(paths[0]).score, "averaging takes noise away"
    assert other.fingerprint != fitted.fingerprint


def test_a_detector_survives_its_folder(fitted, paths, tmp_path):
    again = adn.load(fitted.save(tmp_path / "model"))
    assert isinstance(again, Detector)
    for part in ("options", "findings", "calibration", "data", "title", "maps", "fingerprint"):
        assert getattr(again, part) == getattr(fitted, part), part
    assert again.card() == fitted.card() == (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert again.inspect(paths[0]).score == fitted.inspect(paths[0]).score


def test_the_example_of_the_package_runs(category, tmp_path, monkeypatch):
    """With quicker options than the default ones."""
    shutil.copytree(category, tmp_path / "wafer")
    monkeypatch.chdir(tmp_path)
    quick = {"image_size": 126, "n_scales": 1, "epochs": 2, "attention": AttentionConfig(training="untrained")}
    quick |= {"views": "flips", "resize": "squeeze", "readout": "z2_of_mean"}
    monkeypatch.setattr(adn, "Options", functools.partial(Options, **quick), raising=False)
    done = doctest.testmod(adn)
    assert done.attempted >= 8 and done.failed == 0
    assert (tmp_path / "donut-map.png").is_file()
