"""Image files in: safe decoding of untrusted files within limits, masks, and finding images in folders."""

import contextlib
import ctypes
import errno
import io
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO, Self, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .decoding_limits import check_structure
from .errors import DatasetError, ImageError
from .jpeg_end import share_present

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
PHONE_SUFFIXES = {".avif", ".heic", ".heif"}  # photographs, too: who reads one is told what to do
# The only decoders that an untrusted file reaches. JPEG's also opens MPO; a name unknown to Pillow is a KeyError.
IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
MIN_SIDE = 16  # px
MAX_PIXELS = 64_000_000  # checked on the header, before anything is decoded
MAX_FILE_BYTES = 100_000_000
LARGE_PIXELS = 8_000_000  # above, one image at a time is decoded: it fills memory enough
WHITES = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # where ranges of grey values end
GREY_ROWS = 256  # that are scaled at once: memory stays small
MASK_LABELS = 16  # a mask with more distinct values than this is a grey picture, not one of labels
_large_one_at_a_time = threading.Lock()
T = TypeVar("T")


class RangedPath(str):
    """The path of an image file, with the grey value that is shown as white where its pixels have more than 8 bits."""

    __slots__ = ("white",)
    white: float

    @classmethod
    def of(cls, path: str | Path, white: float) -> Self:
        ranged = cls(path)
        ranged.white = white
        return ranged


def read_image(source: str | Path | BinaryIO, name: str | None = None, white: float | None = None) -> np.ndarray:
    """Decodes one image file to RGB: (H, W, 3) uint8, upright (EXIF), the first frame of an animation.

    Transparency is laid on white, CMYK and palettes are converted. Grey values of more than 8 bits are scaled so that
    `white` becomes 255: by default that of a RangedPath, else 65535 for whole numbers and 1 for floats. The scale never
    depends on the image alone, or one bright pixel would darken the rest.

    Raises ImageError for files that are no image, damaged, empty, smaller than MIN_SIDE or larger than MAX_PIXELS, and
    for grey values below 0 or above `white`. `name` stands for the file in messages: the temporary path of an upload
    means nothing to its user.
    """
    return read_upload(source, name, white)[0]


def read_upload(
    source: str | Path | BinaryIO, name: str | None = None, white: float | None = None
) -> tuple[np.ndarray, bool]:
    """As `read_image`, and whether parts of the image were transparent, so that they are white now."""
    if white is None and isinstance(source, RangedPath):
        white = source.white
    return _decode(source, name, lambda image, name: (np.asarray(_to_rgb(image, name, white)), _is_transparent(image)))


def is_deep(path: str | Path) -> bool:
    """Whether an image file holds grey values of more than 8 bits, as its header says; false where it has none. Of PNG
    and TIFF alone is more than the first bytes read: no other format has such values."""
    try:
        with open(path, "rb") as file:
            if not file.read(8).startswith((b"\x89PNG", b"II", b"MM")):
                return False
        data = _content(path, str(path))
        check_structure(data, str(path))
        _quiet_libtiff()
        with _silence, Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            return _is_deep(image)
    except Exception:  # reading it says what is wrong
        return False


def highest_grey(path: str | Path) -> tuple[float, bool]:
    """(highest grey value of a file of more than 8 bits, whether its values are floats). Raises as `read_image`."""
    return _decode(path, None, lambda image, name: (float(np.max(np.asarray(image))), image.mode == "F"))


def white_above(highest: float, is_float: bool) -> float:
    """The end of the usual range that grey values up to `highest` are of: 12 bits in a 16-bit file end at 4095. Raises
    ImageError where there is none."""
    usual = [white for white in WHITES if white >= highest and (is_float or white > 1)]
    if not usual:
        raise ImageError(f"Grey values up to {highest:.6g} are more than 16 bits")
    return usual[0]


def _not_readable(name: str, data: bytes) -> str:
    """Phones write HEIC, and the name may not tell: a visitor is told what helps."""
    if data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS:
        return f"{name} is a HEIC or AVIF image, which cannot be read: save it as JPEG or PNG"
    return f"{name} is not an image that can be read (JPEG, PNG, TIFF, BMP, WebP or GIF)"


