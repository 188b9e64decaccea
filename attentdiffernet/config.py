"""Every option and its default, as frozen dataclasses. The only place with defaults.

A configuration is stored in each checkpoint and rebuilt from it by `from_dict`, which refuses names it does not know.
"""

import dataclasses
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from .errors import AttentDifferNetError
from .words import input_title

Attention = Literal["none", "se", "cbam"]
ViewKind = Literal["rotations", "quarter_turns", "flips", "dihedral", "none"]
AttentionTraining = Literal["untrained", "joint", "proxy", "separation", "separation_unjudged"]
Resize = Literal["squeeze", "keep_aspect"]
Exposure = Literal["as_is", "standardised"]
Readout = Literal["z2", "likelihood", "z2_of_mean", "gaussian", "gaussian_of_mean", "gaussian_full_scale"]
# Spread of exposure (input_choice.spread_of_exposure) above which it is standardised; ±15 %, evenly spread, are 0.087.
UNSTEADY_LIGHT = 0.1
UPRIGHT: tuple[ViewKind, ...] = ("flips", "none")  # kinds of views that leave a rectangle as it is


@dataclass(frozen=True)
class Config:
    """Base of all configurations: checks the type of every field, and goes to and from plain JSON data."""

    def __post_init__(self) -> None:
        for name, hint in typing.get_type_hints(type(self)).items():
            if wanted := _complaint(hint, getattr(self, name)):
                raise AttentDifferNetError(f"{name} must be {wanted}, got {getattr(self, name)!r}")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises AttentDifferNetError for a name that is no field, so that a typo is not swallowed."""
        if not isinstance(values, dict):
            raise AttentDifferNetError(
                f"{cls.__name__} needs a mapping of names to values, got {type(values).__name__}"
            )
        hints = typing.get_type_hints(cls)
        if unknown := sorted(set(values) - set(hints)):
            raise AttentDifferNetError(f"{cls.__name__} has no option {', '.join(unknown)}; it has {', '.join(hints)}")
        try:
            return cls(**{name: _revive(hints[name], value) for name, value in values.items()})
        except TypeError as error:
            raise AttentDifferNetError(f"{cls.__name__} cannot be made from {values}: {error}") from error


def _revive(hint: Any, value: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, Config):
        return hint.from_dict(value)
    return tuple(value) if typing.get_origin(hint) is tuple else value


def _complaint(hint: Any, value: Any) -> str:
    """What the type hint of a field asks for, in words; empty where the value is that."""
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind is Literal:
        return "" if value in parts else f"one of {', '.join(parts)}"
    if kind is tuple:
        any_length = parts[-1] is ...
        fits = isinstance(value, tuple) and (any_length or len(value) == len(parts))
        fits = fits and not any(_complaint(parts[0], part) for part in value)
        return "" if fits else "numbers" if any_length else f"{len(parts)} numbers"
    if kind is dict:
        fits = isinstance(value, dict) and not any(_complaint(parts[1], part) for part in value.values())
        return "" if fits else "numbers by name"
    if hint in (int, float):
        fits = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
        return "" if fits else "a whole number" if hint is int else "a number"
    return "" if isinstance(value, hint) else {str: "text", bool: "true or false"}.get(hint, f"a {hint.__name__}")


@dataclass(frozen=True)
class AttentionConfig(Config):
    """Attention blocks in the backbone. What the paper leaves open (see README) is a choice of this reproduction.

    placement: `after_pool` as in the authors' figure (after pool1, pool2 and the last ReLU), `before_pool` after the
        ReLUs 1, 2 and 5, each before its pooling. The last position is the same in both.
    reduction: channel count divided by this is the width of the bottleneck (SE and CBAM papers: 16).
    kernel_size: of CBAM's spatial gate (CBAM paper: 7). SE has none.
    training: `untrained` leaves the blocks as they were initialised; `joint`, `proxy` and `separation` train them on
        training normals, convolutions frozen, and freeze them before the flow is fitted (attention_training.py). The
        default was best on synthetic defects at the scale it is trained at (scripts/choose_attention.py).
        `separation_unjudged` is `separation` whose gates are kept even where they do not help.
    strength: 1, or 0 where all gates of trained blocks are left at 1: the detector is then DifferNet. `training.train`
        sets it to 0 where what `separation` has learned does not help.
    judged: no option, but what `training.train` found then: AUROC on synthetic defects with the gates and without.
    """

    kind: Attention = "none"
    placement: Literal["after_pool", "before_pool"] = "after_pool"
    reduction: int = 16
    kernel_size: int = 7
    training: AttentionTraining = "separation"
    strength: float = 1.0
    judged: tuple[float, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strength not in ((1,) if self.training == "untrained" else (0, 1)):
            raise AttentDifferNetError(f"strength must be 1, or 0 of blocks that are trained, got {self.strength}")
        if not 1 <= self.reduction <= 64:
            raise AttentDifferNetError(f"reduction must lie in 1..64 (64 channels after conv1), got {self.reduction}")
        if not 1 <= self.kernel_size < 128 or self.kernel_size % 2 == 0:
            raise AttentDifferNetError(f"kernel_size must be odd and lie in 1..127, got {self.kernel_size}")

    @property
    def gates(self) -> bool:
        """Whether anything is gated: without, features are DifferNet's."""
        return self.kind != "none" and self.strength > 0

    @property
    def identity_start(self) -> bool:
        """Gates that are to be trained are 2·sigmoid with a zero last layer: at first they change nothing. Others are
        sigmoid with PyTorch's usual initialisation, as in the SE and CBAM papers."""
        return self.training != "untrained"

    @property
    def highest_gate(self) -> float:
        """What no gate reaches; 1 passes unchanged."""
        return 2.0 if self.identity_start else 1.0

    @property
    def choices(self) -> str:
        """What the paper leaves open, as chosen here, in words; said wherever a map or a result is shown."""
        if self.kind == "none":
            return "no attention blocks"
        kernel = f", spatial kernel {self.kernel_size}" if self.kind == "cbam" else ""
        place = self.placement.replace("_", " ")
        training = "untrained" if self.training == "untrained" else f"trained ({self.training})"
        if not self.strength:
            training += ", left at 1 as it did not help"
        if self.judged:
            training += " (AUROC on synthetic defects {:.1%} with, {:.1%} without)".format(*self.judged)
        return f"{self.kind.upper()} {place}, reduction {self.reduction}{kernel}, {training}"

    @property
    def unusual(self) -> str:
        """Where the blocks are other ones than by default: `before pool, reduction 4`; empty where they are not."""
        usual = AttentionConfig()
        parts = [] if self.placement == usual.placement else [self.placement.replace("_", " ")]
        parts += [f"reduction {self.reduction}"] * (self.reduction != usual.reduction)
        parts += [f"kernel {self.kernel_size}"] * (self.kind == "cbam" and self.kernel_size != usual.kernel_size)
        return "" if self.kind == "none" else ", ".join(parts)

    @property
    def training_note(self) -> str:
        """One sentence on what the gates can show."""
        if self.kind == "none":
            return "DifferNet has no attention blocks: nothing is gated."
        if self.training == "untrained":
            return "The gates are untrained (random): their maps show nothing learned."
        if self.strength == 0:
            return "What the gates learned told synthetic defects no better than DifferNet: they were left at 1."
        if self.training == "joint":
            return "The gates were trained for likelihood together with a flow, with frozen convolutions."
        return "The gates were trained on synthetic defects in training normals, with frozen convolutions."


