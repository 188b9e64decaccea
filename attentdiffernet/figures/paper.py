"""The figures and tables of a paper, drawn from score files alone: the same results give the same files."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..datasets import category_title
from ..stages import Progress, no_progress
from ..study.answer import all_contrasts
from ..study.comparison import Contrast, Group, Measured, grouped, measured
from ..study.formats import points
from ..study.methods import method_contrasts
from ..study.tables import Column, Strong, Table
from ..study.thresholds import shipped_threshold
from ..study.usual import usual_groups
from ..words import DETECTOR_TITLES, percent, variant_title
from .curves import curve_of
from .overlay import new_figure
from .palette import INK, VARIANT_COLOURS
from .print import FORMATS, draw_histogram, figure_file, roc_paper_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ONE_COLUMN_MM, TWO_COLUMNS_MM = 84.0, 174.0
MM = 1 / 25.4  # in inches
LABELS_PT = 150  # width of the names beside `differences_figure`
MOST_POINTS = 30  # of AUROC to either side; bars beyond end at the edge

Thresholds = Callable[[Measured], float | None]


def paper_set(
    results: Path, models: Path | None = None, progress: Progress = no_progress
) -> Iterator[tuple[str, bytes]]:
    """(file name, content): differences to DifferNet of every category, ROC curves with bands and histograms of scores
    for each, as PDF, SVG and PNG, and the table of AUROC as LaTeX and Markdown.

    models: below which the detectors lie whose thresholds are drawn, where they gave the scores. Raises ResultsError
    for damaged files.
    """
    found = measured(results)
    groups = usual_groups(found)
    tested = {c.group.first.run.run: c for c in [*all_contrasts(found), *method_contrasts(grouped(found))]}

    def threshold(m: Measured) -> float | None:
        shipped = shipped_threshold(models, m) if models else None
        return shipped.threshold if shipped else None

    keys = list(dict.fromkeys(group.first.key for group in groups))
    yield from _files("differences", differences_figure(groups, tested, TWO_COLUMNS_MM * MM))
    for done, key in enumerate(keys, 1):
        runs = [group.first for group in groups if group.first.key == key and not group.left_at_one]
        stem = key.replace("/", "-")
        curves = [replace(curve_of(m, threshold(m)), title=variant_title(m.run.variant), style="") for m in runs]
        yield from _files(f"roc-{stem}", roc_paper_figure(curves, band=True, width_in=ONE_COLUMN_MM * MM))
        yield from _files(f"scores-{stem}", histogram_figure(runs, threshold, ONE_COLUMN_MM * MM))
        progress("drawing categories", done, len(keys))
    table = auroc_table(groups, tested)
    yield "auroc.tex", table.latex().encode()
    yield "auroc.md", table.markdown().encode()


def _files(stem: str, figure: "Figure") -> Iterator[tuple[str, bytes]]:
    for suffix in FORMATS:
        yield f"{stem}.{suffix}", figure_file(figure, suffix)


def differences_figure(groups: Sequence[Group], tested: dict[str, Contrast], width_in: float) -> "Figure":
    """AUROC minus DifferNet's on the same images, with its 95 % interval: a line per category and method. tested: by
    the first run of a group; differences that count are filled."""
    compared = [group for group in groups if group.test is not None]
    keys = list(dict.fromkeys(group.first.key for group in compared))
    n_lines = len(compared) + len(keys)
    figure = new_figure(width_in, 0.75 + 0.17 * n_lines, 200)
    axes = figure.add_subplot()
    axes.axvline(0, color="0.6", linewidth=0.8)
    ticks, line = [], 0
    for key in keys:
        ticks.append((line, category_title(key)))
        for group in compared:
            if group.first.key == key:
                line += 1
                ticks.append((line, "    " + variant_title(group.first.run.variant)))
                _draw_difference(axes, line, group, tested.get(group.first.run.run))
        line += 1
    axes.set(xlim=(-MOST_POINTS, MOST_POINTS), ylim=(n_lines - 0.5, -0.7))
    axes.set_yticks([y for y, _ in ticks], [text for _, text in ticks], fontsize=7, ha="left")
    axes.tick_params(axis="y", length=0, pad=LABELS_PT)
    for label, (_, text) in zip(axes.get_yticklabels(), ticks, strict=True):
        label.set_fontweight("normal" if text.startswith(" ") else "bold")
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlabel(
        "AUROC minus DifferNet's, points\n95 % interval over test images; filled: counts over images and seeds",
        fontsize=7,
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _draw_difference(axes: Any, y: int, group: Group, contrast: Contrast | None) -> None:
    colour = VARIANT_COLOURS.get(group.first.run.variant, INK)
    if group.left_at_one:
        axes.text(1, y, "gates left at 1: DifferNet", fontsize=6.5, va="center", color=INK)
        return
    test = group.test
    assert test is not None
    ends = [float(np.clip(100 * x, -MOST_POINTS, MOST_POINTS)) for x in (test.low, test.high)]
    axes.plot(ends, [y, y], color=colour, linewidth=1.2, solid_capstyle="butt")
    filled = contrast is not None and contrast.real
    middle = float(np.clip(100 * test.difference, -MOST_POINTS, MOST_POINTS))
    axes.plot(middle, y, "o", color=colour, markersize=4, markerfacecolor=colour if filled else "white")


def histogram_figure(runs: Sequence[Measured], threshold: Thresholds, width_in: float) -> "Figure":
    """Scores of normal and of anomalous test images, a panel per run; the dashed line is the threshold of the stored
    model."""
    figure = new_figure(width_in, 0.35 + 0.75 * len(runs), 200)
    panels = figure.subplots(len(runs), squeeze=False)[:, 0]
    for axes, m in zip(panels, runs, strict=True):
        draw_histogram(axes, m.of_class(0), m.of_class(1), threshold(m))
        axes.set_title(DETECTOR_TITLES.get(m.run.variant, m.title), fontsize=7, loc="left", pad=2)
    panels[0].legend(fontsize=6, frameon=False)
    panels[-1].set_xlabel("Score", fontsize=7)
    return figure


def auroc_table(groups: Sequence[Group], tested: dict[str, Contrast]) -> Table:
    """A row per category, a column per method: mean AUROC over seeds in percent, and the difference to DifferNet. Bold
    where the test allows: a method that is better than DifferNet, or DifferNet where all others are worse."""
    methods = [v for v in DETECTOR_TITLES if any(group.first.run.variant == v for group in groups)]
    rows: dict[str, dict[str, Group]] = {}
    for group in groups:
        rows.setdefault(group.first.key, {})[group.first.run.variant] = group
    body = []
    for key, of in rows.items():
        found = {v: tested.get(group.first.run.run) for v, group in of.items()}
        compared = [c for c in found.values() if c]
        strong = {v for v, c in found.items() if c and c.helps}
        if compared and all(c.harms for c in compared):
            strong = {"none"}
        body.append([category_title(key), *(_cell(of.get(v), v in strong) for v in methods)])
    return Table([Column("Category"), *(Column(variant_title(v), number=True) for v in methods)], body)


def _cell(group: Group | None, strong: bool) -> str:
    if group is None:
        return ""
    text = percent(group.auroc) + (f" ({points(group.test.difference)})" if group.test else "")
    return Strong(text) if strong else text
