"""Converts a downloaded archive, or a folder, to categories in the MVTec AD layout.

A category is written to a hidden folder and renamed when it is complete and all of its images have been decoded once.
So a category is there as a whole or not at all, however the process ends. Run again, `prepare` checks the finished
categories and makes the others. Each category has a `dataset.json` that records what it was made from.
"""

import hashlib
import io
import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from .. import __version__
from ..errors import DatasetError
from ..files import locked, replace_folder, sweep_folder
from ..stages import Progress
from . import CARDS, FOLDER, Counts, DatasetCard, layouts, wafer
from .archives import Source, is_hidden, open_source
from .layouts import Plan

RECORD = "dataset.json"
SPARE_BYTES = 100_000_000  # left free on the disk
MIN_TRAIN = 5  # normal images, as training wants them


@dataclass(frozen=True)
class Options:
    """Options of the user. limit: images of each kind, of wafer maps. held_out: share of a folder's normal images."""

    categories: tuple[str, ...] = ()
    any_counts: bool = False
    normal: tuple[str, ...] = ()
    anomalous: tuple[str, ...] = ()
    held_out: float = 0.2
    limit: int | None = None


@dataclass(frozen=True)
class Prepared:
    """One category, ready to train on. already: it was there and complete, and was not changed."""

    category: str
    folder: Path
    counts: Counts
    n_masks: int
    already: bool


@dataclass(frozen=True)
class Outcome:
    """notes: what the user should know, in sentences."""

    prepared: tuple[Prepared, ...]
    notes: tuple[str, ...]


class _Content(Protocol):
    def read(self, names: Collection[str], max_bytes: int) -> Iterator[tuple[str, bytes]]: ...


def card_of(name: str) -> DatasetCard:
    """The card of a data set by its name, or of `folder`. Raises DatasetError for an unknown one."""
    if name == "folder":
        return FOLDER
    if name not in CARDS:
        raise DatasetError(f"There is no data set {name!r}; there are {', '.join(CARDS)} and folder")
    return CARDS[name]


def prepare(
    name: str, source: str | Path, out: str | Path, options: Options | None = None, progress: Progress | None = None
) -> Outcome:
    """Converts the data set `name` from `source` (an archive or a folder) to OUT/CATEGORY.

    progress: called with (stage, done, total). Raises DatasetError or ImageError for a source that is unsafe, damaged
    or incomplete, or whose counts differ from the published ones; nothing of it is left behind.
    """
    card, source, out = card_of(name), Path(source), Path(out)
    options, progress = options or Options(), progress or (lambda stage, done, total: None)
    if name == "sample":
        raise DatasetError("The sample set is drawn, not prepared: attentdiffernet datasets sample --out data/sample")
    if not source.exists():
        raise DatasetError(f"There is no file or folder {source}")
    if out.exists() and not out.is_dir():
        raise DatasetError(f"{out} is a file; --out must be a folder")
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise DatasetError(f"{out} lies inside {source}; choose an --out outside of the source")
    with _content(name, source, _existing(out), options, progress) as (plan, content, sizes):
        notes = _check(name, card, source, plan, options)
        with _locked_folder(out):
            done = {category: _already(out / category, name, files, sizes) for category, files in plan.items()}
            missing = {category: files for category, files in plan.items() if done[category] is None}
            if missing:
                checksum, note = _checksum(card, source, progress)
                notes += [note] if note else []
                _check_space(out, missing, sizes)
                made_of = {"file": source.name, "sha256": checksum}
                _make(name, card, out, missing, content, made_of, progress)
    prepared = []
    for category, files in plan.items():
        counts = _counts(files)
        prepared.append(Prepared(category, out / category, counts, _n_masks(files), done[category] is not None))
        if not counts.anomalous:
            notes.append(f"{category} has no anomalous images: it can be used for training, but gives no AUROC")
    return Outcome(tuple(prepared), tuple(notes))


# -- what goes where


@contextmanager
def _content(
    name: str, source: Path, scratch: Path, options: Options, progress: Progress
) -> Iterator[tuple[Plan, _Content, Mapping[str, int]]]:
    """The plan, where to read its files from, and their sizes (empty for images that are drawn)."""
    if options.limit is not None and options.limit < 1:
        raise DatasetError(f"--limit must be 1 or more, got {options.limit}")
    if name in ("wm811k", "mixedwm38"):
        _refuse_options(name, normal=options.normal, anomalous=options.anomalous)
        opened = wafer.wm811k if name == "wm811k" else wafer.mixedwm38
        with opened(source, scratch, options.any_counts, progress) as maps:
            plan = _chosen(maps.plan(options.limit), options.categories)
            yield plan, maps, {}
        return
    _refuse_options(name, limit=options.limit)
    archive = open_source(source, progress=progress)
    names = _images(archive)
    if name in ("folder", "semiconductor_wafer"):
        category = _own_category(name, options.categories)
        plan = layouts.folder(names, category, options.normal, options.anomalous, options.held_out)
    else:
        _refuse_options(name, normal=options.normal, anomalous=options.anomalous)
        found = layouts.magnetic_tile(names) if name == "mtd" else layouts.mvtec(names, CARDS[name].categories)
        plan = _chosen(
            {category: found[category] for category in CARDS[name].categories if category in found}, options.categories
        )
    if not plan:
        raise DatasetError(
            f"{source.name} holds nothing of {card_of(name).title}. {_hint(archive)} Wanted: {card_of(name).archive}"
        )
    yield plan, archive, archive.files


