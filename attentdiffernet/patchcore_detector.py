"""PatchCore as a detector: a bank of normal places, one score per image, and the map that the score is read from."""

import copy
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from . import patchcore
from .card import DataCard
from .checkpoint import Checkpoint, read_tensors
from .detector import Arithmetic, Detector, FitContext, NearestNormal
from .devices import to_device
from .errors import CheckpointError, DatasetError, ImageError, WeightsError
from .features import ON_CPU, ON_GPU, ahead
from .findings import Calibration, Findings
from .input_choice import choose_exposure
from .model import Precision
from .networks import FeatureMaps, load_network
from .options import Options, Readout
from .patchcore import Fitted, PatchBank, PatchCore, anomaly_maps
from .patchcore_attention import AttendedMaps, attend
from .scoring import RunningScore
from .sources import ImageSource, digest_of, pixels_of
from .stages import Progress, no_progress
from .study.statistics import conformal_threshold
from .views import standardise_exposure, to_tensor
from .words import attention_choices, bank_choices, training_note, variant_title

LEAST_SIDE = 160  # px of the network input, where the image's aspect is kept
EXPOSURES = 64  # training images, at most, whose exposure is compared
REFERENCE_IMAGES = 32  # training images, at most, whose maps set the unit of the colour scale
REFERENCE_QUANTILE = 0.99
MAP = "distance"
ATTENTION_PREFIX = "attention."


@dataclass(frozen=True)
class _Look:
    """What one look at an image found: its score and all that a map or a nearest place is read from.

    digest: of the image. shape: (height, width) of the network's input, px. distance, entry: (1, h, w), as of `Places`.
    """

    digest: bytes
    shape: tuple[int, int]
    score: float
    distance: Tensor
    entry: Tensor


