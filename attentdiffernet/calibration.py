"""Which normals are held out, and what they say about a fitted model: threshold, map references, early scores."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from .devices import to_device
from .errors import DatasetError
from .explain import explain, methods_of
from .features import FeatureExtractor, readable
from .findings import Calibration
from .model import AttentDifferNet
from .options import Options
from .scoring import group_ends
from .sources import ImageSource
from .stages import Progress, no_progress
from .study.statistics import conformal_threshold

MIN_IMAGES = 5  # fewer leave nothing to hold out for a threshold
REFERENCE_IMAGES = 8  # held-out normals whose maps set the unit of the colour scale
REFERENCE_QUANTILE = 0.99
SETTLED = 0.99  # confidence that an early verdict is the final one, where enough normals are held out
LEAST_SETTLED = 0.95

T = TypeVar("T")


def split_normals(images: Sequence[T], options: Options) -> tuple[list[T], list[T]]:
    """(to fit, held out for calibration): a random split by `data_seed`, both in the given order; at least one is held
    out. Raises DatasetError for too few images."""
    if len(images) < MIN_IMAGES:
        raise DatasetError(f"Training needs {MIN_IMAGES} normal images or more, got {len(images)}")
    rng = torch.Generator().manual_seed(options.data_seed)
    order = torch.randperm(len(images), generator=rng).tolist()
    n_held_out = min(max(1, round(options.calibration_fraction * len(images))), len(images) - 1)
    return [images[i] for i in sorted(order[n_held_out:])], [images[i] for i in sorted(order[:n_held_out])]


def calibrate(
    model: AttentDifferNet,
    held_out: Sequence[ImageSource],
    n_views: int,
    false_positive_rate: float,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> Calibration:
    """Threshold and scores of held-out normals, when scores settle, and the unit of each map's colour scale."""
    features = to_device(even_features(model, held_out, n_views, cache, progress), model.device)
    with torch.inference_mode():
        after = {n: model.score(features[:, :n]).cpu() for n in group_ends(features.shape[1])}
    return calibration_of(after, map_references(model, held_out, progress), model.config.readout, false_positive_rate)


def calibration_of(
    after: dict[int, Tensor], references: dict[str, float], readout: str, false_positive_rate: float
) -> Calibration:
    """after: scores (N,) of normals that the model was not fitted to, by number of views. references: as of
    `map_references`."""
    n_views = max(after)
    scores = sorted(after[n_views].tolist())
    threshold, rate = conformal_threshold(scores, false_positive_rate)
    return Calibration(threshold, n_views, rate, tuple(scores), references, *_settling(after, readout))


def even_features(
    model: AttentDifferNet, held_out: Sequence[ImageSource], n_views: int, cache: Path | None, progress: Progress
) -> Tensor:
    """(N, V, 768) of the views that images are scored on. Raises ImageError for one that cannot be read."""
    rows: list[Tensor] = []
    for row in readable(FeatureExtractor(model, cache).even_views(held_out, n_views)):
        rows.append(row)
        progress("features of held-out normals", len(rows), len(held_out))
    return torch.stack(rows)


def map_references(model: AttentDifferNet, held_out: Sequence[ImageSource], progress: Progress) -> dict[str, float]:
    """The unit of each map's colour scale, from the first few images, which the model was not fitted to."""
    maps: dict[str, list[np.ndarray]] = {method: [] for method in methods_of(model.config)}
    shown = held_out[:REFERENCE_IMAGES]
    for done, source in enumerate(shown, 1):
        tensor = model.prepare_to_train(source)
        for method, values in maps.items():
            values.append(explain(model, tensor, method).ravel())
        progress("maps of held-out normals", done, len(shown))
    return {method: _reference(np.concatenate(values)) for method, values in maps.items()}


def _reference(values: np.ndarray) -> float:
    """The unit of a map's colour scale, above 0 even where a map of normals is 0 nearly everywhere."""
    return float(np.quantile(values, REFERENCE_QUANTILE)) or float(values.max()) or 1.0


def _settling(after: dict[int, Tensor], readout: str) -> tuple[dict[str, float], dict[str, float], float]:
    """`Calibration.early_ratio`, `settling` and `confidence`, from the scores of held-out normals by number of views.

    The factor is a split-conformal bound, as the threshold is.
    """
    n_views = max(after)
    if n_views == 1 or readout == "likelihood":
        return {}, {}, 0.0
    ratios = {n: (scores / after[n_views]).log() for n, scores in after.items() if n < n_views}
    medians = {n: float(values.median()) for n, values in ratios.items()}
    bounds = {n: conformal_threshold((values - medians[n]).abs().tolist(), 1 - SETTLED) for n, values in ratios.items()}
    confidence = min(1 - rate for _, rate in bounds.values())
    if confidence < LEAST_SETTLED:  # too few normals are held out
        return {}, {}, 0.0
    return (
        {str(n): math.exp(median) for n, median in medians.items()},
        {str(n): math.exp(bound) for n, (bound, _) in bounds.items()},
        confidence,
    )