def _refuse_options(name: str, **given: object) -> None:
    for option, value in given.items():
        if value:
            raise DatasetError(f"--{option} cannot be used with {name}")


def _images(source: Source) -> list[str]:
    from ..images import IMAGE_SUFFIXES

    return [file for file in source.files if Path(file).suffix.lower() in IMAGE_SUFFIXES and not is_hidden(file)]


def _own_category(name: str, categories: tuple[str, ...]) -> str:
    if len(categories) > 1 or (not categories and name == "folder"):
        raise DatasetError("Name the one category that the folder becomes: --category NAME")
    category = categories[0] if categories else wafer.CATEGORY
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", category):
        raise DatasetError(
            f"The name of a category has up to 64 letters, digits, dots, dashes and underscores, got {category!r}"
        )
    return category


def _chosen(plan: Plan, categories: tuple[str, ...]) -> Plan:
    if not categories:
        return plan
    for category in categories:
        if category not in plan:
            raise DatasetError(f"There is no category {category!r} here; there are {', '.join(plan) or 'none'}")
    return {category: plan[category] for category in dict.fromkeys(categories)}


def _hint(source: Source) -> str:
    """What the source holds instead, for a user who chose the wrong file."""
    nested = [file for file in source.files if file.lower().endswith((".zip", ".tar", ".gz", ".xz", ".7z", ".rar"))]
    if nested:
        return f"It holds archives ({', '.join(nested)[:200]}): unpack it and name one of them."
    top = list(dict.fromkeys(file.split("/")[0] for file in source.files))
    return f"It holds {', '.join(top[:8])[:200]}{' ...' if len(top) > 8 else ''}." if top else "It is empty."


def _counts(files: Collection[str]) -> Counts:
    train = sum(target.startswith("train/good/") for target in files)
    good = sum(target.startswith("test/good/") for target in files)
    test = sum(target.startswith("test/") for target in files)
    return Counts(train, good, test - good)


def _n_masks(files: Collection[str]) -> int:
    return sum(target.startswith("ground_truth/") for target in files)


def _check(name: str, card: DatasetCard, source: Path, plan: Plan, options: Options) -> list[str]:
    """Raises DatasetError if the counts differ from the published ones, or are too small for training."""
    for category, files in plan.items():
        got, wanted = _counts(files), card.categories.get(category)
        if wanted is not None and got != wanted and options.limit is None and not options.any_counts:
            raise DatasetError(
                f"{category} has {got}, but the published counts are {wanted}. "
                f"Is {source.name} complete? --any-counts accepts it as it is"
            )
        if got.train < MIN_TRAIN:
            raise DatasetError(
                f"{category} has {got.train} normal images to train on; training needs {MIN_TRAIN} or more"
            )
        _check_masks(category, files)
    absent = [category for category in card.categories if category not in plan]
    if absent and not options.categories:
        return [f"{source.name} lacks {len(absent)} of {len(card.categories)} categories: {', '.join(absent)}"]
    return []


def _check_masks(category: str, targets: Collection[str]) -> dict[str, str]:
    """Mask -> its test image, the latter without suffix. Raises DatasetError for a mask that belongs to none."""
    from ..category import image_of_mask

    images = {target.rpartition(".")[0].removeprefix("test/") for target in targets if target.startswith("test/")}
    found = {}
    for target in targets:
        if target.startswith("ground_truth/"):
            image = image_of_mask(target.removeprefix("ground_truth/"), images)
            if image is None:
                raise DatasetError(f"{category}: the mask {target} belongs to no image in test")
            found[target] = f"test/{image}"
    return found


