"""Maps against the same quantities computed another way: Grad-CAM by the chain rule, gates by calling the blocks."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from attentdiffernet.explain import (
    METHODS,
    attention_map,
    explain,
    grad_cam,
    gradient_map,
    methods_of,
    read_attention,
    relative_heat,
    scale_ends,
    spatial_gate_map,
    what_it_shows,
)
from attentdiffernet.model import AttentDifferNet, ModelConfig
from attentdiffernet.options import AttentionConfig
from attentdiffernet.views import even_angles, make_views
from attentdiffernet.words import METHOD_TITLES, PAPER_VARIANTS

KINDS = ["none", "se", "cbam"]
BLOCKS = ["attention1", "attention2", "attention3"]


@pytest.fixture
def view(image):
    return make_views(image, even_angles(1))[0]


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


# -- Grad-CAM


@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_grad_cam_of_the_features_by_the_chain_rule(kind, scale, tiny, view):
    # f_c is the mean of A_c over h·w places, so dScore/dA_c is dScore/df_c / (h·w) everywhere: its mean is the weight.
    model, steps = tiny(kind), (1, 2, 4)
    with torch.no_grad():
        maps = [model.backbone(view[None, :, ::step, ::step]) for step in steps]
    features = torch.cat([m.mean((2, 3)) for m in maps], dim=1).requires_grad_(True)
    (gradient,) = torch.autograd.grad(model.latent(features)[0].square().mean(), features)
    activation = maps[scale][0]
    weights = gradient[0, 256 * scale : 256 * (scale + 1)] / activation[0].numel()
    expected = torch.einsum("c,chw->hw", weights, activation).clamp(min=0).numpy()
    cam = grad_cam(model, view, scale)
    assert cam.shape == [(7, 7), (3, 3), (1, 1)][scale] and cam.dtype == np.float32
    np.testing.assert_allclose(cam, expected, rtol=1e-3, atol=1e-3 * expected.max())


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("placement", ["after_pool", "before_pool"])
def test_grad_cam_of_an_attention_block(placement, block, tiny, view):
    model = tiny("cbam", placement=placement)
    layers = [*model.backbone.stem.named_children(), *model.backbone.trunk.named_children()]
    cut = [name for name, _ in layers].index(block) + 1
    with torch.no_grad():
        small = model.features(view[None])[:, 256:]
        before = nn.Sequential(*(layer for _, layer in layers[:cut]))(view[None])
    leaf = before.clone().requires_grad_(True)
    features = nn.Sequential(*(layer for _, layer in layers[cut:]))(leaf * 1).mean((2, 3))
    score = model.latent(torch.cat([features, small], dim=1))[0].square().mean()
    (gradient,) = torch.autograd.grad(score, leaf)
    expected = np.maximum(np.einsum("c,chw->hw", gradient[0].mean((1, 2)).numpy(), before[0].numpy()), 0)
    cam = grad_cam(model, view, layer=block)
    np.testing.assert_allclose(cam, expected, rtol=1e-3, atol=1e-3 * expected.max())


class Doubled(nn.Module):
    def __init__(self, flow):
        super().__init__()
        self.flow = flow

    def forward(self, x):
        z, log_det = self.flow(x)
        return 2 * z, log_det


def test_maps_keep_their_size(tiny, view):
    # pytorch-grad-cam scales each map to 0..1, and a normal image would glow. Twice z is four times the score.
    model = AttentDifferNet(tiny("se").config)
    cam = grad_cam(model, view)
    model.flow = Doubled(model.flow)
    np.testing.assert_allclose(grad_cam(model, view), 4 * cam, rtol=1e-4, atol=1e-9)
    assert cam.max() > 0 and cam.max() != pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_a_map_leaves_the_model_as_it_was(method, tiny, image):
    model = tiny("cbam")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with torch.no_grad():
        z, _ = model(make_views(image, even_angles(1)))
    values, again = explain(model, image, method), explain(model, image, method)
    assert np.array_equal(values, again)
    assert values.dtype == np.float32 and values.ndim == 2 and values.min() >= 0
    assert hooks_of(model) == 0
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    with torch.no_grad():
        assert torch.equal(model(make_views(image, even_angles(1)))[0], z)


def test_hooks_go_even_if_the_map_fails(tiny, view, monkeypatch):
    model = AttentDifferNet(tiny("none").config)
    monkeypatch.setattr(model.flow, "forward", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        grad_cam(model, view)
    assert hooks_of(model) == 0, caught  # whose traceback keeps everything alive


def test_maps_where_no_gradients_are_wanted(tiny, image, view):
    model = tiny("se")
    with torch.no_grad():
        np.testing.assert_array_equal(grad_cam(model, view), explain(model, image, "grad-cam"))
        np.testing.assert_array_equal(gradient_map(model, view), explain(model, image, "gradient"))
    with torch.inference_mode():
        view = make_views(image, even_angles(1))[0]
    np.testing.assert_array_equal(grad_cam(model, view), explain(model, image, "grad-cam"))
    np.testing.assert_array_equal(gradient_map(model, view), explain(model, image, "gradient"))


# -- gates


@pytest.mark.parametrize("scale", [0, 2])
@pytest.mark.parametrize("placement", ["after_pool", "before_pool"])
@pytest.mark.parametrize("kind", KINDS)
def test_readings_are_those_of_the_blocks(kind, placement, scale, tiny, view):
    model = tiny(kind, placement=placement)
    seen = {}
    handles = [
        block.register_forward_hook(lambda module, args, out, n=name: seen.update({n: (args[0].clone(), out.clone())}))
        for name, block in model.backbone.attention_blocks().items()
    ]
    with torch.no_grad():
        model.backbone(view[None, :, :: 2**scale, :: 2**scale])
    for handle in handles:
        handle.remove()
    for name, block in model.backbone.attention_blocks().items():
        reading, (before, after) = read_attention(model, view, name, scale), seen[name]
        np.testing.assert_allclose(reading.before, before[0].mean(0), rtol=1e-5)
        np.testing.assert_allclose(reading.after, after[0].mean(0), rtol=1e-5)
        for part, gates in (
            ("channel_gates", block.channel_gates(before)),
            ("spatial_gate", block.spatial_gate(before)),
        ):
            if gates is None:
                assert getattr(reading, part) is None
            else:
                np.testing.assert_allclose(getattr(reading, part), gates[0], rtol=1e-5)
    assert (reading.channel_gates is None) == (kind == "none") and (reading.spatial_gate is None) == (kind != "cbam")


def test_attention_maps(tiny, view):
    for kind in KINDS:
        reading = read_attention(tiny(kind), view)
        assert np.array_equal(attention_map(tiny(kind), view), reading.after) and reading.after.shape == (15, 15)
        assert np.array_equal(reading.before, reading.after) == (kind == "none")
    assert np.array_equal(spatial_gate_map(tiny("cbam"), view), reading.spatial_gate)
    with pytest.raises(ValueError, match="Only CBAM has spatial gates; this model's attention is 'se'"):
        spatial_gate_map(tiny("se"), view)
    with pytest.raises(ValueError, match=r"block must be one of attention1, .*, got 'attention4'"):
        read_attention(tiny("se"), view, "attention4")


# -- gradient maps


def test_gradient_map_step_by_step(tiny, view):
    model = tiny("se")
    turns = []
    for k in range(4):
        x = torch.from_numpy(np.rot90(view.numpy(), k, axes=(1, 2)).copy())[None].requires_grad_(True)
        z, log_det = model.latent(torch.cat([model.backbone(x[:, :, ::s, ::s]).mean((2, 3)) for s in (1, 2, 4)], dim=1))
        ((0.5 * (z**2).sum() - log_det.sum()) / 768).backward()
        turns.append(np.rot90(x.grad[0].abs().mean(0).numpy(), -k))
    expected = np.mean([gaussian_filter(turn, 3) for turn in turns], axis=0) ** 2
    values = gradient_map(model, view)
    assert values.shape == (256, 256)
    np.testing.assert_allclose(values, expected, rtol=1e-2, atol=1e-3 * expected.max())


def test_a_gradient_map_turns_with_the_image(tiny, view):
    values = gradient_map(tiny("cbam"), view)
    turned = gradient_map(tiny("cbam"), torch.rot90(view, 1, dims=(1, 2)))
    np.testing.assert_allclose(turned, np.rot90(values), rtol=1e-2, atol=1e-3 * values.max())
    assert np.abs(turned - values).max() > 0.1 * values.max(), "a map with no direction shows nothing here"


# -- what is said and shown


def test_every_method_has_a_title_and_a_sentence():
    assert [*METHODS, "distance"] == list(METHOD_TITLES), "and PatchCore's"
    for kind in KINDS:
        config = ModelConfig(kind)
        assert methods_of(config) == [m for m in METHODS if m != "spatial-gate" or kind == "cbam"]
        for method in methods_of(config):
            assert what_it_shows(method, config).endswith(".")


@pytest.mark.parametrize("kind", ["se", "cbam"])
def test_maps_of_untrained_gates_say_so(kind):
    for method in {"attention", "spatial-gate"} & set(methods_of(ModelConfig(kind))):
        untrained = what_it_shows(method, ModelConfig(kind, AttentionConfig(training="untrained")))
        trained = what_it_shows(method, ModelConfig(kind, AttentionConfig(training="proxy")))
        assert "untrained" in untrained and "nothing learned" in untrained
        assert "untrained" not in trained and "synthetic defects" in trained
    assert tuple(KINDS) == PAPER_VARIANTS


def test_an_unknown_method_is_refused(tiny, image):
    with pytest.raises(ValueError, match=r"method must be one of grad-cam, attention, .*, got 'lime'"):
        explain(tiny("none"), image, "lime")


def test_relative_heat_by_hand():
    maps = {"a": np.array([[1.0, 2.0], [16.0, 0.0]], np.float32), "b": np.array([[10.0, 40.0]], np.float32)}
    heat, scale = relative_heat(maps, {"a": 2.0, "b": 10.0})
    np.testing.assert_allclose(heat["a"], [[-1, 0], [3, -8]])
    np.testing.assert_allclose(heat["b"], [[0, 2]])
    assert scale == (0, 3)
    assert relative_heat({"b": maps["b"]}, {"b": 39.0})[1] == (0, 2), "a normal image does not fill the scale"
    assert relative_heat({"b": maps["b"]}, {"b": 0.01})[1] == (0, 4), "a far maximum does not hide the rest"
    assert relative_heat(maps, {"a": 2.0, "b": 10.0}, scale_ends("distance"))[1] == (0, 2)


def test_relative_heat_of_maps_that_are_zero():
    heat, (low, high) = relative_heat(
        {"zero": np.zeros((2, 2), np.float32), "high": np.full((1, 1), 1e30, np.float32)}, {"zero": 0.0, "high": 0.0}
    )
    assert (heat["zero"] == -8).all() and np.isfinite(heat["high"]).all() and low == 0 and np.isfinite(high)


@pytest.mark.parametrize("method", ["grad-cam", "attention", "gradient"])
def test_maps_of_a_rectangle_have_its_shape(method, small):
    model = small("cbam", resize="keep_aspect", views="flips", image_size=128)
    wide = np.random.default_rng(0).integers(0, 255, (60, 150, 3), np.uint8)
    values = explain(model, model.prepare(wide), method)
    assert values.shape[1] > 1.5 * values.shape[0] and np.isfinite(values).all() and values.min() >= 0
