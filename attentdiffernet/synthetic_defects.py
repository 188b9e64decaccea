"""Synthetic defects on normal images, to choose options and to train attention without ever seeing a real defect.

`add_defect` adds something foreign: a patch pasted from another place (CutPaste, Li et al., CVPR 2021), a stain, a blob
of foreign texture (after DRAEM, Zavrtanik et al., ICCV 2021) or a scratch. `alter_structure` adds nothing foreign: a
piece is covered by what lies beside it, bent, or blurred. Images are (3, S, S) in [0, 1]; all randomness is the given
generator's.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .copies import copy_of
from .model import AttentDifferNet
from .sources import ImageSource
from .views import input_shape


class Normals(Protocol):
    """Normal images (3, S, S) by number: a tensor, or an object that reads each when it is needed."""

    def __len__(self) -> int: ...
    def __getitem__(self, i: int, /) -> Tensor: ...


AREA = (0.001, 0.03)  # share of the image that a defect covers, drawn log-uniformly
ALTERED_AREA = (0.004, 0.03)  # of `alter_structure`
OFF_CENTRE = 0.18  # standard deviation of an altered piece's place from the middle, where objects are; of the side
PLACES = 4  # of which the one of most detail is altered


class DefectTest:
    """Normal images, then the same with synthetic defects: the images that options are judged on.

    squares: ((1 + n_defects) N, 3, S, S) in [0, 1], as photographed. labels: 0 of a normal, 1 of one with a defect.
    shapes: (height, width) of the N normals where their aspect is kept.
    """

    def __init__(
        self, sources: Sequence[ImageSource], n_defects: int, image_size: int, least_side: int, rng: torch.Generator
    ) -> None:
        self.n_normals = len(sources)
        self.shapes, squares = [], []
        for source in sources:
            copy = copy_of(source, image_size)
            self.shapes.append(input_shape(*copy.shape, image_size, least_side))
            squares.append(copy.tensor())
        normals = torch.stack(squares)
        defective = [add_defect(image, normals, rng) for _ in range(n_defects) for image in normals]
        self.squares = torch.stack([*squares, *defective])
        self.labels = np.repeat([0, 1], [len(squares), len(defective)])

    def photographs(self, keep_aspect: bool) -> Iterator[np.ndarray]:
        """Each image as a file would give it, (h, w, 3) uint8: at its own aspect, or squeezed to the square."""
        for k, square in enumerate(self.squares):
            image = self._at_own_aspect(k) if keep_aspect else square
            yield image.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()

    def _at_own_aspect(self, k: int) -> Tensor:
        shape = self.shapes[k % self.n_normals]
        image = self.squares[k, None]
        return F.interpolate(image, shape, mode="bilinear", antialias=True, align_corners=False)[0]

    def inputs(self, model: AttentDifferNet) -> Iterator[Tensor]:
        """Each image as `model.prepare` gives it."""
        for k, square in enumerate(self.squares):
            yield model.exposed(self._at_own_aspect(k) if model.config.resize == "keep_aspect" else square)


def add_defect(image: Tensor, normals: Normals, rng: torch.Generator, area: tuple[float, float] = AREA) -> Tensor:
    """A copy of image (3, S, S) with one defect of a random kind. normals: (N, 3, S, S), where foreign texture comes
    from."""
    share = _log_uniform(*area, rng)
    kind = int(torch.randint(4, (), generator=rng))
    if kind == 0:
        return paste_patch(image, normals, rng, (share, share))
    if kind == 1:
        return _scratch(image, share, rng)
    mask = _blob(image.shape[-1], share, rng)
    if kind == 2:
        return _blend(image, image * _uniform(0.3, 1.5, rng) + _uniform(-0.07, 0.07, rng), mask)
    donor = normals[int(torch.randint(len(normals), (), generator=rng))]
    moved = donor.roll(torch.randint(image.shape[-1], (2,), generator=rng).tolist(), (1, 2))
    gain = 0.7 + 0.6 * torch.rand(3, 1, 1, generator=rng)
    return _blend(image, torch.rot90(moved, 1, (1, 2)) * gain, mask)


def alter_structure(image: Tensor, normals: Normals, rng: torch.Generator) -> Tensor:
    """A copy of image (3, S, S) with one piece of it covered by what lies beside it, bent, or blurred, by chance.
    normals: not used, as nothing foreign comes in."""
    share, centre = _log_uniform(*ALTERED_AREA, rng), _detailed_place(image, rng)
    kind = int(torch.randint(3, (), generator=rng))
    if kind == 0:
        return _bent(image, share, centre, rng)
    mask = F.avg_pool2d(_moved_to(centre, _blob(image.shape[-1], share, rng))[None], 9, 1, 4)[0]
    if kind == 1:
        distance, angle = 1.3 * image.shape[-1] * math.sqrt(share), _uniform(0, 2 * math.pi, rng)
        shift = int(distance * math.sin(angle)), int(distance * math.cos(angle))
        return _blend(image, image.roll(shift, (1, 2)), mask)
    return _blend(image, F.avg_pool2d(image, 15, 1, 7, count_include_pad=False), mask)


def _detailed_place(image: Tensor, rng: torch.Generator) -> Tensor:
    """(2,): y and x, in pixels, of the place of most detail among some near the middle: more often on an object than on
    what lies behind it."""
    size = image.shape[-1]
    places = (size * (0.5 + OFF_CENTRE * torch.randn(PLACES, 2, generator=rng)).clamp(0.15, 0.85)).int()
    reach = size // 16
    windows = [image[:, y - reach : y + reach, x - reach : x + reach] for y, x in places.tolist()]
    return places[int(torch.stack([window.std((1, 2)).mean() for window in windows]).argmax())]


def _moved_to(centre: Tensor, mask: Tensor) -> Tensor:
    """The spot of a mask (S, S), moved to a place."""
    found = (mask > 0.5).nonzero().float().mean(0)
    return mask.roll((centre - found).int().tolist(), (0, 1))


def _bent(image: Tensor, share: float, centre: Tensor, rng: torch.Generator) -> Tensor:
    """A round piece is shifted, the more the nearer to its centre."""
    size, radius = image.shape[-1], 2 * math.sqrt(share / math.pi)  # of a side of 2, as grid_sample counts
    y0, x0 = (2 * centre / (size - 1) - 1).tolist()
    line = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    push = 0.6 * radius * torch.exp(-((x - x0) ** 2 + (y - y0) ** 2) / radius**2)
    angle = _uniform(0, 2 * math.pi, rng)
    places = torch.stack([x + push * math.cos(angle), y + push * math.sin(angle)], -1)
    return F.grid_sample(image[None], places[None], padding_mode="border", align_corners=True)[0]


def paste_patch(
    image: Tensor, normals: Normals, rng: torch.Generator, area: tuple[float, float] = (0.01, 0.1)
) -> Tensor:
    """A copy of image (3, S, S) with a rectangle, of a share of its area drawn log-uniformly from the given range, cut
    from another place of one of the normals (N, 3, S, S) and re-lit."""
    size = image.shape[-1]
    share = _log_uniform(*area, rng)
    ratio = math.exp(_uniform(-1, 1, rng))
    height = int(min(size - 1, max(4, size * math.sqrt(share * ratio))))
    width = int(min(size - 1, max(4, size * math.sqrt(share / ratio))))
    y, from_y = torch.randint(size - height, (2,), generator=rng).tolist()
    x, from_x = torch.randint(size - width, (2,), generator=rng).tolist()
    donor = normals[int(torch.randint(len(normals), (), generator=rng))]
    patch = donor[:, from_y : from_y + height, from_x : from_x + width]
    pasted = image.clone()
    pasted[:, y : y + height, x : x + width] = (patch * (0.7 + 0.6 * torch.rand(3, 1, 1, generator=rng))).clamp(0, 1)
    return pasted


def _scratch(image: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """A thin bent line, darker or brighter than what it crosses."""
    size = image.shape[-1]
    length = 2.5 * size * math.sqrt(share)
    width = 1 + share * size**2 / (2 * length) * _uniform(0.3, 1, rng)
    angle, bend = _uniform(0, 2 * math.pi, rng), _uniform(-0.75, 0.75, rng)
    centre = torch.rand(2, generator=rng) * size
    t = torch.linspace(-0.5, 0.5, 64)
    x = centre[0] + length * (t * math.cos(angle) - bend * t**2 * math.sin(angle))
    y = centre[1] + length * (t * math.sin(angle) + bend * t**2 * math.cos(angle))
    pixels = torch.stack(torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij"), -1)
    distance = torch.cdist(pixels.view(-1, 2), torch.stack([y, x], 1)).amin(1).view(size, size)
    mask = torch.sigmoid(2 * (width / 2 - distance))
    return _blend(image, image * _uniform(0.3, 1.6, rng) + _uniform(-0.1, 0.1, rng), mask)


def _blob(size: int, share: float, rng: torch.Generator) -> Tensor:
    """(S, S) mask of an irregular spot: the highest values of smooth noise under a turned, stretched dome."""
    side = min(size, max(8, int(2.2 * size * math.sqrt(share))))
    noise = torch.rand(1, 1, 6, 6, generator=rng)
    noise = F.interpolate(noise, size=(side, side), mode="bicubic", align_corners=False)[0, 0]
    angle, stretch = _uniform(0, math.pi, rng), math.exp(_uniform(-0.8, 0.8, rng))
    v, u = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    along = (u * math.cos(angle) + v * math.sin(angle)) * stretch
    across = (v * math.cos(angle) - u * math.sin(angle)) / stretch
    dome = noise - 0.9 * (along**2 + across**2)
    n_pixels = min(max(1, round(share * size**2)), side**2)
    spot = (dome >= dome.flatten().topk(n_pixels).values[-1]).float()
    mask = torch.zeros(size, size)
    y, x = torch.randint(size - side + 1, (2,), generator=rng).tolist()
    mask[y : y + side, x : x + side] = F.avg_pool2d(spot[None], 3, 1, 1)[0]
    return mask


def _blend(image: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    return image * (1 - mask) + other.clamp(0, 1) * mask


def _uniform(low: float, high: float, rng: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))


def _log_uniform(low: float, high: float, rng: torch.Generator) -> float:
    return low * (high / low) ** float(torch.rand((), generator=rng))
