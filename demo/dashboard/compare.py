"""Compare: a visitor's images by all variants of a category. Uploads stay in the session."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import pandas as pd
import streamlit as st

from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.words import VARIANT_TITLES, score_text
from demo import markup
from demo.dashboard import address, widgets
from demo.service.catalogue import CategoryInfo
from demo.service.comparison import IMAGE_TYPES, MAX_IMAGES, compare
from demo.service.downloads import numbers_csv
from demo.service.verdict import MAPS, Comparison

KEPT = 2 * MAX_IMAGES  # results of a session, without their pictures


@dataclass(frozen=True)
class Image:
    """One image to inspect. id: of the file and the category; results are kept under it."""

    name: str
    file: bytes
    category: str

    @property
    def id(self) -> str:
        return hashlib.sha256(self.category.encode() + b"/" + self.file).hexdigest()


Results = dict[str, Comparison | str]  # by Image.id; text says why there is none


# -- choosing


def choose_images(info: CategoryInfo) -> list[Image]:
    """What was uploaded, else the example named in the address, else nothing."""
    label = f"Photographs, up to {MAX_IMAGES} at once"
    files = st.file_uploader(label, type=IMAGE_TYPES, accept_multiple_files=True, key="uploads")
    if len(files) > MAX_IMAGES:
        st.warning(f"Only the first {MAX_IMAGES} of {len(files)} images are inspected.", icon=":material/filter:")
    if files:
        return [Image(PurePath(file.name).name, file.getvalue(), info.key) for file in files[:MAX_IMAGES]]
    examples = {path.stem: path for path in info.examples}
    if not examples:
        return []
    titles = {"": "None"} | {stem: stem.replace("_", " ") for stem in examples}
    stem = address.choice("Or take an example", titles, "example")
    return [Image(examples[stem].name, examples[stem].read_bytes(), info.key)] if stem else []


# -- inspecting


def inspect(images: list[Image], method: str) -> None:
    """Scores what is new, one image after the other, and shows one of them; provisional results first."""
    results: Results = st.session_state.setdefault("results", {})
    overview, status, place = st.container(), st.empty(), st.empty()
    for k, image in enumerate(images):
        if image.id not in results:
            results[image.id] = score(image, method, k, len(images), status, place)
    forget(results, images)
    status.empty()
    chosen = images[0]
    if len(images) > 1:
        with overview:
            chosen = images[table(images, results)]
    found = results[chosen.id]
    if isinstance(found, str):
        place.error(widgets.literal(found), icon=":material/error:")
        return
    with status:
        whole = with_maps(chosen, method)
    with place.container():
        if len(images) > 1:
            st.subheader(widgets.literal(chosen.name), anchor=False)
        draw(whole)
        download([r for image in images if isinstance(r := results.get(image.id), Comparison)])


def score(image: Image, method: str, k: int, n: int, status: Any, place: Any) -> Comparison | str:
    """The result of image k of n, without pictures, or why there is none. Shows in `place` what is known so far."""
    try:
        for comparison in widgets.comparing(image.file, image.category, method, image.name, k, n, status):
            with place.container():
                draw(comparison)
    except AttentDifferNetError as error:
        return str(error)
    st.session_state["whole"] = (image.id, method, comparison)
    return comparison.without_pictures()


def with_maps(image: Image, method: str) -> Comparison:
    """The last comparison with pictures if it is the one asked for; else its maps are drawn again."""
    last = st.session_state.get("whole")
    if last is not None and last[:2] == (image.id, method):
        return last[2]
    with st.spinner("Drawing the maps …"):
        *_, whole = compare(io.BytesIO(image.file), image.category, method, image.name)
    st.session_state["whole"] = (image.id, method, whole)
    return whole


def forget(results: Results, images: list[Image]) -> None:
    """Removes the oldest results beyond KEPT that are not shown."""
    shown = {image.id for image in images}
    for old in [key for key in results if key not in shown][: max(0, len(results) - KEPT)]:
        del results[old]


# -- showing


def draw(comparison: Comparison) -> None:
    """The variants side by side, with one colour bar."""
    for column, variant in zip(st.columns(len(comparison.verdicts)), comparison.verdicts, strict=True):
        with column:
            card(comparison, variant)
    if comparison.heat is not None:
        widgets.heat_scale(comparison.heat.scale)
        widgets.notes(comparison.heat.notes)


def card(comparison: Comparison, variant: str) -> None:
    """One variant's result under its map."""
    verdict = comparison.verdicts[variant]
    drawn = comparison.heat is not None and variant in comparison.heat.heat
    title = comparison.heat.title if comparison.heat and drawn else "Photograph, map to come"
    st.html(f"<h4 class='variant-{variant} cardhead'>{widgets.variant_name(variant)}</h4>")
    st.image(comparison.overlay(variant), width="stretch", alt=f"{title}: {verdict.title}, {comparison.name}")
    place = (
        f"Score {score_text(verdict.score)} among those of {len(verdict.calibration_scores)} held-out normal images, "
        f"threshold {score_text(verdict.threshold)}"
    )
    st.html(
        f"<div class='place variant-{variant}'><div class='plain'>"
        f"<p>{markup.badge(verdict.anomalous, verdict.provisional)} <span class='small'>{verdict.views_text}</span></p>"
        f"{markup.numbers(verdict)}{widgets.drawing(verdict.histogram_svg, place)}"
        f"<p class='small'>{markup.text(verdict.choices)}</p></div></div>"
    )


