"""Anomaly scores of images from the features of their views: all at once, or progressively."""

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .devices import read_behind, to_device
from .errors import ImageError
from .features import ON_CPU, FeatureExtractor, ahead
from .findings import Calibration
from .model import AttentDifferNet, Precision
from .sources import ImageSource, pixels_of
from .stages import Stages
from .views import make_views

TOO_SLOW, CLEARLY_FASTER = 20.0, 1.2  # how many times
MAX_VIEWS = 64  # as many as DifferNet's reference code takes


@dataclass(frozen=True)
class RunningScore:
    """The anomaly score after some of the views. standard_error: due to the choice of views; nan after one."""

    value: float
    n_views: int
    standard_error: float


def score_images(
    model: AttentDifferNet, sources: Iterable[ImageSource], n_views: int, cache: Path | None = None
) -> Iterator[RunningScore | ImageError]:
    """One anomaly score per image, or why it cannot be read; in order, as they are ready. The images may be any number:
    memory stays that of a few."""
    extractor = FeatureExtractor(model, cache)
    found, pace = iter(extractor.even_views(sources, n_views)), extractor.pace
    size = max(1, pace.views // n_views) if pace.shared else 1

    def launched() -> Iterator[tuple[Tensor, list[Tensor | ImageError]]]:
        while group := list(islice(found, size)):
            seen = [features for features in group if isinstance(features, Tensor)]
            with torch.inference_mode():  # left before the yield: else it would hold in the caller's loop, too
                scores = _with_errors(model, torch.stack(seen)) if seen else torch.empty(0, 2)
            yield scores, group

    for scores, group in read_behind(launched(), pace.shared):
        rows = iter(scores.tolist())
        for features in group:
            if isinstance(features, ImageError):
                yield features
            else:
                value, error = next(rows)
                yield RunningScore(value, len(features), error)


def _with_errors(model: AttentDifferNet, features: Tensor) -> Tensor:
    """(B, 2): the scores of images and their standard errors, by the jackknife over views: features (B, V, 768)."""
    features = to_device(features, model.device)
    n = features.shape[1]
    if model.config.readout.endswith("_of_mean"):
        value = model.score(features)
        left_out = (features.sum(1, keepdim=True) - features) / max(1, n - 1)
        left_one_out = model.row_scores(left_out.flatten(0, 1)).view(features.shape[:2])
    else:
        rows = model.row_scores(features.flatten(0, 1)).view(features.shape[:2])
        value = rows.mean(1)
        left_one_out = (rows.sum(1, keepdim=True) - rows) / max(1, n - 1)
    error = left_one_out.std(1, correction=0) * (n - 1) ** 0.5 if n > 1 else torch.full_like(value, math.nan)
    return torch.stack([value, error], 1)


def running_score(model: AttentDifferNet, features: Tensor) -> RunningScore:
    """The score of one image from the features (V, 768) of its views so far; its standard error by the jackknife."""
    with torch.inference_mode():
        ((value, error),) = _with_errors(model, features[None]).tolist()
    return RunningScore(value, len(features), error)


def score_image(model: AttentDifferNet, image: Tensor, n_views: int) -> float:
    """The anomaly score of one image (3, S, S), as of `model.prepare`."""
    with torch.inference_mode():
        return float(model.score(FeatureExtractor(model).of_image(image, model.views(n_views))[None]))


def faster_precision(model: AttentDifferNet) -> Precision:
    """bfloat16 if it is clearly faster on this machine, as measured: some CPUs have instructions for it, others take
    hundreds of times as long. The model's own precision stays as it was."""

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


def group_ends(n_views: int) -> list[int]:
    """The numbers of views after which scores are reported: 1, 2, 4, ... and n_views. Groups stay small enough for the
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
    models: Mapping[str, AttentDifferNet],
    images: Mapping[str, Tensor],
    n_views: int,
    first: int = 2,
    stages: Stages | None = None,
) -> Iterator[dict[str, RunningScore]]:
    """Scores of one image by several models at once, after `first` views and at each further doubling.

    images: the image as each model takes it, by the name of the model (`prepared`). Models that take the same input and
    kind of views share the views, and what lies before the first attention block where their `stem_key` is equal, too.
    The last scores equal `score_images` with the same number of views. stages: takes the times of features and scores.
    """
    stages = stages or Stages("scores")
    views = {name: model.views(n_views) for name, model in models.items()}
    seen: dict[str, list[Tensor]] = {name: [] for name in models}
    start, most = 0, max(map(len, views.values()))
    for end in group_ends(most):
        if end < min(first, most):
            continue
        for a in range(start, end, ON_CPU.views):
            groups = {name: v[a : min(end, a + ON_CPU.views)] for name, v in views.items()}
            with stages.stage("features"):
                for name, features in _features_of_group(models, images, groups):
                    seen[name].append(features)
        start = end
        with stages.stage("scores"):
            scores = {name: running_score(model, torch.cat(seen[name])) for name, model in models.items()}
        yield scores


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
    model: AttentDifferNet, calibration: Calibration, image: Tensor, max_views: int = MAX_VIEWS
) -> RunningScore:
    """The score of one image (3, S, S) from as few views as its verdict needs: stops as soon as more views would not
    change the verdict (`Calibration.settled`), and at max_views at the latest. After fewer views than the threshold was
    set for, it is the final score to be expected."""
    extractor, views = FeatureExtractor(model), model.views(max_views)
    features = torch.empty(0, model.n_features, device=model.device)
    for end in group_ends(len(views)):
        features = torch.cat([features, extractor.of_image(image, views[len(features) : end])])
        score = running_score(model, features)
        if calibration.settled(score.value, score.n_views):
            break
    return expected_score(calibration, score)


def expected_score(calibration: Calibration, score: RunningScore) -> RunningScore:
    """The final score to be expected after an early one; its standard error in the same unit."""
    value, error = (calibration.expected(x, score.n_views) for x in (score.value, score.standard_error))
    return dataclasses.replace(score, value=value, standard_error=error)


def score_images_until_settled(
    model: AttentDifferNet, calibration: Calibration, sources: Iterable[ImageSource], max_views: int = MAX_VIEWS
) -> Iterator[RunningScore | ImageError]:
    """As `score_images`, each from as few views as its verdict needs."""

    def prepared(source: ImageSource) -> Tensor | ImageError:
        try:
            return model.prepare(pixels_of(source))
        except ImageError as error:
            return error

    for image in ahead(prepared, sources, FeatureExtractor(model).pace):
        if isinstance(image, ImageError):
            yield image
        else:
            yield score_until_settled(model, calibration, image, max_views)
