"""Where a model looks: Grad-CAM, gates of attention blocks, DifferNet's gradient maps. Raw values, drawn elsewhere.

A view is one ImageNet-normalised (3, S, S) tensor of `views.make_views` on the model's device, usually the unrotated
one. All maps are (h, w) float32 arrays of their own resolution, ≥ 0, and cover the whole image. Nothing is rescaled per
image: min-max scaling would make every normal image glow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from .devices import in_float32, to_device
from .flow import negative_log_likelihood
from .model import AttentDifferNet, ModelConfig
from .views import even_angles, make_views
from .words import training_note

GRADIENT_TURNS = (0, 1, 2, 3)  # quarter turns: rotated back without interpolation
# Octaves above what normals reach at which the colour scale of a map may end, at least and at most: so that a normal
# image does not fill it, and one far maximum does not hide everything else. Distances are far from 0 for normals, too.
SCALE_ENDS, SCALE_ENDS_OF_DISTANCE = (2.0, 4.0), (1.0, 2.0)
GRADIENT_BLUR_SIGMA = 3.0  # px at the network's input size, as in DifferNet's reference code


def grad_cam(model: AttentDifferNet, view: Tensor, scale: int = 0, layer: str = "features") -> np.ndarray:
    """Grad-CAM (Selvaraju et al., ICCV 2017) of the view's anomaly score through one scale: (h, w).

    The score is the model's, of this view alone; the other scales are held constant. layer: `features` (the whole
    backbone, 13 x 13 at 448 px) or an attention block, `attention1` ... `attention3`. Target and layer of the paper's
    own maps are not published: these are choices of this reproduction.
    """
    from . import _torchvision  # noqa: F401  before pytorch_grad_cam, which imports torchvision
    from pytorch_grad_cam import GradCAM  # and OpenCV: only where a map is asked for  # isort: skip

    class RawGradCAM(GradCAM):  # type: ignore[misc]
        """The library's weights and activations, without its min-max scaling of every map on its own."""

        def compute_cam_per_layer(self, input_tensor, targets, eigen_smooth):  # type: ignore[no-untyped-def]
            (activations,), (grads,) = self.activations_and_grads.activations, self.activations_and_grads.gradients
            layers = self.target_layers
            return self.get_cam_image(input_tensor, layers[0], targets, activations.numpy(), grads.numpy())

        def aggregate_multi_layers(self, cam: np.ndarray) -> np.ndarray:
            return np.maximum(cam, 0)

    with torch.no_grad(), in_float32(model.device):
        scales = model.scales(view[None])
        reached, rest = _up_to(model, layer, scales[scale])
        pooled = [reached if k == scale else model.backbone(x).mean((2, 3)) for k, x in enumerate(scales)]
    score = _ScoreFromLayer(model, rest, pooled, scale)
    cam = RawGradCAM(score, [score.layer])
    try:
        with torch.enable_grad(), in_float32(model.device):
            return cam(reached.detach().clone().requires_grad_(True), targets=[lambda score: score])[0]
    finally:
        cam.activations_and_grads.release()


def _up_to(model: AttentDifferNet, layer: str, x: Tensor) -> tuple[Tensor, nn.Sequential]:
    """(what the backbone makes of x up to this layer, the layers behind it)."""
    trunk = list(model.backbone.trunk.named_children())
    end = len(trunk) if layer == "features" else [name for name, _ in trunk].index(layer) + 1
    before, rest = (nn.Sequential(*(child for _, child in part)) for part in (trunk[:end], trunk[end:]))
    return before(model.backbone.stem(x)), rest


class _ScoreFromLayer(nn.Module):
    """(1, C, h, w) at one layer and scale -> anomaly score (1,). pooled: features (1, C) of each scale; of this one,
    anything. layer: where the hooks are. What lies before it needs no gradient, which would cost most of the time."""

    def __init__(self, model: AttentDifferNet, rest: nn.Sequential, pooled: list[Tensor], scale: int) -> None:
        super().__init__()
        self.model, self.rest, self.pooled, self.scale = model, rest, pooled, scale
        self.layer = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        own = self.rest(self.layer(x)).mean((2, 3))
        pooled = [own if k == self.scale else f for k, f in enumerate(self.pooled)]
        return self.model.row_scores(torch.cat(pooled, dim=1))


def gradient_map(model: AttentDifferNet, view: Tensor) -> np.ndarray:
    """DifferNet's gradient map: (S, S).

    |d loss / d input| averaged over colours, rotated back, blurred (sigma 3 px) and averaged over four quarter turns
    (two half turns of a rectangle), then squared (Rudolph et al., section 3.4; loss: negative log-likelihood).
    """
    turns = GRADIENT_TURNS if view.shape[1] == view.shape[2] else GRADIENT_TURNS[::2]
    turned = torch.stack([torch.rot90(view, k, dims=(1, 2)) for k in turns])
    with torch.enable_grad(), in_float32(model.device):
        turned = turned.contiguous(memory_format=torch.channels_last).requires_grad_(True)
        loss = negative_log_likelihood(*model(turned)).sum()
        (gradient,) = torch.autograd.grad(loss, turned)
    maps = gradient.abs().mean(1)
    upright = torch.stack([torch.rot90(m, -k, dims=(0, 1)) for k, m in zip(turns, maps, strict=True)]).mean(0)
    return gaussian_filter(upright.cpu().numpy(), GRADIENT_BLUR_SIGMA) ** 2


