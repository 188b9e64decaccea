"""Failures: the images behind the numbers. Lists need score files only; pictures need the images on this machine."""

import io
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import streamlit as st
from PIL import Image

from attentdiffernet.datasets import category_title
from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.figures.one_file import inlined
from attentdiffernet.figures.overlay import overlay
from attentdiffernet.figures.screen import percentile_svg, scatter_figure
from attentdiffernet.study.comparison import Measured, training_once, without_best_on_test
from attentdiffernet.study.failures import FAILURES, Failure, failures, images_of
from attentdiffernet.study.usual import usual
from attentdiffernet.words import MOST_TIMES, score_text, short_title, times_text, variant_title
from demo import shipped
from demo.dashboard import address, widgets
from demo.markup import badge, literal, text

if TYPE_CHECKING:
    from demo.service.verdict import Heat

THRESHOLDS = {"shipped": "As shipped", "rate": "By good parts flagged"}
LEAST = 0.01  # multiple of a threshold, where the axes of the scatter begin
NUMBERS_SHOWN = {"8": "8", "24": "24", "48": "48"}
THUMBNAIL = 146  # px: eight in a row on a wide page, two on a phone
EXPLAINED = {
    "normals": "Normal test images with the highest scores of this variant: false alarms come first.",
    "anomalies": "Anomalous test images with the lowest scores of this variant: missed defects come first.",
    "disagreements": "Images whose rank among the normal ones differs most between the variants.",
}

Runs = dict[str, Measured]  # by name
Thresholds = dict[str, float]  # by name of the run, of one kind; without those that have none of this kind


class Choice(NamedTuple):
    """What is listed. name: the run whose scores count. kind: a key of FAILURES.

    A tuple, because Streamlit defines the classes of a page anew in each run: objects of a class that was kept from an
    earlier run would not be equal.
    """

    key: str
    setting: str
    name: str
    kind: str


# -- choosing


def choose() -> tuple[Choice, Runs, list[Failure], Thresholds]:
    """(what is listed, the runs of that setting, the list, the thresholds that scores are multiples of)."""
    one, two, three = st.columns(3, vertical_alignment="bottom")
    with one:
        key = address.category(widgets.measured_keys())
    with two:
        setting = address.choice("Backbone and seed", shipped.settings(key), "setting")
    everything = shipped.of_setting(key, setting)
    at_first = {m.name: m for m in usual(everything.values())}
    fair = {m.name: m for m in without_best_on_test(everything.values())}
    with three:
        name = address.choice("Method", {name: m.title for name, m in (at_first | fair).items()}, "variant")
    runs = at_first | {name: everything[name]}
    kinds = {kind: title for kind, title in FAILURES.items() if kind != "disagreements" or len(runs) > 1}
    one, two, three = st.columns([5, 4, 2], vertical_alignment="bottom")
    with one:
        kind = address.choice("List", kinds, "list", segments=True)
    with two:
        thresholds = choose_thresholds(runs, name)
    with three:
        n = int(address.choice("Shown at once", NUMBERS_SHOWN, "n", segments=True))
    st.caption(EXPLAINED[kind])
    return Choice(key, setting, name, kind), runs, failures(runs, kind, name, n), thresholds


def choose_thresholds(runs: Runs, name: str) -> Thresholds:
    """Of one kind for all runs: those shipped, if there is one of the run called `name`, or those of one rate on the
    normal test images."""
    stored = {other: found.threshold for other, m in runs.items() if (found := shipped.shipped_threshold(m))}
    ways = {way: title for way, title in THRESHOLDS.items() if way != "shipped" or name in stored}
    way = address.choice("Thresholds", ways, "thresholds", segments=True) if len(ways) > 1 else "rate"
    if way == "shipped":
        return stored
    of_100 = widgets.rate("rate", help="At most so many of 100 normal test images.")
    return {other: m.at_fpr(of_100 / 100).threshold for other, m in runs.items()}


def asked_image(choice: Choice, found: list[Failure], images: dict[str, Failure]) -> str:
    """The image named in the address, else the first of the list."""
    if st.session_state.setdefault("failures", choice) != choice:  # another list starts with its first image
        st.session_state["failures"] = choice
        st.query_params.pop("image", None)
    asked = st.query_params.get("image", "")
    if asked not in images:
        if asked:
            address.said_unknown(f"image {asked!r}")
            st.query_params.pop("image", None)
        return found[0].image
    address.keep("image", asked)  # Attention and Figures show it, too
    return asked


# -- lists


