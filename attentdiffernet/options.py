"""What is asked of a detector: every option and its default. The only place with defaults."""

from dataclasses import dataclass, field
from typing import Any, Literal

from .checked import Checked
from .errors import AttentDifferNetError

MethodName = Literal["differnet", "patchcore"]
Variant = Literal["none", "se", "cbam", "eca", "simam", "coordinate", "pooling", "rarity", "surprise", "places"]
Recipe = Literal["fast", "paper"]
Placement = Literal["after_pool", "before_pool"]
AttentionTraining = Literal["untrained", "joint", "proxy", "separation", "structure"]
Keep = Literal["if_better", "always"]
JUDGED_TRAININGS: tuple[AttentionTraining, ...] = ("separation", "structure")  # their gates are kept only if they help
ViewKind = Literal["rotations", "quarter_turns", "flips", "dihedral", "none"]
Resize = Literal["squeeze", "keep_aspect"]
Exposure = Literal["as_is", "standardised"]
Readout = Literal[
    "z2",
    "likelihood",
    "z2_of_mean",
    "gaussian",
    "gaussian_of_mean",
    "gaussian_full_scale",
    "maximum",
    "reweighted",
    "mean_of_highest",
]

UPRIGHT: tuple[ViewKind, ...] = ("flips", "none")  # kinds of views that leave a rectangle as it is
FIXED_VARIANTS: tuple[Variant, ...] = ("simam",)  # without parameters: nothing is trained or measured
POOLING_VARIANTS: tuple[Variant, ...] = ("pooling", "rarity", "surprise")  # weigh the places that are averaged
# Their weights are measured on normals, nothing is trained.
MEASURED_VARIANTS: tuple[Variant, ...] = ("rarity", "surprise", "places")
PATCHCORE_VARIANTS: tuple[Variant, ...] = ("none", "se", "cbam", "places")
GAUSSIAN_READOUTS: tuple[Readout, ...] = ("gaussian", "gaussian_of_mean", "gaussian_full_scale")  # need no couplings
PATCHCORE_READOUTS: tuple[Readout, ...] = ("maximum", "reweighted", "mean_of_highest")  # all others are DifferNet's
ALEXNET = "alexnet"
BACKBONES: dict[MethodName, str] = {"differnet": ALEXNET, "patchcore": "tf_efficientnet_lite0"}  # by default
# What is trained where no attention was asked for or refused: PatchCore's costs little and is kept only if it helps.
DEFAULT_VARIANTS: dict[MethodName, Variant] = {"differnet": "none", "patchcore": "places"}
CHOSEN = ("views", "resize", "exposure", "readout")  # options that None leaves to the rule (input_choice.py)
MOST_VIEWS = 256  # of one image
MOST_STEPS = 1_000_000  # epochs, rows in a batch, views to train on: more would never end
MOST_PX, MOST_SCALES = 1024, 4  # of the network input
MOST_PARAMETERS = 400_000_000  # of a flow: a model of a stranger must not fill the memory
TRAINING_VIEWS, SCORING_VIEWS = 8, 16  # of rotations, where all else was given and the rule is not asked
# Spread of exposure over training normals above which the rule standardises it; ±15 %, evenly distributed, is 0.087.
UNSTEADY_LIGHT = 0.1


