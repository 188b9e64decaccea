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
from pathlib import Path

import numpy as np
import torch

from .card import DataCard
from .detector import FitContext, no_look
from .devices import find_device
from .features import Progress, no_progress
from .findings import Findings
from .input_choice import Examined, examine
from .options import BACKBONES, Options
from .patchcore_detector import PatchCoreDetector
from .sources import Images, all_ranged, each_source, value_range_of
from .study.statistics import BEYOND_STANDARD_ERROR, auroc, beats

HARDLY = 2 / 3  # a defect is told from a normal image twice out of three times


def choose_method(
    images: Images,
    options: Options | None = None,
    cache: Path | None = None,
    progress: Progress = no_progress,
    device: str | torch.device = "cpu",
) -> tuple[Options, Findings]:
    """(options with the method, its findings) from training normals. options: what else is asked, of either method.
    Deterministic in the seeds. Raises DatasetError for too few images and ImageError for one that cannot be read."""
    as_differnet, as_patchcore = (
        dataclasses.replace(options or Options(), method=method, backbone=backbone)
        for method, backbone in BACKBONES.items()
    )
    sources = list(each_source(images))
    sources = all_ranged(sources, value_range_of(sources, as_differnet.value_range))
    examined = examine(sources, as_differnet, cache, progress, device)
    scores = _patchcore_scores(examined, as_patchcore, progress, device)
    labels, found = examined.test.labels, examined.findings
    aurocs = {"differnet": auroc(labels, examined.scores), "patchcore": auroc(labels, scores)}
    whole_is_better = beats(labels, examined.scores, scores, BEYOND_STANDARD_ERROR)
    chosen = as_differnet if aurocs["patchcore"] <= HARDLY or whole_is_better else as_patchcore
    if chosen is as_patchcore:
        found = PatchCoreDetector.choose(sources, as_patchcore, cache, progress, device)
    return chosen, dataclasses.replace(found, by_method=aurocs)


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
