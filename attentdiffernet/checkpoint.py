"""A trained model as a folder: `config.json`, `model.safetensors` and a model card, `README.md`. No pickles.

The backbone's convolutions are not stored but named (`imagenet`, `bundled`...), with a fingerprint checked on loading.
Flow and attention are stored in half precision; a detector is rounded to it before its threshold is set, so a reloaded
one gives the same scores.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import files
from .config import Config, ModelConfig, ScoringConfig, TrainingConfig
from .devices import find_device
from .errors import AttentDifferNetError, CheckpointError, WeightsError
from .features import FEATURES_VERSION
from .model import AttentDifferNet
from .words import READOUTS, VARIANT_TITLES

FORMAT = 2  # 2: whitening, kinds of views, readouts
FILES = ("config.json", "model.safetensors", "README.md")
MAX_CONFIG_BYTES = 5_000_000
MAX_PARAMETERS = 400_000_000  # a stranger's config.json must not make a model that fills the memory


@dataclass(frozen=True)
class DataCard(Config):
    """What a model was trained on. n_fitted: images the flow has seen; the held-out ones come on top."""

    dataset: str
    category: str
    n_fitted: int = 0
    description: str = ""
    licence: str = ""
    source: str = ""


@dataclass(frozen=True)
class Calibration(Config):
    """What held-out training normals say about a model.

    threshold: an image is anomalous above it. n_views: of the scores it was set on. false_positive_rate: the share of
    normal images above it that is guaranteed in expectation. scores: of the held-out normals, ascending.
    map_references: per method, the 99th percentile of map values over held-out normals, the unit of colour scales.
    early_ratio: for a smaller number of views, the median over held-out normals of the score after so many over the
        final one: an average of fewer views lies farther out.
    settling: for the same numbers, the factor by which the score of a new normal image, divided by that median, may
        still lie above or below its final one, with `confidence`. Empty, as `early_ratio`, where too few are held out
        to say so, or scores have no ratio (`likelihood`).
    """

    threshold: float
    n_views: int
    false_positive_rate: float
    scores: tuple[float, ...]
    map_references: dict[str, float]
    early_ratio: dict[str, float] = field(default_factory=dict)
    settling: dict[str, float] = field(default_factory=dict)
    confidence: float = 0.0

    def expected(self, score: float, n_views: int) -> float:
        """The final score to be expected of an image that has this score after n_views."""
        return score / self.early_ratio.get(str(n_views), 1.0)

    def settled(self, score: float, n_views: int) -> bool:
        """Whether more views would not change the verdict of an image that has this score after n_views, at
        `confidence`.

        Beyond `n_views` of the calibration, the factor of half of them is scaled as the noise of a mean is.
        """
        if not self.settling:
            return n_views >= self.n_views
        if n_views < self.n_views:
            factor = self.settling.get(str(n_views), math.inf)
        else:
            half = max(map(int, self.settling))
            factor = self.settling[str(half)] ** math.sqrt(half / n_views)
        return not self.threshold / factor <= self.expected(score, n_views) <= self.threshold * factor


@dataclass(frozen=True)
class Detector:
    """A model with all that its verdicts need."""

    model: AttentDifferNet
    training: TrainingConfig
    scoring: ScoringConfig
    calibration: Calibration
    data: DataCard

    @property
    def variant(self) -> str:
        return self.model.config.attention.kind

    @property
    def title(self) -> str:
        return VARIANT_TITLES[self.variant]

    def map_reference(self, method: str) -> float:
        """The unit of this model's maps of a method. Raises CheckpointError where it was calibrated without it."""
        if method not in self.calibration.map_references:
            raise CheckpointError(
                f"This model was calibrated without {method} maps (it has {', '.join(self.calibration.map_references)})"
            )
        return self.calibration.map_references[method]

    def is_anomalous(self, score: float) -> bool:
        return score > self.calibration.threshold

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over all that makes a score of an image: tells models apart."""
        model = self.model
        digest = hashlib.sha256(f"{FEATURES_VERSION} {model.weights_fingerprint}".encode())
        digest.update(json.dumps(model.config.to_dict(), sort_keys=True).encode())
        for key, tensor in sorted(_tensors(model).items()):
            digest.update(key.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def as_stored(self) -> "Detector":
        """This detector with the weights that a reloaded checkpoint would have; the model is changed in place."""
        round_as_stored(self.model)
        return self


def round_as_stored(model: AttentDifferNet) -> AttentDifferNet:
    """The model with the weights that a reloaded checkpoint would have, in place and without leaving its device."""
    if model.whitening is not None:
        _load_tensors(model, _tensors(model), "the model")
        return model
    # DifferNet's 172 M parameters, many times in a training: what lies between this and a checkpoint is time alone.
    parts = [model.flow, *model.backbone.attention_blocks().values()]
    stored = [value for part in parts for value in part.state_dict().values() if value.is_floating_point()]
    for value in stored:
        value.copy_(value.half())
    if not bool(torch.stack([value.isfinite().all() for value in stored]).all()):
        raise CheckpointError("the model holds weights that are no numbers")
    return model


def check_folder(folder: Path) -> None:
    """Raises CheckpointError where the folder holds anything that is no checkpoint: asked before hours of training."""
    if folder.exists() and (not folder.is_dir() or any(path.name not in FILES for path in folder.iterdir())):
        raise CheckpointError(f"{folder} holds other files; a model needs a folder of its own")


def save(detector: Detector, folder: str | Path) -> Path:
    """Writes the checkpoint; an older one there is replaced as a whole, or stays as it was if this fails."""
    folder = Path(folder)
    check_folder(folder)
    config = {
        "format": FORMAT,
        "model": detector.model.config.to_dict(),
        "backbone_fingerprint": detector.model.weights_fingerprint,
        "training": detector.training.to_dict(),
        "scoring": detector.scoring.to_dict(),
        "calibration": detector.calibration.to_dict(),
        "data": detector.data.to_dict(),
    }
    with files.replace_folder(folder) as new:
        (new / "config.json").write_text(json.dumps(config, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        save_file(_tensors(detector.model), new / "model.safetensors")
        (new / "model.safetensors").chmod(0o644)  # safetensors writes for the owner alone
        (new / "README.md").write_text(model_card(detector), encoding="utf-8")
    return folder


def load(
    folder: str | Path,
    weights: dict[str, Tensor] | None = None,
    load_weights: Callable[[str], dict[str, Tensor]] | None = None,
    device: str | torch.device = "cpu",
) -> Detector:
    """A detector from a local folder, or from the Hugging Face Hub (`owner/name`) where no such folder exists.

    weights: tensors of the backbone to use instead of those the checkpoint names. device: where the model is to run,
    as of `devices.find_device`. Raises CheckpointError for a folder that is incomplete, damaged or of another version,
    WeightsError for a backbone that is not the one it was made with, AttentDifferNetError for a device that is not
    here.
    """
    device = find_device(device)
    folder = _local_folder(str(folder))
    config = _read_config(folder / "config.json")
    try:
        if config["format"] != FORMAT:
            raise CheckpointError(f"{folder} has checkpoint format {config['format']!r}, this version reads {FORMAT}")
        model_config = ModelConfig.from_dict(config["model"])
        training = TrainingConfig.from_dict(config["training"])
        scoring = ScoringConfig.from_dict(config["scoring"])
        calibration = Calibration.from_dict(config["calibration"])
        data = DataCard.from_dict(config["data"])
        fingerprint = config["backbone_fingerprint"]
        _check(folder, model_config, calibration)
    except (KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{folder / 'config.json'} lacks or misstates {error}") from error
    except CheckpointError:
        raise
    except AttentDifferNetError as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
    if weights is None and load_weights is not None:
        weights = load_weights(model_config.weights)
    model = AttentDifferNet(model_config, weights=weights).eval()
    if model.weights_fingerprint != fingerprint:
        raise WeightsError(
            f"{folder} was made with a backbone of fingerprint {fingerprint}; "
            f"the weights {model_config.weights!r} here have {model.weights_fingerprint}"
        )
    try:
        tensors = load_file(folder / "model.safetensors")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder / 'model.safetensors'} could not be read: {type(error).__name__}") from error
    _load_tensors(model, tensors, str(folder / "model.safetensors"))
    model.requires_grad_(False).to(device)
    return Detector(model, training, scoring, calibration, data)


def push_to_hub(detector: Detector, repository: str, private: bool = True, token: str | None = None) -> str:
    """Uploads the checkpoint to the Hugging Face Hub (`owner/name`) and returns its address."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repository, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        save(detector, Path(folder) / "model")
        return str(api.upload_folder(repo_id=repository, folder_path=Path(folder) / "model"))


