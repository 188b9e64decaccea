"""The three levels of every defect: how large and how strong it is drawn.

obvious     seen at a glance, even in a thumbnail
moderate    seen by a person who looks at the image in full size
hard        found by a person only after a search
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from numpy.random import Generator

Level = Literal["obvious", "moderate", "hard"]
LEVELS: tuple[Level, ...] = get_args(Level)

Range = tuple[float, float]
LevelTable = Mapping[str, Mapping[str, tuple[Range, Range, Range]]]
"""Per defect and parameter: the range from which each level of LEVELS draws, evenly."""


@dataclass(frozen=True)
class Defect:
    """A defect to be drawn. random: everything that the level does not set, as its place; the same at each level."""

    name: str
    level: Level
    random: Generator
    table: LevelTable

    def draw(self, parameter: str) -> float:
        """From the range that the level has for a parameter of this defect."""
        return self.random.uniform(*self.table[self.name][parameter][LEVELS.index(self.level)])
