"""Titles and phrases that the commands, both faces and the results page share."""

import math
from typing import Literal

from .options import (
    FIXED_VARIANTS,
    JUDGED_TRAININGS,
    MEASURED_VARIANTS,
    POOLING_VARIANTS,
    AttentionConfig,
    Options,
    Variant,
)

VARIANT_TITLES: dict[str, str] = {
    "none": "DifferNet",
    "se": "AttentDifferNet (SE)",
    "cbam": "AttentDifferNet (CBAM)",
    "eca": "AttentDifferNet (ECA)",
    "simam": "AttentDifferNet (SimAM)",
    "coordinate": "AttentDifferNet (coordinate attention)",
    "pooling": "AttentDifferNet (attention pooling)",
    "rarity": "AttentDifferNet (rarity pooling)",
    "surprise": "AttentDifferNet (surprise pooling)",
}
PAPER_VARIANTS = ("none", "se", "cbam")  # those of the AttentDifferNet paper
METHOD_NAMES: dict[str, str] = {"differnet": "DifferNet", "patchcore": "PatchCore"}
# By `Detector.key`, in the order of every table and page: the variants of DifferNet, then the other methods.
OTHER_METHODS: tuple[str, ...] = ("patchcore", "patchcore-places")  # compared with DifferNet
ATTENTIVE_METHODS: dict[str, str] = dict.fromkeys(  # by key, the same method without attention
    ("patchcore-se", "patchcore-cbam", "patchcore-places"), "patchcore"
)
DETECTOR_TITLES: dict[str, str] = VARIANT_TITLES | {
    "patchcore": METHOD_NAMES["patchcore"],
    "patchcore-se": "PatchCore (SE)",
    "patchcore-cbam": "PatchCore (CBAM)",
    "patchcore-places": "Weighted PatchCore",
}
MapName = Literal["grad-cam", "attention", "gradient", "spatial-gate", "distance"]
METHOD_TITLES: dict[str, str] = {
    "grad-cam": "Grad-CAM",
    "attention": "Attention",
    "gradient": "Gradient map",
    "spatial-gate": "Spatial gate",
    "distance": "Distance to normal places",
}
TRAININGS: dict[str, str] = {  # of gates
    "untrained": "gates untrained",
    "joint": "gates trained together with a flow",
    "proxy": "gates trained by a classifier of synthetic defects",
    "separation": "gates trained on synthetic defects",
    "structure": "gates trained on synthetic defects of structure",
}
ALWAYS_KEPT = "always kept"  # of gates, as runs.csv has it
MEASURED = "normal places"  # what weights are measured on, as runs.csv has it
FIXED = "nothing to train"  # of gates without parameters, as runs.csv has it
READOUTS: dict[str, str] = {
    "z2": "mean z² over the views, as in DifferNet",
    "likelihood": "negative log-likelihood by the flow, averaged over the views (an extension)",
    "z2_of_mean": "z² of the features averaged over the views (an extension)",
    "gaussian": "squared Mahalanobis distance, averaged over the views (a baseline without flow)",
    "gaussian_of_mean": "squared Mahalanobis distance of the features averaged over the views (a baseline without "
    "flow)",
    "gaussian_full_scale": "squared Mahalanobis distance of the full scale's features, averaged over the views (a "
    "baseline without flow)",
}
PATCHCORE_READOUTS: dict[str, str] = {
    "maximum": "the highest distance of a place to the bank",
    "reweighted": "the highest distance of a place to the bank, reweighted as in PatchCore's equation 7",
    "mean_of_highest": "mean of the highest distances of places to the bank",
}


def input_title(views: str, resize: str, exposure: str = "as_is") -> str:
    """`quarter turns`, or `flips, aspect kept, exposure standardised`."""
    parts = [views.replace("_", " ")]
    parts += ["aspect kept"] * (resize == "keep_aspect") + ["exposure standardised"] * (exposure == "standardised")
    return ", ".join(parts)


