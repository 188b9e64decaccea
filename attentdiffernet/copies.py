"""Training images at the size of a network's input; the last ones are kept, because each stage of a training reads the
same files, and a photograph of 12 megapixels takes a quarter of a second to decode and to shrink."""

import os
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .sources import ImageSource, pixels_of
from .views import to_tensor

KEPT = 128  # copies, of 0.6 MB each at 448 px; where a stage reads more, the next one decodes all, as without


@dataclass(frozen=True)
class Copy:
    """pixels: (3, h, w) uint8. shape: (height, width) of the image itself."""

    pixels: Tensor
    shape: tuple[int, int]

    def tensor(self) -> Tensor:
        """As of `to_tensor`."""
        return self.pixels.float().div_(255)


def copy_of(source: ImageSource, image_size: int, least_side: int | None = None) -> Copy:
    """An image as `to_tensor` brings it to size, in 8 bits, which is what it has. Raises ImageError as `pixels_of`."""
    if isinstance(source, np.ndarray) or not os.path.isfile(source):  # reading it says what is wrong
        return _made(source, image_size, least_side)
    file = os.stat(source)
    written = (file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns)
    return _kept(source, getattr(source, "white", None), written, image_size, least_side)


@lru_cache(KEPT)
def _kept(
    file: ImageSource, white: float | None, written: tuple[int, ...], image_size: int, least_side: int | None
) -> Copy:
    """white, written: what else decides the pixels of this path."""
    return _made(file, image_size, least_side)


def _made(source: ImageSource, image_size: int, least_side: int | None) -> Copy:
    pixels = pixels_of(source)
    tensor = to_tensor(pixels, image_size, least_side).mul_(255).round_().to(torch.uint8)
    return Copy(tensor, (pixels.shape[0], pixels.shape[1]))
