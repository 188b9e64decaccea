"""One image by the detectors of a category: scores, verdicts and maps, as they become known."""

import io
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import numpy as np
from PIL import Image

from attentdiffernet.detector import Detector
from attentdiffernet.differnet import DifferNetDetector
from attentdiffernet.errors import AttentDifferNetError, DatasetError, ImageError
from attentdiffernet.explain import relative_heat, scale_ends
from attentdiffernet.options import check_scoring_views
from attentdiffernet.scoring import RunningScore, expected_score, prepared, score_progressively
from attentdiffernet.sources import digest_of
from attentdiffernet.stages import Stages
from attentdiffernet.study.statistics import percentile_among
from attentdiffernet.words import variant_title

from .. import shipped
from . import catalogue
from .decoding import read_image, read_upload
from .likeness import likeness
from .stranger import Stranger, stranger
from .verdict import MAPS, Comparison, Heat, Verdict, heat_bar

IMAGE_TYPES = "image/*"  # a phone offers its camera, and turns HEIC into JPEG
MAX_IMAGES = 50  # of one upload
SHOWN_SIDE = 1024  # px: photographs are shown and downloaded no larger than this
# What is kept so that another choice, and a closer look, need no new ones: scores of 100 images by 4 detectors, which
# are small, and maps of 16.
SCORES_REMEMBERED, MAPS_REMEMBERED = 400, 64

Source = str | Path | BinaryIO
Detectors = Mapping[str, Detector]  # by `Detector.key`
Scores = dict[str, RunningScore]
T = TypeVar("T")


def check_number(n_images: int) -> None:
    """Raises AttentDifferNetError for no image, or more than are inspected at once."""
    if not n_images:
        raise AttentDifferNetError("No image was given; give one image file or several")
    if n_images > MAX_IMAGES:
        raise AttentDifferNetError(f"{n_images} images were given; the limit is {MAX_IMAGES} at once")


def counts(good: int, n: int) -> str:
    """`Done: 1 of 3 images inspected, 2 could not be read.`"""
    return f"Done: {good} of {n} images inspected{f', {n - good} could not be read' if good < n else ''}."


def check_method(method: str) -> None:
    """Raises DatasetError for a map that there is not."""
    if method not in MAPS:
        raise DatasetError(f"There is no map {method!r}; there are {', '.join(MAPS)}")


def maps_offered(key: str) -> dict[str, str]:
    """Titles of the maps of DifferNet and its variants that show something for a category; the first is the usual one.
    Other detectors have one map of their own."""
    empty = shipped.empty_maps(key)
    return {name: title for name, title in MAPS.items() if name not in empty} or MAPS


def compare(
    source: Source,
    key: str,
    method: str = "grad-cam",
    name: str | None = None,
    n_views: int | None = None,
    chosen: Collection[str] | None = None,
) -> Iterator[Comparison]:
    """Scores, verdicts and maps of one image; yields after each group of views, the maps last.

    method: the map of DifferNet and its variants; other detectors show their own. n_views: as many as the thresholds
    were set for, unless stated. chosen: `Detector.key` of those that are asked, all unless stated. Raises ImageError
    and DatasetError.
    """
    info, detectors = catalogue.category(key), catalogue.detectors(key, chosen)
    last = None
    for last in compare_by(source, info, detectors, method, name, n_views):
        yield last
    if last is not None and (found := _stranger(last, detectors)) is not None:
        yield replace(last, stranger=found)


def _stranger(final: Comparison, detectors: Detectors) -> Stranger | None:
    scores = {name: verdict.score for name, verdict in final.verdicts.items()}
    asked = (digest_of(final.image), tuple(detectors.values()))
    if (known := _recent_strangers.get(*asked)) is None:
        known = (stranger(final.image, final.category, detectors, scores),)
        _recent_strangers.put(known, *asked)
    return known[0]


