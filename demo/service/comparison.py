"""One image by all variants of a category: scores, verdicts and maps, as they become known."""

import hashlib
import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from torch import Tensor

from attentdiffernet.differnet import DifferNetDetector
from attentdiffernet.errors import AttentDifferNetError, DatasetError
from attentdiffernet.explain import explain, relative_heat, what_it_shows
from attentdiffernet.figures.overlay import colour_bar, overlay, pixels
from attentdiffernet.figures.palette import INK
from attentdiffernet.figures.screen import percentile_svg
from attentdiffernet.images import IMAGE_SUFFIXES, read_image
from attentdiffernet.options import check_scoring_views
from attentdiffernet.scoring import RunningScore, expected_score, prepared, score_progressively
from attentdiffernet.study.statistics import percentile_among
from attentdiffernet.words import METHOD_TITLES

from . import catalogue
from .catalogue import CategoryInfo

METHODS = {name: METHOD_TITLES[name] for name in ("grad-cam", "attention", "gradient")}
IMAGE_TYPES = sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
MAX_IMAGES = 12  # of one upload
SHOWN_SIDE = 1024  # px: photographs are shown and downloaded no larger than this
FAINT = 0.15  # share of the colour scale below which an overlay is hardly visible
MAX_REMEMBERED = 16  # images whose scores are kept, so that another map needs no new ones

Source = str | Path | BinaryIO


# -- what is answered


@dataclass(frozen=True)
class Verdict:
    """One variant's answer for one image. percentile: share of held-out normals that score lower, in percent.

    score, standard_error: of all views; while `provisional`, those to be expected after all of them.
    """

    variant: str
    title: str
    score: float
    standard_error: float
    n_views: int
    n_views_wanted: int
    threshold: float
    false_positive_rate: float
    percentile: float
    calibration_scores: tuple[float, ...]
    choices: str

    @property
    def provisional(self) -> bool:
        return self.n_views < self.n_views_wanted

    @property
    def anomalous(self) -> bool:
        return self.score > self.threshold

    @property
    def word(self) -> str:
        return "anomalous" if self.anomalous else "normal"

    @property
    def views_text(self) -> str:
        """`provisional, 4 of 16 views`, in the end `16 views`."""
        if self.provisional:
            return f"provisional, {self.n_views} of {self.n_views_wanted} views"
        return "1 view" if self.n_views == 1 else f"{self.n_views} views"

    @property
    def histogram_svg(self) -> str:
        return percentile_svg(self.calibration_scores, self.score, self.threshold)


@dataclass(frozen=True)
class Heat:
    """Maps of all variants on one colour scale; a variant that has no such map is left out.

    heat: log2 of value / reference of held-out normals, (h, w) each. shows: what the map of each variant shows,
    whatever the image.
    """

    method: str
    heat: dict[str, np.ndarray]
    shows: dict[str, str]
    scale: tuple[float, float]

    @property
    def notes(self) -> dict[str, str]:
        """As `shows`, and whether the map is empty or faint: without that, it would look like an error."""
        return {variant: self.shows[variant] + self._visibility(values) for variant, values in self.heat.items()}

    def _visibility(self, values: np.ndarray) -> str:
        (low, high), highest = self.scale, float(values.max())
        if highest <= low:
            return " No place here exceeds what held-out normals reach."
        if highest < low + FAINT * (high - low):
            return f" Hardly visible on this scale: its maximum is {2.0**highest:.1f} × what held-out normals reach."
        return ""

    @property
    def title(self) -> str:
        return METHOD_TITLES[self.method]


@dataclass(frozen=True)
class Comparison:
    """One image as all variants of a category see it. heat is None until the scores are final.

    image: (H, W, 3) uint8 at its own aspect, at most SHOWN_SIDE px.
    """

    name: str
    category: CategoryInfo
    image: np.ndarray
    verdicts: dict[str, Verdict]
    heat: Heat | None = None

    @property
    def slowest(self) -> Verdict:
        """The verdict that needs the most views: its progress is that of the comparison."""
        return max(self.verdicts.values(), key=lambda verdict: verdict.n_views_wanted)

    @property
    def progress(self) -> float:
        """Share of the views that are scored."""
        return self.slowest.n_views / self.slowest.n_views_wanted

    @property
    def progress_text(self) -> str:
        verdict = self.slowest
        return verdict.views_text if verdict.provisional else "verdict final; drawing the maps"

    def overlay(self, variant: str) -> np.ndarray:
        """The photograph with this variant's map on it; the photograph alone as long as there is none."""
        if self.heat is None or variant not in self.heat.heat:
            return self.image
        return overlay(self.image, self.heat.heat[variant], *self.heat.scale)

    def without_pictures(self) -> "Comparison":
        """What a session keeps of many images."""
        return replace(self, image=self.image[:0, :0], heat=None)


# -- how it is found


