"""The rule that chooses views, aspect and readout: right where that is known, blind to test images, repeatable."""

import dataclasses
import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from attentdiffernet import input_choice as choice
from attentdiffernet.errors import DatasetError
from attentdiffernet.input_choice import spread_of_exposure
from attentdiffernet.model import ModelConfig
from attentdiffernet.options import UNSTEADY_LIGHT, AttentionConfig, FlowConfig, Options
from attentdiffernet.scoring import RunningScore
from attentdiffernet.views import FEW_VIEWS
from attentdiffernet.words import input_title

FLOW = FlowConfig(n_blocks=1, hidden_width=8, hidden_layers=1)
SMALL = Options(flow=FLOW, weights="random", image_size=64, n_scales=1, epochs=1, calibration_fraction=0.4)


def choose(images, **given):
    return choice.choose(images, dataclasses.replace(SMALL, **given))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """parts(shape, n, light) -> n images of parts that all lie alike: stripes, and a disc left of the middle; light: by
    how much at most the exposure differs."""

    @functools.cache
    def make(height=96, width=96, n=10, light=0.0):
        folder = tmp_path_factory.mktemp("parts")
        rng = np.random.default_rng(height + width)
        y, x = np.mgrid[0:height, 0:width]
        for k in range(n):
            disc = np.hypot(x - width / 3 - rng.normal(), y - height / 3 - rng.normal()) < min(height, width) / 5
            grey = 128 + 60 * np.sin(x / 3) - 90 * disc + 4 * rng.normal(size=(height, width))
            grey *= 1 + light * (2 * k / (n - 1) - 1)
            Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB").save(folder / f"{k}.png")
        return sorted(folder.iterdir())

    return make


@pytest.fixture(scope="module")
def chosen(parts):
    """What is found on `parts()`."""
    return choose(parts())


@pytest.mark.usefixtures("global_state_kept")
def test_the_choice_is_one_of_those_compared_and_repeatable(parts, chosen):
    one, two = chosen, choose(parts())
    assert one == two
    assert set(one.by_input) == {"quarter turns", "flips", "none"}, "squares have no aspect to keep"
    title = "quarter turns" if one.views == "dihedral" else input_title(one.views, one.resize)
    assert title in one.by_input and one.readout in one.by_readout
    assert one.views != "flips" or one.by_input["flips"] == max(one.by_input.values())
    assert all(0 <= area <= 1 for area in [*one.by_input.values(), *one.by_readout.values()])
    if one.views in FEW_VIEWS:
        assert one.scoring_views == one.training_views == len(FEW_VIEWS[one.views])


def test_unsteady_light_is_taken_out_and_steady_light_kept(parts, chosen):
    steady, unsteady = chosen, choose(parts(light=0.5), views="none")
    assert (steady.exposure, unsteady.exposure) == ("as_is", "standardised")
    assert steady.exposure_varies < 0.02 and 0.2 < unsteady.exposure_varies < 0.5
    assert ModelConfig.of(SMALL, unsteady).exposure == "standardised"
    assert choose(parts(light=0.5), exposure="as_is", views="none").exposure == "as_is"


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """turned(at_any_angle) -> images of a bar with one thick end on black, all alike but for its angle."""

    def make(at_any_angle, n=30):
        folder, rng = tmp_path_factory.mktemp("turned"), np.random.default_rng(5)
        bar = Image.new("RGB", (96, 96))
        bar.paste((200, 180, 160), (18, 42, 78, 54))
        bar.paste((200, 180, 160), (62, 34, 78, 62))
        for k in range(n):
            angle = rng.uniform(0, 360) if at_any_angle else 90 * rng.integers(4) + rng.normal()
            image = np.asarray(bar.rotate(angle, Image.Resampling.BICUBIC)) + rng.normal(0, 3, (96, 96, 3))
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{k:02d}.png")
        return sorted(folder.iterdir())

    return make


@pytest.mark.parametrize("at_any_angle", [True, False])
def test_parts_that_lie_at_any_angle_are_turned_by_any_angle(at_any_angle, turned, monkeypatch):
    monkeypatch.setattr(choice, "BEYOND_CHANCE", 0.0)  # leaves it to the test of turns
    monkeypatch.setattr(choice, "VIEW_VARIANCE", 0.0)
    found = choose(turned(at_any_angle), readout="z2_of_mean", image_size=63)
    assert (found.turn_auroc <= choice.TURN_AUROC) == at_any_angle
    assert (found.views == "rotations") == at_any_angle
    assert (found.training_views, found.scoring_views) == ((48, 64) if at_any_angle else (found.scoring_views,) * 2)


