"""Calibration of few images without holding any out: each is scored by a flow that was fitted to the others.

Of 20 photographs a fifth, held out, are 4: the highest of their scores can promise no less than one false alarm among 5
good parts. Scores of all 20 promise one among 21. As with PatchCore, the detector itself is then fitted to all images,
so it places new ones a little nearer than the flows of the folds did, and the promise is kept on average.

Gates are trained on images, too. Where trained gates were kept, the images that they saw set no threshold.
"""

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .calibration import calibration_of, even_features, map_references, split_normals
from .devices import to_device
from .findings import Calibration
from .flow_fitting import fit_readout
from .model import AttentDifferNet
from .options import Options
from .packing import round_as_stored
from .scoring import group_ends
from .sources import ImageSource
from .stages import Progress, no_progress

FOLDS = 5


def cross_calibrates(n_images: int, options: Options) -> bool:
    """Whether the share of so few images that is held out could not promise the rate of false alarms that is asked."""
    _, held_out = split_normals(range(n_images), options)
    return options.recipe == "fast" and 1 / (len(held_out) + 1) > options.false_positive_rate


def cross_calibrate(
    unfitted: AttentDifferNet,
    images: Sequence[ImageSource],
    features: Tensor,
    options: Options,
    n_views: int,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> tuple[Calibration, list[float]]:
    """What images say about new ones, each scored by a model that was fitted to those of the other folds; and the score
    of each, in their order.

    unfitted: the model as it is before its flow is fitted; it is not changed. features: (N, V, 768), what flows are
    fitted to. Deterministic in the seeds of the options.
    """
    rows = even_features(unfitted, images, n_views, cache, progress)
    after = {n: torch.empty(len(images)) for n in group_ends(rows.shape[1])}
    references: dict[str, float] = {}
    rng = torch.Generator().manual_seed(options.data_seed)
    for done, fold in enumerate(torch.randperm(len(images), generator=rng).tensor_split(FOLDS), 1):
        others = torch.ones(len(images), dtype=torch.bool).index_fill(0, fold, False)
        model = copy.deepcopy(unfitted)
        fit_readout(model, features[others], options)
        round_as_stored(model)
        scored = to_device(rows[fold], model.device)
        with torch.inference_mode():
            for n, scores in after.items():
                scores[fold] = model.score(scored[:, :n]).cpu()
        references = references or map_references(model, [images[k] for k in fold.tolist()], progress)
        progress("scoring each fold by the others", done, FOLDS)
    calibration = calibration_of(after, references, unfitted.config.readout, options.false_positive_rate)
    return dataclasses.replace(calibration, cross_validated=True), after[calibration.n_views].tolist()
