"""SE and CBAM against their papers' formulas, written out; what gates may be, and what an untrained block does."""

import pytest
import torch

from attentdiffernet.attention import ATTENTION, CBAM, RarityPooling, SqueezeExcitation, SurprisePooling
from attentdiffernet.backbone import AlexNetFeatures
from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.options import MEASURED_VARIANTS, AttentionConfig, Options
from attentdiffernet.words import (
    attention_choices,
    attention_title,
    differs_from_default,
    short_title,
    training_title,
)

pytestmark = pytest.mark.quick

CHANNELS = 8


@pytest.fixture
def x():
    return torch.randn(2, CHANNELS, 5, 7, generator=torch.Generator().manual_seed(0)).mul(3)


def block(kind, **options):
    torch.manual_seed(0)
    return ATTENTION[kind](
        CHANNELS, AttentionConfig(**{"reduction": 4, "kernel_size": 3, "training": "untrained", **options})
    )


def sigmoid(x):
    return 1 / (1 + (-x).exp())


def mlp(state, pooled):
    hidden = (pooled @ state["channel.squeeze.weight"].T + state["channel.squeeze.bias"]).clamp(min=0)
    return hidden @ state["channel.excite.weight"].T + state["channel.excite.bias"]


def test_squeeze_and_excitation(x):
    se = block("se")
    gates = sigmoid(mlp(se.state_dict(), x.flatten(2).mean(2)))
    assert se.state_dict()["channel.squeeze.weight"].shape == (2, CHANNELS)
    torch.testing.assert_close(se.channel_gates(x), gates)
    torch.testing.assert_close(se(x), torch.einsum("bchw,bc->bchw", x, gates))
    assert se.spatial_gate(x) is None


def test_cbam(x):
    cbam = block("cbam")
    state = cbam.state_dict()
    gates = sigmoid(mlp(state, x.flatten(2).mean(2)) + mlp(state, x.flatten(2).max(2).values))
    gated = torch.einsum("bchw,bc->bchw", x, gates)
    pooled = torch.stack([gated.mean(1), gated.max(1).values], dim=1)
    padded = torch.zeros(2, 2, 7, 9)
    padded[:, :, 1:6, 1:8] = pooled
    windows = padded.unfold(2, 3, 1).unfold(3, 3, 1)  # (B, 2, 5, 7, 3, 3)
    spatial = sigmoid(
        torch.einsum("bcyxij,cij->byx", windows, state["spatial.conv.weight"][0]) + state["spatial.conv.bias"]
    )
    torch.testing.assert_close(cbam.channel_gates(x), gates)
    torch.testing.assert_close(cbam.spatial_gate(x), spatial)
    torch.testing.assert_close(cbam(x), gated * spatial[:, None])


def test_a_gate_by_hand():
    # One channel of mean 2 and maximum 6; both layers y = x. SE: sigmoid(2). CBAM adds the maximum: sigmoid(2 + 6).
    x = torch.tensor([0.0, 0.0, 2.0, 6.0]).view(1, 1, 2, 2)
    for kind, logit in (("se", 2.0), ("cbam", 8.0)):
        one = ATTENTION[kind](1, AttentionConfig(reduction=1, training="untrained"))
        for layer in (one.channel.squeeze, one.channel.excite):
            torch.nn.init.ones_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
        assert one.channel_gates(x).item() == pytest.approx(sigmoid(torch.tensor(logit)).item())


def test_none_changes_and_gates_nothing(x):
    none = block("none")
    assert none(x) is x
    assert none.channel_gates(x) is None and none.spatial_gate(x) is None
    assert not list(none.parameters())


@pytest.mark.parametrize("identity_start", [False, True])
@pytest.mark.parametrize("kind", ["se", "cbam"])
def test_gates_stay_in_range(kind, identity_start, x):
    gated = block(kind, training="proxy" if identity_start else "untrained")
    with torch.no_grad():
        for parameter in gated.parameters():
            parameter.normal_(std=3, generator=torch.Generator().manual_seed(1))
    top = 2 if identity_start else 1
    assert AttentionConfig(training="proxy" if identity_start else "untrained").highest_gate == top
    for gates in (gated.channel_gates(x), gated.spatial_gate(x)):
        if gates is not None:
            assert 0 <= gates.min() < 0.4 * top and 0.6 * top < gates.max() <= top
    assert gated.channel_gates(x).shape == (2, CHANNELS)