def _checksum(card: DatasetCard, source: Path, progress: Progress) -> tuple[str, str]:
    """The SHA-256 of a source that is a file, and how it compares with the published one; empty where there is none."""
    if not source.is_file():
        return "", ""
    total, digest = source.stat().st_size, hashlib.sha256()
    with open(source, "rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
            progress("checksum (MB)", file.tell() // 1_000_000, total // 1_000_000)
    found, published = digest.hexdigest(), card.checksums.get(source.name)
    if published is None:
        return found, ""
    if found == published:
        return found, f"{source.name} is the file as published (SHA-256)"
    return found, f"{source.name} is not the file as published: its SHA-256 is {found} instead of {published}"


# -- writing


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return path


@contextmanager
def _locked_folder(out: Path) -> Iterator[None]:
    """Locks the folder and removes what killed processes left in it; a new folder that stays empty is removed."""
    is_new = not out.exists()
    with ExitStack() as lock:
        try:
            lock.enter_context(locked(out, wait=False))
        except BlockingIOError as error:
            raise DatasetError(f"Another process is preparing a data set in {out}; wait until it ends") from error
        try:
            sweep_folder(out, older_than=0)
            yield
        finally:
            if is_new and not any(out.iterdir()):
                out.rmdir()


def _already(folder: Path, name: str, files: Mapping[str, str], sizes: Mapping[str, int]) -> Counts | None:
    """The counts of a category that is there and complete, None if it must be made. DatasetError for anything else."""
    if not folder.is_symlink() and (not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))):
        return None
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        recorded = {str(target): int(size) for target, size in record["files"].items()}
        same = record["dataset"] == name and not folder.is_symlink()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{folder} exists and was not made by this command; nothing was changed. Choose another --out"
        ) from error
    if same and recorded.keys() != files.keys():
        raise DatasetError(
            f"{folder} was made from other files or with other options; nothing was changed. "
            "Remove it or choose another --out"
        )
    if not same or any(recorded[target] != sizes.get(file, recorded[target]) for target, file in files.items()):
        raise DatasetError(
            f"{folder} was made from another data set; nothing was changed. Remove it or choose another --out"
        )
    there = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.name != RECORD
    }
    if strange := sorted(there.keys() - recorded.keys()):
        raise DatasetError(f"{folder} holds other files, such as {strange[0]}; nothing was changed")
    return _counts(files) if there == recorded else None


def _check_space(out: Path, missing: Plan, sizes: Mapping[str, int]) -> None:
    needed = sum(sizes.get(file, wafer.BYTES_PER_IMAGE) + 4096 for files in missing.values() for file in files.values())
    free = shutil.disk_usage(out).free
    if needed + SPARE_BYTES > free:
        raise DatasetError(
            f"{out} needs {(needed + SPARE_BYTES) / 1e9:.1f} GB of free space, but there are {free / 1e9:.1f} GB"
        )


def _make(
    name: str,
    card: DatasetCard,
    out: Path,
    missing: Plan,
    content: _Content,
    made_of: dict[str, str],
    progress: Progress,
) -> None:
    """Writes the categories. Each one is put in place as soon as it is complete."""
    from ..images import MAX_FILE_BYTES

    where = {file: (category, target) for category, files in missing.items() for target, file in files.items()}
    begun: dict[str, _Category] = {}
    with ExitStack() as unfinished:
        for n, (file, data) in enumerate(content.read(where, MAX_FILE_BYTES)):
            category, target = where[file]
            if category not in begun:
                begun[category] = _Category(out / category, len(missing[category]))
                unfinished.push(begun[category].place)
            begun[category].add(
                target, data, decode=isinstance(content, Source)
            )  # images that were just drawn need no check
            progress("preparing images", n + 1, len(where))
            if begun[category].is_whole:
                record = {
                    "dataset": name,
                    "category": category,
                    "title": card.title,
                    "licence": card.licence,
                    "citation": card.citation,
                    "source": card.source,
                    "split": card.split,
                    "made_of": made_of,
                    "made_by": f"attentdiffernet {__version__}",
                    "counts": asdict(_counts(missing[category])),
                }
                begun.pop(category).finish(record)
        if begun:
            raise DatasetError(f"{', '.join(begun)} cannot be completed: files are missing in what was read")


class _Category:
    """A category that is being written. place: puts it in place when closed; drops it where an exception passes."""

    def __init__(self, target: Path, n_files: int) -> None:
        self.name, self.n_files = target.name, n_files
        self.place = ExitStack()
        # Not durable: thousands of files, whose sizes are compared with the record when the set is prepared again.
        self.folder = self.place.enter_context(replace_folder(target, durable=False))
        self.sizes: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, int]] = {}  # (height, width) of test images and masks, by name

    @property
    def is_whole(self) -> bool:
        return len(self.sizes) == self.n_files

    def add(self, target: str, data: bytes, decode: bool) -> None:
        """Writes the bytes unchanged. decode: first decode them, as a check."""
        shape = None
        if decode:
            from ..images import read_image

            shape = read_image(io.BytesIO(data), f"{self.name}/{target}").shape
        path = self.folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
        self.sizes[target] = len(data)
        if shape is not None and not target.startswith("train/"):
            self._shapes[target] = shape[0], shape[1]

    def finish(self, record: dict[str, Any]) -> None:
        from ..images import same_aspect

        images = {target.rpartition(".")[0]: shape for target, shape in self._shapes.items()}
        for mask, image in _check_masks(self.name, self._shapes).items():
            (h, w), (height, width) = self._shapes[mask], images[image]
            if not same_aspect((h, w), (height, width)):
                raise DatasetError(f"{self.name}: the mask {mask} has {w} x {h} px, its image {width} x {height}")
        record["files"] = dict(sorted(self.sizes.items()))
        (self.folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        self.place.close()
