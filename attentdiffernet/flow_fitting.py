"""Fits the flow of a model to features of normal images: first scale and whitening, then the couplings."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .devices import to_device
from .errors import DatasetError
from .flow import negative_log_likelihood
from .model import AttentDifferNet
from .options import GAUSSIAN_READOUTS, Options
from .stages import Progress, no_progress

FEATURE_DEVIATION = 0.225  # of ImageNet AlexNet's features, which DifferNet takes as they are


def fit_gaussian(model: AttentDifferNet, features: Tensor) -> Tensor:
    """Fits scale and whitening to feature rows (N, 768) of normal images, in place. Returns what the couplings are
    fitted to: (N, 768), on the model's device.

    The scale brings the features' mean standard deviation to FEATURE_DEVIATION. Gates shrink features (CBAM's about
    64-fold over three untrained blocks), and a flow learns slowly on features of another size: without the scale,
    variants would be compared by their size. Raises DatasetError where all features are the same.
    """
    deviation = float(features.std(0).mean())
    if not 0 < deviation < math.inf:
        raise DatasetError("The training images all have the same features: there is nothing to learn from them")
    model.feature_scale = FEATURE_DEVIATION / deviation
    if model.whitening is not None:
        model.whitening.fit(features * model.feature_scale)
    return model.gaussian_latent(to_device(features, model.device))[0]


def fit_readout(model: AttentDifferNet, features: Tensor, options: Options, progress: Progress = no_progress) -> None:
    """Fits what the model's read-out needs, in place, to features (N, V, 768): a Gaussian one leaves couplings out."""
    gaussian = fit_gaussian(model, features.flatten(0, 1))
    if model.config.readout not in GAUSSIAN_READOUTS:
        fit_flow(model.flow, gaussian, options, progress)


def fit_flow(
    flow: nn.Module,
    features: Tensor,
    options: Options,
    progress: Progress = no_progress,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> None:
    """Maximum likelihood of feature rows (N, D), in place, on the flow's device, which is not waited for. Deterministic
    in options.seed, though other devices draw other numbers; leaves the global random state alone."""
    # FrEIA keeps its permutations as parameters that need no gradient.
    parameters = [p for p in flow.parameters() if p.requires_grad]
    device = parameters[0].device
    rng = torch.Generator(device).manual_seed(options.seed)
    optimiser = torch.optim.Adam(
        parameters, lr=options.learning_rate, betas=options.betas, eps=options.eps, weight_decay=options.weight_decay
    )
    noise = options.feature_noise * float(features.std(0).mean()) if len(features) > 1 else 0.0
    features = to_device(features, device)
    for epoch in range(options.epochs):
        for rows in torch.randperm(len(features), generator=rng, device=device).split(options.batch_size):
            batch = features[rows]
            batch = batch + noise * torch.randn(batch.shape, generator=rng, device=device)
            loss = negative_log_likelihood(*flow(batch)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        progress("fitting the flow", epoch + 1, options.epochs)
        after_epoch(epoch + 1)
