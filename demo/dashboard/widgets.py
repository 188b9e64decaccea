"""What several pages show: headings, tables, charts, images to choose from, notes."""

import base64
import io
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import streamlit as st

from attentdiffernet.figures.palette import ANOMALOUS_COLOUR, INK, NORMAL_COLOUR, VARIANT_COLOURS
from attentdiffernet.words import METHOD_TITLES, OWN_SCALE_HELP, VARIANT_TITLES, short_title, variant_title
from demo import shipped
from demo.dashboard import address
from demo.markup import literal, scrolling, text
from demo.service.rate import LABEL, LEAST, MOST, STEP, USUAL, on_slider

if TYPE_CHECKING:
    from attentdiffernet.study.comparison import Measured
    from demo.service.catalogue import CategoryInfo
    from demo.service.verdict import Comparison

HOW_TO_MEASURE = (
    "Each evaluation adds its scores: `attentdiffernet evaluate MODEL DATA/CATEGORY --results results --run NAME`. "
    "Then reload this page."
)
HOW_TO_TRAIN = (
    "Train one on a folder of normal images: `attentdiffernet train DATA/CATEGORY --variant se --out "
    "models/DATASET/CATEGORY/se`, or all models of the project: `make models`. Then restart the dashboard."
)
LONG_CELL = 26  # characters: `+0.1 points, p = 0.93` is shorter
PLOTLY = {"displaylogo": False, "displayModeBar": False, "scrollZoom": False}


# -- the frame of a page


def head(title: str, lead: str) -> None:
    """lead: HTML."""
    st.title(title, anchor=False)
    st.html(f"<p class='lead'>{lead}</p>")


def small(sentence: str) -> None:
    """sentence: HTML."""
    st.html(f"<p class='small'>{sentence}</p>")


@contextmanager
def on_demand(label: str, opened: bool = False) -> "Iterator[bool]":
    """A part of the page that a click opens; gives whether it is open. What it holds need not be made before: the code
    that draws tables takes the browser a second. opened: opens it, when the page is entered or this becomes true; what
    the visitor does with it then stays, also where what it holds makes this true."""
    key = f"on demand: {label}"
    if opened and not (key in st.session_state and st.session_state.get(f"opened: {label}")):
        st.session_state[key] = True
    expander = st.expander(label, on_change="rerun", key=key)
    st.session_state[f"opened: {label}"] = opened or bool(expander.open)
    with expander:
        yield bool(expander.open)


def empty(what: str, then: str) -> None:
    """An empty state: what is missing, and what to do."""
    st.info(f"**{what}**\n\n{then}", icon=":material/inbox:")


def measured_keys() -> list[str]:
    """`DATASET/CATEGORY` of all results; without any, says what to do and ends the page."""
    keys = shipped.measured_categories()
    if not keys:
        empty("No results yet.", HOW_TO_MEASURE)
        st.stop()
    return keys


def usable_categories() -> "dict[str, CategoryInfo]":
    """Categories whose models can be used on this machine, by key; without any, says what to do and ends the page."""
    from demo.service import catalogue

    usable = catalogue.usable_categories()
    if not usable:
        waiting = "".join(f"\n- {info.title} {info.why_not}." for info in catalogue.categories())
        empty("No model can be used here.", HOW_TO_TRAIN + waiting)
        st.stop()
    return usable


def left_out(key: str) -> None:
    """Which detectors of a category cannot be used on this machine, and why."""
    from demo.service import catalogue

    if names := catalogue.detectors_left_out(key):
        titles = ", ".join(map(variant_title, names))
        st.html(
            f"<details class='small'><summary>Not available on this machine: {titles}</summary>"
            f"<p>They need {text(catalogue.WHY_NOT)}.</p></details>"
        )


# -- text and tables


def variant_style() -> str:
    """The colours of variants and classes as CSS: the same as in every chart."""
    rules = [f".variant-{variant} {{ --variant: {colour}; }}" for variant, colour in VARIANT_COLOURS.items()]
    rules += [f".normal {{ --class: {NORMAL_COLOUR}; }}", f".anomalous {{ --class: {ANOMALOUS_COLOUR}; }}"]
    return f"<style>:root {{ --variant: {INK}; }}\n" + "\n".join(rules) + "</style>"


def variant_name(variant: str, title: str = "") -> str:
    """HTML of a variant's name with its colour."""
    return f"<span class='variant variant-{text(variant)}'>{text(title or variant_title(variant))}</span>"


def short_names(runs: "Collection[Measured]") -> list[str]:
    """HTML of the runs' names, short, so that all are in sight; two recipes of one variant are told apart in full."""
    shown = [m.run.variant for m in runs]
    return [
        variant_name(v, short_title(v) if shown.count(v) == 1 else m.title) for v, m in zip(shown, runs, strict=True)
    ]