class PatchCoreDetector(Detector):
    """model: the network and the bank, on the device where the detector runs."""

    _last: _Look | None = None  # score, map and nearest place of one image are mostly asked for one after another

    def __init__(
        self, model: PatchCore, options: Options, findings: Findings, calibration: Calibration, data: DataCard
    ) -> None:
        self.model, self.options, self.findings = model, options, findings
        self.calibration, self.data = calibration, data

    # -- fitting

    @classmethod
    def choose(
        cls,
        images: Sequence[ImageSource],
        options: Options,
        cache: Path | None = None,
        progress: Progress = no_progress,
        device: torch.device | str = "cpu",
    ) -> Findings:
        """Exposure by the rule that holds for DifferNet, from some of the images; the rest is fixed, and was chosen on
        synthetic defects (benchmarks/patchcore.py). cache, device: not used."""
        rng = torch.Generator().manual_seed(options.data_seed)
        some = [images[i] for i in sorted(torch.randperm(len(images), generator=rng)[:EXPOSURES].tolist())]
        exposure, varies = choose_exposure(some, options)
        resize, readout = options.resize or "squeeze", options.readout or "mean_of_highest"
        return Findings("none", resize, exposure, readout, training_views=1, scoring_views=1, exposure_varies=varies)

    @classmethod
    def fit(cls, images: Sequence[ImageSource], options: Options, run: FitContext) -> Self:
        if len(images) < 2:
            raise DatasetError(f"PatchCore needs 2 normal images or more, got {len(images)}")
        findings = run.findings or cls.choose(images, options)
        network, sizes = _network(options).to(run.device), options.patchcore
        if not run.calibrated and options.variant != "places":
            sizes = dataclasses.replace(sizes, n_calibrated=0)
        inputs = _Inputs(images, options, findings)
        as_photographed = _Inputs(images, options, dataclasses.replace(findings, exposure="as_is"))
        expose = standardise_exposure if findings.exposure == "standardised" else _as_it_is
        gates = attend(network, as_photographed, expose, options, findings.readout, run.progress)
        findings = dataclasses.replace(findings, gates_kept=gates.kept, gates_judged=gates.aurocs)
        weigh_places = options.variant == "places" and gates.kept
        fitted = patchcore.fit(gates.maps, inputs, sizes, findings.readout, options.seed, run.progress, weigh_places)
        model = PatchCore(gates.maps, fitted.bank, findings.readout, sizes.highest)
        calibration = _calibration(fitted, network, options) if run.calibrated else Calibration.none()
        detector = cls(model, options, findings, calibration, dataclasses.replace(run.data, n_fitted=len(images)))
        detector.left_out = (
            dict(zip(fitted.image.tolist(), fitted.score.tolist(), strict=True)) if run.calibrated else {}
        )
        return detector

    # -- inspecting

    def scores(
        self, images: Iterable[ImageSource], n_views: int, until_settled: bool, cache: Path | None
    ) -> Iterator[RunningScore | ImageError]:
        def read(source: ImageSource) -> tuple[bytes, Tensor] | ImageError:
            try:
                image = pixels_of(source)
                return digest_of(image), self._prepared(image)
            except ImageError as error:
                return error

        for image in ahead(read, images, ON_CPU if self._device.type == "cpu" else ON_GPU):
            if isinstance(image, ImageError):
                yield image
            else:
                yield RunningScore(self._looked_at(*image).score, 1, math.nan)

    @property
    def maps(self) -> tuple[str, ...]:
        return (MAP,)

    def raw_map(self, image: np.ndarray, method: str) -> np.ndarray:
        self.check_map(method)
        look = self._look(image)
        return anomaly_maps(look.distance, look.shape)[0].cpu().numpy()

    def nearest_normal(self, image: np.ndarray) -> NearestNormal:
        """As of `Detector`."""
        look, bank = self._look(image), self.model.bank
        _, height, width = look.distance.shape
        where = int(look.distance.argmax())
        entry = int(look.entry.flatten()[where])
        y, x = patchcore.centres(height, width)[where].tolist()
        normal_y, normal_x = bank.position[entry].tolist()
        distance = float(look.distance.flatten()[where])
        return NearestNormal((y, x), int(bank.image[entry]), (normal_y, normal_x), distance)

    def what_it_shows(self, method: str) -> str:
        is_weighed = self.model.bank.place_weight is not None
        weighed = ", weighed by how usual such distances are there" * is_weighed
        far = f"how far each place is from all places of normal images{weighed}"
        why = ""
        if self.options.variant == "places" and not is_weighed:
            judged = bool(self.findings.gates_judged)
            why = " " + training_note("places", self.options.attention, gates_kept=False, gates_judged=judged)
        return f"Distance: {far}; the score is read from the highest.{why}"

    def compute_in(self, precision: Arithmetic) -> Precision:
        return "float32"

    def with_readout(self, readout: Readout) -> Self:
        other = copy.copy(self)
        other.model = PatchCore(self._maps, self.model.bank, readout, self.model.highest)
        other.findings = dataclasses.replace(self.findings, readout=readout)
        other._last = None
        return other

    @property
    def _maps(self) -> AttendedMaps:
        assert isinstance(self.model.network, AttendedMaps)
        return self.model.network

    @property
    def _device(self) -> torch.device:
        return self.model.bank.vector.device

    def _prepared(self, image: np.ndarray) -> Tensor:
        return prepare(image, self.options, self.findings)

    def _look(self, image: np.ndarray) -> _Look:
        digest, last = digest_of(image), self._last
        return last if last and last.digest == digest else self._looked_at(digest, self._prepared(image))

    def _looked_at(self, digest: bytes, prepared: Tensor) -> _Look:
        places = self.model(to_device(prepared[None], self._device))
        height, width = prepared.shape[1:]
        score = float(self.model.score(places))
        self._last = look = _Look(digest, (height, width), score, places.distance, places.entry)
        return look  # not self._last, which another thread may have set meanwhile

    # -- storing and words

    @property
    def title(self) -> str:
        return variant_title(self.options.key)

    @property
    def choices(self) -> str:
        bank = bank_choices(self.options, self.findings.readout, len(self.model.bank.vector))
        if self.options.variant == "none":
            return bank
        return f"{attention_choices(self.options, self.findings.gates_kept, self.findings.gates_judged)}; {bank}"

    @property
    def backbone_fingerprint(self) -> str:
        return self._maps.network.fingerprint

    @property
    def fingerprint(self) -> str:
        decides = [self.backbone_fingerprint, self.options.image_size, self.options.patchcore.to_dict()]
        decides += [self.findings.resize, self.findings.exposure, self.findings.readout]
        decides += [self.findings.value_range] * (self.findings.value_range is not None)
        digest = hashlib.sha256(json.dumps(decides).encode())
        for key, tensor in sorted(self.tensors().items()):
            digest.update(key.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def tensors(self) -> dict[str, Tensor]:
        """Of the bank, and of the attention blocks as `attention.0.…`, one for each level."""
        blocks = {ATTENTION_PREFIX + name: tensor for name, tensor in self._maps.blocks.state_dict().items()}
        return {name: tensor.cpu().contiguous() for name, tensor in (self.model.bank.state_dict() | blocks).items()}

    @classmethod
    def from_checkpoint(
        cls,
        folder: Path,
        stored: Checkpoint,
        load_weights: Callable[[str], dict[str, Tensor]] | None,
        device: torch.device,
    ) -> Self:
        """load_weights: of AlexNet; not used here."""
        options, findings = stored.options, stored.findings
        network = _network(options)
        if network.fingerprint != stored.backbone_fingerprint:
            raise WeightsError(
                f"{folder} was made with a backbone of fingerprint {stored.backbone_fingerprint}; "
                f"{options.backbone} with the weights {options.weights!r} here has {network.fingerprint}"
            )
        tensors, origin = read_tensors(folder), str(folder / "model.safetensors")
        maps = AttendedMaps(network, options.variant, options.attention)
        of_bank = {k: v for k, v in tensors.items() if not k.startswith(ATTENTION_PREFIX)}
        weighs_places = options.variant == "places" and findings.gates_kept
        bank = _bank(of_bank, network, options, origin, weighs_places)
        _load_blocks(maps.blocks, tensors, origin)
        model = PatchCore(maps, bank, findings.readout, options.patchcore.highest).to(device)
        return cls(model, options, findings, stored.calibration, stored.data)


# -- input


def prepare(image: np.ndarray, options: Options, findings: Findings) -> Tensor:
    """An image (H, W, 3) uint8 as the network takes it: (3, h, w) in [0, 1] unless its exposure is standardised."""
    least_side = LEAST_SIDE if findings.resize == "keep_aspect" else None
    resized = to_tensor(image, options.image_size, least_side)
    return standardise_exposure(resized) if findings.exposure == "standardised" else resized


@dataclass(frozen=True)
class _Inputs:
    """The training images by number, each read when it is asked for."""

    sources: Sequence[ImageSource]
    options: Options
    findings: Findings

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, i: int) -> Tensor:
        return prepare(pixels_of(self.sources[i]), self.options, self.findings)


