"""DifferNet's normalizing flow, built from FrEIA's permutations and GLOW couplings."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .config import FlowConfig

if TYPE_CHECKING:
    from FrEIA.framework import SequenceINN


def build_flow(n_features: int, config: FlowConfig) -> "SequenceINN":
    """n_blocks x (random permutation with seed = block index, affine coupling): x (B, D) -> z (B, D), log_det_jac (B,).

    The sub-networks take PyTorch's current random state for their weights; NumPy's is left as it was.
    """

    from FrEIA.framework import SequenceINN  # takes most of a second to import, so only where a flow is built
    from FrEIA.modules import GLOWCouplingBlock, PermuteRandom

    def subnet(n_in: int, n_out: int) -> nn.Sequential:
        layers: list[nn.Module] = [nn.Linear(n_in, config.hidden_width), nn.ReLU()]
        for _ in range(config.hidden_layers - 1):
            layers += [nn.Linear(config.hidden_width, config.hidden_width), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(config.hidden_width, n_out))

    # FrEIA's own "ATAN" leaves out the division by the clamp: DifferNet's is clamp · 0.636 · atan(s / clamp).
    def soft_clamp(s: Tensor) -> Tensor:
        return 0.636 * torch.atan(s / config.clamp)

    flow = SequenceINN(n_features)
    with _numpy_random_state_kept():  # PermuteRandom seeds NumPy's global generator
        for k in range(config.n_blocks):
            flow.append(PermuteRandom, seed=k)
            flow.append(GLOWCouplingBlock, subnet_constructor=subnet, clamp=config.clamp, clamp_activation=soft_clamp)
    return flow


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
