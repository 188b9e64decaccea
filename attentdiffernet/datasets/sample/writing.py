"""The sample set as files in the MVTec AD layout."""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from ...errors import DatasetError
from ...files import replace_folder, sweep_folder
from .categories import CATEGORIES, SampleCategory, known_category
from .levels import LEVELS, Level
from .render import Sample, draw

SUFFIX = {"insulator": ".jpg", "gear": ".jpg", "wafer": ".png"}  # photographs are JPEG, maps are PNG, as in real sets
LICENCE = """Synthetic sample images for AttentDifferNet.

Drawn by the program attentdiffernet.datasets.sample from random numbers: they show no real object, and no photograph
went into them. Released under CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/): use them for anything. They
mirror the kinds of data in the AttentDifferNet paper and are no benchmark: results on them say nothing about real data
sets.
"""
N_TRAIN, N_TEST_GOOD, N_PER_LEVEL = 160, 40, 8  # the last of each defect
MAX_IMAGES = 1_000_000  # of one category: the seeds of two sets never meet
MARK = "license.txt"  # its first line tells `write` that a folder is its own; MVTec AD has a file of this name, too


def write(
    root: str | Path,
    categories: Iterable[str] | None = None,
    n_train: int = N_TRAIN,
    n_test_good: int = N_TEST_GOOD,
    n_per_level: int = N_PER_LEVEL,
    seed: int = 0,
    levels: Sequence[Level] = LEVELS,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Draws the sample set into ROOT/CATEGORY in the MVTec AD layout and returns ROOT.

    Anomalous images are named by level and number: test/scratch/hard_003.png. Beside the masks of defects,
    ground_truth/DEFECT, there are masks of the whole part, objects/DEFECT, which MVTec AD does not have.
    Every image has a scene of its own: no scene is in both training and test. A category is written as a whole or not
    at all; one that `write` made before is replaced. progress: called with (images done, images in all) after each.
    Raises DatasetError if ROOT or a category in it holds anything else, for unknown categories and negative counts.
    """
    root = Path(root)
    chosen = [known_category(name) for name in dict.fromkeys(CATEGORIES if categories is None else categories)]
    if min(n_train, n_test_good, n_per_level, seed) < 0:
        raise DatasetError("The counts and the seed of the sample set must be 0 or more")
    plans = {category.name: _plan(category, n_train, n_test_good, n_per_level, levels) for category in chosen}
    total = sum(map(len, plans.values()))
    if root.exists() and not root.is_dir():
        raise DatasetError(f"{root} is a file; the sample set needs a folder")
    for name in plans:
        _check_ours(root / name)
    root.mkdir(parents=True, exist_ok=True)
    sweep_folder(root)
    done = 0
    for name, plan in plans.items():
        with replace_folder(root / name, durable=False) as folder:
            for k, image in enumerate(plan):
                _save(draw(name, image.defect, seed * MAX_IMAGES + k, image.level), folder, image, SUFFIX[name])
                done += 1
                if progress is not None:
                    progress(done, total)
            (folder / MARK).write_text(LICENCE, encoding="utf-8")
            _check_ours(root / name)
    return root


def file_of(category: str, name: str, split: str = "test") -> bytes:
    """The image file that `write` by default puts into ROOT/CATEGORY/SPLIT/NAME (`scratch/hard_007.png`), drawn again.

    Raises DatasetError for a name that is not in the set.
    """
    plan = _plan(known_category(category), N_TRAIN, N_TEST_GOOD, N_PER_LEVEL, LEVELS)
    places = {f"{image.split}/{image.name}{SUFFIX[category]}": k for k, image in enumerate(plan)}
    k = places.get(f"{split}/{name}")
    if k is None:
        raise DatasetError(f"The sample set has no image {category}/{split}/{name}")
    stream = io.BytesIO()
    _encode(draw(category, plan[k].defect, k, plan[k].level), stream, Path(name).suffix)
    return stream.getvalue()


@dataclass(frozen=True)
class _Planned:
    """An image to be drawn. level: without meaning for `good`. number: among those of its split, defect and level."""

    split: str
    defect: str
    level: Level
    number: int

    @property
    def name(self) -> str:
        """Below its split, without the suffix."""
        level = "" if self.defect == "good" else f"{self.level}_"
        return f"{self.defect}/{level}{self.number:03d}"


def _plan(
    category: SampleCategory, n_train: int, n_test_good: int, n_per_level: int, levels: Sequence[Level]
) -> list[_Planned]:
    """Every image of a category; its place in the list becomes its seed."""
    parts: list[tuple[str, str, Level, int]] = [
        ("train", "good", LEVELS[0], n_train),
        ("test", "good", LEVELS[0], n_test_good),
        *(("test", defect, level, n_per_level) for defect in category.defects for level in levels),
    ]
    total = sum(count for *_, count in parts)
    if total > MAX_IMAGES:
        raise DatasetError(f"{category.name} would have {total} images; the limit is {MAX_IMAGES}")
    return [_Planned(split, defect, level, number) for split, defect, level, count in parts for number in range(count)]


def _save(sample: Sample, folder: Path, image: _Planned, suffix: str) -> None:
    path = folder / image.split / f"{image.name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        _encode(sample, file, path.suffix)
    if image.defect != "good":
        for kind, mask in (("ground_truth", sample.mask), ("objects", sample.object)):
            path = folder / kind / f"{image.name}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).convert("1").save(path)


def _encode(sample: Sample, file: BinaryIO, suffix: str) -> None:
    kind = Image.registered_extensions()[suffix]
    Image.fromarray(sample.image).save(file, kind, quality=95)  # PNG ignores the quality


def _check_ours(folder: Path) -> None:
    """Raises DatasetError unless the folder is missing, empty or written by `write`."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() and not (folder / MARK).is_file():
        raise DatasetError(f"{folder} exists and is not a sample set; nothing was changed. Choose another folder")
    first_line = LICENCE.splitlines()[0]
    if folder.exists() and not (folder / MARK).read_text(encoding="utf-8", errors="replace").startswith(first_line):
        raise DatasetError(f"{folder} holds another data set; nothing was changed. Choose another folder")