@dataclass(frozen=True)
class FlowConfig(Config):
    """DifferNet's normalizing flow: `n_blocks` x (fixed permutation, GLOW affine coupling).

    Each coupling's two sub-networks: Linear to `hidden_width`, ReLU, then `hidden_layers` - 1 x (Linear, ReLU), Linear.
    clamp: bound on the log-scale, `clamp · 0.636 · atan(s / clamp)` (about ±clamp).
    whitening: the features are first whitened by their mean and shrunken covariance (Ledoit & Wolf, 2004), and the
        couplings start as the identity: the flow starts as a Gaussian and learns what a Gaussian misses. DifferNet has
        none of this.
    """

    n_blocks: int = 4
    hidden_width: int = 64
    hidden_layers: int = 2
    clamp: float = 3.0
    whitening: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in (("n_blocks", 64), ("hidden_width", 8192), ("hidden_layers", 16)):
            if not 1 <= getattr(self, name) <= most:
                raise AttentDifferNetError(f"{name} must lie in 1..{most}, got {getattr(self, name)}")
        if not 0 < self.clamp <= 100:
            raise AttentDifferNetError(f"clamp must lie above 0 and at most at 100, got {self.clamp}")


FLOW_SIZES: dict[str, FlowConfig] = {
    # 172.1 M parameters, as in DifferNet's reference code
    "paper": FlowConfig(n_blocks=8, hidden_width=2048, hidden_layers=3, whitening=False),
    "compact": FlowConfig(),  # 0.6 M parameters, and 0.3 M of the whitening
}


FEATURE_DEVIATION = 0.225  # of ImageNet AlexNet's features, which DifferNet takes as they are


