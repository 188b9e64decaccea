"""`attentdiffernet evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import AttentDifferNetError, ImageError
from ..options import Readout
from ..words import score_text
from .console import bars
from .options import Cache, Category, Device, ModelDir, RunName, Views
from .runs import run_of
from .score import checked_views


def evaluate(
    model_dir: ModelDir,
    category: Category,
    out: Annotated[Path | None, typer.Option(help="Score file to write (CSV).", show_default=False)] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Results folder to add the run to, instead of --out.", show_default=False),
    ] = None,
    run: RunName = None,
    views: Views = None,
    readout: Annotated[
        Readout | None,
        typer.Option(help="Compute the score in another way than the model; z2 is DifferNet's.", show_default=False),
    ] = None,
    device: Device = "cpu",
    cache: Cache = True,
) -> None:
    """Score CATEGORY/test and print the AUROC with its 95 % interval.

    Example: attentdiffernet evaluate models/bottle-se data/mvtec_ad/bottle --out bottle-se.csv
    """
    import pandas as pd

    from ..category import InspectionDataset
    from ..features import default_cache
    from ..methods import load
    from ..study import statistics
    from ..study.records import append_run, score_path, write_scores

    if (out is None) == (results is None):
        raise AttentDifferNetError("evaluate needs either --out SCORES.csv or --results FOLDER")
    dataset = InspectionDataset(category)
    images = dataset.test
    detector = load(model_dir, device=device)
    n_views = checked_views(detector, views)
    if readout is not None:
        detector = detector.with_readout(readout)
    row = None
    if results is not None:
        row = run_of(detector, dataset.category, run, n_views)
        out = score_path(results, row.dataset, row.category, row.run)
    assert out is not None
    with bars() as progress:
        kept = default_cache() if cache else None
        verdicts = list(detector.inspect_all(images, n_views, cache=kept, progress=progress))
    if unreadable := [verdict.error for verdict in verdicts if verdict.error]:
        raise ImageError(unreadable[0])
    scores = [verdict.score for verdict in verdicts]
    labels = [image.label for image in images]
    frame = pd.DataFrame(
        {
            "image": [image.name for image in images],
            "defect": [image.defect for image in images],
            "label": labels,
            "score": scores,
        },
        dtype=object,  # write_scores rejects file names that are not valid text; pandas would fail on them first
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
        f"At the threshold {score_text(detector.calibration.threshold)} from training normals: "
        f"{point.tpr:.1%} of anomalous and {point.fpr:.1%} of normal images flagged"
    )
