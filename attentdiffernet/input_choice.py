"""Which exposure, input, readout and number of views suit a category: chosen on training normals alone.

The rule is fixed and reads no test image. It uses the plain backbone whatever the variant, so that the variants of a
category are scored alike and compared in pairs.

1. `choose_exposure`: standardised where brightness and contrast of training normals vary together by more than
   UNSTEADY_LIGHT from image to image. Light or exposure time was then not constant, and brightness says little about a
   part. DifferNet's authors treat such a category separately, too: they vary brightness and contrast of magnetic tiles
   by ±15 %.
2. `choose_input`: quarter turns, flips or none of the image squeezed to a square; where images are not square, also
   flips or none of the image with its aspect kept. It takes the input that best separates held-out normals from the
   same normals with synthetic defects (synthetic_defects.py), by the Mahalanobis distance of view-averaged features.
   Flips must be better than the best of the others by more than chance (DeLong, p < 0.05): with flips, parts put in
   mirrored go unnoticed. Quarter turns become `dihedral`, with the same disadvantage, where a density of quarter turns
   hardly separates normals from their mirror images (AUROC of MIRROR_AUROC at most): then little is lost, and the flow,
   which memorises less the more copies it sees, has twice as many.
3. `choose_readout`: `z2_of_mean`, unless another that the flow allows is better on the same images by more than the
   standard error of the difference (DeLong, p < 0.32).
4. `choose_view_numbers`: of the kinds that have few, all. Where all quarter turns (or `dihedral`) leave more than a
   twentieth of the variance between held-out normals to the choice of views, and a density of normals as they lie
   hardly separates them from the same turned by 45° (AUROC of TURN_AUROC at most; the corners masked, which a turned
   square fills with black), parts lie at any angle: turns cost nothing then, and quarter turns become rotations, with
   the readout chosen anew. Of rotations, the fewest of 16, 32, 64 that leave no more than that twentieth. They are
   many, so their features are computed for such parts only.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from .calibration import split_normals
from .copies import copy_of
from .devices import find_device, to_device
from .features import FeatureExtractor
from .findings import Findings
from .flow_fitting import fit_flow, fit_gaussian
from .model import AttentDifferNet, ModelConfig
from .options import (
    GAUSSIAN_READOUTS,
    SCORING_VIEWS,
    TRAINING_VIEWS,
    UNSTEADY_LIGHT,
    UPRIGHT,
    Exposure,
    Options,
    Readout,
    Resize,
    ViewKind,
)
from .scoring import running_score
from .sources import ImageSource, pixels_of
from .stages import Progress, no_progress
from .study.statistics import BEYOND_STANDARD_ERROR, auroc, beats
from .synthetic_defects import DefectTest
from .views import FEW_VIEWS, even_angles, possible_views, rotations
from .words import input_title

FITTED_IMAGES, HELD_OUT_IMAGES = 64, 32  # at most: the rule must cost little beside the training
DEFECTS = 2  # synthetic, of each normal held out
# The first six dihedral views hold all quarter turns and all flips. Four even rotations would be quarter turns, without
# the black corners of the random ones that they are measured against.
FITTED_VIEWS, COMPARED_VIEWS = {"rotations": 4, "dihedral": 6}, {"rotations": 8, "dihedral": 6}
MIRROR_AUROC = TURN_AUROC = 2 / 3  # a mirrored or turned part is told from a right one twice out of three times
AS_THEY_LIE_DEG = 5.0  # a turn up to this leaves a part as it lies, and blurs as a turn by 45° does
DECODED_AT_ONCE, MEASURED_SIDE = 2, 1024  # px
SQUARE = 1.05  # aspects up to this, or its inverse, count as square
TRAINING_ROTATIONS = {16: 8, 32: 24, 64: 48}  # by rotations in scoring
VIEW_VARIANCE = 0.05
BEYOND_CHANCE = 0.05
COMPARED: tuple[Readout, ...] = ("z2_of_mean", "z2", "gaussian_of_mean", "gaussian", "gaussian_full_scale")

Input = tuple[ViewKind, Resize]
TURNED: Input = ("rotations", "squeeze")
T = TypeVar("T")


def choose(
    images: Sequence[ImageSource],
    options: Options,
    cache: Path | None = None,
    progress: Progress = no_progress,
    device: str | torch.device = "cpu",
) -> Findings:
    """What suits a category, from its training normals; options that are given stay as they are. Deterministic in the
    seeds.

    device: where it runs, as of `devices.find_device`. Raises DatasetError for too few images and ImageError for one
    that cannot be read.
    """
    if not options.leaves_a_choice:
        return _as_given(options)
    return examine(images, options, cache, progress, device).findings


@dataclass(frozen=True)
class Examined:
    """What was found, and what it rests on. fit: the normals that everything was fitted to. test: those held out, with
    and without synthetic defects. scores: DifferNet's of the test's images, with all that was found."""

    findings: Findings
    fit: Sequence[ImageSource]
    test: DefectTest
    scores: np.ndarray


def examine(
    images: Sequence[ImageSource],
    options: Options,
    cache: Path | None = None,
    progress: Progress = no_progress,
    device: str | torch.device = "cpu",
) -> Examined:
    """As `choose`, whether or not the options leave a choice."""
    device = find_device(device)
    rng = torch.Generator().manual_seed(options.data_seed)
    parts = zip(split_normals(images, options), (FITTED_IMAGES, HELD_OUT_IMAGES), strict=True)
    fit, held_out = (_some(part, most, rng) for part, most in parts)
    exposure, exposure_varies = choose_exposure(fit, options)
    model = _plain(options, exposure).to(device)
    test = DefectTest(held_out, DEFECTS, options.image_size, model.config.least_side, rng)
    trial = _Trial(model, fit, test, options, cache, progress)
    best, by_input, mirror_auroc = choose_input(trial)
    readout, by_readout = choose_readout(trial, best)
    views, resize = best
    if mirror_auroc is not None and mirror_auroc <= MIRROR_AUROC:
        views = "dihedral"
    turn_auroc = None
    if _wants_more_views(trial, views, best, readout):
        turn_auroc = _turn_auroc(trial)
        if turn_auroc <= TURN_AUROC:
            best = views, resize = TURNED
            trial.measure([TURNED], "choosing the number of rotations")
            readout, by_readout = choose_readout(trial, best)
    training_views, scoring_views = choose_view_numbers(trial, views, best, readout)
    trial.fit_gaussian(best)  # which the test of turns has moved
    scores = trial.scores(trial.scored[best], readout)
    findings = Findings(
        views,
        resize,
        exposure,
        readout,
        possible_views(views, options.training_views or training_views),
        possible_views(views, options.scoring_views or scoring_views),
        exposure_varies=exposure_varies,
        mirror_auroc=mirror_auroc,
        turn_auroc=turn_auroc,
        by_input=by_input,
        by_readout=by_readout,
    )
    return Examined(findings, fit, test, scores)


def _as_given(options: Options) -> Findings:
    """Nothing is left to choose."""
    assert options.views
    assert options.resize
    assert options.exposure
    assert options.readout
    numbers = options.training_views or TRAINING_VIEWS, options.scoring_views or SCORING_VIEWS
    training_views, scoring_views = (possible_views(options.views, n) for n in numbers)
    return Findings(options.views, options.resize, options.exposure, options.readout, training_views, scoring_views)


def _plain(options: Options, exposure: Exposure) -> AttentDifferNet:
    """DifferNet with the compact flow, whatever the variant."""
    config = ModelConfig(
        backbone=options.backbone,
        weights=options.weights,
        image_size=options.image_size,
        n_scales=options.n_scales,
        exposure=exposure,
        readout="gaussian_of_mean",
    )
    return AttentDifferNet(config, options.data_seed).eval()


class _Trial:
    """What the inputs are compared on: features of some normals to fit to, and of the test images, by input.

    fitted: (N, V, 768), scored: the same of the test's images, both by input. dihedral: of the test's images under six
    dihedral views; empty where no few-view kind of the square is compared.
    """

    def __init__(
        self,
        model: AttentDifferNet,
        fit: Sequence[ImageSource],
        test: DefectTest,
        options: Options,
        cache: Path | None,
        progress: Progress,
    ) -> None:
        self.model, self.fit, self.test, self.options = model, fit, test, options
        self.cache, self.progress = cache, progress
        self.asked = _inputs(options, any(max(h / w, w / h) > SQUARE for h, w in test.shapes))
        self.fitted: dict[Input, Tensor] = {}
        self.scored: dict[Input, Tensor] = {}
        self.dihedral = torch.empty(0)
        self.measure(self.asked, "choosing views on synthetic defects")

    def measure(self, inputs: Sequence[Input], stage: str) -> None:
        """Features of these inputs, those from one source together."""
        by_source: dict[Input, list[Input]] = {}
        for of in inputs:
            by_source.setdefault(_source(of, inputs), []).append(of)
        steps = len(self.fit) + len(self.test.labels)
        for k, (source, together) in enumerate(by_source.items()):

            def tell(done: int, before: int = k * steps) -> None:
                self.progress(stage, before + done, len(by_source) * steps)

            self._measure(source, together, tell)
        self.progress(stage, len(by_source) * steps, len(by_source) * steps)

    def _measure(self, source: Input, inputs: Sequence[Input], tell: Callable[[int], None]) -> None:
        kind, resize = source
        seeing = self.model.with_options(views=kind, resize=resize)
        extractor = FeatureExtractor(seeing, self.cache)
        whole = kind != "rotations" and source in inputs
        n_fitted, n_views = (len(FEW_VIEWS[kind]),) * 2 if whole else (FITTED_VIEWS[kind], COMPARED_VIEWS[kind])
        fitted = extractor.random_views(
            self.fit, n_fitted, self.options.data_seed, lambda stage, done, total: tell(done)
        )
        rows: list[Tensor] = []
        for features in extractor.of_tensors(self.test.inputs(seeing), seeing.views(n_views)):
            tell(len(self.fit) + len(rows))
            rows.append(features)
        scored = torch.stack(rows)
        if kind == "dihedral":
            self.dihedral = scored
        for of in inputs:
            which = slice(None) if of[0] == kind else _places(of[0], kind)
            self.fitted[of], self.scored[of] = fitted[:, which], scored[:, which]

    def scores(self, features: Tensor, readout: Readout) -> np.ndarray:
        with torch.inference_mode():
            features = to_device(features, self.model.device)
            return self.model.with_options(readout=readout).score(features).cpu().numpy()

    def fit_gaussian(self, of: Input) -> Tensor:
        """Whitens by one input's normals; returns what a flow is fitted to."""
        return fit_gaussian(self.model, self.fitted[of].flatten(0, 1))


