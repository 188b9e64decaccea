"""Choices that stand in the page's address, so that a link or a reload reproduces the view.

A widget's value comes from the address when it changes there, else from what was chosen on another page of the session.
It is written to the address unless it is the default. Choices whose default depends on the results at hand (`category`,
`setting`) are always written. Uploads are kept in the session alone.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import streamlit as st

from attentdiffernet.datasets import category_title
from attentdiffernet.words import score_text
from demo.markup import literal

T = TypeVar("T")
ALWAYS_WRITTEN = ("category", "setting")


def enter(page: str) -> None:
    """Starts a page. Widgets of each page have keys of their own, because Streamlit forgets them with the page."""
    st.session_state["page"] = page


def keep(name: str, value: str) -> None:
    """Makes a value the choice of other pages, too."""
    st.session_state["kept"][name] = [value]


def forget(name: str) -> None:
    """So that the default counts again, which has changed. Before the widget is made."""
    st.session_state.pop(_key(name), None)
    st.session_state.get("kept", {}).pop(name, None)
    st.query_params.pop(name, None)


def asked_for(*names: str) -> bool:
    """Whether the address names one of these choices: a link opens the part of a page that it is about."""
    return any(name in st.query_params for name in names)


# -- widgets


def choice(
    label: str, options: Mapping[str, str], name: str, default: str | None = None, segments: bool = False, **more: Any
) -> str:
    """One of the options (value: title), as a list that opens or, with segments, side by side."""
    first = next(iter(options)) if default not in options else str(default)
    key = _restore(name, first, lambda asked: asked[0] if asked[0] in options else None)
    if segments:
        value = st.segmented_control(
            label, list(options), format_func=options.__getitem__, key=key, required=True, wrap=True, **more
        )
    else:
        value = st.selectbox(label, list(options), format_func=options.__getitem__, key=key, **more)
    _store(name, value, first)
    return str(value)


def category(keys: list[str], label: str = "Category") -> str:
    return choice(label, {key: category_title(key) for key in keys}, "category")


def several(
    label: str, options: Mapping[str, str], name: str, default: list[str], pills: bool = False, **more: Any
) -> list[str]:
    """Some of the options, in the order of choice; from a list that opens or, with pills, from all side by side."""
    key = _restore(name, default, lambda asked: [x for x in asked if x in options] or None)
    if pills:
        values = st.pills(
            label, list(options), selection_mode="multi", format_func=options.__getitem__, key=key, **more
        )
    else:
        values = st.multiselect(label, list(options), format_func=options.__getitem__, key=key, **more)
    _store(name, values, default)
    return list(values)


def number(label: str, name: str, low: float, high: float, default: float, step: float, **more: Any) -> float:
    """A slider."""

    def parse(asked: list[str]) -> float | None:
        value = _number(asked[0])
        return value if value is not None and low <= value <= high else None

    key = _restore(name, default, parse)
    value = st.slider(label, low, high, step=step, key=key, **more)
    _store(name, value, default)
    return float(value)


def score(label: str, name: str, scores: list[float], default: float, **more: Any) -> float:
    """A slider that stops at each of these scores (ascending), one step apart whatever the distance between them."""

    def nearest(value: float) -> float:
        return min(scores, key=lambda other: abs(other - value))

    def parse(asked: list[str]) -> float | None:
        value = _number(asked[0])
        return None if value is None else nearest(value)

    first = nearest(default)
    key = _restore(name, first, parse)
    value = st.select_slider(label, scores, key=key, format_func=score_text, **more)
    _store(name, value, first)
    return float(value)


def switch(label: str, name: str, default: bool, **more: Any) -> bool:
    key = _restore(name, default, lambda asked: {"True": True, "False": False}.get(asked[0]))
    value = st.toggle(label, key=key, **more)
    _store(name, value, default)
    return bool(value)


# -- from and to the address


def _restore(name: str, default: T, parse: Callable[[list[str]], T | None]) -> str:
    """Sets the widget's state to what it should show; returns its key. parse returns None for an invalid value."""
    key, here = _key(name), st.query_params.get_all(name)
    kept, written = st.session_state.setdefault("kept", {}), st.session_state.setdefault("written", {})
    if key not in st.session_state:
        asked = here or kept.get(name, [])
    elif here != written.get(key, []):
        asked = here
    elif (current := st.session_state[key]) == []:  # the visitor has removed all values
        return key
    else:  # the widget's own value, which is parsed because the options may have changed
        asked = _texts(current)
    value = parse(asked) if asked else None
    if asked is here and (unknown := _unknown(asked, value)):
        said_unknown(f"{name} {', '.join(map(repr, unknown))}")
    st.session_state[key] = default if value is None else value
    return key


def said_unknown(what: str) -> None:
    st.warning(f"The link asks for {literal(what)}, which is not available here. The default is shown instead.")


def _unknown(asked: list[str], value: object) -> list[str]:
    """What an address asks for and does not get."""
    if value is None:
        return asked
    return [text for text in asked if text not in value] if isinstance(value, list) else []


def _store(name: str, value: object, default: object) -> None:
    """Writes the value to the address and keeps it for other pages, unless it is the default."""
    chosen = value != default or name in ALWAYS_WRITTEN
    shown = _texts(value) if chosen else []
    if st.query_params.get_all(name) != shown:
        if shown:
            st.query_params[name] = shown
        else:
            del st.query_params[name]
    st.session_state["written"][_key(name)] = shown
    if chosen:
        st.session_state["kept"][name] = _texts(value)
    else:
        st.session_state["kept"].pop(name, None)


def _key(name: str) -> str:
    return f"{st.session_state.get('page', '')}:{name}"


def _texts(value: object) -> list[str]:
    return [str(x) for x in value] if isinstance(value, list) else [str(value)]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