# -- parts


def _network(options: Options) -> FeatureMaps:
    return load_network(options.backbone, options.patchcore.strides, options.weights)


def _calibration(fitted: Fitted, network: FeatureMaps, options: Options) -> Calibration:
    """What training images, scored by cross-validation, say about new normal images."""
    threshold, rate = conformal_threshold(fitted.score, options.false_positive_rate)
    stride = network.strides[0]
    maps = [
        anomaly_maps(distance[None], (distance.shape[0] * stride, distance.shape[1] * stride)).flatten()
        for distance in fitted.distance[:REFERENCE_IMAGES]
    ]
    reference = float(np.quantile(torch.cat(maps).numpy(), REFERENCE_QUANTILE)) or 1.0
    scores = tuple(sorted(fitted.score.tolist()))
    return Calibration(threshold, 1, rate, scores, {MAP: reference}, cross_validated=True)


def _as_it_is(image: Tensor) -> Tensor:
    return image


def _load_blocks(blocks: nn.Module, tensors: dict[str, Tensor], origin: str) -> None:
    """Raises CheckpointError for gates that are missing, too many, of other shapes or types, or not finite."""
    stored = {k.removeprefix(ATTENTION_PREFIX): v for k, v in tensors.items() if k.startswith(ATTENTION_PREFIX)}
    if _kinds(stored) != _kinds(blocks.state_dict()):
        raise CheckpointError(f"{origin} holds no attention blocks of this model: it has {sorted(stored)}")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in stored.values()):
        raise CheckpointError(f"{origin} holds values that are not finite")
    blocks.load_state_dict(stored)


def _kinds(tensors: dict[str, Tensor]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of each."""
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def _bank(
    tensors: dict[str, Tensor], network: FeatureMaps, options: Options, origin: str, weighs_places: bool
) -> PatchBank:
    """The stored bank. Raises CheckpointError for tensors that are missing, of other shapes or types, or not finite."""
    n, channels = len(tensors.get("vector", ())), sum(network.channels)
    side = channels if options.patchcore.whitening else 0
    shapes = {
        "vector": (n, channels),
        "image": (n,),
        "position": (n, 2),
        "mean": (channels,),
        "whitening": (side, side),
    }
    if weighs_places:
        weight = tensors.get("place_weight", torch.empty(0))
        grid = weight.ndim == 2 and 1 <= weight.numel() <= options.image_size**2 and bool((weight > 0).all())
        shapes["place_weight"] = tuple(weight.shape) if grid else ()
    types = dict.fromkeys(shapes, torch.float32) | {"vector": torch.float16, "image": torch.int32}
    found = _kinds(tensors)
    if found != {name: (shapes[name], types[name]) for name in shapes} or not 1 <= n <= options.patchcore.bank_size:
        raise CheckpointError(f"{origin} holds no bank of {options.backbone}: it has {found}")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise CheckpointError(f"{origin} holds values that are not finite")
    return PatchBank(**tensors)
