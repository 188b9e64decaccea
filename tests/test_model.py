"""The model is the sum of its parts: scales, backbone, pooling, whitening, flow, readout; the same from the same
seed."""

import copy
import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from attentdiffernet.backbone import load_weights
from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.findings import Findings
from attentdiffernet.flow_fitting import fit_gaussian
from attentdiffernet.model import AttentDifferNet, ModelConfig
from attentdiffernet.options import AttentionConfig, FlowConfig, Options
from attentdiffernet.views import make_views
from attentdiffernet.words import READOUTS

KINDS = ["none", "se", "cbam"]
SMALL = FlowConfig(n_blocks=1, hidden_width=4, hidden_layers=1)


@pytest.fixture
def views(image):
    return make_views(image, torch.tensor([0.0, 100.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_pooled_maps_of_three_scales_largest_first(kind, tiny, views):
    model = tiny(kind)
    with torch.no_grad():
        features = model.features(views)
        for k, step in enumerate((1, 2, 4)):  # nearest neighbour: every second, every fourth pixel
            maps = model.backbone(views[:, :, ::step, ::step])
            expected = maps.sum((2, 3)) / (maps.shape[2] * maps.shape[3])
            torch.testing.assert_close(features[:, 256 * k : 256 * (k + 1)], expected, rtol=1e-3, atol=1e-7)
    assert features.shape == (2, model.n_features) == (2, 768)
    assert features.std() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_forward_is_the_flow_of_the_features(kind, tiny, views):
    model = tiny(kind)
    with torch.no_grad():
        z, log_det = model(views)
        whitened, log_det_whitening = model.whitening(model.features(views))
        expected_z, log_det_flow = model.flow(whitened)
        expected_log_det = log_det_whitening + log_det_flow
        assert not torch.equal(expected_z, model.features(views)), "a test of a flow that does nothing"
        assert torch.equal(model.features_from_stems(model.stems(views)), model.features(views))
    assert torch.equal(z, expected_z) and torch.equal(log_det, expected_log_det)
    assert z.shape == (2, 768) and log_det.shape == (2,)


@pytest.mark.parametrize("placement", ["after_pool", "before_pool"])
def test_variants_of_one_placement_share_their_stems(placement, tiny, views):
    models = [tiny(kind, placement=placement) for kind in KINDS]
    assert len({model.stem_key for model in models}) == 1
    with torch.no_grad():
        first, *others = (model.stems(views) for model in models)
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def test_models_that_share_no_stems_have_other_keys(tiny):
    other_weights = {key: tensor + 0.01 for key, tensor in load_weights("random").items()}
    models = [
        tiny("se"),
        tiny("se", placement="before_pool"),
        AttentDifferNet(tiny("se").config, weights=other_weights),
        AttentDifferNet(ModelConfig(flow=SMALL, weights="random", image_size=260)),
        AttentDifferNet(ModelConfig(flow=SMALL, weights="random", image_size=256, n_scales=2)),
    ]
    assert len({model.stem_key for model in models}) == len(models)


@pytest.mark.usefixtures("global_state_kept")
def test_same_seed_same_weights(tiny):
    config = tiny("cbam").config
    a, b, c = (AttentDifferNet(config, seed).state_dict() for seed in (3, 3, 4))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(
        a["backbone.trunk.attention1.channel.squeeze.weight"], c["backbone.trunk.attention1.channel.squeeze.weight"]
    )
    assert not torch.equal(a["flow.module_list.1.subnet1.0.weight"], c["flow.module_list.1.subnet1.0.weight"])
    assert torch.equal(a["backbone.stem.conv1.weight"], c["backbone.stem.conv1.weight"])
    assert torch.equal(a["flow.module_list.0.perm"], c["flow.module_list.0.perm"])


def test_only_the_flow_can_learn_at_first(tiny):
    model = AttentDifferNet(tiny("cbam").config)
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert any(parameter.requires_grad for parameter in model.flow.parameters())


@pytest.mark.parametrize(("image_size", "n_scales"), [(63, 1), (126, 2), (252, 3)])
def test_the_smallest_sizes_work(image_size, n_scales):
    model = AttentDifferNet(ModelConfig(flow=SMALL, weights="random", image_size=image_size, n_scales=n_scales))
    with torch.no_grad():
        assert model(torch.zeros(1, 3, image_size, image_size))[0].shape == (1, 256 * n_scales)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"image_size": 251}, "AlexNet needs 63 px at its last scale: 251 px at 3 scales leave 62 px"),
        ({"n_scales": 0}, "n_scales must lie in"),
        ({"n_scales": -3}, "n_scales must lie in"),
        ({"image_size": "448"}, "image_size must be a whole number, got '448'"),
        ({"image_size": True}, "image_size must be a whole number"),
        ({"weights": None}, "weights must be text"),
        ({"views": "spiral"}, "views must be one of rotations, quarter_turns, flips, dihedral, none, got 'spiral'"),
        ({"readout": "median"}, "readout must be one of z2, likelihood, z2_of_mean, gaussian, gaussian_of_mean, gauss"),
        (
            {"readout": "gaussian_of_mean", "flow": FlowConfig(whitening=False)},
            "The readout gaussian_of_mean needs a flow with whitening",
        ),
        ({"variant": "gct"}, "variant must be one of none, se, cbam"),
        ({"attention": "se"}, "attention must be a AttentionConfig|attention must be an AttentionConfig"),
    ],
)
def test_sizes_out_of_bounds_are_refused(wrong, complaint):
    with pytest.raises(AttentDifferNetError, match=complaint):
        ModelConfig(**wrong)


