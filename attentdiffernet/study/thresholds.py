"""The threshold of the stored model that gave the scores of a run."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import checkpoint, format2
from ..errors import AttentDifferNetError
from ..options import Options
from ..words import input_title
from .comparison import Measured
from .runs import Run

# What training chose, a run's row has; whether it was asked for, older models do not tell.
CHOSEN: dict[str, Any] = dict.fromkeys(("views", "resize", "exposure", "readout", "training_views", "scoring_views"))


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
    if Run.of(stored.options, views, found_by.readout, **names) != run or not _made_with(stored.options, found):
        return None
    return ShippedThreshold(calibration.threshold, calibration.false_positive_rate, calibration.scores)


def _made_with(options: Options, found: Measured) -> bool:
    """Whether a run was made with all of these options, which its row holds in part; of one without a record, the row
    has to do."""
    if not found.record:
        return True
    try:
        asked = format2.options_of_run(found.record)
    except (KeyError, AttentDifferNetError):
        return False
    return dataclasses.replace(asked, **CHOSEN) == dataclasses.replace(options, **CHOSEN)