def model_card(detector: Detector) -> str:
    """Markdown with the Hub's front matter: what the model is, what it was trained on, how it decides, its limits."""
    config, calibration, data = detector.model.config, detector.calibration, detector.data
    views = "cached" if detector.training.recipe == "fast" else "ever new"
    whitened = "features whitened, " if config.flow.whitening else ""
    front = ["---", "library_name: attentdiffernet", "pipeline_tag: image-classification", "tags:"]
    front += [f"- {tag}" for tag in ("anomaly-detection", "industrial-inspection", "normalizing-flow")] + ["---"]
    lines = [
        *front,
        "",
        f"# {detector.title}: {data.category}",
        "",
        f"Gives one anomaly score per image; trained on normal images of *{data.category}* ({data.dataset}) only.",
        "",
        "| | |",
        "| --- | --- |",
        f"| Data | {data.description or data.dataset} |",
        f"| Source | {data.source or 'not stated'} |",
        f"| Licence of the data | {data.licence or 'not stated'} |",
        f"| Normal images | {data.n_fitted} fitted, {len(calibration.scores)} held out for the threshold |",
        f"| Backbone | AlexNet features, weights `{config.weights}`, frozen, fingerprint "
        f"`{detector.model.weights_fingerprint}` |",
        f"| Attention | {config.attention.choices} |",
        f"| Flow | {whitened}{config.flow.n_blocks} coupling blocks, {config.flow.hidden_layers} hidden layers of "
        f"{config.flow.hidden_width}, stored in half precision |",
        f"| Training | {detector.training.epochs} epochs, fixed in advance, on {detector.training.views_per_image} "
        f"{views} views per image, seed {detector.training.seed} |",
        f"| Score | {READOUTS[config.readout]}; {calibration.n_views} views ({config.input_title}); "
        "higher = more anomalous, no probability |",
        f"| Threshold | {calibration.threshold:.6g}, flags at most "
        f"{calibration.false_positive_rate:.1%} of normal images on average |",
        "",
        config.attention.training_note,
        "",
        "Placement, reduction and training of the attention blocks are choices of this reproduction: the authors of",
        "AttentDifferNet (e Silva et al., WACV 2024) published no code. The score says nothing about parts of another",
        "kind, another camera or another light than the training images show.",
    ]
    return "\n".join(lines) + "\n"


