"""One call per user action: scores, verdicts and maps as each model gives them alone."""

import csv
import dataclasses
import io
import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from attentdiffernet.datasets.sample import draw, file_of
from attentdiffernet.errors import AttentDifferNetError, DatasetError
from attentdiffernet.explain import explain, methods_of, relative_heat
from attentdiffernet.findings import Calibration
from attentdiffernet.scoring import RunningScore, score_image
from attentdiffernet.study.statistics import percentile_among
from demo import shipped
from demo.service import catalogue, likeness
from demo.service import comparison as service
from demo.service.attention import attention_view, grad_cam_view
from demo.service.comparison import compare, heat_of, maps_offered
from demo.service.downloads import MapsZip, numbers_csv, paper_grid
from demo.service.stranger import least_place, nearly

KEY = "sample/wafer"


@pytest.fixture(scope="module")
def pixels():
    """A rectangle with no symmetry, darker than ImageNet's images, (90, 150, 3) uint8."""
    return (80 * np.random.default_rng(5).random((90, 150, 3)) ** 2).astype(np.uint8)


@pytest.fixture
def with_patchcore(monkeypatch, models):
    monkeypatch.setattr(shipped, "MODELS", models)
    return catalogue.detectors(KEY)


@pytest.fixture
def ship(monkeypatch, tmp_path, small, detector):
    """ship(none={...}, se={...}) -> models of these configurations, as if they were the shipped ones."""

    def build(**configs):
        for variant, config in configs.items():
            model = small(variant, **{"views": "flips", "image_size": 80, **config})
            calibration = Calibration(
                threshold=0.012,
                n_views=4,
                false_positive_rate=0.25,
                scores=(0.002, 0.006, 0.012),
                map_references=dict.fromkeys(methods_of(model.config), 0.5),
                early_ratio={"1": 3.0, "2": 2.0},
            )
            detector(model=model, calibration=calibration).save(tmp_path / KEY / variant)
        monkeypatch.setattr(shipped, "MODELS", tmp_path)
        return catalogue.detectors(KEY)

    return build


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return io.BytesIO(stream.getvalue())


def test_variants_of_different_input_get_the_scores_and_maps_they_have_alone(ship, pixels):
    models = ship(none={}, se={"resize": "keep_aspect"}, cbam={"exposure": "standardised", "image_size": 96})
    *_, comparison = compare(png(pixels), KEY, "gradient", "part.png")
    assert list(comparison.verdicts) == ["none", "se", "cbam"]
    maps = {}
    for variant, found in models.items():
        alone = found.model.prepare(pixels)
        expected = score_image(found.model, alone, found.calibration.n_views)
        assert comparison.verdicts[variant].score == pytest.approx(expected, rel=1e-5), variant
        maps[variant] = explain(found.model, alone, "gradient")
    expected, scale = relative_heat(maps, dict.fromkeys(maps, 0.5))
    _, heat = heat_of(png(pixels), KEY, "gradient")
    for variant in models:
        assert comparison.heat.scales[variant] == heat.scales[variant] == pytest.approx(scale, rel=1e-4)
        np.testing.assert_allclose(comparison.heat.heat[variant], expected[variant], rtol=1e-3)
        np.testing.assert_allclose(heat.heat[variant], expected[variant], rtol=1e-3)


def test_a_provisional_percentile_belongs_to_the_score_that_is_shown(ship, pixels):
    models = ship(none={})
    steps = [comparison.verdicts["none"] for comparison in compare(png(pixels), KEY, "gradient", "part.png")]
    assert [(v.n_views, v.provisional) for v in steps] == [(2, True), (4, False), (4, False)]
    model = models["none"].model
    raw = score_image(model, model.prepare(pixels), 2)
    assert steps[0].score == pytest.approx(raw / 2, rel=1e-5), "half of it is expected after all views"
    for verdict in steps:
        assert verdict.percentile == pytest.approx(100 / 3) or not verdict.provisional
        assert verdict.percentile == percentile_among(verdict.calibration_scores, verdict.score)


