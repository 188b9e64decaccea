"""Which kind of views, how many, and which readout suit a category: chosen on training normals and synthetic defects.

The rule is fixed; no test image is read. It uses the plain backbone whatever the variant, so that the variants of a
category are scored alike and compared in pairs.

1. Kind of views: rotations, quarter turns, flips or none; the one by which normals held out and the same normals with
   a synthetic defect (`synthetic.py`) are told apart best, by the Mahalanobis distance of view-averaged features. Flips
   must be better than the best of the others by more than chance (DeLong, p < 0.05): they make the model blind to
   parts put in mirrored. `dihedral`, which does so too, is for those who ask for it.
2. Readout: `z2_of_mean`, unless another that the flow allows is better on the same images by more than the standard
   error of the difference (DeLong, p < 0.32).
3. Number of rotations: the fewest of 16, 32, 64 for which the variance that the choice of views adds to a score is at
   most a twentieth of the variance between held-out normals. The other kinds are taken whole.
"""

import dataclasses
from collections.abc import Collection, Sequence
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

FITTED_IMAGES, HELD_OUT_IMAGES = 48, 40  # at most: the rule must cost little beside the training
COMPARED_VIEWS = {"rotations": 4, "dihedral": 6}  # the first six dihedral ones hold all quarter turns and all flips
MIRRORED = "flips"
TRAINING_ROTATIONS = {16: 8, 32: 24, 64: 48}  # by rotations in scoring
VIEW_VARIANCE = 0.05
BEYOND_CHANCE, BEYOND_STANDARD_ERROR = 0.05, 0.32
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
        self, model_config: ModelConfig, config: TrainingConfig, scoring: ScoringConfig, fixed: Collection[str] = ()
    ) -> tuple[ModelConfig, TrainingConfig, ScoringConfig]:
        """The same configurations with what was chosen. fixed: which of `views_per_image` and `n_views` stay."""
        if "views_per_image" not in fixed:
            config = dataclasses.replace(config, views_per_image=self.training_views)
        if "n_views" not in fixed:
            scoring = dataclasses.replace(scoring, n_views=self.n_views)
        return dataclasses.replace(model_config, views=self.views, readout=self.readout), config, scoring


def choose(
    images: Sequence[InspectionImage],
    model_config: ModelConfig,
    config: TrainingConfig,
    cache: Path | None = None,
    progress: Progress = no_progress,
    fixed: Collection[str] = (),
) -> Choice:
    """The options for a category from its training normals. Deterministic in config.data_seed.

    fixed: `views`, `readout` or both where these are not to be chosen but taken from model_config.

    Raises DatasetError for too few images and ImageError for one that cannot be read.
    """
    views: ViewKind | None = model_config.views if "views" in fixed else None
    readout: Readout | None = model_config.readout if "readout" in fixed else None
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
        n_views = len(FEW_VIEWS["dihedral"]) if views == "dihedral" else COMPARED_VIEWS[kind]
        rows = extractor.random_views(paths, n_views, config.data_seed, lambda _, done, __: tell(done))
        parts = []
        for k, image in enumerate(torch.cat([normals, defective])):
            tell(len(fit) + k)
            parts.append(extractor.of_tensor(image, model.views(n_views)))
        scored[kind], fitted[kind] = torch.stack(parts), rows
    tell(0)
    if "dihedral" in fitted and views != "dihedral":
        of_six, scored_of_six = fitted.pop("dihedral"), scored.pop("dihedral")
        for name in ("quarter_turns", "flips", "none"):
            which = [int((FEW_VIEWS["dihedral"] - view).abs().sum((1, 2)).argmin()) for view in FEW_VIEWS[name]]
            fitted[name], scored[name] = of_six[:, which], scored_of_six[:, which]

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
        best = max((kind for kind in by_views if kind != MIRRORED), key=by_views.__getitem__)
        if _better(labels, distances[MIRRORED], distances[best], BEYOND_CHANCE):
            best = MIRRORED
        views = cast(ViewKind, best)

    fit_flow(model.flow, fit_gaussian(model, fitted[views].flatten(0, 1)), config)
    by_readout: dict[str, float] = {}
    if readout is None:
        whitening = model_config.flow.whitening
        readings = {name: scores(views, name) for name in COMPARED if whitening or not name.startswith("gaussian")}
        by_readout = {name: auroc(labels, values) for name, values in readings.items()}
        best_readout = max(readings, key=lambda name: by_readout[name])
        better = _better(labels, readings[best_readout], readings[COMPARED[0]], BEYOND_STANDARD_ERROR)
        readout = best_readout if better else COMPARED[0]

    n_views, training_views = len(FEW_VIEWS.get(views, ())), len(FEW_VIEWS.get(views, ()))
    if views == "rotations":
        model.config = dataclasses.replace(model.config, readout=readout)
        running = [running_score(model, features) for features in scored[views][: len(normals)]]
        noise = float(np.mean([score.standard_error**2 for score in running])) * COMPARED_VIEWS[views]
        spread = float(np.var([score.value for score in running]))
        n_views = next((n for n in TRAINING_ROTATIONS if noise / n <= VIEW_VARIANCE * spread), max(TRAINING_ROTATIONS))
        training_views = TRAINING_ROTATIONS[n_views]
    return Choice(views, readout, n_views, training_views, by_views, by_readout)


def _some(images: Sequence[InspectionImage], most: int, rng: torch.Generator) -> list[InspectionImage]:
    return [images[i] for i in sorted(torch.randperm(len(images), generator=rng)[:most].tolist())]


def _better(labels: np.ndarray, one: np.ndarray, other: np.ndarray, p_value: float) -> bool:
    """Whether the first tells normals from anomalies better than the second, with at most this p-value."""
    if auroc(labels, one) <= auroc(labels, other) or len(labels) < 4:
        return False
    return delong_test(labels, one, other).p_value < p_value