def _check(folder: Path, config: ModelConfig, calibration: Calibration) -> None:
    flow, n_features = config.flow, 256 * config.n_scales
    per_subnet = flow.hidden_width * (1.5 * n_features + (flow.hidden_layers - 1) * flow.hidden_width)
    if 2 * flow.n_blocks * per_subnet > MAX_PARAMETERS:
        raise CheckpointError(f"{folder / 'config.json'} describes a flow out of bounds: {flow}")
    if config.image_size > 1024 or config.n_scales > 4:
        raise CheckpointError(f"{folder / 'config.json'} asks for {config.image_size} px at {config.n_scales} scales")
    ScoringConfig(calibration.n_views)  # raises for a number of views out of bounds
    numbers = [calibration.threshold, calibration.false_positive_rate, *calibration.scores]
    numbers += [*calibration.map_references.values(), *calibration.settling.values(), calibration.confidence]
    numbers += calibration.early_ratio.values()
    if not calibration.scores or not all(math.isfinite(x) for x in numbers):
        raise CheckpointError(f"{folder / 'config.json'} has a calibration without finite numbers")
    possible = {str(n) for n in range(1, calibration.n_views)}
    early, settling = calibration.early_ratio, calibration.settling
    sound = set(early) <= possible and set(settling) <= possible and min([1.0, *settling.values()]) >= 1
    if not sound or min([1.0, *early.values()]) <= 0:
        raise CheckpointError(f"{folder / 'config.json'} has a calibration that misstates when scores settle")


