"""Where shipped models, results and test images lie, and what of them is at hand. No torch.

Each place can be named by an environment variable.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd

from attentdiffernet import checkpoint
from attentdiffernet.datasets.sample import CATEGORIES as SAMPLE_CATEGORIES
from attentdiffernet.datasets.sample import file_of
from attentdiffernet.errors import AttentDifferNetError, ResultsError
from attentdiffernet.study import comparison, maps, records
from attentdiffernet.study.comparison import Measured, Stamp, stamp
from attentdiffernet.study.runs import Run
from attentdiffernet.words import input_title

ROOT = Path(__file__).resolve().parent.parent
MODELS = Path(os.environ.get("ATTENTDIFFERNET_MODELS") or ROOT / "models")
RESULTS = Path(os.environ.get("ATTENTDIFFERNET_RESULTS") or ROOT / "results")
DATA_ENVIRONMENT = "ATTENTDIFFERNET_DATA"  # folder of data sets, DATASET/CATEGORY/test/..., where images are looked up


# -- results


def measured() -> tuple[Measured, ...]:
    """Every run in `RESULTS`. Raises ResultsError for damaged files."""
    return comparison.measured(RESULTS)


def measured_categories() -> list[str]:
    """`DATASET/CATEGORY` of every run."""
    return sorted({m.key for m in measured()})


def of_category(key: str) -> list[Measured]:
    """The runs of `DATASET/CATEGORY`. Raises ResultsError where there are none."""
    if found := [m for m in measured() if m.key == key]:
        return found
    raise ResultsError(f"There are no results of {key!r}, only of {', '.join(measured_categories()) or 'nothing'}")


def settings(key: str) -> dict[str, str]:
    """Title of each setting (backbone and seed) in which a category was measured."""
    return {m.setting: m.setting_title for m in of_category(key)}


def of_setting(key: str, setting: str) -> dict[str, Measured]:
    """The runs of one setting, by `Measured.name`."""
    return {m.name: m for m in of_category(key) if m.setting == setting}


def published() -> pd.DataFrame:
    """Numbers from papers (`records.read_published`); empty where there is no such file."""
    if not (RESULTS / "published.csv").is_file():
        return pd.DataFrame(columns=records.PUBLISHED_COLUMNS)
    return records.read_published(RESULTS)


def published_of(key: str) -> pd.DataFrame:
    """Published numbers of a category, and of the average over its data set."""
    everything, (dataset, name) = published(), key.split("/")
    return everything[(everything["dataset"] == dataset) & everything["category"].isin([name, "average"])]


def maps_of(key: str) -> pd.DataFrame:
    """`maps.summary_of_maps` of a category; empty where no maps were measured; read again when files change.

    Raises ResultsError for damaged files.
    """
    return _maps_of(RESULTS, key, stamp(sorted((RESULTS / "maps" / key).glob("*.*"))))


@lru_cache(maxsize=8)
def _maps_of(results_dir: Path, key: str, _stamp: Stamp) -> pd.DataFrame:
    return maps.summary_of_maps(results_dir, key)


# -- models


@dataclass(frozen=True)
class ShippedThreshold:
    """The threshold of a shipped model, set on held-out training normals. scores: theirs, ascending."""

    threshold: float
    false_positive_rate: float
    scores: tuple[float, ...]


def shipped_threshold(found: Measured) -> ShippedThreshold | None:
    """Of the model that gave these scores; None where no model with the whole recipe of the run is shipped."""
    run = found.run
    try:
        stored = checkpoint.read(MODELS / run.dataset / run.category / run.variant)
    except AttentDifferNetError:
        return None
    found_by, calibration = stored.findings, stored.calibration
    views = calibration.n_views, input_title(found_by.views, found_by.resize, found_by.exposure)
    names = {name: getattr(run, name) for name in ("run", "dataset", "category", "commit", "source")}
    if Run.of(stored.options, views, found_by.readout, **names) != run:
        return None
    return ShippedThreshold(calibration.threshold, calibration.false_positive_rate, calibration.scores)


# -- images


def image_file(key: str, image: str) -> bytes | None:
    """A test image's file: images of the sample set are drawn again, others are read from below the folder that
    `DATA_ENVIRONMENT` names; None where it is not at hand."""
    if _is_drawn(key):
        return file_of(key.split("/")[1], image)
    folder = _test_folder(key)
    path = folder / image if folder else None
    return path.read_bytes() if path and path.is_file() else None


def images_at_hand(key: str) -> bool:
    folder = _test_folder(key)
    return _is_drawn(key) or (folder is not None and folder.is_dir())


def _is_drawn(key: str) -> bool:
    dataset, category = key.split("/")
    return dataset == "sample" and category in SAMPLE_CATEGORIES


def _test_folder(key: str) -> Path | None:
    root = os.environ.get(DATA_ENVIRONMENT)
    return Path(root, key, "test") if root else None
