"""Figures of a page that need no pointer: Matplotlib, as SVG. A browser shows them at once, where it first has to
load Plotly, which is large."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .curves import Curve
from .overlay import new_figure
from .palette import INK
from .print import draw_histogram, figure_file, roc_paper_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 3.8  # inches: letters of 8 points are 9 px high on a phone
MARKERS = ("o", "s", "x")
ABOVE: Any = {"fontsize": 8, "frameon": False, "ncols": 2, "loc": "lower left", "bbox_to_anchor": (0, 1)}  # a legend


def roc_still(curves: Sequence[Curve], *, band: bool = False, log_fpr: bool = False, ink: str = INK) -> str:
    """`roc_figure` as SVG, with the same words."""
    figure = roc_paper_figure(curves, band=band, log_fpr=log_fpr, width_in=WIDTH, legend_pt=8)
    figure.axes[0].set_xlabel("Normal images flagged" + " (logarithmic)" * log_fpr)
    figure.axes[0].set_ylabel("Anomalous images found")
    return svg(figure, ink)


def histogram_still(
    normal: NDArray[np.float64], anomalous: NDArray[np.float64], threshold: float | None = None, *, ink: str = INK
) -> str:
    """SVG: images of both classes by score, as `draw_histogram` draws them."""
    figure = new_figure(1.1 * WIDTH, 0.6 * WIDTH, 200)
    axes = figure.add_subplot()
    draw_histogram(axes, normal, anomalous, threshold, ink)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("Anomaly score" + " (logarithmic)" * (axes.get_xscale() == "log"), fontsize=8)
    axes.set_ylabel("Images", fontsize=8)
    axes.legend(**ABOVE)
    return svg(figure, ink)


def gate_still(gates: Mapping[str, ArrayLike], highest: float = 1.0, *, ink: str = INK) -> str:
    """SVG: channel gates of one attention block, one series per name (a scale): (C,) each, in [0, highest].

    Channels stand in the order of the first series, so that what the others do differently shows as scatter. Where
    gates may exceed 1, a line there tells what is raised from what is lowered.
    """
    figure = new_figure(WIDTH, 0.62 * WIDTH, 200)
    axes = figure.add_subplot(ylim=(-0.02 * highest, 1.02 * highest))
    first = np.asarray(next(iter(gates.values())))
    order = np.argsort(-first, kind="stable")
    channels = np.arange(1, first.size + 1)
    for k, (name, values) in enumerate(gates.items()):
        style = (
            {"linewidth": 1.4}
            if k == 0
            else {"linestyle": "none", "marker": MARKERS[k % 3], "markersize": 1.6, "markeredgewidth": 0.5}
        )
        axes.plot(channels, np.asarray(values)[order], color=ink, markerfacecolor="none", label=name, **style)
    if highest > 1:
        axes.axhline(1, color=ink, linewidth=0.8, linestyle="--", label="1: unchanged")
    axes.set_xlabel(f"Channels by their gate at {next(iter(gates))}", fontsize=8)
    axes.set_ylabel("Gate (factor)", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(**ABOVE)
    return svg(figure, ink)


def svg(figure: "Figure", ink: str = INK) -> str:
    """On no ground, with axes and texts in `ink`; texts as outlines, because a picture in a page has no fonts."""
    from matplotlib.text import Text

    for axes in figure.axes:
        axes.patch.set_facecolor("none")
        axes.tick_params(color=ink)
        axes.spines[:].set_edgecolor(ink)
    for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]:
        if legend:
            legend.get_frame().set_facecolor("none")
    for text in figure.findobj(Text):
        text.set_color(ink)
    whole = figure_file(figure, "svg", ground="none", outlined=True).decode()
    return whole[whole.index("<svg") :]
