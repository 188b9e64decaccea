"""Which input, kind of views, how many, and which readout suit a category: chosen on training normals alone.

The rule is fixed; no test image is read. It uses the plain backbone whatever the variant, so that the variants of a
category are scored alike and compared in pairs.

1. Exposure: standardised where brightness and contrast of training normals vary together by more than UNSTEADY_LIGHT
   from image to image. Light or exposure time then was not held still, and brightness says little of a part.
   DifferNet's authors treat such a category apart, too: they vary brightness and contrast of magnetic tiles by ±15 %.
2. Input: rotations, quarter turns, flips or none of the image squeezed to a square; where images are no squares, also
   flips or none of the image with its aspect kept. The one by which normals held out and the same normals with
   synthetic defects (`synthetic.py`) are told apart best, by the Mahalanobis distance of view-averaged features.
   Rotations, of which many are needed, must be better than the best of the others by more than the standard error of
   the difference (DeLong, p < 0.32), and flips by more than chance (p < 0.05): they make the model blind to parts put
   in mirrored. Quarter turns become `dihedral`, which does so too, where a density of quarter turns alone hardly tells
   normals from their mirror images (AUROC of HANDED at most): then little is lost, and the flow, which memorises
   less the more copies it sees, has twice as many.
3. Readout: `z2_of_mean`, unless another that the flow allows is better on the same images by more than the standard
   error of the difference (DeLong, p < 0.32).
4. Number of rotations: the fewest of 16, 32, 64 for which the variance that the choice of views adds to a score is at
   most a twentieth of the variance between held-out normals. The other kinds are taken whole.
"""

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .category import InspectionImage
from .config import (
    UNSTEADY_LIGHT,
    UPRIGHT,
    AttentionConfig,
    Exposure,
    FlowConfig,
    ModelConfig,
    Readout,
    Resize,
    ScoringConfig,
    TrainingConfig,
    ViewKind,
)
from .devices import find_device, to_device
from .features import FeatureExtractor, Progress, no_progress
from .images import read_image
from .model import AttentDifferNet
from .scoring import running_score
from .study.statistics import BEYOND_STANDARD_ERROR, auroc, beats
from .synthetic_defects import DefectTest
from .training import fit_flow, fit_gaussian, split_normals
from .views import FEW_VIEWS

FITTED_IMAGES, HELD_OUT_IMAGES = 64, 32  # at most: the rule must cost little beside the training
DEFECTS = 2  # synthetic, of each normal held out
# The first six dihedral views hold all quarter turns and all flips. Four even rotations would be quarter turns, without
# the black corners of the random ones that they are measured against.
FITTED_VIEWS, COMPARED_VIEWS = {"rotations": 4, "dihedral": 6}, {"rotations": 8, "dihedral": 6}
HANDED = 2 / 3  # a mirrored part is told from a right one twice out of three times
SQUARE = 1.05  # aspects up to this, or its inverse, count as square
TRAINING_ROTATIONS = {16: 8, 32: 24, 64: 48}  # by rotations in scoring
VIEW_VARIANCE = 0.05
BEYOND_CHANCE = 0.05
MUST_WIN: dict[ViewKind, float] = {"rotations": BEYOND_STANDARD_ERROR, "flips": BEYOND_CHANCE}
COMPARED: tuple[Readout, ...] = ("z2_of_mean", "z2", "gaussian_of_mean", "gaussian", "gaussian_full_scale")

Input = tuple[ViewKind, Resize]


@dataclass(frozen=True)
class Choice:
    """What was chosen, and what it rests on: how much exposure varies, how well mirrored normals are told (AUROC; None
    where that was not asked), and the AUROC on synthetic defects, by input and by readout."""

    views: ViewKind
    resize: Resize
    exposure: Exposure
    readout: Readout
    n_views: int
    training_views: int
    exposure_varies: float
    handed: float | None
    by_input: dict[Input, float]
    by_readout: dict[str, float]

    def applied(
        self, model_config: ModelConfig, config: TrainingConfig, scoring: ScoringConfig, fixed: Collection[str] = ()
    ) -> tuple[ModelConfig, TrainingConfig, ScoringConfig]:
        """The same configurations with what was chosen. fixed: which of `views_per_image` and `n_views` stay."""
        if "views_per_image" not in fixed:
            config = dataclasses.replace(config, views_per_image=self.training_views)
        if "n_views" not in fixed:
            scoring = dataclasses.replace(scoring, n_views=self.n_views)
        chosen = {name: getattr(self, name) for name in ("views", "resize", "exposure", "readout")}
        return dataclasses.replace(model_config, **chosen), config, scoring


