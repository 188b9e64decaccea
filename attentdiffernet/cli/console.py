"""What a command prints on standard error: messages, progress, and errors without a traceback."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from ..errors import AttentDifferNetError

if TYPE_CHECKING:
    from ..stages import Progress

SECONDS_BETWEEN_LINES = 30.0  # of progress, where there is no terminal for a bar
EXIT_ERROR, EXIT_STOPPED = 2, 130

err = Console(stderr=True)


def say(text: str) -> None:
    """Prints to standard error. The text is not taken as markup: it may hold a file name such as a[b].png."""
    err.print(text, markup=False, highlight=False, soft_wrap=True)


def run(app: Callable[[], object]) -> None:
    """Runs the app. Errors that a user can correct become one sentence and exit code 2; a fault of the program keeps
    its traceback."""
    try:
        app()
    except (AttentDifferNetError, OSError) as error:
        err.print("[bold red]Error:[/]", escape(str(error)), highlight=False, soft_wrap=True)
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        err.print("Stopped.")
        sys.exit(EXIT_STOPPED)


class Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.3g}/s" if task.speed else "", style="progress.data.speed")


def say_skipped(paths: Sequence[str], n_found: int) -> None:
    """How many other files lie among the images that `images.find_images` has found."""
    from ..images import skipped_files

    if skipped := skipped_files(paths):
        say(f"{n_found} images found; {skipped} other file{'s' * (skipped > 1)} skipped")


@contextmanager
def bars() -> "Iterator[Progress]":
    """One progress bar per stage. Without a terminal, a line of text every SECONDS_BETWEEN_LINES."""
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
                say(f"{stage}: {done} of {total}" + _pace(done - began[stage][1], total - done, now - began[stage][0]))

        yield progress


class Overall:
    """Progress of work in stages as one bar: which stage of how many, how far it is and how long it still takes."""

    def __init__(self, show: Callable[[str, float, int], None]) -> None:
        self._show = show
        self._stage, self._number, self._total = "", 0, 1
        self._began = time.monotonic(), 0

    def expect(self, n_stages: int) -> None:
        """So many stages are still to come."""
        self._total = self._number + n_stages

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._stage, self._number, self._began = stage, self._number + 1, (time.monotonic(), done)
            self._total = max(self._total, self._number)
        began, before = self._began
        pace = _pace(done - before, total - done, time.monotonic() - began)
        text = f"Stage {self._number} of {self._total}, {stage}: {done} of {total}{pace}"
        self._show(text, self._number - 1 + done / max(total, 1), self._total)


@contextmanager
def overall() -> Iterator[Overall]:
    """One progress bar for work in stages. Without a terminal, a line of text every SECONDS_BETWEEN_LINES."""
    with Bars(BarColumn(), TextColumn("{task.description}"), console=err, disable=not err.is_terminal) as shown:
        task = shown.add_task("", total=1)
        spoke = time.monotonic()

        def show(text: str, done: float, total: int) -> None:
            nonlocal spoke
            shown.update(task, description=escape(text), completed=done, total=total)
            now = time.monotonic()
            if not err.is_terminal and now - spoke >= SECONDS_BETWEEN_LINES:
                spoke = now
                say(text)

        yield Overall(show)


def _pace(done: int, left: int, seconds: float) -> str:
    """`, 35.2/s, 0:46:10 left`; empty before anything is done."""
    if done < 1 or seconds <= 0:
        return ""
    return f", {done / seconds:.3g}/s, {timedelta(seconds=round(left * seconds / done))} left"
