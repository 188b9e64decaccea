"""`attentdiffernet grid`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import AttentDifferNetError
from .console import bars, say
from .options import Device
from .runs import commit

if TYPE_CHECKING:
    from ..grid import Outcome, Task


def grid(
    file: Annotated[Path, typer.Argument(help="TOML file: categories, variants, weights, seeds.", show_default=False)],
    category: Annotated[
        list[str] | None,
        typer.Option(help="DATASET/CATEGORY instead of the file's; may be repeated.", show_default=False),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Runs at once; they share the cores. Default: one per two cores, or one on a GPU.",
            min=1,
            show_default=False,
        ),
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster to run on instead of this machine.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the runs that would be made.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Repeat runs that are in the results with other options.")
    ] = False,
    device: Device = "cpu",
) -> None:
    """Train and score every category x variant x weights x seed of a TOML file, into a results folder.

    Finished runs are skipped, so an interrupted grid can be continued with the same command. If a run fails, the
    others go on, it is reported at the end, and the exit code is 1.

    Example: attentdiffernet grid grids/sample.toml
    """
    from ..devices import find_device
    from ..grid import local_processes, ray_cluster, read_grid, run_grid, share_cores, split_done
    from ..study.records import summarise

    tasks = [dataclasses.replace(task, device=device) for task in read_grid(file, categories=category or ())]
    done, other, to_do = split_done(tasks)
    if other and not (overwrite or dry_run):
        raise AttentDifferNetError(
            f"{len(other)} runs are in the results with other options, such as {other[0].run}. Give this grid a tag, "
            "which is added to the names of its runs, or repeat the runs with --overwrite"
        )
    to_do = [task for task in tasks if task in to_do or task in other]
    typer.echo(f"{len(done)} of {len(tasks)} runs are done, {len(to_do)} to do")
    if dry_run:
        for task in to_do:
            typer.echo(task.run + (" (there with other options: needs --overwrite)" if task in other else ""))
        return
    failed: dict[str, Outcome] = {}
    if to_do:
        jobs = jobs or (None if find_device(device).type == "cpu" else 1)
        with ray_cluster(ray) if ray else local_processes(*share_cores(len(to_do), jobs)) as engine, bars() as progress:
            ended = 0

            def report(task: "Task", outcome: "Outcome") -> None:
                nonlocal ended
                ended += 1
                _report(task, outcome)
                progress("runs", ended, len(to_do))

            progress("runs", 0, len(to_do))
            failed = run_grid(to_do, engine, commit(), report)
    for folder in dict.fromkeys(task.results for task in tasks):
        summarise(folder)
    for name, outcome in failed.items():
        if outcome.details:
            say(outcome.details.rstrip())
        say(f"{name} failed: {outcome.error}")
    if failed:
        say(f"{len(failed)} of {len(to_do)} runs failed; the same command tries them again")
        raise typer.Exit(1)


def _report(task: "Task", outcome: "Outcome") -> None:
    """The AUROC of a finished run, and of its best epoch where that is kept."""
    from ..study.statistics import auroc

    best = f" after epoch {outcome.best_epoch}, the best on the test images"
    for name, rows, note in ((task.run, outcome.scores, ""), (task.best_run, outcome.best_scores, best)):
        if rows is not None:
            labels, scores = zip(*(row[2:] for row in rows), strict=True)
            typer.echo(f"{name}: AUROC {auroc(labels, scores):.4f}{note}")
