"""One call per user action: scores, verdicts and maps as each model gives them alone."""

import io

import numpy as np
import pytest
from PIL import Image

from attentdiffernet.explain import explain, methods_of, relative_heat
from attentdiffernet.findings import Calibration
from attentdiffernet.scoring import score_image
from attentdiffernet.study.statistics import percentile_among
from demo import shipped
from demo.service import catalogue
from demo.service.comparison import compare, heat_of

KEY = "sample/wafer"


@pytest.fixture(scope="module")
def pixels():
    """A rectangle with no symmetry, darker than ImageNet's images, (90, 150, 3) uint8."""
    return (80 * np.random.default_rng(5).random((90, 150, 3)) ** 2).astype(np.uint8)


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
    assert comparison.heat.scale == heat.scale == pytest.approx(scale, rel=1e-4)
    for variant in models:
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