def attention_title(variant: Variant, attention: AttentionConfig) -> str:
    """How gates are trained, as results name it: `joint`, or `separation, always kept`; empty without attention."""
    if variant == "none":
        return ""
    if variant in FIXED_VARIANTS:
        return FIXED if attention.is_judged else f"{FIXED}, {ALWAYS_KEPT}"
    always = attention.training in JUDGED_TRAININGS and attention.keep == "always"
    training = MEASURED if variant in MEASURED_VARIANTS else attention.training
    return training + f", {ALWAYS_KEPT}" * always


# As a run may have it: the default training, whether gates are kept in any case or only if they help.
DEFAULT_TRAININGS = [attention_title("se", AttentionConfig(keep=keep)) for keep in ("always", "if_better")]
_TRAINING_TITLES = {
    **{name: title + ", kept if they help" * (name in JUDGED_TRAININGS) for name, title in TRAININGS.items()},
    **{f"{name}, {ALWAYS_KEPT}": f"{TRAININGS[name]}, kept even if they do not help" for name in JUDGED_TRAININGS},
    MEASURED: "weights measured on normal places, kept if they help",
    FIXED: "nothing to train, kept if it helps",
    f"{FIXED}, {ALWAYS_KEPT}": "nothing to train, kept even if it does not help",
    f"{MEASURED}, {ALWAYS_KEPT}": "weights measured on normal places, kept even if they do not help",
}


def training_title(training: str) -> str:
    """An `attention_title` in plain words; one that is not known here as it is."""
    return _TRAINING_TITLES.get(training, training)


def differs_from_default(variant: Variant, attention: AttentionConfig) -> str:
    """How the blocks differ from the default ones: `before pool, reduction 4`; empty where they do not."""
    usual = AttentionConfig()
    parts = [] if attention.placement == usual.placement else [attention.placement.replace("_", " ")]
    parts += [f"reduction {attention.reduction}"] * (attention.reduction != usual.reduction)
    parts += [f"kernel {attention.kernel_size}"] * (variant == "cbam" and attention.kernel_size != usual.kernel_size)
    return "" if variant == "none" else ", ".join(parts)


def attention_choices(options: Options, gates_kept: bool = True, gates_judged: tuple[float, ...] = ()) -> str:
    """What the paper leaves open, as chosen here; shown with every map and result. gates: as of `Findings`."""
    attention = options.attention
    if options.variant == "none":
        return "no attention blocks"
    kernel = f", spatial kernel {attention.kernel_size}" if options.variant == "cbam" else ""
    no_bottleneck = ("eca", *MEASURED_VARIANTS, *FIXED_VARIANTS)
    width = "" if options.variant in no_bottleneck else f", reduction {attention.reduction}"
    # Weights over places stand behind the last map alone.
    place = "behind the last map" if options.variant in POOLING_VARIANTS else attention.placement.replace("_", " ")
    if options.method == "patchcore":
        place = "behind each feature map"
    training = TRAININGS[attention.training]
    if options.variant in FIXED_VARIANTS:
        training = FIXED
    elif options.variant in MEASURED_VARIANTS:
        training = "measured on normal places"
    if attention.training in JUDGED_TRAININGS and attention.keep == "always":
        training += f" and kept even if {'it does' if options.variant in FIXED_VARIANTS else 'they do'} not help"
    if not gates_kept:
        training += (
            ", left at 1 as that did not measurably help"
            if gates_judged
            else ", left at 1 as there were too few images to judge that"
        )
    if gates_judged:
        training += " (AUROC on synthetic defects {} % with, {} % without)".format(*map(percent, gates_judged))
    if options.variant == "places":
        return f"weights of places, {training}"
    return f"{short_title(options.variant)} {place}{width}{kernel}, {training}"


def bank_choices(options: Options, readout: str, n_places: int) -> str:
    """The same of PatchCore, whose bank holds n_places."""
    whitened = ", whitened" if options.patchcore.whitening else ""
    bank = f"{n_places:,} normal places{whitened}, {readout.replace('_', ' ')}"
    return f"{options.backbone} at {options.image_size} px, {bank}"


NOTES_OF_UNTRAINED: dict[Variant, str] = {
    "none": "DifferNet has no attention blocks: nothing is gated.",
    "simam": "The gates have no parameters: nothing is trained.",
    "rarity": "A place weighs the more, the rarer it is among places of normal images; nothing is trained.",
    "surprise": "A place weighs the more, the rarer it is among places of normal images, in units of what is usual "
    "there; nothing is trained.",
    "places": "A place weighs the less, the farther normal images lie from each other there; nothing is trained.",
}


