"""`attentdiffernet train`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..config import (
    FLOW_SIZES,
    RECIPES,
    Attention,
    AttentionConfig,
    AttentionTraining,
    Exposure,
    ModelConfig,
    Readout,
    Resize,
    ScoringConfig,
    ViewKind,
)
from ..words import input_title, score_text
from .console import bars, say
from .options import Cache, Category, Device

if TYPE_CHECKING:
    from ..input_choice import Choice

CHOSEN = "Default: chosen on synthetic defects."


def train(
    category: Category,
    out: Annotated[Path, typer.Option(help="Folder to write the model to.", show_default=False)],
    variant: Annotated[Attention, typer.Option(help="Attention block; none is DifferNet.")] = "none",
    recipe: Annotated[
        Literal["fast", "paper"],
        typer.Option(
            help="fast computes the features of the backbone once. paper is DifferNet's procedure: half a day on two "
            "cores."
        ),
    ] = "fast",
    weights: Annotated[
        str, typer.Option(help="Backbone: imagenet, bundled, random, or a .safetensors or .pth file.")
    ] = "imagenet",
    seed: Annotated[int, typer.Option(help="Seed of initialisation and of the order of training.", min=0)] = 0,
    epochs: Annotated[
        int | None, typer.Option(help="Number of epochs. Default: the recipe's.", min=1, show_default=False)
    ] = None,
    view_kind: Annotated[
        Literal[ViewKind, "auto"], typer.Option(help=f"How an image is varied. {CHOSEN}", show_default=False)
    ] = "auto",
    resize: Annotated[
        Literal[Resize, "auto"],
        typer.Option(help=f"Squeeze images to a square, or keep their aspect. {CHOSEN}", show_default=False),
    ] = "auto",
    exposure: Annotated[
        Literal[Exposure, "auto"],
        typer.Option(
            help="Keep exposure or standardise it. Default: standardise if it varies over normal images.",
            show_default=False,
        ),
    ] = "auto",
    readout: Annotated[
        Literal[Readout, "auto"], typer.Option(help=f"How the score is computed. {CHOSEN}", show_default=False)
    ] = "auto",
    train_views: Annotated[
        int | None, typer.Option(help="Views per training image.", min=1, show_default=False)
    ] = None,
    views: Annotated[int | None, typer.Option(help="Views per scored image.", min=1, show_default=False)] = None,
    false_positive_rate: Annotated[
        float | None,
        typer.Option(help="Share of normal images that the threshold may flag. Default: 0.05.", show_default=False),
    ] = None,
    flow: Annotated[
        Literal["compact", "paper"] | None,
        typer.Option(
            help="Size of the flow: 0.6 or 172 million parameters. Default: the recipe's.", show_default=False
        ),
    ] = None,
    placement: Annotated[
        Literal["after_pool", "before_pool"], typer.Option(help="Where attention blocks stand.")
    ] = "after_pool",
    reduction: Annotated[int, typer.Option(help="Reduction of the channel gate's bottleneck.", min=1)] = 16,
    kernel_size: Annotated[int, typer.Option(help="Kernel size of CBAM's spatial gate (odd).", min=1)] = 7,
    attention_training: Annotated[
        AttentionTraining,
        typer.Option(
            help="How gates are trained on normal images before they are frozen. joint: together with a flow. proxy: "
            "with a classifier of pasted patches. separation: to separate synthetic defects by the score; the gates "
            "are kept only if they measurably help. separation_unjudged: as separation, always kept."
        ),
    ] = "separation",
    description: Annotated[str, typer.Option(help="What the images show, for the model card.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the images, for the model card.")] = "",
    source: Annotated[str, typer.Option(help="Where the images come from, for the model card.")] = "",
    device: Device = "cpu",
    cache: Cache = True,
) -> None:
    """Train on CATEGORY/train/good and set the threshold on normal images held out from it.

    Example: attentdiffernet train data/mvtec_ad/bottle --variant se --out models/bottle-se
    """
    from .. import checkpoint
    from .. import training as trainer
    from ..category import InspectionDataset
    from ..datasets import CARDS, DatasetCard
    from ..features import default_cache
    from ..input_choice import choose

    dataset = InspectionDataset(category)
    base = RECIPES[recipe]
    model_config = ModelConfig(
        attention=AttentionConfig(
            kind=variant,
            placement=placement,
            reduction=reduction,
            kernel_size=kernel_size,
            training=attention_training,
        ),
        # The option sets the size only; whether features are whitened first is part of the recipe.
        flow=dataclasses.replace(FLOW_SIZES[flow], whitening=base.flow.whitening) if flow else base.flow,
        weights=weights,
        # Until the views are chosen: a kind that goes with the aspect.
        views=("flips" if resize == "keep_aspect" else "rotations") if view_kind == "auto" else view_kind,
        resize="squeeze" if resize == "auto" else resize,
        exposure="as_is" if exposure == "auto" else exposure,
        readout=base.readout if readout == "auto" else readout,
    )
    asked: dict[str, Any] = {
        "epochs": epochs,
        "views_per_image": train_views,
        "false_positive_rate": false_positive_rate,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    config = dataclasses.replace(base.training, seed=seed, **given)
    scoring = base.scoring if views is None else ScoringConfig(n_views=views)
    known = CARDS.get(dataset.dataset, DatasetCard("", "", "", ""))
    data = checkpoint.DataCard(
        dataset=dataset.dataset,
        category=dataset.category,
        description=description or known.description,
        licence=licence or known.licence,
        source=source or known.source,
    )
    checkpoint.check_folder(out)
    by_rule = {"views": view_kind, "resize": resize, "exposure": exposure, "readout": readout}
    fixed = {name for name, value in by_rule.items() if value != "auto"}
    fixed |= {name for name, n in (("views_per_image", train_views), ("n_views", views)) if n is not None}
    kept = default_cache() if cache else None
    with bars() as progress:
        if base.choose and not fixed >= by_rule.keys():
            choice = choose(dataset.train, model_config, config, kept, progress, fixed, device)
            model_config, config, scoring = choice.applied(model_config, config, scoring, fixed)
            say(_choice_text(choice))
        detector = trainer.train(dataset.train, model_config, config, scoring, data, kept, progress, device=device)
    checkpoint.save(detector, out)
    calibration = detector.calibration
    say(
        f"{detector.title} of {data.category}: {detector.data.n_fitted} normal images fitted, "
        f"{len(calibration.scores)} held out. Threshold {score_text(calibration.threshold)}, flags at most "
        f"{calibration.false_positive_rate:.1%} of normal images on average. Written to {out}"
    )


def _choice_text(choice: "Choice") -> str:
    """What was chosen, with the measurements it rests on."""

    def table(rates: dict[str, float]) -> str:
        return ", ".join(f"{name} {100 * rate:.1f}" for name, rate in sorted(rates.items(), key=lambda x: -x[1]))

    seen = input_title(choice.views, choice.resize, choice.exposure)
    lines = [f"Views: {seen}; {choice.n_views} in scoring, {choice.training_views} in training"]
    if choice.by_input:
        rates = {input_title(*of): rate for of, rate in choice.by_input.items()}
        lines[0] += f" (AUROC of synthetic defects: {table(rates)})"
    lines[0] += f"; exposure varies by {choice.exposure_varies:.0%} from image to image"
    if choice.handed is not None:
        lines[0] += f"; AUROC of mirrored normal images {100 * choice.handed:.1f}"
    lines.append(f"Readout: {choice.readout}" + (f" ({table(choice.by_readout)})" if choice.by_readout else ""))
    return "\n".join(lines)