def choose(
    images: Sequence[InspectionImage],
    model_config: ModelConfig,
    config: TrainingConfig,
    cache: Path | None = None,
    progress: Progress = no_progress,
    fixed: Collection[str] = (),
    device: str | torch.device = "cpu",
) -> Choice:
    """The options for a category from its training normals. Deterministic in config.data_seed.

    fixed: which of `views`, `resize`, `exposure` and `readout` are not to be chosen but taken from model_config.
    device: where it runs, as of `devices.find_device`.

    Raises DatasetError for too few images and ImageError for one that cannot be read.
    """
    device = find_device(device)
    rng = torch.Generator().manual_seed(config.data_seed)
    fit, held_out = (
        _some(part, most, rng)
        for part, most in zip(split_normals(images, config), (FITTED_IMAGES, HELD_OUT_IMAGES), strict=True)
    )
    exposure_varies = spread_of_exposure(fit)
    exposure = model_config.exposure if "exposure" in fixed else exposure_for(exposure_varies)
    plain = dataclasses.replace(
        model_config,
        attention=AttentionConfig(),
        flow=FlowConfig(),
        readout="gaussian_of_mean",
        exposure=exposure,
        feature_scale=1.0,
    )
    model = AttentDifferNet(plain, config.data_seed).eval().to(device)
    judged = DefectTest([image.path for image in held_out], DEFECTS, plain.image_size, plain.least_side, rng)
    labels, n_normals = judged.labels, judged.n_normals
    asked = _inputs(model_config, fixed, any(max(h / w, w / h) > SQUARE for h, w in judged.shapes))

    fitted: dict[Input, Tensor] = {}  # features (N, V, 768)
    scored: dict[Input, Tensor] = {}  # of normals, then of the same with a defect
    dihedral = torch.empty(0)  # the same, of six dihedral views
    sources = list(dict.fromkeys(_source(of, asked) for of in asked))
    steps, before = len(fit) + len(labels), 0

    def tell(done: int) -> None:
        progress("choosing views on synthetic defects", before + done, len(sources) * steps)

    for source, resize in sources:
        model.config = dataclasses.replace(plain, views=source, resize=resize)
        extractor = FeatureExtractor(model, cache)
        whole = source != "rotations" and (source, resize) in asked
        n_fitted, n_views = (len(FEW_VIEWS[source]),) * 2 if whole else (FITTED_VIEWS[source], COMPARED_VIEWS[source])
        rows = extractor.random_views(
            [image.path for image in fit], n_fitted, config.data_seed, lambda _, done, __: tell(done)
        )
        parts: list[Tensor] = []
        for features in extractor.of_tensors(judged.inputs(model), model.views(n_views)):
            tell(len(fit) + len(parts))
            parts.append(features)
        before += steps
        rows_scored = torch.stack(parts)
        if source == "dihedral":
            dihedral = rows_scored
        for of in (of for of in asked if _source(of, asked) == (source, resize)):
            fitted[of], scored[of] = rows, rows_scored
            if of[0] != source:
                which = [int((FEW_VIEWS[source] - view).abs().sum((1, 2)).argmin()) for view in FEW_VIEWS[of[0]]]
                fitted[of], scored[of] = fitted[of][:, which], scored[of][:, which]
    tell(0)

    def scores(features: Tensor, name: Readout) -> np.ndarray:
        model.config = dataclasses.replace(model.config, readout=name)
        with torch.inference_mode():
            return model.score(to_device(features, model.device)).cpu().numpy()

    best, by_input, handed = asked[0], {}, None
    if len(asked) > 1:
        distances: dict[Input, np.ndarray] = {}
        for of, rows in fitted.items():
            fit_gaussian(model, rows.flatten(0, 1))
            distances[of] = scores(scored[of], "gaussian_of_mean")
        by_input = {of: auroc(labels, values) for of, values in distances.items()}
        best = max((of for of in by_input if of[0] not in MUST_WIN), key=by_input.__getitem__, default=best)
        for kind, p_value in MUST_WIN.items():
            rival = max((of for of in by_input if of[0] == kind), key=by_input.__getitem__, default=best)
            if beats(labels, distances[rival], distances[best], p_value):
                best = rival
        if best[0] == "quarter_turns":  # two turns of each normal, then the same two mirrored
            fit_gaussian(model, fitted[best].flatten(0, 1))
            turns = dihedral[:n_normals].unflatten(1, (3, 2))[:, [0, 2]].transpose(0, 1).flatten(0, 1)
            handed = auroc(np.repeat([0, 1], n_normals), scores(turns, "gaussian_of_mean"))

    fit_flow(model.flow, fit_gaussian(model, fitted[best].flatten(0, 1)), config)
    readout, by_readout = model_config.readout, {}
    if "readout" not in fixed:
        whitening = model_config.flow.whitening
        readings = {
            name: scores(scored[best], name) for name in COMPARED if whitening or not name.startswith("gaussian")
        }
        by_readout = {str(name): auroc(labels, values) for name, values in readings.items()}
        best_readout = max(readings, key=lambda name: by_readout[name])
        better = beats(labels, readings[best_readout], readings[COMPARED[0]], BEYOND_STANDARD_ERROR)
        readout = best_readout if better else COMPARED[0]

    views, resize = best
    if handed is not None and handed <= HANDED:
        views = "dihedral"
    n_views = training_views = len(FEW_VIEWS.get(views, ()))
    if views == "rotations":
        model.config = dataclasses.replace(model.config, readout=readout)
        running = [running_score(model, of) for of in to_device(scored[best][:n_normals], model.device)]
        noise = float(np.mean([score.standard_error**2 for score in running])) * COMPARED_VIEWS[views]
        spread = float(np.var([score.value for score in running]))
        n_views = next((n for n in TRAINING_ROTATIONS if noise / n <= VIEW_VARIANCE * spread), max(TRAINING_ROTATIONS))
        training_views = TRAINING_ROTATIONS[n_views]
    return Choice(
        views, resize, exposure, readout, n_views, training_views, exposure_varies, handed, by_input, by_readout
    )


