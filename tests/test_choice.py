"""The rule that chooses views, aspect and readout: right where that is known, blind to test images, repeatable."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from attentdiffernet import input_choice as choice
from attentdiffernet.category import InspectionImage
from attentdiffernet.config import (
    UNSTEADY_LIGHT,
    AttentionConfig,
    FlowConfig,
    ModelConfig,
    ScoringConfig,
    TrainingConfig,
)
from attentdiffernet.errors import DatasetError
from attentdiffernet.input_choice import choose, spread_of_exposure
from attentdiffernet.views import FEW_VIEWS

FLOW = FlowConfig(n_blocks=1, hidden_width=8, hidden_layers=1)
CONFIG = TrainingConfig(epochs=1, calibration_fraction=0.4)
SMALL = ModelConfig(flow=FLOW, weights="random", image_size=96, n_scales=1)
ALL = {"views", "resize", "exposure", "readout"}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """parts(shape, n, light) -> n images of parts that all lie alike: stripes, and a disc left of the middle; light: by
    how much at most the exposure differs."""

    def make(height=96, width=96, n=10, light=0.0):
        folder = tmp_path_factory.mktemp("parts")
        rng = np.random.default_rng(height + width)
        y, x = np.mgrid[0:height, 0:width]
        for k in range(n):
            disc = np.hypot(x - width / 3 - rng.normal(), y - height / 3 - rng.normal()) < min(height, width) / 5
            grey = 128 + 60 * np.sin(x / 3) - 90 * disc + 4 * rng.normal(size=(height, width))
            grey *= 1 + light * (2 * k / (n - 1) - 1)
            Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB").save(folder / f"{k}.png")
        return [InspectionImage(path, f"good/{path.name}", "good", 0) for path in sorted(folder.iterdir())]

    return make


@pytest.mark.usefixtures("global_state_kept")
def test_the_choice_is_one_of_those_compared_and_repeatable(parts):
    images = parts()
    one, two = choose(images, SMALL, CONFIG), choose(images, SMALL, CONFIG)
    assert one == two
    assert {views for views, _ in one.by_input} == {"rotations", "quarter_turns", "flips", "none"}
    assert {resize for _, resize in one.by_input} == {"squeeze"}, "squares have no aspect to keep"
    assert (one.views, one.resize) in one.by_input and one.readout in one.by_readout
    assert one.views != "flips" or one.by_input["flips", "squeeze"] == max(one.by_input.values())
    assert all(0 <= area <= 1 for area in [*one.by_input.values(), *one.by_readout.values()])
    if one.views in FEW_VIEWS:
        assert one.n_views == one.training_views == len(FEW_VIEWS[one.views])


def test_unsteady_light_is_taken_out_and_steady_light_kept(parts):
    steady, unsteady = choose(parts(), SMALL, CONFIG), choose(parts(light=0.5), SMALL, CONFIG)
    assert (steady.exposure, unsteady.exposure) == ("as_is", "standardised")
    assert steady.exposure_varies < 0.02 and 0.2 < unsteady.exposure_varies < 0.5
    model, _, _ = unsteady.applied(SMALL, CONFIG, ScoringConfig())
    assert model.exposure == "standardised" and model.input_title.endswith(", exposure standardised")
    assert choose(parts(light=0.5), SMALL, CONFIG, fixed={"exposure", "views"}).exposure == "as_is"


@pytest.mark.parametrize(("handed", "views"), [(0.66, "dihedral"), (0.68, "quarter_turns")])
def test_mirrored_copies_join_where_they_are_hardly_told(handed, views, parts, monkeypatch):
    areas = iter([0.8, 0.9, 0.7, 0.5, handed])
    monkeypatch.setattr(choice, "auroc", lambda labels, values: next(areas))
    monkeypatch.setattr(choice, "beats", lambda *_: False)
    found = choose(parts(), SMALL, CONFIG, fixed={"readout"})
    assert (found.views, found.handed) == (views, handed)
    assert found.n_views == found.training_views == len(FEW_VIEWS[views])


def test_the_variant_plays_no_part(parts):
    images = parts()
    blocks = dataclasses.replace(SMALL, attention=AttentionConfig("cbam", training="proxy"))
    assert choose(images, blocks, CONFIG) == choose(images, SMALL, CONFIG)


def test_other_shapes_bring_the_aspect_into_play(parts):
    found = choose(parts(height=64, width=160), dataclasses.replace(SMALL, image_size=128), CONFIG)
    assert {of for of in found.by_input if of[1] == "keep_aspect"} == {
        ("flips", "keep_aspect"),
        ("none", "keep_aspect"),
    }
    model, _, _ = found.applied(SMALL, CONFIG, ScoringConfig())
    assert (model.views, model.resize, model.readout) == (found.views, found.resize, found.readout)


@pytest.mark.parametrize("views", ["rotations", "quarter_turns", "flips", "dihedral", "none"])
def test_what_is_given_is_not_chosen(views, parts):
    found = choose(parts(), dataclasses.replace(SMALL, views=views), CONFIG, fixed={"views"})
    assert found.views == views and found.by_input == {}
    assert found.n_views == len(FEW_VIEWS[views]) if views in FEW_VIEWS else found.n_views in (16, 32, 64)
    given = dataclasses.replace(SMALL, views="flips", resize="keep_aspect", readout="z2")
    found = choose(parts(height=64, width=160), given, CONFIG, fixed=ALL)
    assert (found.views, found.resize, found.readout, found.by_readout) == ("flips", "keep_aspect", "z2", {})


@pytest.mark.parametrize(
    ("better", "views"),
    [([], "quarter_turns"), ([0.32], "rotations"), ([0.05], "flips"), ([0.32, 0.05], "flips")],
)
def test_what_costs_more_must_win_by_more(better, views, parts, monkeypatch):
    """Areas and tests made up: rotations and flips beat quarter turns by more than these p-values."""
    areas = iter([0.8, 0.7, 0.9, 0.5, 1.0])
    monkeypatch.setattr(choice, "auroc", lambda labels, values: next(areas))
    monkeypatch.setattr(choice, "beats", lambda labels, one, other, p_value: p_value in better)
    found = choose(parts(), SMALL, CONFIG, fixed={"readout"})
    assert found.views == views and found.by_input["flips", "squeeze"] == 0.9


def test_too_few_images_are_refused(parts):
    with pytest.raises(DatasetError, match="5 normal images"):
        choose(parts()[:4], SMALL, CONFIG)


def test_no_random_state_is_moved(parts):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    choose(parts(), SMALL, CONFIG)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_aspect_that_is_to_be_kept_leaves_the_kind_of_views_open(parts):
    """Of squares, too: whoever asks for it gets it."""
    given = dataclasses.replace(SMALL, image_size=128, views="flips", resize="keep_aspect")
    found = choose(parts(), given, CONFIG, fixed={"resize"})
    assert found.resize == "keep_aspect" and {views for views, _ in found.by_input} == {"flips", "none"}


def test_other_backgrounds_are_no_other_exposure(tmp_path):
    """Brightness varies as much in both sets; contrast goes along with it in one of them only."""
    rng = np.random.default_rng(0)

    def spread(name, image):
        (tmp_path / name).mkdir()
        for k in range(20):
            Image.fromarray(image(rng.uniform(0.4, 1)).clip(0, 255).astype(np.uint8)).save(tmp_path / name / f"{k}.png")
        paths = sorted((tmp_path / name).iterdir())
        return spread_of_exposure([InspectionImage(path, path.name, "good", 0) for path in paths])

    texture = rng.normal(size=(40, 40))
    exposed = spread("exposed", lambda light: light * (150 + 25 * texture))
    background = spread("background", lambda light: light * 150 + 25 * texture)
    assert exposed == pytest.approx(np.std(np.log(rng.uniform(0.4, 1, 10_000))), rel=0.35)
    assert background < 0.05 < UNSTEADY_LIGHT < exposed
