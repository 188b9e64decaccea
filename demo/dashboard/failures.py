"""Failures: the images behind the numbers. Lists need score files alone; pictures where the images are at hand."""

import io
from pathlib import PurePath

import numpy as np
import streamlit as st
from PIL import Image, ImageOps

from attentdiffernet.datasets import category_title
from attentdiffernet.figures.screen import histogram_figure
from attentdiffernet.study.comparison import Measured, without_best_on_test
from attentdiffernet.study.failures import FAILURES, Failure, failures, images_of
from attentdiffernet.words import variant_title
from demo import shipped
from demo.dashboard import parts

SHOWN = {"8": "8", "24": "24", "48": "48"}
THUMBNAIL = 146  # px: eight in a row on a desk, two on a phone
EXPLAINED = {
    "normals": "Normal test images that this variant takes for the most anomalous: the false alarms come first.",
    "anomalies": "Anomalous test images that this variant takes for the most normal: the missed defects come first.",
    "disagreements": "Images that the variants place most differently among the normal ones.",
}


@st.cache_data(max_entries=400, show_spinner=False)  # some 50 kB each
def thumbnail(key: str, image: str) -> bytes | None:
    """A small PNG of a test image, or None where it is not at hand."""
    from attentdiffernet.images import read_image

    file = shipped.image_file(key, image)
    if file is None:
        return None
    side = 2 * THUMBNAIL  # for screens of double density; in the middle of a square, so that cards line up
    picture = ImageOps.contain(Image.fromarray(read_image(io.BytesIO(file), image)), (side, side))
    square = Image.new("RGBA", (side, side))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    stream = io.BytesIO()
    square.save(stream, "PNG")
    return stream.getvalue()


@st.cache_data(max_entries=8, show_spinner=False)  # some 12 MB each
def maps(
    key: str, image: str, method: str
) -> tuple[np.ndarray, dict[str, np.ndarray], tuple[float, float], dict[str, str]] | None:
    """(image, overlay by variant, their scale, notes) of a test image; None where it is not at hand."""
    from attentdiffernet.figures.overlay import overlay
    from demo.service.comparison import heat_of

    file = shipped.image_file(key, image)
    if file is None:
        return None
    picture, heat = heat_of(io.BytesIO(file), key, method, image)
    overlays = {variant: overlay(picture, values, *heat.scale) for variant, values in heat.heat.items()}
    return picture, overlays, heat.scale, heat.notes


def defect(failure: Failure) -> str:
    return failure.defect.replace("_", " ")


def label(failure: Failure, variant: str, kind: str) -> str:
    if kind == "disagreements":
        return f"places {min(failure.place.values()):.0f} % to {max(failure.place.values()):.0f} %"
    return f"score {parts.score(failure.scores[variant])}"


def gallery(key: str, found: list[Failure], variant: str, kind: str, chosen: str) -> None:
    """The list, as cards with a button each that writes into the address; it lies under the picture, too (style.css).
    Pictures come in after the words."""
    places, buttons = [], []
    with st.container(horizontal=True, gap="small", key="gallery"):
        for failure in found:
            with st.container(width=THUMBNAIL, gap="xxsmall"):
                places.append(st.empty())
                buttons.append(st.empty())
                st.caption(f"{parts.words(defect(failure))}, {label(failure, variant, kind)}")
    for button, failure in zip(buttons, found, strict=True):
        key_of = f"look-{kind}-{failure.image}"
        stem, looked_at = PurePath(failure.image).stem, failure.image == chosen
        if button.button(parts.words(stem), type="primary" if looked_at else "secondary", key=key_of, width="stretch"):
            st.query_params["image"] = failure.image
            st.rerun()
    for place, failure in zip(places, found, strict=True):
        picture = thumbnail(key, failure.image)
        if picture is not None:
            place.image(picture, width=THUMBNAIL, alt=f"Test image {failure.image}")


def table(found: list[Failure], runs: dict[str, Measured]) -> None:
    rows = [
        [
            parts.text(failure.image),
            parts.text(defect(failure)),
            *(
                f"<span class='nowrap'>{parts.score(failure.scores[name])} "
                f"<span class='small'>({failure.place[name]:.0f} %)</span></span>"
                for name in runs
            ),
        ]
        for failure in found
    ]
    heads = ["Image", "Defect", *(parts.variant_name(m.run.variant, m.title) for m in runs.values())]
    parts.table(heads, rows, "Anomaly score, and the share of normal test images that score lower")


def threshold_of(m: Measured) -> tuple[float, str]:
    """The shipped threshold of a run or, without one, that at 5 % false positives; and which it is."""
    of_model = shipped.shipped_threshold(m)
    return (of_model.threshold, "shipped") if of_model else (m.at_fpr(0.05).threshold, "at 5 % of test normals")


def card(m: Measured, failure: Failure) -> str:
    score, (threshold, of) = failure.scores[m.name], threshold_of(m)
    return (
        f"<div class='card variant-{parts.text(m.run.variant)}'><h4>{parts.variant_name(m.run.variant, m.title)}</h4>"
        f"<p>{parts.badge(score > threshold)}</p><dl><div><dt>Score</dt><dd>{parts.score(score)}</dd></div>"
        f"<div><dt>Threshold, {of}</dt><dd>{parts.score(threshold)}</dd></div>"
        f"<div><dt>Above</dt><dd>{failure.place[m.name]:.0f} % of {m.interval.n_normal} normals</dd></div></dl></div>"
    )


