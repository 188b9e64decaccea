"""`attentdiffernet score`."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .console import bars, say, say_skipped
from .options import Device, FalseAlarmRate, ModelDir, Threshold, Trusted, Views

if TYPE_CHECKING:
    from ..detector import Detector


def score(
    model_dir: ModelDir,
    paths: Annotated[list[str], typer.Argument(help="Image files, folders or globs.", show_default=False)],
    format: Annotated[Literal["csv", "json"], typer.Option(help="csv, or json with one object per line.")] = "csv",
    out: Annotated[str, typer.Option(help="File to write or continue; - is standard output.")] = "-",
    views: Views = None,
    until_settled: Annotated[
        bool,
        typer.Option(
            "--until-settled",
            help="Stop when more views would not change the verdict; use at most --views (default 64).",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Score all images again, whatever the file at --out holds.")
    ] = False,
    threshold: Threshold = None,
    false_alarm_rate: FalseAlarmRate = None,
    device: Device = "cpu",
    trusted: Trusted = False,
    precision: Annotated[
        Literal["float32", "bfloat16", "auto"],
        typer.Option(help="Precision of the backbone; auto is bfloat16 where it is faster on this machine."),
    ] = "float32",
) -> None:
    """Score images: one line per image with its anomaly score, threshold and verdict.

    An image that cannot be read gets a line with the reason instead of a score, and the exit code is 1.
    An interrupted run can be continued with the same command: images with a score in the file at --out are skipped. A
    file that was made with another model, precision or number of views is rejected.

    Example: attentdiffernet score models/bottle-se photographs/ --out scores.csv
    """
    from ..images import find_images
    from ..methods import load
    from ..score_log import Made, open_log

    files = find_images(paths)
    say_skipped(paths, len(files))
    detector = with_threshold(load(model_dir, device=device, trusted=trusted), threshold, false_alarm_rate)
    n_views = checked_views(detector, views, until_settled)
    arithmetic = detector.compute_in(precision)
    model = detector.fingerprint + ("" if arithmetic == "float32" else f"-{arithmetic}")
    made = Made(detector.calibration.threshold, n_views, model, until_settled)
    failed = 0
    with open_log(out, format, made, overwrite) as log, bars() as progress:
        lacking = [file for file in files if log.lacks(file)]
        before = len(files) - len(lacking)
        if log.done:
            say(f"{out} has the scores of {before} of {len(files)} images already; {len(lacking)} to go")
        progress("scoring", before, len(files))
        for done, verdict in enumerate(detector.inspect_all(lacking, n_views, until_settled), before + 1):
            if verdict.error:
                log.add(verdict.name, None, None, verdict.error)
                failed += 1
            else:
                score = float(f"{verdict.score:.9g}")
                log.add(verdict.name, score, detector.is_anomalous(score), None, verdict.n_views)
            progress("scoring", done, len(files))
    if failed:
        say(f"{failed} of {len(files)} files could not be read; see the column error")
        raise typer.Exit(1)


def checked_views(detector: "Detector", asked: int | None, until_settled: bool = False) -> int:
    """As many views as were asked for, with a warning if the threshold was set for another number. until_settled: at
    most so many, with a warning if the threshold was set for more."""
    from ..options import check_scoring_views
    from ..views import possible_views

    if asked is None:
        return detector.usual_views(until_settled)
    calibrated, n_views = detector.calibration.n_views, check_scoring_views(asked)
    possible = possible_views(detector.findings.views, n_views)
    if possible < calibrated or (possible > calibrated and not until_settled):
        say(f"The threshold was set for scores of {calibrated} views, not {possible}: verdicts may be wrong")
    return n_views if until_settled else possible


def with_threshold(detector: "Detector", threshold: float | None, false_alarm_rate: float | None) -> "Detector":
    """With the threshold that was asked for, and what it promises said; as it is where none was."""
    from ..errors import AttentDifferNetError
    from ..words import percent, score_text

    if threshold is not None and false_alarm_rate is not None:
        raise AttentDifferNetError("Give --threshold or --false-alarm-rate, not both: the rate sets the threshold")
    if threshold is not None:
        calibration = detector.calibration.for_threshold(threshold)
    elif false_alarm_rate is not None:
        calibration = detector.calibration.for_rate(false_alarm_rate)
    else:
        return detector
    promised, n = calibration.false_positive_rate, len(calibration.scores)
    least = false_alarm_rate is not None and promised > false_alarm_rate
    few = f", the least that {n} held-out normals can promise" if least else ""
    flagged = f"flags at most {percent(promised)} % of good parts on average{few}"
    say(f"Threshold {score_text(calibration.threshold)}: {flagged}")
    return detector.with_calibration(calibration)
