"""The command `attentdiffernet`: a module per subcommand. Heavy imports happen inside commands, so --help is quick."""

import os
from typing import Annotated

import typer

from .. import __version__, stages
from . import console, datasets, evaluate, explain, figures, grid, help, localise, score, summarise, train


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"attentdiffernet {__version__}")
        raise typer.Exit


app = typer.Typer(
    help="Is this part anomalous, and where does the model look? DifferNet and its attention variants, trained on "
    "normal images only. Categories are folders in the MVTec AD layout: CATEGORY/train/good, CATEGORY/test/good, "
    "CATEGORY/test/DEFECT.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options that stand before the command."""
    if os.environ.get(stages.ENVIRONMENT) == "1":
        stages.show_log()


COMMANDS = (
    train.train,
    evaluate.evaluate,
    score.score,
    explain.explain,
    localise.localise,
    summarise.summarise,
    figures.figures,
    grid.grid,
)
for function in COMMANDS:
    help.command(app)(function)
app.add_typer(datasets.app, name="datasets")


def main() -> None:
    """Entry point of the installed command."""
    console.run(app)