def table(
    heads: list[str], rows: list[list[str]], caption: str = "", stacked: bool = False, name: str = "Table"
) -> None:
    """A table of HTML cells. It scrolls by itself where it is wider than the page; stacked, for cells of sentences, it
    shows a row's cells below each other on a phone. name: for screen readers, where there is no caption."""
    titles = "".join(f"<th scope='col'>{cell}</th>" for cell in heads)
    labels = [f" data-head='{text(cell)}'" if stacked else "" for cell in heads]
    width = (lambda cell: "") if stacked else _width
    body = "".join(
        f"<tr><th scope='row'>{row[0]}</th>"
        + "".join(f"<td{width(cell)}{label}>{cell}</td>" for label, cell in zip(labels[1:], row[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    above = f"<caption>{caption}</caption>" if caption else ""
    frame = "class='stacked'" if stacked else scrolling(caption or name)
    st.html(f"<div {frame}><table>{above}<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>")


def _width(cell: str) -> str:
    """A number stays in one line, `95.5 %` or `+4.0 (3 seeds)`; a sentence gets room. Cells with markup have theirs."""
    if "<" in cell:
        return ""
    if len(cell) > LONG_CELL:
        return " class='long'"
    return " class='nowrap'" if re.match(r"[-+\d]", cell) else ""


# -- charts and drawings


def ink() -> str:
    """The colour of text and axes in charts, for the visitor's theme."""
    return "#b9c3cf" if st.context.theme.type == "dark" else "#4b5768"


def chart(figure: Any, alt: str, key: str | None = None, **more: Any) -> Any:
    """A Plotly figure in its own colours, drawn with `ink()`; what Streamlit returns for it."""
    return st.plotly_chart(figure, theme=None, config=PLOTLY, alt=alt, key=key, **more)


def still(svg: str, alt: str) -> None:
    """A figure that needs no pointer (`figures.still`), as wide as its column."""
    st.html(f"<div class='still'>{drawing(svg, alt)}</div>")


def drawing(svg: str, alt: str) -> str:
    """HTML of an SVG as an image, its currentColor being `ink()`: `st.html` drops inline SVG."""
    namespace = "" if "xmlns=" in svg else 'xmlns="http://www.w3.org/2000/svg" '
    coloured = svg.replace("<svg ", f'<svg {namespace}color="{ink()}" ', 1)
    return f"<img src='data:image/svg+xml;base64,{base64.b64encode(coloured.encode()).decode()}' alt='{text(alt)}'>"


def report(html: str, alt: str) -> None:
    """HTML of the service, a part of this page. alt: what its drawing shows, if it has one."""
    drawn = re.sub(r"<svg .*?</svg>", lambda svg: drawing(svg[0], alt), html, flags=re.S)
    for above, below in (("h3", "h2"), ("h4", "h3")):
        drawn = re.sub(rf"<(/?){above}>", rf"<\1{below}>", drawn)
    st.html(f"<div class='report'>{drawn}</div>")


def rate(name: str, default: float = on_slider(USUAL), **more: Any) -> float:
    """The slider of the share of good parts that may be flagged, in parts of 100; in the address under this name."""
    return address.number(LABEL, name, LEAST, MOST, default, STEP, format="%.1f", **more)


# -- images and maps


class ImageChosen(NamedTuple):
    """own: whether the visitor brought it; what is computed from it is then for their session alone."""

    name: str
    file: bytes
    own: bool


def image_of(key: str) -> ImageChosen | None:
    """One image: the visitor's own, else a test image, else an example; None if there is none."""
    from demo.service.catalogue import first_anomalous, images_to_choose
    from demo.service.comparison import IMAGE_TYPES

    options = images_to_choose(key)
    left, right = st.columns(2)
    with right:
        own = st.file_uploader("Or your own", type=IMAGE_TYPES, key=f"own:{key}")
    with left:
        names = {name: name for name in options}
        name = address.choice("Image", names, "image", first_anomalous(options)) if names else ""
        if not names:
            empty("There is no image of this category.", "Upload one beside this.")
    if own is not None:
        return ImageChosen(own.name, own.getvalue(), True)
    return ImageChosen(name, options[name](), False) if name else None


def comparing(
    file: bytes,
    key: str,
    method: str,
    name: str,
    k: int,
    n: int,
    progress: Any,
    chosen: Collection[str] | None = None,
) -> "Iterator[Comparison]":
    """`service.comparison.compare` of image k of n, with a progress bar in the empty place `progress`."""
    from demo.service.comparison import compare

    which = literal(name) + (f", {k + 1} of {n}" if n > 1 else "")
    for comparison in compare(io.BytesIO(file), key, method, name, chosen=chosen):
        progress.progress((k + 0.9 * comparison.progress) / n, f"{which}: {comparison.progress_text}")
        yield comparison


def choose_map(key: str, detectors: Collection[str]) -> str:
    """Of DifferNet and its variants, if one of them is asked: other detectors have a map of their own."""
    from demo.service.comparison import maps_offered

    offered = maps_offered(key)
    if not any(name in VARIANT_TITLES for name in detectors):
        return next(iter(offered))
    return address.choice("Map of DifferNet and its variants", offered, "method", segments=True)


def heat_scales(kinds: Mapping[str, tuple[float, float]], own_scale: bool = False) -> None:
    """A colour bar for each kind of map shown (`Heat.kinds`)."""
    from demo.service.verdict import heat_bar

    if own_scale:
        st.caption(OWN_SCALE_HELP)
        return
    with st.container(horizontal=True):
        for method, scale in kinds.items():
            title = METHOD_TITLES[method]
            alt = f"Colour scale of {title}: multiples of what 99 % of places in normal images reach"
            st.image(heat_bar(scale, title, ink()), width=420, alt=alt)


def notes(by_detector: Mapping[str, str]) -> None:
    """What maps show; a note that holds for all detectors is shown once."""
    for note in dict.fromkeys(by_detector.values()):
        whose = [variant_title(key) for key, other in by_detector.items() if other == note]
        st.caption(note if len(whose) == len(by_detector) else f"{', '.join(whose)}: {note}")
