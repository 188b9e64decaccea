"""DifferNet's normalizing flow, built from FrEIA's permutations and GLOW couplings."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.linalg import solve_triangular
from torch import Tensor, nn

from .options import FlowConfig

if TYPE_CHECKING:
    from FrEIA.framework import SequenceINN

LEAST_SHRINKAGE = 1e-6  # of a covariance towards the sphere of the same trace


def build_flow(n_features: int, config: FlowConfig) -> "SequenceINN":
    """n_blocks x (random permutation with seed = block index, affine coupling): x (B, D) -> z (B, D), log_det_jac (B,).

    With `config.whitening` the couplings start as the identity (`Whitening` itself is separate). The sub-networks are
    initialised from PyTorch's current random state; NumPy's is left as it was.
    """

    from FrEIA.framework import SequenceINN  # takes most of a second to import, so only where a flow is built
    from FrEIA.modules import GLOWCouplingBlock, PermuteRandom

    def subnet(n_in: int, n_out: int) -> nn.Sequential:
        layers: list[nn.Module] = [nn.Linear(n_in, config.hidden_width), nn.ReLU()]
        for _ in range(config.hidden_layers - 1):
            layers += [nn.Linear(config.hidden_width, config.hidden_width), nn.ReLU()]
        last = nn.Linear(config.hidden_width, n_out)
        if config.whitening:  # the couplings start as the identity, the flow as the Gaussian of the whitening
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        return nn.Sequential(*layers, last)

    # FrEIA's own "ATAN" leaves out the division by the clamp: DifferNet's is clamp · 0.636 · atan(s / clamp).
    def soft_clamp(s: Tensor) -> Tensor:
        return 0.636 * torch.atan(s / config.clamp)

    flow = SequenceINN(n_features)
    with _numpy_random_state_kept():  # PermuteRandom seeds NumPy's global generator
        for k in range(config.n_blocks):
            flow.append(PermuteRandom, seed=k)
            flow.append(GLOWCouplingBlock, subnet_constructor=subnet, clamp=config.clamp, clamp_activation=soft_clamp)
    return flow


class Whitening(nn.Module):
    """The Gaussian as a linear flow: features (B, D) -> z (B, D), log_det_jac (B,).

    z = L⁻¹ (x - mean) with L Lᵀ the covariance, so mean z² is the squared Mahalanobis distance over D. L⁻¹ is lower
    triangular: the first d entries of z whiten the first d features alone. The identity until it is fitted.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.factor: Tensor  # L⁻¹
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("factor", torch.eye(n_features))

    def fit(self, features: Tensor) -> None:
        """Mean and Ledoit-Wolf covariance of the rows (N, D), which is positive definite for few rows, too."""
        from sklearn.covariance import ledoit_wolf  # most of a second to import, needed in training only

        rows = features.cpu().double().numpy()  # not all devices have float64
        mean = rows.mean(0)
        covariance, shrinkage = ledoit_wolf(rows - mean, assume_centered=True)
        if shrinkage < LEAST_SHRINKAGE:  # rows of two kinds only make it 0, and the covariance singular
            covariance += (LEAST_SHRINKAGE - shrinkage) * np.trace(covariance) / len(mean) * np.eye(len(mean))
        factor = solve_triangular(np.linalg.cholesky(covariance), np.eye(len(mean)), lower=True)
        self.mean.copy_(torch.from_numpy(mean))
        self.factor.copy_(torch.from_numpy(factor))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        log_det_jac = self.factor.diagonal().log().sum().expand(len(features))
        return (features - self.mean) @ self.factor.T, log_det_jac


def negative_log_likelihood(z: Tensor, log_det_jac: Tensor) -> Tensor:
    """DifferNet's loss per row and dimension: (½‖z‖² - log_det_jac) / D. z (B, D), log_det_jac (B,) -> (B,)."""
    return (0.5 * z.square().sum(1) - log_det_jac) / z.shape[1]


@contextlib.contextmanager
def _numpy_random_state_kept() -> Iterator[None]:
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)