@pytest.mark.parametrize("kind", [kind for kind in ATTENTION if kind not in ("none", "simam", *MEASURED_VARIANTS)])
def test_identity_start_changes_nothing_at_first(kind, x):
    gated = block(kind, training="proxy")
    torch.testing.assert_close(gated(x), x, rtol=1e-6, atol=0)
    assert not torch.allclose(block(kind)(x), x)
    (gated(x) * x.roll(1, 3)).sum().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in gated.parameters()), "a block that cannot learn"


@pytest.mark.parametrize(("channels", "reduction", "width"), [(64, 16, 4), (192, 16, 12), (256, 2, 128), (8, 64, 1)])
def test_the_bottleneck(channels, reduction, width):
    assert SqueezeExcitation(channels, AttentionConfig(reduction=reduction)).channel.squeeze.out_features == width


@pytest.mark.parametrize("kernel_size", [1, 3, 7, 49])
def test_any_odd_kernel_keeps_the_shape(kernel_size, x):
    cbam = CBAM(CHANNELS, AttentionConfig(kernel_size=kernel_size))
    assert cbam(x).shape == x.shape and cbam.spatial_gate(x).shape == (2, 5, 7)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("keep", "never"), ("placement", "everywhere"), ("training", "")],
        *[("reduction", 0), ("reduction", 65), ("reduction", 1.5)],
        *[("kernel_size", 4), ("kernel_size", -1), ("kernel_size", 10**9 + 1)],
    ],
)
def test_options_out_of_bounds_are_refused(option, value):
    with pytest.raises(AttentDifferNetError, match=f"^{option} must "):
        AttentionConfig(**{option: value})


def test_blocks_are_named_where_they_are_not_the_usual_ones():
    usual = AttentionConfig()
    assert differs_from_default("cbam", usual) == differs_from_default("se", AttentionConfig(kernel_size=9)) == ""
    assert differs_from_default("none", AttentionConfig(reduction=4)) == ""
    assert differs_from_default("se", AttentionConfig(placement="before_pool")) == "before pool"
    assert differs_from_default("cbam", AttentionConfig(reduction=4, kernel_size=9)) == "reduction 4, kernel 9"


def test_the_training_of_gates_is_named_where_they_are_always_kept():
    assert [attention_title(variant, AttentionConfig()) for variant in ("none", "se")] == ["", "separation"]
    assert attention_title("cbam", AttentionConfig(keep="always")) == "separation, always kept"
    assert attention_title("cbam", AttentionConfig(training="joint", keep="always")) == "joint"
    plain = "gates trained on synthetic defects, kept"
    assert training_title("separation, always kept") == f"{plain} even if they do not help"
    assert [training_title(one) for one in ("separation", "", "measured otherwise")] == [
        f"{plain} if they help",
        "",
        "measured otherwise",
    ]


def test_eca_by_hand():
    eca = block("eca")
    assert eca.conv.weight.shape == (1, 1, 3), "log2(8) / 2 + 1 / 2 = 2, the next odd number"
    x = torch.arange(8.0).view(1, 8, 1, 1).expand(1, 8, 2, 3)
    with torch.no_grad():
        eca.conv.weight.copy_(torch.tensor([[[1.0, 0.0, 2.0]]]))  # its lower neighbour, twice the upper
    logits = torch.tensor([2.0, 4, 7, 10, 13, 16, 19, 6])
    torch.testing.assert_close(eca.channel_gates(x)[0].detach(), sigmoid(logits))
    torch.testing.assert_close(eca(x).detach(), x * sigmoid(logits).view(1, 8, 1, 1))


