"""Which share of the way to the nearest other thing makes an image a stranger: `python -m benchmarks.strangers`.

`demo/service/stranger.py` places an image between the threshold (0) and the nearest drawn normal of another category
(1). This measures the places of synthetic defects in a category's own training normals, as gates are trained on, and of
further training normals of other categories. No test image and no example is used. The share of a category is the
middle between its farthest defect and the nearest other thing. Categories of data sets that are not at hand are left
out (ATTENTDIFFERNET_DATA).
"""

import io
import math
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from attentdiffernet.category import InspectionDataset
from attentdiffernet.datasets.sample import file_of
from attentdiffernet.datasets.sample.writing import SUFFIX
from attentdiffernet.images import read_image
from attentdiffernet.synthetic_defects import add_defect
from demo.service import catalogue
from demo.service.stranger import N_NORMALS, least_place, nearly, scores_of

N_DEFECTS, N_OTHERS = 16, 3  # images of each category
SIDE = 448  # px


def normals_of(key: str) -> list[np.ndarray]:
    """Training normals, (H, W, 3) uint8, without those that the places are measured by; empty where none is at hand."""
    dataset, category = key.split("/")
    if dataset == "sample":
        names = [f"good/{k:03d}{SUFFIX[category]}" for k in range(N_NORMALS, N_NORMALS + N_DEFECTS)]
        return [read_image(io.BytesIO(file_of(category, name, split="train"))) for name in names]
    root = os.environ.get("ATTENTDIFFERNET_DATA")
    if not root or not Path(root, key).is_dir():
        return []
    return [read_image(image.path) for image in InspectionDataset(Path(root, key)).train[:N_DEFECTS]]


def with_defects(normals: list[np.ndarray]) -> list[np.ndarray]:
    rng = torch.Generator().manual_seed(0)
    squares = [np.asarray(Image.fromarray(image).resize((SIDE, SIDE))) for image in normals]
    batch = torch.stack([torch.tensor(square).permute(2, 0, 1) / 255 for square in squares])
    made = [add_defect(image, batch, rng) for image in batch]
    return [(255 * image.clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0).numpy() for image in made]


def places(key: str, images: list[np.ndarray]) -> list[float]:
    """Of each image by the detectors of a category; those that are normal to one of them are left out."""
    detectors = catalogue.detectors(key)
    by_detector = {name: scores_of(detector, images) for name, detector in detectors.items()}
    found = [least_place(key, detectors, {name: s[k] for name, s in by_detector.items()}) for k in range(len(images))]
    return [place for place in found if np.isfinite(place)]


def main() -> None:
    normals = {key: found for key in catalogue.usable_categories() if (found := normals_of(key))}
    for key, own in normals.items():
        others = [
            image for other, images in normals.items() if _part(other) != _part(key) for image in images[:N_OTHERS]
        ]
        defects, found = places(key, with_defects(own)), places(key, others)
        farthest, nearest = max(defects, default=0.0), min(found, default=math.inf)
        print(
            f"{key}: {len(defects)} of {len(own)} defects beyond all thresholds, the farthest at {farthest:.3f}; the "
            f"nearest of {len(found)} other things at {nearest:.3f}; in the middle {(farthest + nearest) / 2:.3f}, "
            f"taken {nearly(key)}",
            flush=True,
        )


def _part(key: str) -> str:
    return key.split("/")[1]


if __name__ == "__main__":
    main()
