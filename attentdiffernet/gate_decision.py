"""Gates are kept only if they measurably help the whole detector; otherwise it becomes DifferNet.

Gates easily raise the scores of synthetic defects before a small Gaussian. Most of that gain is gone once a flow has
seen every view, so the whole detector decides.
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .devices import to_device
from .features import FeatureExtractor
from .flow_fitting import fit_readout
from .model import AttentDifferNet
from .options import Options
from .sources import ImageSource
from .stages import Progress, no_progress
from .study.statistics import BEYOND_STANDARD_ERROR, auroc, beats
from .synthetic_defects import DefectTest

JUDGED_IMAGES, JUDGED_DEFECTS = 32, 3  # held-out normals, at most, and synthetic defects in each


@dataclass(frozen=True)
class GateDecision:
    """model: the one to go on with, flow not fitted yet. features: what its flow is to be fitted to, (N, V, 768).
    aurocs: on synthetic defects, with the gates and without."""

    model: AttentDifferNet
    features: Tensor
    aurocs: tuple[float, float]


def keep_gates_if_better(
    gated: AttentDifferNet,
    held_out: Sequence[ImageSource],
    options: Options,
    n_views: int,
    features_of: Callable[[AttentDifferNet], Tensor],
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> GateDecision:
    """The given model if, fitted with its gates, it detects synthetic defects in held-out normals better than without
    them, by more than the standard error of the difference (DeLong, p < 0.32). Otherwise the same model with gates at
    1, whose flow starts as DifferNet's of the same seed.

    features_of: the training features (N, V, 768) of a model.
    """
    left_at_one = _with_gates_at_one(gated, options.seed)
    test = _defects_in(held_out, gated, options.data_seed)

    def scores(model: AttentDifferNet, features: Tensor) -> np.ndarray:
        model = copy.deepcopy(model)
        fit_readout(model, features, options, progress)
        return _scores(model, test, n_views, cache, progress)

    candidates = [(model, features_of(model)) for model in (gated, left_at_one)]
    with_gates, without = (scores(*candidate) for candidate in candidates)
    helps = beats(test.labels, with_gates, without, BEYOND_STANDARD_ERROR)
    model, features = candidates[0 if helps else 1]
    return GateDecision(model, features, (auroc(test.labels, with_gates), auroc(test.labels, without)))


def _with_gates_at_one(gated: AttentDifferNet, seed: int) -> AttentDifferNet:
    """The same model as it was before its gates were trained, with the flow that DifferNet starts with."""
    config = gated.config
    model = AttentDifferNet(dataclasses.replace(config, gates_kept=False), seed)
    model.flow = AttentDifferNet(dataclasses.replace(config, variant="none"), seed).flow
    return model.eval().to(gated.device)


def _defects_in(held_out: Sequence[ImageSource], model: AttentDifferNet, data_seed: int) -> DefectTest:
    rng = torch.Generator().manual_seed(data_seed)
    some = sorted(torch.randperm(len(held_out), generator=rng)[:JUDGED_IMAGES].tolist())
    images = [held_out[i] for i in some]
    return DefectTest(images, JUDGED_DEFECTS, model.config.image_size, model.config.least_side, rng)


def _scores(
    model: AttentDifferNet, test: DefectTest, n_views: int, cache: Path | None, progress: Progress
) -> np.ndarray:
    rows: list[Tensor] = []
    for features in FeatureExtractor(model, cache).of_tensors(test.inputs(model), model.views(n_views)):
        rows.append(features)
        progress("judging attention on synthetic defects", len(rows), len(test.labels))
    with torch.inference_mode():
        return model.score(to_device(torch.stack(rows), model.device)).cpu().numpy()
