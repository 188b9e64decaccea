"""Compare: a visitor's images by all variants of a category, by the demo's service. Uploads stay in the session."""

import hashlib
import io
from pathlib import PurePath
from typing import Any

import pandas as pd
import streamlit as st

from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.words import VARIANT_TITLES
from demo.dashboard import parts
from demo.service.catalogue import CategoryInfo
from demo.service.comparison import IMAGE_TYPES, MAX_IMAGES, METHODS, Comparison, compare
from demo.service.downloads import numbers_csv

KEPT = 2 * MAX_IMAGES  # results of a session, without their pictures

Images = list[tuple[str, bytes]]  # name, file


def chosen_images(info: CategoryInfo) -> Images:
    """What was uploaded, else the example named in the address, else nothing."""
    files = st.file_uploader(
        f"Photographs, up to {MAX_IMAGES} at once",
        type=IMAGE_TYPES,
        accept_multiple_files=True,
        key="uploads",
    )
    if len(files) > MAX_IMAGES:
        st.warning(f"Only the first {MAX_IMAGES} of {len(files)} images are looked at.", icon=":material/filter:")
    if files:
        return [(PurePath(file.name).name, file.getvalue()) for file in files[:MAX_IMAGES]]
    examples = {path.stem: path for path in info.examples}
    if not examples:
        return []
    titles = {"": "None"} | {stem: stem.replace("_", " ") for stem in examples}
    stem = parts.choice("Or take an example", titles, "example")
    return [(examples[stem].name, examples[stem].read_bytes())] if stem else []


def card(comparison: Comparison, variant: str) -> None:
    """One variant's answer under its map."""
    verdict = comparison.verdicts[variant]
    done = comparison.heat is not None and variant in comparison.heat.heat
    title = f"{comparison.heat.title if comparison.heat and done else 'Photograph, map to come'}: {verdict.title}"
    st.html(f"<h4 class='variant-{variant} cardhead'>{parts.variant_name(variant)}</h4>")
    st.image(comparison.overlay(variant), width="stretch", alt=f"{title}, {comparison.name}")
    views = f"provisional, {verdict.n_views} of {verdict.n_views_wanted} views" if verdict.provisional else ""
    spread = "" if verdict.standard_error != verdict.standard_error else f" ± {parts.spread(verdict.standard_error)}"
    normals = len(verdict.calibration_scores)
    place = (
        f"Score {verdict.score:.4g} among those of {normals} held-out normal images, threshold {verdict.threshold:.4g}"
    )
    st.html(
        f"<div class='place variant-{variant}'><div class='plain'>"
        f"<p>{parts.badge(verdict.anomalous, verdict.provisional)} "
        f"<span class='small'>{views or f'{verdict.n_views} views'}</span></p><dl>"
        f"<div><dt>Anomaly score</dt><dd>{parts.score(verdict.score)}<small>{spread}</small></dd></div>"
        f"<div><dt>Threshold</dt><dd>{parts.score(verdict.threshold)}</dd></div>"
        f"<div><dt>Higher than</dt><dd>{verdict.percentile:.0f} % of {normals} held-out normals</dd></div></dl>"
        f"{parts.drawing(verdict.histogram_svg, place)}<p class='small'>{parts.text(verdict.choices)}</p></div></div>"
    )


def draw(comparison: Comparison) -> None:
    """The three variants side by side, with one colour bar."""
    for column, variant in zip(st.columns(len(comparison.verdicts)), comparison.verdicts, strict=True):
        with column:
            card(comparison, variant)
    if comparison.heat is None:
        return
    parts.heat_scale(comparison.heat.scale)
    parts.notes(comparison.heat.notes)


