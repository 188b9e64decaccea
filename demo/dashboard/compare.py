"""Compare: a visitor's images by the detectors of a category. Uploads stay in the session."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import pandas as pd
import streamlit as st

from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.figures.overlay import OPACITY
from attentdiffernet.words import (
    DETECTOR_TITLES,
    ON_WHITE,
    OUTLINED,
    OWN_SCALE,
    OWN_SCALE_HELP,
    short_title,
    verdict_word,
)
from demo import markup
from demo.dashboard import address, widgets
from demo.markup import literal, text
from demo.service.catalogue import CategoryInfo, detector_names
from demo.service.comparison import IMAGE_TYPES, MAX_IMAGES, compare, counts
from demo.service.downloads import numbers_csv, numbers_json
from demo.service.stranger import a
from demo.service.verdict import NO_NORMAL, Comparison, Likeness

KEPT = 2 * MAX_IMAGES  # results of a session, without their pictures
CROP = 144  # px


@dataclass(frozen=True)
class Image:
    """One image to inspect. id: of the file and of what inspects it; results are kept under it."""

    name: str
    file: bytes
    category: str
    detectors: tuple[str, ...]

    @property
    def id(self) -> str:
        return hashlib.sha256(f"{self.category} {self.detectors} ".encode() + self.file).hexdigest()


@dataclass(frozen=True)
class How:
    """How maps are shown, and how images are judged. method: of `verdict.MAPS`. own_scale: as of `Heat.scaled`.
    opacity: of the heat, 0 to 1. rate: share of good parts that may be flagged."""

    method: str
    own_scale: bool
    outlined: bool
    opacity: float
    rate: float


Results = dict[str, Comparison | str]  # by Image.id; text says why there is none


# -- choosing


def choose_detectors(key: str) -> tuple[str, ...]:
    """In their usual order; all of them where none is left."""
    titles = {name: short_title(name) for name in detector_names(key)}
    chosen = address.several("Detectors", titles, "detectors", list(titles), pills=True)
    return tuple(name for name in titles if name in chosen) or tuple(titles)


def uploaded(info: CategoryInfo, detectors: tuple[str, ...]) -> list[Image]:
    label = f"Your photographs (up to {MAX_IMAGES})"
    files = st.file_uploader(label, type=IMAGE_TYPES, accept_multiple_files=True, key="uploads")
    if len(files) > MAX_IMAGES:
        st.warning(f"Only the first {MAX_IMAGES} of {len(files)} images are inspected.", icon=":material/filter:")
    return [Image(PurePath(file.name).name, file.getvalue(), info.key, detectors) for file in files[:MAX_IMAGES]]


def example(info: CategoryInfo, detectors: tuple[str, ...]) -> list[Image]:
    """The one chosen, or nothing."""
    examples = {example.name: example for example in info.examples}
    if not examples:
        return []
    titles = {"": "None"} | {name: example.title for name, example in examples.items()}
    name = address.choice("Or take an example", titles, "example")
    if not name:
        return []
    path = examples[name].path
    return [Image(path.name, path.read_bytes(), info.key, detectors)]


def choose_how(key: str, images: list[Image]) -> How:
    left, right = st.columns(2, gap="large")
    with left:
        rate = widgets.rate("rate", help="Judges all photographs again at once.") / 100
        method = widgets.choose_map(key, images[0].detectors)
    with right:
        opacity = address.number("Opacity of the heat, %", "opacity", 0.0, 100.0, 100 * OPACITY, 5.0, format="%.0f")
        outlined = address.switch(OUTLINED, "outline", True)
        own_scale = address.switch(OWN_SCALE, "own", False, help=OWN_SCALE_HELP)
    return How(method, own_scale, outlined, opacity / 100, rate)


# -- inspecting


def inspect(images: list[Image], how: How) -> None:
    """Scores what is new, one image after the other, and shows one of them; provisional results first."""
    results: Results = st.session_state.setdefault("results", {})
    overview, status, place = st.container(), st.empty(), st.empty()
    for k, image in enumerate(images):
        if image.id not in results:
            results[image.id] = score(image, how, k, len(images), status, place)
    forget(results, images)
    status.empty()
    images = worst_first(images, results)
    results = {key: one if isinstance(one, str) else one.at_rate(how.rate) for key, one in results.items()}
    chosen = images[0]
    if len(images) > 1:
        with overview:
            chosen = images[table(images, results)]
    found = results[chosen.id]
    if isinstance(found, str):
        place.error(literal(found), icon=":material/error:")
        return
    with status:
        whole = with_maps(chosen, how)
    with place.container():
        if len(images) > 1:
            st.header(literal(chosen.name), anchor=False)
        judged = whole.at_rate(how.rate)
        if judged.stranger:
            offer(judged)
        else:
            st.markdown(f"**{literal(judged.conclusion)}**")
        draw(judged, how)
        download([r for image in images if isinstance(r := results.get(image.id), Comparison)])


def worst_first(images: list[Image], results: Results) -> list[Image]:
    """As the usual rate judges them, so that the order stays while the threshold is moved; those not read come last."""

    def place(image: Image) -> tuple[bool, float]:
        found = results[image.id]
        return isinstance(found, str), 0.0 if isinstance(found, str) else -found.rank

    return sorted(images, key=place)


def score(image: Image, how: How, k: int, n: int, status: Any, place: Any) -> Comparison | str:
    """The result of image k of n, without pictures, or why there is none. Shows in `place` what is known so far."""
    try:
        asked = image.file, image.category, how.method, image.name
        for comparison in widgets.comparing(*asked, k, n, status, image.detectors):
            with place.container():
                draw(comparison.at_rate(how.rate), how)
    except AttentDifferNetError as error:
        return str(error)
    st.session_state["whole"] = (image.id, how.method, comparison)
    return comparison.without_pictures()


def with_maps(image: Image, how: How) -> Comparison:
    """The last comparison with pictures if it is the one asked for; else its maps are drawn again."""
    last = st.session_state.get("whole")
    if last is not None and last[:2] == (image.id, how.method):
        return last[2]
    with st.spinner("Drawing the maps …"):
        file = io.BytesIO(image.file)
        *_, whole = compare(file, image.category, how.method, image.name, chosen=image.detectors)
    st.session_state["whole"] = (image.id, how.method, whole)
    return whole


def forget(results: Results, images: list[Image]) -> None:
    """Removes the oldest results beyond KEPT that are not shown."""
    shown = {image.id for image in images}
    for old in [key for key in results if key not in shown][: max(0, len(results) - KEPT)]:
        del results[old]


# -- showing


def draw(comparison: Comparison, how: How) -> None:
    """The photograph and the detectors side by side, with a colour bar for each kind of map."""
    st.html(markup.verdicts(comparison))
    columns = st.columns(1 + len(comparison.verdicts))
    with columns[0]:
        height, width = comparison.image.shape[:2]
        st.html(f"<h2 class='cardhead'>Photograph</h2><p class='said small'>{width} × {height} px as shown</p>")
        st.image(comparison.image, width="stretch", alt=f"Photograph: {comparison.name}")
        if comparison.on_white:
            st.caption(ON_WHITE)
    for column, key in zip(columns[1:], comparison.verdicts, strict=True):
        with column:
            card(comparison, key, how)
    for found in comparison.likenesses.values():
        likeness(found)
    if comparison.heat is not None:
        widgets.heat_scales(comparison.heat.kinds, how.own_scale)
        widgets.notes({key: comparison.note(key, how.own_scale) for key in comparison.heat.heat})


def likeness(found: Likeness) -> None:
    """`Looks like this, expected that`: both crops at the same scale."""
    widgets.small(text(found.sentence))
    with st.container(horizontal=True):
        alt = "The place that is farthest from all normal places"
        st.image(found.found, caption="looks like this", width=CROP, alt=alt)
        if found.normal is None:
            st.caption(NO_NORMAL)
        else:
            alt = "The normal place that is nearest to it"
            st.image(found.normal, caption="expected that", width=CROP, alt=alt)


def offer(comparison: Comparison) -> None:
    """That it is a picture of another thing; a button for the category that it fits."""
    st.warning(comparison.warning, icon=":material/help:")
    fits = comparison.stranger.fits if comparison.stranger else None
    if fits and st.button(f"Inspect it as {fits.title}"):
        st.query_params["category"] = fits.key
        st.rerun()


def card(comparison: Comparison, key: str, how: How) -> None:
    """One detector's result under its map."""
    verdict, heat = comparison.verdicts[key], comparison.heat
    title = heat.title(key) if heat else "Photograph, map to come"
    st.html(
        f"<h2 class='variant-{key} cardhead'>{widgets.variant_name(key, short_title(key))}</h2>"
        f"<p class='said'>{markup.badge(verdict.anomalous, verdict.provisional)}</p>"
    )
    picture = comparison.overlay(key, how.own_scale, how.outlined, how.opacity)
    st.image(picture, width="stretch", alt=f"{title}: {verdict.title}, {comparison.name}")
    normals = len(verdict.calibration_scores)
    place = f"Score, {verdict.times} the threshold, among those of {normals} held-out normal images"
    st.html(
        f"<div class='place variant-{key}'><div class='plain'>"
        f"{markup.numbers(verdict)}<p class='small'>{verdict.views_text}</p>"
        f"{widgets.drawing(verdict.histogram_svg, place)}"
        f"<div class='small'>{markup.raw_numbers(verdict)}</div></div></div>"
    )


