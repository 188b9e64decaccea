"""Categories with shipped models: what they are, which can be used on this machine, and their detectors in memory."""

import errno
import os
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from attentdiffernet.backbone import imagenet_at_hand, load_weights
from attentdiffernet.datasets import CARDS, category_title
from attentdiffernet.datasets.sample import CATEGORIES as SAMPLE_CATEGORIES
from attentdiffernet.detector import Detector
from attentdiffernet.differnet import DifferNetDetector
from attentdiffernet.errors import AttentDifferNetError, DatasetError
from attentdiffernet.figures.overlay import outline
from attentdiffernet.images import IMAGE_SUFFIXES
from attentdiffernet.methods import load
from attentdiffernet.words import DETECTOR_TITLES, VARIANT_TITLES

from .. import shipped

EXAMPLES = shipped.ROOT / "demo" / "examples"
DOWNLOAD_ENVIRONMENT = "ATTENTDIFFERNET_DOWNLOAD"  # 1: the ImageNet weights may be downloaded when first needed
MAX_MODELS, MAX_VISITORS_MODELS = 24, 8  # kept in memory, about 15 MB each
LEVELS = ("obvious", "moderate", "hard")
WHY_NOT = (
    "AlexNet's ImageNet weights, which are not on this machine: set ATTENTDIFFERNET_IMAGENET_WEIGHTS to a "
    f"local file, or {DOWNLOAD_ENVIRONMENT}=1 to let torchvision download them (244 MB)"
)

# Held while a model runs. torch uses all cores for one image, so that two at once would only slow each other down, and
# the hooks of Grad-CAM are on the model that both would share.
computing = threading.Lock()


@dataclass(frozen=True)
class Example:
    """One image to try a category on; its file is called `good`, `DEFECT` or `LEVEL-DEFECT`.

    mask: where the defect is, if that is known. level: of `LEVELS`, empty where none is stated.
    """

    path: Path
    mask: Path | None = None

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def level(self) -> str:
        level, dash, _ = self.name.partition("-")
        return level if dash and level in LEVELS else ""

    @property
    def defect(self) -> str:
        """In words; empty for a good part."""
        return (
            "" if self.name == "good" else self.name.removeprefix(f"{self.level}-").replace("_", " ").replace("-", " ")
        )

    @property
    def outline(self) -> list[np.ndarray]:
        """Of the mask, as of `figures.overlay.outline`; empty without one."""
        return outline(np.asarray(Image.open(self.mask).convert("L")), 127.5) if self.mask else []

    @property
    def title(self) -> str:
        """`broken tooth, moderate`"""
        return ", ".join(filter(None, (self.defect or "good part", self.level)))


def _examples(folder: Path) -> tuple[Example, ...]:
    """Those of a folder, from obvious to hard, a good part last."""
    found = [
        Example(path, mask if (mask := folder / "masks" / f"{path.stem}.png").is_file() else None)
        for path in folder.glob("*")
        if path.suffix in IMAGE_SUFFIXES
    ]
    order = ["", *LEVELS]
    return tuple(sorted(found, key=lambda example: (not example.defect, order.index(example.level), example.name)))


@dataclass(frozen=True)
class CategoryInfo:
    """One category with shipped models. key: `DATASET/CATEGORY`. why_not: empty if it can be used on this machine."""

    key: str
    title: str
    description: str
    dataset_title: str
    licence: str
    examples: tuple[Example, ...]
    why_not: str = ""

    @property
    def part(self) -> str:
        """What it inspects, in a sentence: `gear wheel`."""
        return self.title.split(" (")[0].lower()


def categories() -> list[CategoryInfo]:
    """All categories with shipped models; those that can be used on this machine first."""
    folders = [folder for folder in shipped.MODELS.glob("*/*") if any(folder.glob("*/config.json"))]
    found = [_category_info(folder) for folder in folders]
    return sorted(found, key=lambda info: (bool(info.why_not), not info.key.startswith("sample/"), info.key))


def start() -> str | None:
    """The category to begin with: of those with examples, the one on which a detector was measured to be best."""
    usable = usable_categories()
    measured = shipped.best_auroc()
    inviting = [key for key, info in usable.items() if info.examples] or list(usable)
    return max(inviting, key=lambda key: measured.get(key, 0.0), default=None)


def usable_categories() -> dict[str, CategoryInfo]:
    """The categories that can be used on this machine, by key."""
    return {info.key: info for info in categories() if not info.why_not}


def _category_info(folder: Path) -> CategoryInfo:
    dataset, name = folder.parent.name, folder.name
    key, card = f"{dataset}/{name}", CARDS.get(dataset)
    sample = SAMPLE_CATEGORIES.get(name) if dataset == "sample" else None
    photographed = card.photographed.get(name) or f"{card.description}." if card else ""
    return CategoryInfo(
        key=key,
        title=category_title(key),
        description=sample.description if sample else photographed,
        dataset_title=card.title if card else dataset,
        licence=card.licence if card else "",
        examples=_examples(EXAMPLES / dataset / name),
        why_not="" if _usable(key) else f"needs {WHY_NOT}",
    )