def table(images: Images, results: dict[str, Comparison | str], idents: list[str]) -> int:
    """All images, sortable; returns the row chosen."""
    rows = []
    for (name, _), ident in zip(images, idents, strict=True):
        found = results.get(ident)
        row: dict[str, object] = {"Image": name, "Verdict": found if isinstance(found, str) else "…"}
        if isinstance(found, Comparison):
            flagged = sum(v.anomalous for v in found.verdicts.values())
            row["Verdict"] = f"{'▲' if flagged else '✓'} anomalous by {flagged} of {len(found.verdicts)}"
            for variant, verdict in found.verdicts.items():
                row |= {VARIANT_TITLES[variant]: verdict.score, f"above, {variant}": verdict.percentile}
        rows.append(row)
    frame = pd.DataFrame(rows)
    number, words = st.column_config.NumberColumn, st.column_config.TextColumn
    columns: dict[str, Any] = {"Image": words(width=120), "Verdict": words(width=180)}
    for variant, title in VARIANT_TITLES.items():
        short = title if variant == "none" else variant.upper()
        columns[title] = number(short, format="%.4g", help=f"Anomaly score by {title}", width=85)
        said = f"Share of held-out normal images that score lower by {title}"
        columns[f"above, {variant}"] = number("above %", format="%.0f", help=said, width=80)
    state = st.dataframe(
        frame,
        hide_index=True,
        column_config=columns,
        on_select="rerun",
        selection_mode="single-row",
        key="table",
        placeholder="",
        alt="Verdict and anomaly score of every image",
    )
    picked = state["selection"]["rows"]
    st.caption("Choose a row to see its maps.")
    return picked[0] if picked else 0


def run(images: Images, key: str, method: str) -> None:
    """Scores what is new, one image after the other, and shows one of them; provisional answers first."""
    results: dict[str, Comparison | str] = st.session_state.setdefault("results", {})
    idents = [hashlib.sha256(key.encode() + b"/" + file).hexdigest() for _, file in images]
    overview, status, place = st.container(), st.empty(), st.empty()
    shown = 0
    for k, ((name, file), ident) in enumerate(zip(images, idents, strict=True)):
        if ident in results:
            continue
        try:
            for comparison in parts.comparing(file, key, method, name, k, len(images), status):
                with place.container():
                    draw(comparison)
            results[ident] = comparison.without_pictures()
            st.session_state["whole"] = (ident, method, comparison)
        except AttentDifferNetError as error:
            results[ident] = str(error)
    for ident in [old for old in results if old not in idents][: max(0, len(results) - KEPT)]:
        del results[ident]
    status.empty()
    if len(images) > 1:
        with overview:
            shown = table(images, results, idents)
    answer = results[idents[shown]]
    if isinstance(answer, str):
        place.error(parts.words(answer), icon=":material/error:")
        return
    whole = st.session_state.get("whole")
    if whole is None or whole[:2] != (idents[shown], method):
        with status, st.spinner("Drawing the maps …"):
            *_, last = compare(io.BytesIO(images[shown][1]), key, method, images[shown][0])
        st.session_state["whole"] = whole = (idents[shown], method, last)
    with place.container():
        if len(images) > 1:
            st.subheader(parts.words(images[shown][0]), anchor=False)
        draw(whole[2])
        every = [found for ident in idents if isinstance(found := results.get(ident), Comparison)]
        st.download_button(
            "Numbers as CSV", numbers_csv(every), "numbers.csv", icon=":material/download:", on_click="ignore"
        )


parts.head(
    "Compare the variants on your images",
    "Each image is scored by all variants of a category, on the same views of it; first answers come after two of "
    "them. Images stay in your session and are gone when you close the page.",
)
ready = parts.usable_categories()
with st.container(key="beside"):
    left, right = st.columns([3, 8], gap="large")
with left:
    info = ready[parts.category(list(ready), "Trained on")]
    st.caption(f"{info.description} Licence of the data: {info.licence}.")
    images = chosen_images(info)
    method = parts.choice("Map", METHODS, "method", segments=True)
with right:
    if images:
        run(images, info.key, method)
    else:
        parts.empty(
            f"Drop photographs of a {info.title.split(' (')[0].lower()} in, or take an example.",
            "JPEG, PNG, TIFF, BMP, WebP or GIF. A score speaks only of parts like those the models were trained on.",
        )
