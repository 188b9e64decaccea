"""What the attention blocks of one variant do to one image, and Grad-CAM at any layer and scale."""

from dataclasses import dataclass

import numpy as np

from attentdiffernet.errors import DatasetError
from attentdiffernet.explain import AttentionReading, grad_cam, read_attention
from attentdiffernet.model import AttentDifferNet
from attentdiffernet.views import even_angles, make_views

from . import catalogue
from .comparison import Source, shown
from .decoding import read_image


@dataclass(frozen=True)
class AttentionView:
    """What the attention blocks of one variant do to one image. readings: by (block, scale); empty for DifferNet.

    highest_gate: the end of the gates' range (`AttentionConfig.highest_gate`). choices, note: of the configuration.
    """

    variant: str
    image: np.ndarray
    readings: dict[tuple[str, int], AttentionReading]
    scale_sizes: tuple[int, ...]
    highest_gate: float
    choices: str
    note: str

    @property
    def summary(self) -> list[tuple[str, int, int, float, float, float]]:
        """(block, scale, channels, lowest, median and highest channel gate) of each block and scale."""
        rows = []
        for (block, scale), reading in self.readings.items():
            if (gates := reading.channel_gates) is not None:
                lowest, median, highest = (float(x) for x in np.quantile(gates, [0, 0.5, 1]))
                rows.append((block, scale, gates.size, lowest, median, highest))
        return rows


def attention_view(source: Source, key: str, variant: str, name: str | None = None) -> AttentionView:
    """Gates, and activations before and after each block at every scale, for the unrotated image.

    Raises ImageError and DatasetError.
    """
    detector = catalogue.differnet(key, variant)
    model, config = detector.model, detector.model.config
    image = read_image(source, name, detector.findings.value_range)
    view = make_views(model.prepare(image), even_angles(1))[0]
    with catalogue.computing:
        readings = {
            (block, scale): read_attention(model, view, block, scale)
            for block in _blocks(model)
            for scale in range(config.n_scales)
        }
    return AttentionView(
        variant=variant,
        image=shown(image),
        readings=readings,
        scale_sizes=tuple(config.image_size >> scale for scale in range(config.n_scales)),
        highest_gate=config.attention.highest_gate,
        choices=detector.choices,
        note=detector.note,
    )


def grad_cam_view(
    source: Source, key: str, variant: str, layer: str, scale: int, name: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(image as shown, raw Grad-CAM (h, w)) of one variant through one scale, at one of `layers`.

    Raises ImageError and DatasetError.
    """
    detector = catalogue.differnet(key, variant)
    model = detector.model
    if layer not in layers(key, variant) or not 0 <= scale < model.config.n_scales:
        raise DatasetError(f"There is no layer {layer!r} at scale {scale} of {variant}")
    image = read_image(source, name, detector.findings.value_range)
    view = make_views(model.prepare(image), even_angles(1))[0]
    with catalogue.computing:
        return shown(image), grad_cam(model, view, scale, layer)


def layers(key: str, variant: str) -> list[str]:
    """Where Grad-CAM can look: the last features, and each attention block if the variant has any."""
    return ["features", *_blocks(catalogue.differnet(key, variant).model)]


def _blocks(model: AttentDifferNet) -> list[str]:
    return list(model.backbone.attention_blocks()) if model.config.variant != "none" else []
