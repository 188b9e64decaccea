"""The summary picture of the overview: AUROC minus DifferNet's with its interval, every category, as HTML."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil, floor

from attentdiffernet.datasets import category_title
from attentdiffernet.study.comparison import GATES_LEFT_AT_1, Group
from attentdiffernet.study.formats import points, points_range
from attentdiffernet.study.statistics import Difference
from attentdiffernet.words import short_title
from demo.markup import text

MOST_POINTS = 30  # of AUROC to either side; bars beyond end at the edge
STEP = 10


@dataclass(frozen=True)
class Axis:
    """From `low` to `high` points of AUROC."""

    low: int
    high: int

    def left(self, difference: float) -> float:
        """Of a difference of shares, in percent of the width."""
        return 100 * (min(max(100 * difference, self.low), self.high) - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> range:
        return range(self.low, self.high + 1, STEP)

    @property
    def grid(self) -> str:
        lines = (
            "<span class='grid{}' style='left:{:.2f}%'></span>".format(" zero" * (not t), self.left(t / 100))
            for t in self.ticks
        )
        return "".join(lines)

    @property
    def html(self) -> str:
        marks = (
            f"<span style='left:{self.left(tick / 100):.2f}%'>{f'{tick:+d}' if tick else 0}</span>"
            for tick in self.ticks
        )
        return f"<div class='scale'><span></span><span class='track'>{''.join(marks)}</span><span></span></div>"


def axis_of(tests: Sequence[Difference]) -> Axis:
    low = floor(100 * min([0.0, *(test.low for test in tests)]) / STEP) * STEP
    high = ceil(100 * max([0.01, *(test.high for test in tests)]) / STEP) * STEP
    return Axis(max(low, -MOST_POINTS), min(high, MOST_POINTS))


def differences(groups: Sequence[Group], real: Collection[str]) -> str:
    """Every category with a line per method that was compared. real: names of first runs whose difference counts."""
    compared = [group for group in groups if group.test is not None]
    axis = axis_of([group.test for group in compared if group.test])
    sections = []
    for key in dict.fromkeys(group.first.key for group in compared):
        lines = "".join(_line(axis, group, real) for group in compared if group.first.key == key)
        sections.append(f"<section><h3>{text(category_title(key))}</h3><div>{lines}</div></section>")
    return f"<div class='differences'>{''.join(sections)}<section><span></span>{axis.html}</section></div>"


def _line(axis: Axis, group: Group, real: Collection[str]) -> str:
    m, test = group.first, group.test
    assert test
    name = f"<span class='variant variant-{text(m.run.variant)}'>{text(short_title(m.run.variant))}</span>"
    if group.left_at_one:
        return f"<div class='line'>{name}<span class='track'>{axis.grid}</span><span>{GATES_LEFT_AT_1}</span></div>"
    left, right = axis.left(test.low), axis.left(test.high)
    counts = m.run.run in real
    marks = (
        f"<span class='bar' style='left:{left:.2f}%;width:{right - left:.2f}%'></span>"
        f"<span class='dot' style='left:{axis.left(test.difference):.2f}%'></span>"
    )
    value = f"{points(test.difference)} <small>({points_range(test.low, test.high)})</small>"
    return (
        f"<div class='line variant-{text(m.run.variant)}{' real' * counts}'>{name}"
        f"<span class='track'>{axis.grid}{marks}</span><span class='value'>{value}</span></div>"
    )