def test_configurations_survive_json():
    config = ModelConfig(
        "cbam", AttentionConfig("before_pool", 2, 49, "proxy"), False, FlowConfig(8, 64, 3, 1.9, False), "random"
    )
    config = dataclasses.replace(config, image_size=300, views="flips", readout="likelihood")
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(AttentDifferNetError, match="AttentionConfig has no option reducton; it has placement"):
        ModelConfig.from_dict({"attention": {"reducton": 2}})
    with pytest.raises(AttentDifferNetError, match="FlowConfig needs a mapping of names to values, got list"):
        ModelConfig.from_dict({"flow": []})


def test_a_network_is_built_from_what_was_asked_and_what_was_answered():
    options = Options("se", flow=SMALL, weights="random", image_size=300, attention=AttentionConfig(reduction=4))
    findings = Findings("flips", "keep_aspect", "standardised", "z2", 4, 4, gates_kept=False)
    config = ModelConfig.of(options, findings)
    assert (config.variant, config.attention.reduction, config.image_size) == ("se", 4, 300)
    assert (config.views, config.resize) == ("flips", "keep_aspect")
    assert (config.exposure, config.readout) == ("standardised", "z2")
    assert not config.gated


def test_a_model_with_other_options_shares_its_weights_and_changes_nothing(small, small_image):
    model = small("se", views="flips")
    other = model.with_options(readout="z2", views="none")
    assert (model.config.readout, model.config.views) == ("z2_of_mean", "flips")
    assert (other.config.readout, other.config.views) == ("z2", "none") and other.feature_scale == model.feature_scale
    assert all(a is b for a, b in zip(model.parameters(), other.parameters(), strict=True))
    with pytest.raises(ValueError, match="got weights"):
        model.with_options(weights="random")
    with pytest.raises(AttributeError):
        model.config = other.config


@pytest.mark.parametrize("whitening", [True, False])
def test_scale_and_whitening_count_in_the_log_determinant(whitening, small):
    """latent(f) = flow(whitening(s · f)): one Jacobian of the whole."""
    flow = FlowConfig(2, 8, 1, whitening=whitening)
    model = copy.copy(small(flow=flow))
    model.feature_scale = 3.0
    features = torch.rand(1, model.n_features)
    for latent in (model.latent, model.gaussian_latent):
        _, log_det_jac = latent(features)
        jacobian = torch.autograd.functional.jacobian(lambda f, latent=latent: latent(f[None])[0][0], features[0])
        assert log_det_jac.item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-2)