def _decode(source: str | Path | BinaryIO, name: str | None, convert: Callable[[Image.Image, str], T]) -> T:
    """An image file, upright, as `convert` reads it. Limits and errors as in `read_image`."""
    name = name or (Path(source).name if isinstance(source, str | Path) else "the image")
    try:
        data = _content(source, name)
        check_structure(data, name)
        _quiet_libtiff()
        # Silence for damaged metadata and Pillow's own size warning: the limits below decide.
        with _silence, Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            width, height = image.size
            _check_size(width, height, name)
            with _large_one_at_a_time if width * height > LARGE_PIXELS else contextlib.nullcontext():
                image.load()
                _check_complete(image, data, name)
                return convert(_upright(image), name)
    except ImageError:
        raise
    except PermissionError as error:
        raise ImageError(f"{name} may not be read: permission denied") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} has too many pixels; the limit is {MAX_PIXELS // 1_000_000} million") from error
    except UnidentifiedImageError as error:
        raise ImageError(_not_readable(name, data)) from error
    except Exception as error:  # decoders raise whatever a damaged file makes them raise
        raise ImageError(f"{name} is damaged and could not be decoded") from error


def _check_complete(image: Image.Image, data: bytes, name: str) -> None:
    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
        share = share_present(data, image)
        if share < 1:
            rows = f"only the upper {100 * share:.0f} % are there" if share else "its last scans are missing"
            raise ImageError(f"{name} is cut off: {rows}")


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data say; as it is where these are damaged, which says nothing about the picture."""
    try:
        as_it_is = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        return image if as_it_is else ImageOps.exif_transpose(image)  # which copies every pixel
    except Exception:  # whatever damaged data make Pillow raise; the pixels are decoded already
        return image


def _content(source: str | Path | BinaryIO, name: str) -> bytes:
    """The whole file, so that what was checked is what is decoded."""
    _check_file(source, name)
    return Path(source).read_bytes() if isinstance(source, str | Path) else source.read()


def _check_file(source: str | Path | BinaryIO, name: str) -> None:
    if isinstance(source, str | Path):
        path = Path(source)
        try:
            status = path.stat()
        except OSError as error:  # also a name that is too long
            missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
            raise ImageError(f"There is no file {name}" if missing else f"{name}: {error.strerror}") from error
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{name} is a folder, not an image file")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{name} is no ordinary file")
        size = status.st_size
    else:
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
    if size == 0:
        raise ImageError(f"{name} is empty")
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{name} has {size / 1e6:.0f} MB; the limit is {MAX_FILE_BYTES / 1e6:.0f} MB")


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name} has {width} x {height} px; the limit is {MAX_PIXELS // 1_000_000} million pixels")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{name} has {width} x {height} px; each side needs {MIN_SIDE} px or more")


class _Silence:
    """No warnings while any thread is inside. Warning filters belong to the whole process: the first thread that enters
    saves them, the last that leaves restores them."""

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


@cache
def _quiet_libtiff() -> None:
    """libtiff prints what is wrong with a file past Python, into the middle of a user's table or progress bar; here an
    ImageError says it. Where the library cannot be reached (Windows), it goes on printing."""
    with contextlib.suppress(OSError, AttributeError):
        # Finds the functions of the libraries that Pillow has loaded.
        decoders = ctypes.CDLL(Image.core.__file__)  # type: ignore[attr-defined]
        for handler in (decoders.TIFFSetErrorHandler, decoders.TIFFSetWarningHandler):
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)


def _is_deep(image: Image.Image) -> bool:
    """Whether a pixel is one number of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _is_transparent(image: Image.Image) -> bool:
    if _is_deep(image) or not _has_alpha(image):
        return False
    return bool(np.asarray(image.convert("RGBA").getchannel("A")).min() < 255)


def _to_rgb(image: Image.Image, name: str, white: float | None = None, background: str = "white") -> Image.Image:
    if _is_deep(image):
        return _scaled(image, name, white or (1.0 if image.mode == "F" else 65535.0)).convert("RGB")
    if _has_alpha(image):
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, background), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _scaled(image: Image.Image, name: str, white: float) -> Image.Image:
    """Grey values 0..white as 0..255."""
    grey = np.empty((image.height, image.width), np.uint8)
    for top in range(0, image.height, GREY_ROWS):
        rows = np.asarray(image.crop((0, top, image.width, min(top + GREY_ROWS, image.height))), np.float64)
        low, high = rows.min(), rows.max()
        if not (low >= 0 and high <= white):  # also where a value is not a number
            raise ImageError(f"{name} has grey values from {low:.6g} to {high:.6g}; here they may be 0 to {white:.6g}")
        grey[top : top + GREY_ROWS] = np.round(rows * (255 / white))
    return Image.fromarray(grey)