def spread_of_exposure(images: Sequence[InspectionImage]) -> float:
    """Standard deviation, over the images, of what moves the logarithms of brightness and of contrast alike, as light
    and exposure time do: the root of their covariance. Another background moves them apart, and does not count."""
    pixels = (read_image(image.path) for image in images)
    logs = np.log([(max(1.0, of_one.mean()), max(1.0, of_one.std())) for of_one in pixels])
    (_, together), _ = np.cov(logs.T, bias=True)
    return float(np.sqrt(max(0.0, together)))


def exposure_for(exposure_varies: float) -> Exposure:
    return "standardised" if exposure_varies > UNSTEADY_LIGHT else "as_is"


def _inputs(model_config: ModelConfig, fixed: Collection[str], rectangles: bool) -> list[Input]:
    """What is compared: kinds of views with the image squeezed, and with its aspect kept."""
    kinds: tuple[ViewKind, ...] = ("rotations", "quarter_turns", "flips", "none")
    if "views" in fixed:
        kinds = (model_config.views,)
    resizes: tuple[Resize, ...] = ("squeeze", "keep_aspect") if rectangles else ("squeeze",)
    if "resize" in fixed:
        resizes = (model_config.resize,)
    return [(views, r) for r in resizes for views in kinds if r == "squeeze" or views in UPRIGHT]


def _source(of: Input, asked: Sequence[Input]) -> Input:
    """The input whose features hold those of this one, where several are asked for."""
    views, resize = of
    if views == "rotations" or len(asked) == 1:
        return of
    return ("dihedral", resize) if resize == "squeeze" else ("flips", resize)


def _some(images: Sequence[InspectionImage], most: int, rng: torch.Generator) -> list[InspectionImage]:
    return [images[i] for i in sorted(torch.randperm(len(images), generator=rng)[:most].tolist())]
