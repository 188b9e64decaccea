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

from ..errors import AttentDifferNetError
from .task import Outcome, ScoreRow, Task

if TYPE_CHECKING:
    import torch


def execute(task: Task) -> Outcome:
    """Trains, saves the model if asked, and scores the test images. Never raises: a failed run is an outcome."""
    try:
        return _execute(task)
    except (AttentDifferNetError, OSError) as error:
        return Outcome(error=str(error))
    except Exception as error:
        return Outcome(error=f"{type(error).__name__}: {error}", details=traceback.format_exc())


def _execute(task: Task) -> Outcome:
    from .. import checkpoint, input_choice, paper_recipe, scoring, training
    from ..best_on_test import BestOnTest
    from ..category import InspectionDataset
    from ..datasets import CARDS, DatasetCard
    from ..devices import find_device
    from ..features import FeatureExtractor, default_cache

    dataset = InspectionDataset(task.folder)
    images, device = dataset.test_of_both_kinds(), find_device(task.device)  # raise before hours of training
    published = task.training.recipe == "paper"
    if task.model_dir:
        checkpoint.check_folder(Path(task.model_dir))
    known = CARDS.get(task.dataset, DatasetCard("", "", "", ""))
    card = checkpoint.DataCard(
        task.dataset,
        task.category,
        description=known.description,
        licence=known.licence,
        source=known.source,
    )
    configs, cache = (task.model, task.training, task.scoring), default_cache()
    paths, before = [image.path for image in images], FeatureExtractor.views_computed
    seconds: dict[str, float] = {}
    with _timed(seconds, "choosing_s"):
        if task.chooses:
            found = input_choice.choose(dataset.train, task.model, task.training, cache, fixed=task.fixed)
            configs = found.applied(*configs, task.fixed)
    as_published = None
    if published:
        as_published = paper_recipe.Scores(paths, task.model.image_size, task.training.data_seed, task.scoring.n_views)
    looks = BestOnTest(images, task.training.epochs, configs[2].n_views, cache, as_published)
    best = looks if task.best_on_test else None
    with _timed(seconds, "training_s"):
        calibrated = bool(task.model_dir) or not published
        detector = training.train(
            dataset.train,
            *configs,
            card,
            cache,
            after_epoch=best or training.no_look,
            device=device,
            calibrated=calibrated,
        )
    if task.model_dir:
        checkpoint.save(detector, task.model_dir)
    n_views, model = len(detector.model.views(configs[2].n_views)), detector.model.config
    with _timed(seconds, "scoring_s"):
        if as_published:
            scores = as_published(detector.model)
        else:
            scores = list(scoring.score_images(detector.model, paths, n_views, cache))

    def rows(scores: list[float]) -> list[ScoreRow]:
        return [(i.name, i.defect, i.label, score) for i, score in zip(images, scores, strict=True)]

    chosen = (n_views, "random " * published + model.input_title, model.readout)
    outcome = Outcome(rows(scores), chosen, strength=model.attention.strength, judged=model.attention.judged)
    if best:
        seconds["training_s"] -= best.seconds
        seconds["scoring_s"] += best.seconds
        epoch, best_scores = best.best(scores)
        outcome = dataclasses.replace(outcome, best_epoch=epoch, best_scores=rows(best_scores))
    cost = {name: round(value, 2) for name, value in seconds.items()}
    views = FeatureExtractor.views_computed - before
    if published and paper_recipe.trains_attention(model):
        fitted, _ = training.split_normals(dataset.train, task.training)
        spread = paper_recipe.spread(detector.model, [image.path for image in fitted])
        outcome = dataclasses.replace(outcome, spread=spread)
    return dataclasses.replace(outcome, cost=cost | {"views_computed": views} | _machine(device))


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
