"""Logs the time of each stage of a run (INFO), never a file name or anything of an image."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENVIRONMENT = "ATTENTDIFFERNET_LOG"  # 1: commands show the log, too
log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total) in the thread that asked for the work."""


def no_progress(stage: str, done: int, total: int) -> None:
    """The default: reports nothing."""


class Stages:
    """Times of one run. what: the run or the method, as the log calls it."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of the block to that of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Logs all times at the end of the block, also of one that is ended early."""
        try:
            yield
        except BaseException as error:
            self._log(f"; ended early ({type(error).__name__})")
            raise
        self._log("")

    def _log(self, remark: str) -> None:
        times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self._seconds.items())
        log.info("%s: %s%s", self.what, times or "nothing done", remark)


@contextmanager
def logged(what: str, progress: Progress, first: str = "preparing") -> Iterator[Progress]:
    """The same progress; the time of each of its stages is logged at the end of the block. first: the stage that it
    begins with."""
    stages, since, current = Stages(what), time.perf_counter(), first

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal since, current
        if stage != current:
            stages.add(current, time.perf_counter() - since)
            since, current = time.perf_counter(), stage
        progress(stage, done, total)

    with stages.logged():
        try:
            yield tell
        finally:
            stages.add(current, time.perf_counter() - since)


def show_log() -> None:
    """Prints the log of this package to standard error, with the time of day."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    package = logging.getLogger(__package__)
    package.addHandler(handler)
    package.setLevel(logging.INFO)
