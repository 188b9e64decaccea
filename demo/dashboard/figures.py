"""Figures: the paper-style grid of images and maps, previewed and downloaded."""

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import PurePath

import streamlit as st

from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.figures.print import FORMATS, figure_file
from attentdiffernet.words import short_title, variant_title
from demo.dashboard import address, widgets
from demo.markup import literal
from demo.service.catalogue import detector_names, images_to_choose
from demo.service.comparison import IMAGE_TYPES
from demo.service.downloads import paper_grid
from demo.service.verdict import MAPS, Comparison

MOST = 6  # rows of one figure
KEPT = 2 * MOST
PREVIEW_DPI = 150

Images = list[tuple[str, bytes]]  # name, file


def choose_images(key: str) -> tuple[Images, bool]:
    """Test images or examples, and the visitor's own after them; whether there are any of their own."""
    options = images_to_choose(key)
    first: dict[str, str] = {}  # of each kind; an obvious defect, where levels are named
    for name in sorted(options, key=lambda name: ("obvious" not in name, name)):
        first.setdefault(name.split("/")[0], name)
    default = sorted(first.values(), key=lambda name: (name.startswith("good"), name))[:3]
    names = {name: name for name in options}
    one, two = st.columns(2)
    with one:
        picked = address.several("Images", names, "image", default, max_selections=MOST) if names else []
    with two:
        own = st.file_uploader("And your own", type=IMAGE_TYPES, accept_multiple_files=True, key=f"grid:{key}")
    images = [(name, options[name]()) for name in picked] + [(file.name, file.getvalue()) for file in own]
    if len(images) > MOST:
        st.warning(f"Only the first {MOST} of {len(images)} images are drawn.", icon=":material/filter:")
    return images[:MOST], bool(own)


def compared(images: Images, key: str, method: str, variants: list[str]) -> dict[str, Comparison]:
    """Scores and maps by these detectors at least, by a digest of what they are of; the session keeps the last ones."""
    kept: dict[str, Comparison] = st.session_state.setdefault("grid", {})
    found, place = {}, st.empty()
    for k, (name, file) in enumerate(images):
        digest = hashlib.sha256(f"{key} {method} {name} ".encode() + file).hexdigest()
        if digest not in kept or not set(variants) <= set(kept[digest].verdicts):
            try:
                steps = widgets.comparing(file, key, method, name, k, len(images), place, variants)
                last = next(step for step in steps if step.heat)
            except AttentDifferNetError as error:  # the others are drawn all the same
                st.error(literal(error), icon=":material/error:")
                continue
            title = str(PurePath(name).with_suffix("")).replace("_", " ").replace("/", " ")
            kept[digest] = replace(last, name=title)
        found[digest] = kept[digest]
    for digest in list(kept)[: max(0, len(kept) - KEPT)]:
        del kept[digest]
    place.empty()
    return found


def grid(comparisons: list[Comparison], variants: list[str], suffix: str, dpi: int = 300) -> bytes:
    return figure_file(paper_grid(comparisons, variants), suffix, dpi)


@st.cache_data(max_entries=8, show_spinner=False)
def grid_of_examples(drawn: tuple[str, ...], _comparisons: list[Comparison], variants: list[str]) -> bytes:
    """For all visitors. drawn: the digests of `compared`."""
    return grid(_comparisons, variants, "png", PREVIEW_DPI)


def preview(found: dict[str, Comparison], variants: list[str], method: str, own: bool) -> None:
    """own: whether images of the visitor are among them; those stay in the session."""
    drawn, comparisons = (*found, *variants), list(found.values())
    if st.session_state.get("preview", ("",))[0] != drawn:  # takes a second to draw
        if own:
            picture = grid(comparisons, variants, "png", PREVIEW_DPI)
        else:
            picture = grid_of_examples(tuple(found), comparisons, variants)
        st.session_state["preview"] = drawn, picture
    names = ", ".join(comparison.name for comparison in found.values())
    figure = f"{MAPS[method]} of {names} by {', '.join(map(variant_title, variants))}"
    left, _ = st.columns([3, 1])
    left.image(st.session_state["preview"][1], width="stretch", alt=f"Preview of the figure: {figure}")


def downloads(comparisons: list[Comparison], variants: list[str], stem: str) -> None:
    with st.container(horizontal=True):
        for suffix, mime in FORMATS.items():
            st.download_button(
                suffix.upper(),
                partial(grid, comparisons, variants, suffix),
                f"{stem}.{suffix}",
                mime,
                icon=":material/download:",
                on_click="ignore",
            )


widgets.head(
    "A figure for the paper",
    "Images in rows, detectors in columns, one colour scale for each kind of map, the score under each. In PDF and SVG "
    "the text stays text.",
)
usable = widgets.usable_categories()
one, two, three = st.columns([3, 4, 3])
with one:
    key = address.category(list(usable))
titles = {variant: short_title(variant) for variant in detector_names(key)}
with two:
    variants = address.several("Detectors", titles, "columns", list(titles), pills=True)
with three:
    method = widgets.choose_map(key, variants or titles)
widgets.left_out(key)
images, own = choose_images(key)
if not images or not variants:
    widgets.empty("Nothing to draw yet.", "Choose an image and a detector, or drop in images of your own.")
    st.stop()
found = compared(images, key, method, variants)
if not found:
    st.stop()
comparisons = list(found.values())
preview(found, variants, method, own)
downloads(comparisons, variants, f"{key.replace('/', '-')}-{method}")
notes = dict.fromkeys(note for c in comparisons if c.heat for v, note in c.heat.shows.items() if v in variants)
st.caption(
    f"{' '.join(notes)} Maps have no colour where they stay below what 99 % of places in held-out normal images reach."
    + (f" Licence of the data: {usable[key].licence}." if usable[key].licence else "")
)
