"""The log of a run: the time of each stage, and no name of a file."""

import logging
import re

import pytest

from attentdiffernet.options import FlowConfig, Options
from attentdiffernet.stages import Stages, logged

pytestmark = pytest.mark.quick
SECONDS = r"\d+\.\d\d s"


@pytest.fixture
def log(caplog):
    """log() -> its lines since the last call."""
    caplog.set_level(logging.INFO, logger="attentdiffernet")

    def lines():
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    return lines


def test_stages_that_come_again_are_added_up_and_an_early_end_is_said(log):
    stages = Stages("sample/wafer by se")
    with stages.logged():
        for name in ("features", "scores", "features"):
            with stages.stage(name):
                pass
    assert re.fullmatch(rf"sample/wafer by se: features {SECONDS}, scores {SECONDS}", log()[0])

    def run():
        with Stages("left").logged():
            yield 1
            yield 2

    for _ in run():
        break
    assert log() == ["left: nothing done; ended early (GeneratorExit)"]


def test_progress_comes_through_and_its_stages_are_logged(log):
    told = []
    with logged("fit se", lambda *step: told.append(step)) as progress:
        for step in (("features", 0, 2), ("features", 2, 2), ("flow", 1, 1)):
            progress(*step)
    assert told == [("features", 0, 2), ("features", 2, 2), ("flow", 1, 1)]
    assert re.fullmatch(rf"fit se: preparing {SECONDS}, features {SECONDS}, flow {SECONDS}", log()[0])


def test_a_training_and_an_inspection_say_how_long_they_took_without_names_of_files(log, category, tmp_path):
    from attentdiffernet.methods import fit

    fixed = {"views": "none", "resize": "squeeze", "exposure": "as_is", "readout": "z2_of_mean", "epochs": 1}
    views = {"training_views": 1, "scoring_views": 1, "image_size": 63, "n_scales": 1}
    options = Options(weights="random", flow=FlowConfig(n_blocks=2, hidden_width=16, hidden_layers=1), **fixed, **views)
    detector = fit(category / "train" / "good", options)
    images = sorted((category / "test" / "good").iterdir())
    list(detector.inspect_all(images))
    fitted, inspected = log()
    assert re.match(rf"fit none: preparing {SECONDS}, [a-z ]+ {SECONDS}", fitted)
    assert re.fullmatch(rf"inspect by none: scoring {SECONDS}", inspected)
    assert not any(image.stem in line for image in images for line in (fitted, inspected))
