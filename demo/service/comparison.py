"""One image by all variants of a category: scores, verdicts and maps, as they become known."""

import hashlib
import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from attentdiffernet.differnet import DifferNetDetector
from attentdiffernet.errors import AttentDifferNetError, DatasetError
from attentdiffernet.explain import relative_heat
from attentdiffernet.images import IMAGE_SUFFIXES, read_image
from attentdiffernet.options import check_scoring_views
from attentdiffernet.scoring import RunningScore, expected_score, prepared, score_progressively
from attentdiffernet.study.statistics import percentile_among

from . import catalogue
from .verdict import MAPS, Comparison, Heat, Verdict, heat_bar

IMAGE_TYPES = sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
MAX_IMAGES = 12  # of one upload
SHOWN_SIDE = 1024  # px: photographs are shown and downloaded no larger than this
MAX_REMEMBERED = 16  # images whose scores are kept, so that another map needs no new ones

Source = str | Path | BinaryIO
Detectors = Mapping[str, DifferNetDetector]  # by variant
Scores = dict[str, RunningScore]


def check_number(n_images: int) -> None:
    """Raises AttentDifferNetError for no image, or more than are inspected at once."""
    if not n_images:
        raise AttentDifferNetError("No image was given; give one image file or several")
    if n_images > MAX_IMAGES:
        raise AttentDifferNetError(f"{n_images} images were given; the limit is {MAX_IMAGES} at once")


def check_method(method: str) -> None:
    """Raises DatasetError for a map that there is not."""
    if method not in MAPS:
        raise DatasetError(f"There is no map {method!r}; there are {', '.join(MAPS)}")


def compare(
    source: Source, key: str, method: str = "grad-cam", name: str | None = None, n_views: int | None = None
) -> Iterator[Comparison]:
    """Scores, verdicts and maps of one image by all variants; yields after each group of views, the maps last.

    n_views: as many as the thresholds were set for, unless stated. Raises ImageError and DatasetError.
    """
    check_method(method)
    info, detectors = catalogue.category(key), catalogue.detectors(key)
    name = name or (Path(source).name if isinstance(source, str | Path) else "image")
    image = read_image(source, name)
    wanted = check_scoring_views(n_views or max(d.calibration.n_views for d in detectors.values()))
    found, entry = Comparison(name, info, shown(image), {}), (_digest(image), key, wanted)
    with catalogue.computing:
        scores = _recent.get(entry, detectors)
    if scores is None:
        for scores in _scored(detectors, image, wanted):
            yield replace(found, verdicts=_verdicts(detectors, scores, wanted))
    assert scores is not None, "there is one view at least"
    with catalogue.computing:
        _recent.put(entry, detectors, scores)
        heat = _heat(detectors, image, method)
    yield replace(found, verdicts=_verdicts(detectors, scores, wanted), heat=heat)


def heat_of(source: Source, key: str, method: str, name: str | None = None) -> tuple[np.ndarray, Heat]:
    """The maps of all variants without scoring anything: (image as shown, maps). Raises as `compare`."""
    check_method(method)
    detectors = catalogue.detectors(key)
    image = read_image(source, name)
    with catalogue.computing:
        return shown(image), _heat(detectors, image, method)


def warm_up() -> None:
    """Does what the first comparison would wait for: imports for maps, first run of torch."""
    for key in list(catalogue.usable_categories())[:1]:
        black = io.BytesIO()
        Image.new("RGB", (64, 64)).save(black, "PNG")
        for found in compare(black, key, n_views=2):
            if found.heat is not None:
                found.overlay(next(iter(found.heat.heat)))
                heat_bar(found.heat.scale)


def shown(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, at most SHOWN_SIDE px."""
    if max(image.shape[:2]) <= SHOWN_SIDE:
        return image
    smaller = Image.fromarray(image)
    smaller.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(smaller)


# -- scores


def _scored(detectors: Detectors, image: np.ndarray, n_views: int) -> Iterator[Scores]:
    """`score_progressively`, with the lock taken anew for each group of views: who leaves in between blocks nobody."""
    models = {variant: detector.model for variant, detector in detectors.items()}
    steps = score_progressively(models, prepared(models, image), n_views)
    while True:
        with catalogue.computing:
            step = next(steps, None)
        if step is None:
            return
        yield step


class _RecentScores:
    """The scores of the last images and the detectors that gave them, so that another map needs no new scores."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[object, ...], tuple[Detectors, Scores]] = OrderedDict()

    def get(self, key: tuple[object, ...], detectors: Detectors) -> Scores | None:
        by, scores = self._found.get(key, ({}, {}))
        same = by.keys() == detectors.keys() and all(by[variant] is detectors[variant] for variant in detectors)
        return scores if same else None

    def put(self, key: tuple[object, ...], detectors: Detectors, scores: Scores) -> None:
        self._found[key] = detectors, scores
        self._found.move_to_end(key)
        while len(self._found) > MAX_REMEMBERED:
            self._found.popitem(last=False)


_recent = _RecentScores()


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes() + repr(image.shape).encode()).hexdigest()


# -- verdicts and maps


def _verdicts(detectors: Detectors, scores: Scores, n_views: int) -> dict[str, Verdict]:
    return {variant: _verdict(detectors[variant], score, n_views) for variant, score in scores.items()}


def _verdict(detector: DifferNetDetector, score: RunningScore, n_views: int) -> Verdict:
    calibration = detector.calibration
    expected = expected_score(calibration, score)  # an average of fewer views lies farther out
    return Verdict(
        variant=detector.variant,
        title=detector.title,
        score=expected.value,
        standard_error=expected.standard_error,
        n_views=score.n_views,
        n_views_wanted=len(detector.model.views(n_views)),  # some kinds of views are few
        threshold=calibration.threshold,
        false_positive_rate=calibration.false_positive_rate,
        percentile=percentile_among(calibration.scores, expected.value),
        calibration_scores=calibration.scores,
        choices=detector.choices,
    )


def _heat(detectors: Detectors, image: np.ndarray, method: str) -> Heat:
    having = {variant: detector for variant, detector in detectors.items() if method in detector.maps}
    maps = {variant: detector.raw_map(image, method) for variant, detector in having.items()}
    references = {variant: detector.map_reference(method) for variant, detector in having.items()}
    heat, scale = relative_heat(maps, references)
    return Heat(method, heat, {v: detector.what_it_shows(method) for v, detector in having.items()}, scale)