@dataclass(frozen=True)
class AttentionConfig(Checked):
    """Attention blocks in the backbone. What the paper leaves open is a choice of this reproduction.

    placement: `after_pool` as in the authors' figure (after pool1, pool2 and the last ReLU), `before_pool` after the
        ReLUs 1, 2 and 5, each before its pooling. The last position is the same in both.
    reduction: channel count divided by this is the width of the bottleneck (SE and CBAM papers: 16).
    kernel_size: of CBAM's spatial gate (CBAM paper: 7). SE has none.
    training: `untrained` leaves the blocks as they were initialised; `joint`, `proxy`, `separation` and `structure`
        train them on training normals, convolutions frozen, and freeze them before the flow is fitted
        (attention_training.py). The default did best on synthetic defects at the scale it is trained at
        (scripts/choose_attention.py).
    keep: of gates trained by `separation` or `structure` in the recipe `fast`. `if_better` keeps them only if they
        measurably help (gate_decision.py) and otherwise leaves them at 1, so that the detector is DifferNet; `always`
        keeps them. Other gates are always kept. SimAM has nothing to train: it is judged where trained gates would be.
    """

    placement: Placement = "after_pool"
    reduction: int = 16
    kernel_size: int = 7
    training: AttentionTraining = "separation"
    keep: Keep = "if_better"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.reduction <= 64:
            raise AttentDifferNetError(f"reduction must lie in 1..64 (64 channels after conv1), got {self.reduction}")
        if not 1 <= self.kernel_size < 128 or self.kernel_size % 2 == 0:
            raise AttentDifferNetError(f"kernel_size must be odd and lie in 1..127, got {self.kernel_size}")

    @property
    def identity_start(self) -> bool:
        """Gates that are to be trained are 2·sigmoid with a zero last layer: at first they change nothing. Others are
        sigmoid with PyTorch's usual initialisation, as in the SE and CBAM papers."""
        return self.training != "untrained"

    @property
    def is_judged(self) -> bool:
        """Whether gates are kept only if they help."""
        return self.training in JUDGED_TRAININGS and self.keep == "if_better"

    @property
    def highest_gate(self) -> float:
        """The upper bound of the gates; a gate of 1 changes nothing."""
        return 2.0 if self.identity_start else 1.0


@dataclass(frozen=True)
class FlowConfig(Checked):
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
        self.check_range(1, 64, "n_blocks")
        self.check_range(1, 8192, "hidden_width")
        self.check_range(1, 16, "hidden_layers")
        self.check_range(0, 100, "clamp", above=True)


@dataclass(frozen=True)
class PatchCoreConfig(Checked):
    """PatchCore's bank of normal places, and how images are scored with it (patchcore.py).

    strides: of the feature maps that make a place, in px; the finest sets the grid.
    bank_size: entries at most. whitening: of the places, before they are compared.
    highest: how many of the highest distances `mean_of_highest` averages; below 1, a share of all. Both were chosen on
        synthetic defects, by the mean AUROC over several categories (benchmarks/patchcore.py).
    n_calibrated: training images, at most, that are scored by cross-validation for the threshold.
    """

    strides: tuple[int, ...] = (8, 16)
    bank_size: int = 4000
    whitening: bool = True
    highest: float = 0.01
    n_calibrated: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.strides or min(self.strides) < 1 or list(self.strides) != sorted(set(self.strides)):
            raise AttentDifferNetError(f"strides must be different numbers in ascending order, got {self.strides}")
        self.check_range(1, 100_000, "bank_size")
        self.check_range(0, 100_000, "n_calibrated")
        self.check_range(0, 1_000_000, "highest", above=True)
        if self.highest > 1 and self.highest != int(self.highest):
            raise AttentDifferNetError(f"highest must be a whole number or a share below 1, got {self.highest}")


FLOW_SIZES: dict[str, FlowConfig] = {
    # 172.1 M parameters, as in DifferNet's reference code
    "paper": FlowConfig(n_blocks=8, hidden_width=2048, hidden_layers=3, whitening=False),
    "compact": FlowConfig(),  # 0.6 M parameters, and 0.3 M of the whitening
}

# What each recipe sets where an option is not given. `paper` is DifferNet's own procedure, which chooses nothing.
RECIPES: dict[Recipe, dict[str, Any]] = {
    # Size, rate, epochs and noise were chosen on training normals of one category: by the likelihood of held-out ones,
    # and by how well they are told from the same with small pasted patches (scripts/choose_recipe.py).
    "fast": {"flow": FLOW_SIZES["compact"], "epochs": 60, "learning_rate": 5e-4, "feature_noise": 0.1},
    "paper": {
        "flow": FLOW_SIZES["paper"],
        "epochs": 192,
        "learning_rate": 2e-4,
        "feature_noise": 0.0,
        "views": "rotations",
        "resize": "squeeze",
        "exposure": "as_is",
        "readout": "z2",
        "training_views": 4,
        "scoring_views": 64,
    },
}
# The default of options that the recipe or the method sets: never None in a finished `Options`.
_BY_RECIPE: Any = None
_BY_METHOD: Any = None


