"""Squeeze-and-excitation and CBAM blocks: what AttentDifferNet adds to DifferNet's backbone.

`ATTENTION` maps a name to a block; the first argument of each is the channel count. All take (B, C, H, W) and return
the same shape. `channel_gates` and `spatial_gate` give the multipliers themselves, for maps and tables.
"""

import torch
from torch import Tensor, nn

from .options import AttentionConfig, Variant


def _gate(logits: Tensor, identity_start: bool) -> Tensor:
    return 2 * torch.sigmoid(logits) if identity_start else torch.sigmoid(logits)


def _zero(layer: nn.Linear | nn.Conv2d) -> None:
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


class NoAttention(nn.Identity):
    """The block of plain DifferNet: nothing is changed, nothing is gated."""

    def __init__(self, channels: int, config: AttentionConfig) -> None:
        super().__init__()

    def channel_gates(self, x: Tensor) -> None:
        return None

    def spatial_gate(self, x: Tensor) -> None:
        return None


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int, config: AttentionConfig) -> None:
        super().__init__()
        self.channel = ChannelGate(channels, config, pool_max=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.channel(x)

    def channel_gates(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C)."""
        return self.channel.gates(x)

    def spatial_gate(self, x: Tensor) -> None:
        return None


class CBAM(nn.Module):
    """Convolutional block attention: channel gates, then a spatial gate (Woo et al., ECCV 2018)."""

    def __init__(self, channels: int, config: AttentionConfig) -> None:
        super().__init__()
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


AttentionBlock = NoAttention | SqueezeExcitation | CBAM
ATTENTION: dict[Variant, type[AttentionBlock]] = {"none": NoAttention, "se": SqueezeExcitation, "cbam": CBAM}
