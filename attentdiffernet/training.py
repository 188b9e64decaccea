"""Fits a flow (and, where asked, attention) to normal images, and calibrates the threshold on normals held out."""

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from . import paper_recipe
from .attention_training import fit_attention
from .category import InspectionImage
from .checkpoint import Calibration, DataCard, Detector
from .config import FEATURE_DEVIATION, AttentionConfig, ModelConfig, ScoringConfig, TrainingConfig
from .devices import find_device, to_device
from .errors import AttentDifferNetError, DatasetError
from .explain import explain, methods_of
from .features import FeatureExtractor, Progress, no_progress
from .flow import negative_log_likelihood
from .images import read_image
from .model import AttentDifferNet
from .scoring import group_ends
from .study.statistics import BEYOND_STANDARD_ERROR, auroc, beats, conformal_threshold
from .synthetic_defects import DefectTest

MIN_IMAGES = 5  # fewer leave nothing to hold out for a threshold
JUDGED_IMAGES, JUDGED_DEFECTS = 32, 3  # held-out normals, at most, and synthetic defects in each
REFERENCE_IMAGES = 8  # held-out normals whose maps set the unit of the colour scale
REFERENCE_QUANTILE = 0.99
SETTLED = 0.99  # confidence that an early verdict is the final one, where enough normals are held out
LEAST_SETTLED = 0.95


def split_normals(
    images: Sequence[InspectionImage], config: TrainingConfig
) -> tuple[list[InspectionImage], list[InspectionImage]]:
    """(to fit, held out for calibration): a random split by `data_seed`, both sorted; at least one is held out."""
    if len(images) < MIN_IMAGES:
        raise DatasetError(f"Training needs {MIN_IMAGES} normal images or more, got {len(images)}")
    rng = torch.Generator().manual_seed(config.data_seed)
    order = torch.randperm(len(images), generator=rng).tolist()
    n_held_out = min(max(1, round(config.calibration_fraction * len(images))), len(images) - 1)
    return [images[i] for i in sorted(order[n_held_out:])], [images[i] for i in sorted(order[:n_held_out])]


def no_look(model: AttentDifferNet, epoch: int) -> None:
    """What `train` does after an epoch by default: nothing."""


def train(
    images: Sequence[InspectionImage],
    model_config: ModelConfig,
    config: TrainingConfig,
    scoring: ScoringConfig,
    data: DataCard,
    cache: Path | None = None,
    progress: Progress = no_progress,
    after_epoch: Callable[[AttentDifferNet, int], None] = no_look,
    device: str | torch.device = "cpu",
    calibrated: bool = True,
) -> Detector:
    """Normal images in, a calibrated detector out. Epochs are fixed in advance; no test image is ever looked at.

    after_epoch: called with the model and the number of epochs that its flow has been fitted for; it may look, and must
    change nothing. device: where it runs, as of `devices.find_device`; the detector stays there. calibrated: false
    spares the threshold and the map references, which a detector that is scored and thrown away does not need.

    Raises DatasetError for too few images and ImageError for one that cannot be read, AttentDifferNetError for options
    that the recipe does not have and for a device that is not here.
    """
    device = find_device(device)
    if config.recipe == "paper" and (
        model_config.views != "rotations" or model_config.flow.whitening or model_config.exposure != "as_is"
    ):
        raise AttentDifferNetError(
            "The recipe paper takes rotations of images as they are, no whitening before the flow"
        )
    fit, held_out = split_normals(images, config)
    model = AttentDifferNet(model_config, config.seed).eval().to(device)
    paths = [image.path for image in fit]
    attention = model_config.attention
    with_the_flow = config.recipe == "paper" and paper_recipe.trains_attention(model_config)
    if attention.gates and attention.training != "untrained" and not with_the_flow:
        fit_attention(model, paths, config.seed, progress)
    if config.recipe == "paper":
        paper_recipe.fit(model, paths, config, progress, after_epoch=partial(after_epoch, model))
    else:

        def views_of(model: AttentDifferNet) -> Tensor:
            extractor = FeatureExtractor(model, cache)
            return extractor.random_views(paths, config.views_per_image, config.data_seed, progress)

        if attention.gates and attention.training == "separation":
            judges = [image.path for image in held_out]
            model, views = _kept_where_it_helps(model, judges, config, scoring.n_views, views_of, cache, progress)
        else:
            views = views_of(model)
        fit_flow(model.flow, fit_gaussian(model, views.flatten(0, 1)), config, progress, partial(after_epoch, model))
    model.requires_grad_(False)
    detector = Detector(
        model, config, scoring, Calibration(0.0, 1, 1.0, (), {}), dataclasses.replace(data, n_fitted=len(fit))
    )
    detector = detector.as_stored()  # calibrate what a checkpoint will hold, rounding of its weights included
    return calibrate(detector, held_out, cache, progress) if calibrated else detector


