"""Attention blocks: SE and CBAM, which AttentDifferNet adds to DifferNet's backbone, and others that were tried.

`ATTENTION` maps a name to a block; the first argument of each is the channel count. All take (B, C, H, W) and return
the same shape. `channel_gates` and `spatial_gate` give the multipliers themselves, for maps and tables.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .flow import Whitening
from .options import POOLING_VARIANTS, AttentionConfig, Variant


def _gate(logits: Tensor, identity_start: bool) -> Tensor:
    return 2 * torch.sigmoid(logits) if identity_start else torch.sigmoid(logits)


def _zero(layer: nn.Linear | nn.Conv1d | nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class ChannelGate(nn.Module):
    """One multiplier per channel from pooled statistics, through a bottleneck shared by all poolings.

    SE (Hu et al. 2018, eq. 2-3) pools by the mean; CBAM (Woo et al. 2018, eq. 2) adds the maximum.
    """

    def __init__(self, channels: int, config: AttentionConfig, pool_max: bool) -> None:
        super().__init__()
        width = max(1, channels // config.reduction)
        self.squeeze = nn.Linear(channels, width)
        self.excite = nn.Linear(width, channels)
        self.pool_max = pool_max
        self.identity_start = config.identity_start
        if config.identity_start:
            _zero(self.excite)

    def gates(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C), in (0, 1), or (0, 2) with identity start."""
        logits = self.excite(torch.relu(self.squeeze(x.mean((2, 3)))))
        if self.pool_max:
            logits = logits + self.excite(torch.relu(self.squeeze(x.amax((2, 3)))))
        return _gate(logits, self.identity_start)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gates(x)[:, :, None, None]


class SpatialGate(nn.Module):
    """One multiplier per place, from the mean and the maximum over channels (CBAM, eq. 3)."""

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, config.kernel_size, padding=config.kernel_size // 2)
        self.identity_start = config.identity_start
        if config.identity_start:
            _zero(self.conv)

    def gates(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W), in (0, 1), or (0, 2) with identity start."""
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return _gate(self.conv(pooled), self.identity_start)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gates(x)


class AttentionBlock(nn.Module):
    """(B, C, H, W) -> (B, C, H, W). Blocks have the gates that they override."""

    def __init__(self, channels: int, config: AttentionConfig) -> None:
        super().__init__()

    def channel_gates(self, x: Tensor) -> Tensor | None:
        """(B, C, H, W) -> (B, C)."""
        return None

    def spatial_gate(self, x: Tensor) -> Tensor | None:
        """(B, C, H, W) -> (B, H, W)."""
        return None


class NoAttention(AttentionBlock):
    """The block of plain DifferNet: nothing is changed, nothing is gated."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class SqueezeExcitation(AttentionBlock):
    """Squeeze-and-excitation (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int, config: AttentionConfig) -> None:
        super().__init__(channels, config)
        self.channel = ChannelGate(channels, config, pool_max=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.channel(x)

    def channel_gates(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C)."""
        return self.channel.gates(x)


