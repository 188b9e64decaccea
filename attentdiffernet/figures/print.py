"""Figures for papers: Matplotlib, without pyplot."""

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..study.statistics import operating_point, roc_band, roc_curve
from .curves import LINE, Curve, dashes_of
from .overlay import Pixels, heat_scale, new_figure, overlay
from .palette import ANOMALOUS_COLOUR, DASHES, NORMAL_COLOUR
from .ticks import band_points, least_rate, rate_ticks, score_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 24  # of a histogram
LEGEND_PT, LINE_HEIGHT = 6.5, 1.33  # letters of a legend; its lines, in multiples of them


@dataclass(frozen=True)
class GridRow:
    """One image of `qualitative_grid` with a heatmap (h, w) and a caption per further column; image (H, W, 3) uint8."""

    title: str
    image: Pixels
    heatmaps: Sequence[ArrayLike]
    captions: Sequence[str] = ()


def roc_paper_figure(
    curves: Sequence[Curve],
    *,
    band: bool = False,
    log_fpr: bool = False,
    width_in: float = 3.25,
    legend_pt: float = LEGEND_PT,
) -> "Figure":
    """As `roc_figure`, for print: square, one text column wide, readable without colour. The legend stands below the
    axes where a title is long or its letters are larger than usual."""
    legends = [curve.legend_lines if len(curve.title) > LINE else [curve.legend] for curve in curves]
    n_lines = sum(map(len, legends))
    below = n_lines > len(curves) or legend_pt > LEGEND_PT
    figure = new_figure(width_in, width_in + LINE_HEIGHT * legend_pt / 72 * n_lines * below, 200)
    axes = figure.add_subplot(box_aspect=1, ylim=(-0.01, 1.01))
    edge = least_rate(curves) if log_fpr else 0.0
    chance = np.geomspace(edge, 1, 60) if edge else [0, 1]
    axes.plot(chance, chance, color="0.6", linewidth=0.8, linestyle=":", label="Chance: 50 %")
    for curve, dash, lines in zip(curves, dashes_of(curves), legends, strict=True):
        roc, label = roc_curve(curve.labels, curve.scores), "\n".join(lines)
        rates = np.maximum(roc.fpr, edge)
        axes.plot(rates, roc.tpr, color=curve.colour, linewidth=1.4, linestyle=DASHES[dash], label=label)
        if band:
            region = roc_band(curve.labels, curve.scores, n_points=band_points(edge))
            axes.fill_between(region.fpr, region.low, region.high, color=curve.colour, alpha=0.12, linewidth=0)
        if curve.threshold is not None:
            point = operating_point(curve.labels, curve.scores, curve.threshold)
            axes.plot(max(point.fpr, edge), point.tpr, "o", color=curve.colour, markersize=5, markeredgecolor="white")
    axes.set_xlabel("False-positive rate" + " (logarithmic)" * log_fpr, fontsize=8)
    axes.set_ylabel("True-positive rate", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    if edge:
        axes.set(xscale="log", xlim=(0.94 * edge, 1.05))
        axes.set_xticks(*rate_ticks(edge))
        axes.minorticks_off()
    else:
        axes.set_xlim(-0.01, 1.01)
    small: Any = {"fontsize": legend_pt, "edgecolor": "none", "framealpha": 0.8, "title_fontsize": legend_pt}
    if below:
        figure.legend(loc="outside lower left", title="AUROC (95 %)", **small)
    else:
        axes.legend(loc="lower right", title="AUROC (95 %)", **small)
    return figure


def draw_histogram(
    axes: "Axes",
    normal: NDArray[np.float64],
    anomalous: NDArray[np.float64],
    threshold: float | None,
    ink: str = "black",
) -> None:
    """Images by score, both classes, on a logarithmic axis where all scores are positive; the dashed line is the
    threshold."""
    values = np.concatenate([normal, anomalous])
    positive = bool((values > 0).all())
    low = float(values.min())
    high = max(float(values.max()), low + 1e-3 * (abs(low) or 1))  # where all are equal
    bins = (np.geomspace if positive else np.linspace)(low, high, BINS + 1)
    for one, colour, name in ((normal, NORMAL_COLOUR, "normal"), (anomalous, ANOMALOUS_COLOUR, "anomalous")):
        axes.stairs(np.histogram(one, bins)[0], bins, fill=True, color=colour, alpha=0.75, label=name)
    if positive:
        axes.set_xscale("log")
        if threshold is not None and threshold > 0:
            low, high = min(low, threshold), max(high, threshold)
        axes.set_xticks(*score_ticks(low, high))
        axes.minorticks_off()
        axes.set_xlim(low / (high / low) ** 0.02, high * (high / low) ** 0.02)
    if threshold is not None:
        axes.axvline(threshold, color=ink, linewidth=0.8, linestyle="--")
    axes.tick_params(labelsize=6)
    axes.spines[["top", "right"]].set_visible(False)


def qualitative_grid(
    rows: Sequence[GridRow],
    column_titles: Sequence[str],
    *,
    vmin: float = 0.0,
    vmax: float | None = None,
    label: str = "Heat (same scale in all maps)",
    width_in: float = 6.75,
) -> "Figure":
    """Images in rows: the photograph, then a heat overlay per column title, its caption beneath; one colour bar.

    vmax: by default the highest value of all maps, so that maps can be compared with each other.
    """
    if not rows:
        raise ValueError("A grid needs one row or more, got none")
    for row in rows:
        if len(row.heatmaps) != len(column_titles) or len(row.captions) not in (0, len(column_titles)):
            raise ValueError(
                f"Row {row.title!r} needs {len(column_titles)} heatmaps (and as many captions, or none), got "
                f"{len(row.heatmaps)} and {len(row.captions)}"
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
            if row.captions:
                cells[i + 1].set_xlabel(row.captions[i], fontsize=7, labelpad=2)
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
OPTIONS: Any = {"pdf.fonttype": 42, "svg.hashsalt": "attentdiffernet"}
UNDATED: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
_matplotlib_options = threading.Lock()  # they are global


def figure_file(
    figure: "Figure", suffix: str, dpi: int = 300, *, ground: str = "white", outlined: bool = False
) -> bytes:
    """The figure as a file of one of `FORMATS`; the same figure gives the same bytes. In PDF and SVG its text stays
    text, except in an SVG that is `outlined`: it needs no font."""
    import matplotlib

    if suffix not in FORMATS:
        raise ValueError(f"The format must be one of {', '.join(FORMATS)}, got {suffix!r}")
    stream = io.BytesIO()
    options = OPTIONS | {"svg.fonttype": "path" if outlined else "none"}
    with _matplotlib_options, matplotlib.rc_context(options):
        figure.savefig(stream, format=suffix, facecolor=ground, dpi=dpi, metadata=UNDATED.get(suffix))
    return stream.getvalue()
