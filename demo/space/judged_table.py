"""Verdicts on a visitor's own parts as a `verdict_table`, in which each verdict can be answered."""

import gradio as gr

from attentdiffernet.words import times_text

from ..markup import badge, text
from ..service.training.judging import Photograph
from ..service.training.report import trained_on_html
from ..service.training.state import Own
from .verdict_table import Cell, Head, Row, table_html

HEADS = (
    Head("score", "Score"),
    Head("percentile", "Higher than"),
    Head("said", "You say", number=False),
)
FILTERS = {
    "anomalous": "anomalous",
    "normal": "normal",
    "disputed": "wrong, you say",
    "unsaid": "not yet answered",
}


def answered(event: gr.EventData) -> tuple[int, bool] | None:
    """(number of the photograph, whether it was fine), of what `verdict_table.js` sends; None for anything else."""
    sent = event._data if isinstance(event._data, dict) else {}
    index, fine = sent.get("index"), sent.get("fine")
    return (index, fine) if isinstance(index, int) and isinstance(fine, bool) else None


def judged_html(mine: Own, finished: bool = True) -> str:
    """A row for each photograph, the highest score first, beside the one that is looked at; then what could not be
    read. finished: only then can be answered."""
    rows = [_row(k, one, mine, finished) for k, one in enumerate(mine.tests) if not one.error]
    errors = [one.error for one in mine.tests if one.error]
    return trained_on_html(mine.tests, "part") + table_html(HEADS, rows, FILTERS, errors, beside=True)


def _row(k: int, one: Photograph, mine: Own, finished: bool) -> Row:
    threshold, answer, percentile = mine.calibration.threshold, mine.answer(one), mine.percentile(one.score)
    anomalous = one.score > threshold
    said = "" if answer is None else ("fine" if answer.fine else "defect")
    disputed = answer is not None and answer.fine == (one.score > mine.promised.threshold)
    kinds = ["anomalous" if anomalous else "normal", *["disputed"] * disputed, *["unsaid"] * (answer is None)]
    buttons = "".join(
        f"<button type='button' data-index='{k}' data-fine='{fine}' aria-pressed='{str(said == word).lower()}' "
        f"aria-label='{title}: {text(one.name)}'>{title}</button>"
        for fine, word, title in ((1, "fine", "was fine"), (0, "defect", "is a defect"))
        if finished
    )
    cells = {
        "score": Cell(f"{badge(anomalous)} {times_text(one.score, threshold)}", float(one.score)),
        "percentile": Cell(f"{percentile:.0f} %", float(percentile)),
        "said": Cell(f"<span class='says'>{buttons}</span>", said),
    }
    alt = f"Map over {one.name}; verdict: {'anomalous' if anomalous else 'normal'}"
    return Row(k, one.name, one.picture, alt, cells, kinds)
