"""The threshold of the stored model that gave the scores of a run."""

from dataclasses import dataclass
from pathlib import Path

from .. import checkpoint
from ..errors import AttentDifferNetError
from ..words import input_title
from .comparison import Measured
from .runs import Run


@dataclass(frozen=True)
class ShippedThreshold:
    """The threshold of a stored model, set on held-out training normals. scores: theirs, ascending."""

    threshold: float
    false_positive_rate: float
    scores: tuple[float, ...]


def shipped_threshold(models: Path, found: Measured) -> ShippedThreshold | None:
    """Of the model below `models` that gave these scores; None where none has the whole recipe of the run."""
    run = found.run
    try:
        stored = checkpoint.read(models / run.dataset / run.category / run.variant)
    except AttentDifferNetError:
        return None
    found_by, calibration = stored.findings, stored.calibration
    views = calibration.n_views, input_title(found_by.views, found_by.resize, found_by.exposure)
    names = {name: getattr(run, name) for name in ("run", "dataset", "category", "commit", "source")}
    if Run.of(stored.options, views, found_by.readout, **names) != run:
        return None
    return ShippedThreshold(calibration.threshold, calibration.false_positive_rate, calibration.scores)
