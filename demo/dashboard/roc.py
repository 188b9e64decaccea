"""ROC: curves of a category, and one operating point that curve, histogram and counts follow together."""

import streamlit as st

from attentdiffernet.figures.curves import curve_of
from attentdiffernet.figures.screen import histogram_figure, roc_figure
from attentdiffernet.study.comparison import DEFINITIONS, Measured, without_best_on_test
from attentdiffernet.study.formats import difference_text
from attentdiffernet.study.statistics import OperatingPoint
from demo import shipped
from demo.dashboard import parts

WAYS = {"fpr": "False-positive rate", "threshold": "Threshold", "shipped": "As shipped"}


def confusion(m: Measured, point: OperatingPoint, focus: bool) -> str:
    n, a = m.interval.n_normal, m.interval.n_anomalous
    precision = "–" if point.precision != point.precision else f"{point.precision:.1%}"
    wrong = "<td class='wrong' style='--share:{:.3f}'>{}</td>".format
    return (
        f"<div class='card variant-{parts.text(m.run.variant)}{' focus' if focus else ''}'>"
        f"<h4>{parts.variant_name(m.run.variant, m.title)}</h4><table><thead><tr><th></th><th scope='col'>flagged</th>"
        "<th scope='col'>passed</th></tr></thead><tbody>"
        f"<tr><th scope='row'>{a} anomalous</th><td class='right'>{point.true_positives}</td>"
        f"{wrong(point.false_negatives / a, point.false_negatives)}</tr>"
        f"<tr><th scope='row'>{n} normal</th>{wrong(point.false_positives / n, point.false_positives)}"
        f"<td class='right'>{point.true_negatives}</td></tr></tbody></table>"
        f"<p>finds {point.tpr:.1%}, flags {point.fpr:.1%} of normals, precision {precision}, F1 {point.f1:.1%}, "
        f"<span class='nowrap'>threshold {point.threshold:.4g}</span></p></div>"
    )


def points(runs: dict[str, Measured]) -> tuple[dict[str, OperatingPoint], str]:
    """The operating point of each run, and the variant whose histogram is shown."""
    thresholds = {v: t.threshold for v, m in runs.items() if (t := shipped.shipped_threshold(m))}
    ways = {way: title for way, title in WAYS.items() if way != "shipped" or thresholds}
    left, middle, right = st.columns([3, 3, 4])
    with left:
        way = parts.choice("Set the operating point by", ways, "by", segments=True)
    with middle:
        titles = {variant: m.title for variant, m in runs.items()}
        focus = parts.choice("Histogram of", titles, "variant")
    with right:
        if way == "fpr":
            rate = parts.number("Normal images flagged at most, %", "fpr", 0.0, 100.0, 5.0, 0.5, format="%.1f") / 100
            return {variant: m.at_fpr(rate) for variant, m in runs.items()}, focus
        if way == "threshold":
            m = runs[focus]
            label = f"Score above which {m.title} flags, from image to image"
            threshold = parts.stop(label, "threshold", sorted(set(m.values)), m.at_fpr(0.05).threshold)
            rate = runs[focus].at(threshold).fpr
            found = {variant: m.at_fpr(rate) for variant, m in runs.items()} | {focus: runs[focus].at(threshold)}
            st.caption("Scores of variants have units of their own: the others are set to the same share of normals.")
            return found, focus
        st.caption(
            "Thresholds set on training normals that were held out, at the rate each model card states: test images "
            "had no say."
        )
        return {variant: runs[variant].at(threshold) for variant, threshold in thresholds.items()}, focus


@st.fragment
def operating_point(runs: dict[str, Measured], band: bool, log: bool) -> None:
    at, focus = points(runs)
    left, right = st.columns([5, 6], gap="medium")
    curves = [curve_of(m, at[variant].threshold if variant in at else None) for variant, m in runs.items()]
    with left:
        areas = ", ".join(curve.legend for curve in curves)
        figure = roc_figure(curves, band=band, log_fpr=log, ink=parts.ink())
        figure.update_yaxes(scaleanchor=None)  # fills its column, on a desk and on a phone
        parts.chart(figure, f"ROC curves. AUROC with 95 % interval: {areas}", "roc")
    with right:
        m = runs[focus]
        threshold = at[focus].threshold if focus in at else None
        figure = histogram_figure(m.of_class(0), m.of_class(1), threshold, ink=parts.ink())
        figure.update_layout(height=330)
        said = "" if threshold is None else f"; threshold {threshold:.4g}"
        parts.chart(figure, f"Anomaly scores of normal and anomalous test images by {m.title}{said}", "histogram")
        st.html(
            "<div class='confusion' aria-live='polite'>"
            + "".join(confusion(runs[variant], point, variant == focus) for variant, point in at.items())
            + "</div>"
        )


def numbers(runs: dict[str, Measured]) -> None:
    titles = [f"<abbr title='{parts.text(said)}'>{name}</abbr>" for name, said in DEFINITIONS.items()]
    rows = []
    for m in runs.values():
        interval = f"{100 * m.interval.low:.1f} to {100 * m.interval.high:.1f}"
        cells = [f"{100 * value:.1f} %" for value in m.quality.values()]
        cells[0] += f" <span class='small nowrap'>({interval})</span>"
        rows.append([parts.variant_name(m.run.variant, m.title), *cells, parts.text(difference_text(m.delong) or "–")])
    parts.table(["Variant", *titles, "AUROC against DifferNet (DeLong)"], rows)
    with st.expander("What these numbers mean"):
        st.markdown("\n".join(f"- **{name}**: {said}" for name, said in DEFINITIONS.items()))


parts.head(
    "How many defects for how many false alarms?",
    "Every curve is computed from the committed score file of its run; bands are 95 %, one threshold at a time. Move "
    "the operating point: dots, histogram and counts follow.",
)
keys = parts.measured_keys()
one, two, three = st.columns([4, 3, 4], vertical_alignment="bottom")
with one:
    key = parts.category(keys)
with two:
    setting = parts.choice("Backbone and seed", shipped.settings(key), "setting")
with three, st.container(horizontal=True):
    band = parts.switch("Interval bands", "band", True)
    log = parts.switch("Logarithmic axis", "log", False, help="Spreads out low false-positive rates.")
    runs = shipped.of_setting(key, setting)
    drawn = {m.name: m for m in without_best_on_test(runs.values())}
    if len(drawn) < len(runs):
        said = "Curves of runs whose epoch was chosen on the test images, as DifferNet's code does. They flatter."
        drawn = runs if parts.switch("Best on test", "flatters", False, help=said) else drawn
operating_point(drawn, band, log)
numbers(runs)
