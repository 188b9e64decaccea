"""Photographs judged by a detector of one's own: scored once, judged again by any threshold."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from attentdiffernet.detector import Detector
from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.figures.curves import Curve
from attentdiffernet.figures.one_file import inlined
from attentdiffernet.findings import Calibration

from ..comparison import compare_by
from ..verdict import Comparison
from . import own
from .photographs import shows_the_same

THUMBNAIL, LARGE = 144, 360  # px; the first is shown at 96 px


@dataclass(frozen=True)
class Photograph:
    """One photograph as a page shows it. picture: address of a small copy that is part of the page; of a judged one,
    with its map. score: nan of one that was not scored. error: why it could not be read; empty otherwise.

    Of a judged one also path and digest: the file, and what tells its content from that of others; trained_on: whether
    it is almost the same as a photograph that the detector was trained on; map_follows: whether the picture is still
    without its map."""

    name: str
    picture: str = ""
    score: float = math.nan
    error: str = ""
    path: Path | None = None
    digest: str = ""
    trained_on: bool = False
    map_follows: bool = False


def thumbnail(image: np.ndarray, name: str, score: float = math.nan) -> Photograph:
    return Photograph(name, inlined(Image.fromarray(image), THUMBNAIL), score)


def judged(paths: Sequence[Path], detector: Detector, training: np.ndarray | None = None) -> Iterator[Photograph]:
    """Each with its score and its map; one that cannot be read with the reason. training: `Looked.copies` of what the
    detector was trained on, where that is known."""
    return (one for one in judging(paths, detector, training) if not one.map_follows)


def judging(paths: Sequence[Path], detector: Detector, training: np.ndarray | None = None) -> Iterator[Photograph]:
    """As `judged`, but each first as soon as its score is final, and then again with its map."""
    for path in paths:
        try:
            for step in compare_by(path, own.info(detector), {detector.key: detector}):
                if not step.slowest.provisional:
                    yield _photograph(path, step, training)
                if step.heat is not None:
                    break
        except AttentDifferNetError as error:
            yield Photograph(path.name, error=str(error))


def _photograph(path: Path, step: Comparison, training: np.ndarray | None) -> Photograph:
    ((key, verdict),) = step.verdicts.items()
    return Photograph(
        path.name,
        inlined(Image.fromarray(step.overlay(key, outlined=True)), LARGE),
        verdict.score,
        path=path,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        trained_on=training is not None and shows_the_same(step.image, training),
        map_follows=step.heat is None,
    )


def readable(photographs: Sequence[Photograph]) -> list[Photograph]:
    """Those that have a score, the highest first."""
    return sorted((one for one in photographs if not one.error), key=lambda one: -one.score)


def flagged(photographs: Sequence[Photograph], threshold: float) -> list[Photograph]:
    """Those above the threshold, the highest score first."""
    return [one for one in readable(photographs) if one.score > threshold]


def curve(detector: Detector, calibration: Calibration, defects: Sequence[Photograph]) -> Curve:
    """Defective parts against the good ones that set the threshold, each scored by a detector that had not seen it."""
    bad = [one.score for one in readable(defects)]
    labels = [0] * len(calibration.scores) + [1] * len(bad)
    return Curve(detector.title, detector.key, labels, [*calibration.scores, *bad], calibration.threshold)
