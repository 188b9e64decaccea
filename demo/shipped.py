"""Where shipped models, results and test images lie, and what of them is at hand. No torch.

Each place can be named by an environment variable.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import pandas as pd

from attentdiffernet import checkpoint
from attentdiffernet.category import InspectionDataset
from attentdiffernet.datasets.sample import CATEGORIES as SAMPLE_CATEGORIES
from attentdiffernet.datasets.sample import file_of
from attentdiffernet.datasets.sample.writing import N_TRAIN, SUFFIX
from attentdiffernet.errors import AttentDifferNetError, DatasetError, ResultsError
from attentdiffernet.study import comparison, maps, records, thresholds
from attentdiffernet.study.comparison import Measured, Stamp, stamp
from attentdiffernet.study.runs import BEST_ON_TEST
from attentdiffernet.study.thresholds import ShippedThreshold

ROOT = Path(__file__).resolve().parent.parent
MODELS_ENVIRONMENT = "ATTENTDIFFERNET_MODELS"
MODELS = Path(os.environ.get(MODELS_ENVIRONMENT) or ROOT / "models")
RESULTS = Path(os.environ.get("ATTENTDIFFERNET_RESULTS") or ROOT / "results")
results_chosen: Callable[[], Path | None] | None = None  # set by a face whose visitors can bring results
MOSTLY = 0.5
DATA_ENVIRONMENT = "ATTENTDIFFERNET_DATA"  # folder of data sets, DATASET/CATEGORY/test/..., where images are looked up


# -- results


def results() -> Path:
    """The folder that is read: `RESULTS`, unless a visitor has brought results of their own."""
    return (results_chosen and results_chosen()) or RESULTS


def measured() -> tuple[Measured, ...]:
    """Every run in `results`. Raises ResultsError for damaged files."""
    return comparison.measured(results())


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
    if not (results() / "published.csv").is_file():
        return pd.DataFrame(columns=records.PUBLISHED_COLUMNS)
    return records.read_published(results())


def published_of(key: str) -> pd.DataFrame:
    """Published numbers of a category, and of the average over its data set."""
    everything, (dataset, name) = published(), key.split("/")
    return everything[(everything["dataset"] == dataset) & everything["category"].isin([name, "average"])]


def best_auroc() -> dict[str, float]:
    """The highest measured AUROC of each category, by `DATASET/CATEGORY`; none that is best on test."""
    if not (RESULTS / "summary.csv").is_file():
        return {}
    summary = pd.read_csv(RESULTS / "summary.csv", usecols=["run", "auroc"])
    known = pd.read_csv(RESULTS / "runs.csv", usecols=["run", "dataset", "category", "selection"])
    both = summary.merge(known[known["selection"] != BEST_ON_TEST], on="run")
    best = both.groupby(both["dataset"] + "/" + both["category"])["auroc"].max()
    return {str(key): float(auroc) for key, auroc in best.items()}


def empty_maps(key: str) -> frozenset[str]:
    """The kinds of maps that were measured against masks and stay below what normals reach, in most images of every
    model: they show nothing for this category."""
    shares: dict[str, list[float]] = {}
    for path in sorted((RESULTS / "maps" / key).glob("*.csv")):
        _, found = records.read_maps(path)
        for method, empty in found[found["map"] == "excess"].groupby("method")["empty"].mean().items():
            shares.setdefault(str(method), []).append(float(empty))
    return frozenset(method for method, empty in shares.items() if min(empty) > MOSTLY)


def maps_of(key: str) -> pd.DataFrame:
    """`maps.summary_of_maps` of a category; empty where no maps were measured; read again when files change.

    Raises ResultsError for damaged files.
    """
    return _maps_of(results(), key, stamp(sorted((results() / "maps" / key).glob("*.*"))))


@lru_cache(maxsize=8)
def _maps_of(results_dir: Path, key: str, _stamp: Stamp) -> pd.DataFrame:
    return maps.summary_of_maps(results_dir, key)


# -- models


def shipped_threshold(found: Measured) -> ShippedThreshold | None:
    """Of the model that gave these scores; None where no model with the whole recipe of the run is shipped."""
    return thresholds.shipped_threshold(MODELS, found)


def value_range(key: str) -> float | None:
    """The grey value that the shipped models of a category see as white (`Findings.value_range`); None for 8 bits."""
    for config in sorted((MODELS / key).glob("*/config.json")):
        with suppress(AttentDifferNetError):
            return checkpoint.read(config.parent).findings.value_range
    return None


# -- images


def image_file(key: str, image: str) -> bytes | None:
    """A test image's file: images of the sample set are drawn again, others are read from below the folder that
    `DATA_ENVIRONMENT` names; None where it is not at hand."""
    if _is_drawn(key):
        return _drawn(key.split("/")[1], image)
    folder = _test_folder(key)
    path = folder / image if folder else None
    return path.read_bytes() if path and path.is_file() else None


@lru_cache(maxsize=64)
def _drawn(category: str, image: str) -> bytes:
    return file_of(category, image)


def images_at_hand(key: str) -> bool:
    folder = _test_folder(key)
    return _is_drawn(key) or (folder is not None and folder.is_dir())


@lru_cache(maxsize=32)
def training_image(key: str, number: int, n_images: int) -> bytes | None:
    """The file of one of the n_images normal images, sorted by name, that a model was trained on; drawn again or read
    as `image_file` does, None where it is not at hand."""
    if _is_drawn(key):
        category = key.split("/")[1]
        name = f"good/{number:03d}{SUFFIX[category]}"
        return file_of(category, name, split="train") if n_images == N_TRAIN else None
    root = os.environ.get(DATA_ENVIRONMENT)
    try:
        train = InspectionDataset(Path(root, key)).train if root else []
    except DatasetError:
        return None
    return train[number].path.read_bytes() if len(train) == n_images else None


@lru_cache(maxsize=8)  # drawing some takes seconds, and every detector of a category asks for the same
def drawn_normals_of_others(key: str, n: int) -> tuple[bytes, ...]:
    """The files of the first n normal training images of each category of the sample set, but for parts of the same
    name."""
    others = [name for name in SAMPLE_CATEGORIES if name != key.split("/")[-1]]
    return tuple(file_of(name, f"good/{k:03d}{SUFFIX[name]}", split="train") for name in others for k in range(n))


def _is_drawn(key: str) -> bool:
    dataset, category = key.split("/")
    return dataset == "sample" and category in SAMPLE_CATEGORIES


def _test_folder(key: str) -> Path | None:
    root = os.environ.get(DATA_ENVIRONMENT)
    return Path(root, key, "test") if root else None