def compare_by(
    source: Source,
    info: catalogue.CategoryInfo,
    detectors: Detectors,
    method: str = "grad-cam",
    name: str | None = None,
    n_views: int | None = None,
) -> Iterator[Comparison]:
    """As `compare`, by detectors at hand. Logs the times of decoding, features, scores and maps."""
    whose = "own parts" if info.key.startswith("own/") else info.key  # a visitor's words are not for the log
    stages = Stages(f"{whose} by {', '.join(detectors)}")
    with stages.logged():
        yield from _compare_by(source, info, detectors, method, name, n_views, stages)


def _compare_by(
    source: Source,
    info: catalogue.CategoryInfo,
    detectors: Detectors,
    method: str,
    name: str | None,
    n_views: int | None,
    stages: Stages,
) -> Iterator[Comparison]:
    check_method(method)
    name = name or (Path(source).name if isinstance(source, str | Path) else "image")
    with stages.stage("decode"):
        image, transparent = read_upload(source, name, _white(detectors))
    wanted = check_scoring_views(n_views or max(d.calibration.n_views for d in detectors.values()))
    found, digest, scores = Comparison(name, info, shown(image), {}, on_white=transparent), digest_of(image), {}
    for scores in _scored(detectors, image, digest, wanted, stages):
        yield replace(found, verdicts=_verdicts(detectors, scores, wanted))
    final = replace(found, verdicts=_verdicts(detectors, scores, wanted))
    for detector in list(detectors.values())[:-1]:  # who leaves between two maps blocks nobody
        with stages.stage("maps"):
            _map(detector, image, digest, _map_method(detector, method))
        yield final
    with stages.stage("maps"):
        final = replace(final, heat=_heat(detectors, image, digest, method))
    likenesses = {}
    yield final
    for one, detector in detectors.items():
        with catalogue.computing:
            near = likeness(detector, image, info.key)
        if near is not None:
            likenesses[one] = near
            yield replace(final, likenesses=dict(likenesses))


def heat_of(source: Source, key: str, method: str, name: str | None = None) -> tuple[np.ndarray, Heat]:
    """The maps of all detectors without scoring anything: (image as shown, maps). Raises as `compare`."""
    check_method(method)
    detectors = catalogue.detectors(key)
    image = read_image(source, name, _white(detectors))
    return shown(image), _heat(detectors, image, digest_of(image), method)


def _white(detectors: Detectors) -> float | None:
    """The grey value that all detectors of a category see as white: they were trained on the same images. Raises
    DatasetError where they see different ones as white, since one picture is shown for all of them."""
    whites = {variant_title(key): detector.findings.value_range for key, detector in detectors.items()}
    if len(set(whites.values())) > 1:
        ranges = ", ".join(f"{title} 0 to {white or 255:g}" for title, white in whites.items())
        raise DatasetError(
            f"These detectors were trained on different ranges of grey values ({ranges}); choose one of them"
        )
    return next(iter(whites.values()), None)


def warm_up() -> None:
    """Does what the first comparison would wait for: imports for maps, first run of torch."""
    key = catalogue.start()
    if key is not None:
        black = io.BytesIO()
        Image.new("RGB", (64, 64)).save(black, "PNG")
        for found in compare(black, key, n_views=2):
            if found.heat is not None:
                found.overlay(next(iter(found.heat.heat)), outlined=True)
                heat_bar(next(iter(found.heat.scales.values())))
                return