def training_note(
    variant: Variant, attention: AttentionConfig, gates_kept: bool = True, gates_judged: bool = True
) -> str:
    """One sentence on what the gates can show. gates_judged: whether there were enough images to."""
    if not gates_kept:
        gates = "weights" if variant in MEASURED_VARIANTS else "gates"
        why = f"The {gates} did not measurably help to detect synthetic defects"
        if not gates_judged:
            why = f"There were too few images to judge the {gates}"
        return f"{why}, so {'all places weigh the same' if gates == 'weights' else 'they were left at 1'}."
    if variant in NOTES_OF_UNTRAINED:
        return NOTES_OF_UNTRAINED[variant]
    if attention.training == "untrained":
        return "The gates are untrained (random): their maps show nothing learned."
    if attention.training == "joint":
        return "The gates were trained for likelihood together with a flow, with frozen convolutions."
    return "The gates were trained on synthetic defects in training normals, with frozen convolutions."


def variant_title(variant: str) -> str:
    """`AttentDifferNet (SE)`, `PatchCore`; a baseline's own name."""
    return DETECTOR_TITLES.get(variant, variant)


def short_title(key: str) -> str:
    """`DifferNet`, `SE`, `CBAM`, `PatchCore (SE)`: where there is no room for more."""
    title = variant_title(key)
    block = title.removeprefix("AttentDifferNet (")
    return title if block == title else block.removesuffix(")")


ON_WHITE = "Its transparent parts were put on white."
OUTLINED = "Mark what exceeds normal images, and the highest place"
OWN_SCALE = "One scale per map"
OWN_SCALE_HELP = (
    "Each map from its own lowest to its own highest value: even a normal image glows, and maps cannot be compared."
)


def verdict_word(anomalous: bool) -> str:
    return "anomalous" if anomalous else "normal"


MOST_TIMES = 100  # of a threshold, as far as a multiple means anything to a reader


def times_text(score: float, threshold: float) -> str:
    """A score as a multiple of its threshold, on a bounded scale: `0.85 ×`, `3.2 ×`, `45 ×`, `over 100 ×`.

    A threshold that is not positive (possible with the read-out `likelihood`) has no multiples: `above` or `below`.
    """
    if threshold <= 0 or math.isnan(score):
        return "above" if score > threshold else "below"
    times = score / threshold
    if times > MOST_TIMES:
        return f"over {MOST_TIMES} ×"
    if times < 0.1:
        return "under 0.1 ×"
    if f"{times:.2f}" == "1.00":  # on which side it lies is the verdict
        return "just over 1 ×" if score > threshold else "just under 1 ×"
    return f"{float(f'{times:.2f}' if times < 2 else f'{times:.2g}'):g} ×"


def score_text(score: float, digits: int = 4) -> str:
    """`2.413`, `652,100`, and from a million on `2.043 × 10⁶`: scores have no upper limit. Infinity is `∞`."""
    if math.isinf(score):
        return "∞" if score > 0 else "-∞"
    rounded = float(f"{score:.{digits}g}")
    if math.isinf(rounded):  # the last ones before infinity, rounded up
        return score_text(rounded)
    if rounded and not 1e-4 <= abs(rounded) < 1e6:
        mantissa, power = f"{rounded:.{digits - 1}e}".split("e")
        raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"10{raised}" if float(mantissa) == 1 else f"{float(mantissa):g} × 10{raised}"
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"


FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def percent(share: float) -> str:
    """`97.3`"""
    return f"{100 * share:.1f}"


def without_formula(text: str) -> str:
    """A name from elsewhere in a CSV file: with an apostrophe before what a spreadsheet would run as a formula."""
    return "'" + text if _is_formula(text) else text


def with_formula(text: str) -> str:
    """The name that `without_formula` was given."""
    return text[1:] if text.startswith("'") and _is_formula(text[1:]) else text


def _is_formula(text: str) -> bool:
    """Also behind apostrophes that are part of the name: they could not be told from the one put before it."""
    return text.lstrip("'").startswith(FORMULA_STARTS)
