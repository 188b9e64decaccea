"""Images as callers may give them: files, folders, globs, arrays, open files, or images of a data set."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from .category import InspectionImage
from .errors import ImageError
from .images import MIN_SIDE, RangedPath, find_images, highest_grey, is_deep, read_image, white_above

ImageSource = str | Path | np.ndarray
"""An image file, or the image itself: (H, W, 3) uint8."""

Images = str | Path | Iterable[str | Path | np.ndarray | InspectionImage]
"""A file, a folder (searched through) or a glob; or files, arrays or images of a data set, one by one."""


def pixels_of(source: ImageSource) -> np.ndarray:
    """(H, W, 3) uint8, RGB. Raises ImageError as `read_image`, and for an array of another kind."""
    if not isinstance(source, np.ndarray):
        return read_image(source)
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
        raise ImageError(f"An image must be an array (H, W, 3) of uint8, got {source.shape} of {source.dtype}")
    if min(source.shape[:2]) < MIN_SIDE:
        raise ImageError(f"An image needs {MIN_SIDE} px or more per side, got {source.shape[1]} x {source.shape[0]} px")
    return source


def digest_of(source: ImageSource) -> bytes:
    """SHA-256 of the file's bytes or of the array; empty for a file that is not there."""
    if isinstance(source, np.ndarray):
        digest = hashlib.sha256(repr(source.shape).encode())
        digest.update(np.ascontiguousarray(source).data)
        return digest.digest()
    if not Path(source).is_file():
        return b""
    with open(source, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    if isinstance(source, RangedPath):
        digest.update(repr(source.white).encode())
    return digest.digest()


def each_source(images: Images) -> Iterator[ImageSource]:
    """The images one by one. Raises DatasetError for a folder or glob without images."""
    if isinstance(images, str | Path):
        yield from find_images([images])
        return
    for image in images:
        yield image.path if isinstance(image, InspectionImage) else image


def value_range_of(
    sources: Iterable[ImageSource],
    asked: float | None = None,
    highest_of: Callable[[str | Path], tuple[float, bool]] = highest_grey,
) -> float | None:
    """The grey value that is shown as white in all these images: as asked, or the end of the usual range that their
    values are of. None where no file has more than 8 bits. highest_of: what reads a file, as `highest_grey`."""
    files = [source for source in sources if isinstance(source, str | Path)]
    known = next((source.white for source in files if isinstance(source, RangedPath)), None)
    deep = [] if known else [file for file in files if is_deep(file)]
    if not deep:
        return known
    if asked is not None:
        return asked
    found = [highest_of(file) for file in deep]
    return white_above(max(highest for highest, _ in found), any(is_float for _, is_float in found))


def ranged(source: ImageSource, white: float | None) -> ImageSource:
    """A file that is read with this white; arrays, and files without one, as they are."""
    return RangedPath.of(source, white) if white and isinstance(source, str | Path) else source


def all_ranged(sources: Iterable[ImageSource], white: float | None) -> list[ImageSource]:
    return [ranged(source, white) for source in sources]


def name_of(source: ImageSource, number: int) -> str:
    """What messages and verdicts call an image: its path as given, or `image 3` for the third array."""
    return f"image {number}" if isinstance(source, np.ndarray) else str(source)
