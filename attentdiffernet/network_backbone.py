"""Any convolutional network of timm as the backbone of DifferNet, with an attention block after each of its levels."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from .attention import AttentionBlock, blocks_of
from .errors import WeightsError
from .networks import FeatureMaps, load_network
from .options import AttentionConfig, Variant
from .views import IMAGENET_MEAN, IMAGENET_STD

STRIDES = (8, 16, 32)  # px: the levels after which attention blocks stand, as AlexNet has three


class NetworkBackbone(nn.Module):
    """The network up to its feature map of stride 32: (B, 3, H, W), normalised as `make_views` does -> (B, C, h, w).

    In two parts, as `AlexNetFeatures`: `stem` ends before the first attention block, `trunk` is the rest. channels: C,
    of the last feature map. Raises WeightsError as `load_network`, and for a network whose stages do not run one after
    the other.
    """

    def __init__(self, name: str, variant: Variant, attention: AttentionConfig, weights: str) -> None:
        super().__init__()
        maps = load_network(name, STRIDES, weights)
        layers = _in_order(maps)
        ends = [k for k, (_, _, channels) in enumerate(layers) if channels]
        blocks = {
            end: (f"attention{k}", block(layers[end][2], attention))
            for k, (end, block) in enumerate(zip(ends, blocks_of(variant), strict=True), 1)
        }
        stem = [("input", _Renormalise(maps.mean, maps.std)), *(layer[:2] for layer in layers[: ends[0] + 1])]
        trunk: list[tuple[str, nn.Module]] = [blocks[ends[0]]]
        for k, layer in enumerate(layers[ends[0] + 1 : ends[-1] + 1], ends[0] + 1):
            trunk += [layer[:2], *([blocks[k]] if k in blocks else [])]
        self.channels = layers[ends[-1]][2]
        self._fingerprint = maps.fingerprint
        self.stem = nn.Sequential(OrderedDict(stem))
        self.trunk = nn.Sequential(OrderedDict(trunk))

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(self.stem(x))

    def attention_blocks(self) -> dict[str, AttentionBlock]:
        """`attention1` to `attention3`, in the order they are run."""
        return {name: layer for name, layer in self.trunk.named_children() if name.startswith("attention")}  # type: ignore[misc]

    def fingerprint(self) -> str:
        """Of the network's weights, without attention."""
        return self._fingerprint


class _Renormalise(nn.Module):
    """From ImageNet's usual mean and deviation to those that a network was trained with."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        usual_mean, usual_std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("scale", usual_std / std, persistent=False)
        self.register_buffer("shift", (usual_mean - mean) / std, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def _in_order(maps: FeatureMaps) -> list[tuple[str, nn.Module, int]]:
    """(name, layer, channels) in the order they run; channels: 0 where the output is no feature map that was asked for.

    What runs when is not said by timm, so it is tried: after each layer, the output is compared with the feature maps.
    """
    network: Any = maps.network
    if isinstance(network, nn.ModuleDict):
        layers = list(network.items())
    else:
        ends = [(name, getattr(network, name)) for name in ("conv_stem", "bn1") if hasattr(network, name)]
        layers = ends + [(f"stage{k}", stage) for k, stage in enumerate(getattr(network, "blocks", []), 1)]
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = list[tuple[str, nn.Module, int]]()
    with torch.inference_mode():
        wanted = list(network(x))
        for name, layer in layers:
            x = layer(x)
            is_level = bool(wanted) and x.shape == wanted[0].shape and torch.allclose(x, wanted[0])
            found.append((name, layer, x.shape[1] if is_level else 0))
            wanted = wanted[is_level:]
    if wanted:
        raise WeightsError(f"The stages of {maps.name} do not run one after the other: it serves PatchCore only")
    return found
