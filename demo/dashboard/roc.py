"""ROC: curves of a category, and one operating point that curve, histogram and counts follow together."""

from functools import partial

import streamlit as st

from attentdiffernet.figures.curves import Curve, curve_of
from attentdiffernet.figures.print import FORMATS, figure_file, roc_paper_figure
from attentdiffernet.figures.screen import roc_figure
from attentdiffernet.figures.still import histogram_still, roc_still
from attentdiffernet.study.comparison import DEFINITIONS, Measured, training_once
from attentdiffernet.study.formats import difference_text, percent_range
from attentdiffernet.study.statistics import OperatingPoint
from attentdiffernet.study.usual import usual, usual_groups
from attentdiffernet.words import percent, score_text
from demo import shipped
from demo.dashboard import address, widgets
from demo.markup import text
from demo.service.rate import LABEL

WAYS = {"fpr": "Good parts flagged", "threshold": "Threshold", "shipped": "As shipped"}

Runs = dict[str, Measured]  # by name
Points = dict[str, OperatingPoint]  # by the name of the run


# -- the operating point


def choose_points(runs: Runs) -> tuple[Points, str]:
    """The operating point of each run, and the name of the run whose histogram is shown."""
    thresholds = {name: found.threshold for name, m in runs.items() if (found := shipped.shipped_threshold(m))}
    ways = {way: title for way, title in WAYS.items() if way != "shipped" or thresholds}
    left, middle, right = st.columns([3, 3, 4])
    with left:
        way = address.choice("Set the operating point by", ways, "by", segments=True)
    with middle:
        focus = address.choice("Histogram of", {name: m.title for name, m in runs.items()}, "variant")
    with right:
        if way == "fpr":
            return points_at_rate(runs), focus
        if way == "threshold":
            return points_at_threshold(runs, focus), focus
        st.caption("Thresholds of the shipped models, set on held-out training normals. Test images are not used.")
        return {name: runs[name].at(threshold) for name, threshold in thresholds.items()}, focus


def points_at_rate(runs: Runs) -> Points:
    more = {"format": "%.1f", "help": "At most so many of 100 normal test images: the false-positive rate in percent."}
    rate = address.number(LABEL, "fpr", 0.0, 100.0, 5.0, 0.5, **more) / 100
    return {name: m.at_fpr(rate) for name, m in runs.items()}


def points_at_threshold(runs: Runs, focus: str) -> Points:
    """One run at a threshold, the others at the same false-positive rate."""
    m = runs[focus]
    label = f"Score above which {m.title} flags an image, in steps of one image"
    threshold = address.score(label, "threshold", sorted(set(m.values)), m.at_fpr(0.05).threshold)
    st.caption("Scores of different variants have different scales: the others are set to the same rate.")
    point = m.at(threshold)
    return {name: m.at_fpr(point.fpr) for name, m in runs.items()} | {focus: point}


# -- what follows from it


@st.fragment
def operating_point(runs: Runs, band: bool, log: bool, explore: bool) -> None:
    points, focus = choose_points(runs)
    left, right = st.columns([5, 6], gap="medium")
    with left:
        curves(runs, points, band, log, explore)
    with right:
        histogram(runs[focus], points.get(focus))
        cards = "".join(confusion(runs[name], point, name == focus) for name, point in points.items())
        st.html(f"<div class='confusion' aria-live='polite'>{cards}</div>")


def curves(runs: Runs, points: Points, band: bool, log: bool, explore: bool) -> None:
    drawn = [curve_of(m, points[name].threshold if name in points else None) for name, m in runs.items()]
    areas = ", ".join(curve.legend for curve in drawn)
    alt = f"ROC curves. AUROC with 95 % interval: {areas}"
    if explore:
        figure = roc_figure(drawn, band=band, log_fpr=log, ink=widgets.ink())
        widgets.chart(figure, alt, "roc")
    else:
        widgets.still(roc_still(drawn, band=band, log_fpr=log, ink=widgets.ink()), alt)
    with st.container(horizontal=True):
        for suffix, mime in FORMATS.items():
            st.download_button(
                suffix.upper(),
                partial(for_paper, drawn, band, log, suffix),
                f"roc.{suffix}",
                mime,
                icon=":material/download:",
                on_click="ignore",
                help="The curves as a figure of one text column, for a paper.",
            )


def for_paper(drawn: list[Curve], band: bool, log: bool, suffix: str) -> bytes:
    return figure_file(roc_paper_figure(drawn, band=band, log_fpr=log), suffix)


def histogram(m: Measured, point: OperatingPoint | None) -> None:
    threshold = point.threshold if point else None
    ending = "" if threshold is None else f"; threshold {score_text(threshold)}"
    alt = f"Anomaly scores of normal and anomalous test images by {m.title}{ending}"
    widgets.still(histogram_still(m.of_class(0), m.of_class(1), threshold, ink=widgets.ink()), alt)


