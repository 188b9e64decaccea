"""What pages share: choices that stand in the address, pieces of HTML, images to choose from.

A choice is read from the address when it changes there (a link, a reload), else from what was chosen on another page,
and is written back where it differs from its default, or where that depends on what was measured so far: a link
reproduces the view. Uploads stay in the session.
"""

import base64
import html
import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st

from attentdiffernet.datasets import category_title
from attentdiffernet.figures.palette import ANOMALOUS_COLOUR, INK, NORMAL_COLOUR, VARIANT_COLOURS
from attentdiffernet.study.formats import score_text
from attentdiffernet.words import variant_title
from demo import shipped

if TYPE_CHECKING:
    from demo.service.catalogue import CategoryInfo
    from demo.service.comparison import Comparison

T = TypeVar("T")
ALWAYS_WRITTEN = ("category", "setting")  # more of them may come, and the first be another one
HOW_TO_MEASURE = (
    "Each evaluation adds its scores: `attentdiffernet evaluate MODEL DATA/CATEGORY --results results --run NAME`. "
    "Then reload this page."
)
HOW_TO_TRAIN = (
    "Train one on a folder of normal images: `attentdiffernet train DATA/CATEGORY --variant se --out "
    "models/DATASET/CATEGORY/se`, or all that the project ships: `make models`. Then start the dashboard anew."
)
PLOTLY = {"displaylogo": False, "displayModeBar": False, "scrollZoom": False}


# -- choices in the address


def enter(page: str) -> None:
    """Widgets of one page have keys of their own: Streamlit forgets them when the page is left."""
    st.session_state["page"] = page


def _key(name: str) -> str:
    return f"{st.session_state.get('page', '')}:{name}"


def _settle(name: str, default: T, parse: Callable[[list[str]], T | None]) -> str:
    """Puts into the widget's state what it shall show; returns its key. parse gives None for what is no choice."""
    key, here = _key(name), st.query_params.get_all(name)
    kept, written = st.session_state.setdefault("kept", {}), st.session_state.setdefault("written", {})
    if key not in st.session_state:
        asked = here or kept.get(name, [])
    elif here != written.get(key, []):
        asked = here
    elif (current := st.session_state[key]) == []:  # emptied by hand
        return key
    else:  # what was chosen, unless other options are offered by now
        asked = [str(x) for x in current] if isinstance(current, list) else [str(current)]
    value = parse(asked) if asked else None
    st.session_state[key] = default if value is None else value
    return key


def _remember(name: str, value: object, default: object) -> None:
    texts = [str(x) for x in value] if isinstance(value, list) else [str(value)]
    shown = [] if value == default and name not in ALWAYS_WRITTEN else texts
    if st.query_params.get_all(name) != shown:
        if shown:
            st.query_params[name] = shown
        else:
            del st.query_params[name]
    st.session_state["written"][_key(name)] = shown
    if value == default and name not in ALWAYS_WRITTEN:  # what was not chosen here says nothing about another page
        st.session_state["kept"].pop(name, None)
    else:
        st.session_state["kept"][name] = texts


def choice(
    label: str, options: Mapping[str, str], name: str, default: str | None = None, segments: bool = False, **more: Any
) -> str:
    """One of some options (value: title), as a list to open or, where they are few, side by side."""
    first = next(iter(options)) if default not in options else str(default)
    key = _settle(name, first, lambda asked: asked[0] if asked[0] in options else None)
    if segments:
        value = st.segmented_control(
            label, list(options), format_func=options.__getitem__, key=key, required=True, wrap=True, **more
        )
    else:
        value = st.selectbox(label, list(options), format_func=options.__getitem__, key=key, **more)
    _remember(name, value, first)
    return str(value)


