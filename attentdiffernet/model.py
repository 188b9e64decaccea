"""AttentDifferNet: attention-gated AlexNet features at three scales, and a normalizing flow over them.

    views (V, 3, 448, 448) ─► scales 448, 224, 112 ─► AlexNet with SE or CBAM ─► pooled features (V, 768)
                                                    ─► whitening, flow ─► z (V, 768), log_det_jac (V,)

With `variant = "none"` this *is* DifferNet (Rudolph et al., WACV 2021); its flow has no whitening (FlowConfig).
"""

import copy
import dataclasses
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import AlexNetFeatures, load_weights
from .checked import Checked
from .copies import copy_of
from .devices import in_float32
from .findings import Findings
from .flow import Whitening, build_flow, negative_log_likelihood
from .network_backbone import NetworkBackbone
from .options import (
    ALEXNET,
    FIXED_VARIANTS,
    FLOW_SIZES,
    GAUSSIAN_READOUTS,
    AttentionConfig,
    Exposure,
    FlowConfig,
    Options,
    Readout,
    Resize,
    Variant,
    ViewKind,
    check_input,
    check_network,
    least_side,
)
from .sources import ImageSource
from .views import even_views, standardise_exposure, to_tensor

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class ModelConfig(Checked):
    """All that decides how a network is built, sees an image and scores it: `Options` with nothing left to choose.

    gates_kept: as of `Findings`; all else as of `Options`.
    """

    variant: Variant = "none"
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    gates_kept: bool = True
    flow: FlowConfig = FLOW_SIZES["compact"]
    weights: str = "imagenet"
    backbone: str = ALEXNET
    image_size: int = 448
    n_scales: int = 3
    resize: Resize = "squeeze"
    exposure: Exposure = "as_is"
    views: ViewKind = "rotations"
    readout: Readout = "z2_of_mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_network(self.image_size, self.n_scales, self.flow, self.backbone)
        check_input(self.flow, self.views, self.resize, self.readout)

    @classmethod
    def of(cls, options: Options, findings: Findings) -> Self:
        """The network for what was asked, with what the training normals answered."""
        answered = {name: getattr(findings, name) for name in ("resize", "exposure", "views", "readout", "gates_kept")}
        asked = ("variant", "backbone", "attention", "flow", "weights", "image_size", "n_scales")
        return cls(**{name: getattr(options, name) for name in asked}, **answered)

    @property
    def gated(self) -> bool:
        """Whether attention changes the features; if not, they are DifferNet's."""
        return self.variant != "none" and self.gates_kept

    @property
    def least_side(self) -> int:
        """px that no side of the network input may fall below."""
        return least_side(self.n_scales, self.backbone)


