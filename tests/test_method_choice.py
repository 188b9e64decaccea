"""The rule that chooses the method: right where that is known, and by its three cases."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from attentdiffernet import method_choice
from attentdiffernet.method_choice import choose_method
from attentdiffernet.options import FlowConfig, Options, PatchCoreConfig
from attentdiffernet.patchcore_detector import PatchCoreDetector

FLOW = FlowConfig(n_blocks=1, hidden_width=8, hidden_layers=1)
# One size for both: AlexNet of random weights at one scale, and a tiny network of timm.
ASKED = Options(flow=FLOW, weights="random", image_size=64, n_scales=1, epochs=1, calibration_fraction=0.4)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
    y, x = np.mgrid[0:64, 0:64]
    for k in range(12):
        grey = 128 + 60 * np.sin(x / 3) - 90 * (np.hypot(x - 22, y - 22) < 12) + 4 * rng.normal(size=(64, 64))
        Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB").save(folder / f"{k:02d}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def examined(parts):
    """What DifferNet's rule finds on the parts, whatever is made up afterwards."""
    return method_choice.examine(parts, ASKED)


def made_up(monkeypatch, differnet, patchcore, better):
    areas = iter([differnet, patchcore])
    monkeypatch.setattr(method_choice, "auroc", lambda labels, scores: next(areas))
    monkeypatch.setattr(method_choice, "beats", lambda labels, one, other, p_value: better)


@pytest.mark.parametrize(
    ("differnet", "patchcore", "better", "method"),
    [
        (0.90, 0.91, False, "patchcore"),
        (0.91, 0.90, False, "patchcore"),
        (0.99, 0.90, True, "differnet"),
        (0.50, 0.66, False, "differnet"),
        (0.60, 0.68, False, "patchcore"),
    ],
)
def test_the_three_cases(differnet, patchcore, better, method, parts, examined, monkeypatch):
    made_up(monkeypatch, differnet, patchcore, better)
    monkeypatch.setattr(method_choice, "examine", lambda *_: examined)
    monkeypatch.setattr(method_choice, "_patchcore_scores", lambda *_: None)
    options, findings = choose_method(parts, ASKED)
    assert (options.method, options.variant) == (method, {"patchcore": "places", "differnet": "none"}[method])
    assert findings.by_method == {"differnet": differnet, "patchcore": patchcore}
    assert (findings.readout == "mean_of_highest") == (method == "patchcore")


def test_one_calibrated_image_says_nothing_of_places(parts, examined, monkeypatch):
    made_up(monkeypatch, 0.90, 0.91, better=False)
    monkeypatch.setattr(method_choice, "examine", lambda *_: examined)
    monkeypatch.setattr(method_choice, "_patchcore_scores", lambda *_: None)
    options, _ = choose_method(parts, replace(ASKED, patchcore=PatchCoreConfig(n_calibrated=1)))
    assert options.key == "patchcore"


def test_both_are_judged_on_the_same_images(parts, monkeypatch):
    """Each has scores of its own for the same normals, with and without defects; the test images are photographs."""
    seen = []
    true_auroc = method_choice.auroc
    monkeypatch.setattr(method_choice, "auroc", lambda *both: seen.append(both) or true_auroc(*both))
    options, findings = choose_method(parts, ASKED)
    (labels, one), (again, other) = seen
    assert np.array_equal(labels, again) and len(labels) == len(one) == len(other) == 3 * (labels == 0).sum()
    assert findings.by_method == {"differnet": true_auroc(labels, one), "patchcore": true_auroc(labels, other)}
    assert choose_method(parts, ASKED) == (options, findings), "repeatable"


def test_without_options_fit_takes_what_the_rule_chooses(parts, monkeypatch):
    import attentdiffernet as adn
    from attentdiffernet import methods

    asked = Options(method="patchcore", weights="random", image_size=64)
    findings = PatchCoreDetector.choose(parts, asked)
    monkeypatch.setattr(methods, "choose_method", lambda *_: (asked, findings))
    detector = adn.fit(parts)
    assert detector.key == "patchcore" and detector.findings.readout == findings.readout
