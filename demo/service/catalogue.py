"""Categories with shipped models: what they are, which can be used on this machine, and their detectors in memory."""

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from attentdiffernet.backbone import imagenet_at_hand, load_weights
from attentdiffernet.datasets import CARDS, category_title
from attentdiffernet.datasets.sample import CATEGORIES as SAMPLE_CATEGORIES
from attentdiffernet.differnet import DifferNetDetector
from attentdiffernet.errors import DatasetError
from attentdiffernet.images import IMAGE_SUFFIXES
from attentdiffernet.methods import load
from attentdiffernet.words import VARIANT_TITLES

from .. import shipped

EXAMPLES = shipped.ROOT / "demo" / "examples"
DOWNLOAD_ENVIRONMENT = "ATTENTDIFFERNET_DOWNLOAD"  # 1: the ImageNet weights may be downloaded when first needed
MAX_MODELS = 18  # kept in memory, about 15 MB each

# Held while a model runs. torch uses all cores for one image, so that two at once would only slow each other down, and
# the hooks of Grad-CAM are on the model that both would share.
computing = threading.Lock()


@dataclass(frozen=True)
class CategoryInfo:
    """One category with shipped models. key: `DATASET/CATEGORY`. why_not: empty if it can be used on this machine."""

    key: str
    title: str
    description: str
    dataset_title: str
    licence: str
    examples: tuple[Path, ...]
    why_not: str = ""


def categories() -> list[CategoryInfo]:
    """All categories with shipped models; those that can be used on this machine first."""
    folders = [folder for folder in shipped.MODELS.glob("*/*") if any(folder.glob("*/config.json"))]
    found = [_category_info(folder) for folder in folders]
    return sorted(found, key=lambda info: (bool(info.why_not), not info.key.startswith("sample/"), info.key))


def usable_categories() -> dict[str, CategoryInfo]:
    """The categories that can be used on this machine, by key."""
    return {info.key: info for info in categories() if not info.why_not}


def _category_info(folder: Path) -> CategoryInfo:
    dataset, name = folder.parent.name, folder.name
    key, card = f"{dataset}/{name}", CARDS.get(dataset)
    sample = SAMPLE_CATEGORIES.get(name) if dataset == "sample" else None
    examples = EXAMPLES / dataset / name
    return CategoryInfo(
        key=key,
        title=category_title(key),
        description=sample.description if sample else card.description if card else "",
        dataset_title=card.title if card else dataset,
        licence=card.licence if card else "",
        examples=tuple(sorted(p for p in examples.glob("*") if p.suffix in IMAGE_SUFFIXES)),
        why_not=_why_not(folder),
    )


def _why_not(folder: Path) -> str:
    needs_imagenet = '"weights": "imagenet"' in next(folder.glob("*/config.json")).read_text(encoding="utf-8")
    if not needs_imagenet or imagenet_at_hand() or os.environ.get(DOWNLOAD_ENVIRONMENT) == "1":
        return ""
    return (
        "needs AlexNet's ImageNet weights, which are not on this machine: set ATTENTDIFFERNET_IMAGENET_WEIGHTS to a "
        f"local file, or {DOWNLOAD_ENVIRONMENT}=1 to let torchvision download them (244 MB)"
    )


def category(key: str) -> CategoryInfo:
    """Raises DatasetError if the category is unknown or cannot be used on this machine."""
    known = {info.key: info for info in categories()}
    if key not in known:
        raise DatasetError(
            f"There is no category {key!r}; there are {', '.join(known) or 'none: no models were found'}"
        )
    if known[key].why_not:
        raise DatasetError(f"{known[key].title} {known[key].why_not}")
    return known[key]


# -- detectors

_load_weights = lru_cache(maxsize=2)(load_weights)  # all variants share them


@lru_cache(maxsize=MAX_MODELS)
def _detector(folder: Path, _written_ns: int) -> DifferNetDetector:
    found = load(folder, load_weights=_load_weights)
    assert isinstance(found, DifferNetDetector)
    return found


def detectors(key: str) -> dict[str, DifferNetDetector]:
    """All variants of a category, in their usual order; kept in memory, loaded again when their files change.

    Raises DatasetError as `category`.
    """
    category(key)
    configs = {variant: shipped.MODELS / key / variant / "config.json" for variant in VARIANT_TITLES}
    return {v: _detector(path.parent, path.stat().st_mtime_ns) for v, path in configs.items() if path.is_file()}


def detector(key: str, variant: str) -> DifferNetDetector:
    """Raises DatasetError if there is no such category or variant."""
    found = detectors(key)
    if variant not in found:
        raise DatasetError(f"There is no variant {variant!r} of {key}; there are {', '.join(found)}")
    return found[variant]


def preload() -> None:
    """Loads all models that can be used, so that the first visitor does not wait for them."""
    for key in usable_categories():
        detectors(key)


# -- images to try them on


def images_to_choose(key: str) -> dict[str, Callable[[], bytes]]:
    """By name, what reads the file of each image of a category: test images if they are on this machine, else examples.

    Raises DatasetError as `category`.
    """
    if shipped.images_at_hand(key) and key in shipped.measured_categories():
        names = shipped.of_category(key)[0].scores["image"]
        return {str(name): partial(_image_file, key, str(name)) for name in names}
    return {path.name: path.read_bytes for path in category(key).examples}


def _image_file(key: str, name: str) -> bytes:
    file = shipped.image_file(key, name)
    if file is None:
        raise DatasetError(f"The image {name} of {key} is not on this machine")
    return file


def first_anomalous(names: Iterable[str]) -> str | None:
    """The first that is anomalous by its name, else the first."""
    ordered = list(names)
    return next((name for name in ordered if not name.startswith("good")), ordered[0] if ordered else None)
