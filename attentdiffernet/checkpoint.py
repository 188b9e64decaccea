"""A trained model as a folder: `config.json`, `model.safetensors` and a model card, `README.md`. No pickles.

The backbone's convolutions are not stored but named (`imagenet`, `bundled`...), with a fingerprint that is checked on
loading. Folders are untrusted: what is out of bounds, damaged or unknown is rejected with a clear message.
"""

import dataclasses
import hashlib
import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from . import files, format2
from .card import DataCard, model_card
from .errors import AttentDifferNetError, CheckpointError
from .findings import Calibration, Findings
from .hub import download
from .model_zip import FILES, MOST_TEXT_BYTES, unpack
from .options import Options, check_input, check_scoring_views

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 3  # 2: options and findings in one (format2.py); 3: apart
CHECKSUM = "tensors_sha256"  # of model.safetensors, in config.json; older checkpoints have none
PROBE_BYTES = 8_000_000  # that a folder must take before a training starts
MOST = 1e12  # of any score, threshold or unit
WEIGHTS = ("imagenet", "bundled", "random")  # that any checkpoint may name


@dataclass(frozen=True)
class Checkpoint:
    """All of a detector but its tensors. backbone_fingerprint: of the backbone it was made with."""

    options: Options
    findings: Findings
    calibration: Calibration
    data: DataCard
    backbone_fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        parts = {name: getattr(self, name).to_dict() for name in ("options", "findings", "calibration", "data")}
        return {"format": FORMAT, **parts, "backbone_fingerprint": self.backbone_fingerprint}

    def card(self) -> str:
        """The model card, in Markdown."""
        return model_card(self.options, self.findings, self.calibration, self.data, self.backbone_fingerprint)


# -- writing


def check_folder(folder: str | Path) -> None:
    """Before a training: raises CheckpointError where a folder holds anything but a model, which saving would remove,
    and where nothing can be written."""
    folder = Path(folder)
    _check_content(folder)
    with _writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder.parent) as probe:
            probe.write(bytes(PROBE_BYTES))


def _check_content(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(path.name not in FILES for path in folder.iterdir())):
        raise CheckpointError(f"{folder} holds other files; a model needs a folder of its own")


def write(folder: str | Path, checkpoint: Checkpoint, tensors: "dict[str, Tensor]") -> Path:
    """Writes the checkpoint; an older one there is replaced as a whole, or stays as it was if this fails, which raises
    CheckpointError. Raises AttentDifferNetError for a checkpoint that could not be read back."""
    from safetensors.torch import save_file  # the rest of this module does without torch

    folder = Path(folder)
    _check_content(folder)
    _check(checkpoint, "The model")
    with _writing(folder), files.replace_folder(folder) as new:
        stored = new / "model.safetensors"
        save_file(tensors, stored)
        stored.chmod(0o644)  # safetensors writes for the owner alone
        config = json.dumps(checkpoint.to_dict() | {CHECKSUM: _sha256(stored)}, indent=1, allow_nan=False)
        (new / "config.json").write_text(config + "\n", encoding="utf-8")
        (new / "README.md").write_text(checkpoint.card(), encoding="utf-8")
    return folder


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """What a disk does not take becomes a CheckpointError that names the folder."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CheckpointError(f"The model could not be written to {folder}: {why}") from error


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- reading


@contextmanager
def found(name: str | Path) -> Iterator[Path]:
    """The folder of a model: a local one, that of a zip as long as it is read, or one from the Hugging Face Hub
    (`owner/name`) where neither exists. Raises CheckpointError where there is none."""
    path = Path(name)
    if path.suffix.lower() == ".zip" and path.is_file():
        with tempfile.TemporaryDirectory(prefix="attentdiffernet-") as folder:
            yield unpack(path, Path(folder))
        return
    files.finish_replacement(path)
    yield path if path.is_dir() else download(str(name), FILES)


def read(folder: Path) -> Checkpoint:
    """What `config.json` holds, of this format or of format 2. Raises CheckpointError for a file that is missing,
    damaged, of another format or out of bounds."""
    path = folder / "config.json"
    config = _read_json(path)
    with _errors_of(path):
        if config["format"] not in (2, FORMAT):
            raise CheckpointError(
                f"{folder} has checkpoint format {config['format']!r}, this version reads 2 and {FORMAT}"
            )
        options, findings = format2.options_and_findings(config)
        calibration = Calibration.from_dict(config["calibration"])
        if options.method == "patchcore":  # which files of before did not say
            calibration = dataclasses.replace(calibration, cross_validated=True)
        found = Checkpoint(
            options, findings, calibration, DataCard.from_dict(config["data"]), config["backbone_fingerprint"]
        )
        _check(found, path)
    return found


def check_weights(folder: Path, options: Options) -> None:
    """Raises CheckpointError where a checkpoint names a file as its weights: from a stranger, it could be any file of
    this machine."""
    if options.weights not in WEIGHTS:
        raise CheckpointError(
            f"{folder} names the weights file {options.weights}. If you trust this model, load it with trusted=True "
            "(command line: --trusted)"
        )


def read_tensors(folder: Path) -> "dict[str, Tensor]":
    from safetensors.torch import load_file  # the rest of this module does without torch

    path = folder / "model.safetensors"
    if not path.is_file():  # a pipe would never end
        raise CheckpointError(f"{folder} is not a model folder: it has no model.safetensors")
    wanted = _read_json(folder / "config.json").get(CHECKSUM)
    try:
        if wanted is not None and _sha256(path) != wanted:
            raise CheckpointError(f"{path} is damaged: its checksum is not the one that config.json states")
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} could not be read: {type(error).__name__}") from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path.parent} is not a model folder: it has no config.json")
    if path.stat().st_size > MOST_TEXT_BYTES:
        raise CheckpointError(f"{path} has {path.stat().st_size / 1e6:.0f} MB, too large for a configuration")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    return config


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Errors of a config.json name the file."""
    try:
        yield
    except (KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path} lacks or misstates {error}") from error
    except CheckpointError:
        raise
    except AttentDifferNetError as error:
        raise CheckpointError(f"{path}: {error}") from error


# -- both


def _check(stored: Checkpoint, where: object) -> None:
    """Raises AttentDifferNetError, which names `where`, for parts that do not fit together and for a calibration out of
    bounds. What is out of bounds in one part alone was refused when that was made."""
    findings, calibration = stored.findings, stored.calibration
    check_input(stored.options.flow, findings.views, findings.resize, findings.readout)
    check_scoring_views(calibration.n_views)
    numbers = [calibration.threshold, calibration.false_positive_rate, *calibration.scores]
    numbers += [*calibration.map_references.values(), *calibration.settling.values(), calibration.confidence]
    numbers += calibration.early_ratio.values()
    if not calibration.scores or not all(math.isfinite(x) and abs(x) <= MOST for x in numbers):
        raise CheckpointError(f"{where} has a calibration without finite numbers")
    if not 0 < calibration.false_positive_rate <= 1 or not 0 <= calibration.confidence <= 1:
        raise CheckpointError(f"{where} has a calibration with a rate outside 0..1")
    if min([1.0, *calibration.map_references.values()]) <= 0:
        raise CheckpointError(f"{where} has a calibration with a unit of maps that is not above 0")
    possible = {str(n) for n in range(1, calibration.n_views)}
    early, settling = calibration.early_ratio, calibration.settling
    sound = set(early) <= possible and set(settling) <= possible and min([1.0, *settling.values()]) >= 1
    if not sound or min([1.0, *early.values()]) <= 0:
        raise CheckpointError(f"{where} has a calibration with impossible values for early scores")
