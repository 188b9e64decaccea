"""DifferNet's own procedure (Rudolph et al., WACV 2021), the recipe `paper`.

In each epoch each image is turned by `training_views` new random angles (±180 degrees, nearest neighbour, black
corners), and the flow takes a step of Adam per 24 images. A score is the mean z² over 64 such copies. AttentDifferNet
adds attention blocks; trained `joint`, they are fitted together with the flow, by its loss and its optimiser, the
convolutions frozen. That likelihood does not count the backbone's own Jacobian, so the features may shrink towards one
point: nothing stops it here, `spread` measures it.

Files are decoded and resized once. All else runs on the model's device, and the CPU waits for none of it; random
numbers come from the CPU, so that every device turns the images by the same angles in the same order.

On CUDA, convolutions here may round to TF32 (10 bits of mantissa), as PyTorch does by default, and the flow's matrix
products keep float32, as they do by default. Both hold for training and for scoring by this module; everywhere else the
library's convolutions keep float32, too.
"""

import copy
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .devices import to_device
from .features import ON_CPU, ON_GPU, FeatureExtractor, ahead
from .flow import negative_log_likelihood
from .model import AttentDifferNet, ModelConfig
from .options import Options
from .sources import ImageSource, pixels_of
from .stages import Progress, no_progress
from .views import IMAGENET_MEAN, IMAGENET_STD

SCORED_VIEWS = 64
SCORED_AT_ONCE = {"cpu": 16, "cuda": 512}  # views; a GPU is busy with more of them


def read_pixels(sources: Sequence[ImageSource], image_size: int) -> Tensor:
    """Images decoded and squeezed to a square: (N, S, S, 3) uint8 on the CPU."""

    def read(source: ImageSource) -> Tensor:
        image = Image.fromarray(pixels_of(source)).resize((image_size, image_size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image))

    return torch.stack(list(ahead(read, sources, ON_GPU if torch.cuda.is_available() else ON_CPU)))


