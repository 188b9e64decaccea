"""What one visitor has made: a detector in a private folder, photographs it judged, and where its threshold stands."""

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from attentdiffernet.detector import Detector
from attentdiffernet.findings import Calibration

from .. import catalogue, private
from ..decoding import read_image
from .answers import Answer, corrected, percentile, standing
from .judging import Photograph, thumbnail
from .photographs import Looked

DRAWN_ON = 640  # px, the longer side of a photograph that is drawn on
MOST_SHOWN = 4  # photographs of a remark, and unusual ones


@dataclass(frozen=True)
class Noted:
    """A remark with pictures of the photographs concerned."""

    sentence: str
    photographs: tuple[Photograph, ...]


@dataclass(frozen=True)
class Own:
    """folder: private. model: the checkpoint in it, once there is one. rate: the share of good parts that may be
    flagged, as asked. unusual: of the good parts, those with the highest scores. defects: defective parts to check
    with. tests: parts to judge. answers: what was said about them, in order. added: files of parts that were said to be
    good and are among those it was trained on; added_defects: to be defective, and among those it is checked with.
    typical: file of a good part as good parts are, and small enough to be drawn on.
    training: `Looked.copies` of what it was trained on; None of a model that was brought back."""

    folder: Path
    model: Path | None = None
    rate: float = 0.05
    remarks: tuple[Noted, ...] = ()
    unusual: tuple[Photograph, ...] = ()
    defects: tuple[Photograph, ...] = ()
    tests: tuple[Photograph, ...] = ()
    answers: tuple[Answer, ...] = ()
    added: tuple[Path, ...] = ()
    added_defects: tuple[Path, ...] = ()
    typical: Path | None = None
    training: np.ndarray | None = field(default=None, compare=False, repr=False)

    @classmethod
    def new(cls, session: str) -> "Own":
        """In a folder of its own. session: of the visitor's tab."""
        return cls(Path(tempfile.mkdtemp(prefix=_prefix(session), dir=private.root())))

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def in_use(self) -> bool:
        """Says that it is used, so that it is kept for `private.KEPT_S` from now on; false where it is gone."""
        if not self.gone:
            os.utime(self.folder)
        return not self.gone

    @property
    def gone(self) -> bool:
        """Whether it was removed: another detector has taken its place, or its time was over."""
        return not self.folder.exists()

    def with_model(self, model: Path) -> "Own":
        """With a checkpoint, and the rate of its threshold."""
        return replace(self, model=model, rate=rate_of(catalogue.loaded(model)))

    def with_good(self, photographs: Sequence[Path], looked: Looked, left_out: Mapping[int, float]) -> "Own":
        """With what is to be said about the photographs that the model was trained on. left_out: as of `Trained`."""
        white = self.detector.findings.value_range

        def small(k: int, score: float = math.nan) -> Photograph:
            return thumbnail(read_image(photographs[k], None, white), photographs[k].name, score)

        noted = tuple(
            Noted(remark.sentence, tuple(map(small, remark.images[:MOST_SHOWN]))) for remark in looked.remarks
        )
        by_score = sorted(left_out, key=lambda k: -left_out[k])
        typical = None
        if by_score:
            typical = self._small_copy(read_image(photographs[by_score[len(by_score) // 2]], None, white))
        return replace(
            self,
            remarks=noted,
            unusual=tuple(small(k, left_out[k]) for k in by_score[:MOST_SHOWN]),
            typical=typical,
            training=looked.copies,
        )

    def _small_copy(self, pixels: np.ndarray) -> Path:
        image, copy = Image.fromarray(pixels), self.folder / "typical.png"
        image.thumbnail((DRAWN_ON, DRAWN_ON))
        image.save(copy)
        return copy

    # -- answers

    def with_answer(self, k: int, fine: bool) -> "Own":
        """About test k; nothing for one that there is not, or that could not be read."""
        if not 0 <= k < len(self.tests) or self.tests[k].error:
            return self
        return replace(self, answers=(*self.answers, Answer(self.tests[k], fine)))

    def without_last_answer(self) -> "Own":
        return replace(self, answers=self.answers[:-1])

    def answer(self, one: Photograph) -> Answer | None:
        """What was said about a photograph."""
        return next((found for found in standing(self.answers) if found.photograph.digest == one.digest), None)

    def with_added(self, before: "Own") -> "Own":
        """With copies of what was said to be good and defective, for a training: of the answers of another one, and of
        what had been added to its training."""
        said = {True: list(before.added), False: list(before.added_defects)}
        for answer in standing(before.answers):
            if answer.photograph.path is not None and answer.photograph.path.is_file():
                said[answer.fine].append(answer.photograph.path)
        return replace(
            self, added=self._copied(said[True], "good"), added_defects=self._copied(said[False], "defective")
        )

    def _copied(self, files: Sequence[Path], what: str) -> tuple[Path, ...]:
        private.check_room(sum(file.stat().st_size for file in files))
        copies = [self.folder / f"said to be {what} {k}{file.suffix}" for k, file in enumerate(files, 1)]
        for file, copy in zip(files, copies, strict=True):
            shutil.copyfile(file, copy)
        return tuple(copies)

    # -- the detector

    @property
    def detector(self) -> Detector:
        """With its threshold at `rate`, moved by the answers."""
        return self._stored.with_calibration(self.calibration)

    @property
    def calibration(self) -> Calibration:
        return corrected(self.promised, self.answers)

    @property
    def promised(self) -> Calibration:
        """At `rate`, whatever the answers are. As stored as long as the rate is: the threshold may have been moved."""
        stored = self._stored
        return stored.calibration if self.rate == rate_of(stored) else stored.calibration.for_rate(self.rate)

    @property
    def stored_rate(self) -> float:
        """The rate of the model's own threshold."""
        return rate_of(self._stored)

    def percentile(self, score: float) -> float:
        """Of a score among good parts, in percent."""
        return percentile(self.promised, self.answers, score)

    @property
    def _stored(self) -> Detector:
        assert self.model is not None
        return catalogue.loaded(self.model)


def remove_all_of(session: str) -> None:
    """What was made in a tab: the visitor has left."""
    for folder in private.root().glob(f"{_prefix(session)}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _prefix(session: str) -> str:
    """Of folders. A session's name comes from the browser, and is no name of a file."""
    return f"{private.OWN}{hashlib.sha256(session.encode()).hexdigest()[:16]}-"


def rate_of(detector: Detector) -> float:
    """The rate that was asked for, where it is what the threshold was set for; else the one that the threshold has."""
    asked, calibration = detector.options.false_positive_rate, detector.calibration
    return asked if calibration.for_rate(asked) == calibration else calibration.false_positive_rate