class CBAM(AttentionBlock):
    """Convolutional block attention: channel gates, then a spatial gate (Woo et al., ECCV 2018)."""

    def __init__(self, channels: int, config: AttentionConfig) -> None:
        super().__init__(channels, config)
        self.channel = ChannelGate(channels, config, pool_max=True)
        self.spatial = SpatialGate(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.spatial(self.channel(x))

    def channel_gates(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C)."""
        return self.channel.gates(x)

    def spatial_gate(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H, W)."""
        return self.spatial.gates(self.channel(x))[:, 0]


class ECA(AttentionBlock):
    """Efficient channel attention (Wang et al., CVPR 2020): each channel is gated by the means of its neighbours.

    The kernel grows with the channels C: the odd number next to log2(C) / 2 + 1 / 2 (their equation 12).
    """

    def __init__(self, channels: int, config: AttentionConfig) -> None:
        super().__init__(channels, config)
        size = int(math.log2(channels) / 2 + 0.5) | 1
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)
        self.identity_start = config.identity_start
        if config.identity_start:
            _zero(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.channel_gates(x)[:, :, None, None]

    def channel_gates(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C)."""
        return _gate(self.conv(x.mean((2, 3))[:, None])[:, 0], self.identity_start)


class SimAM(AttentionBlock):
    """Gates without parameters (Yang et al., ICML 2021, equation 5): each value by how far it lies from its channel's
    mean, in units of the channel's variance. Nothing in it can be trained."""

    LAMBDA = 1e-4

    def forward(self, x: Tensor) -> Tensor:
        squared = (x - x.mean((2, 3), keepdim=True)).square()
        variance = squared.sum((2, 3), keepdim=True) / max(1, x.shape[2] * x.shape[3] - 1)
        return x * torch.sigmoid(squared / (4 * (variance + self.LAMBDA)) + 0.5)


class CoordinateAttention(AttentionBlock):
    """One multiplier per channel and row and one per channel and column, from the means of rows and columns (Hou et
    al., CVPR 2021), without their batch normalisation: convolutions here are frozen and batches are views of an image.
    """

    def __init__(self, channels: int, config: AttentionConfig) -> None:
        super().__init__(channels, config)
        width = max(8, channels // config.reduction)
        self.squeeze = nn.Conv1d(channels, width, 1)
        self.of_rows = nn.Conv1d(width, channels, 1)
        self.of_columns = nn.Conv1d(width, channels, 1)
        self.identity_start = config.identity_start
        if config.identity_start:
            _zero(self.of_rows)
            _zero(self.of_columns)

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        hidden = F.hardswish(self.squeeze(torch.cat([x.mean(3), x.mean(2)], 2)))
        rows = _gate(self.of_rows(hidden[..., :height]), self.identity_start)
        columns = _gate(self.of_columns(hidden[..., height:]), self.identity_start)
        return x * rows[..., None] * columns[:, :, None]


class AttentionPooling(AttentionBlock):
    """Weights over places that sum to one, in place of the average (Ilse et al., ICML 2018, in the form of a gate).

    The weights are a softmax over places of a small network on each place. They are multiplied by the number of places,
    so that the average that follows is the weighted sum; equal weights leave the map as it is.
    """

    def __init__(self, channels: int, config: AttentionConfig) -> None:
        super().__init__(channels, config)
        self.squeeze = nn.Conv2d(channels, max(1, channels // config.reduction), 1)
        self.weigh = nn.Conv2d(self.squeeze.out_channels, 1, 1)
        if config.identity_start:
            _zero(self.weigh)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.spatial_gate(x)[:, None]

    def spatial_gate(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H, W), of mean 1."""
        logits = self.weigh(torch.relu(self.squeeze(x)))
        return logits.flatten(1).softmax(1).view(-1, *x.shape[2:]) * (x.shape[2] * x.shape[3])


class RarityPooling(AttentionBlock):
    """Weights over places that sum to one, in place of the average: each as high as the place is rare.

    w_p = d_p / sum of d over the places of the image, where d_p is the squared Mahalanobis distance of a place to the
    places of normal images. Nothing is trained: mean and covariance of normal places are measured
    (attention_training.py). Until then all places weigh the same. As in `AttentionPooling`, weights have a mean of 1.
    """

    EPS = 1e-6

    def __init__(self, channels: int, config: AttentionConfig) -> None:
        super().__init__(channels, config)
        self.normal_places = Whitening(channels)
        self.normal_places.factor.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.spatial_gate(x)[:, None]

    def rarity(self, x: Tensor) -> Tensor:
        """Squared Mahalanobis distances over C: (B, C, H, W) -> (B, H, W)."""
        z, _ = self.normal_places(x.flatten(2).transpose(1, 2))
        return z.square().mean(2).view(-1, *x.shape[2:])

    def spatial_gate(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H, W), of mean 1."""
        return self.of_mean_one(self.rarity(x))

    def of_mean_one(self, weights: Tensor) -> Tensor:
        mean = weights.mean((1, 2), keepdim=True)
        return 1 + (weights - mean) / (mean + self.EPS)  # weights / mean, and exactly 1 where all are zero


class SurprisePooling(RarityPooling):
    """Rarity pooling in units of what is usual at a place: w_p = (d_p / u_p) / sum of d / u over the places.

    u_p is the mean of d_p over normal images and views of them, measured at the full scale and resized to the map that
    is weighed. So what is rare but always there, as an object's edge, does not draw the weights.
    """

    SIDE = 13  # of the map of usual rarity: that of an image of 448 px

    def __init__(self, channels: int, config: AttentionConfig) -> None:
        super().__init__(channels, config)
        self.usual: Tensor
        self.register_buffer("usual", torch.ones(self.SIDE, self.SIDE))

    def measure_usual(self, normal_maps: Sequence[Tensor]) -> None:
        """From the full scale's maps of normal images, (B, C, H, W) each, when normal places are known."""
        mean = torch.cat([self.rarity(maps) for maps in normal_maps]).mean(0)
        self.usual.copy_(resized(mean[None], self.usual.shape)[0].clamp(min=self.EPS))

    def spatial_gate(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H, W), of mean 1."""
        return self.of_mean_one(self.rarity(x) / resized(self.usual[None], x.shape[2:]))


def resized(image: Tensor, shape: Sequence[int]) -> Tensor:
    """An image or a map, bilinearly: (C, h, w) -> (C, H, W)."""
    if image.shape[1:] == tuple(shape):
        return image
    return F.interpolate(image[None], tuple(shape), mode="bilinear", antialias=True, align_corners=False)[0]


ATTENTION: dict[Variant, type[AttentionBlock]] = {
    "none": NoAttention,
    "se": SqueezeExcitation,
    "cbam": CBAM,
    "eca": ECA,
    "simam": SimAM,
    "coordinate": CoordinateAttention,
    "pooling": AttentionPooling,
    "rarity": RarityPooling,
    "surprise": SurprisePooling,
}


def blocks_of(variant: Variant) -> tuple[type[AttentionBlock], ...]:
    """The three blocks of a backbone, in order. Weights over places stand behind the last map alone."""
    block = ATTENTION[variant]
    return (NoAttention, NoAttention, block) if variant in POOLING_VARIANTS else (block,) * 3
