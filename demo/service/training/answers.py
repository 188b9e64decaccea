"""What the visitor says about verdicts, and what follows for the threshold: nothing is scored anew.

A part that was fine must not be flagged again: the threshold rises above its score. A defective part that passed is to
be found: the threshold falls below its score, unless a part that was fine scores higher.

The promise about good parts rests on photographs of which nobody had seen a score before the threshold was set. Parts
that somebody answers about are no such sample: mostly those are looked at that were flagged. Their scores are therefore
not counted among the ones that the promise rests on. A threshold that is raised flags no more than the one before,
whatever raised it: the promise holds as an upper bound. One that is lowered has none: what is left is an estimate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from attentdiffernet.findings import Calibration
from attentdiffernet.study.statistics import percentile_among

from .judging import Photograph

MARGIN = 1e-4  # of a score: another machine computes it a little differently


@dataclass(frozen=True)
class Answer:
    """One thing that was said. fine: a good part; else a defective one."""

    photograph: Photograph
    fine: bool


def standing(answers: Sequence[Answer]) -> list[Answer]:
    """The last answer about each photograph, in the order of the first ones."""
    return list({answer.photograph.digest: answer for answer in answers}.values())


def corrected(calibration: Calibration, answers: Sequence[Answer]) -> Calibration:
    """With the threshold moved as little as the answers ask for. Where they contradict each other, no good part is
    flagged.

    A raised threshold keeps the rate of before, which it flags at most; that of a lowered one is an estimate.
    """
    before = calibration.threshold
    fine = [answer.photograph.score for answer in standing(answers) if answer.fine]
    missed = [answer.photograph.score for answer in standing(answers) if not answer.fine]
    threshold = min([before, *(score - MARGIN * abs(score) for score in missed)])
    for score in fine:
        if score > threshold:
            above = score + MARGIN * abs(score)
            threshold = max(threshold, above if score > before else min(above, before))
    return calibration.for_threshold(threshold) if threshold < before else replace(calibration, threshold=threshold)


def unmet(calibration: Calibration, answers: Sequence[Answer]) -> list[Answer]:
    """Answers that the threshold does not agree with: defective parts that score lower than a good one."""
    return [one for one in standing(answers) if one.fine == (one.photograph.score > calibration.threshold)]


def percentile(calibration: Calibration, answers: Sequence[Answer], score: float) -> float:
    """The share of good parts that score lower, in percent: those of the training, and those that were said to be
    fine."""
    fine = [answer.photograph.score for answer in standing(answers) if answer.fine]
    return percentile_among([*calibration.scores, *fine], score)
