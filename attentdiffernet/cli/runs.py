"""The row of a run in a results folder: which model it is, and which code made it."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from ..words import input_title

if TYPE_CHECKING:
    from ..detector import Detector
    from ..study.runs import Run


def run_of(detector: "Detector", category: str, name: str | None, n_views: int) -> "Run":
    """The row of a run that scores a category with this model. name: instead of the one made from its options."""
    from ..study.runs import Run, run_name

    options, found, data = detector.options, detector.findings, detector.data
    views = n_views, input_title(found.views, found.resize, found.exposure)
    names = {"run": name or run_name(options, data.dataset, category), "dataset": data.dataset, "category": category}
    return Run.of(options, views, found.readout, **names, commit=commit())


def commit() -> str:
    """The short commit of this code in a git checkout of it, with + if the code was changed since; otherwise empty."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not git("ls-files", "__init__.py"):  # installed below another project's checkout
            return ""
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