def shown(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, at most SHOWN_SIDE px."""
    if max(image.shape[:2]) <= SHOWN_SIDE:
        return image
    smaller = Image.fromarray(image)
    smaller.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS, reducing_gap=1.5)
    return np.asarray(smaller)


# -- what was computed lately


class _Recent(Generic[T]):
    """The last results, by what they are of. A detector is its own key: one that was loaded again is another."""

    def __init__(self, most: int) -> None:
        self._found: OrderedDict[tuple[object, ...], T] = OrderedDict()
        self._most = most

    def get(self, *key: object) -> T | None:
        return self._found.get(key)

    def put(self, value: T, *key: object) -> None:
        self._found[key] = value
        self._found.move_to_end(key)
        while len(self._found) > self._most:
            self._found.popitem(last=False)


_recent_scores, _recent_maps = _Recent[RunningScore](SCORES_REMEMBERED), _Recent[np.ndarray](MAPS_REMEMBERED)
_recent_strangers = _Recent[tuple[Stranger | None]](SCORES_REMEMBERED)


# -- scores


def _scored(detectors: Detectors, image: np.ndarray, digest: bytes, n_views: int, stages: Stages) -> Iterator[Scores]:
    """What is known is first; a detector without views follows at once, those of DifferNet view by view."""
    known: Scores = {}
    with catalogue.computing, stages.stage("scores"):
        for name, detector in detectors.items():
            if (score := _recent_scores.get(detector, digest, n_views)) is not None:
                known[name] = score
            elif not isinstance(detector, DifferNetDetector):
                known[name] = _score(detector, image)
                _recent_scores.put(known[name], detector, digest, n_views)
    missing = {name: d for name, d in detectors.items() if name not in known and isinstance(d, DifferNetDetector)}
    last: Scores = {}
    for last in _scored_by_views(missing, image, n_views, stages) if missing else ():
        yield {name: (known | last)[name] for name in detectors}
    with catalogue.computing:
        for name, score in last.items():
            _recent_scores.put(score, detectors[name], digest, n_views)
    if not last:
        yield {name: known[name] for name in detectors}


def _score(detector: Detector, image: np.ndarray) -> RunningScore:
    (score,) = detector.scores([image], 1, until_settled=False, cache=None)
    if isinstance(score, ImageError):
        raise score
    return score


def _scored_by_views(
    detectors: Mapping[str, DifferNetDetector], image: np.ndarray, n_views: int, stages: Stages
) -> Iterator[Scores]:
    """`score_progressively`, with the lock taken anew for each group of views: who leaves in between blocks nobody."""
    models = {name: detector.model for name, detector in detectors.items()}
    steps = score_progressively(models, prepared(models, image), n_views, stages=stages)
    while True:
        with catalogue.computing:
            step = next(steps, None)
        if step is None:
            return
        yield step


# -- verdicts and maps


def _verdicts(detectors: Detectors, scores: Scores, n_views: int) -> dict[str, Verdict]:
    return {name: _verdict(detectors[name], score, n_views) for name, score in scores.items()}


def _verdict(detector: Detector, score: RunningScore, n_views: int) -> Verdict:
    calibration = detector.calibration
    expected = expected_score(calibration, score)  # an average of fewer views lies farther out
    views = len(detector.model.views(n_views)) if isinstance(detector, DifferNetDetector) else 1  # some kinds are few
    return Verdict(
        key=detector.key,
        title=detector.title,
        score=expected.value,
        standard_error=expected.standard_error,
        n_views=score.n_views,
        n_views_wanted=views,
        threshold=calibration.threshold,
        false_positive_rate=calibration.false_positive_rate,
        percentile=percentile_among(calibration.scores, expected.value),
        calibration_scores=calibration.scores,
        choices=detector.choices,
    )


def _heat(detectors: Detectors, image: np.ndarray, digest: bytes, method: str) -> Heat:
    """By `method` where a detector has such a map, else by its own."""
    methods = {name: _map_method(detector, method) for name, detector in detectors.items()}
    maps = {name: _map(detector, image, digest, methods[name]) for name, detector in detectors.items()}
    heat: dict[str, np.ndarray] = {}
    scales: dict[str, tuple[float, float]] = {}
    for kind in dict.fromkeys(methods.values()):
        alike = [name for name in detectors if methods[name] == kind]
        references = {name: detectors[name].map_reference(kind) for name in alike}
        found, scale = relative_heat({name: maps[name] for name in alike}, references, scale_ends(kind))
        heat |= found
        scales |= dict.fromkeys(alike, scale)
    shows = {name: detector.what_it_shows(methods[name]) for name, detector in detectors.items()}
    return Heat(methods, {name: heat[name] for name in detectors}, shows, scales)


def _map_method(detector: Detector, method: str) -> str:
    return method if method in detector.maps else detector.maps[0]


def _map(detector: Detector, image: np.ndarray, digest: bytes, method: str) -> np.ndarray:
    with catalogue.computing:
        found = _recent_maps.get(detector, digest, method)
        if found is None:
            found = detector.raw_map(image, method)
            _recent_maps.put(found, detector, digest, method)
        return found
