"""`attentdiffernet`: train, evaluate, score and explain on any folder in the MVTec AD layout."""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from ..errors import AttentDifferNetError
from ..features import Progress, default_cache
from .datasets import app as datasets

if TYPE_CHECKING:
    from ..checkpoint import Detector
    from ..input_choice import Choice
    from ..study.records import Run

app = typer.Typer(
    help="Is this part anomalous, and where does the model look? DifferNet and its attention variants, trained on "
    "normal images only. Categories are folders in the MVTec AD layout: CATEGORY/train/good, CATEGORY/test/good, "
    "CATEGORY/test/DEFECT.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(datasets, name="datasets")

err = Console(stderr=True)


class Variant(StrEnum):
    none = "none"
    se = "se"
    cbam = "cbam"


class Placement(StrEnum):
    after_pool = "after_pool"
    before_pool = "before_pool"


class AttentionTraining(StrEnum):
    untrained = "untrained"
    joint = "joint"
    proxy = "proxy"
    separation = "separation"
    separation_unjudged = "separation_unjudged"


class FlowSize(StrEnum):
    compact = "compact"
    paper = "paper"


class RecipeName(StrEnum):
    fast = "fast"
    paper = "paper"


class Method(StrEnum):
    grad_cam = "grad-cam"
    attention = "attention"
    gradient = "gradient"
    spatial_gate = "spatial-gate"


class Arithmetic(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    auto = "auto"


class Format(StrEnum):
    csv = "csv"
    json = "json"


Category = Annotated[Path, typer.Argument(help="Folder of one category, ROOT/CATEGORY.", show_default=False)]
ModelDir = Annotated[
    str, typer.Argument(help="Folder of a trained model, or owner/name on the Hugging Face Hub.", show_default=False)
]
Device = Annotated[
    str, typer.Option(help="Where it runs: cpu, cuda, cuda:1, mps; auto takes a GPU where there is one.")
]
Cache = Annotated[bool, typer.Option("--cache/--no-cache", help="Keep features on disk and reuse them.")]


@app.command()
def train(
    category: Category,
    out: Annotated[Path, typer.Option(help="Folder to write the model to.", show_default=False)],
    variant: Annotated[Variant, typer.Option(help="Attention block: none is DifferNet.")] = Variant.none,
    recipe: Annotated[
        RecipeName,
        typer.Option(help="fast: features computed once. paper: DifferNet's own procedure, half a day on two cores."),
    ] = RecipeName.fast,
    weights: Annotated[
        str, typer.Option(help="Backbone: imagenet, bundled, random, or a .safetensors or .pth file.")
    ] = "imagenet",
    seed: Annotated[int, typer.Option(help="Flow and attention initialisation, order of rows.", min=0)] = 0,
    epochs: Annotated[int | None, typer.Option(help="Fixed in advance; default as configured.", min=1)] = None,
    view_kind: Annotated[
        str,
        typer.Option(help="rotations, quarter_turns, flips, dihedral, none; auto chooses on synthetic defects."),
    ] = "auto",
    resize: Annotated[
        str, typer.Option(help="squeeze to a square, or keep_aspect; auto chooses on synthetic defects.")
    ] = "auto",
    exposure: Annotated[
        str,
        typer.Option(help="as_is or standardised; auto: standardised where it varies over training normals."),
    ] = "auto",
    readout: Annotated[str, typer.Option(help="How scores are read off; auto chooses on synthetic defects.")] = "auto",
    train_views: Annotated[int | None, typer.Option(help="Copies of each training image.", min=1)] = None,
    views: Annotated[int | None, typer.Option(help="Copies of each scored image.", min=1)] = None,
    false_positive_rate: Annotated[float | None, typer.Option(help="Share of normals the threshold may flag.")] = None,
    flow: Annotated[
        FlowSize | None, typer.Option(help="Its size; paper: 172 M parameters. Default: the recipe's.")
    ] = None,
    placement: Annotated[Placement, typer.Option(help="Where attention blocks stand.")] = Placement.after_pool,
    reduction: Annotated[int, typer.Option(help="Bottleneck of the channel gates.", min=1)] = 16,
    kernel_size: Annotated[int, typer.Option(help="Of CBAM's spatial gate (odd).", min=1)] = 7,
    attention_training: Annotated[
        AttentionTraining,
        typer.Option(
            help="How gates learn on training normals before they are frozen: joint, with a flow; proxy, a head that "
            "sees pasted patches; separation, the score itself that sees synthetic defects, kept where the whole "
            "detector is better with it on others, or in any case (separation_unjudged)."
        ),
    ] = AttentionTraining.separation,
    description: Annotated[str, typer.Option(help="What the images show, for the model card.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the images, for the model card.")] = "",
    source: Annotated[str, typer.Option(help="Where the images come from, for the model card.")] = "",
    device: Device = "cpu",
    cache: Cache = True,
) -> None:
    """Train on CATEGORY/train/good and set the threshold on normals held out from it.

    Example: attentdiffernet train data/mvtec_ad/bottle --variant se --out models/bottle-se
    """
    from .. import checkpoint
    from .. import training as trainer
    from ..category import InspectionDataset
    from ..config import FLOW_SIZES, RECIPES, AttentionConfig, ModelConfig, ScoringConfig
    from ..datasets import CARDS, DatasetCard
    from ..input_choice import choose

    dataset = InspectionDataset(category)
    base = RECIPES[recipe.value]
    model_config = ModelConfig(
        attention=AttentionConfig(
            kind=variant.value,
            placement=placement.value,
            reduction=reduction,
            kernel_size=kernel_size,
            training=attention_training.value,
        ),
        # The size is asked for; whether features are whitened first is the recipe's.
        flow=dataclasses.replace(FLOW_SIZES[flow.value], whitening=base.flow.whitening) if flow else base.flow,
        weights=weights,
        # Until it is chosen, a kind that goes with the aspect; what was given is checked by the class.
        views=("flips" if resize == "keep_aspect" else "rotations") if view_kind == "auto" else view_kind,  # type: ignore[arg-type]
        resize="squeeze" if resize == "auto" else resize,  # type: ignore[arg-type]
        exposure="as_is" if exposure == "auto" else exposure,  # type: ignore[arg-type]
        readout=base.readout if readout == "auto" else readout,  # type: ignore[arg-type]
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
    fixed = {name for name, given in by_rule.items() if given != "auto"}
    fixed |= {name for name, n in (("views_per_image", train_views), ("n_views", views)) if n is not None}
    kept = default_cache() if cache else None
    with bars() as progress:
        if base.choose and not fixed >= by_rule.keys():
            choice = choose(dataset.train, model_config, config, kept, progress, fixed, device)
            model_config, config, scoring = choice.applied(model_config, config, scoring, fixed)
            err.print(_told(choice), highlight=False, markup=False, soft_wrap=True)
        detector = trainer.train(dataset.train, model_config, config, scoring, data, kept, progress, device=device)
    checkpoint.save(detector, out)
    calibration = detector.calibration
    _say(
        f"{detector.title} of {data.category}: {detector.data.n_fitted} normal images fitted, "
        f"{len(calibration.scores)} held out. Threshold {calibration.threshold:.4g}, flags at most "
        f"{calibration.false_positive_rate:.1%} of normal images on average. Written to {out}"
    )


@app.command()
def evaluate(
    model_dir: ModelDir,
    category: Category,
    out: Annotated[Path | None, typer.Option(help="Score file to write (CSV).", show_default=False)] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Instead of --out: a results folder, where the run gets its place and row.", show_default=False
        ),
    ] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run in the results folder.")] = None,
    views: Annotated[int | None, typer.Option(help="Views per image; default as the model was calibrated.")] = None,
    readout: Annotated[
        str | None, typer.Option(help="Another way to read off scores than the model's, e.g. z2, the published one.")
    ] = None,
    device: Device = "cpu",
    cache: Cache = True,
) -> None:
    """Score CATEGORY/test and print the AUROC with its 95 % interval.

    Example: attentdiffernet evaluate models/bottle-se data/mvtec_ad/bottle --out bottle-se.csv
    """
    import pandas as pd

    from .. import checkpoint, scoring
    from ..category import InspectionDataset
    from ..study import statistics
    from ..study.records import append_run, score_path, write_scores

    if (out is None) == (results is None):
        raise AttentDifferNetError("evaluate needs either --out SCORES.csv or --results FOLDER")
    dataset = InspectionDataset(category)
    images = dataset.test
    detector = checkpoint.load(model_dir, device=device)
    n_views = _views(detector, views)
    if readout is not None:
        detector.model.config = dataclasses.replace(detector.model.config, readout=readout)  # type: ignore[arg-type]
    row = None
    if results is not None:
        row = _run_of(detector, dataset.category, run, n_views)
        out = score_path(results, row.dataset, row.category, row.run)
    assert out is not None
    with bars() as progress:
        paths = [image.path for image in images]
        scores = list(
            scoring.score_images(detector.model, paths, n_views, default_cache() if cache else None, progress)
        )
    labels = [image.label for image in images]
    frame = pd.DataFrame(
        {
            "image": [image.name for image in images],
            "defect": [image.defect for image in images],
            "label": labels,
            "score": scores,
        },
        dtype=object,  # a file name that is no text is for write_scores to refuse, not for pandas
    )
    write_scores(out, frame)
    if results is not None and row is not None:
        append_run(results, row)
    interval = statistics.auroc_interval(labels, scores)
    typer.echo(
        f"AUROC {interval.auroc:.4f} (95 %: {interval.low:.4f} to {interval.high:.4f}, {interval.method}), "
        f"{interval.n_normal} normal and {interval.n_anomalous} anomalous images, {n_views} views"
    )
    if readout is not None:
        return  # the threshold was set for scores of the model's own readout
    point = statistics.operating_point(labels, scores, detector.calibration.threshold)
    typer.echo(
        f"At the threshold {detector.calibration.threshold:.4g} from training normals: "
        f"{point.tpr:.1%} of anomalous and {point.fpr:.1%} of normal images flagged"
    )


@app.command()
def score(
    model_dir: ModelDir,
    paths: Annotated[list[str], typer.Argument(help="Image files, folders or globs.", show_default=False)],
    format: Annotated[Format, typer.Option(help="csv, or json with one object per line.")] = Format.csv,
    out: Annotated[str, typer.Option(help="File to write or to continue, - for standard output.")] = "-",
    views: Annotated[int | None, typer.Option(help="Views per image; default as the model was calibrated.")] = None,
    until_settled: Annotated[
        bool,
        typer.Option(
            "--until-settled",
            help="As few views as each verdict needs; up to --views, by default 64, where it may change.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Score all images anew, whatever the file at --out holds.")
    ] = False,
    device: Device = "cpu",
    precision: Annotated[
        Arithmetic, typer.Option(help="Of the backbone; auto takes bfloat16 where this machine gains by it.")
    ] = Arithmetic.float32,
) -> None:
    """Score images: anomaly score, threshold and verdict, one line per image as it is ready.

    An image that cannot be read gets a line with the reason instead of a score, and the exit code is 1 at the end.
    Stopped in the middle, even killed, the same command goes on: scores in the file at --out stay, and only images that
    it lacks are scored, and those that could not be read. A file made with another model, precision or number of views
    is refused.
    Example: attentdiffernet score models/bottle-se photographs/ --out scores.csv
    """
    from .. import checkpoint
    from ..errors import ImageError
    from ..images import find_images
    from ..score_log import Made, open_log
    from ..scoring import MAX_VIEWS, faster_precision, score_files

    files = find_images(paths)
    detector = checkpoint.load(model_dir, device=device)
    calibration = detector.calibration
    n_views = (views or MAX_VIEWS) if until_settled else _views(detector, views)
    model = detector.model
    model.precision = faster_precision(model) if precision == Arithmetic.auto else precision.value  # type: ignore[assignment]
    made_with = detector.fingerprint + ("" if model.precision == "float32" else f"-{model.precision}")
    made = Made(calibration.threshold, -n_views if until_settled else n_views, made_with)
    failed = 0
    with open_log(out, format.value, made, overwrite) as log, bars() as progress:
        lacking = [file for file in files if log.lacks(file)]
        before = len(files) - len(lacking)
        if log.done:
            _say(f"{out} has the scores of {before} of {len(files)} images already; {len(lacking)} to go")
        progress("scoring", before, len(files))
        scores = score_files(model, lacking, n_views, calibration if until_settled else None)
        for done, (file, found) in enumerate(zip(lacking, scores, strict=True), before + 1):
            if isinstance(found, ImageError):
                log.add(file, None, None, str(found))
                failed += 1
            else:
                score = float(f"{found:.9g}")
                log.add(file, score, detector.is_anomalous(score), None)
            progress("scoring", done, len(files))
    if failed:
        _say(f"{failed} of {len(files)} files could not be read; see the column error")
        raise typer.Exit(1)


@app.command()
def explain(
    model_dir: ModelDir,
    image: Annotated[Path, typer.Argument(help="Image file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="PNG to write: the photograph with the map on it.", show_default=False)],
    method: Annotated[Method, typer.Option(help="Which map.")] = Method.grad_cam,
    raw: Annotated[Path | None, typer.Option(help="Also write the raw values (.npy, float32).")] = None,
    device: Device = "cpu",
) -> None:
    """Show where the model looks.

    Heat is measured against held-out normal images: what lies below their 99th percentile is not coloured, so that a
    normal image does not glow. Example: attentdiffernet explain models/bottle-se crack.png --out crack-map.png
    """
    import numpy as np
    from PIL import Image

    from .. import checkpoint
    from ..explain import explain as make_map
    from ..explain import methods_of, relative_heat, what_it_shows
    from ..figures.overlay import overlay
    from ..images import read_image

    if out.suffix.lower() != ".png":
        raise AttentDifferNetError(f"The map is written as PNG; --out must end in .png, got {out}")
    pixels = read_image(image)
    detector = checkpoint.load(model_dir, device=device)
    if method.value not in methods_of(detector.model.config):
        raise AttentDifferNetError(
            f"{detector.title} has no {method.value} map; it has {', '.join(methods_of(detector.model.config))}"
        )
    values = make_map(detector.model, detector.model.prepare(pixels), method.value)
    heat, (vmin, vmax) = relative_heat({"": values}, {"": detector.map_reference(method.value)})
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(overlay(pixels, heat[""], vmin, vmax)).save(out)
    if raw is not None:
        np.save(raw, values)
    typer.echo(what_it_shows(method.value, detector.model.config))
    typer.echo(
        f"Highest value: {float(values.max()) / detector.map_reference(method.value):.3g} times the 99th "
        f"percentile of held-out normals. Written to {out}"
    )


@app.command()
def localise(
    model_dir: ModelDir,
    category: Category,
    results: Annotated[Path, typer.Option(help="Results folder to write to.")] = Path("results"),
    run: Annotated[str | None, typer.Option(help="Name of the run, as evaluate has it.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first images of each defect, by name; default: all.", min=1)
    ] = None,
    device: Device = "cpu",
) -> None:
    """Measure whether maps look at the defect: their energy and their maximum on masks, against chance.

    Takes the anomalous images with a mask CATEGORY/ground_truth/DEFECT/NAME_mask.png and, where it is there, the mask
    CATEGORY/objects/DEFECT/NAME_mask.png of the whole part. Writes RESULTS/maps/DATASET/CATEGORY/RUN.csv and compares
    with DifferNet where that is measured. Example: attentdiffernet localise models/bottle-se data/mvtec_ad/bottle
    """
    import pandas as pd

    from .. import checkpoint
    from ..category import InspectionDataset
    from ..explain import images_with_masks, measure_maps
    from ..study.formats import energy_difference_text, energy_text, hit_difference_text, hit_text
    from ..study.maps import summary_of_maps
    from ..study.records import map_path, write_maps

    dataset = InspectionDataset(category)
    images = images_with_masks(dataset, limit)
    detector = checkpoint.load(model_dir, device=device)
    row = _run_of(detector, dataset.category, run, detector.calibration.n_views)
    map_path(results, row.dataset, row.category, row.run)  # a bad name is told before the work
    rows: list[dict[str, object]] = []
    with bars() as progress:
        progress("maps", 0, len(images))
        for done, found in enumerate(measure_maps(detector, dataset, images), 1):
            rows += found
            progress("maps", done, len(images))
    frame = pd.DataFrame(rows, dtype=object)  # a file name that is no text is for write_maps to refuse
    out = write_maps(results, row, frame.assign(empty=frame["empty"].astype(int)))
    without = sum(image.label for image in dataset.test) - len(images_with_masks(dataset))
    if without:
        _say(f"{without} anomalous images have no mask and were left out")
    summary = summary_of_maps(results, f"{row.dataset}/{row.category}")
    for line in summary[summary["run"] == row.run].to_dict("records"):
        typer.echo(
            f"{line['method']} ({line['map']}) on the {line['target']}: energy {energy_text(line)} times chance, "
            f"maximum {hit_text(line)}, chance {line['chance']:.1%}"
            + (f", {line['n_empty']} of {line['n_images']} maps all zero" if line["n_empty"] else "")
            + (
                f"; against {line['against']} {energy_difference_text(line)}, {hit_difference_text(line)}"
                if line["n_paired"]
                else ""
            )
        )
    typer.echo(f"{len(images)} images, 95 % intervals over images. Written to {out}")


@app.command()
def summarise(
    results: Annotated[Path, typer.Argument(help="Results folder, with scores/DATASET/CATEGORY/RUN.csv.")],
) -> None:
    """Rebuild summary.csv, AUROC and interval per run, from the score files alone.

    Example: attentdiffernet summarise results
    """
    from ..study.records import summarise as rebuild

    summary = rebuild(results)
    typer.echo(f"{len(summary)} runs summarised in {results / 'summary.csv'}")
    typer.echo(summary.to_string(index=False, float_format=lambda value: f"{value:.4f}"))


@app.command()
def grid(
    file: Annotated[Path, typer.Argument(help="TOML file: categories, variants, weights, seeds.", show_default=False)],
    category: Annotated[
        list[str] | None,
        typer.Option(help="DATASET/CATEGORY instead of the file's; may be given several times.", show_default=False),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Runs at once; cores are shared among them. Default: one per two cores.", min=1)
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster to run on instead of this machine.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the runs that would be made.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Run anew what the results hold with other options.")
    ] = False,
) -> None:
    """Train and score every category x variant x weights x seed of a TOML file, into a results folder.

    What is done is skipped; stopped in the middle, even killed, the same command goes on. A run that fails is told at
    the end, the others go on, and the exit code is 1. Example: attentdiffernet grid grids/sample.toml --jobs 4
    """
    from ..grid import Outcome, Task, local_processes, ray_cluster, read_grid, run_grid, share_cores, split_done
    from ..study.records import summarise as rebuild
    from ..study.statistics import auroc

    tasks = read_grid(file, categories=category or ())
    done, other, to_do = split_done(tasks)
    if other and not (overwrite or dry_run):
        raise AttentDifferNetError(
            f"{len(other)} runs are in the results with other options, {other[0].run} for one. Give this grid a tag of "
            f"its own, which ends its runs' names, or run them anew with --overwrite"
        )
    to_do = [task for task in tasks if task in to_do or task in other]
    typer.echo(f"{len(done)} of {len(tasks)} runs are done, {len(to_do)} to do")
    if dry_run:
        for task in to_do:
            typer.echo(task.run + (" (there with other options: needs --overwrite)" if task in other else ""))
        return
    failed: dict[str, Outcome] = {}
    if to_do:
        with ray_cluster(ray) if ray else local_processes(*share_cores(len(to_do), jobs)) as engine, bars() as progress:
            ended = 0

            def report(task: Task, outcome: Outcome) -> None:
                nonlocal ended
                ended += 1
                if outcome.scores is not None:
                    labels, scores = zip(*(row[2:] for row in outcome.scores), strict=True)
                    typer.echo(f"{task.run}: AUROC {auroc(labels, scores):.4f}")
                if outcome.best_scores is not None:
                    labels, scores = zip(*(row[2:] for row in outcome.best_scores), strict=True)
                    best = f"after epoch {outcome.best_epoch}, the best on test of those looked at"
                    typer.echo(f"{task.best_run}: AUROC {auroc(labels, scores):.4f} {best}")
                progress("runs", ended, len(to_do))

            progress("runs", 0, len(to_do))
            failed = run_grid(to_do, engine, _commit(), report)
    for folder in dict.fromkeys(task.results for task in tasks):
        rebuild(folder)
    for name, outcome in failed.items():
        if outcome.details:
            _say(outcome.details.rstrip())
        _say(f"{name} failed: {outcome.error}")
    if failed:
        _say(f"{len(failed)} of {len(to_do)} runs failed; the same command tries them again")
        raise typer.Exit(1)


def _run_of(detector: "Detector", category: str, name: str | None, n_views: int) -> "Run":
    """The row of a run that is made with this model, under this or its usual name."""
    from ..study.records import LAST, Run

    config = detector.model.config
    usual = (
        f"{detector.data.dataset}-{category}-{detector.variant}-{Path(config.weights).stem}-s{detector.training.seed}"
    )
    return Run(
        run=name or usual,
        dataset=detector.data.dataset,
        category=category,
        variant=detector.variant,
        seed=detector.training.seed,
        backbone=config.weights,
        attention_training="" if detector.variant == "none" else config.attention.training,
        epochs=detector.training.epochs,
        selection=LAST,
        n_views=n_views,
        commit=_commit(),
        source="measured by this project",
        views=config.input_title,
        readout=config.readout,
        blocks=config.attention.unusual,
    )


def _told(choice: "Choice") -> str:
    """What was chosen, and on what figures."""
    from ..words import input_title

    def table(rates: dict[str, float]) -> str:
        return ", ".join(f"{name} {100 * rate:.1f}" for name, rate in sorted(rates.items(), key=lambda x: -x[1]))

    seen = input_title(choice.views, choice.resize, choice.exposure)
    lines = [f"Views: {seen}; {choice.n_views} in scoring, {choice.training_views} in training"]
    if choice.by_input:
        rates = {input_title(*of): rate for of, rate in choice.by_input.items()}
        lines[0] += f" (AUROC of synthetic defects: {table(rates)})"
    lines[0] += f"; exposure varies by {choice.exposure_varies:.0%} from image to image"
    if choice.handed is not None:
        lines[0] += f"; mirrored normals are told with AUROC {100 * choice.handed:.1f}"
    lines.append(f"Readout: {choice.readout}" + (f" ({table(choice.by_readout)})" if choice.by_readout else ""))
    return "\n".join(lines)


def _views(detector: "Detector", asked: int | None) -> int:
    """As many views as the threshold was set for, unless asked otherwise: then a warning, for it fits no longer."""
    from ..config import ScoringConfig
    from ..views import possible_views

    calibrated = detector.calibration.n_views
    if asked is None:
        return calibrated
    n_views = possible_views(detector.model.config.views, ScoringConfig(asked).n_views)
    if n_views != calibrated:
        _say(f"The threshold was set for scores of {calibrated} views, not {n_views}: take verdicts with care")
    return n_views


def _say(text: str) -> None:
    """One line on standard error; the text may hold a file name such as a[b].png, which is no markup."""
    err.print(text, markup=False, highlight=False, soft_wrap=True)


SECONDS_BETWEEN_LINES = 30.0  # of progress where there is no terminal for a bar


class Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.3g}/s" if task.speed else "", style="progress.data.speed")


@contextmanager
def bars() -> Iterator[Progress]:
    """One progress bar per stage, on standard error; where that is no terminal, a plain line now and then."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Bars(*columns, console=err, disable=not err.is_terminal) as shown:
        tasks: dict[str, Any] = {}
        began: dict[str, tuple[float, int]] = {}
        spoke = time.monotonic()

        def progress(stage: str, done: int, total: int) -> None:
            nonlocal spoke
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=total)
                began[stage] = time.monotonic(), done
            shown.update(tasks[stage], completed=done, total=total)
            now = time.monotonic()
            if not err.is_terminal and now - spoke >= SECONDS_BETWEEN_LINES:
                spoke = now
                _say(f"{stage}: {done} of {total}" + _pace(done - began[stage][1], total - done, now - began[stage][0]))

        yield progress


def _pace(done: int, left: int, seconds: float) -> str:
    """`, 35.2/s, 0:46:10 left`; empty before anything is done."""
    if done < 1 or seconds <= 0:
        return ""
    return f", {done / seconds:.3g}/s, {timedelta(seconds=round(left * seconds / done))} left"


def _commit() -> str:
    """The short commit of this code where it lies in a git checkout, with + when it was changed since; else empty."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def main() -> None:
    """Entry point: what a user can mend becomes one sentence and exit code 2, without a traceback."""
    try:
        app()
    except (OSError, ValueError) as error:  # AttentDifferNetError is a ValueError
        # The message may hold a file name such as a[b].png, which is no markup; it stays on one line.
        err.print("[bold red]Error:[/]", escape(str(error)), highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("Stopped.")
        sys.exit(130)
