"""Training attention: only the blocks change, a seed decides all, a collapse is seen, defects are told apart better."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attentdiffernet import attention_training, copies
from attentdiffernet.attention_training import COLLAPSE, LazyImages, fit_attention
from attentdiffernet.category import InspectionDataset
from attentdiffernet.flow import Whitening
from attentdiffernet.images import read_image
from attentdiffernet.model import AttentDifferNet, ModelConfig
from attentdiffernet.options import AttentionConfig, FlowConfig, Options
from attentdiffernet.views import make_views, to_tensor

FLOW = FlowConfig(n_blocks=1, hidden_width=8, hidden_layers=1)
FEW_STEPS = 2
OBJECTIVES = ["joint", "proxy", "separation", "structure"]


@pytest.fixture
def paths(category):
    return [image.path for image in InspectionDataset(category).train]


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr(attention_training, "STEPS", dict.fromkeys(OBJECTIVES, FEW_STEPS))
    monkeypatch.setattr(attention_training, "IMAGES_PER_STEP", 2)


def to_train(kind, objective, **config):
    """As small as it can be: `joint` trains at all scales of the model, the others at its half and quarter size."""
    blocks, size = AttentionConfig(training=objective), 63 if objective == "joint" else 256
    config = {"flow": FLOW, "weights": "random", "image_size": size, "n_scales": 1, **config}
    return AttentDifferNet(ModelConfig(kind, blocks, **config)).eval()


@pytest.mark.usefixtures("global_state_kept")
@pytest.mark.parametrize("kind", ["se", "cbam"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_changes_the_blocks_and_nothing_else(kind, objective, paths):
    models = [to_train(kind, objective) for _ in range(2)]
    before = {key: tensor.clone() for key, tensor in models[0].state_dict().items()}
    for model in models:
        assert fit_attention(model, paths, seed=0) == FEW_STEPS
    after = models[0].state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    gates = {key for key in before if ".attention" in key}
    assert changed <= gates and {key.split(".")[2] for key in changed} == {"attention1", "attention2", "attention3"}
    assert not any(parameter.requires_grad for parameter in models[0].backbone.parameters())
    assert models[0].backbone.fingerprint() == models[0].weights_fingerprint
    assert all(torch.equal(tensor, after[key]) for key, tensor in models[1].state_dict().items())


def test_rarity_is_measured_at_the_places_of_the_full_scale(paths):
    model = to_train("rarity", "separation", image_size=126, n_scales=2, views="none")
    assert fit_attention(model, paths, seed=0) == len(paths)
    images = make_views(torch.stack([to_tensor(read_image(path), 126) for path in paths]), torch.zeros(len(paths)))
    plain = to_train("none", "separation", image_size=126, n_scales=2, views="none").backbone
    with torch.no_grad():
        places = plain(images).flatten(2).transpose(1, 2).flatten(0, 1)
    measured = model.backbone.attention_blocks()["attention3"].normal_places
    expected = Whitening(256)
    expected.fit(places)
    torch.testing.assert_close(measured.mean, places.mean(0))
    torch.testing.assert_close(measured(places)[0], expected(places)[0], rtol=1e-3, atol=1e-3)


def test_usual_rarity_is_the_mean_over_normal_images(paths):
    model = to_train("surprise", "separation", image_size=126, n_scales=2, views="none")
    fit_attention(model, paths, seed=0)
    images = make_views(torch.stack([to_tensor(read_image(path), 126) for path in paths]), torch.zeros(len(paths)))
    block = model.backbone.attention_blocks()["attention3"]
    with torch.no_grad():
        maps = to_train("none", "separation", image_size=126, n_scales=2, views="none").backbone(images)
        rarity = block.rarity(maps).mean(0)
    usual = F.interpolate(rarity[None, None], (block.SIDE,) * 2, mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(block.usual, usual, rtol=1e-3, atol=1e-3)


def test_what_is_measured_or_fixed_does_not_vary_with_the_seed():
    options = [
        Options(variant=variant, weights="random", seed=seed)
        for variant in ("surprise", "simam", "se")
        for seed in (1, 2)
    ]
    assert [one.attention_seed for one in options] == [0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_another_seed_trains_otherwise(objective, paths):
    models = [to_train("se", objective) for _ in range(2)]
    for seed, model in enumerate(models):
        fit_attention(model, paths, seed)
    one, two = (model.backbone.attention_blocks()["attention1"].channel.excite.bias for model in models)
    assert not torch.equal(one, two)


def test_few_images_are_not_learned_by_heart(monkeypatch):
    """40 passes over the images, 8 in a step, up to the full number of steps."""
    monkeypatch.undo()
    steps = [attention_training.n_steps("separation", n) for n in (4, 8, 31, 32, 1000)]
    assert steps == [20, 40, 155, 160, 160]


def blackened(image, normals, rng):
    return torch.cat([image[:, :8] * 0, image[:, 8:]], 1)


def test_separation_raises_the_scores_of_defects(paths, monkeypatch):
    """Always the same defect on the same views of the same images: that can be learned, so the loss must fall."""
    monkeypatch.setattr(attention_training, "IMAGES_PER_STEP", 4)
    monkeypatch.setattr(attention_training, "STEPS", {"separation": 18})
    monkeypatch.setattr(attention_training, "MOST_PASSES", 60)
    monkeypatch.setattr(attention_training, "LEARNING_RATE", {"separation": 1e-2})
    monkeypatch.setattr(attention_training, "REFIT_STEPS", 100)
    monkeypatch.setattr(attention_training, "_drawn", lambda normals, rng: torch.stack([normals[i] for i in range(4)]))
    monkeypatch.setattr(attention_training, "add_defect", blackened)
    losses = []
    model = to_train("cbam", "separation", views="none")
    watch = lambda step, loss, spread: losses.append(loss)  # noqa: E731
    fit_attention(model, paths, seed=0, watch=watch)
    assert len(losses) == 18 and np.mean(losses[-5:]) < 0.85 * np.mean(losses[:3])
    assert all(math.isfinite(loss) for loss in losses)


def collapse(model, paths, guard):
    """Spread of the features after each step with a learning rate at which likelihood runs away; and steps kept."""
    spreads = []
    kept = fit_attention(model, paths, 0, watch=lambda step, loss, spread: spreads.append(spread), guard=guard)
    return spreads, kept


def test_likelihood_alone_collapses_the_features_and_the_guard_sees_it(paths, monkeypatch):
    monkeypatch.setattr(attention_training, "IMAGES_PER_STEP", 4)
    monkeypatch.setattr(attention_training, "STEPS", {"joint": 25})
    monkeypatch.setattr(attention_training, "LEARNING_RATE", {"joint": 5e-2})
    spreads, kept = collapse(to_train("cbam", "joint"), paths, guard=False)
    assert kept == 25 and min(spreads) < COLLAPSE / 5

    model = to_train("cbam", "joint")
    spreads, kept = collapse(model, paths, guard=True)
    assert kept == len(spreads) // 5 * 5 < 25 and min(spreads) >= COLLAPSE
    assert bool(model.features(torch.zeros(1, 3, 63, 63)).isfinite().all())


def test_images_are_read_when_first_asked_for(paths, monkeypatch):
    asked = []
    monkeypatch.setattr(copies, "pixels_of", lambda path: asked.append(path) or read_image(path))
    copies._kept.cache_clear()
    normals = LazyImages(paths, 64)
    assert len(normals) == len(paths) and asked == []
    for i in (3, 1, 3):
        assert torch.equal(normals[i], to_tensor(read_image(paths[i]), 64)), "8 bits are what an image has"
    assert asked == [paths[3], paths[1]]
