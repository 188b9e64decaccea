"""The sample set as files in the MVTec AD layout."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from ...errors import DatasetError
from ...files import replace_folder, sweep_folder
from .categories import CATEGORIES, SampleCategory, known_category
from .render import Sample, draw

SUFFIX = {"insulator": ".jpg", "gear": ".jpg", "wafer": ".png"}  # photographs are JPEG, maps are PNG, as in real sets
LICENCE = """Synthetic sample images for AttentDifferNet.

Drawn by the program attentdiffernet.datasets.sample from random numbers: they show no real object, and no photograph
went into them. Released under CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/): use them for anything. They
mirror the kinds of data in the AttentDifferNet paper and are no benchmark: results on them say nothing about real data
sets.
"""
N_TRAIN, N_TEST_GOOD, N_PER_DEFECT = 160, 40, 20
MAX_IMAGES = 1_000_000  # of one category: the seeds of two sets never meet
MARK = "license.txt"  # its first line tells `write` that a folder is its own; MVTec AD has a file of this name, too


def write(
    root: str | Path,
    categories: Iterable[str] | None = None,
    n_train: int = N_TRAIN,
    n_test_good: int = N_TEST_GOOD,
    n_per_defect: int = N_PER_DEFECT,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Draws the sample set into ROOT/CATEGORY in the MVTec AD layout and returns ROOT.

    Beside the masks of defects, ground_truth/DEFECT, it has masks of the whole part, objects/DEFECT; MVTec AD does not.
    Every image has a scene of its own: no scene is in both training and test. A category is written as a whole or not
    at all; one that `write` made before is replaced. progress: called with (images done, images in all) after each.
    Raises DatasetError if ROOT or a category in it holds anything else, for unknown categories and negative counts.
    """
    root = Path(root)
    chosen = [known_category(name) for name in dict.fromkeys(CATEGORIES if categories is None else categories)]
    if min(n_train, n_test_good, n_per_defect, seed) < 0:
        raise DatasetError("The counts and the seed of the sample set must be 0 or more")
    plans = {category.name: _plan(category, n_train, n_test_good, n_per_defect) for category in chosen}
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
            for k, (split, defect, number) in enumerate(plan):
                _save(draw(name, defect, seed * MAX_IMAGES + k), folder, split, f"{defect}/{number:03d}", SUFFIX[name])
                done += 1
                if progress is not None:
                    progress(done, total)
            (folder / MARK).write_text(LICENCE, encoding="utf-8")
            _check_ours(root / name)
    return root


def file_of(category: str, name: str, split: str = "test") -> bytes:
    """The image file that `write` by default puts into ROOT/CATEGORY/SPLIT/NAME (as `scratch/007.png`), drawn again.

    Raises DatasetError for a name that is not in the set.
    """
    plan = _plan(known_category(category), N_TRAIN, N_TEST_GOOD, N_PER_DEFECT)
    names = [_name(category, defect, number) if part == split else "" for part, defect, number in plan]
    if not name or name not in names:
        raise DatasetError(f"The sample set has no image {category}/{split}/{name}")
    k = names.index(name)
    stream = io.BytesIO()
    _encode(draw(category, plan[k][1], seed=k), stream, Path(name).suffix)
    return stream.getvalue()


def _plan(category: SampleCategory, n_train: int, n_test_good: int, n_per_defect: int) -> list[tuple[str, str, int]]:
    """(split, defect, number) of each image; its place in the list becomes its seed."""
    parts = [("train", "good", n_train), ("test", "good", n_test_good)]
    parts += [("test", defect, n_per_defect) for defect in category.defects]
    plan = [(split, defect, number) for split, defect, count in parts for number in range(count)]
    if len(plan) > MAX_IMAGES:
        raise DatasetError(f"{category.name} would have {len(plan)} images; the limit is {MAX_IMAGES}")
    return plan


def _save(sample: Sample, folder: Path, split: str, name: str, suffix: str) -> None:
    path = folder / split / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        _encode(sample, file, path.suffix)
    if not name.startswith("good/"):
        for kind, mask in (("ground_truth", sample.mask), ("objects", sample.object)):
            path = folder / kind / f"{name}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).convert("1").save(path)


def _name(category: str, defect: str, number: int) -> str:
    return f"{defect}/{number:03d}{SUFFIX[category]}"


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