class _RecentScores:
    """The scores of the last images and the models that gave them, so that another map needs no new scores."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[object, ...], tuple[dict[str, DifferNetDetector], dict[str, RunningScore]]]
        self._found = OrderedDict()

    def get(self, key: tuple[object, ...], models: dict[str, DifferNetDetector]) -> dict[str, RunningScore] | None:
        by, scores = self._found.get(key, ({}, {}))
        same = by.keys() == models.keys() and all(by[variant] is models[variant] for variant in models)
        return scores if same else None

    def put(
        self, key: tuple[object, ...], models: dict[str, DifferNetDetector], scores: dict[str, RunningScore]
    ) -> None:
        self._found[key] = models, scores
        self._found.move_to_end(key)
        while len(self._found) > MAX_REMEMBERED:
            self._found.popitem(last=False)


_recent = _RecentScores()


def compare(
    source: Source, key: str, method: str = "grad-cam", name: str | None = None, n_views: int | None = None
) -> Iterator[Comparison]:
    """Scores, verdicts and maps of one image by all variants; yields after each group of views, the maps last.

    n_views: as many as the thresholds were set for, unless stated. Raises ImageError and DatasetError.
    """
    check_method(method)
    info, models = catalogue.category(key), catalogue.detectors(key)
    name = name or (Path(source).name if isinstance(source, str | Path) else "image")
    image = read_image(source, name)
    wanted = check_scoring_views(n_views or max(d.calibration.n_views for d in models.values()))
    images = _prepared(models, image)
    found, entry = Comparison(name, info, shown(image), {}), (_digest(image), key, wanted)
    with catalogue.computing:
        scores = _recent.get(entry, models)
    if scores is None:
        for scores in _scored(models, images, wanted):
            yield replace(found, verdicts=_verdicts(models, scores, wanted))
    assert scores is not None, "there is one view at least"
    with catalogue.computing:
        _recent.put(entry, models, scores)
        heat = _heat(models, images, method)
    yield replace(found, verdicts=_verdicts(models, scores, wanted), heat=heat)


def _scored(
    models: dict[str, DifferNetDetector], images: Mapping[str, Tensor], n_views: int
) -> Iterator[dict[str, RunningScore]]:
    """`score_progressively`, with the lock taken anew for each group of views: who leaves in between blocks nobody."""
    steps = score_progressively({variant: found.model for variant, found in models.items()}, images, n_views)
    while True:
        with catalogue.computing:
            step = next(steps, None)
        if step is None:
            return
        yield step


def heat_of(source: Source, key: str, method: str, name: str | None = None) -> tuple[np.ndarray, Heat]:
    """The maps of all variants without scoring anything: (image as shown, maps). Raises as `compare`."""
    check_method(method)
    models = catalogue.detectors(key)
    image = read_image(source, name)
    images = _prepared(models, image)
    with catalogue.computing:
        return shown(image), _heat(models, images, method)


def _heat(models: dict[str, DifferNetDetector], images: Mapping[str, Tensor], method: str) -> Heat:
    maps = {v: explain(d.model, images[v], method) for v, d in models.items() if method in d.maps}
    references = {v: models[v].map_reference(method) for v in maps}
    heat, scale = relative_heat(maps, references)
    return Heat(method, heat, {v: what_it_shows(method, models[v].model.config) for v in maps}, scale)


def check_number(n_images: int) -> None:
    """Raises AttentDifferNetError for no image, or more than are inspected at once."""
    if not n_images:
        raise AttentDifferNetError("No image was given; give one image file or several")
    if n_images > MAX_IMAGES:
        raise AttentDifferNetError(f"{n_images} images were given; the limit is {MAX_IMAGES} at once")


def check_method(method: str) -> None:
    """Raises DatasetError for a map that there is not."""
    if method not in METHODS:
        raise DatasetError(f"There is no map {method!r}; there are {', '.join(METHODS)}")


def shown(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, at most SHOWN_SIDE px."""
    if max(image.shape[:2]) <= SHOWN_SIDE:
        return image
    smaller = Image.fromarray(image)
    smaller.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(smaller)


def _prepared(models: dict[str, DifferNetDetector], image: np.ndarray) -> dict[str, Tensor]:
    return prepared({variant: found.model for variant, found in models.items()}, image)


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes() + repr(image.shape).encode()).hexdigest()


def _verdicts(
    models: dict[str, DifferNetDetector], scores: dict[str, RunningScore], n_views: int
) -> dict[str, Verdict]:
    return {variant: _verdict(models[variant], score, n_views) for variant, score in scores.items()}


def _verdict(found: DifferNetDetector, score: RunningScore, n_views: int) -> Verdict:
    calibration = found.calibration
    expected = expected_score(calibration, score)  # an average of fewer views lies farther out
    return Verdict(
        variant=found.variant,
        title=found.title,
        score=expected.value,
        standard_error=expected.standard_error,
        n_views=score.n_views,
        n_views_wanted=len(found.model.views(n_views)),  # some kinds of views are few
        threshold=calibration.threshold,
        false_positive_rate=calibration.false_positive_rate,
        percentile=percentile_among(calibration.scores, expected.value),
        calibration_scores=calibration.scores,
        choices=found.choices,
    )


def heat_bar(scale: tuple[float, float], ink: str = INK) -> np.ndarray:
    """The colour scale of a `Heat` as a picture (H, W, 4) uint8, with ticks in multiples of what normals reach."""
    figure = colour_bar(*scale, label="× the 99th percentile of held-out normal images", ink=ink)
    axes = figure.axes[0]
    low, high = int(np.ceil(scale[0])), int(np.floor(scale[1]))
    ticks = list(range(low, high + 1, max(1, (high - low) // 6)))
    axes.set_xticks(ticks, [f"{2.0**tick:g}" if tick < 10 else f"$2^{{{tick}}}$" for tick in ticks])
    return pixels(figure)


def warm_up() -> None:
    """Does what the first comparison would wait for: imports for maps, first run of torch."""
    for key in list(catalogue.usable_categories())[:1]:
        black = io.BytesIO()
        Image.new("RGB", (64, 64)).save(black, "PNG")
        for found in compare(black, key, n_views=2):
            if found.heat is not None:
                found.overlay(next(iter(found.heat.heat)))
                heat_bar(found.heat.scale)
