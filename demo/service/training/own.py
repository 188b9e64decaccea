"""A detector of one's own: what it promises, how it judges photographs, and how it is taken away and brought back."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from attentdiffernet import checkpoint, model_zip
from attentdiffernet.detector import Detector
from attentdiffernet.errors import CheckpointError
from attentdiffernet.findings import Calibration
from attentdiffernet.methods import load
from attentdiffernet.options import BACKBONES
from attentdiffernet.study.statistics import false_alarm_interval

from .. import catalogue
from ..naming import safe_stem
from ..private import check_room

MAX_MODEL_BYTES = 100_000_000
WEIGHTS = ("imagenet", "bundled")  # that a stranger's model may name: no file of this machine


@dataclass(frozen=True)
class Promise:
    """The share of new good parts that a threshold flags. expected: on average over sets like this. low, high: where it
    lies for this set, in 95 of 100 cases."""

    expected: float
    low: float
    high: float
    n_images: int


def promise(calibration: Calibration) -> Promise:
    n, rate = len(calibration.scores), calibration.false_positive_rate
    return Promise(rate, *false_alarm_interval(n, rate), n)


def info(detector: Detector) -> catalogue.CategoryInfo:
    """As of a shipped category, for a `Comparison`."""
    name = detector.data.category
    return catalogue.CategoryInfo(f"own/{name}", name, "Your own photographs", "Your own photographs", "", ())


def file_stem(detector: Detector) -> str:
    """Begins the names of files about it."""
    return f"{safe_stem(detector.data.category)}-{detector.key}"


def packed(detector: Detector) -> bytes:
    """Its checkpoint as one zip."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.zip"
        model_zip.pack(detector.save(Path(folder) / "model"), file)
        return file.read_bytes()


def unpacked(file: Path, folder: Path) -> Detector:
    """The detector in a zip of `packed`.

    Raises CheckpointError for anything else, and for a model that names files or networks that a stranger must not
    choose.
    """
    target = model_zip.unpack(file, folder / "model", MAX_MODEL_BYTES, check_room)
    options = checkpoint.read(target).options
    if options.weights not in WEIGHTS or options.backbone not in BACKBONES.values():
        raise CheckpointError(
            f"{file.name} names the backbone {options.backbone} with the weights {options.weights}; this page has "
            f"{' and '.join(BACKBONES.values())} with {' or '.join(WEIGHTS)}"
        )
    return load(target)
