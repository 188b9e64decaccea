"""One image of the sample set, with the mask of its defect."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ...errors import DatasetError
from . import gear, insulator, wafer
from .categories import known_category
from .drawing import SIZE, Rendered
from .levels import LEVELS, Defect, Level, LevelTable

MIN_AREA = 60  # px: a defect that changes less is hardly visible
MIN_DIFFERENCE = 4  # of 255: a pixel belongs to a defect if a channel differs by at least this much from the twin
ATTEMPTS = 50
SCENES: dict[str, tuple[Callable[[Generator, Defect | None], Rendered], LevelTable]] = {
    "insulator": (insulator.insulator, insulator.LEVELS),
    "gear": (gear.gear, gear.LEVELS),
    "wafer": (wafer.wafer, wafer.LEVELS),
}


@dataclass(frozen=True)
class Sample:
    """image: (SIZE, SIZE, 3) uint8. mask: (SIZE, SIZE) bool, exactly the pixels that differ from the normal twin.

    object: (SIZE, SIZE) bool, where the inspected part of the normal twin lies, not its background: the place of a disc
    that is missing is the object's.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    object: NDArray[np.bool_]


def draw(category: str, defect: str = "good", seed: int = 0, level: Level = "moderate") -> Sample:
    """One image, a pure function of its arguments: the scene of (category, seed), with the defect added.

    The level sets size and strength of the defect, not its place; `good` has none. Raises DatasetError for an unknown
    category, defect or level and for a negative seed.
    """
    known = known_category(category)
    if defect != "good" and defect not in known.defects:
        raise DatasetError(f"{category} has no defect {defect!r}; it has good, {', '.join(known.defects)}")
    if level not in LEVELS:
        raise DatasetError(f"There is no level {level!r}; there are {', '.join(LEVELS)}")
    if seed < 0:
        raise DatasetError(f"A seed must be 0 or more, got {seed}")
    scene, table = SCENES[category]
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([_code(category), seed])
        random = np.random.default_rng([_code(category), seed, _code(defect), attempt])
        *pair, part = scene(rng, None if defect == "good" else Defect(defect, level, random, table))
        twin, image = (np.rint(values.clip(0, 1) * 255).astype(np.uint8) for values in pair)
        if defect == "good":
            return Sample(image, np.zeros((SIZE, SIZE), bool), part)
        mask = (np.maximum(image, twin) - np.minimum(image, twin)).max(-1) >= MIN_DIFFERENCE
        if mask.sum() >= MIN_AREA:  # else it lies out of sight: try another place
            return Sample(np.where(mask[..., None], image, twin), mask, part)
    raise RuntimeError(f"No visible {defect} ({level}) on {category} with seed {seed} in {ATTEMPTS} attempts")


def _code(name: str) -> int:
    return zlib.crc32(name.encode())  # Python's own hash differs from run to run
