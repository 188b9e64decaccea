"""DifferNet's own procedure (Rudolph et al., WACV 2021; the recipe `paper`), for comparison and for those who want it.

Each epoch decodes every image anew, makes `training_views` copies of it one at a time through Pillow (resize, rotate
by a random angle, black corners), and runs the backbone on each. Scores are the mean z² over 64 such copies. Nothing is
kept from one epoch to the next.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .devices import to_device
from .features import Progress, no_progress
from .flow import negative_log_likelihood
from .model import AttentDifferNet
from .options import Options
from .sources import ImageSource, pixels_of
from .views import IMAGENET_MEAN, IMAGENET_STD

SCORED_VIEWS = 64


def rotated_copy(source: ImageSource, image_size: int, rng: torch.Generator) -> Tensor:
    """One normalised copy (3, S, S) of an image file, rotated by a random angle of ±180 degrees."""
    image = Image.fromarray(pixels_of(source)).resize((image_size, image_size), Image.Resampling.BILINEAR)
    image = image.rotate(360 * float(torch.rand((), generator=rng)) - 180)  # nearest neighbour, black corners
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return (pixels - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)


def fit(
    model: AttentDifferNet,
    sources: Sequence[ImageSource],
    options: Options,
    progress: Progress = no_progress,
    enough: Callable[[float], bool] = lambda seconds: False,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> int:
    """Fits the flow in place by the paper's procedure; returns the number of optimiser steps taken.

    batch_size counts copies: 24 images x 4 copies are 96. enough: asked with the seconds since the start after each
    step; true ends the training early (to measure its cost). after_epoch: called with the number of epochs done.
    """
    n_views = options.training_views
    assert n_views, "the recipe sets it"
    rng = torch.Generator().manual_seed(options.seed)
    parameters = [p for p in model.flow.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(
        parameters, lr=options.learning_rate, betas=options.betas, eps=options.eps, weight_decay=options.weight_decay
    )
    images_per_batch = max(1, options.batch_size // n_views)
    start, steps = time.perf_counter(), 0
    for epoch in range(options.epochs):
        for batch in torch.randperm(len(sources), generator=rng).split(images_per_batch):
            copies = [
                rotated_copy(sources[i], model.config.image_size, rng) for i in batch.tolist() for _ in range(n_views)
            ]
            with torch.no_grad():
                features = model.features(to_device(torch.stack(copies), model.device))
            loss = negative_log_likelihood(*model.latent(features)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            steps += 1
            if enough(time.perf_counter() - start):
                return steps
        progress("fitting the flow as published", epoch + 1, options.epochs)
        after_epoch(epoch + 1)
    return steps


def score(model: AttentDifferNet, source: ImageSource, rng: torch.Generator, n_views: int = SCORED_VIEWS) -> float:
    """The anomaly score of one image file: mean z² over random rotations (DifferNet, eq. 5)."""
    copies = torch.stack([rotated_copy(source, model.config.image_size, rng) for _ in range(n_views)])
    with torch.no_grad():
        z, _ = model.latent(model.features(to_device(copies, model.device)))
        return float(z.square().mean())