def _kept_where_it_helps(
    gated: AttentDifferNet,
    held_out: Sequence[Path],
    config: TrainingConfig,
    n_views: int,
    views_of: Callable[[AttentDifferNet], Tensor],
    cache: Path | None,
    progress: Progress,
) -> tuple[AttentDifferNet, Tensor]:
    """The model as it is, flow not fitted, if the whole detector tells synthetic defects in held-out normals better
    with its gates than without, by more than the standard error of the difference (DeLong, p < 0.32). Else the same
    with gates at 1, whose flow starts as DifferNet's of the same seed: the detector is then DifferNet's. With it, what
    views_of gave of it: the features to fit to.

    Gates raise the scores of synthetic defects before a small Gaussian easily; most of that is gone before a flow that
    has seen every view, so nothing less than the whole detector is asked.
    """
    at_one = dataclasses.replace(gated.config.attention, strength=0.0)
    left = AttentDifferNet(dataclasses.replace(gated.config, attention=at_one), config.seed)
    left.flow = AttentDifferNet(dataclasses.replace(gated.config, attention=AttentionConfig()), config.seed).flow
    left = left.eval().to(gated.device)
    rng = torch.Generator().manual_seed(config.data_seed)
    some = sorted(torch.randperm(len(held_out), generator=rng)[:JUDGED_IMAGES].tolist())
    size, least_side = gated.config.image_size, gated.config.least_side
    judged = DefectTest([held_out[i] for i in some], JUDGED_DEFECTS, size, least_side, rng)

    def scores(model: AttentDifferNet, views: Tensor) -> np.ndarray:
        model = copy.deepcopy(model)
        fit_flow(model.flow, fit_gaussian(model, views.flatten(0, 1)), config, progress)
        rows: list[Tensor] = []
        for features in FeatureExtractor(model, cache).of_tensors(judged.inputs(model), model.views(n_views)):
            rows.append(features)
            progress("judging attention on synthetic defects", len(rows), len(judged.labels))
        with torch.inference_mode():
            return model.score(to_device(torch.stack(rows), model.device)).cpu().numpy()

    (with_gates, views), (without, views_left) = [(scores(m, v), v) for m in (gated, left) for v in [views_of(m)]]
    helps = beats(judged.labels, with_gates, without, BEYOND_STANDARD_ERROR)
    model, views = (gated, views) if helps else (left, views_left)
    areas = auroc(judged.labels, with_gates), auroc(judged.labels, without)
    attention = dataclasses.replace(model.config.attention, judged=areas)
    model.config = dataclasses.replace(model.config, attention=attention)
    return model, views


def fit_gaussian(model: AttentDifferNet, features: Tensor) -> Tensor:
    """Scale and whitening of a model from feature rows (N, 768) of normal images, in place; what the flow is fitted
    to: (N, 768), on the model's device."""
    deviation = float(features.std(0).mean())
    if not 0 < deviation < math.inf:
        raise DatasetError("The training images all have the same features: there is nothing to learn from them")
    model.config = dataclasses.replace(model.config, feature_scale=FEATURE_DEVIATION / deviation)
    if model.whitening is not None:
        model.whitening.fit(features * model.config.feature_scale)
    return model.gaussian_latent(to_device(features, model.device))[0]


def fit_flow(
    flow: nn.Module,
    features: Tensor,
    config: TrainingConfig,
    progress: Progress = no_progress,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> None:
    """Maximum likelihood of feature rows (N, D), in place, on the flow's device, which is not waited for. Deterministic
    in config.seed, though other devices draw other numbers; leaves the global random state alone."""
    # FrEIA keeps its permutations as parameters that need no gradient.
    parameters = [p for p in flow.parameters() if p.requires_grad]
    device = parameters[0].device
    rng = torch.Generator(device).manual_seed(config.seed)
    optimiser = torch.optim.Adam(
        parameters, lr=config.learning_rate, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay
    )
    noise = config.feature_noise * float(features.std(0).mean()) if len(features) > 1 else 0.0
    features = to_device(features, device)
    for epoch in range(config.epochs):
        for rows in torch.randperm(len(features), generator=rng, device=device).split(config.batch_size):
            batch = features[rows]
            batch = batch + noise * torch.randn(batch.shape, generator=rng, device=device)
            loss = negative_log_likelihood(*flow(batch)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        progress("fitting the flow", epoch + 1, config.epochs)
        after_epoch(epoch + 1)


def calibrate(
    detector: Detector, held_out: Sequence[InspectionImage], cache: Path | None, progress: Progress = no_progress
) -> Detector:
    """The detector with its threshold, the held-out normals' scores, when scores settle, and the unit of each map's
    colour scale."""
    model, paths = detector.model, [image.path for image in held_out]
    features = torch.stack(list(FeatureExtractor(model, cache).even_views(paths, detector.scoring.n_views, progress)))
    n_views = features.shape[1]
    features = to_device(features, model.device)
    with torch.inference_mode():
        after = {n: model.score(features[:, :n]).cpu() for n in group_ends(n_views)}
    scores = sorted(after[n_views].tolist())
    threshold, rate = conformal_threshold(scores, detector.training.false_positive_rate)
    early = _settling(after, model.config.readout)
    maps: dict[str, list[np.ndarray]] = {method: [] for method in methods_of(model.config)}
    shown = paths[:REFERENCE_IMAGES]
    for done, path in enumerate(shown, 1):
        tensor = model.prepare(read_image(path))
        for method, values in maps.items():
            values.append(explain(model, tensor, method).ravel())
        progress("maps of held-out normals", done, len(shown))
    references = {method: _reference(np.concatenate(values)) for method, values in maps.items()}
    calibration = Calibration(threshold, n_views, rate, tuple(scores), references, *early)
    return dataclasses.replace(detector, calibration=calibration)


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
    if confidence < LEAST_SETTLED:  # too few normals are held out to say anything
        return {}, {}, 0.0
    return (
        {str(n): math.exp(median) for n, median in medians.items()},
        {str(n): math.exp(bound) for n, (bound, _) in bounds.items()},
        confidence,
    )


def _reference(values: np.ndarray) -> float:
    """The unit of a map's colour scale, above 0 even where a map of normals is 0 nearly everywhere."""
    return float(np.quantile(values, REFERENCE_QUANTILE)) or float(values.max()) or 1.0
