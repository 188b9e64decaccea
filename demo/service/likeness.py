"""What the farthest place of an image looks like, beside the normal place that is nearest to it."""

import io

import numpy as np

from attentdiffernet.detector import Detector
from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.images import read_image

from .. import shipped
from .verdict import Likeness

CROP = 0.25  # side, as a share of the image's shorter side


def likeness(detector: Detector, image: np.ndarray, key: str) -> Likeness | None:
    """Of an image (H, W, 3) uint8; None for a detector that does not compare places."""
    if (near := detector.nearest_normal(image)) is None:
        return None
    normal = _training_image(key, near.image, detector)
    return Likeness(
        found=_crop(image, near.position),
        normal=None if normal is None else _crop(normal, near.normal_position),
        times=near.distance / detector.map_reference(detector.maps[0]),
    )


def _training_image(key: str, number: int, detector: Detector) -> np.ndarray | None:
    try:
        file = shipped.training_image(key, number, detector.data.n_fitted)
        white = detector.findings.value_range
        return None if file is None else read_image(io.BytesIO(file), "the training image", white)
    except (AttentDifferNetError, OSError):  # moved or damaged meanwhile
        return None


def _crop(image: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    """A square around a place (y, x), in shares of height and width; at the edge it is moved inward."""
    height, width = image.shape[:2]
    side = max(1, round(CROP * min(height, width)))
    y, x = (
        int(np.clip(round(share * length - side / 2), 0, length - side))
        for share, length in zip(centre, (height, width), strict=True)
    )
    return image[y : y + side, x : x + side]
