"""What every detector can do, whatever its method: inspect images, show where they look anomalous, be saved."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from copy import copy
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Literal, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import checkpoint
from .card import DataCard
from .checkpoint import Checkpoint
from .errors import AttentDifferNetError, CheckpointError, ImageError
from .explain import drawn_over
from .findings import Calibration, Findings
from .hub import upload
from .images import read_image
from .model import AttentDifferNet, Precision
from .options import Options, Readout, check_scoring_views
from .scoring import MAX_VIEWS, RunningScore
from .sources import Images, ImageSource, each_source, name_of, pixels_of, ranged
from .stages import Progress, logged, no_progress
from .study.localisation import brought_to
from .study.statistics import percentile_among

Arithmetic = Literal["float32", "bfloat16", "auto"]
Look = Callable[[AttentDifferNet, int], None]
"""Called with the model and the number of epochs it has been fitted for; may look, and must change nothing."""


def no_look(model: AttentDifferNet, epoch: int) -> None:
    """The default: does nothing."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a detector says about one image.

    name: its path as given. score: higher is more anomalous; not a probability. percentile: share of held-out normals
    that score lower, in percent. standard_error: of the score, from the choice of views; nan after one view. error: why
    the image could not be read; empty otherwise. The other numbers are then nan or 0.
    """

    name: str
    score: float
    threshold: float
    percentile: float
    standard_error: float
    n_views: int
    error: str = ""
    _detector: "Detector | None" = field(default=None, repr=False)
    _source: ImageSource | None = field(default=None, repr=False)
    _raw: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def anomalous(self) -> bool | None:
        """None where the image could not be read."""
        return None if self.error else self.score > self.threshold

    def map(self, method: str | None = None) -> np.ndarray:
        """Where the detector looks: (H, W) float32 of the image's own size, ≥ 0, computed when asked for. Without
        a method, the first map that the detector has.

        In units of the 99th percentile of the same map over held-out normals: values above 1 are unusual. Raises
        AttentDifferNetError for a map that the detector does not have (`Detector.maps`).
        """
        pixels, raw, reference, _ = self._mapped(method)
        return brought_to(raw / np.float32(reference), (pixels.shape[0], pixels.shape[1]))

    def overlay(self, method: str | None = None) -> Image.Image:
        """The photograph with the map on it. Places below the 99th percentile of held-out normals stay uncoloured."""
        return drawn_over(*self._mapped(method))

    def _mapped(self, method: str | None) -> tuple[np.ndarray, np.ndarray, float, str]:
        """(image (H, W, 3), raw map (h, w), its unit, its name)."""
        if self._detector is None or self._source is None:
            raise ImageError(self.error or f"The image {self.name} is not at hand any more")
        method = method or self._detector.maps[0]
        pixels = pixels_of(self._source)
        if method not in self._raw:
            self._raw[method] = self._detector.raw_map(pixels, method)
        return pixels, self._raw[method], self._detector.map_reference(method), method


@dataclass(frozen=True)
class NearestNormal:
    """The place of an image that is farthest from all normal places, and the normal place nearest to it.

    position, normal_position: centres (y, x) as shares of height and width. image: number of the training image, from
    0, in their order.
    """

    position: tuple[float, float]
    image: int
    normal_position: tuple[float, float]
    distance: float

    def __str__(self) -> str:
        return (
            f"The place farthest from all normal ones is {_place(self.position)} (distance {self.distance:.3g}). It "
            f"looks most like the place {_place(self.normal_position)} of training image {self.image + 1}."
        )


def _place(position: tuple[float, float]) -> str:
    """`at 25 % of the width and 60 % of the height`"""
    y, x = position
    return f"at {100 * x:.0f} % of the width and {100 * y:.0f} % of the height"


@dataclass(frozen=True)
class FitContext:
    """How and where a detector is fitted, which changes nothing of what was asked; fields as of `methods.fit`."""

    findings: Findings | None
    data: DataCard
    cache: Path | None
    progress: Progress
    after_epoch: Look
    calibrated: bool
    device: torch.device


class Detector(ABC):
    """A fitted detector. A method implements `fit`, `from_checkpoint`, `scores`, `raw_map` and what is stored.

    options: what was asked. findings: what the training normals answered. calibration: the threshold and what else
    held-out normals say. data: what it was trained on.
    """

    options: Options
    findings: Findings
    calibration: Calibration
    data: DataCard
    left_out: Mapping[int, float] = MappingProxyType({})
    """After `fit` of a method that scores training images by cross-validation: theirs, by number. Not stored."""

    # -- what a method implements

    @classmethod
    @abstractmethod
    def choose(
        cls,
        images: Sequence[ImageSource],
        options: Options,
        cache: Path | None = None,
        progress: Progress = no_progress,
        device: torch.device | str = "cpu",
    ) -> Findings:
        """What suits a category, from its training normals; what the options give stays as it is. Deterministic in
        the seeds. Raises DatasetError for too few images and ImageError for one that cannot be read."""

    @classmethod
    @abstractmethod
    def fit(cls, images: Sequence[ImageSource], options: Options, run: FitContext) -> Self:
        """As `methods.fit`, after the images are listed."""

    @classmethod
    @abstractmethod
    def from_checkpoint(
        cls,
        folder: Path,
        stored: Checkpoint,
        load_weights: Callable[[str], dict[str, Tensor]] | None,
        device: torch.device,
    ) -> Self:
        """As `methods.load`, of what `config.json` in that folder holds."""

    @abstractmethod
    def scores(
        self, images: Iterable[ImageSource], n_views: int, until_settled: bool, cache: Path | None
    ) -> Iterator[RunningScore | ImageError]:
        """As `inspect_all`: one score per image, or why it cannot be read, in order."""

    @abstractmethod
    def raw_map(self, image: np.ndarray, method: str) -> np.ndarray:
        """A map of an image (H, W, 3) uint8 at its own resolution, covering the whole image: (h, w) float32, ≥ 0.
        Raises AttentDifferNetError for a map that the detector does not have."""

    @abstractmethod
    def what_it_shows(self, method: str) -> str:
        """One sentence about a map, with the caveat that is needed to read it."""

    @abstractmethod
    def with_readout(self, readout: Readout) -> Self:
        """The same detector with another way to compute scores; its threshold does not apply to them."""

    @abstractmethod
    def compute_in(self, precision: Arithmetic) -> Precision:
        """Sets the precision of the backbone from now on and returns it; `auto` takes bfloat16 where it is faster on
        this machine. Nothing of it is stored."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What is stored beside the configuration."""

    @property
    @abstractmethod
    def maps(self) -> tuple[str, ...]:
        """The names of the maps it has."""

    @property
    @abstractmethod
    def title(self) -> str: ...

    @property
    @abstractmethod
    def choices(self) -> str:
        """What was chosen that the papers leave open, in a few words; shown with every map and result."""

    @property
    @abstractmethod
    def backbone_fingerprint(self) -> str: ...

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """16 hexadecimal digits over all that decides the score of an image: tells models apart."""

    def nearest_normal(self, image: np.ndarray) -> NearestNormal | None:
        """What the farthest place of an image (H, W, 3) uint8 looks like most among normal places; None of a method
        that keeps no normal places."""
        return None

    # -- what all methods share

    @property
    def variant(self) -> str:
        return self.options.variant

    @property
    def key(self) -> str:
        """As of `Options`."""
        return self.options.key

    def read(self, file: str | Path | BinaryIO, name: str | None = None) -> np.ndarray:
        """The pixels (H, W, 3) uint8 of a file as this detector sees it: `images.read_image` with its range of grey
        values."""
        return read_image(file, name, self.findings.value_range)

    def inspect(
        self, image: ImageSource | BinaryIO, n_views: int | None = None, until_settled: bool = False
    ) -> Verdict:
        """The verdict on one image: a path, an open file or an array (H, W, 3) uint8. Options as of `inspect_all`.
        Raises ImageError for one that cannot be read."""
        source = image if isinstance(image, str | Path | np.ndarray) else self.read(image)
        (verdict,) = self.inspect_all([source], n_views, until_settled)
        if verdict.error:
            raise ImageError(verdict.error)
        return verdict

    def inspect_all(
        self,
        images: Images,
        n_views: int | None = None,
        until_settled: bool = False,
        cache: Path | None = None,
        progress: Progress = no_progress,
    ) -> Iterator[Verdict]:
        """One verdict per image, in order, as they are ready; memory stays that of a few images. An image that cannot
        be read gives a verdict with an `error`.

        n_views: other than the threshold was set for, which then fits less well. until_settled: take only as many views
        as each verdict needs, n_views at most (default: `usual_views`); after fewer than usual, `score` is the final
        score to be expected. cache: folder of features to reuse and to add to.
        """
        total = len(images) if isinstance(images, Sized) and not isinstance(images, str) else 0
        sources, again = tee(ranged(source, self.findings.value_range) for source in each_source(images))
        wanted = self.usual_views(until_settled) if n_views is None else check_scoring_views(n_views)
        scores = self.scores(again, wanted, until_settled, cache)
        with logged(f"inspect by {self.key}", progress, "scoring") as told:
            for done, (source, score) in enumerate(zip(sources, scores, strict=True), 1):
                yield self._verdict(source, done, score)
                told("scoring", done, total or done)

    def usual_views(self, until_settled: bool = False) -> int:
        """Views of an image where no number is asked for: as many as the threshold was set for. until_settled: the most
        that a verdict may take, which are 64, or more if the threshold was set for more."""
        calibrated = self.calibration.n_views
        return max(MAX_VIEWS, calibrated) if until_settled else calibrated

    def _verdict(self, source: ImageSource, number: int, score: RunningScore | ImageError) -> Verdict:
        name, threshold = name_of(source, number), self.calibration.threshold
        if isinstance(score, ImageError):
            nan = float("nan")
            return Verdict(name, nan, threshold, nan, nan, 0, str(score))
        held_out = self.calibration.scores  # none of a detector that was fitted to be scored and thrown away
        percentile = percentile_among(held_out, score.value) if held_out else float("nan")
        return Verdict(name, score.value, threshold, percentile, score.standard_error, score.n_views, "", self, source)

    def with_calibration(self, calibration: Calibration) -> Self:
        """The same detector with another threshold, such as `calibration.for_rate(0.02)`."""
        other = copy(self)
        other.calibration = calibration
        return other

    def is_anomalous(self, score: float) -> bool:
        return score > self.calibration.threshold

    def map_reference(self, method: str) -> float:
        """The unit of this detector's maps of a method: their 99th percentile over held-out normals. Raises
        AttentDifferNetError for a map that it does not have."""
        self.check_map(method)
        if method not in self.calibration.map_references:
            raise CheckpointError(
                f"This model was calibrated without {method} maps (it has {', '.join(self.calibration.map_references)})"
            )
        return self.calibration.map_references[method]

    def check_map(self, method: str) -> None:
        """Raises AttentDifferNetError for a map that the detector does not have."""
        if method not in self.maps:
            raise AttentDifferNetError(f"{self.title} has no {method} map; it has {', '.join(self.maps)}")

    def stored(self) -> Checkpoint:
        return Checkpoint(self.options, self.findings, self.calibration, self.data, self.backbone_fingerprint)

    def card(self) -> str:
        """The model card, in Markdown."""
        return self.stored().card()

    def save(self, folder: str | Path) -> Path:
        """Writes the detector into a folder of its own; an older one there is replaced as a whole."""
        return checkpoint.write(folder, self.stored(), self.tensors())

    def push_to_hub(self, repository: str, private: bool = True, token: str | None = None) -> str:
        """Uploads the detector to the Hugging Face Hub (`owner/name`) and returns its address."""
        return upload(self.save, repository, private, token)
