"""Pieces of HTML that both faces show; each face has its own style sheet for them."""

import html
import re
from typing import TYPE_CHECKING

from attentdiffernet.words import score_text, short_title

if TYPE_CHECKING:
    from .service.verdict import Comparison, Verdict

TEMPLATE_SIGNS = {ord(sign): f"&#{ord(sign)};" for sign in "{}$`\\"}


def text(value: object) -> str:
    """Escaped for HTML, and for gr.HTML, which reads `${...}` and `{{...}}` as templates: file names are untrusted."""
    return html.escape(str(value)).translate(TEMPLATE_SIGNS)


def literal(value: object) -> str:
    """As Markdown that shows exactly this: names of files are untrusted."""
    return re.sub(r"([!-.:-@\[-`{-~])", r"\\\1", str(value))


def badge(anomalous: bool, provisional: bool = False, times: str = "") -> str:
    """A verdict as word, sign and colour; dashed while it may still change. times: the score, shown in place of the
    word, which is then for those who listen."""
    word, sign = ("anomalous", "▲") if anomalous else ("normal", "✓")
    classes = f"badge {word}{' provisional' if provisional else ''}"
    said = f'<span class="heard">{word}, </span>{times}' if times else word
    title = ' title="provisional"' if provisional else ""
    return f'<span class="{classes}"{title}><span aria-hidden="true">{sign}</span> {said}</span>'


def scrolling(name: str) -> str:
    """Attributes of a box that scrolls by itself where it is too narrow, by keyboard, too."""
    return f'class="scroll" role="region" aria-label="{text(name)}" tabindex="0"'


def alert(message: str) -> str:
    return f'<p class="alert" role="alert"><span aria-hidden="true">⚠</span> {text(message)}</p>'


def verdicts(comparison: "Comparison") -> str:
    """The verdicts in a line, for a narrow page, where the cards do not fit beside each other."""
    return f"<ul class='verdicts'>{''.join(map(_short, comparison.verdicts.values()))}</ul>"


def _short(verdict: "Verdict") -> str:
    name = f"<span class='variant {verdict.key} variant-{verdict.key}'>{text(short_title(verdict.key))}</span>"
    times = verdict.times.replace(" ×", "\N{NO-BREAK SPACE}×")
    return f"<li>{name}{badge(verdict.anomalous, verdict.provisional, times)}</li>"


def numbers(verdict: "Verdict") -> str:
    """Score and percentile of a verdict, as a list of definitions."""
    normals, times = len(verdict.calibration_scores), verdict.times
    return (
        f"<dl><div><dt>Score</dt><dd><b>{times}</b> {'the ' if '×' in times else ''}threshold</dd></div>"
        f"<div><dt>Higher than</dt><dd>{verdict.percentile:.0f} % of {normals} normal images</dd></div></dl>"
    )


def raw_numbers(verdict: "Verdict") -> str:
    """Score and threshold as they are, and how the detector was built: to unfold."""
    step = 100 / (len(verdict.calibration_scores) + 1)  # a threshold between two of n scores flags k of n + 1
    return (
        "<details><summary>Raw numbers</summary>"
        f"<dl><div><dt>Anomaly score</dt><dd>{score_text(verdict.score)}{_spread(verdict)}</dd></div>"
        f"<div><dt>Threshold</dt><dd>{score_text(verdict.threshold)}</dd></div>"
        f"<div><dt>Good parts flagged</dt><dd>{100 * verdict.false_positive_rate:.1f} of 100 on average, "
        f"in steps of {step:.1f}</dd></div></dl>"
        "<p class='choices'>A score has no unit and no upper limit, and is not a probability. It is shown as a "
        f"multiple of the detector's own threshold.</p><p class='choices'>{text(verdict.choices)}</p></details>"
    )


def _spread(verdict: "Verdict") -> str:
    """The standard error, unless there is none or it is larger than the value and says nothing."""
    error = verdict.standard_error
    if error != error or error > abs(verdict.score):
        return ""
    return f' <small title="standard error over views">± {score_text(error, 2)}</small>'
