"""Is this a picture of another thing? Asked where an image lies far outside everything normal.

How far a detector places other things is measured on training normals alone: on drawn normal images of other
categories. An image counts as a stranger if every detector places it nearly as far as the nearest of those, on the
logarithmic scale that starts at the threshold. How nearly is chosen by category, on synthetic defects in training
normals (benchmarks/strangers.py): on magnetic tiles, defects lie almost as far out as other things.
"""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from attentdiffernet.detector import Detector
from attentdiffernet.errors import ImageError
from attentdiffernet.images import read_image
from attentdiffernet.scoring import expected_score

from .. import shipped
from . import catalogue
from .catalogue import CategoryInfo

N_NORMALS = 2  # of each other category
N_VIEWS = 2  # powers of ten do not need more
# Of the way to the nearest other thing: in the middle between the farthest synthetic defect and the nearest training
# normal of another category.
NEARLY = {
    "sample/gear": 0.43,
    "sample/insulator": 0.50,
    "sample/wafer": 0.43,
    "mtd/magnetic_tile": 0.905,
    "mvtec_ad/bottle": 0.74,
}


@dataclass(frozen=True)
class Stranger:
    """A picture of another thing than a category's. fits: the category whose parts it looks like, None where there is
    none of those here."""

    category: CategoryInfo
    fits: CategoryInfo | None

    @property
    def sentence(self) -> str:
        name = self.category.part
        other = f"It looks like {a(self.fits.part)}." if self.fits else "It looks like no other category here either."
        return (
            f"This does not look like {a(name)}: it is about as far from normal images as pictures of other things "
            f"are. The category or the picture is probably wrong. {other}"
        )


def nearly(key: str) -> float:
    """The share for a category; for one that was not measured, the most cautious."""
    return NEARLY.get(key, max(NEARLY.values()))


def a(name: str) -> str:
    """`a gear wheel`"""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def stranger(
    image: np.ndarray, info: CategoryInfo, detectors: Mapping[str, Detector], scores: Mapping[str, float]
) -> Stranger | None:
    """image: (H, W, 3) uint8. detectors, scores: of its own category, by `Detector.key`. None for a picture of such a
    part, and where it cannot be told. The category's other detectors are asked only about what is far by these, since
    `nearly` was measured with all; other categories only about what is far by all."""
    enough = nearly(info.key)
    if not detectors or least_place(info.key, detectors, scores, enough) < enough:
        return None
    for name in catalogue.detector_names(info.key):
        if name not in detectors:
            other = catalogue.detectors(info.key, [name])
            score = scores_of(other[name], [image])
            if score and least_place(info.key, other, {name: score[0]}) < enough:
                return None
    return Stranger(info, _fitting(image, info.key))


def least_place(
    key: str, detectors: Mapping[str, Detector], scores: Mapping[str, float], enough: float = -math.inf
) -> float:
    """The place of an image by the detector that finds it nearest to normal: 0 at the threshold, 1 where the nearest
    other thing lies; -inf for one that is normal to a detector, and where it is not known.

    enough: below it, the detectors that follow are not asked; each has to score other things first.
    """
    if not all(_beyond(detector, scores[name]) > 0 for name, detector in detectors.items()):
        return -math.inf  # normal to one of them: no other image needs to be scored
    least = math.inf
    for name, detector in detectors.items():
        least = min(least, _place(key, detector, scores[name]))
        if least < enough:
            break
    return least


def _beyond(detector: Detector, score: float) -> float:
    """How far above its threshold, as a logarithm; below 0 under it, and where scores have no ratio."""
    threshold = detector.calibration.threshold
    return math.log(score / threshold) if 0 < threshold < math.inf and score > 0 else -math.inf


def _place(key: str, detector: Detector, score: float) -> float:
    """0 at the threshold, 1 where the nearest other thing lies; -inf where that is not known."""
    nearest = _nearest_other(key, detector)
    return _beyond(detector, score) / nearest if nearest > 0 else -math.inf


def _fitting(image: np.ndarray, key: str) -> CategoryInfo | None:
    """The category in which an image is least of a stranger, unless it is one there, too."""
    found: dict[str, float] = {}
    others = {other: info for other, info in catalogue.usable_categories().items() if other != key}
    for other in others:
        first = catalogue.detector_names(other)[0]
        detector = catalogue.detectors(other, [first])[first]
        (score,) = scores_of(detector, [image])
        if _beyond(detector, score) <= 0:
            return others[other]
        found[other] = _place(other, detector, score)
    known = {other: place for other, place in found.items() if math.isfinite(place)}
    best = min(known, key=known.__getitem__, default=None)
    return others[best] if best is not None and known[best] < nearly(best) else None


@lru_cache(maxsize=catalogue.MAX_MODELS)
def _nearest_other(key: str, detector: Detector) -> float:
    """`_beyond` of the nearest normal image of another category; -inf without any."""
    images = [read_image(io.BytesIO(file)) for file in shipped.drawn_normals_of_others(key, N_NORMALS)]
    return min((_beyond(detector, score) for score in scores_of(detector, images)), default=-math.inf)


def scores_of(detector: Detector, images: list[np.ndarray]) -> list[float]:
    """Of images (H, W, 3) uint8 by a few views, as they would be by all; without those that cannot be scored."""
    with catalogue.computing:
        found = list(detector.scores(images, N_VIEWS, until_settled=False, cache=None))
    return [expected_score(detector.calibration, score).value for score in found if not isinstance(score, ImageError)]