# -- 1. exposure


def choose_exposure(images: Sequence[ImageSource], options: Options) -> tuple[Exposure, float]:
    """(exposure, how much it varies over the images)."""
    varies = spread_of_exposure(images)
    return options.exposure or exposure_for(varies), varies


def spread_of_exposure(images: Sequence[ImageSource]) -> float:
    """Standard deviation, over the images, of what moves the logarithms of brightness and of contrast alike, as light
    and exposure time do: the root of their covariance. Another background moves them apart, and does not count."""
    with ThreadPoolExecutor(DECODED_AT_ONCE) as pool:
        logs = np.log(list(pool.map(_brightness_and_contrast, images)))
    (_, together), _ = np.cov(logs.T, bias=True)
    return float(np.sqrt(max(0.0, together)))


def _brightness_and_contrast(image: ImageSource) -> tuple[float, float]:
    """Mean and standard deviation of the pixels; of large photographs, of every second or third in each direction."""
    pixels = pixels_of(image)
    step = max(1, min(pixels.shape[:2]) // MEASURED_SIDE)
    pixels = pixels[::step, ::step]
    return max(1.0, pixels.mean()), max(1.0, pixels.std())


def exposure_for(exposure_varies: float) -> Exposure:
    return "standardised" if exposure_varies > UNSTEADY_LIGHT else "as_is"


# -- 2. input


def choose_input(trial: _Trial) -> tuple[Input, dict[str, float], float | None]:
    """(the best input, AUROC by input, AUROC of mirrored normals where quarter turns are best). Where only one input
    was asked for, nothing is compared."""
    if len(trial.asked) == 1:
        return trial.asked[0], {}, None
    labels, distances = trial.test.labels, {}
    for of in trial.fitted:
        trial.fit_gaussian(of)
        distances[of] = trial.scores(trial.scored[of], "gaussian_of_mean")
    aurocs = {of: auroc(labels, values) for of, values in distances.items()}
    best = max((of for of in aurocs if of[0] != "flips"), key=aurocs.__getitem__, default=trial.asked[0])
    flips = max((of for of in aurocs if of[0] == "flips"), key=aurocs.__getitem__, default=best)
    if beats(labels, distances[flips], distances[best], BEYOND_CHANCE):
        best = flips
    by_input = {input_title(*of): value for of, value in aurocs.items()}
    return best, by_input, _mirror_auroc(trial, best) if best[0] == "quarter_turns" else None


def _mirror_auroc(trial: _Trial, best: Input) -> float:
    """How well a density of quarter turns separates two turns of each normal from the same two mirrored."""
    n = trial.test.n_normals
    trial.fit_gaussian(best)
    turns = trial.dihedral[:n].unflatten(1, (3, 2))[:, [0, 2]].transpose(0, 1).flatten(0, 1)
    return auroc(np.repeat([0, 1], n), trial.scores(turns, "gaussian_of_mean"))


def _inputs(options: Options, rectangles: bool) -> list[Input]:
    """What is compared: kinds of views with the image squeezed, and with its aspect kept."""
    kinds: tuple[ViewKind, ...] = (options.views,) if options.views else ("quarter_turns", "flips", "none")
    resizes: tuple[Resize, ...] = ("squeeze", "keep_aspect") if rectangles else ("squeeze",)
    if options.resize:
        resizes = (options.resize,)
    return [(views, r) for r in resizes for views in kinds if r == "squeeze" or views in UPRIGHT]


def _source(of: Input, asked: Sequence[Input]) -> Input:
    """The input whose features hold those of this one, where several are asked for."""
    views, resize = of
    if views == "rotations" or len(asked) == 1:
        return of
    return ("dihedral", resize) if resize == "squeeze" else ("flips", resize)


def _places(kind: ViewKind, among: ViewKind) -> list[int]:
    """Where the views of one kind are among those of another that holds them."""
    return [int((FEW_VIEWS[among] - view).abs().sum((1, 2)).argmin()) for view in FEW_VIEWS[kind]]


# -- 3. readout


def choose_readout(trial: _Trial, best: Input) -> tuple[Readout, dict[str, float]]:
    """(readout, AUROC by readout) of the given input. Fits the flow to it."""
    fit_flow(trial.model.flow, trial.fit_gaussian(best), trial.options)
    if trial.options.readout:
        return trial.options.readout, {}
    allowed = [name for name in COMPARED if trial.options.flow.whitening or name not in GAUSSIAN_READOUTS]
    scores = {name: trial.scores(trial.scored[best], name) for name in allowed}
    labels = trial.test.labels
    aurocs = {name: auroc(labels, values) for name, values in scores.items()}
    first, rival = COMPARED[0], max(aurocs, key=aurocs.__getitem__)
    better = beats(labels, scores[rival], scores[first], BEYOND_STANDARD_ERROR)
    return rival if better else first, {str(name): value for name, value in aurocs.items()}


# -- 4. number of views


def choose_view_numbers(trial: _Trial, views: ViewKind, best: Input, readout: Readout) -> tuple[int, int]:
    """(in training, in scoring), by the flow fitted before."""
    if views != "rotations":
        return len(FEW_VIEWS[views]), len(FEW_VIEWS[views])
    variance = _variance_of_a_view(trial, best, readout)
    n = next((n for n in TRAINING_ROTATIONS if variance / n <= VIEW_VARIANCE), max(TRAINING_ROTATIONS))
    return TRAINING_ROTATIONS[n], n


def _variance_of_a_view(trial: _Trial, best: Input, readout: Readout) -> float:
    """Of the score of one view of a held-out normal, as a share of the variance between normals; infinite where a
    single normal is held out."""
    model = trial.model.with_options(readout=readout)
    normals = to_device(trial.scored[best][: trial.test.n_normals], model.device)
    running = [running_score(model, features) for features in normals]
    noise = float(np.mean([score.standard_error**2 for score in running])) * normals.shape[1]
    between = float(np.var([score.value for score in running]))
    if not between:
        return math.inf if noise else 0.0
    return noise / between


def _wants_more_views(trial: _Trial, views: ViewKind, best: Input, readout: Readout) -> bool:
    """Whether all copies of a kind that has few leave too much to chance, and rotations may be chosen."""
    if best[0] != "quarter_turns" or trial.options.views:
        return False
    return _variance_of_a_view(trial, best, readout) / len(FEW_VIEWS[views]) > VIEW_VARIANCE


def _turn_auroc(trial: _Trial) -> float:
    """How well a density of normals as they lie, in any quarter turn, separates them from the same turned by 45°."""
    quarters, rng = even_angles(4), torch.Generator().manual_seed(trial.options.data_seed)
    as_they_lie = quarters + AS_THEY_LIE_DEG * (2 * torch.rand(4, generator=rng) - 1)
    extractor = FeatureExtractor(trial.model.with_options(views="rotations", resize="squeeze"), trial.cache)
    normals = trial.test.squares[: trial.test.n_normals]
    fitted = (copy_of(image, trial.options.image_size).tensor() for image in trial.fit)

    def features(images: Iterable[Tensor], angles: Tensor) -> Tensor:
        discs = (_disc(extractor.model.exposed(image)) for image in images)
        return torch.stack(list(extractor.of_tensors(discs, rotations(angles))))

    fit_gaussian(trial.model, features(fitted, as_they_lie).flatten(0, 1))
    both = torch.cat([features(normals, angles) for angles in (as_they_lie, quarters + 45)])
    return auroc(np.repeat([0, 1], len(normals)), trial.scores(both, "gaussian_of_mean"))


def _disc(image: Tensor) -> Tensor:
    """An image (3, S, S), black outside of the largest disc in it: no turn brings black corners into that."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, side) for side in image.shape[1:]], indexing="ij")
    return image * (x.square() + y.square() < 1)


def _some(images: Sequence[T], most: int, rng: torch.Generator) -> list[T]:
    return [images[i] for i in sorted(torch.randperm(len(images), generator=rng)[:most].tolist())]
