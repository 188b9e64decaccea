"""The library's two verbs: `fit` a detector to normal images, `load` one. `METHODS` names what can be fitted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from . import checkpoint
from .card import DataCard
from .detector import Detector, FitContext, Look, no_look
from .devices import find_device
from .differnet import DifferNetDetector
from .findings import Findings
from .method_choice import choose_method
from .options import MethodName, Options
from .patchcore_detector import PatchCoreDetector
from .sources import Images, all_ranged, each_source, value_range_of
from .stages import Progress, logged, no_progress

METHODS: dict[MethodName, type[Detector]] = {"differnet": DifferNetDetector, "patchcore": PatchCoreDetector}


def fit(
    images: Images,
    options: Options | None = None,
    *,
    data: DataCard | None = None,
    cache: Path | None = None,
    progress: Progress = no_progress,
    device: str | torch.device = "cpu",
    findings: Findings | None = None,
    after_epoch: Look = no_look,
    calibrated: bool = True,
) -> Detector:
    """A calibrated detector from normal images. Epochs are fixed in advance; no test image is ever looked at.

    images: a folder or glob; or files, arrays (H, W, 3) uint8 or images of a data set, one by one.
    options: by default the method that the rule chooses (method_choice.py), with every default.
    data: what the images show, for the model card. cache: folder to keep features in, to fit other variants faster.
    device: where it runs, as of `devices.find_device`; the detector stays there.
    findings: of `Detector.choose` with the same images and options, if it has been asked before.
    after_epoch: called with the model and the number of epochs after each; it must change nothing. calibrated: false
    leaves out the threshold and the unit of maps, which a detector that is only scored and thrown away does not need.

    Raises DatasetError for too few images, ImageError for one that cannot be read, AttentDifferNetError for a device
    that is not here.
    """
    device, data, sources = find_device(device), data or DataCard(), list(each_source(images))
    white = value_range_of(sources, options.value_range if options else None)
    sources = all_ranged(sources, white)
    if options is None:
        options, findings = choose_method(sources, None, cache, progress, device)
    method = METHODS[options.method]
    with logged(f"fit {options.key}", progress) as told:
        run = FitContext(findings, data, cache, told, after_epoch, calibrated, device)
        detector = method.fit(sources, options, run)
    detector.findings = replace(detector.findings, value_range=white)
    return detector


def load(
    folder: str | Path,
    load_weights: Callable[[str], dict[str, Tensor]] | None = None,
    device: str | torch.device = "cpu",
    trusted: bool = False,
) -> Detector:
    """A detector from a local folder, a zip of one, or from the Hugging Face Hub (`owner/name`) where neither exists.

    load_weights: gives the tensors of AlexNet by the name that the checkpoint has, in place of
    `backbone.load_weights`. device: where the detector is to run, as of `devices.find_device`. trusted: whether the
    checkpoint may name a file as its weights, which is then read wherever it lies.

    Raises CheckpointError for a folder that is incomplete, damaged or of another version, WeightsError for a backbone
    that is not the one it was made with, AttentDifferNetError for a device that is not here.
    """
    device = find_device(device)
    with checkpoint.found(folder) as found:
        stored = checkpoint.read(found)
        if not trusted:
            checkpoint.check_weights(found, stored.options)
        return METHODS[stored.options.method].from_checkpoint(found, stored, load_weights, device)
