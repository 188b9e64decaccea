"""Verdicts on a visitor's own parts as a table that is sorted, filtered and walked through in the browser.

`verdict_table.js` does that without asking the server. It works on any table with `button[data-sort]` in its head and
`data-NAME` on its rows.
"""

from pathlib import Path

import gradio as gr

from attentdiffernet.words import times_text

from ..markup import alert, badge, text
from ..service.training.judging import Photograph
from ..service.training.report import trained_on_html
from ..service.training.state import Own

BEHAVIOUR = (Path(__file__).parent / "verdict_table.js").read_text(encoding="utf-8")
HEADS = {"name": "Photograph", "score": "Score", "percentile": "Higher than", "said": "You say"}
SHOWN = {
    "all": "all",
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


def table_html(mine: Own, finished: bool = True) -> str:
    """A row for each photograph, the highest score first, beside the one that is looked at; then what could not be
    read. finished: only then can be answered."""
    rows = sorted(((k, one) for k, one in enumerate(mine.tests) if not one.error), key=lambda row: -row[1].score)
    broken = "".join(alert(one.error) for one in mine.tests if one.error)
    if not rows:
        return broken
    heads = "".join(
        f"<th scope='col'><button type='button' data-sort='{key}'>{title}</button></th>" for key, title in HEADS.items()
    )
    choices = "".join(f"<option value='{value}'>{title}</option>" for value, title in SHOWN.items())
    body = "".join(_row(k, one, mine, finished) for k, one in rows)
    return (
        f"{trained_on_html(mine.tests, 'part')}<div class='judged'><div class='list'>"
        f"<label>Show <select data-filter>{choices}</select></label> <span class='small' data-count></span>"
        "<div class='scroll'><table><caption>Arrow keys go through the rows; a heading sorts.</caption>"
        f"<thead><tr><th></th>{heads}</tr></thead><tbody>{body}</tbody></table></div></div>"
        f"<figure class='looked-at' aria-live='polite'><img alt=''><figcaption></figcaption></figure></div>{broken}"
    )


def _row(k: int, one: Photograph, mine: Own, finished: bool) -> str:
    threshold, answer, percentile = mine.calibration.threshold, mine.answer(one), mine.percentile(one.score)
    anomalous = one.score > threshold
    said = "" if answer is None else ("fine" if answer.fine else "defect")
    disputed = answer is not None and answer.fine == (one.score > mine.promised.threshold)
    kinds = [
        "anomalous" if anomalous else "normal",
        *(["disputed"] if disputed else []),
        *([] if answer else ["unsaid"]),
    ]
    alt = f"Map over {one.name}; verdict: {'anomalous' if anomalous else 'normal'}"
    buttons = "".join(
        f"<button type='button' data-index='{k}' data-fine='{fine}' aria-pressed='{str(said == word).lower()}' "
        f"aria-label='{title}: {text(one.name)}'>{title}</button>"
        for fine, word, title in ((1, "fine", "was fine"), (0, "defect", "is a defect"))
        if finished
    )
    return (
        f"<tr data-k='{k}' data-name='{text(one.name)}' data-score='{one.score:.9g}' "
        f"data-percentile='{percentile:.6g}' "
        f"data-said='{said}' data-kinds='{' '.join(kinds)}'><td><img src='{one.picture}' alt='{text(alt)}'></td>"
        f"<th scope='row'><button type='button' data-look>{text(one.name)}</button></th>"
        f"<td>{badge(anomalous)} {times_text(one.score, threshold)}</td><td>{percentile:.0f} %</td>"
        f"<td class='says'>{buttons}</td></tr>"
    )
