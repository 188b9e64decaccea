"""Images in: the MVTec AD folder layout, safe decoding of strangers' files, rotated views on tensors."""

import contextlib
import math
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from .config import ViewKind
from .devices import to_device
from .errors import DatasetError, ImageError

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
# The decoders a stranger's file may reach. JPEG's opens MPO, too; a name that Pillow has not registered is a KeyError.
IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MIN_SIDE = 16  # px
MAX_PIXELS = 64_000_000  # checked on the header, before anything is decoded
MAX_FILE_BYTES = 100_000_000
LARGE_PIXELS = 8_000_000  # above, one image at a time is decoded: it fills memory enough
_large_one_at_a_time = threading.Lock()

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = 0.449, 0.226  # means of the two above
LEAST_CONTRAST = 0.02  # what varies less is noise: it is not raised to a full picture


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


def input_shape(height: int, width: int, image_size: int, least_side: int) -> tuple[int, int]:
    """(h, w) of an area of about image_size² and of the aspect height / width, unless a side fell below least_side."""
    side = min(round(image_size * math.sqrt(height / width)), image_size**2 // least_side)
    h = max(side, least_side)
    return h, max(round(image_size**2 / h), least_side)


def to_tensor(image: np.ndarray, image_size: int, least_side: int | None = None) -> Tensor:
    """(H, W, 3) uint8 -> (3, image_size, image_size) float32 in [0, 1]; squeezed to a square, as DifferNet does.

    least_side: keeps the aspect instead, (3, h, w) of `input_shape`.
    """
    height, width = image.shape[:2]
    h, w = input_shape(height, width, image_size, least_side) if least_side else (image_size, image_size)
    resized = Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float().div_(255)


def standardise_exposure(images: Tensor) -> Tensor:
    """Images (..., 3, H, W) in [0, 1] with the mean and the standard deviation over all pixels and channels that
    ImageNet has. Colours keep their relations; values may leave [0, 1]. An image of one grey value becomes ImageNet's.
    """
    deviation, mean = torch.std_mean(images, (-3, -2, -1), keepdim=True)
    return (images - mean) * (GREY_STD / deviation.clamp(min=LEAST_CONTRAST)) + GREY_MEAN


def even_angles(n_views: int) -> Tensor:
    """n_views evenly spaced rotations in degrees, (n_views,), starting at 0 and ordered so that every beginning of the
    list is itself spread over the circle (van der Corput): a score may stop after any number of views."""
    bits = max(1, math.ceil(math.log2(n_views)))
    order = [int(f"{k:0{bits}b}"[::-1], 2) for k in range(2**bits)]
    return torch.tensor([360.0 * k / n_views for k in order if k < n_views])


def random_angles(n_views: int, rng: torch.Generator) -> Tensor:
    """n_views rotations in degrees, (n_views,): one uniform in each of n_views equal sectors of the circle."""
    return (torch.arange(n_views) + torch.rand(n_views, generator=rng)) * (360.0 / n_views)


def rotations(rotation_deg: Tensor) -> Tensor:
    """(V,) angles in degrees, counter-clockwise -> (V, 2, 2), what `make_views` takes; quarter turns are exact."""
    angle = torch.deg2rad(rotation_deg.to(torch.float32))
    quarter = rotation_deg.remainder(90) == 0
    cos, sin = (torch.where(quarter, x.round(), x) for x in (angle.cos(), angle.sin()))
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)


_TURNS = rotations(torch.tensor([0.0, 180.0, 90.0, 270.0]))
_MIRROR = torch.diag(torch.tensor([-1.0, 1.0]))
# Kinds of views that are few: all of them, the image as it is first.
FEW_VIEWS = {
    "quarter_turns": _TURNS,
    "flips": torch.cat([_TURNS[:2], _TURNS[:2] @ _MIRROR]),
    "dihedral": torch.cat([_TURNS, _TURNS @ _MIRROR]),
    "none": _TURNS[:1],
}


def possible_views(kind: ViewKind, n_views: int) -> int:
    """n_views, or as many as there are of this kind."""
    return min(n_views, len(FEW_VIEWS[kind])) if kind in FEW_VIEWS else n_views


def even_views(kind: ViewKind, n_views: int) -> Tensor:
    """The views that an image is scored on, (V, 2, 2): V is n_views, or all that there are of the kind."""
    return FEW_VIEWS[kind][:n_views] if kind in FEW_VIEWS else rotations(even_angles(n_views))


def random_views(kind: ViewKind, n_views: int, rng: torch.Generator) -> Tensor:
    """Views to train on, (V, 2, 2): random rotations, or those of a kind that has few."""
    return FEW_VIEWS[kind][:n_views] if kind in FEW_VIEWS else rotations(random_angles(n_views, rng))