def confusion(m: Measured, point: OperatingPoint, focus: bool) -> str:
    """The four counts of a run as a card."""
    n_normal, n_anomalous = m.interval.n_normal, m.interval.n_anomalous
    precision = "–" if point.precision != point.precision else f"{percent(point.precision)}&nbsp;%"
    wrong = "<td class='wrong' style='--share:{:.3f}'>{}</td>".format
    return (
        f"<div class='card variant-{text(m.run.variant)}{' focus' if focus else ''}'>"
        f"<h2>{widgets.variant_name(m.run.variant, m.title)}</h2><table><thead><tr><td></td>"
        "<th scope='col'>flagged</th><th scope='col'>passed</th></tr></thead><tbody>"
        f"<tr><th scope='row'>{n_anomalous} anomalous</th><td class='right'>{point.true_positives}</td>"
        f"{wrong(point.false_negatives / n_anomalous, point.false_negatives)}</tr>"
        f"<tr><th scope='row'>{n_normal} normal</th>{wrong(point.false_positives / n_normal, point.false_positives)}"
        f"<td class='right'>{point.true_negatives}</td></tr></tbody></table>"
        f"<p>finds {percent(point.tpr)}&nbsp;%, flags {percent(point.fpr)}&nbsp;% of normals, precision {precision}, "
        f"F1 {percent(point.f1)}&nbsp;%, "
        f"<span class='nowrap'>threshold {score_text(point.threshold)}</span></p></div>"
    )


def numbers(runs: Runs) -> None:
    titles = [f"<abbr title='{text(meaning)}'>{name}</abbr>" for name, meaning in DEFINITIONS.items()]
    rows = []
    for m in runs.values():
        cells = [f"{percent(value)} %" for value in m.quality.values()]
        cells[0] += f" <span class='small nowrap'>({percent_range(m.interval.low, m.interval.high)})</span>"
        difference = text(difference_text(m.delong) or "–")
        rows.append([widgets.variant_name(m.run.variant, m.title), *cells, difference])
    widgets.table(["Method", *titles, "AUROC against DifferNet (DeLong)"], rows)
    with st.expander("What these numbers mean"):
        st.markdown("\n".join(f"- **{name}**: {meaning}" for name, meaning in DEFINITIONS.items()))
    by_defect(runs)


def by_defect(runs: Runs) -> None:
    """Which defects are hard."""
    st.header("By defect", anchor=False)
    first = next(iter(runs.values()))
    n_images = first.scores["defect"].value_counts()
    found = {name: m.auroc_by_defect for name, m in runs.items()}
    rows = [
        [text(kind.replace("_", " ")), str(n_images[kind]), *(f"{percent(found[name][kind])} %" for name in runs)]
        for kind in first.auroc_by_defect
    ]
    heads = ["Defect", "Images", *widgets.short_names(runs.values())]
    widgets.table(heads, rows, f"AUROC of each kind of defect against all {first.interval.n_normal} normal images")


def several_seeds(runs: Runs) -> bool:
    """Whether one of the runs was repeated with another seed, so that Overview has the mean."""
    shown, key = {m.run.run for m in runs.values()}, next(iter(runs.values())).key
    groups = usual_groups(shipped.of_category(key))
    return any(len(group.runs) > 1 and shown & {m.run.run for m in group.runs} for group in groups)


# -- the page


def choose_runs() -> tuple[Runs, str, bool, bool, bool]:
    """(the runs whose curves are drawn, how attention was trained in all of them, whether with bands, on a logarithmic
    axis, to be explored)."""
    one, two, three = st.columns([4, 3, 4], vertical_alignment="bottom")
    with one:
        key = address.category(widgets.measured_keys())
    with two:
        setting = address.choice("Backbone and seed", shipped.settings(key), "setting")
    with three, st.container(horizontal=True):
        band = address.switch("Interval bands", "band", True)
        log = address.switch("Logarithmic axis", "log", False, help="Spreads out low false-positive rates.")
        explore = address.switch("Explore", "explore", False, help="Zoom, and read the numbers under the pointer.")
    runs = shipped.of_setting(key, setting)
    at_first = [m.name for m in usual(runs.values())]
    names = at_first
    if len(at_first) < len(runs):
        with st.expander("More curves", expanded=bool(st.query_params.get_all("curves"))):
            names = address.several("Curves", {name: m.title for name, m in runs.items()}, "curves", at_first)
    shown, training = training_once([runs[name] for name in names or at_first])
    return {m.name: m for m in shown}, training, band, log, explore


widgets.head(
    "How many defects for how many false alarms?",
    "Every curve is computed from the score file of its run. Bands are 95 % intervals, for one threshold at a time. "
    "Move the operating point: dots, histogram and counts follow.",
)
runs, training, band, log, explore = choose_runs()
operating_point(runs, band, log, explore)
said = "One seed is shown; the page Overview has the mean of all." if several_seeds(runs) else ""
if said or training:
    st.caption(f"{said} {training}")
numbers(runs)
