"""AlexNet with blocks placed equals torchvision's; weights come from where they should, and nothing runs code."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from attentdiffernet import backbone
from attentdiffernet._torchvision import torchvision
from attentdiffernet.attention import ATTENTION
from attentdiffernet.backbone import AlexNetFeatures, load_weights
from attentdiffernet.errors import WeightsError
from attentdiffernet.options import POOLING_VARIANTS, AttentionConfig

pytestmark = pytest.mark.quick

RANDOM = load_weights("random")


def alexnet(kind="none", **options):
    torch.manual_seed(0)
    features = AlexNetFeatures(kind, AttentionConfig(**{"training": "untrained", **options}))
    features.load_convolutions(RANDOM, "random")
    return features.requires_grad_(False)


@pytest.fixture
def x():
    return torch.randn(2, 3, 127, 95, generator=torch.Generator().manual_seed(0))


# -- architecture


@pytest.mark.parametrize("placement", ["after_pool", "before_pool"])
def test_without_attention_it_is_torchvisions(placement, x):
    theirs = torchvision.models.alexnet(weights=None).features
    theirs.load_state_dict({key.removeprefix("features."): tensor for key, tensor in RANDOM.items()})
    with torch.no_grad():
        assert torch.equal(alexnet(placement=placement)(x), theirs(x))


@pytest.mark.parametrize("kind", [kind for kind in ATTENTION if kind not in POOLING_VARIANTS])
@pytest.mark.parametrize(
    ("placement", "stem", "trunk"),
    [
        (
            "after_pool",
            "conv1 relu1 pool1",
            "attention1 conv2 relu2 pool2 attention2 conv3 relu3 conv4 relu4 conv5 relu5 attention3 pool5",
        ),
        (
            "before_pool",
            "conv1 relu1",
            "attention1 pool1 conv2 relu2 attention2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 attention3 pool5",
        ),
    ],
)
def test_placement(placement, stem, trunk, kind, x):
    features = alexnet(kind, placement=placement)
    assert " ".join(name for name, _ in features.stem.named_children()) == stem
    assert " ".join(name for name, _ in features.trunk.named_children()) == trunk
    assert all(type(block) is ATTENTION[kind] for block in features.attention_blocks().values())
    assert list(features.attention_blocks()) == ["attention1", "attention2", "attention3"]
    assert torch.equal(features.trunk(features.stem(x)), features(x))
    assert features(x).shape == (2, 256, 3, 2)


def test_channels_of_the_blocks():
    blocks = alexnet("se", reduction=2).attention_blocks()
    assert [block.channel.squeeze.in_features for block in blocks.values()] == [64, 192, 256]


def test_63_px_are_enough():
    assert alexnet()(torch.zeros(1, 3, 63, 63)).shape[2:] == (1, 1)
    with pytest.raises(RuntimeError):
        alexnet()(torch.zeros(1, 3, 62, 62))


def test_the_fingerprint_tells_convolutions_apart_and_nothing_else():
    features = alexnet()
    assert (
        features.fingerprint()
        == alexnet("cbam").fingerprint()
        == alexnet().to(memory_format=torch.channels_last).fingerprint()
    )
    features.trunk.conv5.bias[7] += 1e-6
    assert features.fingerprint() != alexnet().fingerprint()


# -- weights


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"features.10.bias": None}, r"^FILE lacks the tensor 'features.10.bias'"),
        ({"features.3.weight": torch.zeros(192, 64, 3, 3)}, r"'features.3.weight' of shape \(192, 64, 3, 3\).*5, 5\)"),
        ({"features.10.bias": torch.zeros(1)}, r"shape \(1,\)"),
        (
            {"features.8.bias": torch.full((256,), torch.nan)},
            r"^FILE holds values in 'features.8.bias' that are not finite",
        ),
    ],
)
def test_wrong_weights_are_refused_whole(change, complaint):
    features = AlexNetFeatures("none", AttentionConfig())
    before = features.fingerprint()
    tensors = {key: tensor for key, tensor in {**RANDOM, **change}.items() if tensor is not None}
    with pytest.raises(WeightsError, match=complaint):
        features.load_convolutions(tensors, "FILE")
    assert features.fingerprint() == before


def test_other_tensors_are_left_aside():
    features = AlexNetFeatures("none", AttentionConfig())
    features.load_convolutions({**RANDOM, "classifier.1.weight": torch.zeros(3)}, "FILE")
    assert features.fingerprint() == alexnet().fingerprint()


@pytest.mark.usefixtures("global_state_kept")
def test_random_weights_are_the_same_every_time():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        again = load_weights("random")
    assert again.keys() == RANDOM.keys() and len(again) == 10
    assert all(torch.equal(again[key], RANDOM[key]) for key in again)
    assert all(tensor.std() > 0 for tensor in again.values())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("by_environment", [False, True])
def test_weights_from_a_file(suffix, by_environment, tmp_path, monkeypatch):
    path = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(RANDOM, path)
    if by_environment:
        monkeypatch.setenv(backbone.IMAGENET_ENVIRONMENT, str(path))
        assert backbone.imagenet_at_hand()
    tensors = load_weights("imagenet" if by_environment else str(path))
    assert all(torch.equal(tensors[key], RANDOM[key]) for key in RANDOM)


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["EVIL"],)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    monkeypatch.setenv("EVIL", str(ran))
    torch.save({**RANDOM, "evil": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"^.*evil.pth is not a plain weights file"):
        load_weights(str(tmp_path / "evil.pth"))
    assert not ran.exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert ran.is_dir(), "the file was harmless: this test shows nothing"


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("gone.pth", None, "^There is no weights file .*gone.pth$"),
        ("gone.safetensors", None, "^There is no weights file"),
        ("empty.pth", b"", "could not be read as weights"),
        ("empty.safetensors", b"", "could not be read as weights"),
        ("text.pth", b"no weights at all", "is not a plain weights file|could not be read as weights"),
        ("cut.safetensors", b"\xff" * 100, "could not be read as weights"),
        ("list.pth", [1, 2], "does not hold a plain mapping of names to tensors"),
        ("nested.pth", {"state_dict": {"features.0.weight": 1}}, "does not hold a plain mapping of names to tensors"),
        ("old.pth", pickle.dumps({"a": 1}), "could not be read as weights|is not a plain|not hold a plain mapping"),
    ],
)
def test_a_file_that_is_no_weights(name, content, complaint, tmp_path):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    with pytest.raises(WeightsError, match=complaint) as caught:
        load_weights(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["vgg", "", "weights.npz", "../imagenet"])
def test_an_unknown_name(name):
    with pytest.raises(WeightsError, match="weights must be imagenet, bundled, random or a"):
        load_weights(name)


def test_the_download_that_fails_is_explained(monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", no_network)
    with pytest.raises(WeightsError, match=f"could not be downloaded.*Set {backbone.IMAGENET_ENVIRONMENT}.*bundled"):
        load_weights("imagenet")


def test_the_download_is_torchvisions(monkeypatch):
    asked = []

    def download(url, *args, **kwargs):
        asked.append((url, kwargs["check_hash"]))
        return RANDOM

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", download)
    assert load_weights("imagenet") is RANDOM
    assert asked == [("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", True)]


def test_the_bundled_backbone():
    path = backbone.resources.files("attentdiffernet") / "bundled" / "alexnet_features.safetensors"
    if not path.is_file():
        pytest.skip("the bundled weights are not in this checkout yet (scripts/distill_backbone.py makes them)")
    assert path.stat().st_size <= 5_000_000
    tensors = load_weights("bundled")
    AlexNetFeatures("none", AttentionConfig()).load_convolutions(tensors, "bundled")
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