@dataclass(frozen=True)
class Options(Checked):
    """What is asked of a detector. None where the choice is left to the rule, which looks at training normals only.

    variant: `none` is DifferNet, `se` and `cbam` add the paper's attention blocks, the others those of attention.py.
        `places` is of PatchCore alone: a place weighs less where normal images differ more.
    method: `differnet` scores the image as a whole, `patchcore` its places. PatchCore has no flow, recipe, views
        or epochs: what is said of those does not apply to it. Its variants are `none`, `se`, `cbam` and `places`.
    backbone: any convolutional network of timm, by name; `alexnet` is DifferNet's own, and is not for PatchCore.
    patchcore: sizes of PatchCore.
    recipe: `fast` fits to features computed once; `paper` is DifferNet's own procedure (paper_recipe.py). It sets what
        is not given of flow, epochs, learning_rate and feature_noise, `paper` also the views. To change the recipe,
        make new options: `dataclasses.replace` would keep what the old one has set.
    weights: of the backbone: `imagenet`, `bundled`, `random`, or the path of a .safetensors or .pth file.
    image_size: side of the square network input in px; the scales are image_size / 2**i for i < n_scales.
    views: the copies of an image that are scored: `rotations` by any angle (DifferNet), `quarter_turns` (4), `flips`
        (4: none, both, left-right, top-bottom), `dihedral` (8: quarter turns and their mirror images), or `none` (1).
        With flips and dihedral a mirrored part counts as normal.
    resize: `squeeze` brings every image to that square, as DifferNet does; `keep_aspect` to a rectangle of the same
        area and of the image's own aspect. Features are global averages, so any size will do; but the views must not
        turn a rectangle.
    exposure: `as_is`, or `standardised`: brightness and contrast of each image are first brought to the same values
        (views.standardise_exposure), for photographs whose light or exposure time varies.
    readout: how the score of an image is computed from the features of its views (words.READOUTS).
    training_views: copies of each training image; with `fast` their features are computed once and reused, with
        `paper` they are new ones in each epoch. scoring_views: copies of an image that make its anomaly score. At most
        as many as there are of the kind.
    epochs: fixed in advance, never chosen on test images. batch_size: feature rows (views) per optimiser step.
        learning_rate, betas, eps, weight_decay: of Adam.
    feature_noise: standard deviation of Gaussian noise on the features, in units of their mean standard deviation; new
        at each step. Keeps a flow on few cached views from memorising them (0 in DifferNet).
    seed: flow and attention initialisation and the order of rows.
    data_seed: which normals are held out, and the views; the same for all variants and seeds, so that they are
        compared on the same views.
    calibration_fraction: share of the training normals held out, never fitted, for the threshold; where that is too few
        for false_positive_rate, recipe `fast` holds out none, and cross-validates (`cross_calibration`).
    false_positive_rate: share of normal images that the threshold may flag.
    value_range: the grey value shown as white, for files of more than 8 bits: 4095 for 12 bits. None: the end of the
        usual range that the training images are of.
    """

    variant: Variant = "none"
    recipe: Recipe = "fast"
    method: MethodName = "differnet"
    backbone: str = _BY_METHOD
    patchcore: PatchCoreConfig = field(default_factory=PatchCoreConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    flow: FlowConfig = _BY_RECIPE
    weights: str = "imagenet"
    image_size: int = 448
    n_scales: int = 3
    views: ViewKind | None = None
    resize: Resize | None = None
    exposure: Exposure | None = None
    readout: Readout | None = None
    training_views: int | None = None
    scoring_views: int | None = None
    epochs: int = _BY_RECIPE
    batch_size: int = 96
    learning_rate: float = _BY_RECIPE
    betas: tuple[float, float] = (0.8, 0.8)
    eps: float = 1e-4
    weight_decay: float = 1e-5
    feature_noise: float = _BY_RECIPE
    seed: int = 0
    data_seed: int = 0
    calibration_fraction: float = 0.2
    false_positive_rate: float = 0.05
    value_range: float | None = None

    def __post_init__(self) -> None:
        for name, value in _set_by(self.recipe).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.backbone is None:
            object.__setattr__(self, "backbone", BACKBONES.get(self.method))
        super().__post_init__()
        self._check_method()
        check_network(self.image_size, self.n_scales, self.flow, self.backbone, self.method)
        check_input(self.flow, self.views, self.resize, self.readout)
        self._check_numbers()
        if self.recipe == "paper" and (self.views, self.exposure, self.flow.whitening) != ("rotations", "as_is", False):
            raise AttentDifferNetError(
                "The recipe paper takes rotations of images as they are, and no whitening before the flow"
            )

    def _check_numbers(self) -> None:
        self.check_range(1, MOST_STEPS, "epochs", "batch_size", "training_views")
        self.check_range(0, 2**31 - 1, "seed", "data_seed")
        self.check_range(0, 1, "learning_rate", "eps", above=True)
        self.check_range(0, 1, "weight_decay")
        self.check_range(0, 10, "feature_noise")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise AttentDifferNetError(f"betas must lie in 0..1, below 1, got {self.betas}")
        if self.scoring_views is not None:
            check_scoring_views(self.scoring_views)
        check_value_range(self.value_range)
        for name in ("calibration_fraction", "false_positive_rate"):
            if not 0 < getattr(self, name) < 1:
                raise AttentDifferNetError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")

    def _check_method(self) -> None:
        """Raises AttentDifferNetError for options that the method does not have."""
        if self.readout and (self.readout in PATCHCORE_READOUTS) != (self.method == "patchcore"):
            raise AttentDifferNetError(f"{self.method} has no readout {self.readout}")
        if self.attention.placement != "after_pool" and self.variant != "none" and self.backbone != ALEXNET:
            raise AttentDifferNetError(
                f"Only AlexNet has attention blocks {self.attention.placement}; in {self.backbone} they stand after "
                "the levels of stride 8, 16 and 32"
            )
        if self.variant in MEASURED_VARIANTS and self.attention.training != AttentionConfig().training:
            raise AttentDifferNetError(
                f"The weights of {self.variant} are measured, not trained: leave the training out, "
                f"got {self.attention.training}"
            )
        if self.variant == "places" and self.method != "patchcore":
            raise AttentDifferNetError("Only PatchCore weighs places where they are: DifferNet turns its images")
        if self.method == "patchcore":
            self._check_patchcore()

    def _check_patchcore(self) -> None:
        if self.backbone == ALEXNET:
            raise AttentDifferNetError("PatchCore needs a network of timm: AlexNet's feature maps are too coarse")
        if (self.recipe, self.views or "none") != ("fast", "none"):
            raise AttentDifferNetError(
                f"PatchCore has no recipe or views, got recipe {self.recipe}, views {self.views}"
            )
        if self.patchcore.n_calibrated < 1:
            raise AttentDifferNetError("n_calibrated must be 1 or more: without scores there is no threshold, got 0")
        if self.variant == "places" and not self.can_weigh_places:
            raise AttentDifferNetError(
                "Weights of places come from 2 or more calibrated images, and do not go with the readout reweighted: "
                f"got n_calibrated {self.patchcore.n_calibrated}, readout {self.readout}"
            )
        if self.variant not in PATCHCORE_VARIANTS:
            raise AttentDifferNetError(
                f"PatchCore has the variants {', '.join(PATCHCORE_VARIANTS)}, got {self.variant}"
            )
        if self.trains_attention and self.attention.training not in JUDGED_TRAININGS:
            raise AttentDifferNetError(
                f"Gates of PatchCore are trained by {' or '.join(JUDGED_TRAININGS)}, got {self.attention.training}"
            )

    @property
    def key(self) -> str:
        """What tells a detector apart among those of a category: of DifferNet the variant, else the method, and
        `patchcore-se` with attention (`words.DETECTOR_TITLES`). Shipped models lie in folders of this name, and
        runs.csv calls it the variant."""
        if self.method == "differnet":
            return self.variant
        return self.method if self.variant == "none" else f"{self.method}-{self.variant}"

    @property
    def can_weigh_places(self) -> bool:
        """Whether PatchCore's weights of places can be measured, and used with the readout."""
        return self.patchcore.n_calibrated > 1 and self.readout != "reweighted"

    @property
    def leaves_a_choice(self) -> bool:
        """Whether anything about the input or the readout is left to the rule."""
        return any(getattr(self, name) is None for name in CHOSEN)

    @property
    def trains_attention(self) -> bool:
        """Whether anything about the gates comes from training normals, trained or measured."""
        if self.variant in MEASURED_VARIANTS:
            return True
        return self.variant not in ("none", *FIXED_VARIANTS) and self.attention.training != "untrained"

    @property
    def attention_seed(self) -> int:
        """What attention is made from. What is measured or fixed does not vary with the seed: seeds share features."""
        return self.data_seed if self.variant in (*MEASURED_VARIANTS, *FIXED_VARIANTS) else self.seed

    @property
    def judges_gates(self) -> bool:
        """Whether gates are kept only if they measurably help."""
        return self.variant != "none" and self.attention.is_judged and self.recipe == "fast"


def _set_by(recipe: object) -> dict[str, Any]:
    """What a recipe sets; nothing for one that does not exist, which the type check will reject."""
    return next((values for name, values in RECIPES.items() if name == recipe), {})


def least_side(n_scales: int, backbone: str = ALEXNET) -> int:
    """px that no side of the network input may fall below: at the smallest scale AlexNet needs 63, others 32."""
    return (63 if backbone == ALEXNET else 32) << (n_scales - 1)


def check_value_range(white: float | None) -> None:
    """Raises AttentDifferNetError for a range of grey values that no file of up to 16 bits has."""
    if white is not None and not 0 < white <= 65535:
        raise AttentDifferNetError(f"value_range must lie above 0 and at most at 65535, got {white}")


def check_scoring_views(n_views: int) -> int:
    """The number. Raises AttentDifferNetError for one that no image can be scored on."""
    if not 1 <= n_views <= MOST_VIEWS:
        raise AttentDifferNetError(f"An image is scored on 1 to {MOST_VIEWS} views, got {n_views}")
    return n_views


def check_network(
    image_size: int, n_scales: int, flow: FlowConfig, backbone: str = ALEXNET, method: MethodName = "differnet"
) -> None:
    """Raises AttentDifferNetError for sizes that no network has, or that fill the memory of whoever loads a model. All
    bounds of sizes are here: what passes can be trained, saved and loaded."""
    if not 1 <= n_scales <= MOST_SCALES:
        raise AttentDifferNetError(f"n_scales must lie in 1..{MOST_SCALES}, got {n_scales}")
    if image_size > MOST_PX:
        raise AttentDifferNetError(f"image_size must be {MOST_PX} px or less, got {image_size}")
    n_scales = n_scales if method == "differnet" else 1  # PatchCore has no scales
    if image_size < least_side(n_scales, backbone):
        raise AttentDifferNetError(
            f"{'AlexNet' if backbone == ALEXNET else backbone} needs {least_side(1, backbone)} px at its last scale: "
            f"{image_size} px at {n_scales} scales leave {image_size >> (n_scales - 1)} px"
        )
    per_subnet = flow.hidden_width * (1.5 * 256 * n_scales + (flow.hidden_layers - 1) * flow.hidden_width)
    if (n_parameters := 2 * flow.n_blocks * per_subnet) > MOST_PARAMETERS:
        raise AttentDifferNetError(
            f"A flow has {MOST_PARAMETERS / 1e6:.0f} million parameters at most, got {n_parameters / 1e6:.0f} million: "
            f"n_blocks {flow.n_blocks}, hidden_width {flow.hidden_width}, hidden_layers {flow.hidden_layers}"
        )


def check_input(flow: FlowConfig, views: ViewKind | None, resize: Resize | None, readout: Readout | None) -> None:
    """Raises AttentDifferNetError for values that exclude each other; None goes with everything."""
    if readout in GAUSSIAN_READOUTS and not flow.whitening:
        raise AttentDifferNetError(f"The readout {readout} needs a flow with whitening")
    if resize == "keep_aspect" and views not in (None, *UPRIGHT):
        raise AttentDifferNetError(
            f"keep_aspect needs views that leave a rectangle upright ({', '.join(UPRIGHT)}), got {views}"
        )
