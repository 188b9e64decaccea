"""Image files in: safe decoding of untrusted files within limits, masks, and finding images in folders."""

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from .errors import DatasetError, ImageError

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
# The decoders a stranger's file may reach. JPEG's opens MPO, too; a name that Pillow has not registered is a KeyError.
IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MIN_SIDE = 16  # px
MAX_PIXELS = 64_000_000  # checked on the header, before anything is decoded
MAX_FILE_BYTES = 100_000_000
LARGE_PIXELS = 8_000_000  # above, one image at a time is decoded: it fills memory enough
_large_one_at_a_time = threading.Lock()


def read_image(source: str | Path | BinaryIO, name: str | None = None) -> np.ndarray:
    """Decodes one image file to RGB: (H, W, 3) uint8, upright (EXIF), the first frame of an animation.

    Transparency is laid on white, 16-bit grey is scaled to 8 bits, CMYK and palettes are converted. Raises ImageError
    for what is no image, is damaged, empty, smaller than MIN_SIDE or larger than MAX_PIXELS. `name` stands for the
    file in messages (an upload has a temporary path that tells nobody anything).
    """
    name = name or (Path(source).name if isinstance(source, str | Path) else "the image")
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise ImageError(
                f"There is no file {name}" if not path.is_dir() else f"{name} is a folder, not an image file"
            )
        if (size := path.stat().st_size) == 0:
            raise ImageError(f"{name} is empty")
        if size > MAX_FILE_BYTES:
            raise ImageError(f"{name} has {size / 1e6:.0f} MB; the limit is {MAX_FILE_BYTES / 1e6:.0f} MB")
    try:
        # Damaged metadata and Pillow's own size warning: the limits below decide, not a line on a console.
        with _silence, Image.open(source, formats=IMAGE_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    f"{name} has {width} x {height} px; the limit is {MAX_PIXELS // 1_000_000} million pixels"
                )
            if min(width, height) < MIN_SIDE:
                raise ImageError(f"{name} has {width} x {height} px; each side needs {MIN_SIDE} px or more")
            with _large_one_at_a_time if width * height > LARGE_PIXELS else contextlib.nullcontext():
                image.load()
                return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except ImageError:
        raise
    except PermissionError as error:
        raise ImageError(f"{name} may not be read: permission denied") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} has too many pixels; the limit is {MAX_PIXELS // 1_000_000} million") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image that can be read (JPEG, PNG, TIFF, BMP, WebP or GIF)") from error
    except Exception as error:  # decoders raise whatever a damaged file makes them raise
        raise ImageError(f"{name} is damaged and could not be decoded") from error


class _Silence:
    """No warnings while any thread is inside. Filters of warnings are the whole process's: they are kept by the first
    thread that enters, and put back by the last that leaves."""

    def __init__(self) -> None:
        self._lock, self._inside, self._filters = threading.Lock(), 0, contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.close()


_silence = _Silence()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = np.asarray(image, dtype=np.float64)
        if not np.isfinite(grey).all() or grey.min() < 0 or grey.max() > 65535:
            raise ValueError("grey values outside 0..65535")
        if image.mode in ("I", "F"):  # of no stated depth: [0, 1] for floats, 8 bits, or 16
            scale = 255.0 if image.mode == "F" and grey.max() <= 1 else 1.0 if grey.max() <= 255 else 1 / 257
        else:
            scale = 1 / 257
        return Image.fromarray(np.round(grey * scale).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def read_mask(path: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """A mask for an image of this (H, W): (H, W) bool, true where a channel is in its upper half.

    Raises ImageError as `read_image` does, and for a mask of another size or one that marks nothing.
    """
    mask = read_image(path).max(-1) >= 128
    if mask.shape != shape:
        raise ImageError(
            f"The mask {path} has {mask.shape[1]} x {mask.shape[0]} px, its image {shape[1]} x {shape[0]} px"
        )
    if not mask.any():
        raise ImageError(f"The mask {path} marks nothing: white pixels are needed where the defect or object lies")
    return mask


def is_image(path: Path) -> bool:
    return _has_image_name(path.name) and path.is_file()


def _has_image_name(name: str) -> bool:
    """Hidden files are none: macOS puts a `._crack.png` beside each `crack.png` that it copies."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith(".")


def find_images(patterns: Sequence[str | Path]) -> list[str]:
    """Image files named by files, folders (searched through) and globs, each once, in the order given.

    A file named outright is taken whatever its suffix. Plain text, for a list of 100,000 paths to stay small. Raises
    DatasetError for a pattern that finds nothing, and for a folder that may not be read.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            matches = list(_images_below(str(path)))
        elif path.exists():
            matches = [str(path)]
        elif path.name and any(sign in str(pattern) for sign in "*?["):
            matches = [str(p) for p in sorted(_glob(path)) if is_image(p)]
        else:
            raise DatasetError(f"There is no file or folder {pattern}")
        if not matches:
            raise DatasetError(f"{pattern} finds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        found.update(dict.fromkeys(matches))
    return list(found)


def _images_below(folder: str) -> Iterator[str]:
    """Image files in a folder and in the folders in it, sorted. Linked files are taken, linked folders not entered: so
    nothing goes round in circles, and no image comes twice."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (entry.name, is_folder)
                for entry in entries
                if (is_folder := entry.is_dir(follow_symlinks=False))
                # The first asks no disk; the second takes a link that leads nowhere, or to itself, for no file.
                or (
                    _has_image_name(entry.name) and (entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path))
                )
            )
    except OSError as error:
        raise DatasetError(f"The folder {folder} cannot be read: {error.strerror or error}") from error
    for name, is_folder in found:
        path = name if folder == "." else os.path.join(folder, name)
        if is_folder:
            yield from _images_below(path)
        else:
            yield path


def _glob(pattern: Path) -> Iterator[Path]:
    anchor = Path(pattern.anchor) if pattern.is_absolute() else Path()
    return anchor.glob(str(pattern.relative_to(anchor)) if pattern.is_absolute() else str(pattern))
