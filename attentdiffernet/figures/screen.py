"""Interactive figures for screens: Plotly, and a small SVG."""

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..study.statistics import operating_point, percentile_among, roc_band, roc_curve
from ..words import score_text
from .curves import Curve, dashes_of
from .palette import ANOMALOUS_COLOUR, FONT, INK, NORMAL_COLOUR
from .ticks import band_points, least_rate, rate_ticks, score_ticks

if TYPE_CHECKING:
    import plotly.graph_objects as go


def _layout(figure: "go.Figure", ink: str, **layout: Any) -> "go.Figure":
    grid = {"gridcolor": "rgba(128,128,128,0.25)", "linecolor": ink, "zeroline": False}
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "color": ink, "size": 13},
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        # The first of these buttons would send the chart, scores and all, to Plotly's cloud.
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": ink, "remove": ["sendChartToCloud", "select2d", "lasso2d"]},
        **layout,
    )
    figure.update_xaxes(**grid, title={"standoff": 8, "font": {"size": 13}})
    figure.update_yaxes(**grid, title={"standoff": 8, "font": {"size": 13}})
    return figure


def roc_figure(curves: Sequence[Curve], *, band: bool = False, log_fpr: bool = False, ink: str = INK) -> "go.Figure":
    """ROC curves of several detectors on one category, with AUROC (95 %) in the legend; a dot at each threshold.

    band: shades `statistics.roc_band` behind each curve. log_fpr: a logarithmic axis from half the lowest rate that so
    many normals can show; what lies at 0 is drawn at its left edge.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    edge = least_rate(curves) if log_fpr else 0.0
    diagonal = np.geomspace(edge, 1, 60) if log_fpr else np.array([0.0, 1.0])
    chance = {"color": ink, "width": 1, "dash": "dot"}
    figure.add_scatter(x=diagonal, y=diagonal, mode="lines", line=chance, name="Chance: 50 %", hoverinfo="skip")
    for curve in curves if band else ():  # all bands before the first line, so that none covers a curve
        _add_band(figure, curve, edge)
    for curve, dash in zip(curves, dashes_of(curves), strict=True):
        _add_curve(figure, curve, dash, edge)
    # The legend is a column below the figure: a row is cut off on a phone, and inside it would hide curves there.
    side, below = 360, 90 + sum(8 + 17 * len(curve.legend_lines) for curve in curves)
    _layout(figure, ink, hovermode="closest", height=side + below)
    legend = {"orientation": "v", "x": 0, "y": -60 / side, "yanchor": "top"}
    figure.update_layout(legend=legend, margin={"t": 12, "b": below})
    _roc_axes(figure, edge)
    return figure


def _add_band(figure: "go.Figure", curve: Curve, edge: float) -> None:
    region = roc_band(curve.labels, curve.scores, n_points=band_points(edge))
    figure.add_scatter(
        x=np.maximum(np.concatenate([region.fpr, region.fpr[::-1]]), edge),
        y=np.concatenate([region.low, region.high[::-1]]),
        fill="toself",
        fillcolor=_translucent(curve.colour, 0.12),
        line={"width": 0},
        legendgroup=html.escape(curve.title),
        showlegend=False,
        hoverinfo="skip",
    )


def _add_curve(figure: "go.Figure", curve: Curve, dash: str, edge: float) -> None:
    """The line, and a dot at the curve's threshold."""
    title = html.escape(curve.title)  # Plotly takes text for a kind of HTML
    roc = roc_curve(curve.labels, curve.scores, drop_intermediate=True)
    figure.add_scatter(
        x=np.maximum(roc.fpr, edge),
        y=roc.tpr,
        customdata=[[score_text(t), rate] for t, rate in zip(roc.thresholds, roc.fpr, strict=True)],
        mode="lines",
        line={"color": curve.colour, "width": 2.5, "dash": dash},
        name="<br>".join(map(html.escape, curve.legend_lines)),
        legendgroup=title,
        hovertemplate=f"{title}<br>{_ROC_HOVER}<extra></extra>",
    )
    if curve.threshold is None:
        return
    point = operating_point(curve.labels, curve.scores, curve.threshold)
    figure.add_scatter(
        x=[max(point.fpr, edge)],
        y=[point.tpr],
        customdata=[[score_text(curve.threshold), point.fpr]],
        mode="markers",
        marker={"color": curve.colour, "size": 11, "line": {"color": "white", "width": 1.5}},
        legendgroup=title,
        showlegend=False,
        hovertemplate=f"{title}, at its threshold<br>{_ROC_HOVER}<extra></extra>",
    )


def _roc_axes(figure: "go.Figure", edge: float) -> None:
    """edge: where the logarithmic axis of false positives begins; 0 for a linear one."""
    axis = {"range": [-0.02, 1.02], "tickformat": ".0%"}
    figure.update_yaxes(title_text="Anomalous images found", **axis)
    if not edge:
        figure.update_xaxes(title_text="Normal images flagged", **axis)
        return
    ticks, texts = rate_ticks(edge)
    figure.update_xaxes(
        title_text="Normal images flagged (logarithmic)",
        type="log",
        range=[math.log10(0.94 * edge), 0.02],
        tickvals=ticks,
        ticktext=texts,
    )


_ROC_HOVER = (
    "finds %{y:.1%} of anomalous images,<br>flags %{customdata[1]:.1%} of normal ones,<br>"
    "for scores above %{customdata[0]}"
)


def _translucent(colour: str, opacity: float) -> str:
    return f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:7], 16)},{opacity})"


