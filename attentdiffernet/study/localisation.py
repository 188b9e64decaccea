"""How well a map tells defective pixels from normal ones, over all test images: pixel AUROC and AUPRO.

Values of all pixels would not fit in memory. They are counted in BINS classes of equal ratio, on which both numbers
depend: values in one class are ties. A class is 2.3 % wide, so that the areas are those of the values to about 0.001.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

EDGES = np.geomspace(1e-3, 1e3, 601)  # in units of the map's reference; less counts as 0
BINS = len(EDGES) + 1
MAX_FPR = 0.3  # up to which AUPRO integrates, as in MVTec AD
TOUCHING = np.ones((3, 3), bool)  # pixels that share a corner are one region


@dataclass(frozen=True)
class PixelCounts:
    """Pixels by class of their value, each (BINS,), ascending: bin 0 is below EDGES[0], bin k from EDGES[k - 1] on.

    normal: outside of all defects. anomalous: on a defect. overlap: the same, each pixel as a share of its region, so
    that all regions weigh the same and the sum is their number.
    """

    normal: NDArray[np.int64]
    anomalous: NDArray[np.int64]
    overlap: NDArray[np.float64]

    @classmethod
    def none(cls) -> Self:
        return cls(np.zeros(BINS, np.int64), np.zeros(BINS, np.int64), np.zeros(BINS))

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        return PixelCounts(self.normal + other.normal, self.anomalous + other.anomalous, self.overlap + other.overlap)

    @property
    def n_regions(self) -> int:
        return round(float(self.overlap.sum()))


def brought_to(heatmap: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.float32]:
    """A map (h, w) at an image's size (H, W), bilinearly, as it is drawn over it."""
    image = Image.fromarray(heatmap.astype(np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def count_pixels(values: NDArray[np.floating], mask: NDArray[np.bool_]) -> PixelCounts:
    """Of one image: a map (H, W) ≥ 0 in units of its reference, and the mask (H, W) of its defects, empty for a normal
    image."""
    bins = np.searchsorted(EDGES, values, side="right")
    regions, n = ndimage.label(mask, TOUCHING)
    share = 1 / np.maximum(np.bincount(regions.ravel(), minlength=n + 1), 1)
    on = bins[mask]
    return PixelCounts(
        np.bincount(bins[~mask], minlength=BINS),
        np.bincount(on, minlength=BINS),
        np.bincount(on, weights=share[regions[mask]], minlength=BINS).astype(np.float64),  # of nothing: integers
    )


def pixel_auroc(counts: PixelCounts) -> float:
    """Probability that a pixel on a defect has a higher value than a normal one, ties counting half. Raises ValueError
    without either."""
    n_normal, n_anomalous = _numbers(counts)
    below = np.cumsum(counts.normal) - counts.normal / 2
    return float((counts.anomalous * below).sum() / n_normal / n_anomalous)


def aupro(counts: PixelCounts, max_fpr: float = MAX_FPR) -> float:
    """Area under the mean share of a region above a threshold, over the share of normal pixels above it, up to max_fpr
    and divided by it (Bergmann et al., MVTec AD): in [0, 1], a map without preference has max_fpr / 2."""
    n_normal, _ = _numbers(counts)
    fpr = np.concatenate([[0], np.cumsum(counts.normal[::-1]) / n_normal])
    pro = np.concatenate([[0], np.cumsum(counts.overlap[::-1]) / counts.overlap.sum()])
    kept = fpr <= max_fpr
    fpr, pro = np.append(fpr[kept], max_fpr), np.append(pro[kept], np.interp(max_fpr, fpr, pro))
    return float((np.diff(fpr) * (pro[1:] + pro[:-1])).sum() / 2 / max_fpr)


def _numbers(counts: PixelCounts) -> tuple[int, int]:
    n_normal, n_anomalous = int(counts.normal.sum()), int(counts.anomalous.sum())
    if not n_normal or not n_anomalous:
        raise ValueError(f"Normal and anomalous pixels are needed, got {n_normal} and {n_anomalous}")
    return n_normal, n_anomalous
