"""The flow equals DifferNet's: formulas written out, the Jacobian by autograd, inversion, a known density learned. The
whitening before it is a Gaussian: scikit-learn's distances, identity covariance, few rows."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.flow import Whitening, build_flow, negative_log_likelihood
from attentdiffernet.flow_fitting import fit_flow
from attentdiffernet.options import FLOW_SIZES, FlowConfig, Options

pytestmark = pytest.mark.quick


def flow_of(n_features=6, spread=3.0, **config):
    """A flow with weights large enough for the clamp to matter."""
    torch.manual_seed(1)
    config = FlowConfig(**{"n_blocks": 3, "hidden_width": 8, "whitening": False, **config})
    flow = build_flow(n_features, config).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            if parameter.requires_grad:
                parameter.mul_(spread)
    return flow


def by_formula(flow, x, config):
    """z and log-det as in Rudolph et al., section 3.1, from the state dict alone."""
    state = flow.state_dict()

    def subnet(block, name, u):
        for layer in range(config.hidden_layers):
            prefix = f"module_list.{block}.{name}.{2 * layer}"
            u = (u @ state[f"{prefix}.weight"].T + state[f"{prefix}.bias"]).clamp(min=0)
        prefix = f"module_list.{block}.{name}.{2 * config.hidden_layers}"
        s, t = (u @ state[f"{prefix}.weight"].T + state[f"{prefix}.bias"]).chunk(2, dim=1)
        return config.clamp * 0.636 * torch.atan(s / config.clamp), t

    log_det = torch.zeros(len(x), dtype=x.dtype)
    for k in range(config.n_blocks):
        x1, x2 = x[:, np.random.RandomState(k).permutation(x.shape[1])].chunk(2, dim=1)
        s2, t2 = subnet(2 * k + 1, "subnet2", x2)
        y1 = x1 * s2.exp() + t2
        s1, t1 = subnet(2 * k + 1, "subnet1", y1)
        x = torch.cat([y1, x2 * s1.exp() + t1], dim=1)
        log_det = log_det + s1.sum(1) + s2.sum(1)
    return x, log_det


@pytest.mark.parametrize("clamp", [3.0, 1.5])
@pytest.mark.parametrize("hidden_layers", [1, 2, 3])
@pytest.mark.parametrize("n_features", [6, 32])
def test_z_and_log_det_equal_the_formulas(n_features, hidden_layers, clamp):
    config = FlowConfig(n_blocks=3, hidden_width=8, hidden_layers=hidden_layers, clamp=clamp)
    flow = flow_of(n_features, hidden_layers=hidden_layers, clamp=clamp)
    x = torch.randn(5, n_features, dtype=torch.float64)
    z, log_det = flow(x)
    expected_z, expected_log_det = by_formula(flow, x, config)
    torch.testing.assert_close(z, expected_z, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(log_det, expected_log_det, rtol=1e-10, atol=1e-10)
    assert expected_log_det.abs().max() > 0.1, "a test of a flow that does nothing"


def test_log_det_is_that_of_the_jacobian():
    flow = flow_of(6)
    for x in torch.randn(4, 6, dtype=torch.float64):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], x)
        assert torch.linalg.slogdet(jacobian).logabsdet.item() == pytest.approx(flow(x[None])[1].item(), abs=1e-9)


@pytest.mark.parametrize("size", ["tiny", "compact"])
def test_inversion(size):
    config = FLOW_SIZES["compact"] if size == "compact" else FlowConfig(n_blocks=8, hidden_width=8, hidden_layers=3)
    flow = build_flow(768, dataclasses.replace(config, whitening=False))  # couplings that do something
    x = torch.randn(4, 768)
    with torch.no_grad():
        z, log_det = flow(x)
        back, log_det_back = flow(z, rev=True)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-4)
    torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-3)


def test_log_scale_is_bounded_by_the_clamp():
    flow = flow_of(6, spread=1e3, n_blocks=1, clamp=2.0)
    _, log_det = flow(1e3 * torch.randn(50, 6, dtype=torch.float64))
    assert log_det.abs().max() <= 6 * 2.0 * 0.636 * math.pi / 2
    assert log_det.abs().max() > 6, "the bound is not reached for"


@pytest.mark.usefixtures("global_state_kept")
def test_building_leaves_numpys_random_state_alone():
    with torch.random.fork_rng():
        build_flow(8, FlowConfig(n_blocks=2, hidden_width=4))


def test_sizes():
    def parameters(config):
        with torch.device("meta"):
            return sum(p.numel() for p in build_flow(768, config).parameters() if p.requires_grad)

    def by_hand(blocks, hidden, width):
        return 2 * blocks * (385 * width + (hidden - 1) * (width + 1) * width + (width + 1) * 768)

    assert parameters(FLOW_SIZES["paper"]) == by_hand(8, 3, 2048) == 172_077_056
    compact = FLOW_SIZES["compact"]
    size = by_hand(compact.n_blocks, compact.hidden_layers, compact.hidden_width)
    assert parameters(compact) == size <= 6_000_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_blocks": 0},
        {"hidden_width": 10**6},
        {"hidden_layers": 0},
        {"clamp": 0.0},
        {"clamp": math.nan},
        {"clamp": "3"},
        {"whitening": 1},
    ],
)
def test_sizes_out_of_bounds_are_refused(wrong):
    with pytest.raises(AttentDifferNetError, match=next(iter(wrong))):
        FlowConfig(**wrong)


def test_negative_log_likelihood_by_hand():
    z, log_det = torch.tensor([[1.0, 2.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]]), torch.tensor([1.0, -6.0])
    assert negative_log_likelihood(z, log_det).tolist() == [(5 - 1) / 4, 6 / 4]


def test_fitting_a_gaussian_approaches_its_entropy():
    # With x = A u, the least mean of (½‖z‖² - log_det) / D is ½ + log|det A| / D: the entropy without ½ log 2π.
    rng = torch.Generator().manual_seed(0)
    scale = torch.tensor([3.0, 1.0, 0.5, 0.2])
    x = torch.randn(2048, 4, generator=rng) * scale
    x[:, 1] += x[:, 0]  # a shear: the determinant stays
    best = 0.5 + scale.log().mean().item()
    torch.manual_seed(0)
    flow = build_flow(4, FlowConfig(n_blocks=4, hidden_width=32, hidden_layers=1, whitening=False))

    def loss():
        with torch.no_grad():
            return negative_log_likelihood(*flow(x)).mean().item()

    before = loss()
    fit_flow(flow, x, Options(epochs=12, batch_size=128, learning_rate=5e-3, feature_noise=0.0))
    assert before > best + 1
    assert best - 0.05 < loss() < best + 0.1


# -- whitening


def correlated(n_rows, n_features, seed=0):
    """Rows of a Gaussian with a full covariance and a mean far from 0, in float64."""
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(n_features, n_features, generator=rng, dtype=torch.float64)
    rows = torch.randn(n_rows, n_features, generator=rng, dtype=torch.float64)
    return rows @ mixing + 5 * torch.rand(n_features, generator=rng, dtype=torch.float64)


def whitening_of(rows, dtype=torch.float64):
    whitening = Whitening(rows.shape[1]).to(dtype)
    whitening.fit(rows)
    return whitening


def test_plenty_of_rows_are_whitened():
    rows = correlated(200_000, 5)
    z, _ = whitening_of(rows)(rows)
    torch.testing.assert_close(z.mean(0), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(z.T.cov(correction=0), torch.eye(5, dtype=torch.float64), rtol=0, atol=5e-3)


@pytest.mark.parametrize("n_rows", [500, 30, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
def test_z2_is_the_mahalanobis_distance_of_ledoit_and_wolf(dtype, tolerance, n_rows):
    rows, others = correlated(n_rows, 40), correlated(20, 40, seed=1)
    z, _ = whitening_of(rows, dtype)(others.to(dtype))
    assert z.dtype == dtype
    expected = LedoitWolf().fit(rows.numpy()).mahalanobis(others.numpy())
    np.testing.assert_allclose(z.square().sum(1).numpy(), expected, rtol=tolerance)


def test_the_first_entries_whiten_the_first_features_alone():
    rows, others = correlated(60, 8), correlated(20, 8, seed=1)
    whitening, gaussian = whitening_of(rows), LedoitWolf().fit(rows.numpy())
    assert torch.equal(whitening.factor, whitening.factor.tril()) and (whitening.factor.diagonal() > 0).all()
    for d in range(1, 9):
        z, _ = whitening(others)
        away = others.numpy()[:, :d] - gaussian.location_[:d]
        expected = (away @ np.linalg.inv(gaussian.covariance_[:d, :d]) * away).sum(1)
        np.testing.assert_allclose(z[:, :d].square().sum(1).numpy(), expected, rtol=1e-9)


def test_log_det_of_the_whitening_is_that_of_its_jacobian():
    whitening = whitening_of(correlated(50, 6))
    x = torch.randn(3, 6, dtype=torch.float64)
    z, log_det = whitening(x)
    jacobian = torch.autograd.functional.jacobian(lambda v: whitening(v[None])[0][0], x[0])
    expected = torch.linalg.slogdet(jacobian).logabsdet.item()
    assert z.shape == (3, 6) and log_det.tolist() == pytest.approx([expected] * 3, abs=1e-9)
    assert abs(expected) > 0.1, "a test of a whitening that does nothing"


def rows_of_two_kinds():
    return correlated(2, 12)[[0, 0, 1, 0, 1, 1]]


def rows_with_constants():
    rows = correlated(30, 12)
    rows[:, [0, 3, 11]] = 2.5
    return rows


@pytest.mark.parametrize("rows", [correlated(2, 12), rows_of_two_kinds(), correlated(5, 12), rows_with_constants()])
def test_few_rows_and_constant_features_give_a_gaussian_that_half_precision_can_hold(rows):
    """Two kinds of rows make Ledoit and Wolf's shrinkage 0, and the covariance singular."""
    whitening = whitening_of(rows, torch.float32)
    assert whitening.factor.half().isfinite().all() and (whitening.factor.diagonal().half() > 0).all()
    z, log_det = whitening(torch.cat([rows, rows + 30]).float())
    distance = z.square().mean(1)
    assert distance.isfinite().all() and log_det.isfinite().all()
    assert distance[: len(rows)].max() < distance[len(rows) :].min(), "what was never seen lies farther out"


