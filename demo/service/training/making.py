"""A detector made of a visitor's uploads, step by step: trained or brought back, and checked with defective parts."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from attentdiffernet.study.formats import counted

from . import own
from .asked import UNNAMED, Asked, Progress
from .judging import Photograph, judged
from .photographs import Glance, gather, gather_to_judge, glances, look_over
from .run import Step, train, worker
from .state import Own

LOOKING, READING = "Looking at the photographs", "Reading the model …"


def trained(fresh: Own, asked: Asked) -> Generator[Progress | Own, None, None]:
    """Progress, and in the end the detector in the folder of `fresh`. Whoever stops to iterate ends the training.
    Raises AttentDifferNetError in words for visitors."""
    yield Progress(0, f"{LOOKING} …")
    with worker() as process:
        photographs = gather([*asked.parts, *fresh.added], fresh.folder)
        bad = gather_to_judge([*asked.bad_parts, *fresh.added_defects], fresh.folder, "defective parts")
        seen = list[Glance]()
        for one in glances(photographs):
            seen.append(one)
            yield Progress(0, f"{LOOKING}: {len(seen)} of {len(photographs)}")
        looked = look_over(photographs, seen)
        name = " ".join(asked.name.split()) or UNNAMED
        for step in train(process, photographs, fresh.folder, name, asked.choice):
            if isinstance(step, Step):
                yield Progress(step.done / max(step.total, 1), _step_text(step))
            else:
                fresh = fresh.with_model(step.folder).with_good(photographs, looked, step.left_out)
    yield from _checked(fresh, bad)


def brought_back(fresh: Own, file: Path, bad_parts: Sequence[str | Path]) -> Iterator[Progress | Own]:
    """The same of a model that was downloaded."""
    yield Progress(0, READING)
    own.unpacked(file, fresh.folder)
    bad = gather_to_judge(bad_parts, fresh.folder, "defective parts")
    yield from _checked(fresh.with_model(fresh.folder / "model"), bad)


def _checked(mine: Own, bad: Sequence[Path]) -> Iterator[Progress | Own]:
    found = list[Photograph]()
    for one in judged(bad, mine.detector, mine.training) if bad else ():
        found.append(one)
        yield Progress(len(found) / len(bad), f"Checking with defective parts: {len(found)} of {len(bad)}")
    yield replace(mine, defects=tuple(found))


def trained_text(mine: Own) -> str:
    n = len(mine.added)
    added = f", with {counted(n, 'part')} that you said {'was' if n == 1 else 'were'} fine" if n else ""
    return f"Trained{added}. Drop parts below to judge them; pictures of other things are called anomalous, too."


def _step_text(step: Step) -> str:
    if not step.done:
        return f"{step.stage.capitalize()} …"
    left = "" if step.seconds_left is None else f", about {step.seconds_left:.0f} s left of this stage"
    return f"{step.stage.capitalize()}: {step.done} of {step.total}{left}"
