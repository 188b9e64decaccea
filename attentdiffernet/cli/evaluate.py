"""`attentdiffernet evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import AttentDifferNetError, ImageError
from ..options import Readout
from ..words import score_text
from .console import bars
from .options import Cache, Category, Device, FalseAlarmRate, ModelDir, RunName, Threshold, Views
from .runs import run_of
from .score import checked_views, with_threshold


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
    threshold: Threshold = None,
    false_alarm_rate: FalseAlarmRate = None,
    device: Device = "cpu",
    cache: Cache = True,
) -> None:
    """Score CATEGORY/test and print the AUROC with its 95 % interval.

    Without normal images in test/good, or without anomalous ones, it writes the scores to --out and prints how many
    images the threshold flags.

    Example: attentdiffernet evaluate models/bottle-se data/mvtec_ad/bottle --out bottle-se.csv
    """
    import pandas as pd

    from ..category import InspectionDataset
    from ..features import default_cache
    from ..methods import load
    from ..study.records import append_run, score_path, write_scores

    if (out is None) == (results is None):
        raise AttentDifferNetError("evaluate needs either --out SCORES.csv or --results FOLDER")
    dataset = InspectionDataset(category)
    images = dataset.test if results is None else dataset.test_of_both_kinds()
    if readout is not None and (threshold, false_alarm_rate) != (None, None):
        raise AttentDifferNetError("A threshold applies to scores of the model's own read-out: leave out --readout")
    detector = with_threshold(load(model_dir, device=device), threshold, false_alarm_rate)
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
    typer.echo(f"{_auroc_text(labels, scores)}, {n_views} views")
    if readout is None:  # the threshold was set for scores of the model's own readout
        limit = detector.calibration.threshold
        source = "that was asked for" if threshold is not None else "from training normals"
        typer.echo(f"At the threshold {score_text(limit)} {source}: {_flagged_text(labels, scores, limit)}")


def _auroc_text(labels: list[int], scores: list[float]) -> str:
    from ..study.statistics import auroc_interval

    n_anomalous = sum(labels)
    n_normal = len(labels) - n_anomalous
    counts = f"{n_normal} normal and {n_anomalous} anomalous images"
    if not n_normal or not n_anomalous:
        return f"No AUROC: it needs normal and anomalous images. {counts}"
    interval = auroc_interval(labels, scores)
    return f"AUROC {interval.auroc:.4f} (95 %: {interval.low:.4f} to {interval.high:.4f}, {interval.method}), {counts}"


def _flagged_text(labels: list[int], scores: list[float], threshold: float) -> str:
    """Such as `90.0% of anomalous and 5.0% of normal images flagged`, without a kind that there are no images of."""
    shares = []
    for label, kind in ((1, "anomalous"), (0, "normal")):
        flagged = [score > threshold for of, score in zip(labels, scores, strict=True) if of == label]
        if flagged:
            shares.append(f"{sum(flagged) / len(flagged):.1%} of {kind}")
    return f"{' and '.join(shares)} images flagged"
