"""`attentdiffernet train`."""

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import AttentDifferNetError
from ..findings import Findings
from ..options import (
    DEFAULT_VARIANTS,
    FLOW_SIZES,
    PATCHCORE_READOUTS,
    PATCHCORE_VARIANTS,
    AttentionConfig,
    AttentionTraining,
    Exposure,
    Keep,
    MethodName,
    Options,
    Placement,
    Readout,
    Recipe,
    Resize,
    Variant,
    ViewKind,
)
from ..words import input_title, percent, score_text
from .console import overall, say
from .help import one_of
from .options import CACHE_HELP, DEVICE_HELP

if TYPE_CHECKING:
    from ..detector import Detector

VIEWS, ATTENTION, ADVANCED = "Views and read-out", "Attention", "Advanced"  # of --help
CHOSEN = "Default: chosen on synthetic defects."


N_STAGES_OF_CHOICE = 4  # views, PatchCore's features and places, and the method
# Whoever gives one of these means a certain method. The help of --method names their options.
OF_ONE_METHOD = ("views", "readout", "training_views", "scoring_views", "epochs", "backbone", "flow")


def train(
    category: Annotated[
        Path,
        typer.Argument(help="Folder of one category, ROOT/CATEGORY, or of photographs.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the model to.", show_default=False)],
    method: Annotated[
        Literal[MethodName, "auto"],
        typer.Option(
            metavar="METHOD",
            help="differnet scores an image as a whole, patchcore its places. Default: chosen on synthetic defects. If "
            "you set --variant, --recipe, --weights, --backbone, --view-kind, --train-views, --views, --epochs or "
            "--flow, it is differnet; if you set --readout or --variant places, the method that has it.",
            show_default=False,
        ),
    ] = "auto",
    variant: Annotated[
        Literal[Variant, "auto"],
        typer.Option(
            metavar="BLOCK",
            help=f"Attention: {one_of(Variant)}. PatchCore has {', '.join(PATCHCORE_VARIANTS)}; its default is places, "
            "DifferNet's none.",
            show_default=False,
        ),
    ] = "auto",
    recipe: Annotated[
        Recipe,
        typer.Option(
            help="fast computes the features of the backbone once. paper is DifferNet's procedure: hours on two cores."
        ),
    ] = "fast",
    false_positive_rate: Annotated[
        float | None,
        typer.Option(help="Share of normal images that the threshold may flag. Default: 0.05.", show_default=False),
    ] = None,
    value_range: Annotated[
        float | None,
        typer.Option(
            help="Grey value shown as white, for files of more than 8 bits: 4095 for 12. Default: by the images.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of initialisation and of the order of training.", min=0)] = 0,
    view_kind: Annotated[
        Literal[ViewKind, "auto"],
        typer.Option(
            rich_help_panel=VIEWS,
            metavar="KIND",
            help=f"How an image is varied: {one_of(ViewKind)}. {CHOSEN}",
            show_default=False,
        ),
    ] = "auto",
    resize: Annotated[
        Literal[Resize, "auto"],
        typer.Option(
            rich_help_panel=VIEWS,
            metavar="HOW",
            help=f"squeeze to a square, or keep_aspect. {CHOSEN}",
            show_default=False,
        ),
    ] = "auto",
    exposure: Annotated[
        Literal[Exposure, "auto"],
        typer.Option(
            rich_help_panel=VIEWS,
            metavar="HOW",
            help="as_is or standardised. Default: standardised if exposure varies over normal images.",
            show_default=False,
        ),
    ] = "auto",
    readout: Annotated[
        Literal[Readout, "auto"],
        typer.Option(
            rich_help_panel=VIEWS,
            metavar="NAME",
            help=f"How the score is computed: {one_of(Readout)}. {CHOSEN}",
            show_default=False,
        ),
    ] = "auto",
    train_views: Annotated[
        int | None, typer.Option(rich_help_panel=VIEWS, help="Views per training image.", min=1, show_default=False)
    ] = None,
    views: Annotated[
        int | None, typer.Option(rich_help_panel=VIEWS, help="Views per scored image.", min=1, show_default=False)
    ] = None,
    placement: Annotated[
        Placement,
        typer.Option(
            rich_help_panel=ATTENTION, metavar="PLACE", help=f"Where attention blocks stand: {one_of(Placement)}."
        ),
    ] = "after_pool",
    reduction: Annotated[
        int, typer.Option(rich_help_panel=ATTENTION, help="Reduction of the channel gate's bottleneck.", min=1)
    ] = 16,
    kernel_size: Annotated[
        int, typer.Option(rich_help_panel=ATTENTION, help="Kernel size of CBAM's spatial gate (odd).", min=1)
    ] = 7,
    attention_training: Annotated[
        AttentionTraining,
        typer.Option(
            rich_help_panel=ATTENTION,
            metavar="KIND",
            help="How gates are trained on normal images before they are frozen. joint: together with a flow. proxy: "
            "with a classifier of pasted patches. separation: to separate synthetic defects by the score. structure: "
            "the same with defects that add nothing foreign. untrained: not at all.",
        ),
    ] = "separation",
    keep_gates: Annotated[
        Keep,
        typer.Option(
            rich_help_panel=ATTENTION,
            help="Keep gates trained by separation or structure only if they measurably help, or always.",
        ),
    ] = "if_better",
    backbone: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=ADVANCED,
            help="alexnet or a network of timm, by name. Default: alexnet, for patchcore tf_efficientnet_lite0.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            rich_help_panel=ADVANCED, help="Of the backbone: imagenet, bundled, random, or a .safetensors or .pth file."
        ),
    ] = "imagenet",
    epochs: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=ADVANCED, help="Number of epochs. Default: the recipe's.", min=1, show_default=False
        ),
    ] = None,
    flow: Annotated[
        Literal["compact", "paper"] | None,
        typer.Option(
            rich_help_panel=ADVANCED,
            help="Size of the flow: 0.6 or 172 million parameters. Default: the recipe's.",
            show_default=False,
        ),
    ] = None,
    description: Annotated[
        str, typer.Option(rich_help_panel=ADVANCED, help="What the images show, for the model card.")
    ] = "",
    licence: Annotated[
        str, typer.Option(rich_help_panel=ADVANCED, help="Licence of the images, for the model card.")
    ] = "",
    source: Annotated[
        str, typer.Option(rich_help_panel=ADVANCED, help="Where the images come from, for the model card.")
    ] = "",
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help=CACHE_HELP, rich_help_panel=ADVANCED)] = True,
) -> None:
    """Train on CATEGORY/train/good, or on a folder of photographs of good parts, and set the threshold on them.

    Example: attentdiffernet train data/mvtec_ad/bottle --variant se --out models/bottle-se
    """
    from ..card import DataCard
    from ..category import InspectionDataset
    from ..checkpoint import check_folder
    from ..features import default_cache
    from ..method_choice import choose_method
    from ..methods import fit

    dataset = InspectionDataset(category)
    attention = AttentionConfig(placement, reduction, kernel_size, attention_training, keep_gates)
    if variant == "auto" and attention != AttentionConfig():
        raise AttentDifferNetError("Options of attention blocks need the kind of block: add --variant, such as se")
    inputs = {"views": view_kind, "resize": resize, "exposure": exposure, "readout": readout}
    numbers = {"training_views": train_views, "scoring_views": views, "epochs": epochs}
    given: dict[str, Any] = {name: value for name, value in inputs.items() if value != "auto"} | numbers
    given |= {"backbone": backbone, "value_range": value_range}
    if false_positive_rate is not None:
        given["false_positive_rate"] = false_positive_rate
    if flow is not None:  # sets the size only; whether features are whitened first is part of the recipe
        given["flow"] = dataclasses.replace(FLOW_SIZES[flow], whitening=recipe == "fast")
    usual = (variant, recipe, weights) == ("auto", "fast", "imagenet")
    by_rule = method == "auto" and usual and not any(given.get(name) for name in OF_ONE_METHOD)
    method, variant = _method_and_variant(method, variant, readout)
    options = Options(variant, recipe, method, attention=attention, weights=weights, seed=seed, **given)
    data = DataCard.of(dataset, description, licence, source)
    check_folder(out)
    with overall() as progress:
        kept = default_cache() if cache else None
        findings = None
        if by_rule:
            progress.expect(N_STAGES_OF_CHOICE)
            options, findings = choose_method(dataset.train, options, kept, progress, device)
        progress.expect(n_stages(options, len(dataset.train), chosen=findings is not None))
        detector = fit(
            dataset.train, options, data=data, cache=kept, progress=progress, device=device, findings=findings
        )
    out = _saved(detector, out)
    if by_rule or options.leaves_a_choice:
        say(_choice_text(detector.findings))
    calibration = detector.calibration
    how = "scored by cross-validation" if calibration.cross_validated else "held out"
    say(
        f"{detector.title} of {data.category}: {detector.data.n_fitted} normal images fitted, "
        f"{len(calibration.scores)} {how}. Threshold {score_text(calibration.threshold)}, flags at most "
        f"{percent(calibration.false_positive_rate)} % of normal images on average. Written to {out}"
    )