@pytest.mark.parametrize(("mirror_auroc", "views"), [(0.66, "dihedral"), (0.68, "quarter_turns")])
def test_mirrored_copies_join_where_they_are_hardly_told(mirror_auroc, views, parts, monkeypatch):
    areas = iter([0.9, 0.7, 0.5, mirror_auroc])
    monkeypatch.setattr(choice, "auroc", lambda labels, values: next(areas))
    monkeypatch.setattr(choice, "beats", lambda *_: False)
    monkeypatch.setattr(choice, "_wants_more_views", lambda *_: False)
    found = choose(parts(n=5), readout="z2_of_mean")
    assert (found.views, found.mirror_auroc) == (views, mirror_auroc)
    assert found.scoring_views == found.training_views == len(FEW_VIEWS[views])


def test_the_variant_plays_no_part(parts, chosen):
    assert choose(parts(), variant="cbam", attention=AttentionConfig(training="proxy")) == chosen


def test_other_shapes_bring_the_aspect_into_play(parts):
    found = choose(parts(height=64, width=160), image_size=128)
    assert {of for of in found.by_input if "aspect" in of} == {"flips, aspect kept", "none, aspect kept"}
    model = ModelConfig.of(dataclasses.replace(SMALL, image_size=128), found)
    assert (model.views, model.resize, model.readout) == (found.views, found.resize, found.readout)


@pytest.mark.parametrize("views", ["rotations", "quarter_turns", "flips", "dihedral", "none"])
def test_what_is_given_is_not_chosen(views, parts):
    found = choose(parts(), views=views)
    assert found.views == views and found.by_input == {}
    assert found.scoring_views == len(FEW_VIEWS[views]) if views in FEW_VIEWS else found.scoring_views in (16, 32, 64)
    given = {"views": "flips", "resize": "keep_aspect", "exposure": "as_is", "readout": "z2"}
    found = choose(parts(height=64, width=160), **given)
    assert (found.views, found.resize, found.readout, found.by_readout) == ("flips", "keep_aspect", "z2", {})


@pytest.mark.parametrize(("flips_win", "views"), [(False, "quarter_turns"), (True, "flips")])
def test_flips_must_win_by_more_than_chance(flips_win, views, parts, monkeypatch):
    """Areas and tests made up."""
    areas = iter([0.7, 0.9, 0.5, 1.0])
    monkeypatch.setattr(choice, "auroc", lambda labels, values: next(areas))
    monkeypatch.setattr(choice, "beats", lambda labels, one, other, p_value: flips_win and p_value == 0.05)
    monkeypatch.setattr(choice, "_wants_more_views", lambda *_: False)
    found = choose(parts(n=5), readout="z2_of_mean")
    assert found.views == views and found.by_input["flips"] == 0.9


def test_too_few_images_are_refused(parts):
    with pytest.raises(DatasetError, match="5 normal images"):
        choose(parts()[:4])


def test_an_aspect_that_is_to_be_kept_leaves_the_kind_of_views_open(parts):
    """Of squares, too: whoever asks for it gets it."""
    found = choose(parts(), image_size=128, resize="keep_aspect")
    assert found.resize == "keep_aspect" and set(found.by_input) == {"flips, aspect kept", "none, aspect kept"}


def test_other_backgrounds_are_no_other_exposure(tmp_path):
    """Brightness varies as much in both sets; contrast goes along with it in one of them only."""
    rng = np.random.default_rng(0)

    def spread(name, image):
        (tmp_path / name).mkdir()
        for k in range(20):
            Image.fromarray(image(rng.uniform(0.4, 1)).clip(0, 255).astype(np.uint8)).save(tmp_path / name / f"{k}.png")
        paths = sorted((tmp_path / name).iterdir())
        return spread_of_exposure(paths)

    texture = rng.normal(size=(40, 40))
    exposed = spread("exposed", lambda light: light * (150 + 25 * texture))
    background = spread("background", lambda light: light * 150 + 25 * texture)
    assert exposed == pytest.approx(np.std(np.log(rng.uniform(0.4, 1, 10_000))), rel=0.35)
    assert background < 0.05 < UNSTEADY_LIGHT < exposed


def test_one_held_out_normal_says_nothing_about_the_variance_between_normals(monkeypatch):
    """As many views as there may be, without a warning of an overflow."""
    model = SimpleNamespace(with_options=lambda readout: SimpleNamespace(device=torch.device("cpu")))
    best = ("rotations", "squeeze")
    trial = SimpleNamespace(model=model, scored={best: torch.zeros(2, 4, 3)}, test=SimpleNamespace(n_normals=1))
    monkeypatch.setattr(choice, "running_score", lambda *_: RunningScore(3.0, 4, 5.0))
    assert choice._variance_of_a_view(trial, best, "z2") == math.inf
    most = max(choice.TRAINING_ROTATIONS)
    assert choice.choose_view_numbers(trial, "rotations", best, "z2")[1] == most
    monkeypatch.setattr(choice, "running_score", lambda *_: RunningScore(3.0, 4, 0.0))
    assert choice._variance_of_a_view(trial, best, "z2") == 0
