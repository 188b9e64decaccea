"""All runs of a grid: which goes next, and writing the results of each as it comes."""

import concurrent.futures
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from ..errors import AttentDifferNetError
from ..study.records import SCORE_COLUMNS, write_run
from .done import row_of
from .engines import Engine
from .task import Outcome, Task


def run_grid(
    tasks: Iterable[Task], engine: Engine, commit: str = "", report: Callable[[Task, Outcome], None] | None = None
) -> dict[str, Outcome]:
    """Runs tasks and writes the results of each as it comes; returns those that failed, by name.

    Of the runs that share features, the first one runs alone; the others follow at once and find them in the cache.
    """
    groups: dict[tuple[str, str], deque[Task]] = {}
    for task in tasks:
        groups.setdefault(task.features, deque()).append(task)
    ready = deque(group.popleft() for group in groups.values())
    running: dict[Future[Outcome], Task] = {}
    failed: dict[str, Outcome] = {}
    while ready or running:
        while ready and len(running) < engine.at_once:
            task = ready.popleft()
            running[engine.submit(task)] = task
        ended, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in ended:
            task = running.pop(future)
            outcome = _written(task, _result(future), commit)
            if outcome.error:
                failed[task.run] = outcome
            if report is not None:
                report(task, outcome)
            ready.extendleft(reversed(groups.pop(task.features, ())))
    return failed


def _result(future: "Future[Outcome]") -> Outcome:
    try:
        return future.result()
    except Exception as error:  # of the cluster: an error of the run itself is part of its outcome
        return Outcome(error=f"{type(error).__name__}: {' '.join(str(error).split())}", details=traceback.format_exc())


def _written(task: Task, outcome: Outcome, commit: str) -> Outcome:
    """The outcome, or the failure to write its scores."""
    import pandas as pd

    record: dict[str, Any] = {"options": task.options.to_dict(), "cost": outcome.cost}
    record |= {"findings": outcome.findings.to_dict()} if outcome.findings else {}
    record |= {} if outcome.spread is None else {"features_spread": outcome.spread}
    try:  # the run itself first: the best epoch on test is only shown beside it
        for found, epoch in ((outcome.scores, None), (outcome.best_scores, outcome.best_epoch)):
            if found is not None:
                scores = pd.DataFrame(found, columns=SCORE_COLUMNS, dtype=object)
                write_run(task.results, row_of(task, outcome.seen, commit, epoch), scores, record)
    except (AttentDifferNetError, OSError) as error:
        return Outcome(error=f"its scores could not be written: {error}")
    return outcome