# -- readouts

N_VIEWS = 4


@pytest.fixture(scope="module")
def fitted():
    """fitted(readout, stirred) -> (model, Gaussian of scikit-learn), both fitted to the same rows of two scales, 512
    features; the couplings do something, or are as they start."""
    rng = torch.Generator().manual_seed(0)
    rows = 0.1 * torch.randn(90, 512, generator=rng) @ torch.randn(512, 512, generator=rng) / 23 + 0.5

    @functools.cache
    def of(stirred):
        model = AttentDifferNet(ModelConfig(flow=SMALL, weights="random", image_size=126, n_scales=2)).eval()
        fit_gaussian(model, rows)
        assert model.feature_scale != 1
        if stirred:
            with torch.no_grad():
                for parameter in model.flow.parameters():
                    if parameter.requires_grad:
                        parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
        return model.requires_grad_(False)

    gaussian = LedoitWolf().fit((rows * of(True).feature_scale).double().numpy())
    return lambda readout, stirred=True: (of(stirred).with_options(readout=readout), gaussian)


@pytest.fixture
def features():
    """Of three images and four views each."""
    return 0.1 * torch.randn(3, N_VIEWS, 512, generator=torch.Generator().manual_seed(5)) + 0.5


def distance(gaussian, features, scale, d=512):
    """Squared Mahalanobis distance over d of the first d features, by scikit-learn's covariance."""
    away = features.double().numpy()[..., :d] * scale - gaussian.location_[:d]
    return (away @ np.linalg.inv(gaussian.covariance_[:d, :d]) * away).sum(-1) / d


@pytest.mark.parametrize("readout", ["gaussian", "gaussian_of_mean", "gaussian_full_scale"])
def test_gaussian_readouts_are_mahalanobis_distances(readout, fitted, features):
    model, gaussian = fitted(readout)
    scale = model.feature_scale
    expected = {
        "gaussian": gaussian.mahalanobis(features.double().numpy().reshape(-1, 512) * scale).reshape(3, 4).mean(1)
        / 512,
        "gaussian_of_mean": gaussian.mahalanobis(features.mean(1).double().numpy() * scale) / 512,
        "gaussian_full_scale": distance(gaussian, features, scale, 256).mean(1),
    }[readout]
    np.testing.assert_allclose(model.score(features).numpy(), expected, rtol=1e-3)


def test_readouts_of_the_flow_by_formula(fitted, features):
    def flow_of(features):
        """z and the log-determinant of the whole, by hand but for the couplings."""
        x = torch.linalg.solve_triangular(
            torch.from_numpy(np.linalg.cholesky(gaussian.covariance_)),
            (features.double() * scale - torch.from_numpy(gaussian.location_)).T,
            upper=False,
        ).T
        z, log_det = model.flow(x.float())
        whole = log_det + 512 * math.log(scale) - np.linalg.slogdet(gaussian.covariance_).logabsdet / 2
        return z, whole

    for readout in ("z2", "likelihood", "z2_of_mean"):
        model, gaussian = fitted(readout)
        scale = model.feature_scale
        z, log_det = flow_of(features.flatten(0, 1))
        expected = {
            "z2": z.square().mean(1).view(-1, N_VIEWS).mean(1),
            "likelihood": ((z.square().sum(1) / 2 - log_det) / 512).view(3, N_VIEWS).mean(1),
            "z2_of_mean": flow_of(features.mean(1))[0].square().mean(1),
        }[readout]
        torch.testing.assert_close(model.score(features), expected.float(), rtol=1e-3, atol=1e-3)
        plain = distance(gaussian, features, scale).mean(1)
        assert np.abs(expected.numpy() / plain - 1).max() > 0.01, "a test of couplings that do nothing"