def test_simam_by_hand():
    # One channel, places 0, 0, 0, 4: mean 1, squared distances 1, 1, 1, 9, variance 12 / 3 = 4.
    x = torch.tensor([0.0, 0.0, 0.0, 4.0]).view(1, 1, 2, 2)
    torch.testing.assert_close(
        block("simam")(x).flatten()[3], 4 * sigmoid(torch.tensor(9 / (4 * (4 + 1e-4)) + 0.5)), rtol=1e-6, atol=0
    )
    assert block("simam")(torch.ones(1, 2, 1, 1)).isfinite().all(), "one place has no variance"


def test_coordinate_attention_gates_rows_and_columns(x):
    coordinate = block("coordinate")
    y = coordinate(x)
    gates = y / x
    # gates are a product of one of the row and one of the column
    torch.testing.assert_close(gates[..., :1, :1] * gates, gates[..., :1] * gates[..., :1, :])
    state = coordinate.state_dict()
    rows, columns = x.mean(3), x.mean(2)
    hidden = torch.einsum("oc,bcn->bon", state["squeeze.weight"][:, :, 0], torch.cat([rows, columns], 2))
    hidden = hidden + state["squeeze.bias"][:, None]
    hidden = hidden * (hidden + 3).clamp(0, 6) / 6
    of_rows = torch.einsum("oc,bcn->bon", state["of_rows.weight"][:, :, 0], hidden[..., :5])
    of_columns = torch.einsum("oc,bcn->bon", state["of_columns.weight"][:, :, 0], hidden[..., 5:])
    of_rows = sigmoid(of_rows + state["of_rows.bias"][:, None])
    of_columns = sigmoid(of_columns + state["of_columns.bias"][:, None])
    torch.testing.assert_close(y, x * of_rows[..., None] * of_columns[:, :, None])


def test_attention_pooling_is_a_weighted_average(x):
    pooling = block("pooling")
    state = pooling.state_dict()
    hidden = torch.einsum("oc,bchw->bohw", state["squeeze.weight"][..., 0, 0], x) + state["squeeze.bias"][:, None, None]
    logits = torch.einsum("c,bchw->bhw", state["weigh.weight"][0, :, 0, 0], hidden.clamp(min=0))
    weights = logits.flatten(1).exp()
    weights = weights / weights.sum(1, keepdim=True)  # a bias moves all logits alike
    torch.testing.assert_close(pooling(x).mean((2, 3)), torch.einsum("bn,bcn->bc", weights, x.flatten(2)))
    torch.testing.assert_close(pooling.spatial_gate(x).mean((1, 2)), torch.ones(2))