class AttentDifferNet(nn.Module):
    """Initialised reproducibly from `seed` (flow and attention) and `config.weights` (convolutions, frozen).

    weights: AlexNet's tensors, instead of loading `config.weights`, so that several models share one reading.
    feature_scale: factor on the features before the flow. Fitted, as the whitening is (flow_fitting.fit_gaussian).
    precision: of the backbone behind its stem; pooling and flow stay in float32. It is not stored. The stem stays in
    float32, too: pixels in bfloat16 would double the error of the scores.
    """

    precision: Precision = "float32"
    feature_scale: float = 1.0

    def __init__(self, config: ModelConfig, seed: int = 0, weights: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        self._config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone = self._built_backbone(weights)
            self.flow = build_flow(self.n_features, config.flow)
        self.whitening = Whitening(self.n_features) if config.flow.whitening else None
        self.backbone.requires_grad_(False)
        self.weights_fingerprint = self.backbone.fingerprint()
        self.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs

    def _built_backbone(self, weights: dict[str, Tensor] | None) -> AlexNetFeatures | NetworkBackbone:
        config = self.config
        # Gates that were not kept are at 1, where their training starts; without a training there is no such start.
        variant = "none" if config.variant in FIXED_VARIANTS and not config.gates_kept else config.variant
        if config.backbone != ALEXNET:
            return NetworkBackbone(config.backbone, variant, config.attention, config.weights)
        backbone = AlexNetFeatures(variant, config.attention)
        backbone.load_convolutions(load_weights(config.weights) if weights is None else weights, config.weights)
        return backbone

    @property
    def config(self) -> ModelConfig:
        """How it was built; it does not change."""
        return self._config

    def with_options(self, **changes: ViewKind | Resize | Exposure | Readout) -> Self:
        """A model of the same weights that sees images otherwise or reads off another score: with other `views`,
        `resize`, `exposure` or `readout`."""
        if unknown := sorted(set(changes) - {"views", "resize", "exposure", "readout"}):
            raise ValueError(
                f"Only views, resize, exposure and readout leave the weights as they are, got {unknown[0]}"
            )
        other = copy.copy(self)
        other._config = dataclasses.replace(self.config, **changes)  # type: ignore[arg-type]
        return other

    @property
    def device(self) -> torch.device:
        """Where it runs: of its parameters."""
        return next(self.parameters()).device

    @property
    def n_features(self) -> int:
        return self.backbone.channels * self.config.n_scales

    def prepare(self, image: np.ndarray) -> Tensor:
        """(H, W, 3) uint8 -> the image that views are made of: (3, S, S), or (3, h, w) with `resize="keep_aspect"`."""
        return self.exposed(to_tensor(image, self.config.image_size, self._aspect_side))

    def prepare_to_train(self, source: ImageSource) -> Tensor:
        """As `prepare`, of a training image: its copy is kept for the stages that follow."""
        return self.exposed(copy_of(source, self.config.image_size, self._aspect_side).tensor())

    @property
    def _aspect_side(self) -> int | None:
        return self.config.least_side if self.config.resize == "keep_aspect" else None

    @property
    def input_key(self) -> tuple[int, str, str, int]:
        """Models of equal key `prepare` an image in the same way."""
        config = self.config
        return config.image_size, config.resize, config.exposure, self._aspect_side or 0

    def exposed(self, images: Tensor) -> Tensor:
        """Images (..., 3, H, W) in [0, 1] in the configured exposure: the last step of `prepare`."""
        return standardise_exposure(images) if self.config.exposure == "standardised" else images

    def scales(self, views: Tensor) -> list[Tensor]:
        """(V, 3, S, S) -> the same views at S, S/2, S/4, by nearest neighbour as in DifferNet's reference code."""
        h, w = views.shape[-2:]
        return [views] + [F.interpolate(views, size=(h >> k, w >> k)) for k in range(1, self.config.n_scales)]

    def stems(self, views: Tensor) -> list[Tensor]:
        """The part before the first attention block, per scale: the same for all variants of one `stem_key`."""
        with self._computed_in("float32"):
            return [self.backbone.stem(x) for x in self.scales(views)]

    @property
    def stem_key(self) -> tuple[str, str, int, int]:
        """Models of equal key have equal `stems`."""
        config = self.config
        return self.weights_fingerprint, config.attention.placement, config.image_size, config.n_scales

    def features_from_stems(self, stems: list[Tensor]) -> Tensor:
        """The rest of the backbone: stems of `self.stems` -> (V, 768)."""
        with self._computed_in(self.precision):
            return torch.cat([self.backbone.trunk(x).float().mean((2, 3)) for x in stems], dim=1)

    def _computed_in(self, precision: Precision) -> AbstractContextManager[object]:
        if precision == "bfloat16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return in_float32(self.device)

    def features(self, views: Tensor) -> Tensor:
        """(V, 3, S, S) -> (V, 768): globally averaged last feature maps, full scale first."""
        return self.features_from_stems(self.stems(views))

    def latent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 768) -> z (B, 768), log_det_jac (B,), of features brought to the flow's scale and whitened."""
        gaussian, log_det_whitening = self.gaussian_latent(features)
        z, log_det_jac = self.flow(gaussian)
        return z, log_det_whitening + log_det_jac

    def gaussian_latent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """As `latent`, before the couplings. Without `flow.whitening` the features are only scaled."""
        scale = self.feature_scale
        log_det_scale = features.new_full((len(features),), math.log(scale) * self.n_features)
        if self.whitening is None:
            return features * scale, log_det_scale
        z, log_det_jac = self.whitening(features * scale)
        return z, log_det_scale + log_det_jac

    def row_scores(self, features: Tensor) -> Tensor:
        """The anomaly score of each row by itself: (B, 768) -> (B,). All readouts except `likelihood` are ≥ 0."""
        readout = self.config.readout
        if readout == "likelihood":
            return negative_log_likelihood(*self.latent(features))
        z, _ = self.gaussian_latent(features) if readout in GAUSSIAN_READOUTS else self.latent(features)
        return (z[:, : self.backbone.channels] if readout == "gaussian_full_scale" else z).square().mean(1)

    def score(self, features: Tensor) -> Tensor:
        """The anomaly score of images by the configured readout: features of V views each, (B, V, 768) -> (B,)."""
        if self.config.readout.endswith("_of_mean"):
            return self.row_scores(features.mean(1))
        return self.row_scores(features.flatten(0, 1)).view(features.shape[:2]).mean(1)

    def views(self, n_views: int) -> Tensor:
        """The views that an image is scored on, (V, 2, 2): V is n_views, but at most as many as the kind has."""
        return even_views(self.config.views, n_views)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """(V, 3, S, S) -> z (V, 768), log_det_jac (V,)."""
        return self.latent(self.features(views))
