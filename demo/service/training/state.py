"""What one visitor has made: a detector in a private folder, photographs it judged, and where its threshold stands."""

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attentdiffernet.detector import Detector
from attentdiffernet.findings import Calibration

from .. import catalogue, private
from ..decoding import read_image
from .judging import Photograph, thumbnail
from .photographs import Remark

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
    with. tests: parts to judge."""

    folder: Path
    model: Path | None = None
    rate: float = 0.05
    remarks: tuple[Noted, ...] = ()
    unusual: tuple[Photograph, ...] = ()
    defects: tuple[Photograph, ...] = ()
    tests: tuple[Photograph, ...] = ()

    @classmethod
    def new(cls) -> "Own":
        return cls(Path(tempfile.mkdtemp(prefix="own-", dir=private.root())))

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def gone(self) -> bool:
        """Whether it was removed: another detector has taken its place, or its time was over."""
        return not self.folder.exists()

    def with_model(self, model: Path) -> "Own":
        """With a checkpoint, and the rate of its threshold."""
        return replace(self, model=model, rate=rate_of(catalogue.loaded(model)))

    def with_good(self, photographs: Sequence[Path], remarks: Sequence[Remark], left_out: Mapping[int, float]) -> "Own":
        """With what is to be said about the photographs that the model was trained on. left_out: as of `Trained`."""
        white = self.detector.findings.value_range

        def small(k: int, score: float = math.nan) -> Photograph:
            return thumbnail(read_image(photographs[k], None, white), photographs[k].name, score)

        noted = tuple(Noted(remark.sentence, tuple(map(small, remark.images[:MOST_SHOWN]))) for remark in remarks)
        worst = sorted(left_out, key=lambda k: -left_out[k])[:MOST_SHOWN]
        return replace(self, remarks=noted, unusual=tuple(small(k, left_out[k]) for k in worst))

    @property
    def detector(self) -> Detector:
        """With its threshold at `rate`."""
        assert self.model is not None
        stored = catalogue.loaded(self.model)
        return stored.with_calibration(self.calibration(stored))

    def calibration(self, stored: Detector) -> Calibration:
        return stored.calibration.for_rate(self.rate)


def rate_of(detector: Detector) -> float:
    """The rate that was asked for, where it is what the threshold was set for; else the one that the threshold has."""
    asked, calibration = detector.options.false_positive_rate, detector.calibration
    return asked if calibration.for_rate(asked) == calibration else calibration.false_positive_rate
