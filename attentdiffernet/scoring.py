"""Anomaly scores of images: read off the features of their views, all at once or view by view."""

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .checkpoint import Calibration
from .data import make_views, read_image
from .errors import ImageError
from .features import VIEWS_PER_BATCH, FeatureExtractor, Progress, no_progress
from .model import AttentDifferNet

MAX_VIEWS = 64  # as many as DifferNet's reference code takes
READ_AHEAD = 4  # images decoded while one is scored


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
    """One anomaly score per image file, in order, as they are ready; memory stays that of one image."""
    for features in FeatureExtractor(model, cache).even_views(paths, n_views, progress):
        with torch.inference_mode():
            yield float(model.score(features[None]))


def score_image(model: AttentDifferNet, image: Tensor, n_views: int) -> float:
    """The anomaly score of one image (3, S, S) in [0, 1], as of `data.to_tensor`."""
    with torch.inference_mode():
        return float(model.score(FeatureExtractor(model).of_image(image, model.views(n_views))[None]))


def score_files(
    model: AttentDifferNet, paths: Iterable[str], n_views: int, until_settled: Calibration | None = None
) -> Iterator[float | ImageError]:
    """One anomaly score per file, in order, as they are ready, or why the file cannot be read.

    until_settled: with the model's calibration, each image gets as many views as its verdict needs, n_views at most.
    For any number of files: nothing is kept, a thread decodes a few images ahead, memory stays that of those few.
    """
    extractor, views = FeatureExtractor(model), model.views(n_views)
    for image in _decoded_ahead(paths, model.prepare):
        if isinstance(image, ImageError):
            yield image
            continue
        if until_settled is not None:
            yield score_until_settled(model, until_settled, image, n_views).value
            continue
        with torch.inference_mode():
            score = float(model.score(extractor.of_image(image, views)[None]))
        yield score


def _decoded_ahead(paths: Iterable[str], prepare: Callable[[np.ndarray], Tensor]) -> Iterator[Tensor | ImageError]:
    def decode(path: str) -> Tensor | ImageError:
        try:
            return prepare(read_image(path))
        except ImageError as error:
            return error
        except OSError as error:
            return ImageError(f"{Path(path).name} could not be read: {error.strerror or error}")

    upcoming: deque[Future[Tensor | ImageError]] = deque()
    with ThreadPoolExecutor(max_workers=1) as pool:
        for path in paths:
            upcoming.append(pool.submit(decode, path))
            if len(upcoming) > READ_AHEAD:
                yield upcoming.popleft().result()
        while upcoming:
            yield upcoming.popleft().result()


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


def score_progressively(
    models: dict[str, AttentDifferNet], image: Tensor, n_views: int, first: int = 2
) -> Iterator[dict[str, RunningScore]]:
    """Scores of one image (3, S, S) by several models at once, after `first` views and at each further doubling.

    Models that take the same views see them made once, and what lies before the first attention block is run once for
    all that share it. The last scores equal `score_images` with the same number of views.
    """
    views = {name: model.views(n_views) for name, model in models.items()}
    seen: dict[str, list[Tensor]] = {name: [] for name in models}
    start, most = 0, max(map(len, views.values()))
    for end in group_ends(most):
        if end < min(first, most):
            continue
        for a in range(start, end, VIEWS_PER_BATCH):
            copies: dict[str, Tensor] = {}
            stems: dict[tuple[str, tuple[str, str, int, int]], list[Tensor]] = {}
            with torch.inference_mode():
                for name, model in models.items():
                    kind, group = model.config.views, views[name][a : min(end, a + VIEWS_PER_BATCH)]
                    if not len(group):  # of a kind that has fewer
                        continue
                    if kind not in copies:
                        copies[kind] = make_views(image, group)
                    if (kind, model.stem_key) not in stems:
                        stems[kind, model.stem_key] = model.stems(copies[kind])
                    seen[name].append(model.features_from_stems(stems[kind, model.stem_key]))
        start = end
        yield {name: running_score(model, torch.cat(seen[name])) for name, model in models.items()}


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
    features = torch.empty(0, model.n_features)
    for end in group_ends(len(views)):
        features = torch.cat([features, extractor.of_image(image, views[len(features) : end])])
        score = running_score(model, features)
        if calibration.settled(score.value, score.n_views):
            break
    return dataclasses.replace(score, value=calibration.expected(score.value, score.n_views))
