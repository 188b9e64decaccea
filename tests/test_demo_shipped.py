"""What `demo.shipped` finds: the threshold of the model that made a run's scores, and files of test images."""

import functools
import json
from dataclasses import replace

import pytest

from attentdiffernet.study.runs import BEST_ON_TEST, RECIPE_COLUMNS
from demo import shipped


def config_of(m):
    path = shipped.MODELS / m.run.dataset / m.run.category / m.run.variant / "config.json"
    return json.loads(path.read_text())


@functools.cache
def with_threshold():
    return [m for m in shipped.measured() if shipped.shipped_threshold(m)]


def test_every_shipped_model_gives_its_threshold_to_one_recipe():
    folders = {"/".join(path.parts[-4:-1]) for path in shipped.MODELS.glob("*/*/*/config.json")}
    assert {f"{m.key}/{m.run.variant}" for m in with_threshold()} == folders
    for m in with_threshold():
        found, calibration = shipped.shipped_threshold(m), config_of(m)["calibration"]
        assert (found.threshold, list(found.scores)) == (calibration["threshold"], calibration["scores"])


def test_runs_with_other_blocks_do_not_get_the_threshold_of_the_default_ones():
    others = [m for m in shipped.measured() if m.run.blocks]
    assert len(others) > 8 and not any(shipped.shipped_threshold(m) for m in others)


@pytest.mark.parametrize("column", [*RECIPE_COLUMNS, "seed", "backbone"])
def test_a_run_that_differs_in_one_column_has_no_shipped_threshold(column):
    m = with_threshold()[0]
    value = getattr(m.run, column)
    given = {"selection": BEST_ON_TEST, "recipe": "paper"}
    other = given.get(column, value + 1 if isinstance(value, int) else f"{value}other")
    assert shipped.shipped_threshold(replace(m, run=replace(m.run, commit="0000000"))) is not None
    assert shipped.shipped_threshold(replace(m, run=replace(m.run, **{column: other}))) is None


def test_a_run_that_differs_in_an_option_without_a_column_has_no_shipped_threshold():
    m = next(m for m in with_threshold() if "options" in m.record and m.run.variant == "se")
    for changed in ({"feature_noise": 0.125}, {"data_seed": 7}, {"image_size": 384}):
        record = m.record | {"options": m.record["options"] | changed}
        assert shipped.shipped_threshold(replace(m, record=record)) is None
    assert shipped.shipped_threshold(replace(m, record=m.record | {"options": {"epochs": "many"}})) is None
    assert shipped.shipped_threshold(replace(m, record={})) is not None


def test_a_damaged_or_missing_model_has_no_threshold(monkeypatch, tmp_path):
    m = with_threshold()[0]
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    assert shipped.shipped_threshold(m) is None
    folder = tmp_path / m.run.dataset / m.run.category / m.run.variant
    folder.mkdir(parents=True)
    for text in ("{", "[]", "{}", '{"model": {"none": 1}}'):
        (folder / "config.json").write_text(text)
        assert shipped.shipped_threshold(m) is None
