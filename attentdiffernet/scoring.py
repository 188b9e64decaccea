"""Anomaly scores of images: the mean of z² over views and dimensions."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .data import even_angles, make_views, read_image, to_tensor
from .errors import ImageError
from .features import VIEWS_PER_BATCH, FeatureExtractor, Progress, no_progress
from .model import AttentDifferNet

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
            z, _ = model.latent(features)
        yield float(anomaly_score(z, n_views))


def score_image(model: AttentDifferNet, image: Tensor, n_views: int) -> float:
    """The anomaly score of one image (3, S, S) in [0, 1], as of `data.to_tensor`."""
    with torch.inference_mode():
        z, _ = model.latent(FeatureExtractor(model).of_image(image, even_angles(n_views)))
        return float(anomaly_score(z, n_views))


def score_files(model: AttentDifferNet, paths: Iterable[str], n_views: int) -> Iterator[float | ImageError]:
    """One anomaly score per file, in order, as they are ready, or why the file cannot be read.

    For any number of files: nothing is kept, a thread decodes a few images ahead, memory stays that of those few.
    """
    extractor = FeatureExtractor(model)
    angles = even_angles(n_views)
    for image in _decoded_ahead(paths, model.config.image_size):
        if isinstance(image, ImageError):
            yield image
            continue
        with torch.inference_mode():
            z, _ = model.latent(extractor.of_image(image, angles))
            score = float(anomaly_score(z, n_views))
        yield score


def _decoded_ahead(paths: Iterable[str], image_size: int) -> Iterator[Tensor | ImageError]:
    def decode(path: str) -> Tensor | ImageError:
        try:
            return to_tensor(read_image(path), image_size)
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
    """The anomaly score after some of the views. standard_error: of the mean over views; nan after one view."""

    value: float
    n_views: int
    standard_error: float


def score_progressively(
    models: dict[str, AttentDifferNet], image: Tensor, n_views: int, first: int = 2
) -> Iterator[dict[str, RunningScore]]:
    """Scores of one image (3, S, S) by several models at once, after `first` views and after each further batch.

    Views are made once, and what lies before the first attention block is run once for all models that share it. The
    last scores equal `score_images` with the same number of views.
    """
    angles = even_angles(n_views)
    seen: dict[str, list[Tensor]] = {name: [] for name in models}
    groups = [angles[:first], *angles[first:].split(VIEWS_PER_BATCH // 2)] if first < n_views else [angles]
    for group in groups:
        with torch.inference_mode():
            views = make_views(image, group)
            stems: dict[tuple[str, str, int, int], list[Tensor]] = {}
            for name, model in models.items():
                key = model.stem_key
                if key not in stems:
                    stems[key] = model.stems(views)
                z, _ = model.latent(model.features_from_stems(stems[key]))
                seen[name].append(view_scores(z))
        yield {name: _running(torch.cat(parts)) for name, parts in seen.items()}


def _running(scores: Tensor) -> RunningScore:
    error = float(scores.std() / len(scores) ** 0.5) if len(scores) > 1 else float("nan")
    return RunningScore(float(scores.mean()), len(scores), error)