def _tensors(model: AttentDifferNet) -> dict[str, Tensor]:
    """What is stored, on the CPU: attention blocks and flow, floats in half precision, permutations as 16-bit
    integers."""
    state = {f"flow.{key}": value for key, value in model.flow.state_dict().items()}
    if model.whitening is not None:
        state["whitening.mean"] = model.whitening.mean
        state["whitening.factor"] = model.whitening.factor.cpu()[_triangle(model)]  # what lies above is 0
    for name, block in model.backbone.attention_blocks().items():
        state |= {f"{name}.{key}": value for key, value in block.state_dict().items()}
    return {
        key: value.detach().cpu().to(torch.float16 if value.is_floating_point() else torch.int16).contiguous()
        for key, value in state.items()
    }


def _triangle(model: AttentDifferNet) -> tuple[Tensor, Tensor]:
    rows, columns = torch.tril_indices(model.n_features, model.n_features)
    return rows, columns


def _diagonal(model: AttentDifferNet) -> Tensor:
    """Where the diagonal lies among the entries of `_triangle`."""
    rows, columns = _triangle(model)
    return rows == columns


def _load_tensors(model: AttentDifferNet, tensors: dict[str, Tensor], origin: str) -> None:
    wanted = _tensors(model)
    if missing := sorted(set(wanted) - set(tensors)):
        raise CheckpointError(f"{origin} lacks {missing[0]} and {len(missing) - 1} more tensors of this model")
    if unknown := sorted(set(tensors) - set(wanted)):
        raise CheckpointError(f"{origin} holds {unknown[0]}, which this model does not have")
    for key, tensor in tensors.items():
        if tensor.shape != wanted[key].shape:
            raise CheckpointError(f"{origin}: {key} has shape {tuple(tensor.shape)}, not {tuple(wanted[key].shape)}")
        if tensor.dtype != wanted[key].dtype:
            raise CheckpointError(f"{origin}: {key} has type {tensor.dtype}, not {wanted[key].dtype}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{origin}: {key} holds values that are no numbers")
        if not tensor.is_floating_point() and not tensor.sort().values.equal(wanted[key].sort().values):
            raise CheckpointError(f"{origin}: {key} is no permutation")
    if model.whitening is not None:
        if not bool((tensors["whitening.factor"][_diagonal(model)] > 0).all()):
            raise CheckpointError(f"{origin}: whitening.factor is no inverse of a Cholesky factor")
        model.whitening.mean.copy_(tensors["whitening.mean"])
        model.whitening.factor.zero_()[_triangle(model)] = tensors["whitening.factor"].to(model.whitening.factor)
    flow = {key.removeprefix("flow."): value for key, value in tensors.items() if key.startswith("flow.")}
    model.flow.load_state_dict(flow)
    for name, block in model.backbone.attention_blocks().items():
        prefix = f"{name}."
        block.load_state_dict({key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)})


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path.parent} is no model folder: it has no config.json")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise CheckpointError(f"{path} has {path.stat().st_size / 1e6:.0f} MB, too large for a configuration")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return config


def _local_folder(name: str) -> Path:
    path = Path(name)
    files.finish_replacement(path)
    if path.is_dir():
        return path
    missing = f"There is no model folder {name}"
    if path.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(missing)
    if path.parent.is_dir():
        raise CheckpointError(f"{missing}; the Hugging Face Hub is not asked, for there is a folder {path.parent} here")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointError(f"{missing} here, and no model of that name on the Hugging Face Hub") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{missing} here, and the Hugging Face Hub could not be asked for one ({type(error).__name__})"
        ) from error
