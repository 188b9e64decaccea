"""A detector of one's own: what it promises, how it judges photographs, and how it is taken away and brought back."""

import io
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from attentdiffernet import checkpoint
from attentdiffernet.detector import Detector
from attentdiffernet.errors import CheckpointError
from attentdiffernet.findings import Calibration
from attentdiffernet.methods import load
from attentdiffernet.options import BACKBONES
from attentdiffernet.study.statistics import false_alarm_interval

from .. import catalogue
from ..downloads import safe_stem
from ..private import check_room

FILES = ("config.json", "model.safetensors", "README.md")  # of a checkpoint
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
    stream = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        written = detector.save(Path(folder) / "model")
        for name in FILES:
            archive.write(written / name, name)
    return stream.getvalue()


def unpacked(file: Path, folder: Path) -> Detector:
    """The detector in a zip of `packed`. Only its three files are read, wherever they lie in the archive.

    Raises CheckpointError for anything else, and for a model that names files or networks that a stranger must not
    choose.
    """
    target = folder / "model"
    target.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {}
            for name in FILES:
                (entries[name],) = [one for one in archive.infolist() if Path(one.filename).name == name]
            check_room(sum(entry.file_size for entry in entries.values()))
            for name, entry in entries.items():
                if entry.file_size > MAX_MODEL_BYTES:
                    raise CheckpointError(f"{name} has {entry.file_size / 1e6:.0f} MB; the limit is 100 MB")
                with archive.open(entry) as stream:
                    (target / name).write_bytes(stream.read(MAX_MODEL_BYTES))
    except (ValueError, zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        wanted = ", ".join(FILES)
        raise CheckpointError(f"{file.name} is no model of this page: a model is a zip with {wanted}") from error
    options = checkpoint.read(target).options
    if options.weights not in WEIGHTS or options.backbone not in BACKBONES.values():
        raise CheckpointError(
            f"{file.name} names the backbone {options.backbone} with the weights {options.weights}; this page has "
            f"{' and '.join(BACKBONES.values())} with {' or '.join(WEIGHTS)}"
        )
    return load(target)