def _saved(detector: "Detector", out: Path) -> Path:
    """Where the detector was written: `out`, or a new temporary folder where `out` takes nothing any more. Hours of
    training are not lost to a full disk."""
    from ..errors import CheckpointError

    try:
        return detector.save(out)
    except CheckpointError as error:
        other = Path(tempfile.mkdtemp(prefix="attentdiffernet-")) / out.name
        say(f"{error}. The model is kept in {other} instead: move it")
        return detector.save(other)


def _method_and_variant(
    method: Literal[MethodName, "auto"], variant: Literal[Variant, "auto"], readout: Literal[Readout, "auto"]
) -> tuple[MethodName, Variant]:
    """What is trained where the rule is not asked: the method that has what is asked for, with its own default."""
    if method == "auto":
        method = "patchcore" if readout in PATCHCORE_READOUTS or variant == "places" else "differnet"
    if variant == "auto":  # weights of places do not go with the reweighting
        variant = "none" if readout == "reweighted" else DEFAULT_VARIANTS[method]
    return method, variant


def n_stages(options: Options, n_images: int, chosen: bool) -> int:
    """How many stages a training tells of at least. chosen: the input and the read-out are known already."""
    from ..cross_calibration import cross_calibrates

    choice = options.leaves_a_choice and not chosen
    if options.method == "patchcore":  # features, places, calibration
        return 3 + options.trains_attention * 2 + options.judges_gates
    if options.recipe == "paper":
        return choice + 3  # the flow with its attention, features and maps of held-out normals
    attention = options.trains_attention + options.judges_gates
    folds = not options.trains_attention and cross_calibrates(n_images, options)
    return choice + attention + folds + 4  # features, the flow, features and maps of held-out normals