def scatter_figure(
    times: tuple[ArrayLike, ArrayLike],
    labels: ArrayLike,
    names: Sequence[str],
    titles: tuple[str, str],
    *,
    mark: str = "",
    ink: str = INK,
) -> "go.Figure":
    """Images by two detectors: each score as a multiple of its threshold, on logarithmic axes. Where the lines at 1
    cut off two corners, the verdicts differ. Each point carries its name as `customdata`. mark: the name of one image
    to point out.

    Raises ValueError for scores that are not positive: they have no logarithm.
    """
    import plotly.graph_objects as go

    x, y = (np.asarray(values, dtype=np.float64) for values in times)
    if not (np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)).all():
        raise ValueError("A scatter of scores needs positive finite multiples of the thresholds")
    anomalous = np.asarray(labels, dtype=bool)
    figure = go.Figure()
    for which, title, colour, symbol in (
        (~anomalous, "Normal", NORMAL_COLOUR, "circle"),
        (anomalous, "Anomalous", ANOMALOUS_COLOUR, "diamond"),
    ):
        chosen = [name for name, one in zip(names, which, strict=True) if one]
        figure.add_scatter(
            x=x[which],
            y=y[which],
            mode="markers",
            name=f"{title} ({len(chosen)})",
            customdata=[[name] for name in chosen],
            marker={
                "color": colour,
                "symbol": symbol,
                "size": [16 if name == mark else 9 for name in chosen],
                "line": {"color": ink, "width": [3 if name == mark else 0.5 for name in chosen]},
            },
            hovertemplate="%{customdata[0]}<br>%{x:.2f} × and %{y:.2f} ×<extra></extra>",
        )
    x_ends, y_ends = (np.array([min(v.min(), 1.0) / 1.2, max(v.max(), 1.0) * 1.2]) for v in (x, y))
    # As traces, because Plotly reads a shape's position on a logarithmic axis as an exponent in some versions.
    line = {"color": ink, "width": 1.5, "dash": "dash"}
    for place in ({"x": [1, 1], "y": y_ends}, {"x": x_ends, "y": [1, 1]}):
        figure.add_scatter(**place, mode="lines", line=line, showlegend=False, hoverinfo="skip")
    _layout(figure, ink, hovermode="closest", height=420)
    figure.update_xaxes(title_text=f"{titles[0]}, × threshold", **_log_axis(x_ends))
    figure.update_yaxes(title_text=f"{titles[1]}, × threshold", **_log_axis(y_ends))
    return figure


def _log_axis(ends: NDArray[np.float64]) -> dict[str, Any]:
    """Ticks are written out: Plotly's own between decades read 2 and 5 where 0.2 and 0.5 are meant."""
    ticks, texts = score_ticks(float(ends[0]), float(ends[1]))
    return {"type": "log", "tickvals": ticks, "ticktext": texts, "tickangle": 0}


def percentile_svg(calibration_scores: ArrayLike, score: float, threshold: float) -> str:
    """Where a score lies among those of held-out normals: an inline SVG histogram, 220 x 56 px, in currentColor.

    Bars are the held-out normals, the dashed line is the threshold, the triangle the score. The axis ends half a range
    beyond normals and threshold; a score farther out is an arrow at the edge, its value left to the text around.
    """
    calibration = np.asarray(calibration_scores, dtype=np.float64)
    percentile = percentile_among(calibration, score)
    if not (math.isfinite(score) and math.isfinite(threshold)):
        raise ValueError(f"Score and threshold must be finite numbers, got {score} and {threshold}")
    width, height, base, top = 220, 56, 46, 16
    low, high = min(float(calibration.min()), threshold), max(float(calibration.max()), threshold)
    margin = (high - low or abs(high) or 1.0) / 2
    low, high = max(low - margin, min(low, score)), min(high + margin, max(high, score))
    margin = 0.04 * (high - low or 1.0)
    low, high = low - margin, high + margin

    def x(value: float) -> float:
        return round(width * (value - low) / (high - low), 1)

    counts, edges = np.histogram(calibration, bins=min(24, max(6, round(2 * math.sqrt(calibration.size)))))
    bars = "".join(
        f"M{x(left):g} {base}V{base - (base - top) * count / counts.max():.1f}H{x(right):g}V{base}"
        for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True)
        if count
    )
    if score > high:
        place, marker = "far to the right, beyond the edge", f"M{width - 2} 8l-9 -6v12z"
    elif score < low:
        place, marker = "far to the left, beyond the edge", "M2 8l9 -6v12z"
    else:
        place, marker = "on the axis", f"M{x(score):g} {base}V9m-5 -7h10l-5 8z"
    verdict = "above" if score > threshold else "not above"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" fill="none" stroke="none">'
        f"<title>Score {score_text(score)}, {verdict} the threshold {score_text(threshold)}</title>"
        f"<desc>Higher than {percentile:.0f} % of {calibration.size} normal images held out of training, whose scores "
        f"run from {score_text(calibration.min())} to {score_text(calibration.max())}. The marker is {place}.</desc>"
        f'<path d="M0 {base + 0.5}H{width}" stroke="currentColor" stroke-opacity=".5"/>'
        f'<path d="{bars}" fill="currentColor" fill-opacity=".35"/>'
        f'<path d="M{x(threshold):g} {top - 4}V{height - 2}" stroke="currentColor" stroke-width="1.5" '
        'stroke-dasharray="4 2.5"/>'
        f'<path d="{marker}" fill="currentColor" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round"/>'
        "</svg>"
    )
