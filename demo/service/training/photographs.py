"""Uploaded photographs of good parts: gathered from files and archives within limits, and looked over."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from attentdiffernet.datasets.archives import Limits, is_hidden, open_source
from attentdiffernet.decoding_apart import PROCESSES
from attentdiffernet.errors import AttentDifferNetError, DatasetError
from attentdiffernet.images import has_image_name
from attentdiffernet.sources import value_range_of

from ..decoding import highest_grey, read_image
from ..naming import safe_stem
from ..private import check_room
from .limits import ARCHIVES, LEAST, MOST, MOST_JUDGED

MAX_FILE_BYTES = 100_000_000
MAX_TOTAL_BYTES = 1_000_000_000
LIMITS = Limits(entries=2_000, total_bytes=MAX_TOTAL_BYTES, file_bytes=MAX_FILE_BYTES)

SMALL = 32  # px, side of the grey copies that are compared
# Up to which two of them count as the same photograph, of 255. A small defect changes one place, and hardly the mean.
ALIKE, ALIKE_EVERYWHERE = 2.0, 10.0
DARK, BRIGHT = 30, 225  # mean grey value
CLIPPED = 0.25  # share of pixels at the end of the range
BLURRED = 0.25  # sharpness, as a share of the median of the set


@dataclass(frozen=True)
class Remark:
    """What is unusual about some photographs of a set, in a sentence. images: their numbers."""

    sentence: str
    images: tuple[int, ...] = ()


def gather(uploads: Sequence[str | Path], folder: Path) -> list[Path]:
    """Photographs of good parts among the uploads; those of archives are unpacked into the folder, under numbers of
    their own.

    Raises DatasetError for too few or too many, too much data, and archives that are unsafe or damaged.
    """
    found = _gathered(uploads, folder, MOST, "photographs")
    if len(found) < LEAST:
        raise DatasetError(f"Training needs {LEAST} photographs of good parts or more, got {len(found)}")
    return found


def gather_to_judge(uploads: Sequence[str | Path], folder: Path, what: str) -> list[Path]:
    """As `gather`, of parts that are judged and not trained on: MOST_JUDGED at most, or none."""
    return _gathered(uploads, folder, MOST_JUDGED, what)


def _gathered(uploads: Sequence[str | Path], folder: Path, most: int, what: str) -> list[Path]:
    found: list[Path] = []
    for upload in map(Path, uploads):
        found += _unpacked(upload, folder, most) if upload.name.lower().endswith(ARCHIVES) else [upload]
        if len(found) > most:
            raise DatasetError(f"There are more than {most} {what}; {most} are the limit")
    if (total := sum(path.stat().st_size for path in found)) > MAX_TOTAL_BYTES:
        raise DatasetError(f"The photographs have {total / 1e6:.0f} MB; the limit is {MAX_TOTAL_BYTES / 1e6:.0f} MB")
    return found


def _unpacked(archive: Path, folder: Path, most: int) -> list[Path]:
    source = open_source(archive, LIMITS)
    names = sorted(name for name in source.files if has_image_name(Path(name).name) and not is_hidden(name))
    if len(names) > most:
        raise DatasetError(f"{archive.name} holds {len(names)} photographs; {most} are the limit")
    check_room(sum(source.files[name] for name in names))
    target = folder / f"unpacked-{len(list(folder.glob('unpacked-*')))}"
    target.mkdir(parents=True)
    found = {}
    for name, data in source.read(names, MAX_FILE_BYTES):
        # An untrusted name is no file name; what can be kept of it tells the visitor which photograph it is.
        path = target / f"{names.index(name):03d}-{safe_stem(name)}{Path(name).suffix.lower()}"
        path.write_bytes(data)
        found[name] = path
    return [found[name] for name in names]


@dataclass(frozen=True)
class Looked:
    """remarks: what is unusual about some photographs, worst first. copies: (n, SMALL²) grey values of small copies,
    for `shows_the_same`."""

    remarks: list[Remark]
    copies: np.ndarray


@dataclass(frozen=True)
class Glance:
    """What is kept of a photograph that was looked at. grey: (SMALL²,). clipped: share of pixels at the ends."""

    aspect: float
    grey: np.ndarray
    sharpness: float
    clipped: float


def _glance(pixels: np.ndarray) -> Glance:
    one = Image.fromarray(pixels).convert("L")
    values = np.asarray(one.resize((256, 256), Image.Resampling.BILINEAR), np.float32)
    sharpness = np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean()
    clipped = np.mean((values <= 1) | (values >= 254))
    return Glance(pixels.shape[1] / pixels.shape[0], _grey(one).ravel(), float(sharpness), float(clipped))


def glances(photographs: Sequence[Path]) -> Iterator[Glance]:
    """Looks at each photograph, as many at a time as can be decoded. Raises ImageError for one that cannot be read."""
    white = value_range_of(photographs, highest_of=highest_grey)
    with ThreadPoolExecutor(PROCESSES) as pool:
        yield from pool.map(lambda path: _glance(_readable(path, white)), photographs)


def look_over(photographs: Sequence[Path], seen: Iterable[Glance] | None = None) -> Looked:
    """What is unusual about the photographs. seen: their glances, if they are there already. Raises DatasetError where
    they all show the same, and what `glances` raises."""
    seen = list(glances(photographs) if seen is None else seen)
    grey = np.stack([one.grey for one in seen])
    sharpness, clipped = np.array([one.sharpness for one in seen]), np.array([one.clipped for one in seen])
    same = _same(grey)
    if len(same) == len(photographs) - 1:
        raise DatasetError("All photographs show the same: there is nothing to learn about how good parts differ")
    means, typical = grey.mean(1), float(np.median(sharpness))
    aspects = np.array([one.aspect for one in seen])
    found = [
        _remark("{} almost the same as another one; each is counted", same),
        _remark("{} of another shape than most (width to height)", np.abs(aspects / np.median(aspects) - 1) > 0.05),
        _remark("{} much less sharp than most", sharpness < BLURRED * typical),
        _remark("{} very dark", means < DARK),
        _remark("{} very bright", means > BRIGHT),
        _remark(
            "{} largely black or white where details may be lost, unlike most",
            clipped > CLIPPED + np.median(clipped),
        ),
    ]
    few = [Remark(f"{len(photographs)} photographs are few: the threshold is uncertain. 20 or more are better")]
    return Looked(few * (len(photographs) < 20) + [remark for remark in found if remark.images], grey)


def _readable(path: Path, white: float | None) -> np.ndarray:
    try:
        return read_image(path, None, white)
    except OSError as error:
        raise AttentDifferNetError(f"{path.name} could not be read: {error.strerror or error}") from error


def shows_the_same(image: np.ndarray, copies: np.ndarray) -> bool:
    """Whether an image (H, W, 3) uint8 is almost the same as one of those copied."""
    return bool(_alike(copies, _grey_of(image)).any())


def _grey_of(image: np.ndarray) -> np.ndarray:
    return _grey(Image.fromarray(image).convert("L")).ravel()


def _grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((SMALL, SMALL), Image.Resampling.BOX), np.float32)


def _alike(copies: np.ndarray, copy: np.ndarray) -> np.ndarray:
    """Which of (n, SMALL²) grey copies show the same as one."""
    difference = np.abs(copies - copy)
    return (difference.mean(1) <= ALIKE) & (difference.max(1) <= ALIKE_EVERYWHERE)


def _same(copies: np.ndarray) -> list[int]:
    """Numbers of those that are almost the same as one before."""
    return [k for k in range(1, len(copies)) if _alike(copies[:k], copies[k]).any()]


def _remark(sentence: str, which: np.ndarray | list[int]) -> Remark:
    images = which if isinstance(which, list) else np.flatnonzero(which).tolist()
    many = f"{len(images)} photographs are" if len(images) > 1 else "1 photograph is"
    return Remark(sentence.format(many), tuple(images))
