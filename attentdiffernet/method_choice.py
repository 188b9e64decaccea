"""Which method suits a category: chosen on training normals and synthetic defects, before any test image is seen.

DifferNet, with all that its rule chooses (input_choice.py), and PatchCore are fitted to the same normals and judged on
the same other ones, with and without synthetic defects (synthetic_defects.py). The rule takes

1. DifferNet where PatchCore hardly separates them (AUROC of HARDLY at most). Synthetic defects are changes of a place.
   If their places do not stand out, those of normal images differ as much, as before backgrounds that change. What is
   left then is the image as a whole.
2. otherwise DifferNet where it separates them better by more than the standard error of the difference (DeLong,
   p < 0.32), and else PatchCore, which also shows where a defect is.

Synthetic defects are pasted by a program, and a category may have other ones. The numbers are kept
(`Findings.by_method`), so that a wrong choice can be seen.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .card import DataCard
from .detector import FitContext, no_look
from .devices import find_device
from .findings import Findings
from .input_choice import Examined, examine
from .options import BACKBONES, DEFAULT_VARIANTS, AttentionConfig, MethodName, Options
from .patchcore_detector import PatchCoreDetector
from .sources import Images, ImageSource, all_ranged, each_source, value_range_of
from .stages import Progress, no_progress
from .study.statistics import BEYOND_STANDARD_ERROR, auroc, beats

HARDLY = 2 / 3  # a defect is told from a normal image twice out of three times


@dataclass(frozen=True)
class Judged:
    """Both methods on the same images. options: of either method. examined: what DifferNet's rule found. labels: 0 of
    held-out normals, 1 of the same with synthetic defects; scores: of these, by method."""

    options: dict[MethodName, Options]
    examined: Examined
    labels: np.ndarray
    scores: dict[MethodName, np.ndarray]


def choose_method(
    images: Images,
    options: Options | None = None,
    cache: Path | None = None,
    progress: Progress = no_progress,
    device: str | torch.device = "cpu",
) -> tuple[Options, Findings]:
    """(options with the method, its findings) from training normals. options: what else is asked, of either method.
    Without attention in them, the method's own default is added (`DEFAULT_VARIANTS`); methods are judged without it.
    Deterministic in the seeds. Raises DatasetError for too few images and ImageError for one that cannot be read."""
    sources = list(each_source(images))
    options = options or Options()
    sources = all_ranged(sources, value_range_of(sources, options.value_range))
    judged = judge(sources, options, cache, progress, device)
    method, aurocs = by_rule(judged)
    found, chosen = judged.examined.findings, judged.options[method]
    if chosen.variant == "none" and chosen.can_weigh_places:
        chosen = dataclasses.replace(chosen, variant=DEFAULT_VARIANTS[method], attention=AttentionConfig())
    if method == "patchcore":
        found = PatchCoreDetector.choose(sources, chosen, cache, progress, device)
    return chosen, dataclasses.replace(found, by_method=aurocs)


def by_rule(judged: Judged) -> tuple[MethodName, dict[str, float]]:
    """(the method, AUROC of each on synthetic defects)."""
    labels, scores = judged.labels, judged.scores
    aurocs = {str(method): auroc(labels, of_method) for method, of_method in scores.items()}
    whole_is_better = beats(labels, scores["differnet"], scores["patchcore"], BEYOND_STANDARD_ERROR)
    return "differnet" if aurocs["patchcore"] <= HARDLY or whole_is_better else "patchcore", aurocs


def judge(
    sources: Sequence[ImageSource],
    options: Options,
    cache: Path | None = None,
    progress: Progress = no_progress,
    device: str | torch.device = "cpu",
) -> Judged:
    """Fits both methods to some training normals and scores others, with and without synthetic defects."""
    of_method = {
        method: dataclasses.replace(options, method=method, backbone=backbone) for method, backbone in BACKBONES.items()
    }
    examined = examine(sources, of_method["differnet"], cache, progress, device)
    by_places = _patchcore_scores(examined, of_method["patchcore"], progress, device)
    scores: dict[MethodName, np.ndarray] = {"differnet": examined.scores, "patchcore": by_places}
    return Judged(of_method, examined, examined.test.labels, scores)


def _patchcore_scores(
    examined: Examined, options: Options, progress: Progress, device: str | torch.device
) -> np.ndarray:
    run = FitContext(None, DataCard(), None, progress, no_look, calibrated=False, device=find_device(device))
    detector = PatchCoreDetector.fit(examined.fit, options, run)
    photographs = examined.test.photographs(detector.findings.resize == "keep_aspect")
    found = np.empty(len(examined.test.labels))
    for k, verdict in enumerate(detector.inspect_all(photographs)):
        found[k] = verdict.score
        progress("choosing the method on synthetic defects", k + 1, len(found))
    return found
