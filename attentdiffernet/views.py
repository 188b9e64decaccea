"""From a decoded image to the network's input: size, exposure, and rotated or mirrored copies."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .devices import to_device
from .options import ViewKind

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = 0.449, 0.226  # means of the two above
LEAST_CONTRAST = 0.02  # less variation is noise and is not amplified further


def input_shape(height: int, width: int, image_size: int, least_side: int) -> tuple[int, int]:
    """(h, w) with an area of about image_size² and the aspect height / width; no side is shorter than least_side."""
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
    ImageNet has. Relations between colours are kept; values may leave [0, 1]. An image of one grey value gets
    ImageNet's.
    """
    deviation, mean = torch.std_mean(images, (-3, -2, -1), keepdim=True)
    return (images - mean) * (GREY_STD / deviation.clamp(min=LEAST_CONTRAST)) + GREY_MEAN


def even_angles(n_views: int) -> Tensor:
    """n_views evenly spaced rotations in degrees, (n_views,), starting at 0 and ordered so that every prefix is itself
    spread over the circle (van der Corput): scoring may stop after any number of views."""
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
# All views of the kinds that are few; the first is the image as it is.
FEW_VIEWS = {
    "quarter_turns": _TURNS,
    "flips": torch.cat([_TURNS[:2], _TURNS[:2] @ _MIRROR]),
    "dihedral": torch.cat([_TURNS, _TURNS @ _MIRROR]),
    "none": _TURNS[:1],
}


def possible_views(kind: ViewKind, n_views: int) -> int:
    """n_views, but at most as many as this kind has."""
    return min(n_views, len(FEW_VIEWS[kind])) if kind in FEW_VIEWS else n_views


def even_views(kind: ViewKind, n_views: int) -> Tensor:
    """The views that an image is scored on, (V, 2, 2): V is n_views, but at most as many as the kind has."""
    return FEW_VIEWS[kind][:n_views] if kind in FEW_VIEWS else rotations(even_angles(n_views))


def random_views(kind: ViewKind, n_views: int, rng: torch.Generator) -> Tensor:
    """Views to train on, (V, 2, 2): random rotations, or those of a kind that has few."""
    return FEW_VIEWS[kind][:n_views] if kind in FEW_VIEWS else rotations(random_angles(n_views, rng))


def make_views(images: Tensor, views: Tensor) -> Tensor:
    """Turned or mirrored, ImageNet-normalised copies of images in one batch.

    images: (3, S, S) in [0, 1], or (B, 3, S, S) with one view each, on any device. views: on the CPU, orthogonal
    matrices (V, 2, 2) that act on (x right, y up), as of `even_views`, or rotations in degrees (V,), counter-clockwise.
    Returns (V, 3, S, S) in channels-last memory. Pixels from outside the image are black, as in DifferNet.
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