def several(label: str, options: Mapping[str, str], name: str, default: list[str], **more: Any) -> list[str]:
    """Some of the options, in the order of choice."""
    key = _settle(name, default, lambda asked: [x for x in asked if x in options] or None)
    values = st.multiselect(label, list(options), format_func=options.__getitem__, key=key, **more)
    _remember(name, values, default)
    return list(values)


def number(label: str, name: str, low: float, high: float, default: float, step: float, **more: Any) -> float:
    """A slider."""

    def parse(asked: list[str]) -> float | None:
        try:
            value = float(asked[0])
        except ValueError:
            return None
        return value if low <= value <= high else None

    key = _settle(name, default, parse)
    value = st.slider(label, low, high, step=step, key=key, **more)
    _remember(name, value, default)
    return float(value)


def stop(label: str, name: str, stops: list[float], default: float, **more: Any) -> float:
    """A slider over these numbers, ascending and one step apart, however far from each other they are."""

    def nearest(asked: list[str]) -> float | None:
        try:
            return min(stops, key=lambda value: abs(value - float(asked[0])))
        except ValueError:
            return None

    first = min(stops, key=lambda value: abs(value - default))
    key = _settle(name, first, nearest)
    value = st.select_slider(label, stops, key=key, format_func=score, **more)
    _remember(name, value, first)
    return float(value)


def switch(label: str, name: str, default: bool, **more: Any) -> bool:
    key = _settle(name, default, lambda asked: {"True": True, "False": False}.get(asked[0]))
    value = st.toggle(label, key=key, **more)
    _remember(name, value, default)
    return bool(value)


def category(options: list[str], label: str = "Category") -> str:
    return choice(label, {key: category_title(key) for key in options}, "category")


# -- pieces


def head(title: str, lead: str) -> None:
    st.title(title, anchor=False)
    st.markdown(f"<div class='lead'>{lead}</div>", unsafe_allow_html=True)


def empty(what: str, then: str) -> None:
    """An empty state: what is missing, and what to do."""
    st.info(f"**{what}**\n\n{then}", icon=":material/inbox:")


def measured_keys() -> list[str]:
    """`DATASET/CATEGORY` of what was measured; where there is nothing, says what to do and ends the page."""
    keys = shipped.measured_categories()
    if not keys:
        empty("No results yet.", HOW_TO_MEASURE)
        st.stop()
    return keys


def usable_categories() -> "dict[str, CategoryInfo]":
    """Categories whose models can be used now, by key; where there is none, says what to do and ends the page."""
    from demo.service.catalogue import categories

    everything = categories()
    ready = {info.key: info for info in everything if not info.why_not}
    if not ready:
        waiting = "".join(f"\n- {info.title} {info.why_not}." for info in everything)
        empty("No model can be used here.", HOW_TO_TRAIN + waiting)
        st.stop()
    return ready


def text(value: object) -> str:
    """As HTML that shows just this."""
    return html.escape(str(value))


def words(value: object) -> str:
    """As Markdown that shows just this: names of files are strangers' words."""
    return re.sub(r"([!-.:-@\[-`{-~])", r"\\\1", str(value))


def spread(value: float) -> str:
    """The digits of a standard error that mean something."""
    return score_text(value, 2)


def score(value: float) -> str:
    return score_text(value, 4)


def variant_style() -> str:
    """The colours of variants and classes as CSS: the same as in every chart."""
    rules = [f".variant-{variant} {{ --variant: {colour}; }}" for variant, colour in VARIANT_COLOURS.items()]
    rules += [f".normal {{ --class: {NORMAL_COLOUR}; }}", f".anomalous {{ --class: {ANOMALOUS_COLOUR}; }}"]
    return f"<style>:root {{ --variant: {INK}; }}\n" + "\n".join(rules) + "</style>"


def variant_name(variant: str, title: str = "") -> str:
    return f"<span class='variant variant-{text(variant)}'>{text(title or variant_title(variant))}</span>"


