"""The row of a run in a results folder: which model it is, and which code made it."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..checkpoint import Detector
    from ..study.runs import Run


def run_of(detector: "Detector", category: str, name: str | None, n_views: int) -> "Run":
    """The row of a run that scores a category with this model. name: instead of the one made from its options."""
    from ..study.runs import LAST, Run

    config = detector.model.config
    parts = (detector.data.dataset, category, detector.variant, Path(config.weights).stem, f"s{detector.training.seed}")
    return Run(
        run=name or "-".join(parts),
        dataset=detector.data.dataset,
        category=category,
        variant=detector.variant,
        seed=detector.training.seed,
        backbone=config.weights,
        attention_training="" if detector.variant == "none" else config.attention.training,
        epochs=detector.training.epochs,
        selection=LAST,
        n_views=n_views,
        commit=commit(),
        source="measured by this project",
        views=config.input_title,
        readout=config.readout,
        blocks=config.attention.unusual,
        recipe=detector.training.recipe,
    )


def commit() -> str:
    """The short commit of this code in a git checkout, with + if the code was changed since; otherwise empty."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