def table(images: list[Image], results: Results) -> int:
    """All images, sortable; returns the row chosen."""
    read = sum(isinstance(results.get(image.id), Comparison) for image in images)  # results of others are kept, too
    st.markdown(counts(read, len(images)))
    frame = pd.DataFrame([row(image.name, results.get(image.id)) for image in images])
    state: Any = st.dataframe(
        frame,
        hide_index=True,
        column_config=columns(),
        on_select="rerun",
        selection_mode="single-row",
        key=f"table-{hashlib.sha256(str(sorted(i.id for i in images)).encode()).hexdigest()}",  # of these images
        placeholder="",
        alt="Verdict of every image, and its score as a multiple of the threshold",
    )
    st.caption("Worst first, by the usual threshold. Choose a row to see its maps; at first the top one is shown.")
    picked = state["selection"]["rows"]
    read_at = (k for k, image in enumerate(images) if isinstance(results.get(image.id), Comparison))
    chosen = picked[0] if picked else next(read_at, 0)
    for image in images[:chosen] + images[chosen + 1 :]:  # why, in full: a cell of the table would cut it off
        if isinstance(found := results.get(image.id), str):
            st.error(literal(found), icon=":material/error:")
    return chosen


def row(name: str, found: Comparison | str | None) -> dict[str, object]:
    if not isinstance(found, Comparison):
        return {"Image": name, "Verdict": "could not be read" if found else "…"}
    said = f"perhaps not {a(found.category.part)}" if found.stranger else _said(found)
    cells: dict[str, object] = {"Image": name, "Verdict": said}
    for key, verdict in found.verdicts.items():
        cells[DETECTOR_TITLES[key]] = verdict.times
    return cells