def _choice_text(found: Findings) -> str:
    """What was chosen, with the measurements it rests on."""

    def table(rates: dict[str, float]) -> str:
        return ", ".join(f"{name} {100 * rate:.1f}" for name, rate in sorted(rates.items(), key=lambda x: -x[1]))

    seen = input_title(found.views, found.resize, found.exposure)
    views = f"Views: {seen}; {found.scoring_views} in scoring, {found.training_views} in training"
    if found.by_input:
        views += f" (AUROC of synthetic defects: {table(found.by_input)})"
    if found.exposure_varies is not None:
        views += f"; exposure varies by {100 * found.exposure_varies:.0f} % from image to image"
    if found.mirror_auroc is not None:
        views += f"; AUROC of mirrored normal images {100 * found.mirror_auroc:.1f}"
    if found.turn_auroc is not None:
        views += f"; AUROC of normal images turned by 45° {100 * found.turn_auroc:.1f}"
    views += f"; grey values 0 to {found.value_range:g}" if found.value_range else ""
    lines = [f"Method: AUROC of synthetic defects {table(found.by_method)}"] * bool(found.by_method) + [views]
    lines.append(f"Read-out: {found.readout}" + (f" ({table(found.by_readout)})" if found.by_readout else ""))
    return "\n".join(lines)
