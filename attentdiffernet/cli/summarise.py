"""`attentdiffernet summarise`."""

from pathlib import Path
from typing import Annotated

import typer


def summarise(
    results: Annotated[Path, typer.Argument(help="Results folder, with scores/DATASET/CATEGORY/RUN.csv.")],
) -> None:
    """Rebuild summary.csv, AUROC and interval per run, from the score files alone.

    Example: attentdiffernet summarise results
    """
    from ..study.records import summarise as rebuild

    summary = rebuild(results)
    typer.echo(f"{len(summary)} runs summarised in {results / 'summary.csv'}")
    typer.echo(summary.to_string(index=False, float_format=lambda value: f"{value:.4f}"))
