"""A network of timm as DifferNet's backbone: the same features as timm gives, gated after each of its levels."""

import dataclasses

import numpy as np
import pytest
import torch

import attentdiffernet as adn
from attentdiffernet.errors import AttentDifferNetError, WeightsError
from attentdiffernet.features import FeatureExtractor
from attentdiffernet.model import AttentDifferNet, ModelConfig
from attentdiffernet.network_backbone import STRIDES, NetworkBackbone
from attentdiffernet.networks import load_network
from attentdiffernet.options import AttentionConfig, FlowConfig, Options
from attentdiffernet.views import IMAGENET_MEAN, IMAGENET_STD

UNTRAINED = AttentionConfig(training="untrained")
FLOW = FlowConfig(n_blocks=1, hidden_width=8, hidden_layers=1)
TINY = {"backbone": "test_efficientnet", "weights": "random", "image_size": 64, "n_scales": 1, "flow": FLOW}


@pytest.fixture
def pixels():
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def normalised(pixels):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels - mean) / std


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "tf_efficientnet_lite0"])
@torch.inference_mode()
def test_without_attention_it_is_the_network(name, pixels):
    """Whatever mean and deviation the network was trained with."""
    backbone = NetworkBackbone(name, "none", UNTRAINED, "random")
    wanted = load_network(name, STRIDES, "random")(pixels)[-1]
    torch.testing.assert_close(backbone(normalised(pixels)), wanted, rtol=1e-4, atol=1e-5)
    assert backbone.channels == wanted.shape[1] and list(backbone.attention_blocks()) == [
        "attention1",
        "attention2",
        "attention3",
    ]


@torch.inference_mode()
def test_blocks_stand_after_each_level_and_the_stem_before_them(pixels):
    gated = NetworkBackbone("test_efficientnet", "cbam", UNTRAINED, "random")
    plain = NetworkBackbone("test_efficientnet", "none", UNTRAINED, "random")
    x = normalised(pixels)
    assert gated.stem(x).shape[2:] == (8, 12), "stride 8"
    assert torch.equal(gated.stem(x), plain.stem(x)) and gated.fingerprint() == plain.fingerprint()
    x, strides = gated.stem(x), []
    for name, layer in gated.trunk.named_children():
        if name in gated.attention_blocks():
            strides.append(64 // x.shape[2])
            assert layer.channel_gates(x).shape == x.shape[:2]
        x = layer(x)
    assert tuple(strides) == STRIDES


def test_a_detector_with_it_is_trained_explained_saved_and_loaded(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(90, 160, (64, 64, 3), dtype=np.uint8) for _ in range(12)]
    blocks = AttentionConfig(training="joint")
    options = Options("se", attention=blocks, epochs=1, views="none", exposure="as_is", resize="squeeze", **TINY)
    detector = adn.fit(images, dataclasses.replace(options, readout="z2"))
    assert detector.model.n_features == detector.model.backbone.channels
    loaded = adn.load(detector.save(tmp_path / "model"))
    assert loaded.fingerprint == detector.fingerprint
    verdicts = [of.inspect(images[0]) for of in (detector, loaded)]
    assert verdicts[0].score == pytest.approx(verdicts[1].score, rel=1e-6)
    assert verdicts[1].map("grad-cam").shape == (64, 64)


def test_the_cache_tells_networks_apart():
    def digest(backbone):
        return FeatureExtractor(AttentDifferNet(ModelConfig(**TINY | {"backbone": backbone}))).backbone_digest

    assert len({digest("test_efficientnet"), digest("test_resnet")}) == 2


def test_what_cannot_be_a_backbone_is_refused():
    with pytest.raises(WeightsError, match="no feature map of stride"):
        NetworkBackbone("test_vit", "none", UNTRAINED, "random")
    with pytest.raises(AttentDifferNetError, match="before_pool"):
        Options("se", attention=AttentionConfig("before_pool"), **TINY)
    with pytest.raises(AttentDifferNetError, match="needs 32 px"):
        Options(**TINY | {"image_size": 48, "n_scales": 2})
