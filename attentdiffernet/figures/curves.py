"""What a ROC figure draws, on screen and in print."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from ..study.formats import interval_text
from ..study.statistics import auroc_interval
from .palette import DASHES, INK, VARIANT_COLOURS, VARIANT_DASHES

if TYPE_CHECKING:
    from ..study.comparison import Measured


LINE = 34  # characters of a title in a legend


@dataclass(frozen=True)
class Curve:
    """One detector on the test images of a category: what `roc_figure` draws. labels and scores: (n,).

    style: what tells runs of one variant apart (a backbone): they share its colour, and get a dash for each style.
    """

    title: str
    variant: str
    labels: ArrayLike
    scores: ArrayLike
    threshold: float | None = None
    style: str = ""

    @property
    def colour(self) -> str:
        return VARIANT_COLOURS.get(self.variant, INK)

    @property
    def area(self) -> str:
        """Its AUROC as `interval_text`."""
        return interval_text(auroc_interval(self.labels, self.scores))

    @property
    def legend(self) -> str:
        return f"{self.title}: {self.area}"

    @property
    def legend_lines(self) -> list[str]:
        """In short lines: a long one is cut off on a phone, and is wider than a column of print."""
        return [*textwrap.wrap(self.title, LINE), self.area]


def dashes_of(curves: Sequence[Curve]) -> list[str]:
    """The dash of each curve, a key of `DASHES`: its variant's or, where styles differ, its style's."""
    styles = list(dict.fromkeys(curve.style for curve in curves))
    if len(styles) < 2:
        return [VARIANT_DASHES.get(curve.variant, "longdash") for curve in curves]
    return [list(DASHES)[styles.index(curve.style) % len(DASHES)] for curve in curves]


def curve_of(m: "Measured", threshold: float | None = None) -> Curve:
    """Of a run of the results."""
    return Curve(m.title, m.run.variant, m.labels, m.values, threshold, str(m.recipe))