def read_mask(path: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """A mask for an image of this (H, W): (H, W) bool, true on the defect or object.

    A mask with up to MASK_LABELS distinct values holds labels (0 and 1, 0 and 255, a number per kind of defect): every
    value above 0 counts. A mask with more values is a grey picture with soft edges: its upper half counts. A mask of
    another size but the same aspect is brought to the image's size by nearest neighbour. Raises ImageError as
    `read_image` does, and for a mask of another aspect or one that marks nothing.
    """
    mask = _decode(path, None, _marked)
    if not same_aspect(mask.shape, shape):
        raise ImageError(
            f"The mask {path} has {mask.shape[1]} x {mask.shape[0]} px, its image {shape[1]} x {shape[0]} px"
        )
    rows, columns = ((np.arange(n) * 2 + 1) * m // (2 * n) for n, m in zip(shape, mask.shape, strict=True))
    mask = mask[np.ix_(rows, columns)]
    if not mask.any():
        raise ImageError(f"The mask {path} marks nothing: pixels above 0 are needed on the defect or object")
    return mask


def marks_something(path: str | Path) -> bool:
    """Whether a mask has any pixel set; some published ones have none. Raises ImageError as `read_image` does."""
    return bool(_decode(path, None, _marked).any())


def _marked(mask: Image.Image, name: str) -> np.ndarray:
    white = white_above(float(np.max(np.asarray(mask))), mask.mode == "F") if _is_deep(mask) else None
    brightness = np.asarray(_to_rgb(mask, name, white, background="black")).max(-1)
    values = np.asarray(mask) if _is_deep(mask) else brightness  # in 8 bits, a 16-bit label of 1 is 0
    return values > 0 if np.unique(values).size <= MASK_LABELS else brightness >= 128


def same_aspect(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether one (H, W) is the other one scaled, its sides rounded to whole pixels."""
    return 2 * abs(a[0] * b[1] - a[1] * b[0]) <= max(sum(a), sum(b))


def is_image(path: Path) -> bool:
    return has_image_name(path.name) and path.is_file()


def has_image_name(name: str) -> bool:
    """Hidden files do not count: macOS puts a `._crack.png` beside each `crack.png` that it copies."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES | PHONE_SUFFIXES and not name.startswith(".")


def find_images(patterns: Sequence[str | Path]) -> list[str]:
    """Image files named by files, folders (searched through) and globs, each once, in the order given.

    A file named outright is taken whatever its suffix. Paths are plain strings, to keep a list of 100,000 small. Raises
    DatasetError for a pattern that finds nothing, and for a folder that may not be read.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            matches = list(images_below(str(path)))
        elif path.exists() or path.is_symlink():  # of a link to nothing, reading it says so
            matches = [str(path)]
        elif path.name and any(sign in str(pattern) for sign in "*?["):
            matches = [str(p) for p in sorted(_glob(path)) if is_image(p)]
        else:
            raise DatasetError(f"There is no file or folder {pattern}")
        if not matches:
            raise DatasetError(f"{pattern} finds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        found.update(dict.fromkeys(matches))
    return list(found)


def skipped_files(patterns: Sequence[str | Path]) -> int:
    """How many files in the folders named `find_images` passes over, because they are no images by their name; hidden
    ones do not count."""
    count = 0
    for pattern in patterns:
        for _, folders, names in os.walk(pattern):
            folders[:] = [name for name in folders if not name.startswith(".")]
            count += sum(not name.startswith(".") and not has_image_name(name) for name in names)
    return count


def images_below(folder: str) -> Iterator[str]:
    """Image files in a folder and its subfolders, sorted, hidden files and folders left out.

    Linked files are taken; linked subfolders are not entered, so that nothing loops and no image comes twice. Raises
    DatasetError for a folder that may not be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (entry.name, is_folder)
                for entry in entries
                if not entry.name.startswith(".")
                if (is_folder := entry.is_dir(follow_symlinks=False))
                # The first needs no look at the disk; the second leaves out broken and circular links.
                or (has_image_name(entry.name) and (entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)))
            )
    except OSError as error:
        raise DatasetError(f"The folder {folder} cannot be read: {error.strerror or error}") from error
    for name, is_folder in found:
        path = name if folder == "." else os.path.join(folder, name)
        if is_folder:
            yield from images_below(path)
        else:
            yield path


def _glob(pattern: Path) -> Iterator[Path]:
    anchor = Path(pattern.anchor) if pattern.is_absolute() else Path()
    return anchor.glob(str(pattern.relative_to(anchor)) if pattern.is_absolute() else str(pattern))
