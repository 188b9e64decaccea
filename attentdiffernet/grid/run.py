"""One run of a grid: choose, train, save, score."""

import dataclasses
import os
import platform
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AttentDifferNetError, ImageError
from ..words import input_title
from .task import Outcome, ScoreRow, Seen, Task

if TYPE_CHECKING:
    import torch

    from ..category import InspectionImage
    from ..detector import Detector
    from ..model import AttentDifferNet
    from ..sources import ImageSource


def execute(task: Task) -> Outcome:
    """Trains, saves the model if asked, and scores the test images. Never raises: a failed run is an outcome."""
    try:
        return _execute(task)
    except (AttentDifferNetError, OSError) as error:
        return Outcome(error=str(error))
    except Exception as error:
        return Outcome(error=f"{type(error).__name__}: {error}", details=traceback.format_exc())


def _execute(task: Task) -> Outcome:
    from .. import paper_recipe
    from ..best_on_test import BestOnTest
    from ..card import DataCard
    from ..category import InspectionDataset
    from ..checkpoint import check_folder
    from ..detector import no_look
    from ..devices import find_device
    from ..features import FeatureExtractor, default_cache
    from ..methods import METHODS, fit
    from ..sources import all_ranged, value_range_of

    dataset, options, seconds = InspectionDataset(task.folder), task.options, dict[str, float]()
    images, device = dataset.test_of_both_kinds(), find_device(task.device)  # raise before hours of training
    if task.model_dir:
        check_folder(task.model_dir)
    cache, before = default_cache(), FeatureExtractor.views_computed
    white = value_range_of((image.path for image in dataset.train), options.value_range)
    normals, paths = (all_ranged((image.path for image in some), white) for some in (dataset.train, images))
    with _timed(seconds, "choosing_s"):
        findings = METHODS[options.method].choose(normals, options, cache, device=device)
    as_published = None
    if options.recipe == "paper":
        as_published = paper_recipe.Scores(paths, options.image_size, options.data_seed, findings.scoring_views)
    best = BestOnTest(images, options.epochs, findings.scoring_views, cache, as_published, white)
    with _timed(seconds, "training_s"):
        detector = fit(
            normals,
            options,
            data=DataCard.of(dataset),
            cache=cache,
            findings=findings,
            after_epoch=best if task.best_on_test else no_look,
            calibrated=bool(task.model_dir) or not as_published,
            device=device,
        )
    if task.model_dir:
        detector.save(task.model_dir)
    with _timed(seconds, "scoring_s"):
        scores = as_published(_model(detector)) if as_published else _scores(detector, images, cache)
    views = FeatureExtractor.views_computed - before
    if options.method != "differnet":  # no cache, one view of each
        views = len(normals) + len(images)

    spread = _spread(detector, normals)
    outcome = Outcome(_rows(images, scores), _seen(detector), findings=detector.findings, spread=spread)
    if task.best_on_test:
        seconds["training_s"] -= best.seconds
        seconds["scoring_s"] += best.seconds
        epoch, best_scores = best.best(scores)
        outcome = dataclasses.replace(outcome, best_epoch=epoch, best_scores=_rows(images, best_scores))
    cost = {name: round(value, 2) for name, value in seconds.items()}
    return dataclasses.replace(outcome, cost=cost | {"views_computed": views} | _machine(device))


def _scores(detector: "Detector", images: "list[InspectionImage]", cache: Path) -> list[float]:
    """Of the test images. Raises ImageError for one that cannot be read."""
    verdicts = list(detector.inspect_all(images, detector.findings.scoring_views, cache=cache))
    if unreadable := [verdict.error for verdict in verdicts if verdict.error]:
        raise ImageError(unreadable[0])
    return [verdict.score for verdict in verdicts]


def _rows(images: "list[InspectionImage]", scores: list[float]) -> list[ScoreRow]:
    return [(i.name, i.defect, i.label, score) for i, score in zip(images, scores, strict=True)]


def _model(detector: "Detector") -> "AttentDifferNet":
    """Of the recipe `paper`, which DifferNet alone has."""
    from ..differnet import DifferNetDetector

    assert isinstance(detector, DifferNetDetector)
    return detector.model


def _spread(detector: "Detector", normals: "list[ImageSource]") -> float | None:
    """Of the features, where attention was trained together with the flow."""
    from .. import paper_recipe
    from ..calibration import split_normals

    options = detector.options
    if options.recipe != "paper" or not paper_recipe.trains_attention(_model(detector).config):
        return None
    fitted, _ = split_normals(normals, options)
    return paper_recipe.spread(_model(detector), fitted)


def _seen(detector: "Detector") -> Seen:
    found, published = detector.findings, detector.options.recipe == "paper"
    views = input_title(found.views, found.resize, found.exposure)
    return found.scoring_views, "random " * published + views, found.readout


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def _machine(device: "torch.device") -> dict[str, Any]:
    import torch

    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return {"threads": torch.get_num_threads(), "cpu": cpu_name(), "cores": os.cpu_count() or 1} | gpu


def cpu_name() -> str:
    """The name of the processor as the operating system gives it."""
    with suppress(OSError):  # not on Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