def _said(found: Comparison) -> str:
    """`✓ normal by all 4`, `▲ anomalous by 2 of 4`"""
    flagged, asked = sum(verdict.anomalous for verdict in found.verdicts.values()), len(found.verdicts)
    if 0 < flagged < asked:
        return f"▲ anomalous by {flagged} of {asked}"
    word = f"▲ {verdict_word(True)}" if flagged else f"✓ {verdict_word(False)}"
    return f"{word} by all {asked}" if asked > 1 else word


def columns() -> dict[str, Any]:
    words = st.column_config.TextColumn
    found: dict[str, Any] = {"Image": words(width=220), "Verdict": words(width=180)}
    for key, title in DETECTOR_TITLES.items():
        score = f"Anomaly score by {title}, as a multiple of its threshold"
        found[title] = words(short_title(key), help=score, width=100)
    return found


def download(comparisons: list[Comparison]) -> None:
    files = {"CSV": numbers_csv(comparisons), "JSON": numbers_json(comparisons)}
    with st.container(horizontal=True):
        for kind, numbers in files.items():
            name = f"numbers.{kind.lower()}"
            st.download_button(f"Numbers ({kind})", numbers, name, icon=":material/download:", on_click="ignore")


# -- the page


widgets.head(
    "Compare the detectors on your images",
    "All detectors of a category score each image. DifferNet and its variants use the same views of it, and show first "
    "results after two; PatchCore needs one. Images stay in your session and are gone when you close the page.",
)
usable = widgets.usable_categories()
with st.container(key="beside"):
    one, two, three = st.columns(3, gap="medium")
with one:
    info = usable[address.category(list(usable))]
    st.caption(" ".join(filter(None, (info.description, info.licence and f"Licence of the data: {info.licence}."))))
    widgets.left_out(info.key)
with three:
    detectors = choose_detectors(info.key)
with two:
    images = uploaded(info, detectors)
with three:
    images = images or example(info, detectors)
answer = st.container()
if images:
    how = choose_how(info.key, images)
    with answer:
        inspect(images, how)
else:
    widgets.empty(
        f"Drop photographs of {a(info.part)} in{', or take an example' * bool(info.examples)}.",
        "JPEG, PNG, TIFF, BMP, WebP or GIF. A score is meaningful only for parts like those that were trained on.",
    )
