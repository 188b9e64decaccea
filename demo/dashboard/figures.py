"""Figures: the paper-style grid of images and maps, previewed and downloaded."""

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import PurePath

import streamlit as st

from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.words import variant_title
from demo.dashboard import parts
from demo.service.catalogue import detectors, images_to_choose
from demo.service.comparison import IMAGE_TYPES, METHODS, Comparison
from demo.service.downloads import FIGURE_FORMATS, figure_file, paper_grid

MOST = 6  # rows of one figure
KEPT = 2 * MOST

Images = list[tuple[str, bytes]]  # name, file


def chosen_images(key: str) -> Images:
    """Test images or examples, and the visitor's own behind them."""
    options = images_to_choose(key)
    first = {name.split("/")[0]: name for name in reversed(list(options))}
    default = sorted(first.values(), key=lambda name: (name.startswith("good"), name))[:3]
    names = {name: name for name in options}
    one, two = st.columns(2)
    with one:
        picked = parts.several("Images", names, "image", default, max_selections=MOST) if names else []
    with two:
        own = st.file_uploader("And your own", type=IMAGE_TYPES, accept_multiple_files=True, key=f"grid:{key}")
    images = [(name, options[name]()) for name in picked] + [(file.name, file.getvalue()) for file in own]
    if len(images) > MOST:
        st.warning(f"Only the first {MOST} of {len(images)} images are drawn.", icon=":material/filter:")
    return images[:MOST]


def compared(images: Images, key: str, method: str) -> dict[str, Comparison]:
    """Scores and maps, by what they are of; what the session has made already is kept for a while."""
    kept: dict[str, Comparison] = st.session_state.setdefault("grid", {})
    found, place = {}, st.empty()
    for k, (name, file) in enumerate(images):
        ident = hashlib.sha256(f"{key} {method} {name} ".encode() + file).hexdigest()
        if ident not in kept:
            try:
                *_, last = parts.comparing(file, key, method, name, k, len(images), place)
            except AttentDifferNetError as error:  # the others are drawn all the same
                st.error(parts.words(error), icon=":material/error:")
                continue
            title = str(PurePath(name).with_suffix("")).replace("_", " ").replace("/", " ")
            kept[ident] = replace(last, name=title)
        found[ident] = kept[ident]
    for ident in list(kept)[: max(0, len(kept) - KEPT)]:
        del kept[ident]
    place.empty()
    return found


def grid(comparisons: list[Comparison], columns: list[str], suffix: str, dpi: int = 300) -> bytes:
    return figure_file(paper_grid(comparisons, columns), suffix, dpi)


parts.head(
    "A figure for the paper",
    "Images in rows, variants in columns, one colour scale for all maps, the score under each. As PDF and SVG the text "
    "stays text.",
)
ready = parts.usable_categories()
one, two, three = st.columns([3, 4, 3])
with one:
    key = parts.category(list(ready))
variants = {v: variant_title(v) for v in detectors(key)}
with two:
    columns = parts.several("Variants", variants, "columns", list(variants))
with three:
    method = parts.choice("Map", METHODS, "method", segments=True)
images = chosen_images(key)
if not images or not columns:
    parts.empty("Nothing to draw yet.", "Choose an image and a variant, or drop in images of your own.")
    st.stop()
found = compared(images, key, method)
if not found:
    st.stop()
comparisons, asked = list(found.values()), (*found, *columns)
if st.session_state.get("preview", ("",))[0] != asked:  # a second to draw
    st.session_state["preview"] = asked, grid(comparisons, columns, "png", dpi=150)
preview, _ = st.columns([3, 1])
drawn = ", ".join(comparison.name for comparison in comparisons)
words = f"{METHODS[method]} of {drawn} by {', '.join(variants[v] for v in columns)}"
preview.image(st.session_state["preview"][1], width="stretch", alt=f"Preview of the figure: {words}")
with st.container(horizontal=True):
    for suffix, mime in FIGURE_FORMATS.items():
        st.download_button(
            suffix.upper(),
            partial(grid, comparisons, columns, suffix),
            f"{key.replace('/', '-')}-{method}.{suffix}",
            mime,
            icon=":material/download:",
            on_click="ignore",
        )
said = dict.fromkeys(note for c in comparisons if c.heat for v, note in c.heat.shows.items() if v in columns)
st.caption(
    f"{' '.join(said)} Maps are clear where they stay below what 99 % of places in held-out normal images reach. "
    f"Licence of the data: {ready[key].licence}."
)