def gallery(choice: Choice, found: list[Failure], chosen: str, threshold: float) -> None:
    """The list as cards; the button of a card writes its image into the address, and covers the picture (style.css).
    Pictures are drawn after all text."""
    places, buttons = [], []
    with st.container(horizontal=True, gap="small", key="gallery"):
        for failure in found:
            with st.container(width=THUMBNAIL, gap="xxsmall"):
                places.append(st.empty())
                buttons.append(st.empty())
                st.caption(f"{literal(defect(failure))}, {label(failure, choice, threshold)}")
    for button, failure in zip(buttons, found, strict=True):
        stem, key = literal(PurePath(failure.image).stem), f"look-{choice.kind}-{failure.image}"
        if button.button(stem, type="primary" if failure.image == chosen else "secondary", key=key, width="stretch"):
            st.query_params["image"] = failure.image
            st.rerun()
    for place, failure in zip(places, found, strict=True):
        picture = thumbnail(choice.key, failure.image)
        if picture:
            place.html(picture)


def list_without_images(choice: Choice, found: list[Failure], runs: Runs, chosen: str, thresholds: Thresholds) -> str:
    """The list as a table; returns the image chosen."""
    st.info(
        f"The images of {category_title(choice.key)} are not on this machine, so this page shows the score files only. "
        f"To see the images, set the environment variable `{shipped.DATA_ENVIRONMENT}` to the folder that holds "
        f"`{choice.key}/test`, and restart the dashboard.",
        icon=":material/image_not_supported:",
    )
    table(found, runs, thresholds)
    listed = list(dict.fromkeys([*(f.image for f in found), chosen]))
    picked = st.selectbox("Image", listed, index=listed.index(chosen))
    if picked != chosen:
        st.query_params["image"] = picked
    return picked


def table(found: list[Failure], runs: Runs, thresholds: Thresholds) -> None:
    rows = [
        [text(failure.image), text(defect(failure)), *(score_and_place(failure, name, thresholds) for name in runs)]
        for failure in found
    ]
    heads = ["Image", "Defect", *widgets.short_names(runs.values())]
    widgets.table(
        heads, rows, "Score as a multiple of the threshold, and the share of normal test images that score lower"
    )


def score_and_place(failure: Failure, name: str, thresholds: Thresholds) -> str:
    score, place = failure.scores[name], failure.place[name]
    said = times_text(score, thresholds[name]) if name in thresholds else score_text(score)
    return f"<span class='nowrap'>{said} <span class='small'>({place:.0f} %)</span></span>"


def defect(failure: Failure) -> str:
    return failure.defect.replace("_", " ")


def label(failure: Failure, choice: Choice, threshold: float) -> str:
    if choice.kind == "disagreements":
        return f"above {min(failure.place.values()):.0f} % to {max(failure.place.values()):.0f} % of normals"
    return f"{times_text(failure.scores[choice.name], threshold)} threshold"


@st.cache_data(max_entries=400, show_spinner=False)  # some 20 kB each
def thumbnail(key: str, image: str) -> str:
    """HTML of a small picture of a test image, which is part of the page; empty if it is not on this machine."""
    from attentdiffernet.images import read_image

    file = shipped.image_file(key, image)
    if file is None:
        return ""
    side = 2 * THUMBNAIL  # for screens of double density
    pixels = read_image(io.BytesIO(file), image, shipped.value_range(key))
    picture = inlined(Image.fromarray(pixels), side)
    return f"<img class='thumbnail' src='{picture}' alt='{text(f'Test image {image}')}'>"


def scatter(choice: Choice, runs: Runs, thresholds: Thresholds, images: dict[str, Failure], chosen: str) -> None:
    """Every image by the run chosen and by another one; a click on a point shows its image below."""
    others = {name: m.title for name, m in runs.items() if name != choice.name and name in thresholds}
    if not others or min(thresholds.values()) <= 0:
        return
    left, _ = st.columns([1, 2])
    with left:
        other = address.choice("Against", others, "against")
    pair = choice.name, other
    times = [np.clip([f.scores[name] / thresholds[name] for f in images.values()], LEAST, MOST_TIMES) for name in pair]
    mine, theirs = (runs[name] for name in pair)
    titles = short_title(mine.run.variant), short_title(theirs.run.variant)
    if titles[0] == titles[1]:  # two recipes of one variant
        titles = mine.title, theirs.title
    labels = [f.label for f in images.values()]
    figure = scatter_figure((times[0], times[1]), labels, list(images), titles, mark=chosen, ink=widgets.ink())
    alt = f"Scores of all test images by {titles[0]} and by {titles[1]}, as multiples of their thresholds"
    key = f"scatter-{choice.key}-{choice.setting}-{choice.name}-{other}"
    state = widgets.chart(figure, alt, key, on_select="rerun", selection_mode="points")
    st.caption(
        "Top left and bottom right of the dashed lines, the verdicts differ; the axes end at "
        f"{MOST_TIMES} ×. Click on a point to see its image; the cards below show the same images, those that differ "
        "most first."
    )
    points = state["selection"]["points"]
    picked = points[0]["customdata"][0] if points else None
    if picked is not None and st.session_state.get("picked") != (key, picked):
        st.session_state["picked"] = key, picked
        st.query_params["image"] = picked
        st.rerun()


# -- one image


