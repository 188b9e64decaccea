"""`attentdiffernet evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import AttentDifferNetError, ImageError
from ..files import replace_file
from ..options import Readout
from ..words import percent, score_text
from .console import bars, say
from .help import one_of
from .options import Cache, Category, Device, FalseAlarmRate, ModelDir, RunName, Threshold, Trusted, Views
from .report import Tested, check_picture, roc_file
from .report import report as report_page
from .runs import run_of
from .score import checked_views, with_threshold

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    model_dir: ModelDir,
    category: Category,
    out: Annotated[Path | None, typer.Option(help="Score file to write (CSV).", show_default=False)] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Results folder to add the run to, instead of --out.", show_default=False),
    ] = None,
    run: RunName = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Page to write (HTML): numbers, ROC curve, mistakes with their maps.", show_default=False),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="ROC curve to write (.png, .svg or .pdf).", show_default=False)
    ] = None,
    views: Views = None,
    readout: Annotated[
        Readout | None,
        typer.Option(
            metavar="NAME",
            help=f"Compute the score in another way than the model: {one_of(Readout)}. z2 is DifferNet's.",
            show_default=False,
        ),
    ] = None,
    threshold: Threshold = None,
    false_alarm_rate: FalseAlarmRate = None,
    device: Device = "cpu",
    trusted: Trusted = False,
    cache: Cache = True,
) -> None:
    """Score CATEGORY/test and print the AUROC with its 95 % interval.

    Without normal images in test/good, or without anomalous ones, there is no AUROC: it prints how many images the
    threshold flags, writes --out and --report, and refuses --results and --picture. --report is one file that can be
    sent to anyone: it loads nothing.

    Example: attentdiffernet evaluate models/bottle-se data/mvtec_ad/bottle --out bottle-se.csv
    """
    from ..category import InspectionDataset
    from ..features import default_cache
    from ..methods import load
    from ..study.records import append_run, score_path, write_scores

    _check_files(out, results, report, picture, readout)
    dataset = InspectionDataset(category)
    images = dataset.test if results is None and picture is None else dataset.test_of_both_kinds()
    if readout is not None and (threshold, false_alarm_rate) != (None, None):
        raise AttentDifferNetError("A threshold applies to scores of the model's own read-out: leave out --readout")
    detector = with_threshold(load(model_dir, device=device, trusted=trusted), threshold, false_alarm_rate)
    n_views = checked_views(detector, views)
    if readout is not None:
        detector = detector.with_readout(readout)
    row = None
    if results is not None:
        row = run_of(detector, dataset.category, run, n_views)
        out = score_path(results, row.dataset, row.category, row.run)
    with bars() as progress:
        kept = default_cache() if cache else None
        verdicts = list(detector.inspect_all(images, n_views, cache=kept, progress=progress))
    if unreadable := [verdict.error for verdict in verdicts if verdict.error]:
        raise ImageError(unreadable[0])
    tested = [
        Tested(image.name, image.defect, image.label, verdict.score, verdict.overlay)
        for image, verdict in zip(images, verdicts, strict=True)
    ]
    if out is not None:
        write_scores(out, _frame(tested))
    if results is not None and row is not None:
        append_run(results, row)
    limit = detector.calibration.threshold if readout is None else None  # it was set for the model's own read-out
    said = [f"{_auroc_text(tested)}, {n_views} view{'s' * (n_views > 1)}"]
    if limit is not None:
        source = "that was asked for" if threshold is not None else "from training normals"
        said.append(f"At the threshold {score_text(limit)} {source}: {_flagged_text(tested, limit)}")
    typer.echo("\n".join(said))
    if picture is not None:
        suffix = picture.suffix.lower().removeprefix(".")
        _write(picture, roc_file(tested, detector.key, limit, suffix))
    if report is not None and limit is not None:
        page = report_page(tested, dataset.category, detector.key, limit, said)
        _write(report, page.encode())


def _check_files(
    out: Path | None, results: Path | None, report: Path | None, picture: Path | None, readout: Readout | None
) -> None:
    """Before anything is computed. Raises AttentDifferNetError."""
    if out is not None and results is not None:
        raise AttentDifferNetError("evaluate writes the scores to --out or adds them to --results, not both")
    if (out, results, report, picture) == (None,) * 4:
        raise AttentDifferNetError(
            "evaluate needs something to write: --out SCORES.csv, --results FOLDER, --report P.html or --picture P.svg"
        )
    if picture is not None:
        check_picture(picture)
    if report is not None and readout is not None:
        raise AttentDifferNetError("A report needs the threshold, which applies to scores of the model's own read-out")


def _frame(tested: list[Tested]) -> "pd.DataFrame":
    import pandas as pd

    columns = {name: [getattr(image, name) for image in tested] for name in ("name", "defect", "label", "score")}
    # As objects: write_scores rejects file names that are not valid text; pandas would fail on them first.
    return pd.DataFrame(columns, dtype=object).rename(columns={"name": "image"})


def _write(path: Path, content: bytes) -> None:
    with replace_file(path) as stream:
        stream.write(content)
    say(f"Written to {path}")


def _auroc_text(tested: list[Tested]) -> str:
    from ..study.statistics import auroc_interval

    labels, scores = [image.label for image in tested], [image.score for image in tested]
    n_anomalous = sum(labels)
    n_normal = len(labels) - n_anomalous
    counts = f"{n_normal} normal and {n_anomalous} anomalous images"
    if not n_normal or not n_anomalous:
        return f"No AUROC: it needs normal and anomalous images. {counts}"
    interval = auroc_interval(labels, scores)
    return f"AUROC {interval.auroc:.4f} (95 %: {interval.low:.4f} to {interval.high:.4f}, {interval.method}), {counts}"


def _flagged_text(tested: list[Tested], threshold: float) -> str:
    """Such as `90.0 % of anomalous and 5.0 % of normal images flagged`, without a kind that there are no images of."""
    shares = []
    for label, kind in ((1, "anomalous"), (0, "normal")):
        flagged = [image.score > threshold for image in tested if image.label == label]
        if flagged:
            shares.append(f"{percent(sum(flagged) / len(flagged))} % of {kind}")
    return f"{' and '.join(shares)} images flagged"
