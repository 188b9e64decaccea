"""Figures for papers: Matplotlib, without pyplot."""

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..study.statistics import operating_point, roc_band, roc_curve
from ..words import score_text
from .curves import Curve, dashes_of
from .overlay import Pixels, heat_scale, new_figure, overlay
from .palette import DASHES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class GridRow:
    """One image of `qualitative_grid` with a heatmap (h, w) and a score per further column; image (H, W, 3) uint8."""

    title: str
    image: Pixels
    heatmaps: Sequence[ArrayLike]
    scores: Sequence[float] = ()


def roc_paper_figure(curves: Sequence[Curve], *, band: bool = False, width_in: float = 3.25) -> "Figure":
    """As `roc_figure`, for print: square, one text column wide, readable without colour."""
    figure = new_figure(width_in, width_in, 200)
    axes = figure.add_subplot(aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":", label="Chance: 50 %")
    for curve, dash in zip(curves, dashes_of(curves), strict=True):
        roc = roc_curve(curve.labels, curve.scores)
        axes.plot(roc.fpr, roc.tpr, color=curve.colour, linewidth=1.4, linestyle=DASHES[dash], label=curve.legend)
        if band:
            region = roc_band(curve.labels, curve.scores)
            axes.fill_between(region.fpr, region.low, region.high, color=curve.colour, alpha=0.12, linewidth=0)
        if curve.threshold is not None:
            point = operating_point(curve.labels, curve.scores, curve.threshold)
            axes.plot(point.fpr, point.tpr, "o", color=curve.colour, markersize=5, markeredgecolor="white")
    axes.set_xlabel("False-positive rate", fontsize=8)
    axes.set_ylabel("True-positive rate", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        fontsize=6.5, loc="lower right", edgecolor="none", framealpha=0.8, title="AUROC (95 %)", title_fontsize=6.5
    )
    return figure


def qualitative_grid(
    rows: Sequence[GridRow],
    column_titles: Sequence[str],
    *,
    vmin: float = 0.0,
    vmax: float | None = None,
    label: str = "Heat (same scale in all maps)",
    width_in: float = 6.75,
) -> "Figure":
    """Images in rows: the photograph, then a heat overlay per column title, its score beneath; one colour bar for all.

    vmax: by default the highest value of all maps, so that maps can be compared with each other.
    """
    if not rows:
        raise ValueError("A grid needs one row or more, got none")
    for row in rows:
        if len(row.heatmaps) != len(column_titles) or len(row.scores) not in (0, len(column_titles)):
            raise ValueError(
                f"Row {row.title!r} needs {len(column_titles)} heatmaps (and as many scores, or none), got "
                f"{len(row.heatmaps)} and {len(row.scores)}"
            )
    if vmax is None:
        vmax = max([vmin, *(float(np.max(np.asarray(heatmap))) for row in rows for heatmap in row.heatmaps)])
    n_columns = 1 + len(column_titles)
    cell_in = width_in / n_columns
    heights = [cell_in * row.image.shape[0] / row.image.shape[1] + 0.18 for row in rows]
    figure = new_figure(width_in, sum(heights) + 0.7, 200)
    grid = figure.subplots(len(rows), n_columns, squeeze=False, height_ratios=heights)
    for row, cells in zip(rows, grid, strict=True):
        cells[0].imshow(row.image)
        cells[0].set_ylabel(row.title, fontsize=8, parse_math=False)  # a file name with dollars is no formula
        for i, heatmap in enumerate(row.heatmaps):
            cells[i + 1].imshow(overlay(row.image, heatmap, vmin, vmax))
            if row.scores:
                cells[i + 1].set_xlabel(f"score {score_text(row.scores[i])}", fontsize=7, labelpad=2)
    for cell in grid.flat:
        cell.set(xticks=[], yticks=[])
        cell.spines[:].set_visible(False)
    for cell, title in zip(grid[0], ["Image", *column_titles], strict=True):
        cell.set_title(title, fontsize=8)
    bar = figure.colorbar(
        heat_scale(vmin, vmax), ax=grid.ravel().tolist(), location="bottom", shrink=0.5, aspect=40, pad=0.02
    )
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    return figure


FORMATS = {"pdf": "application/pdf", "svg": "image/svg+xml", "png": "image/png"}  # and their media types
OPTIONS: Any = {"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "attentdiffernet"}
UNDATED: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
_matplotlib_options = threading.Lock()  # they are global


def figure_file(figure: "Figure", suffix: str, dpi: int = 300) -> bytes:
    """The figure as a file of one of `FORMATS`, on white; the same figure gives the same bytes. In PDF and SVG its text
    stays text."""
    import matplotlib

    if suffix not in FORMATS:
        raise ValueError(f"The format must be one of {', '.join(FORMATS)}, got {suffix!r}")
    stream = io.BytesIO()
    with _matplotlib_options, matplotlib.rc_context(OPTIONS):
        figure.savefig(stream, format=suffix, facecolor="white", dpi=dpi, metadata=UNDATED.get(suffix))
    return stream.getvalue()