def details(key: str, failure: Failure, runs: dict[str, Measured], variant: str) -> None:
    st.subheader(parts.words(failure.image), anchor=False)
    truth = f"An anomalous image: {parts.words(defect(failure))}" if failure.label else "A normal image"
    st.markdown(f"{truth}. Its scores are those of the committed score files.")
    left, right = st.columns([4, 6], gap="large")
    with left:
        m = runs[variant]
        score, (threshold, _) = failure.scores[variant], threshold_of(m)
        figure = histogram_figure(m.of_class(0), m.of_class(1), threshold, mark=score, ink=parts.ink())
        figure.update_layout(height=320)
        said = f"Scores of all test images by {m.title}, this one at {score:.4g}, threshold {threshold:.4g}"
        parts.chart(figure, said, "place")
    with right:
        st.html("<div class='place'>" + "".join(card(m, failure) for m in runs.values()) + "</div>")
    if shipped.images_at_hand(key):
        pictures(key, failure, runs)


def alone(key: str, failure: Failure) -> None:
    """The image without maps."""
    small = thumbnail(key, failure.image)
    if small is not None:
        st.image(small, width=2 * THUMBNAIL, alt=f"Test image {failure.image}")


def pictures(key: str, failure: Failure, runs: dict[str, Measured]) -> None:
    """The image and the maps of all variants on one scale, as far as images and models are at hand."""
    from attentdiffernet.errors import AttentDifferNetError
    from demo.service.catalogue import categories
    from demo.service.comparison import METHODS

    if key not in {info.key for info in categories()}:
        parts.empty("No maps: no model of this category is at hand.", parts.HOW_TO_TRAIN)
        alone(key, failure)
        return
    method = parts.choice("Map", METHODS, "method", segments=True)
    try:
        with st.spinner("Drawing the maps …"):
            found = maps(key, failure.image, method)
    except AttentDifferNetError as error:
        st.info(f"No maps: {parts.words(error)}", icon=":material/image_not_supported:")
        alone(key, failure)
        return
    if found is None:
        return
    image, overlays, scale, notes = found
    with st.container(key="pairs-maps"):
        columns = st.columns(1 + len(overlays))
    columns[0].image(image, caption="Image", width="stretch", alt=f"Test image {failure.image}")
    for column, (variant, picture) in zip(columns[1:], overlays.items(), strict=True):
        title = variant_title(variant)
        column.image(picture, caption=title, width="stretch", alt=f"{METHODS[method]} by {title} on {failure.image}")
    parts.heat_scale(scale)
    parts.notes(notes)
    if not any(shipped.shipped_threshold(m) for m in runs.values()):
        st.caption("These maps are of the models that are shipped, not of the runs chosen above, which are not.")


parts.head(
    "Where does it fail?",
    "The test images behind the numbers. Scores have units of their own in each variant; the share of normal images "
    "that an image outscores can be compared between them.",
)
keys = parts.measured_keys()
one, two, three = st.columns(3, vertical_alignment="bottom")
with one:
    key = parts.category(keys)
with two:
    setting = parts.choice("Backbone and seed", shipped.settings(key), "setting")
runs = {m.name: m for m in without_best_on_test(shipped.of_setting(key, setting).values())}
with three:
    variant = parts.choice("Variant", {v: m.title for v, m in runs.items()}, "variant")
kinds = {kind: title for kind, title in FAILURES.items() if kind != "disagreements" or len(runs) > 1}
one, two = st.columns([3, 1], vertical_alignment="bottom")
with one:
    kind = parts.choice("List", kinds, "list", segments=True)
with two:
    shown_at_once = int(parts.choice("Shown at once", SHOWN, "n", segments=True))
st.caption(EXPLAINED[kind])
found = failures(runs, kind, variant, shown_at_once)
if not found:
    parts.empty("Nothing to show.", "All variants place every image alike. Choose another list above.")
    st.stop()
images = {failure.image: failure for failure in images_of(runs)}
shown = (key, setting, variant, kind)
if st.session_state.setdefault("failures", shown) != shown:  # another list: its first image, not the last one's
    st.session_state["failures"] = shown
    st.query_params.pop("image", None)
asked = st.query_params.get("image", "")
chosen = asked if asked in images else found[0].image
if chosen == asked:
    st.session_state["kept"]["image"] = [asked]  # Attention and Figures show it, too
if shipped.images_at_hand(key):
    gallery(key, found, variant, kind, chosen)
else:
    st.info(
        f"The images of {category_title(key)} are not at hand, so this page tells what the score files say. "
        f"To see the images, name the folder that holds `{key}/test` in the environment variable "
        f"`{shipped.DATA_ENVIRONMENT}` and start the dashboard anew.",
        icon=":material/image_not_supported:",
    )
    table(found, runs)
    listed = list(dict.fromkeys([*(f.image for f in found), chosen]))
    picked = st.selectbox("Image", listed, index=listed.index(chosen))
    if picked != chosen:
        st.query_params["image"] = chosen = picked
details(key, images[chosen], runs, variant)
if shipped.images_at_hand(key):
    with st.expander("The list as a table"):
        table(found, runs)