def badge(anomalous: bool, provisional: bool = False) -> str:
    """A verdict as word, sign and colour."""
    word, sign = ("anomalous", "▲") if anomalous else ("normal", "✓")
    return (
        f"<span class='badge {word}{' provisional' if provisional else ''}'><span aria-hidden='true'>{sign}</span> "
        f"{word}</span>"
    )


def table(head_cells: list[str], rows: list[list[str]], caption: str = "", stacked: bool = False) -> None:
    """A table of HTML cells that scrolls by itself where it is wider than the page; stacked: of sentences rather than
    numbers, it has its cells one below the other on a phone."""
    titles = "".join(f"<th scope='col'>{cell}</th>" for cell in head_cells)
    heads = [f" data-head='{text(cell)}'" if stacked else "" for cell in head_cells]
    body = "".join(
        f"<tr><th scope='row'>{row[0]}</th>"
        + "".join(f"<td{head}>{cell}</td>" for head, cell in zip(heads[1:], row[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    said = f"<caption>{caption}</caption>" if caption else ""
    kind = "stacked" if stacked else "scroll"
    st.html(f"<div class='{kind}'><table>{said}<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>")


def image_of(key: str) -> tuple[str, bytes] | None:
    """(name, file) of one image: the visitor's own, else a test image, else an example; None where there is none."""
    from demo.service.catalogue import first_anomalous, images_to_choose
    from demo.service.comparison import IMAGE_TYPES

    options = images_to_choose(key)
    names = {name: name for name in options}
    left, right = st.columns(2)
    with right:
        own = st.file_uploader("Or your own", type=IMAGE_TYPES, key=f"own:{key}")
    with left:
        name = choice("Image", names, "image", first_anomalous(options)) if names else ""
        if not names:
            empty("No image of this category is at hand.", "Drop one in beside this.")
    if own is not None:
        return own.name, own.getvalue()
    return (name, options[name]()) if name else None


def comparing(file: bytes, key: str, method: str, name: str, k: int, n: int, progress: Any) -> "Iterator[Comparison]":
    """`comparison.compare` of image k of n, saying in `progress`, an empty place, how far it is."""
    from demo.service.comparison import compare

    for comparison in compare(io.BytesIO(file), key, method, name):
        of = f", {k + 1} of {n}" if n > 1 else ""
        progress.progress((k + 0.9 * comparison.progress) / n, f"{words(name)}{of}: {comparison.progress_text}")
        yield comparison


def heat_scale(scale: tuple[float, float]) -> None:
    """The colours of maps shown together."""
    from demo.service.comparison import heat_bar

    said = "Colour scale: multiples of what 99 % of held-out normal images reach"
    st.image(heat_bar(scale, ink()), width=420, alt=said)


def notes(said: Mapping[str, str]) -> None:
    """What maps show, by variant; what holds for all of them is said once."""
    for note in dict.fromkeys(said.values()):
        whose = [variant_title(variant) for variant, other in said.items() if other == note]
        st.caption(note if len(whose) == len(said) else f"{', '.join(whose)}: {note}")


def drawing(svg: str, alt: str) -> str:
    """An inline SVG as an image, its currentColor the theme's ink: `st.html` drops SVG elements."""
    space = "" if "xmlns=" in svg else 'xmlns="http://www.w3.org/2000/svg" '
    coloured = svg.replace("<svg ", f'<svg {space}color="{ink()}" ', 1)
    return f"<img src='data:image/svg+xml;base64,{base64.b64encode(coloured.encode()).decode()}' alt='{text(alt)}'>"


def ink() -> str:
    """Text and axes of charts, for the theme the visitor has chosen."""
    return "#b9c3cf" if st.context.theme.type == "dark" else "#4b5768"


def chart(figure: Any, alt: str, key: str | None = None) -> None:
    """A Plotly figure in its own colours, drawn with `ink()`."""
    st.plotly_chart(figure, theme=None, config=PLOTLY, alt=alt, key=key)