def test_patchcore_says_here_what_it_says_alone(with_patchcore):
    pixels, alone = draw("wafer", "donut", seed=3).image, with_patchcore["patchcore-places"]
    assert list(with_patchcore) == ["none", "se", "cbam", "patchcore-places"]
    steps = list(compare(png(pixels), KEY, "gradient", "part.png", n_views=2, chosen=["patchcore-places"]))
    expected = alone.inspect(pixels)
    for step in steps:
        assert list(step.verdicts) == ["patchcore-places"] and not step.verdicts["patchcore-places"].provisional
        assert step.verdicts["patchcore-places"].score == pytest.approx(expected.score, rel=1e-6)
        assert step.verdicts["patchcore-places"].anomalous == expected.anomalous
    final = steps[-1]
    assert final.heat.methods == {"patchcore-places": "distance"}, "it has no gradient map"
    raw = alone.raw_map(pixels, "distance") / alone.map_reference("distance")
    np.testing.assert_allclose(2 ** final.heat.heat["patchcore-places"], raw, rtol=1e-3)
    near = alone.nearest_normal(pixels)
    likeness = final.likenesses["patchcore-places"]
    assert likeness.times == pytest.approx(near.distance / alone.map_reference("distance"))
    side = pixels.shape[0] // 4
    assert likeness.found.shape == (side, side, 3) and likeness.normal is None, "trained on 8 images of the test's own"
    peak_x, peak_y = final.heat.peak("patchcore-places")
    assert abs(peak_y - near.position[0]) < 0.1 and abs(peak_x - near.position[1]) < 0.1

    (row,) = csv.DictReader(io.StringIO(numbers_csv([final])))
    assert (row["detector"], float(row["score"])) == ("patchcore-places", pytest.approx(expected.score, rel=1e-6))
    with MapsZip(stream := io.BytesIO()) as packed:
        packed.add(final)
    with zipfile.ZipFile(stream) as archive:
        assert {"01-part/patchcore-places-distance.png", "01-part/colour-bar-distance.png"} <= set(archive.namelist())
        (told,) = json.loads(archive.read("numbers.json"))["images"]
    assert told["verdicts"]["patchcore-places"]["score"] == pytest.approx(expected.score, rel=1e-6)
    assert paper_grid([final], ["patchcore-places"]).axes
    with pytest.raises(DatasetError, match="no detector 'yolo'"):
        next(compare(png(pixels), KEY, chosen=["yolo"]))


def test_scores_are_remembered_by_detector(ship, pixels, monkeypatch):
    ship(none={}, se={})
    *_, first = compare(png(pixels), KEY, "gradient", chosen=["se"])
    asked = []
    once = service.score_progressively

    def counting(models, *rest, **options):
        asked.append(list(models))
        return once(models, *rest, **options)

    monkeypatch.setattr(service, "score_progressively", counting)
    *_, both = compare(png(pixels), KEY, "gradient")
    assert asked == [["none"]] and list(both.verdicts) == ["none", "se"]
    assert both.verdicts["se"] == first.verdicts["se"]


def test_the_nearest_normal_image_is_drawn_again_where_the_model_knew_the_whole_sample():
    file = shipped.training_image("sample/wafer", 5, 160)
    assert (np.asarray(Image.open(io.BytesIO(file))) == draw("wafer", "good", seed=5).image).all()
    assert shipped.training_image("sample/wafer", 5, 12) is None, "another set of images"
    assert shipped.training_image("mvtec_ad/bottle", 5, 209) is None, "not on this machine"


def test_a_map_that_is_empty_for_most_images_is_not_offered(monkeypatch):
    assert "grad-cam" in maps_offered(KEY)
    monkeypatch.setattr(shipped, "empty_maps", lambda key: frozenset({"grad-cam"}))
    assert list(maps_offered(KEY)) == ["attention", "gradient"]


