"""Which kind of views, how many, and which readout suit a category: chosen on training normals and synthetic defects.

The rule is fixed; no test image is read. It uses the plain backbone whatever the variant, so that the variants of a
category are scored alike and compared in pairs.

1. Kind of views: the one by which normals held out and the same normals with a synthetic defect (`synthetic.py`) are
   told apart best, by the Mahalanobis distance of view-averaged features. A kind with mirrored copies must be better
   than the best without by more than chance (DeLong, p < 0.05): it makes the model blind to parts put in mirrored.
2. Readout: `z2_of_mean`, unless another that the flow allows is better on the same images by more than chance.
3. Number of rotations: the fewest of 16, 32, 64 for which the variance that the choice of views adds to a score is at
   most a twentieth of the variance between held-out normals. The other kinds are taken whole.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from .config import AttentionConfig, FlowConfig, ModelConfig, Readout, ScoringConfig, TrainingConfig, ViewKind
from .data import FEW_VIEWS, InspectionImage, read_image, to_tensor
from .features import FeatureExtractor, Progress, no_progress
from .model import AttentDifferNet
from .scoring import running_score
from .statistics import auroc, delong_test
from .synthetic import add_defect
from .training import fit_flow, fit_gaussian, split_normals

FITTED_IMAGES, HELD_OUT_IMAGES = 64, 48  # at most: the rule must cost less than the training
ROTATIONS_COMPARED = 8
MIRRORED = ("flips", "dihedral")
TRAINING_ROTATIONS = {16: 8, 32: 24, 64: 48}  # by rotations in scoring
VIEW_VARIANCE = 0.05
SIGNIFICANT = 0.05
COMPARED: tuple[Readout, ...] = ("z2_of_mean", "z2", "gaussian_of_mean", "gaussian", "gaussian_full_scale")


@dataclass(frozen=True)
class Choice:
    """What was chosen, and the AUROC on synthetic defects that it rests on, by kind of views and by readout."""

    views: ViewKind
    readout: Readout
    n_views: int
    training_views: int
    by_views: dict[str, float]
    by_readout: dict[str, float]

    def applied(
        self, model_config: ModelConfig, config: TrainingConfig, scoring: ScoringConfig
    ) -> tuple[ModelConfig, TrainingConfig, ScoringConfig]:
        """The same configurations with what was chosen."""
        return (
            dataclasses.replace(model_config, views=self.views, readout=self.readout),
            dataclasses.replace(config, views_per_image=self.training_views),
            dataclasses.replace(scoring, n_views=self.n_views),
        )


def choose(
    images: Sequence[InspectionImage],
    model_config: ModelConfig,
    config: TrainingConfig,
    cache: Path | None = None,
    progress: Progress = no_progress,
    views: ViewKind | None = None,
    readout: Readout | None = None,
) -> Choice:
    """The options for a category from its training normals. Deterministic in config.data_seed.

    views, readout: what is not to be chosen but taken.

    Raises DatasetError for too few images and ImageError for one that cannot be read.
    """
    rng = torch.Generator().manual_seed(config.data_seed)
    fit, held_out = (
        _some(part, most, rng)
        for part, most in zip(split_normals(images, config), (FITTED_IMAGES, HELD_OUT_IMAGES), strict=True)
    )
    plain = dataclasses.replace(
        model_config, attention=AttentionConfig(), flow=FlowConfig(), readout="gaussian_of_mean", feature_scale=1.0
    )
    model = AttentDifferNet(plain, config.data_seed).eval()
    normals = torch.stack([to_tensor(read_image(image.path), plain.image_size) for image in held_out])
    defective = torch.stack([add_defect(image, normals, rng) for image in normals])
    labels = np.repeat([0, 1], len(normals))

    fitted: dict[str, Tensor] = {}  # features (N, V, 768) by kind of views
    scored: dict[str, Tensor] = {}  # of normals, then of the same with a defect
    sources: list[ViewKind] = ["rotations", "dihedral"]
    if views is not None:
        sources = ["rotations" if views == "rotations" else "dihedral"]
    steps = len(fit) + 2 * len(normals)

    def tell(done: int) -> None:
        progress("choosing views on synthetic defects", len(fitted) * steps + done, len(sources) * steps)

    for kind in sources:
        model.config = dataclasses.replace(plain, views=kind)
        extractor = FeatureExtractor(model, cache)
        paths = [image.path for image in fit]
        rows = extractor.random_views(paths, ROTATIONS_COMPARED, config.data_seed, lambda _, done, __: tell(done))
        parts = []
        for k, image in enumerate(torch.cat([normals, defective])):
            tell(len(fit) + k)
            parts.append(extractor.of_image(image, model.views(ROTATIONS_COMPARED)))
        scored[kind], fitted[kind] = torch.stack(parts), rows
    tell(0)
    for name, few in FEW_VIEWS.items() if "dihedral" in fitted else ():  # all of them are among the dihedral ones
        which = [int((FEW_VIEWS["dihedral"] - view).abs().sum((1, 2)).argmin()) for view in few]
        fitted[name], scored[name] = fitted["dihedral"][:, which], scored["dihedral"][:, which]

    def scores(of: str, name: Readout) -> np.ndarray:
        model.config = dataclasses.replace(model.config, readout=name)
        with torch.inference_mode():
            return model.score(scored[of]).numpy()

    distances: dict[str, np.ndarray] = {}
    for name, rows in fitted.items() if views is None else ():
        fit_gaussian(model, rows.flatten(0, 1))
        distances[name] = scores(name, "gaussian_of_mean")
    by_views: dict[str, float] = {kind: auroc(labels, values) for kind, values in distances.items()}
    if views is None:
        best = max((kind for kind in by_views if kind not in MIRRORED), key=by_views.__getitem__)
        mirrored = max(MIRRORED, key=by_views.__getitem__)
        if _better(labels, distances[mirrored], distances[best]):
            best = mirrored
        views = cast(ViewKind, best)

    fit_flow(model.flow, fit_gaussian(model, fitted[views].flatten(0, 1)), config)
    by_readout: dict[str, float] = {}
    if readout is None:
        whitening = model_config.flow.whitening
        readings = {name: scores(views, name) for name in COMPARED if whitening or not name.startswith("gaussian")}
        by_readout = {name: auroc(labels, values) for name, values in readings.items()}
        best_readout = max(readings, key=lambda name: by_readout[name])
        better = _better(labels, readings[best_readout], readings[COMPARED[0]])
        readout = best_readout if better else COMPARED[0]

    n_views, training_views = len(FEW_VIEWS.get(views, ())), len(FEW_VIEWS.get(views, ()))
    if views == "rotations":
        model.config = dataclasses.replace(model.config, readout=readout)
        running = [running_score(model, features) for features in scored[views][: len(normals)]]
        noise = float(np.mean([score.standard_error**2 for score in running])) * ROTATIONS_COMPARED
        spread = float(np.var([score.value for score in running]))
        n_views = next((n for n in TRAINING_ROTATIONS if noise / n <= VIEW_VARIANCE * spread), max(TRAINING_ROTATIONS))
        training_views = TRAINING_ROTATIONS[n_views]
    return Choice(views, readout, n_views, training_views, by_views, by_readout)


def _some(images: Sequence[InspectionImage], most: int, rng: torch.Generator) -> list[InspectionImage]:
    return [images[i] for i in sorted(torch.randperm(len(images), generator=rng)[:most].tolist())]


def _better(labels: np.ndarray, one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the first tells normals from anomalies better than the second by more than chance."""
    if auroc(labels, one) <= auroc(labels, other) or len(labels) < 4:
        return False
    return delong_test(labels, one, other).p_value < SIGNIFICANT
