"""What the categories of the sample set show, and their defects."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import DatasetError


@dataclass(frozen=True)
class SampleCategory:
    """What a visitor is told. mirrors: the paper's data set; defects: a line on each, without `good`."""

    name: str
    title: str
    description: str
    mirrors: str
    defects: Mapping[str, str]


CATEGORIES: dict[str, SampleCategory] = {
    category.name: category
    for category in (
        SampleCategory(
            "insulator",
            "Insulator string",
            "A string of glass insulators on a power line, seen outdoors from close by, before changing landscapes, in "
            "changing light and weather. Discs may be missing, broken or burnt, and metal may rust.",
            "InsPLAD-fault",
            {
                "missing_cap": "one glass disc has shattered, down to its iron cap and pin or to a jagged stump",
                "broken_cap": "a piece is broken out of the rim of one disc",
                "corrosion": "rust on the iron cap and pin of one disc",
                "flashover": "an arc has left soot on one disc",
            },
        ),
        SampleCategory(
            "gear",
            "Gear wheel",
            "A turned steel gear on a dark mat, seen from above under two fixed lights; it lies at any angle. A tooth "
            "may be broken, a face dented, scratched or stained.",
            "MVTec AD",
            {
                "broken_tooth": "one to three teeth are broken off, wholly or in part",
                "dent": "a dent in a turned face",
                "scratch": "a scratch across the metal",
                "stain": "a brownish stain, from faint to plain",
            },
        ),
        SampleCategory(
            "wafer",
            "Wafer map",
            "The test map of a semiconductor wafer: each cell is a die that passed (teal) or failed (orange to red). A "
            "few dies fail at random on every wafer; failures that form a pattern point to a fault in the process.",
            "Semiconductor Wafer",
            {
                "centre": "failures gather near the middle",
                "edge_ring": "failures along the rim, all around or in part",
                "scratch": "failures in a line",
                "donut": "failures in a ring around the middle, from dense to sparse",
            },
        ),
    )
}


def known_category(name: str) -> SampleCategory:
    """Raises DatasetError for an unknown name."""
    if name not in CATEGORIES:
        raise DatasetError(f"There is no sample category {name!r}; there are {', '.join(CATEGORIES)}")
    return CATEGORIES[name]