def test_rarity_by_hand():
    # Two channels of mean (1, 0) and deviations 2 and 0.5. Places: the mean, one and three deviations away.
    rarity = RarityPooling(2, AttentionConfig())
    rarity.normal_places.mean.copy_(torch.tensor([1.0, 0.0]))
    rarity.normal_places.factor.copy_(torch.tensor([[0.5, 0.0], [0.0, 2.0]]))
    x = torch.tensor([[1.0, 3.0, 1.0], [0.0, 0.0, 1.5]]).view(1, 2, 1, 3)
    weights = torch.tensor([0.0, 1, 9]) / 10  # squared distances 0, 1 and 9
    torch.testing.assert_close(rarity.spatial_gate(x).flatten(), 3 * weights, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(rarity(x).mean((2, 3))[0], (x[0, :, 0] * weights).sum(1), rtol=1e-5, atol=1e-6)


def test_surprise_by_hand():
    # One channel of mean 0 and deviation 1, so that rarity is the value's square. The second place is usually 9 times
    # as rare as the others: what is rare there, but always so, weighs no more than what is common elsewhere.
    surprise = SurprisePooling(1, AttentionConfig())
    surprise.normal_places.factor.fill_(1)
    side = surprise.SIDE
    usual = torch.full((1, 1, side, side), 2.0)
    usual[..., 1] = 6.0
    surprise.measure_usual([usual, -usual])
    torch.testing.assert_close(surprise.usual, usual[0, 0].square())
    x = usual.clone()
    torch.testing.assert_close(surprise.spatial_gate(x), torch.ones(1, side, side))
    x[..., 0, 0] *= 2  # 4 times its usual rarity
    weights = torch.ones(side, side)
    weights[0, 0] = 4
    torch.testing.assert_close(surprise.spatial_gate(x)[0], weights / weights.mean())


def test_what_is_usual_is_resized_to_the_map_that_is_weighed():
    surprise = SurprisePooling(1, AttentionConfig())
    surprise.normal_places.factor.fill_(1)
    surprise.measure_usual([torch.tensor([1.0, 2, 2, 1]).expand(1, 1, 3, 4)])  # of a wide image
    x = torch.ones(1, 1, 6, 6)
    gate = surprise.spatial_gate(x)[0]
    torch.testing.assert_close(gate, gate[:1].expand(6, 6))  # the same in all rows
    assert gate[0, 0] > 1 > gate[0, 2]  # rarity of 1 is more than usual in the middle, where 4 is


@pytest.mark.parametrize("pooling", [RarityPooling, SurprisePooling])
def test_all_places_weigh_the_same_until_normal_ones_are_measured(pooling, x):
    assert torch.equal(pooling(CHANNELS, AttentionConfig())(x), x)


def test_rarity_leaves_nothing_to_train():
    with pytest.raises(AttentDifferNetError, match=r"are measured, not trained: .* got joint$"):
        Options(variant="rarity", attention=AttentionConfig(training="joint"))
    said = {keep: attention_title("rarity", AttentionConfig(keep=keep)) for keep in ("if_better", "always")}
    assert said == {"if_better": "normal places", "always": "normal places, always kept"}
    assert training_title(said["always"]) == "weights measured on normal places, kept even if they do not help"


def test_simam_is_judged_though_nothing_is_trained():
    options = Options(variant="simam")
    assert options.judges_gates and not options.trains_attention
    assert attention_choices(options, gates_kept=False, gates_judged=(0.5, 0.625)) == (
        "SimAM after pool, nothing to train, left at 1 as that did not measurably help "
        "(AUROC on synthetic defects 50.0 % with, 62.5 % without)"
    )
    for always in (AttentionConfig(keep="always"), AttentionConfig(training="untrained")):
        assert not Options(variant="simam", attention=always).judges_gates
    always_kept = Options(variant="simam", attention=AttentionConfig(keep="always"))
    assert attention_choices(always_kept) == "SimAM after pool, nothing to train and kept even if it does not help"
    for always in (AttentionConfig(keep="always"), AttentionConfig(training="untrained")):
        assert training_title(attention_title("simam", always)) == "nothing to train, kept even if it does not help"
    assert training_title(attention_title("simam", AttentionConfig())) == "nothing to train, kept if it helps"


@pytest.mark.parametrize(
    ("kind", "name"), [("pooling", "AttentionPooling"), ("rarity", "RarityPooling"), ("surprise", "SurprisePooling")]
)
def test_places_are_weighed_behind_the_last_pooling_only(kind, name):
    backbone = AlexNetFeatures(kind, AttentionConfig())
    kinds = [type(layer).__name__ for layer in backbone.attention_blocks().values()]
    assert kinds == ["NoAttention", "NoAttention", name]
    assert [name for name, _ in backbone.trunk.named_children()][-2:] == ["pool5", "attention3"]


def test_what_is_said_of_a_block_is_what_it_has():
    said = {kind: attention_choices(Options(variant=kind)) for kind in ATTENTION}
    measured = "measured on normal places"
    assert said["surprise"] == f"surprise pooling behind the last map, {measured}"
    assert said["rarity"] == f"rarity pooling behind the last map, {measured}"
    assert said["none"] == "no attention blocks" and said["simam"] == "SimAM after pool, nothing to train"
    assert said["eca"] == "ECA after pool, gates trained on synthetic defects"
    assert said["cbam"] == "CBAM after pool, reduction 16, spatial kernel 7, gates trained on synthetic defects"
    assert said["pooling"] == "attention pooling behind the last map, reduction 16, gates trained on synthetic defects"
    assert [short_title(key) for key in ("none", "se", "coordinate", "patchcore", "patchcore-se")] == [
        *("DifferNet", "SE", "coordinate attention", "PatchCore", "PatchCore (SE)")
    ]
