"""DifferNet's own procedure: its rotations against Pillow's, its scores, and attention that is fitted with the flow."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attentdiffernet import paper_recipe
from attentdiffernet.category import InspectionDataset
from attentdiffernet.features import FeatureExtractor
from attentdiffernet.grid import execute, read_grid
from attentdiffernet.model import AttentDifferNet, ModelConfig
from attentdiffernet.options import AttentionConfig, FlowConfig, Options
from attentdiffernet.views import IMAGENET_MEAN, IMAGENET_STD

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = Options(recipe="paper", epochs=2, training_views=2, batch_size=8)


@pytest.fixture
def paths(category):
    return [image.path for image in InspectionDataset(category).train]


@pytest.fixture
def model():
    def build(kind="se", training="joint"):
        flow = FlowConfig(1, 8, 1, whitening=False)
        attention = AttentionConfig(training=training)
        config = ModelConfig(kind, attention, flow=flow, weights="random", image_size=63, n_scales=1, readout="z2")
        return AttentDifferNet(config).eval()

    return build


def test_copies_are_turned_as_pillow_turns_them():
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 100, 100, 3), generator=rng, dtype=torch.uint8)
    of, degrees = torch.tensor([0, 1] * 4), torch.tensor([0.0, 90.0, 180.0, -90.0, 33.3, -171.7, 5.01, 120.0])
    copies = paper_recipe.rotated_copies(pixels, of, degrees)
    assert copies.is_contiguous(memory_format=torch.channels_last)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    for k, copied in enumerate(((copies * std + mean) * 255).round().byte()):
        turned = Image.fromarray(pixels[of[k]].numpy()).rotate(float(degrees[k]))
        other = (copied.permute(1, 2, 0).numpy() != np.asarray(turned)).any(-1).mean()
        assert other < 0.01 if degrees[k] % 90 else other == 0, "but for rounding between two pixels"


def test_features_are_the_models(model, paths):
    views = paper_recipe.rotated_copies(
        paper_recipe.read_pixels(paths[:2], 63), torch.arange(2), torch.tensor([10.0, 50.0])
    )
    torch.testing.assert_close(paper_recipe.features_of(model(), views), model().features(views))


@pytest.mark.parametrize(("kind", "training"), [("none", "joint"), ("cbam", "untrained"), ("cbam", "joint")])
def test_attention_is_fitted_with_the_flow_where_asked(kind, training, model, paths):
    before = model(kind, training)
    after = copy.deepcopy(before)
    assert paper_recipe.fit(after, paths, OPTIONS) == 4
    changed = {name for name, value in after.state_dict().items() if not torch.equal(value, before.state_dict()[name])}
    assert any(name.startswith("flow.") for name in changed)
    moved = {name.split(".")[2] for name in changed if name.startswith("backbone.")}
    assert moved == ({"attention1", "attention2", "attention3"} if (kind, training) == ("cbam", "joint") else set())
    assert not any(parameter.requires_grad for parameter in after.backbone.parameters())


def test_a_score_depends_on_the_image_and_the_seed_alone(model, paths):
    fitted = model("none")
    all_of = paper_recipe.Scores(paths, 63, seed=0, n_views=5)
    before = FeatureExtractor.views_computed
    scores = all_of(fitted)
    assert all_of(fitted) == scores and FeatureExtractor.views_computed - before == 5 * len(paths), "frozen: once"
    assert paper_recipe.Scores(paths[:2:-1], 63, seed=0, n_views=5)(fitted) == pytest.approx(scores[:2:-1], rel=1e-5)
    assert paper_recipe.Scores(paths, 63, seed=1, n_views=5)(fitted) != pytest.approx(scores, rel=1e-4)
    views = paper_recipe.rotated_copies(all_of.pixels, torch.zeros(5, dtype=torch.long), all_of.degrees[0])
    with torch.no_grad():
        z, _ = fitted(views)
    assert scores[0] == pytest.approx(float(z.square().mean()), rel=1e-5)


def test_features_of_a_backbone_that_is_trained_are_computed_anew_and_their_spread_is_told(model, paths):
    gated = model()
    scores = paper_recipe.Scores(paths, 63, seed=0, n_views=2)
    first = scores(gated)
    assert paper_recipe.spread(gated, paths) == pytest.approx(1)
    with torch.no_grad():
        for block in gated.backbone.attention_blocks().values():
            block.channel.excite.bias.fill_(-1)
    assert scores(gated) != pytest.approx(first, rel=1e-4) and paper_recipe.spread(gated, paths) < 0.5


def test_the_grid_of_the_paper_runs_it_and_keeps_both_protocols(category, tmp_path, monkeypatch):
    monkeypatch.setenv("ATTENTDIFFERNET_DATA", str(category.parent.parent))
    tasks = read_grid(ROOT / "grids" / "paper.toml", {"mvtec_ad/bottle"})
    assert len(tasks) == 9 and all(len(task.runs) == 2 and not task.options.leaves_a_choice for task in tasks)
    assert len({task.features for task in tasks}) == 9, "nothing is shared, so nothing waits"
    task = next(task for task in tasks if task.options.variant == "se")
    small = {"flow": FlowConfig(1, 8, 1, whitening=False), "weights": "random", "image_size": 63, "n_scales": 1}
    options = dataclasses.replace(task.options, **small, epochs=2, scoring_views=3)
    task = dataclasses.replace(task, folder=str(category), options=options)
    outcome = execute(type(task).from_json(task.to_json()))
    assert outcome.error == "" and outcome.seen == (3, "random rotations", "z2")
    assert len(outcome.scores) == len(outcome.best_scores) == 7 and outcome.best_epoch in (1, 2)
    assert outcome.spread is not None and 0 < outcome.spread < 2
    elsewhere = execute(dataclasses.replace(task, device="nowhere"))
    assert elsewhere.error.startswith("There is no device nowhere here") and elsewhere.scores is None
