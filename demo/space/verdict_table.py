"""Verdicts on many photographs as a table that is sorted, filtered and walked through in the browser.

`verdict_table.js` does that without asking the server. It works on any table with `button[data-sort]` in its head and a
value for each of them on its rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..markup import alert, text

BEHAVIOUR = (Path(__file__).parent / "verdict_table.js").read_text(encoding="utf-8")
FIRST = "score"  # by which rows are sorted at first, the highest on top


@dataclass(frozen=True)
class Head:
    """A column. key: lower-case letters. number: how it is sorted. variant: whose colour it has."""

    key: str
    title: str
    number: bool = True
    variant: str = ""


@dataclass(frozen=True)
class Cell:
    """value: by which rows are sorted; those without one stand last."""

    html: str
    value: float | str = ""


@dataclass(frozen=True)
class Row:
    """One photograph. number: by which the browser names it. picture: address of a small copy. cells: by `Head.key`.
    kinds: the choices of the filter that it belongs to. opens: whether a click asks the server for its details.
    open: whether these are what is shown."""

    number: int
    name: str
    picture: str
    alt: str
    cells: Mapping[str, Cell]
    kinds: Sequence[str] = ()
    opens: bool = False
    open: bool = False


def table_html(
    heads: Sequence[Head], rows: Sequence[Row], filters: Mapping[str, str], errors: Sequence[str], beside: bool = False
) -> str:
    """The photographs, then why others could not be read. filters: title of each kind. beside: whether the one that is
    looked at is shown large, beside the table."""
    broken = "".join(map(alert, errors))
    if not rows:
        return broken
    names = "".join(map(_head, (Head("name", "Photograph", number=False), *heads)))
    choices = "".join(f"<option value='{value}'>{title}</option>" for value, title in {"all": "all", **filters}.items())
    body = "".join(_row(row, heads) for row in sorted(rows, key=_place))
    figure = "<figure class='looked-at' aria-live='polite'><img alt=''><figcaption></figcaption></figure>" * beside
    opens = " Enter or a click shows the details below." * any(row.opens for row in rows)
    return (
        "<div class='judged'><div class='list'>"
        f"<label>Show <select data-filter>{choices}</select></label> <span class='small' data-count></span>"
        f"<p class='small'>Arrow keys go through the rows; a heading sorts.{opens}</p>"
        "<div class='scroll'><table aria-label='Verdicts'>"
        f"<thead><tr><th></th>{names}</tr></thead><tbody>{body}</tbody></table></div></div>{figure}</div>{broken}"
    )


def _place(row: Row) -> tuple[bool, float]:
    value = row.cells[FIRST].value if FIRST in row.cells else ""
    return (False, -value) if isinstance(value, float) else (True, 0.0)


def _head(head: Head) -> str:
    kind = f" class='variant {head.variant}'" if head.variant else ""
    number = " data-number" if head.number else ""
    return (
        f"<th scope='col'{kind}><button type='button' data-sort='{head.key}'{number}>{text(head.title)}</button></th>"
    )


def _row(row: Row, heads: Sequence[Head]) -> str:
    values = "".join(f" data-{key}='{_value(cell.value)}'" for key, cell in row.cells.items())
    picture = f"<img src='{row.picture}' alt='{text(row.alt)}'>" if row.picture else ""
    index = f" data-index='{row.number}'" if row.opens else ""
    cells = "".join(f"<td>{row.cells[head.key].html if head.key in row.cells else '…'}</td>" for head in heads)
    return (
        f"<tr data-k='{row.number}' data-name='{text(row.name)}' data-kinds='{' '.join(row.kinds)}'{values}"
        f"{' data-open' if row.open else ''}><td>{picture}</td>"
        f"<th scope='row'><button type='button' data-look{index}>{text(row.name)}</button></th>{cells}</tr>"
    )


def _value(value: float | str) -> str:
    return f"{value:.9g}" if isinstance(value, float) else text(value)