def rotated_copies(pixels: Tensor, of: Tensor, degrees: Tensor) -> Tensor:
    """Images number `of` (B,) out of pixels (N, S, S, 3) uint8, turned counter-clockwise by degrees (B,) and ImageNet-
    normalised: (B, 3, S, S) in channels-last memory. Nearest neighbour and black corners, as of Pillow's `rotate`."""
    size, angle = pixels.shape[1], torch.deg2rad(-degrees)[:, None, None]
    x = torch.arange(size, device=pixels.device) + 0.5 - size / 2  # of pixels' centres, from the middle of the image
    y, cos, sin = x[:, None], angle.cos(), angle.sin()
    source_x, source_y = (cos * x + sin * y + size / 2).floor(), (cos * y - sin * x + size / 2).floor()
    inside = (source_x >= 0) & (source_x < size) & (source_y >= 0) & (source_y < size)
    place = torch.where(inside, source_y * size + source_x, 0).long().flatten(1)
    copies = pixels.flatten(1, 2)[of[:, None], place].unflatten(1, (size, size)) * inside[..., None]
    mean, std = (to_device(torch.tensor(values), pixels.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((copies / 255 - mean) / std).permute(0, 3, 1, 2)


def features_of(model: AttentDifferNet, views: Tensor) -> Tensor:
    """As `model.features`, (B, 3, S, S) -> (B, 768), in this module's precision; gradients reach attention blocks that
    require them, and nothing before the first one."""
    FeatureExtractor.views_computed += len(views)
    with torch.no_grad():
        stems = [model.backbone.stem(scale) for scale in model.scales(views)]
    return torch.cat([model.backbone.trunk(stem).mean((2, 3)) for stem in stems], dim=1)


def as_published() -> AbstractContextManager[None]:
    """The precision of this module on CUDA, as a context; shapes recur, so that it pays to try ways to convolve."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True)


def trains_attention(config: ModelConfig) -> bool:
    """Whether attention blocks are fitted together with the flow."""
    return config.gated and config.attention.training == "joint"


def fit(
    model: AttentDifferNet,
    sources: Sequence[ImageSource],
    options: Options,
    progress: Progress = no_progress,
    enough: Callable[[float], bool] = lambda seconds: False,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> int:
    """Fits the flow, and attention that is trained with it, in place; returns the number of optimiser steps taken.

    batch_size counts copies: 24 images x 4 copies are 96. enough: asked with the seconds since the start after each
    step; true ends the training early (to measure its cost). after_epoch: called with the number of epochs done.
    """
    rng = torch.Generator().manual_seed(options.seed)
    start, steps = time.perf_counter(), 0
    n_views = options.training_views
    assert n_views, "the recipe sets it"
    images_per_batch = max(1, options.batch_size // n_views)
    pixels = read_pixels(sources, model.config.image_size).to(model.device)
    blocks = nn.ModuleList(model.backbone.attention_blocks().values()).requires_grad_(trains_attention(model.config))
    optimiser = torch.optim.Adam(
        [p for p in (*model.flow.parameters(), *blocks.parameters()) if p.requires_grad],
        lr=options.learning_rate,
        betas=options.betas,
        eps=options.eps,
        weight_decay=options.weight_decay,
        fused=model.device.type == "cuda" or None,
    )
    with as_published():
        for epoch in range(options.epochs):
            order = to_device(torch.randperm(len(sources), generator=rng), model.device)
            degrees = to_device(360 * torch.rand(len(sources), n_views, generator=rng) - 180, model.device)
            for batch, turns in zip(order.split(images_per_batch), degrees.split(images_per_batch), strict=True):
                views = rotated_copies(pixels, batch.repeat_interleave(n_views), turns.flatten())
                loss = negative_log_likelihood(*model.latent(features_of(model, views))).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                steps += 1
                if enough(time.perf_counter() - start):
                    return steps
            progress("fitting the flow as published", epoch + 1, options.epochs)
            after_epoch(epoch + 1)
    blocks.requires_grad_(False)
    return steps


class Scores:
    """Anomaly scores of the same files by one model again and again, as it is being trained: called with the model, a
    list in the order of the paths.

    Each is the mean z² over `n_views` random rotations (DifferNet, eq. 5), which depend on the seed and on the image
    alone. The backbone runs once, unless it changes because attention is trained with the flow.
    """

    def __init__(self, sources: Sequence[ImageSource], image_size: int, seed: int, n_views: int = SCORED_VIEWS) -> None:
        self.pixels = read_pixels(sources, image_size)
        self.degrees = torch.stack([_angles(image, seed, n_views) for image in self.pixels])
        self._features: Tensor | None = None

    @torch.no_grad()
    def __call__(self, model: AttentDifferNet) -> list[float]:
        if self._features is None or trains_attention(model.config):
            self._features = self._computed(model)
        return torch.cat([model.score(images) for images in self._features.split(64)]).tolist()

    def _computed(self, model: AttentDifferNet) -> Tensor:
        """(N, V, 768) on the model's device."""
        self.pixels, self.degrees = self.pixels.to(model.device), self.degrees.to(model.device)
        of = torch.arange(len(self.pixels), device=model.device).repeat_interleave(self.degrees.shape[1])
        at_once = SCORED_AT_ONCE.get(model.device.type, 64)
        with as_published():
            parts = zip(of.split(at_once), self.degrees.flatten().split(at_once), strict=True)
            rows = [features_of(model, rotated_copies(self.pixels, *part)) for part in parts]
        return torch.cat(rows).unflatten(0, self.degrees.shape)


def _angles(image: Tensor, seed: int, n_views: int) -> Tensor:
    # Of a generator's seed, torch takes the lower 32 bits only.
    rng = torch.Generator().manual_seed(zlib.crc32(image.numpy().tobytes(), seed))
    return 360 * torch.rand(n_views, generator=rng) - 180


@torch.no_grad()
def spread(model: AttentDifferNet, sources: Sequence[ImageSource]) -> float:
    """How far apart the features of unrotated images lie (mean standard deviation), over that of the same backbone
    without attention, where training `joint` starts: near 0 they have shrunk to one point."""
    pixels = read_pixels(sources, model.config.image_size).to(model.device)
    plain = copy.deepcopy(model)
    for name in plain.backbone.attention_blocks():
        setattr(plain.backbone.trunk, name, nn.Identity())

    def deviation(model: AttentDifferNet) -> Tensor:
        groups = torch.arange(len(pixels), device=model.device).split(SCORED_AT_ONCE.get(model.device.type, 64))
        rows = [features_of(model, rotated_copies(pixels, of, torch.zeros_like(of).float())) for of in groups]
        return torch.cat(rows).std(0).mean()

    return float(deviation(model) / deviation(plain))