def make_views(images: Tensor, views: Tensor) -> Tensor:
    """Turned or mirrored, ImageNet-normalised copies of images in one batch.

    images: (3, S, S) in [0, 1], or (B, 3, S, S) with one view each, on any device. views: on the CPU, orthogonal
    matrices (V, 2, 2) that act on (x right, y up), as of `even_views`, or rotations in degrees (V,), counter-clockwise.
    Returns (V, 3, S, S) in channels-last memory. What turns in from outside the image is black, as in DifferNet.
    """
    if views.ndim == 1:
        views = rotations(views)
    if images.ndim == 3:
        images = images[None]
    if len(images) not in (1, len(views)):
        raise ValueError(f"make_views needs one view per image, got {len(images)} images, {len(views)} views")
    mean, std = (to_device(torch.tensor(of).view(3, 1, 1), images.device) for of in (IMAGENET_MEAN, IMAGENET_STD))
    # A pixel at p comes from views⁻¹ p. The grid's y points down, which swaps the signs off the diagonal; the inverse
    # of an orthogonal matrix is its transpose, which swaps a rotation's back.
    sources = views.transpose(1, 2) * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    if bool((sources == sources.round()).all()):  # quarter turns and mirrors: pixels change places, nothing else
        normalised = ((images - mean) / std).expand(len(views), -1, -1, -1)
        copies = torch.stack([_rearranged(*pair) for pair in zip(normalised, sources.int().tolist(), strict=True)])
    else:
        theta = to_device(F.pad(sources, (0, 1)), images.device)
        images = images.expand(len(views), -1, -1, -1)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        copies = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        copies = copies.sub_(mean).div_(std)
    return copies.contiguous(memory_format=torch.channels_last)


def _rearranged(image: Tensor, source: list[list[int]]) -> Tensor:
    """image (3, S, S) with the pixel at (x, y) taken from source · (x, y), a signed permutation."""
    (xx, xy), (yx, yy) = source
    if xx:
        return image.flip([dim for dim, sign in ((2, xx), (1, yy)) if sign < 0])
    return image.transpose(1, 2).flip([dim for dim, sign in ((1, xy), (2, yx)) if sign < 0])


@dataclass(frozen=True)
class InspectionImage:
    """One image file of a data set. `name` is its path below `train` or `test`; `label` 0 normal, 1 anomalous."""

    path: Path
    name: str
    defect: str
    label: int


class InspectionDataset:
    """One category in the MVTec AD layout: CATEGORY/train/good, CATEGORY/test/good, CATEGORY/test/DEFECT.

    Raises DatasetError where the folder, `train/good` or (when asked for) `test` is missing or holds no images.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DatasetError(f"There is no folder {self.root}")

    @property
    def category(self) -> str:
        return self.root.resolve().name

    @property
    def dataset(self) -> str:
        return self.root.resolve().parent.name

    @cached_property
    def train(self) -> list[InspectionImage]:
        """The normal images in train/good, sorted by name."""
        folder = self.root / "train" / "good"
        if not folder.is_dir():
            raise DatasetError(f"{self.root} has no folder train/good with normal images to train on")
        if not (images := _images_in(folder, "good")):
            raise DatasetError(f"{folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return images

    @cached_property
    def test(self) -> list[InspectionImage]:
        """The labelled images in test/good and test/DEFECT, sorted by defect and name."""
        folder = self.root / "test"
        if not folder.is_dir():
            raise DatasetError(f"{self.root} has no folder test with test/good and test/DEFECT")
        images = [
            image
            for defect in sorted(path for path in folder.iterdir() if path.is_dir())
            for image in _images_in(defect, defect.name)
        ]
        for label, what in ((0, "normal images in test/good"), (1, "anomalous images in test/DEFECT")):
            if not any(image.label == label for image in images):
                raise DatasetError(f"{folder} holds no {what}")
        return images

    def mask_path(self, image: InspectionImage) -> Path | None:
        """The defect mask ground_truth/DEFECT/NAME_mask.png of a test image, or None."""
        return self._mask("ground_truth", image)

    def object_path(self, image: InspectionImage) -> Path | None:
        """The mask objects/DEFECT/NAME_mask.png of the whole part, without its background, or None. MVTec AD has none;
        the sample set has."""
        return self._mask("objects", image)

    def _mask(self, kind: str, image: InspectionImage) -> Path | None:
        path = self.root / kind / image.defect / f"{image.path.stem}_mask.png"
        return path if path.is_file() else None


def _images_in(folder: Path, defect: str) -> list[InspectionImage]:
    return [
        InspectionImage(path, f"{defect}/{path.name}", defect, int(defect != "good"))
        for path in sorted(folder.iterdir())
        if _is_image(path)
    ]


def _is_image(path: Path) -> bool:
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
            matches = [str(p) for p in sorted(_glob(path)) if _is_image(p)]
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