@dataclass(frozen=True)
class ModelConfig(Config):
    """One model: backbone weights, attention, flow.

    weights: `imagenet`, `bundled`, `random`, or the path of a .safetensors or .pth file.
    feature_scale: factor on the features before the flow, set by training so that their mean standard deviation is
        FEATURE_DEVIATION. Gates shrink features (CBAM's about 64-fold over three untrained blocks), and a flow learns
        slowly on features of another size: variants would be compared by their size.
    views: the copies of an image that are scored: `rotations` by any angle (DifferNet), `quarter_turns` (4), `flips`
        (4: none, both, left-right, top-bottom), `dihedral` (8: quarter turns and their mirror images), or `none` (1).
        Which kind suits depends on the category (`input_choice`); with flips and dihedral a mirrored part counts as
        normal.
    readout: how the score of an image is read off the features of its views (READOUTS).
    image_size: side of the square network input in px; the scales are image_size / 2**i for i < n_scales.
    resize: `squeeze` brings every image to that square, as DifferNet does; `keep_aspect` to a rectangle of the same
        area and of the image's own aspect, so that texture has the same shape in all images of a category whose images
        have not. Features are global averages, so any size will do; but the views must not turn a rectangle.
    exposure: `as_is`, or `standardised`: brightness and contrast of each image are brought to the same values before
        all else (data.standardise_exposure), for photographs whose light or exposure time varies.
    """

    attention: AttentionConfig = field(default_factory=AttentionConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    weights: str = "imagenet"
    image_size: int = 448
    n_scales: int = 3
    feature_scale: float = 1.0
    resize: Resize = "squeeze"
    exposure: Exposure = "as_is"
    views: ViewKind = "rotations"
    readout: Readout = "z2_of_mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n_scales <= 8:
            raise AttentDifferNetError(f"n_scales must lie in 1..8, got {self.n_scales}")
        if not 0 < self.feature_scale < float("inf"):
            raise AttentDifferNetError(f"feature_scale must be positive and finite, got {self.feature_scale}")
        if self.readout.startswith("gaussian") and not self.flow.whitening:
            raise AttentDifferNetError(f"The readout {self.readout} needs a flow with whitening")
        if self.resize == "keep_aspect" and self.views not in UPRIGHT:
            raise AttentDifferNetError(
                f"keep_aspect needs views that leave a rectangle upright ({', '.join(UPRIGHT)}), got {self.views}"
            )
        if self.image_size < self.least_side:
            raise AttentDifferNetError(
                f"AlexNet needs 63 px at its smallest scale: {self.image_size} px at {self.n_scales} scales leave "
                f"{self.image_size >> (self.n_scales - 1)} px"
            )

    @property
    def input_title(self) -> str:
        return input_title(self.views, self.resize, self.exposure)

    @property
    def least_side(self) -> int:
        """px that no side of the network input may fall below: AlexNet needs 63 at the smallest scale."""
        return 63 << (self.n_scales - 1)


@dataclass(frozen=True)
class TrainingConfig(Config):
    """How a flow is fitted. Epochs are fixed in advance, never chosen on test images.

    recipe: `fast` fits to features computed once; `paper` is DifferNet's own procedure (paper_recipe.py).
    views_per_image: copies of each training image; with `fast` their features are computed once and reused, with
        `paper` they are new ones in each epoch.
    batch_size: feature rows (views) per optimiser step.
    seed: flow and attention initialisation and the order of rows.
    data_seed: which normals are held out, and the rotations; the same for all variants and seeds, so that they are
        compared on the same views.
    learning_rate: DifferNet's is 2e-4, for 172 M parameters. The compact flow's size, rate, epochs and noise were
        chosen on training normals of one category: likelihood of held-out ones, and telling them from the same with
        small pasted patches (scripts/choose_recipe.py).
    feature_noise: standard deviation of Gaussian noise on the features, in units of their mean standard deviation; new
        at each step. Keeps a flow on few cached views from memorising them (0 in DifferNet).
    calibration_fraction: share of the training normals held out, never fitted, for the threshold.
    false_positive_rate: share of normal images that the threshold may flag.
    """

    recipe: Literal["fast", "paper"] = "fast"
    epochs: int = 60
    views_per_image: int = 8
    batch_size: int = 96
    learning_rate: float = 5e-4
    betas: tuple[float, float] = (0.8, 0.8)
    eps: float = 1e-4
    weight_decay: float = 1e-5
    feature_noise: float = 0.1
    seed: int = 0
    data_seed: int = 0
    calibration_fraction: float = 0.2
    false_positive_rate: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "views_per_image", "batch_size"):
            if getattr(self, name) < 1:
                raise AttentDifferNetError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("seed", "data_seed"):
            if not 0 <= getattr(self, name) < 2**31:
                raise AttentDifferNetError(f"{name} must lie in 0..2147483647, got {getattr(self, name)}")
        if not 0 <= self.feature_noise < 10:
            raise AttentDifferNetError(f"feature_noise must lie in 0..10, got {self.feature_noise}")
        for name in ("calibration_fraction", "false_positive_rate"):
            if not 0 < getattr(self, name) < 1:
                raise AttentDifferNetError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class ScoringConfig(Config):
    """n_views: copies of an image that make its anomaly score, at most as many as there are of the kind (DifferNet: 64
    random rotations)."""

    n_views: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n_views <= 256:
            raise AttentDifferNetError(f"n_views must lie in 1..256, got {self.n_views}")


@dataclass(frozen=True)
class Recipe:
    """A named set of options. choose: whether views and readout are chosen for the category (input_choice.choose)."""

    flow: FlowConfig
    readout: Readout
    training: TrainingConfig
    scoring: ScoringConfig
    choose: bool


RECIPES = {
    "fast": Recipe(FLOW_SIZES["compact"], "z2_of_mean", TrainingConfig(), ScoringConfig(), choose=True),
    "paper": Recipe(
        FLOW_SIZES["paper"],
        "z2",
        TrainingConfig(recipe="paper", epochs=192, views_per_image=4, learning_rate=2e-4, feature_noise=0.0),
        ScoringConfig(n_views=64),
        choose=False,
    ),
}
