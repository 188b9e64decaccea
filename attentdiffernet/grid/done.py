"""Which runs of a grid the results hold already, and with which options they were made."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .. import format2
from ..errors import AttentDifferNetError
from ..study.records import read_options, runs_of, score_path
from ..study.runs import BEST_ON_TEST, Run
from .file import read_grid
from .task import Seen, Task


def split_done(tasks: Iterable[Task]) -> tuple[list[Task], list[Task], list[Task]]:
    """(done, done with other options, to do).

    A task is to do if one of its runs lacks a row or a score file, or if its model was to be saved and is not there.
    """
    done, other, to_do = [], [], []
    known: dict[Path, dict[str, Run]] = {}
    for task in tasks:
        if task.results not in known:
            known[task.results] = runs_of(task.results)
        rows = [
            row
            for row in map(known[task.results].get, task.runs)
            if row and score_path(task.results, task.dataset, task.category, row.run).is_file()
        ]
        if not all(_made_with(row, task) for row in rows):
            other.append(task)
        elif len(rows) < len(task.runs) or (task.model_dir and not Path(task.model_dir).is_dir()):
            to_do.append(task)
        else:
            done.append(task)
    return done, other, to_do


def made_by(file: str | Path, results_dir: str | Path, categories: Sequence[str] = ()) -> set[str]:
    """The runs in a results folder that a grid file would make with the same options. The data are not needed.

    categories: as of `read_grid`.
    """
    rows = runs_of(results_dir)
    tasks = read_grid(file, {f"{row.dataset}/{row.category}" for row in rows.values()}, categories)
    found = {name: dataclasses.replace(task, results=Path(results_dir)) for task in tasks for name in task.runs}
    return {name for name, task in found.items() if name in rows and _made_with(rows[name], task)}


def _made_with(row: Run, task: Task) -> bool:
    """Whether a run was made with the options of a task. Without a record of its options, its row is compared."""
    stored = read_options(task.results, row)
    if stored is None:
        best_epoch = row.epochs if row.run == task.best_run else None
        expected = row_of(task, (row.n_views, row.views, row.readout), row.commit, best_epoch)
        return dataclasses.replace(expected, source=row.source) == row
    try:
        return format2.options_of_run(stored) == task.options
    except (KeyError, AttentDifferNetError):
        return False


def row_of(task: Task, seen: Seen, commit: str, best_epoch: int | None = None) -> Run:
    """The row of a task's run in runs.csv. best_epoch: of its second run, the best epoch on the test images."""
    n_views, views, readout = seen
    names: dict[str, Any] = {"run": task.run, "dataset": task.dataset, "category": task.category, "commit": commit}
    if best_epoch is not None:
        names |= {"run": task.best_run, "epochs": best_epoch, "selection": BEST_ON_TEST}
    return Run.of(task.options, (n_views, views), readout, **names)