def test_whitening_and_couplings_start_as_the_identity():
    x = torch.randn(4, 6)
    z, log_det = Whitening(6)(x)
    assert torch.equal(z, x) and log_det.tolist() == [0] * 4
    flow = build_flow(6, FlowConfig(n_blocks=3, hidden_width=8))
    z, log_det = flow(x)
    order = np.arange(6)
    for k in range(3):
        order = order[np.random.RandomState(k).permutation(6)]
    assert torch.equal(z, x[:, order]) and log_det.tolist() == [0] * 4


def test_couplings_that_start_as_the_identity_learn_what_a_gaussian_misses():
    # x2 = x1² + noise: uncorrelated, far from independent. The best loss is that of the noise's density.
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1024, 2, generator=rng)
    x[:, 1] = x[:, 0] ** 2 + 0.3 * x[:, 1]
    whitening = whitening_of(x, torch.float32)
    u, log_det_whitening = whitening(x)
    torch.manual_seed(0)
    flow = build_flow(2, FlowConfig(n_blocks=4, hidden_width=16, hidden_layers=1))

    def loss():
        with torch.no_grad():
            z, log_det = flow(u)
            return negative_log_likelihood(z, log_det_whitening + log_det).mean().item()

    gaussian, best = loss(), 0.5 + math.log(0.3) / 2
    fit_flow(flow, u, Options(epochs=15, batch_size=128, learning_rate=1e-2, feature_noise=0.0))
    assert best < loss() < gaussian - 0.3
