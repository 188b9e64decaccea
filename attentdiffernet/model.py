"""AttentDifferNet: attention-gated AlexNet features at three scales, and a normalizing flow over them.

    views (V, 3, 448, 448) ─► scales 448, 224, 112 ─► AlexNet with SE or CBAM ─► pooled features (V, 768)
                                                    ─► flow ─► z (V, 768), log_det_jac (V,)

With `attention.kind = "none"` this *is* DifferNet (Rudolph et al., WACV 2021).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import CHANNELS, AlexNetFeatures, load_weights
from .config import ModelConfig
from .flow import build_flow


class AttentDifferNet(nn.Module):
    """Initialised reproducibly from `seed` (flow and attention) and `config.weights` (convolutions, frozen).

    weights: tensors to use instead of loading `config.weights`, so that several models share one reading.
    """

    def __init__(self, config: ModelConfig, seed: int = 0, weights: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone = AlexNetFeatures(config.attention)
            self.flow = build_flow(self.n_features, config.flow)
        self.backbone.load_convolutions(load_weights(config.weights) if weights is None else weights, config.weights)
        self.backbone.requires_grad_(False)
        self.weights_fingerprint = self.backbone.fingerprint()
        self.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs

    @property
    def n_features(self) -> int:
        return CHANNELS * self.config.n_scales

    def scales(self, views: Tensor) -> list[Tensor]:
        """(V, 3, S, S) -> the same views at S, S/2, S/4, by nearest neighbour as in DifferNet's reference code."""
        return [views] + [
            F.interpolate(views, size=self.config.image_size >> k) for k in range(1, self.config.n_scales)
        ]

    def stems(self, views: Tensor) -> list[Tensor]:
        """What comes before the first attention block, per scale: the same for all variants of one `stem_key`."""
        return [self.backbone.stem(x) for x in self.scales(views)]

    @property
    def stem_key(self) -> tuple[str, str, int, int]:
        """Models of equal key have equal `stems`."""
        config = self.config
        return self.weights_fingerprint, config.attention.placement, config.image_size, config.n_scales

    def features_from_stems(self, stems: list[Tensor]) -> Tensor:
        """The rest of the backbone: stems of `self.stems` -> (V, 768)."""
        return torch.cat([self.backbone.trunk(x).mean((2, 3)) for x in stems], dim=1)

    def features(self, views: Tensor) -> Tensor:
        """(V, 3, S, S) -> (V, 768): globally averaged last feature maps, full scale first."""
        return self.features_from_stems(self.stems(views))

    def latent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(V, 768) -> z (V, 768), log_det_jac (V,), of features brought to the flow's scale."""
        scale = self.config.feature_scale
        z, log_det_jac = self.flow(features * scale)
        return z, log_det_jac + math.log(scale) * self.n_features

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """(V, 3, S, S) -> z (V, 768), log_det_jac (V,)."""
        return self.latent(self.features(views))