def test_z2_is_differnets_score(fitted, features):
    model, _ = fitted("z2")
    z, _ = model.latent(features.flatten(0, 1))
    torch.testing.assert_close(model.score(features), z.square().mean(1).view(-1, N_VIEWS).mean(1))


@pytest.mark.parametrize("readout", READOUTS)
def test_equal_views_count_as_one(readout, fitted, features):
    model, _ = fitted(readout)
    one = features[:, :1]
    alone = model.row_scores(one[:, 0])
    torch.testing.assert_close(model.score(one), alone)
    torch.testing.assert_close(model.score(one.expand(-1, 5, -1)), alone, rtol=1e-4, atol=1e-5)
    if readout.endswith("_of_mean"):
        per_view, _ = fitted(readout.removesuffix("_of_mean"))
        torch.testing.assert_close(model.score(one), per_view.score(one))
        assert (model.score(features) < per_view.score(features)).all(), "averaging takes noise away"


@pytest.mark.parametrize(("of_the_flow", "of_the_gaussian"), [("z2", "gaussian"), ("z2_of_mean", "gaussian_of_mean")])
def test_a_flow_with_untrained_couplings_is_the_gaussian(of_the_flow, of_the_gaussian, fitted, features):
    flow, gaussian = (fitted(name, stirred=False)[0].score(features) for name in (of_the_flow, of_the_gaussian))
    torch.testing.assert_close(flow, gaussian, rtol=1e-5, atol=0)
    if of_the_flow == "z2":
        likelihood = fitted("likelihood", stirred=False)[0].score(features)
        torch.testing.assert_close(likelihood - likelihood[0], (gaussian - gaussian[0]) / 2, rtol=1e-3, atol=1e-4)


def test_every_readout_is_described():
    assert READOUTS.keys() == {"z2", "likelihood", "z2_of_mean", "gaussian", "gaussian_of_mean", "gaussian_full_scale"}
    assert all(ModelConfig(readout=name).readout == name for name in READOUTS)


# -- images that are no squares


def test_texture_keeps_its_shape_where_the_aspect_is_kept(small):
    """The same texture in a square and in a rectangle: the same features, unless it is squeezed."""

    def texture(height, width):
        y, x = np.mgrid[0:height, 0:width]
        return np.repeat((127 + 120 * np.sin(x / 2) * np.sin(y / 3)).astype(np.uint8)[..., None], 3, 2)

    config = {"image_size": 256, "views": "none"}

    def features(image, resize):
        model = small(resize=resize, **config)
        with torch.inference_mode():
            return model.features(make_views(model.prepare(image), model.views(1)))[0]

    square, wide = texture(256, 256), texture(181, 362)  # of one area
    kept, squeezed = features(wide, "keep_aspect"), features(wide, "squeeze")
    assert (kept - features(square, "squeeze")).norm() < 0.3 * (squeezed - features(square, "squeeze")).norm()


def test_standardised_exposure_makes_scores_blind_to_light(small):
    rng = np.random.default_rng(0)
    bright = rng.integers(80, 200, (63, 63, 3)).astype(np.uint8)
    dark = (bright * 0.5).round().astype(np.uint8)

    def score(image, exposure):
        model = small(exposure=exposure, views="none")
        with torch.inference_mode():
            return model.row_scores(model.features(make_views(model.prepare(image), model.views(1)))).item()

    assert score(dark, "standardised") == pytest.approx(score(bright, "standardised"), rel=0.01)
    assert abs(score(dark, "as_is") / score(bright, "as_is") - 1) > 0.05


@pytest.mark.parametrize("views", ["rotations", "quarter_turns", "dihedral"])
def test_views_that_turn_a_rectangle_are_refused(views):
    with pytest.raises(AttentDifferNetError, match=r"keep_aspect needs views that leave a rectangle upright"):
        ModelConfig(resize="keep_aspect", views=views)