def test_examples_say_what_they_show(tmp_path):
    (tmp_path / "masks").mkdir()
    for name in ("good.png", "hard-broken_tooth.png", "obvious-dent.jpg", "masks/obvious-dent.png", "stain.jpg"):
        mask = np.zeros((40, 40), np.uint8)
        mask[10:20, 10:30] = 255
        Image.fromarray(mask).save(tmp_path / name)
    found = catalogue._examples(tmp_path)
    assert [e.title for e in found] == ["stain", "dent, obvious", "broken tooth, hard", "good part"]
    (line,) = found[1].outline
    np.testing.assert_allclose(line.mean(axis=0), [0.5, 0.375], atol=0.02)
    assert found[2].mask is None and found[2].outline == []


# -- grey values of more than 8 bits


def of_12_bits(ship, *variants):
    """Models as of `ship`; these see 4095 as white."""
    for variant, detector in ship(none={}, se={}).items():
        if variant in variants:
            detector.findings = dataclasses.replace(detector.findings, value_range=4095.0)
            detector.save(shipped.MODELS / KEY / variant)


@pytest.fixture
def deep(tmp_path):
    """A file of 12 bits, of middle grey."""
    Image.fromarray(np.full((90, 150), 2048, np.uint16)).save(tmp_path / "deep.tif")
    return tmp_path / "deep.tif"


def test_every_view_of_an_image_is_on_the_range_of_grey_that_its_detector_was_trained_on(ship, deep, monkeypatch):
    of_12_bits(ship, "none", "se")
    assert shipped.value_range(KEY) == 4095
    *_, compared = compare(deep, KEY)
    shown = [compared.image, heat_of(deep, KEY, "gradient")[0], attention_view(deep, KEY, "se").image]
    shown.append(grad_cam_view(deep, KEY, "se", "features", 0)[0])
    monkeypatch.setattr(shipped, "training_image", lambda *_: deep.read_bytes())
    shown.append(likeness._training_image(KEY, 0, catalogue.detectors(KEY)["none"]))
    assert [int(image.mean()) for image in shown] == [128] * 5


def test_detectors_of_different_ranges_of_grey_are_not_shown_one_picture(ship, deep):
    of_12_bits(ship, "se")
    with pytest.raises(DatasetError, match=r"\(DifferNet 0 to 255, AttentDifferNet \(SE\) 0 to 4095\); choose one"):
        list(compare(deep, KEY))
    *_, alone = compare(deep, KEY, chosen=["se"])
    assert int(alone.image.mean()) == 128


def test_models_of_visitors_take_no_place_of_shipped_ones(ship, tmp_path, monkeypatch):
    one = ship(none={})["none"]
    for k in range(catalogue.MAX_MODELS + 1):
        one.save(tmp_path / f"visitor {k}")
        catalogue.loaded(tmp_path / f"visitor {k}")
    assert catalogue.detectors(KEY)["none"] is one


# -- pictures of another thing


@pytest.fixture
def measured_places(monkeypatch):
    """measured_places(own, other) -> detectors of two categories that score images by brightness: their own at `own`
    times the threshold, other things at `other` times."""
    from demo.service import stranger as module

    class Fixed:
        def __init__(self, times):
            self.times = times
            self.calibration = dataclasses.replace(Calibration.none(), threshold=2.0)

        def scores(self, images, n_views, until_settled, cache):
            for image in images:
                yield RunningScore(2.0 * self.times(image), float("nan"), 1)

    def info(key, title):
        return catalogue.CategoryInfo(key, title, "", "", "", ())

    infos = {"sample/gear": info("sample/gear", "Gear wheel (drawn)"), "mine/ant": info("mine/ant", "Ant (mine)")}
    of = {
        "sample/gear": Fixed(lambda image: 0.5 if image.mean() < 10 else 1e4),
        "mine/ant": Fixed(lambda image: 0.5 if 90 < image.mean() < 110 else 1e8),
    }
    monkeypatch.setattr(catalogue, "usable_categories", lambda: infos)
    monkeypatch.setattr(catalogue, "detector_names", lambda key: ["none"])
    monkeypatch.setattr(catalogue, "detectors", lambda key, chosen=None: {"none": of[key]})
    monkeypatch.setattr(
        shipped, "drawn_normals_of_others", lambda key, n: [png(np.full((32, 32, 3), 200, np.uint8)).read()]
    )

    def ask(grey, score, key="sample/gear"):
        image = np.full((32, 32, 3), grey, np.uint8)
        return module.stranger(image, infos[key], {"none": of[key]}, {"none": score})

    return ask


