"""Anomaly scores of images: read off the features of their views, all at once or view by view."""

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .checkpoint import Calibration
from .devices import pinned, read_behind, to_device
from .errors import ImageError
from .features import ON_CPU, FeatureExtractor, Progress, T, Work, ahead, no_progress
from .images import read_image
from .model import AttentDifferNet, Precision
from .views import make_views

TOO_SLOW, CLEARLY_FASTER = 20.0, 1.2  # how many times
MAX_VIEWS = 64  # as many as DifferNet's reference code takes


def anomaly_score(z: Tensor, n_views: int) -> Tensor:
    """Mean of z² per image (DifferNet, eq. 5). z: (B·V, D) -> (B,), ≥ 0. Raises ValueError if rows are no multiple of
    n_views."""
    if n_views < 1 or len(z) % n_views:
        raise ValueError(f"anomaly_score needs a multiple of {n_views} rows of z, got {len(z)}")
    return view_scores(z).view(-1, n_views).mean(1)


def view_scores(z: Tensor) -> Tensor:
    """Mean of z² per row: (V, D) -> (V,)."""
    return z.square().mean(1)


def score_images(
    model: AttentDifferNet,
    paths: Sequence[Path],
    n_views: int,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> Iterator[float]:
    """One anomaly score per image file, in order, as they are ready; memory stays that of a few images."""
    features = FeatureExtractor(model, cache).even_views(paths, n_views, progress)
    return (score for score, _ in _scores(model, ((rows, None) for rows in features), n_views))


def score_image(model: AttentDifferNet, image: Tensor, n_views: int) -> float:
    """The anomaly score of one image (3, S, S) in [0, 1], as of `data.to_tensor`."""
    with torch.inference_mode():
        return float(model.score(FeatureExtractor(model).of_image(image, model.views(n_views))[None]))


def faster_precision(model: AttentDifferNet) -> Precision:
    """bfloat16 where it is clearly faster on this machine, by the clock: some CPUs have instructions for it, others
    take hundreds of times as long. The model's own precision stays as it was."""

    def seconds(precision: Precision, stems: list[Tensor]) -> float:
        model.precision, start = precision, time.perf_counter()
        model.features_from_stems(stems).cpu()
        return time.perf_counter() - start

    before, size = model.precision, model.config.image_size
    view = torch.zeros(1, 3, size, size, device=model.device)
    try:
        with torch.inference_mode():
            smallest = model.stems(view[..., : model.config.least_side, : model.config.least_side])[-1:]
            if seconds("bfloat16", smallest) > TOO_SLOW * seconds("float32", smallest):
                return "float32"
            stems = model.stems(view)
            # In turn, and the best of each: another process may take the machine at any time.
            single, half = zip(
                *((seconds("float32", stems), seconds("bfloat16", stems)) for _ in range(4)), strict=True
            )
        return "bfloat16" if CLEARLY_FASTER * min(half) < min(single) else "float32"
    finally:
        model.precision = before


def score_files(
    model: AttentDifferNet, paths: Iterable[str], n_views: int, until_settled: Calibration | None = None
) -> Iterator[float | ImageError]:
    """One anomaly score per file, in order, as they are ready, or why the file cannot be read.

    until_settled: with the model's calibration, each image gets as many views as its verdict needs, n_views at most.
    For any number of files: nothing is kept, a few images are decoded ahead, memory stays that of those few.
    """
    extractor, views = FeatureExtractor(model), model.views(n_views)

    def decode(path: str) -> Work[ImageError | None]:
        try:
            return pinned(model.prepare(read_image(path)), model.device), views, None
        except ImageError as error:
            return None, views[:0], error
        except OSError as error:
            return None, views[:0], ImageError(f"{Path(path).name} could not be read: {error.strerror or error}")

    decoded = ahead(decode, paths, extractor.pace)
    if until_settled is None:
        for score, error in _scores(model, extractor.stream(decoded), n_views):
            yield error or score
    else:
        for image, _, error in decoded:
            if image is not None:
                yield score_until_settled(model, until_settled, image, n_views).value
            elif error is not None:
                yield error


def _scores(model: AttentDifferNet, found: Iterable[tuple[Tensor, T]], n_views: int) -> Iterator[tuple[float, T]]:
    """(score, what came along) of images from their features (V, 768), in order; nan where there are none. On a GPU, as
    many images at once as a batch of views holds, and read one behind."""
    pace, found = FeatureExtractor(model).pace, iter(found)
    size = max(1, pace.views // n_views) if pace.shared else 1

    def launched() -> Iterator[tuple[Tensor, list[tuple[Tensor, T]]]]:
        while group := list(islice(found, size)):
            scores = torch.empty(0)
            if seen := [features for features, _ in group if len(features)]:
                with torch.inference_mode():
                    scores = model.score(to_device(torch.stack(seen), model.device))
            yield scores, group

    for scores, group in read_behind(launched(), pace.shared):
        values = iter(scores.tolist())
        for features, came_along in group:
            yield next(values) if len(features) else math.nan, came_along


@dataclass(frozen=True)
class RunningScore:
    """The anomaly score after some of the views. standard_error: of what the choice of views adds; nan after one."""

    value: float
    n_views: int
    standard_error: float


def running_score(model: AttentDifferNet, features: Tensor) -> RunningScore:
    """The score of one image from the features (V, 768) of its views so far; its standard error by the jackknife."""
    with torch.inference_mode():
        n = len(features)
        value = float(model.score(features[None]))
        if n == 1:
            return RunningScore(value, 1, math.nan)
        if model.config.readout.endswith("_of_mean"):
            left_one_out = model.row_scores((features.sum(0) - features) / (n - 1))
        else:
            rows = model.row_scores(features)
            left_one_out = (rows.sum() - rows) / (n - 1)
        return RunningScore(value, n, float(left_one_out.std(correction=0)) * (n - 1) ** 0.5)


def group_ends(n_views: int) -> list[int]:
    """After how many views a score is worth a look: 1, 2, 4, ... and n_views. Groups stay small enough for the
    processor's cache."""
    ends = [2**k for k in range(n_views.bit_length()) if 2**k < n_views]
    return [*ends, n_views]


def prepared(models: Mapping[str, AttentDifferNet], image: np.ndarray) -> dict[str, Tensor]:
    """An image (H, W, 3) uint8 as each model takes it: (3, h, w) by name. Models of equal `input_key` share one."""
    found: dict[tuple[object, ...], Tensor] = {}
    for model in models.values():
        if model.input_key not in found:
            found[model.input_key] = model.prepare(image)
    return {name: found[model.input_key] for name, model in models.items()}


def score_progressively(
    models: Mapping[str, AttentDifferNet], images: Mapping[str, Tensor], n_views: int, first: int = 2
) -> Iterator[dict[str, RunningScore]]:
    """Scores of one image by several models at once, after `first` views and at each further doubling.

    images: the image as each model takes it, by the name of the model (`prepared`). Models that take the same input and
    kind of views share the views, and what lies before the first attention block where their `stem_key` is equal, too.
    The last scores equal `score_images` with the same number of views.
    """
    views = {name: model.views(n_views) for name, model in models.items()}
    seen: dict[str, list[Tensor]] = {name: [] for name in models}
    start, most = 0, max(map(len, views.values()))
    for end in group_ends(most):
        if end < min(first, most):
            continue
        for a in range(start, end, ON_CPU.views):
            groups = {name: v[a : min(end, a + ON_CPU.views)] for name, v in views.items()}
            for name, features in _features_of_group(models, images, groups):
                seen[name].append(features)
        start = end
        yield {name: running_score(model, torch.cat(seen[name])) for name, model in models.items()}


def _features_of_group(
    models: Mapping[str, AttentDifferNet], images: Mapping[str, Tensor], groups: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """(name, features (v, 768)) of each model for its group of views (v, 2, 2); models without views are left out."""
    copies: dict[tuple[object, ...], Tensor] = {}
    stems: dict[tuple[object, ...], list[Tensor]] = {}
    for name, model in models.items():
        if not len(groups[name]):  # its kind of views has fewer
            continue
        seen_as = model.device, model.input_key, model.config.views
        with torch.inference_mode():
            if seen_as not in copies:
                copies[seen_as] = make_views(to_device(images[name], model.device), groups[name])
            if (*seen_as, model.stem_key) not in stems:
                stems[*seen_as, model.stem_key] = model.stems(copies[seen_as])
            features = model.features_from_stems(stems[*seen_as, model.stem_key])
        yield name, features


def score_until_settled(
    model: AttentDifferNet,
    calibration: Calibration,
    image: Tensor,
    max_views: int = MAX_VIEWS,
) -> RunningScore:
    """The score of one image (3, S, S) from as few views as its verdict needs: stops as soon as more views would not
    change the verdict (`Calibration.settled`), and goes on to max_views while they might. After fewer views than the
    threshold was set for, it is the score to be expected after all."""
    extractor, views = FeatureExtractor(model), model.views(max(max_views, calibration.n_views))
    features = torch.empty(0, model.n_features, device=model.device)
    for end in group_ends(len(views)):
        features = torch.cat([features, extractor.of_image(image, views[len(features) : end])])
        score = running_score(model, features)
        if calibration.settled(score.value, score.n_views):
            break
    return dataclasses.replace(score, value=calibration.expected(score.value, score.n_views))
