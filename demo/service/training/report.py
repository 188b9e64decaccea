"""A detector of one's own in words and pictures: as parts of a page, and as one file that asks no other host."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from attentdiffernet import __version__
from attentdiffernet.detector import Detector
from attentdiffernet.figures.one_file import inlined_svg, page
from attentdiffernet.figures.palette import ANOMALOUS_COLOUR, NORMAL_COLOUR
from attentdiffernet.figures.print import figure_file, roc_paper_figure
from attentdiffernet.figures.screen import percentile_svg
from attentdiffernet.findings import Calibration
from attentdiffernet.study.formats import counted, interval_text, percent_range
from attentdiffernet.study.statistics import auroc_interval, rate_interval
from attentdiffernet.words import percent, times_text

from ...markup import alert, badge, text
from . import own
from .answers import standing, unmet
from .judging import Photograph, curve, flagged, readable
from .state import MOST_SHOWN, Own

STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")


def summary_html(mine: Own) -> str:
    """What the threshold promises, what is unusual about the good parts, and which are the most unusual."""
    detector = mine.detector
    parts = [
        f"<h3>{text(detector.title)} of {text(detector.data.category)}</h3>",
        promise_html(mine),
        answers_html(mine),
    ]
    for noted in mine.remarks:
        shown = "".join(_figure(one, text(one.name)) for one in noted.photographs)
        parts.append(f"<p class='remark'>{text(noted.sentence)}.</p><div class='strip'>{shown}</div>")
    if mine.unusual:
        threshold = detector.calibration.threshold
        shown = "".join(_figure(one, f"{times_text(one.score, threshold)} the threshold") for one in mine.unusual)
        parts.append(f"<h4>The most unusual photographs: are these good parts?</h4><div class='strip'>{shown}</div>")
    return "".join(parts)


def promise_html(mine: Own) -> str:
    """The share of good parts that is flagged, how sure that is, and the scores behind it."""
    calibration = mine.promised
    promise, scores = own.promise(calibration), calibration.scores
    n = promise.n_images
    few = (
        f" {percent(mine.rate)} was asked for; {counted(n, 'photograph')} cannot promise less than "
        f"{percent(1 / (n + 1))}."
        if promise.expected > mine.rate + 1e-9
        else ""
    )
    return (
        f"<p>It flags about <b>{percent(promise.expected)} of 100 good parts</b> on average over sets of {n} "
        f"photographs.{few} For this set it is between {percent(promise.low)} and {percent(promise.high)} of 100, in "
        "95 of 100 cases. More photographs narrow this.</p>"
        f"<div class='histogram'>{percentile_svg(scores, max(scores), mine.calibration.threshold)}</div>"
        f"<p class='note'>Scores of {counted(n, 'photograph')} by a detector that had not seen them. The dashed line "
        "is the threshold, the triangle the highest score.</p>"
    )


def answers_html(mine: Own) -> str:
    """What was said about verdicts, and what follows; empty where nothing was said."""
    said = standing(mine.answers)
    if not said:
        return ""
    rows = "".join(
        f"<li>{text(one.photograph.name)}: {'was fine' if one.fine else 'is a defect'}, "
        f"{times_text(one.photograph.score, mine.calibration.threshold)} the threshold</li>"
        for one in said
    )
    return f"<h4>What you said</h4><ul>{rows}</ul><p>{_consequence(mine)}</p>{_contradictions_html(mine)}"


def _consequence(mine: Own) -> str:
    """What the answers do to the threshold, and to the promise about good parts."""
    before, now = mine.promised, mine.calibration
    n = len(before.scores)
    if now.threshold > before.threshold:
        return (
            "The threshold is <b>higher</b> than your training photographs alone would set it: no part that you said "
            "was fine is flagged. The promise above still holds, as an upper limit, because a higher threshold "
            "flags no more. How many fewer is unknown: the parts you looked at are no random sample. "
            "Defects that score in between are missed now."
        )
    if now.threshold < before.threshold:
        above = sum(score > now.threshold for score in before.scores)
        return (
            "The threshold is <b>lower</b> than your training photographs alone would set it: the defects that you "
            f"named are flagged. The promise above <b>does not hold any more</b>: of {n} training photographs, {above} "
            f"lie above the threshold now, which makes about {percent(now.false_positive_rate)} of 100 good parts. "
            "That is an estimate and no promise, because the threshold was set by looking at scores."
        )
    return (
        "The threshold stays where it was, and the promise holds: your answers agree with the verdicts. They are not "
        "added to the scores behind the promise, because the parts you looked at are no random sample."
    )


def _contradictions_html(mine: Own) -> str:
    lost = [one.photograph.name for one in unmet(mine.calibration, mine.answers)]
    if not lost:
        return ""
    score = "scores" if len(lost) == 1 else "score"
    return alert(f"No threshold fits all your answers: {', '.join(lost)} {score} lower than a part that was fine")


def check_html(mine: Own) -> str:
    """How well the defective parts that the visitor has are told from the good ones; empty without any."""
    if not mine.defects:
        return ""
    heading, bad = "<h3>Checked with defective parts</h3>", readable(mine.defects)
    heading += trained_on_html(mine.defects, "defective part")
    errors = _errors_html(mine.defects)
    if not bad:
        return heading + errors
    detector = mine.detector
    calibration = detector.calibration
    drawn, found = curve(detector, calibration, mine.defects), flagged(mine.defects, calibration.threshold)
    area, missed = auroc_interval(drawn.labels, drawn.scores), [one for one in bad if one not in found]
    _, low, high = rate_interval([one in found for one in bad])
    drawing = inlined_svg(figure_file(roc_paper_figure([drawn], band=True), "svg"))
    return (
        f"{heading}<p>It flags <b>{len(found)} of {counted(len(bad), 'defective part')}</b>. Of all parts with such "
        f"defects it would flag {percent_range(low, high)} of 100, in 95 of 100 cases.</p>"
        f"<p>AUROC {interval_text(area)}: how often a defective part scores higher than a good one, whatever the "
        f"threshold. Measured on {counted(area.n_anomalous, 'defective part')}, none of which it was trained on, and "
        f"{counted(area.n_normal, 'good part')}, each scored by a detector that had not seen it.</p>"
        f"<p><img class='roc' src='{drawing}' alt='ROC curve with its 95 % band; AUROC "
        f"{interval_text(area)}'></p>{_group(f'Missed: {len(missed)}', missed, calibration)}"
        f"{_group(f'Found: {len(found)}', found, calibration, folded=True)}{errors}"
    )


def trained_on_html(photographs: Sequence[Photograph], what: str) -> str:
    """Names those that are almost the same as a photograph it was trained on; empty without any."""
    same = [one for one in photographs if one.trained_on]
    if not same:
        return ""
    are = "is almost the same as a photograph" if len(same) == 1 else "are almost the same as photographs"
    shown = "".join(_figure(one, text(one.name)) for one in same[:MOST_SHOWN])
    return (
        f"<p class='remark'>{counted(len(same), what)} {are} that it was trained on: such a verdict says nothing about "
        f"new parts, and one of the two may be in the wrong place.</p><div class='strip'>{shown}</div>"
    )


def _group(title: str, photographs: Sequence[Photograph], calibration: Calibration, folded: bool = False) -> str:
    if not photographs:
        return ""
    cards = _cards(photographs, calibration)
    return f"<details><summary>{title}</summary>{cards}</details>" if folded else f"<h4>{title}</h4>{cards}"


def drawn_html(before: Photograph, after: Photograph, calibration: Calibration) -> str:
    """A photograph as it was and with a defect drawn on it: whether that is caught."""
    threshold = calibration.threshold
    caught = after.score > threshold
    rose = f"{times_text(before.score, threshold)} to {times_text(after.score, threshold)} the threshold"
    already = " It was flagged before you drew on it." if before.score > threshold else ""
    return (
        f"<p><b>{'Caught' if caught else 'Not caught'}</b>: the score went from {rose}.{already}</p>"
        f"{_cards([replace(before, name='As it was'), replace(after, name='With your defect')], calibration)}"
    )


def verdicts_html(photographs: Sequence[Photograph], calibration: Calibration) -> str:
    """Each photograph with its map, the highest score first; then what could not be read."""
    return _cards(readable(photographs), calibration) + _errors_html(photographs)


def counts_text(photographs: Sequence[Photograph], calibration: Calibration) -> str:
    """`1 of 3 anomalous, 2 could not be read.` Of none that could be read, only that."""
    n_read = len(readable(photographs))
    said = [f"{len(flagged(photographs, calibration.threshold))} of {n_read} anomalous"] if n_read else []
    said += [f"{len(photographs) - n_read} could not be read"] if n_read < len(photographs) else []
    return f"{', '.join(said)}."


def _cards(photographs: Sequence[Photograph], calibration: Calibration) -> str:
    cards = "".join(_card(one, calibration.threshold) for one in photographs)
    return f"<div class='strip large'>{cards}</div>"


def _card(one: Photograph, threshold: float) -> str:
    anomalous = one.score > threshold
    return _figure(
        one,
        f"{badge(anomalous)} {times_text(one.score, threshold)} the threshold<br><span class='small'>{text(one.name)}"
        "</span>",
        f"Map over {one.name}; verdict: {'anomalous' if anomalous else 'normal'}",
    )


def _figure(one: Photograph, caption: str, alt: str = "") -> str:
    """caption: HTML."""
    return (
        f"<figure><img src='{one.picture}' alt='{text(alt or one.name)}'>"
        f"<figcaption class='small'>{caption}</figcaption></figure>"
    )


def _errors_html(photographs: Sequence[Photograph]) -> str:
    return "".join(alert(one.error) for one in photographs if one.error)


def report_page(mine: Own) -> bytes:
    """Everything about the detector as one HTML file that loads nothing."""
    detector = mine.detector
    title = f"{detector.title} of {detector.data.category}"
    colours = f".badge.normal {{ background: {NORMAL_COLOUR}; }} .badge.anomalous {{ background: {ANOMALOUS_COLOUR}; }}"
    judged = (
        f"<h3>Parts that were judged</h3><p>{counts_text(mine.tests, detector.calibration)}</p>"
        f"{trained_on_html(mine.tests, 'part')}"
        f"{verdicts_html(mine.tests, detector.calibration)}"
        if mine.tests
        else ""
    )
    body = (
        f"{summary_html(mine)}{check_html(mine)}{judged}"
        f"<h3>How it was made</h3>{_making_html(detector)}"
        f"<footer>AttentDifferNet {__version__}. A score is no probability, and says nothing "
        "about parts of another kind, another camera or other light.</footer>"
    )
    return page(title, colours + STYLE, body).encode()


def _making_html(detector: Detector) -> str:
    fitted, held_out = detector.data.n_fitted, len(detector.calibration.scores)
    return (
        f"<p>{text(detector.title)}, fitted to {counted(fitted, 'photograph')} of good parts; {held_out} set the "
        f"threshold. {text(detector.choices)}.</p><details><summary>Model card</summary>"
        f"<pre>{text(_without_front_matter(detector.card()))}</pre></details>"
    )


def _without_front_matter(card: str) -> str:
    return card.split("---\n", 2)[-1].strip()
