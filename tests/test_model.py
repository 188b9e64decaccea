"""The model is the sum of its parts: scales, backbone, pooling, flow; the same from the same seed."""

import pytest
import torch

from attentdiffernet.backbone import load_weights
from attentdiffernet.config import AttentionConfig, FlowConfig, ModelConfig
from attentdiffernet.data import make_views
from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.model import AttentDifferNet

KINDS = ["none", "se", "cbam"]
SMALL = FlowConfig(n_blocks=1, hidden_width=4, hidden_layers=1)


@pytest.fixture
def views(image):
    return make_views(image, torch.tensor([0.0, 100.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_pooled_maps_of_three_scales_largest_first(kind, tiny, views):
    model = tiny(kind)
    with torch.no_grad():
        features = model.features(views)
        for k, step in enumerate((1, 2, 4)):  # nearest neighbour: every second, every fourth pixel
            maps = model.backbone(views[:, :, ::step, ::step])
            expected = maps.sum((2, 3)) / (maps.shape[2] * maps.shape[3])
            torch.testing.assert_close(features[:, 256 * k : 256 * (k + 1)], expected, rtol=1e-3, atol=1e-7)
    assert features.shape == (2, model.n_features) == (2, 768)
    assert features.std() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_forward_is_the_flow_of_the_features(kind, tiny, views):
    model = tiny(kind)
    with torch.no_grad():
        z, log_det = model(views)
        expected_z, expected_log_det = model.flow(model.features(views))
        assert torch.equal(model.features_from_stems(model.stems(views)), model.features(views))
    assert torch.equal(z, expected_z) and torch.equal(log_det, expected_log_det)
    assert z.shape == (2, 768) and log_det.shape == (2,)


@pytest.mark.parametrize("placement", ["after_pool", "before_pool"])
def test_variants_of_one_placement_share_their_stems(placement, tiny, views):
    models = [tiny(kind, placement=placement) for kind in KINDS]
    assert len({model.stem_key for model in models}) == 1
    with torch.no_grad():
        first, *others = (model.stems(views) for model in models)
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def test_models_that_share_no_stems_have_other_keys(tiny):
    other_weights = {key: tensor + 0.01 for key, tensor in load_weights("random").items()}
    models = [
        tiny("se"),
        tiny("se", placement="before_pool"),
        AttentDifferNet(tiny("se").config, weights=other_weights),
        AttentDifferNet(ModelConfig(flow=SMALL, weights="random", image_size=260)),
        AttentDifferNet(ModelConfig(flow=SMALL, weights="random", image_size=256, n_scales=2)),
    ]
    assert len({model.stem_key for model in models}) == len(models)


@pytest.mark.usefixtures("global_state_kept")
def test_same_seed_same_weights(tiny):
    config = tiny("cbam").config
    a, b, c = (AttentDifferNet(config, seed).state_dict() for seed in (3, 3, 4))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(
        a["backbone.trunk.attention1.channel.squeeze.weight"], c["backbone.trunk.attention1.channel.squeeze.weight"]
    )
    assert not torch.equal(a["flow.module_list.1.subnet1.0.weight"], c["flow.module_list.1.subnet1.0.weight"])
    assert torch.equal(a["backbone.stem.conv1.weight"], c["backbone.stem.conv1.weight"])
    assert torch.equal(a["flow.module_list.0.perm"], c["flow.module_list.0.perm"])


def test_only_the_flow_can_learn_at_first(tiny):
    model = AttentDifferNet(tiny("cbam").config)
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert any(parameter.requires_grad for parameter in model.flow.parameters())


@pytest.mark.parametrize(("image_size", "n_scales"), [(63, 1), (126, 2), (252, 3)])
def test_the_smallest_sizes_work(image_size, n_scales):
    model = AttentDifferNet(ModelConfig(flow=SMALL, weights="random", image_size=image_size, n_scales=n_scales))
    with torch.no_grad():
        assert model(torch.zeros(1, 3, image_size, image_size))[0].shape == (1, 256 * n_scales)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"image_size": 251}, "AlexNet needs 63 px at its smallest scale: 251 px at 3 scales leave 62 px"),
        ({"n_scales": 0}, "n_scales must lie in"),
        ({"n_scales": -3}, "n_scales must lie in"),
        ({"image_size": "448"}, "image_size must be a whole number, got '448'"),
        ({"image_size": True}, "image_size must be a whole number"),
        ({"weights": None}, "weights must be text"),
        ({"attention": "se"}, "attention must be a AttentionConfig|attention must be an AttentionConfig"),
    ],
)
def test_sizes_out_of_bounds_are_refused(wrong, complaint):
    with pytest.raises(AttentDifferNetError, match=complaint):
        ModelConfig(**wrong)


def test_configurations_survive_json():
    config = ModelConfig(
        AttentionConfig("cbam", "before_pool", 2, 49, True, "proxy"), FlowConfig(8, 64, 3, 1.9), "random", 300, 2
    )
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(AttentDifferNetError, match="AttentionConfig has no option reducton; it has kind"):
        ModelConfig.from_dict({"attention": {"kind": "se", "reducton": 2}})
    with pytest.raises(AttentDifferNetError, match="FlowConfig needs a mapping of names to values, got list"):
        ModelConfig.from_dict({"flow": []})


def test_the_feature_scale_counts_in_the_log_determinant():
    """latent(f) = flow(s · f): its Jacobian is the flow's at s · f, times s on the diagonal."""
    config = ModelConfig(flow=FlowConfig(2, 8, 1), weights="random", image_size=63, n_scales=1, feature_scale=3.0)
    model = AttentDifferNet(config)
    features = torch.rand(1, model.n_features)
    _, log_det_jac = model.latent(features)
    jacobian = torch.autograd.functional.jacobian(lambda f: model.latent(f[None])[0][0], features[0])
    assert log_det_jac.item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-2)
