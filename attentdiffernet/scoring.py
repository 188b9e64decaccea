"""Anomaly scores of images: the mean of z² over views and dimensions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .data import even_angles, make_views
from .features import VIEWS_PER_BATCH, FeatureExtractor, Progress, no_progress
from .model import AttentDifferNet


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
