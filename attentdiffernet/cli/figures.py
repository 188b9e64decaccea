"""`attentdiffernet figures`."""

from pathlib import Path
from typing import Annotated

import typer

from .console import bars, say


def figures(
    results: Annotated[Path, typer.Argument(help="Results folder, with runs.csv and scores/.")],
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("figures"),
    models: Annotated[
        Path | None,
        typer.Option(
            help="Folder of models, whose thresholds are drawn where they gave the scores.", show_default=False
        ),
    ] = None,
) -> None:
    """Draw the figures and tables of a paper from score files: PDF, SVG, PNG, LaTeX and Markdown.

    Example: attentdiffernet figures results --models models
    """
    from ..figures.paper import paper_set
    from ..files import replace_file

    written = 0
    with bars() as progress:
        for name, content in paper_set(results, models, progress):
            with replace_file(out / name) as stream:
                stream.write(content)
            written += 1
    say(f"{written} files written to {out}")