@dataclass(frozen=True)
class AttentionReading:
    """What one attention block does to one view at one scale.

    before, after: channel mean of the block's input and output, (h, w). channel_gates: (C,), spatial_gate: (h, w);
    None where the block has none.
    """

    before: np.ndarray
    after: np.ndarray
    channel_gates: np.ndarray | None
    spatial_gate: np.ndarray | None


def read_attention(model: AttentDifferNet, view: Tensor, block: str = "attention3", scale: int = 0) -> AttentionReading:
    """The gates of `attention1` (64 channels), `attention2` (192) or `attention3` (256) for one view."""
    blocks = model.backbone.attention_blocks()
    if block not in blocks:
        raise ValueError(f"block must be one of {', '.join(blocks)}, got {block!r}")
    attention = blocks[block]
    with torch.inference_mode(), in_float32(model.device):
        x = model.backbone.stem(model.scales(view[None])[scale])
        for name, layer in model.backbone.trunk.named_children():
            if name == block:
                break
            x = layer(x)
        channel, spatial = attention.channel_gates(x), attention.spatial_gate(x)
        return AttentionReading(
            before=x[0].mean(0).cpu().numpy(),
            after=attention(x)[0].mean(0).cpu().numpy(),
            channel_gates=None if channel is None else channel[0].cpu().numpy(),
            spatial_gate=None if spatial is None else spatial[0].cpu().numpy(),
        )


def attention_map(model: AttentDifferNet, view: Tensor) -> np.ndarray:
    """Activation that passes the last attention block, averaged over channels: (h, w).

    The same quantity for SE (channel gates), CBAM (channel and spatial gates) and DifferNet (no gates), so that the
    three can share one colour scale. CBAM's spatial gate alone: `spatial_gate_map`.
    """
    return read_attention(model, view).after


def spatial_gate_map(model: AttentDifferNet, view: Tensor) -> np.ndarray:
    """CBAM's spatial gate in the last attention block: (h, w). Raises ValueError for a variant without one."""
    gate = read_attention(model, view).spatial_gate
    if gate is None:
        raise ValueError(f"Only CBAM has spatial gates; this model's attention is {model.config.variant!r}")
    return gate


METHODS: dict[str, Callable[[AttentDifferNet, Tensor], np.ndarray]] = {
    "grad-cam": grad_cam,
    "attention": attention_map,
    "gradient": gradient_map,
    "spatial-gate": spatial_gate_map,
}


def methods_of(config: ModelConfig) -> list[str]:
    """The maps that a model of this configuration can give."""
    return [name for name in METHODS if name != "spatial-gate" or config.variant == "cbam"]


def what_it_shows(method: str, config: ModelConfig) -> str:
    """One sentence about a map, with the caveat that is needed to read it."""
    if method == "grad-cam":
        return "Grad-CAM: places whose features raise the anomaly score, at full scale."
    if method == "gradient":
        return "Gradient map: pixels that would change the likelihood most."
    note = training_note(config.variant, config.attention, config.gates_kept)
    if config.variant == "none":
        return f"Activation of the last feature map. {note}"
    what = "CBAM's spatial gate" if method == "spatial-gate" else "activation behind the last attention block"
    return f"Attention: {what}. {note}"


def explain(model: AttentDifferNet, image: Tensor, method: str) -> np.ndarray:
    """A map of `METHODS` for one image (3, S, S) in [0, 1], unrotated: (h, w), ≥ 0."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    return METHODS[method](model, make_views(to_device(image, model.device), even_angles(1))[0])


def relative_heat(
    maps: dict[str, np.ndarray], references: dict[str, float], ends: tuple[float, float] = SCALE_ENDS
) -> tuple[dict[str, np.ndarray], tuple[float, float]]:
    """Maps of several models on one colour scale: (heat by name, (vmin, vmax)).

    Heat is log2 of the value over the model's reference, the 99th percentile of the same map over held-out normals
    (`Calibration.map_references`): 0 is as high as normals get, 1 twice that, 2 four times. Models differ in the size
    of their gradients; measured against their own normals they can share a colour bar. vmin is 0, so that what normals
    reach is not coloured; vmax is the highest value of all, within `ends`: give `scale_ends` of the maps.
    """
    heat = {}
    for name, values in maps.items():
        ratio = values.astype(np.float64) / max(references[name], float(np.finfo(np.float32).tiny))
        heat[name] = np.log2(np.maximum(ratio, 2.0**-8)).astype(np.float32)
    least, most = ends
    return heat, (0.0, min(most, max([least, *(float(h.max()) for h in heat.values())])))


def scale_ends(method: str) -> tuple[float, float]:
    """Where the colour scale of a kind of map may end; only maps of the same kind share a scale."""
    return SCALE_ENDS_OF_DISTANCE if method == "distance" else SCALE_ENDS


def drawn_over(image: np.ndarray, heatmap: np.ndarray, reference: float, method: str) -> Image.Image:
    """The photograph (H, W, 3) uint8 with a raw map (h, w) on it, coloured where it exceeds the reference."""
    from .figures.overlay import overlay

    heat, scale = relative_heat({"": heatmap}, {"": reference}, scale_ends(method))
    return Image.fromarray(overlay(image, heat[""], *scale))
