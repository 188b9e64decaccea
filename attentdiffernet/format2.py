"""Options as they were stored before format 3, in three parts (`model`, `training`, `scoring`) that also held findings.

Checkpoints of format 2 and the options beside older results are read by this; fingerprints of models still depend on
it, so that a list of scores goes on when its model is stored anew.
"""

from collections.abc import Collection
from typing import Any

from .errors import AttentDifferNetError
from .findings import Findings
from .options import ALEXNET, JUDGED_TRAININGS, AttentionConfig, Options

MODEL: dict[str, Any] = {
    "attention": {},
    "flow": {},
    "weights": "imagenet",
    "image_size": 448,
    "n_scales": 3,
    "feature_scale": 1.0,
    "resize": "squeeze",
    "exposure": "as_is",
    "views": "rotations",
    "readout": "z2_of_mean",
}
ATTENTION: dict[str, Any] = {
    "kind": "none",
    "placement": "after_pool",
    "reduction": 16,
    "kernel_size": 7,
    "training": "separation",
    "strength": 1.0,
    "judged": [],
}
TRAINING: dict[str, Any] = {
    "recipe": "fast",
    "epochs": 60,
    "views_per_image": 8,
    "batch_size": 96,
    "learning_rate": 5e-4,
    "betas": [0.8, 0.8],
    "eps": 1e-4,
    "weight_decay": 1e-5,
    "feature_noise": 0.1,
    "seed": 0,
    "data_seed": 0,
    "calibration_fraction": 0.2,
    "false_positive_rate": 0.05,
}
SCORING: dict[str, Any] = {"n_views": 16}
UNJUDGED = "_unjudged"  # ended the name of a training whose gates are always kept
CHOSEN = ("views", "resize", "exposure", "readout", "views_per_image", "n_views")  # by the rule, unless fixed


def options_and_findings(config: dict[str, Any]) -> tuple[Options, Findings]:
    """Of a checkpoint's config.json in any format. Raises KeyError for a missing part and AttentDifferNetError for
    unknown or wrong values."""
    if config["format"] == 2:
        return options_of(config), findings_of(config)
    return Options.from_dict(config["options"]), Findings.from_dict(config["findings"])


def options_of_run(record: dict[str, Any]) -> Options:
    """The options in a RUN.json, of this version or an older one. Raises KeyError or AttentDifferNetError."""
    if "options" in record:
        return Options.from_dict(record["options"])
    return options_of(record, record.get("fixed", CHOSEN))


def options_of(stored: dict[str, Any], fixed: Collection[str] = CHOSEN) -> Options:
    """The options of a mapping with `model`, `training` and `scoring`. fixed: which of CHOSEN were asked for; the
    others were left to the rule. A checkpoint of format 2 does not say, so all count as asked for.

    Raises KeyError for a missing part and AttentDifferNetError for unknown or wrong values.
    """
    model, attention, training, scoring = _parts(stored)
    name = attention["training"]
    blocks = {key: attention[key] for key in ("placement", "reduction", "kernel_size")}
    blocks["training"] = name.removesuffix(UNJUDGED) if isinstance(name, str) else name
    blocks["keep"] = "always" if str(name).endswith(UNJUDGED) else "if_better"
    values = {key: value for key, value in (model | training).items() if key not in ("feature_scale", "attention")}
    values |= {"variant": attention["kind"], "attention": blocks}
    values |= {"training_views": values.pop("views_per_image"), "scoring_views": scoring["n_views"]}
    renamed = {"views_per_image": "training_views", "n_views": "scoring_views"}
    values |= {renamed.get(key, key): None for key in CHOSEN if key not in fixed}
    return Options.from_dict(values)


def findings_of(stored: dict[str, Any]) -> Findings:
    """The findings of a checkpoint of format 2, which does not tell what they rest on. Errors as of `options_of`."""
    model, attention, training, scoring = _parts(stored)
    if attention["strength"] not in (0, 1):
        raise AttentDifferNetError(f"strength must be 0 or 1, got {attention['strength']!r}")
    return Findings.from_dict(
        {key: model[key] for key in ("views", "resize", "exposure", "readout", "feature_scale")}
        | {"training_views": training["views_per_image"], "scoring_views": scoring["n_views"]}
        | {"gates_kept": attention["strength"] == 1, "gates_judged": attention["judged"]}
    )


def _parts(stored: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(model, attention, training, scoring), with the defaults of what an older version did not store yet."""
    model = _with_defaults("model", stored["model"], MODEL)
    attention = _with_defaults("attention", model["attention"], ATTENTION)
    training = _with_defaults("training", stored["training"], TRAINING)
    return model, attention, training, _with_defaults("scoring", stored["scoring"], SCORING)


def _with_defaults(name: str, part: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise AttentDifferNetError(f"{name} must be a mapping of names to values, got {type(part).__name__}")
    if unknown := sorted(set(part) - set(defaults)):
        raise AttentDifferNetError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(defaults)}")
    return defaults | part


def model_of(options: Options, findings: Findings) -> dict[str, Any]:
    """What format 2 stored as `model`; the backbone where it is not AlexNet, which format 2 did not have."""
    other_backbone = {} if options.backbone == ALEXNET else {"backbone": options.backbone}
    return other_backbone | {
        "attention": {
            "kind": options.variant,
            "placement": options.attention.placement,
            "reduction": options.attention.reduction,
            "kernel_size": options.attention.kernel_size,
            "training": _training_of(options.attention),
            "strength": 1.0 if findings.gates_kept else 0.0,
            "judged": list(findings.gates_judged),
        },
        "flow": options.flow.to_dict(),
        "weights": options.weights,
        "image_size": options.image_size,
        "n_scales": options.n_scales,
        "feature_scale": findings.feature_scale,
        "resize": findings.resize,
        "exposure": findings.exposure,
        "views": findings.views,
        "readout": findings.readout,
    }


def _training_of(attention: AttentionConfig) -> str:
    kept = attention.training in JUDGED_TRAININGS and attention.keep == "always"
    return attention.training + UNJUDGED * kept