def test_a_picture_of_another_thing_is_told_and_its_category_offered(measured_places):
    found = measured_places(100, 2e4)
    assert found.fits.key == "mine/ant"
    assert found.sentence.startswith("This does not look like a gear wheel: ")
    assert found.sentence.endswith("It looks like an ant.")
    assert measured_places(250, 2e4).fits is None, "a stranger everywhere"


def test_a_strong_defect_is_no_other_thing(measured_places):
    assert measured_places(5, 1.9) is None, "below the threshold"
    way = 4 * nearly("sample/gear")  # other things lie at 10⁴ times the threshold
    assert measured_places(5, 2 * 10 ** (way - 0.1)) is None
    assert measured_places(5, 2 * 10 ** (way + 0.1)) is not None


def test_one_detector_that_finds_it_near_is_enough_and_no_other_is_asked(measured_places):
    (near,) = catalogue.detectors("sample/gear").values()
    detectors = {"near": near, "unasked": type("Unasked", (), {"calibration": near.calibration})()}
    scores = {"near": 3.0, "unasked": 9.0}
    assert 0 < least_place("sample/gear", detectors, scores, enough=0.5) < 0.5
    with pytest.raises(AttributeError, match="scores"):
        least_place("sample/gear", detectors, scores)


@pytest.mark.parametrize("name", ["donut/obvious_000.png", "scratch/obvious_001.png"])
def test_a_large_defect_is_no_other_thing_by_one_detector_alone(name):
    """DifferNet places these wafer maps as far as other things; the others of the category know better."""
    *_, last = compare(io.BytesIO(file_of("wafer", name)), "sample/wafer", chosen=["none"], n_views=2)
    assert last.verdicts["none"].score > last.verdicts["none"].threshold and last.stranger is None


def test_drawn_normals_of_others_leave_out_parts_of_the_same_name():
    assert len(shipped.drawn_normals_of_others("sample/wafer", 2)) == 4
    assert len(shipped.drawn_normals_of_others("wm811k/wafer", 1)) == 2
    assert len(shipped.drawn_normals_of_others("mvtec_ad/bottle", 1)) == 3


@pytest.mark.parametrize("key", ["sample/gear", "sample/insulator", "sample/wafer"])
def test_no_example_is_a_stranger_in_its_own_category_and_those_of_others_are(key):
    own = catalogue.category(key)
    one = catalogue.detector_names(key)[:1]
    for info in catalogue.usable_categories().values():
        if not info.key.startswith("sample/") or not info.examples:
            continue
        examples = info.examples[:1] if info.key != key else (info.examples[0], info.examples[-1])
        for example in examples:
            *_, last = compare(example.path, key, chosen=one, n_views=2)
            assert (last.stranger is None) == (info.key == key), example.path
            assert info.key == key or last.stranger.fits.key == info.key
            assert last.category == own


def test_models_that_cannot_be_read_are_said_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "MODELS", tmp_path / "models")
    monkeypatch.delenv(shipped.MODELS_ENVIRONMENT, raising=False)
    catalogue.check_files()  # none are there, which is no fault
    monkeypatch.setenv(shipped.MODELS_ENVIRONMENT, str(tmp_path / "models"))
    with pytest.raises(AttentDifferNetError, match="models cannot be read: No such file or directory"):
        catalogue.check_files()
    config = tmp_path / "models" / "sample" / "wafer" / "se" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text("{}")
    catalogue.check_files()
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("config.json"))  # root may read all
    with pytest.raises(AttentDifferNetError, match=r"config\.json cannot be read: Permission denied"):
        catalogue.check_files()
