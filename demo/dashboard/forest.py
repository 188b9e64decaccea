"""The forest plot of the overview: AUROC and interval of every run on one axis, as HTML that wraps on a phone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from attentdiffernet.datasets import category_title
from attentdiffernet.study.comparison import Group, Measured
from attentdiffernet.study.formats import difference_text, interval_text
from attentdiffernet.words import percent
from demo.dashboard.widgets import variant_name
from demo.markup import text

SEVERAL_SEEDS = (
    "Runs with several seeds: mean ± standard deviation over the seeds. Differences are over the seeds that DifferNet "
    "has, too, with DeLong's test of their mean on the same test images. Small strokes are the seeds, bars are their "
    "intervals over test images. Open a row to see each seed."
)


@dataclass(frozen=True)
class Axis:
    """From `low` to an AUROC of 1."""

    low: float

    def left(self, auroc: float) -> str:
        return f"{100 * (auroc - self.low) / (1 - self.low):.2f}%"

    def width(self, low: float, high: float) -> str:
        return f"{100 * (high - low) / (1 - self.low):.2f}%"

    @property
    def ticks(self) -> np.ndarray:
        ticks = np.arange(round(10 * self.low), 11) / 10
        return ticks if len(ticks) < 7 else ticks[::-2][::-1]

    @property
    def grid(self) -> str:
        return "".join(f"<span class='grid' style='left:{self.left(tick)}'></span>" for tick in self.ticks)

    @property
    def html(self) -> str:
        scale = "".join(f"<span style='left:{self.left(tick)}'>{100 * tick:.0f} %</span>" for tick in self.ticks)
        return f"<div class='axis'><span></span><span class='track'>{scale}</span><span></span><span></span></div>"


def forest(groups: list[Group], published_of: Callable[[str], pd.DataFrame] | None = None, recipes: bool = True) -> str:
    """Measured groups by category, and the published numbers of each, as hollow diamonds that are never compared with
    the measured ones. Several seeds open into a row for each. recipes: whether names tell them."""
    keys = list(dict.fromkeys(group.first.key for group in groups))
    published = {key: published_of(key) for key in keys} if published_of else {}
    lows = [m.interval.low for group in groups for m in group.runs]
    lowest = min([0.9, *lows, *(auroc for found in published.values() for auroc in found["auroc"])])
    axis = Axis(int(np.floor(10 * lowest)) / 10)
    sections = []
    for key in keys:
        rows = [_group(axis, group, recipes) for group in groups if group.first.key == key]
        if key in published:
            rows += [_published(axis, *values) for values in published[key].drop(columns="dataset").to_numpy()]
        sections.append(f"<section><h3>{text(category_title(key))}</h3>{''.join(rows)}</section>")
    return f"<div class='forest'>{axis.html}{''.join(sections)}{axis.html}</div>"


def _group(axis: Axis, group: Group, recipes: bool) -> str:
    m = group.first
    how = ", ".join(filter(None, (m.run.backbone, str(m.recipe) if recipes else "")))
    name = f"{variant_name(m.run.variant)} <small>{text(how)}</small>"
    cells = name, group.auroc, group.auroc_text, group.difference_text
    if len(group.runs) == 1:
        return _row(axis, group.runs, *cells)
    seeds = "".join(_seed(axis, m) for m in group.runs)
    return f"<details>{_row(axis, group.runs, *cells, tag='summary')}{seeds}</details>"


def _seed(axis: Axis, m: Measured) -> str:
    name, auroc = f"seed {m.run.seed}", m.interval.auroc
    return _row(axis, (m,), name, auroc, interval_text(m.interval), difference_text(m.delong))


def _row(
    axis: Axis, runs: tuple[Measured, ...], name: str, auroc: float, value: str, difference: str, tag: str = "div"
) -> str:
    """A row of one run, or of several that differ by their seed."""
    opacity = 0.55 / len(runs) ** 0.5  # intervals of several seeds overlap
    bars = "".join(
        f"<span class='bar' style='left:{axis.left(m.interval.low)};"
        f"width:{axis.width(m.interval.low, m.interval.high)};opacity:{opacity:.2f}'></span>"
        for m in runs
    )
    several = runs if len(runs) > 1 else ()
    seeds = "".join(f"<span class='seed' style='left:{axis.left(m.interval.auroc)}'></span>" for m in several)
    first = runs[0]
    return (
        f"<{tag} class='row variant-{text(first.run.variant)}{' best-on-test' * first.best_on_test}'>"
        f"<span class='name'>{name}</span>"
        f"<span class='track'>{axis.grid}{bars}{seeds}"
        f"<span class='dot' style='left:{axis.left(auroc)}'></span></span>"
        f"<span class='value nowrap'>{value}</span><span class='difference small'>{text(difference)}</span></{tag}>"
    )


def _published(axis: Axis, category: str, method: str, auroc: float, source: str) -> str:
    kind = "published, average" if category == "average" else "published"
    return (
        f"<div class='row published'><span class='name'>{text(method)} <small>{kind}</small></span>"
        f"<span class='track'>{axis.grid}<span class='diamond' style='left:{axis.left(auroc)}'></span></span>"
        f"<span class='value nowrap'>{percent(auroc)} %</span>"
        f"<span class='difference small' title='{text(source)}'>{text(source)}</span></div>"
    )
