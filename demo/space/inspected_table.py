"""Verdicts of a category's detectors on many photographs, as a `verdict_table` that opens details."""

from attentdiffernet.words import short_title

from ..markup import badge, text
from ..service.stranger import a
from ..service.verdict import Verdict
from .session import Session, Upload
from .verdict_table import Cell, Head, Row, table_html

FILTERS = {
    "anomalous": "anomalous to one or more",
    "normal": "normal to all",
    "disputed": "detectors disagree",
    "stranger": "perhaps another thing",
}


def inspected_html(session: Session) -> str:
    """A row for each photograph, those that most detectors flag on top; then what could not be read."""
    heads = [Head("score", "Flagged by"), *(Head(key, short_title(key), variant=key) for key in session.detectors)]
    rows = [_row(k, upload, k == session.shown) for k, upload in enumerate(session.uploads) if not upload.error]
    return table_html(heads, rows, FILTERS, session.errors)


def on_top(session: Session) -> int | None:
    """The photograph that stands first in the table; None where none could be read."""
    found = {k: upload.comparison for k, upload in enumerate(session.uploads) if upload.comparison}
    return max(found, key=lambda k: found[k].rank, default=None)


def _row(k: int, upload: Upload, shown: bool) -> Row:
    found = upload.comparison
    if found is None:
        return Row(k, upload.name, "", "", {})
    flagged, n = sum(verdict.anomalous for verdict in found.verdicts.values()), len(found.verdicts)
    kinds = ["anomalous" if flagged else "normal", *["disputed"] * (0 < flagged < n)]
    by = (
        f"perhaps not {text(a(found.category.part))}"
        if found.stranger
        else f"<span class='nowrap'>{flagged} of {n}</span>"
    )
    cells = {"score": Cell(by, found.rank)} | {key: _cell(verdict) for key, verdict in found.verdicts.items()}
    kinds += ["stranger"] * (found.stranger is not None)
    return Row(k, upload.name, upload.picture, f"Photograph {upload.name}", cells, kinds, True, shown)


def _cell(verdict: Verdict) -> Cell:
    return Cell(badge(verdict.anomalous, verdict.provisional, verdict.times), verdict.multiple)