def _usable(key: str) -> dict[str, Path]:
    """The configurations of the detectors of a category that can be used on this machine, by `Detector.key`, in their
    usual order."""
    return {name: path for name, path in _configs(key).items() if not _lacks_alexnet(name, path)}


def _configs(key: str) -> dict[str, Path]:
    configs = {name: shipped.MODELS / key / name / "config.json" for name in DETECTOR_TITLES}
    return {name: path for name, path in configs.items() if path.is_file()}


def _lacks_alexnet(name: str, config: Path) -> bool:
    if name not in VARIANT_TITLES:
        return False
    needs_imagenet = '"weights": "imagenet"' in config.read_text(encoding="utf-8")
    return needs_imagenet and not imagenet_at_hand() and os.environ.get(DOWNLOAD_ENVIRONMENT) != "1"


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


def _load(folder: Path, _written_ns: int) -> Detector:
    return load(folder, load_weights=_load_weights)


_detector, _visitors_detector = lru_cache(MAX_MODELS)(_load), lru_cache(MAX_VISITORS_MODELS)(_load)


def loaded(folder: Path) -> Detector:
    """Of a visitor's checkpoint, kept in memory for a while; no shipped one makes room for it. Raises
    CheckpointError."""
    return _visitors_detector(folder, (folder / "config.json").stat().st_mtime_ns)


def detector_names(key: str) -> list[str]:
    """`Detector.key` of what `detectors` gives, without loading it. Raises DatasetError as `category`."""
    category(key)
    return list(_usable(key))


def detectors_left_out(key: str) -> list[str]:
    """`Detector.key` of those that are shipped for a category and cannot be used on this machine."""
    return [name for name in _configs(key) if name not in _usable(key)]


def detectors(key: str, chosen: Collection[str] | None = None) -> dict[str, Detector]:
    """Those of a category that can be used here, or those chosen, by `Detector.key` in their usual order; kept in
    memory, loaded again when their files change.

    Raises DatasetError as `category`, and for a detector that there is not.
    """
    names = detector_names(key)
    wanted = names if chosen is None else [name for name in names if name in chosen]
    if unknown := sorted(set(chosen or ()) - set(names)):
        raise DatasetError(f"There is no detector {unknown[0]!r} of {key}; there are {', '.join(names)}")
    if not wanted:
        raise DatasetError("No detector was chosen; choose one or more")
    paths = {name: path for name, path in _usable(key).items() if name in wanted}
    return {name: _detector(path.parent, path.stat().st_mtime_ns) for name, path in paths.items()}


def differnets(key: str) -> dict[str, DifferNetDetector]:
    """DifferNet and its attention variants, of those of a category."""
    chosen = [name for name in detector_names(key) if name in VARIANT_TITLES]
    found = detectors(key, chosen) if chosen else {}
    return {name: one for name, one in found.items() if isinstance(one, DifferNetDetector)}


def differnet(key: str, variant: str) -> DifferNetDetector:
    """Raises DatasetError if there is no such category or variant of DifferNet."""
    found = differnets(key)
    if variant not in found:
        raise DatasetError(f"There is no variant {variant!r} of {key}; there are {', '.join(found)}")
    return found[variant]


def check_files() -> None:
    """Raises AttentDifferNetError where models or examples are there and may not be read, or where the folder of models
    that was named is not there: without a word, a page would have none."""
    named = os.environ.get(shipped.MODELS_ENVIRONMENT)

    def refuse(error: OSError) -> None:
        way_out = f"Set {shipped.MODELS_ENVIRONMENT} to a folder of models" if named else "Change its permissions"
        raise AttentDifferNetError(f"{error.filename} cannot be read: {error.strerror}. {way_out}") from error

    for root in (shipped.MODELS, EXAMPLES):
        if not root.exists() and not (named and root == shipped.MODELS):
            continue
        for folder, _, names in os.walk(root, onerror=refuse):
            for path in (os.path.join(folder, name) for name in names):
                if not os.access(path, os.R_OK):
                    refuse(PermissionError(errno.EACCES, os.strerror(errno.EACCES), path))


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
    return {example.path.name: example.path.read_bytes for example in category(key).examples}


def _image_file(key: str, name: str) -> bytes:
    file = shipped.image_file(key, name)
    if file is None:
        raise DatasetError(f"The image {name} of {key} is not on this machine")
    return file


def first_anomalous(names: Iterable[str]) -> str | None:
    """The first that is anomalous by its name, else the first."""
    ordered = list(names)
    return next((name for name in ordered if not name.startswith("good")), ordered[0] if ordered else None)