def details(key: str, failure: Failure, runs: Runs, thresholds: Thresholds) -> None:
    st.header(literal(failure.image), anchor=False)
    truth = f"An anomalous image: {literal(defect(failure))}" if failure.label else "A normal image"
    st.markdown(f"{truth}. Its scores are those of the score files.")
    short, training = training_once(list(runs.values()))
    st.html(f"<div class='place'>{''.join(card(m, failure, thresholds.get(m.name)) for m in short)}</div>")
    if training:
        st.caption(training)
    if shipped.images_at_hand(key):
        pictures(key, failure, runs)


def card(m: Measured, failure: Failure, threshold: float | None) -> str:
    """The verdict of one run; threshold: None where it has none of the kind chosen."""
    score = failure.scores[m.name]
    place = f"<div><dt>Higher than</dt><dd>{failure.place[m.name]:.0f} % of {m.interval.n_normal} normals</dd></div>"
    raw = f"<div><dt>Anomaly score</dt><dd>{score_text(score)}</dd></div>"
    if threshold is None:
        verdict, times, among = "<p class='small'>No model of this run is shipped.</p>", "", ""
    else:
        alt = f"Its place among {m.interval.n_normal} normal test images by {m.title}"
        among = widgets.drawing(percentile_svg(m.of_class(0), score, threshold), alt)
        verdict = f"<p>{badge(score > threshold)}</p>"
        times = f"<div><dt>Score</dt><dd><b>{times_text(score, threshold)}</b> threshold</dd></div>"
        raw += f"<div><dt>Threshold</dt><dd>{score_text(threshold)}</dd></div>"
    return (
        f"<div class='card variant-{text(m.run.variant)}'><h3>{widgets.variant_name(m.run.variant, m.title)}</h3>"
        f"{verdict}<dl>{times}{place}</dl>{among}"
        f"<details class='small'><summary>Raw numbers</summary><dl>{raw}</dl></details></div>"
    )


def pictures(key: str, failure: Failure, runs: Runs) -> None:
    """The image and the maps of all variants on one scale, or why there are no maps."""
    from demo.service.catalogue import categories, detector_names

    if key not in {info.key for info in categories()}:
        widgets.empty("No maps: there is no model of this category.", widgets.HOW_TO_TRAIN)
        image_alone(key, failure)
        return
    try:
        method = widgets.choose_map(key, detector_names(key))
        with st.spinner("Drawing the maps …"):
            found = maps(key, failure.image, method)
    except AttentDifferNetError as error:
        st.info(f"No maps: {literal(error)}", icon=":material/image_not_supported:")
        image_alone(key, failure)
        return
    if found is None:
        return
    image, heat = found
    with st.container(key="pairs-maps"):
        columns = st.columns(max(4, 1 + len(heat.heat)))
    columns[0].image(image, caption="Image", width="stretch", alt=f"Test image {failure.image}")
    for column, detector in zip(columns[1:], heat.heat, strict=False):
        title, picture = variant_title(detector), overlay(image, *heat.scaled(detector, False))
        alt = f"{heat.title(detector)} by {title} on {failure.image}"
        column.image(picture, caption=title, width="stretch", alt=alt)
    widgets.heat_scales(heat.kinds)
    widgets.left_out(key)
    widgets.notes({detector: f"{heat.shows[detector]} {heat.visibility(detector)}" for detector in heat.heat})
    if others := [m.title for m in runs.values() if not shipped.shipped_threshold(m)]:
        st.caption(
            literal(
                f"These maps are those of the shipped models, which did not give the scores of {', '.join(others)}."
            )
        )


def image_alone(key: str, failure: Failure) -> None:
    st.html(f"<div class='alone'>{thumbnail(key, failure.image)}</div>")


@st.cache_data(max_entries=8, show_spinner=False)  # some 5 MB each
def maps(key: str, image: str, method: str) -> "tuple[np.ndarray, Heat] | None":
    """(image, maps) of a test image; None if it is not on this machine."""
    from demo.service.comparison import heat_of

    file = shipped.image_file(key, image)
    if file is None:
        return None
    return heat_of(io.BytesIO(file), key, method, image)


# -- the page


widgets.head(
    "Where does it fail?",
    "The test images behind the numbers. Scores are multiples of each method's own threshold, whose scales differ: "
    "compare the share of normal images that score lower.",
)
choice, runs, found, thresholds = choose()
if not found:
    widgets.empty("Nothing to show.", "All variants rank every image alike. Choose another list above.")
    st.stop()
images = {failure.image: failure for failure in images_of(runs)}
chosen = asked_image(choice, found, images)
if choice.kind == "disagreements":
    scatter(choice, runs, thresholds, images, chosen)
if shipped.images_at_hand(choice.key):
    gallery(choice, found, chosen, thresholds[choice.name])
else:
    chosen = list_without_images(choice, found, runs, chosen, thresholds)
details(choice.key, images[chosen], runs, thresholds)
if shipped.images_at_hand(choice.key):
    with st.expander("The list as a table"):
        table(found, runs, thresholds)