def table(images: list[Image], results: Results) -> int:
    """All images, sortable; returns the row chosen."""
    frame = pd.DataFrame([row(image.name, results.get(image.id)) for image in images])
    styles: Any = {title: score_text for title in VARIANT_TITLES.values() if title in frame}
    state: Any = st.dataframe(
        frame.style.format(styles, na_rep=""),
        hide_index=True,
        column_config=columns(),
        on_select="rerun",
        selection_mode="single-row",
        key="table",
        placeholder="",
        alt="Verdict and anomaly score of every image",
    )
    st.caption("Choose a row to see its maps.")
    picked = state["selection"]["rows"]
    return picked[0] if picked else 0


def row(name: str, found: Comparison | str | None) -> dict[str, object]:
    if not isinstance(found, Comparison):
        return {"Image": name, "Verdict": found or "…"}
    flagged = sum(verdict.anomalous for verdict in found.verdicts.values())
    sign = "▲" if flagged else "✓"
    cells: dict[str, object] = {"Image": name, "Verdict": f"{sign} anomalous by {flagged} of {len(found.verdicts)}"}
    for variant, verdict in found.verdicts.items():
        cells |= {VARIANT_TITLES[variant]: verdict.score, f"above, {variant}": verdict.percentile}
    return cells


def columns() -> dict[str, Any]:
    number, words = st.column_config.NumberColumn, st.column_config.TextColumn
    found: dict[str, Any] = {"Image": words(width=120), "Verdict": words(width=180)}
    for variant, title in VARIANT_TITLES.items():
        short = title if variant == "none" else variant.upper()
        found[title] = number(short, help=f"Anomaly score by {title}", width=85)
        meaning = f"Share of held-out normal images that score lower by {title}"
        found[f"above, {variant}"] = number("above %", format="%.0f", help=meaning, width=80)
    return found


def download(comparisons: list[Comparison]) -> None:
    numbers = numbers_csv(comparisons)
    st.download_button("Numbers as CSV", numbers, "numbers.csv", icon=":material/download:", on_click="ignore")


# -- the page


widgets.head(
    "Compare the variants on your images",
    "Each image is scored by all variants of a category, on the same views of it. First results come after two of the "
    "views. Images stay in your session and are gone when you close the page.",
)
usable = widgets.usable_categories()
with st.container(key="beside"):
    left, right = st.columns([3, 8], gap="large")
with left:
    info = usable[address.category(list(usable), "Trained on")]
    st.caption(f"{info.description} Licence of the data: {info.licence}.")
    images = choose_images(info)
    method = address.choice("Map", MAPS, "method", segments=True)
with right:
    if images:
        inspect(images, method)
    else:
        widgets.empty(
            f"Drop photographs of a {info.title.split(' (')[0].lower()} in, or take an example.",
            "JPEG, PNG, TIFF, BMP, WebP or GIF. A score is meaningful only for parts like those the models were "
            "trained on.",
        )
