"""AlexNet features with attention blocks, and where their weights come from."""

import hashlib
import os
from collections import OrderedDict
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .attention import AttentionBlock, blocks_of
from .errors import WeightsError
from .options import POOLING_VARIANTS, AttentionConfig, Variant

IMAGENET_ENVIRONMENT = "ATTENTDIFFERNET_IMAGENET_WEIGHTS"
CHANNELS = 256  # of the last feature map, at every scale
CONVOLUTIONS = {1: 0, 2: 3, 3: 6, 4: 8, 5: 10}  # our conv number -> index in torchvision's `alexnet().features`


class AlexNetFeatures(nn.Module):
    """torchvision's `alexnet().features` with three attention blocks: (B, 3, H, W) -> (B, 256, h, w).

    Runs in two parts. `stem` ends before the first attention block, so it is the same for all variants that share the
    convolution weights and the placement; `trunk` is the rest. With `NoAttention` both together equal torchvision's.
    """

    channels = CHANNELS

    def __init__(self, variant: Variant, attention: AttentionConfig) -> None:
        super().__init__()
        blocks = blocks_of(variant)
        pool = {i: (f"pool{i}", nn.MaxPool2d(3, 2)) for i in (1, 2, 5)}
        attend = {
            i: (f"attention{k}", blocks[k - 1](channels, attention))
            for k, (i, channels) in enumerate(((1, 64), (2, 192)), 1)
        }
        after_pool = attention.placement == "after_pool"
        ends = {i: [pool[i], attend[i]] if after_pool else [attend[i], pool[i]] for i in (1, 2)}
        stem = [("conv1", nn.Conv2d(3, 64, 11, stride=4, padding=2)), ("relu1", nn.ReLU(inplace=True))]
        trunk = [
            ("conv2", nn.Conv2d(64, 192, 5, padding=2)),
            ("relu2", nn.ReLU(inplace=True)),
            *ends[2],
            ("conv3", nn.Conv2d(192, 384, 3, padding=1)),
            ("relu3", nn.ReLU(inplace=True)),
            ("conv4", nn.Conv2d(384, 256, 3, padding=1)),
            ("relu4", nn.ReLU(inplace=True)),
            ("conv5", nn.Conv2d(256, 256, 3, padding=1)),
            ("relu5", nn.ReLU(inplace=True)),
            ("attention3", blocks[2](CHANNELS, attention)),
        ]
        # Weights over places, which the average follows, stand behind the last pooling; all other blocks before it.
        trunk.insert(len(trunk) - (variant in POOLING_VARIANTS), pool[5])
        if after_pool:
            stem, trunk = [*stem, pool[1]], [attend[1], *trunk]
        else:
            trunk = [*ends[1], *trunk]
        self.stem = nn.Sequential(OrderedDict(stem))
        self.trunk = nn.Sequential(OrderedDict(trunk))

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(self.stem(x))

    def convolutions(self) -> dict[str, nn.Conv2d]:
        """The five convolutions by torchvision's prefix (`features.0` ... `features.10`)."""
        return {
            f"features.{index}": getattr(self.stem if number == 1 else self.trunk, f"conv{number}")
            for number, index in CONVOLUTIONS.items()
        }

    def attention_blocks(self) -> dict[str, AttentionBlock]:
        """`attention1` (64 channels), `attention2` (192), `attention3` (256), in the order they are run."""
        return {name: getattr(self.trunk, name) for name in ("attention1", "attention2", "attention3")}

    def load_convolutions(self, tensors: dict[str, Tensor], origin: str) -> None:
        """Copies the ten tensors `features.N.weight|bias`; other keys (a classifier) are ignored.

        Raises WeightsError that names the first tensor missing, of another shape or not finite; nothing is copied then.
        """
        targets = {
            f"{prefix}.{name}": parameter
            for prefix, conv in self.convolutions().items()
            for name, parameter in conv.named_parameters()
        }
        for key, target in targets.items():
            if key not in tensors:
                raise WeightsError(f"{origin} lacks the tensor {key!r} of AlexNet's features")
            if tensors[key].shape != target.shape:
                raise WeightsError(
                    f"{origin} has {key!r} of shape {tuple(tensors[key].shape)}, AlexNet's is {tuple(target.shape)}"
                )
            if not bool(torch.isfinite(tensors[key]).all()):
                raise WeightsError(f"{origin} holds values in {key!r} that are not finite")
        with torch.no_grad():
            for key, target in targets.items():
                target.copy_(tensors[key])

    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 over the convolution weights; identifies the backbone."""
        digest = hashlib.sha256()
        for conv in self.convolutions().values():
            for parameter in conv.parameters():
                digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def load_weights(name: str) -> dict[str, Tensor]:
    """The tensors of AlexNet's features for `imagenet`, `bundled`, `random`, or a .safetensors or .pth file.

    `imagenet` reads the file that ATTENTDIFFERNET_IMAGENET_WEIGHTS names where it is set, and otherwise what
    torchvision downloads once and keeps. `random` is PyTorch's initialisation with seed 0, the same everywhere.
    """
    if name == "imagenet":
        if path := os.environ.get(IMAGENET_ENVIRONMENT):
            return read_weights_file(Path(path), f"{path} ({IMAGENET_ENVIRONMENT})")
        return _download_imagenet()
    if name == "bundled":
        with resources.as_file(resources.files(__package__) / "bundled" / "alexnet_features.safetensors") as file:
            return {key: tensor.float() for key, tensor in read_weights_file(file, "the bundled backbone").items()}
    if name == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = AlexNetFeatures("none", AttentionConfig()).convolutions()
        return {f"{prefix}.{key}": value for prefix, conv in layers.items() for key, value in conv.state_dict().items()}
    if Path(name).suffix.lower() in {".safetensors", ".pth", ".pt"}:
        return read_weights_file(Path(name), name)
    raise WeightsError(f"weights must be imagenet, bundled, random or a .safetensors or .pth file, got {name!r}")


def imagenet_at_hand() -> bool:
    """Whether the weights `imagenet` can be read without a download."""
    if path := os.environ.get(IMAGENET_ENVIRONMENT):
        return Path(path).is_file()
    return (Path(torch.hub.get_dir()) / "checkpoints" / "alexnet-owt-7be5be79.pth").is_file()


def read_weights_file(path: Path, origin: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"There is no weights file {origin}")
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)  # tensors only: runs no code from the file
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise WeightsError(f"{origin} could not be read as weights: {type(error).__name__}") from error
    except Exception as error:  # pickle.UnpicklingError and its like, from a file of another kind
        raise WeightsError(
            f"{origin} is not a plain weights file ({type(error).__name__}); safetensors is safest"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsError(f"{origin} does not hold a plain mapping of names to tensors")
    return tensors


def _download_imagenet() -> dict[str, Tensor]:
    from ._torchvision import torchvision

    try:
        return torchvision.models.AlexNet_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            "The ImageNet weights of AlexNet could not be downloaded through torchvision "
            f"({type(error).__name__}). Set {IMAGENET_ENVIRONMENT} to a local file, or use weights=bundled"
        ) from error
