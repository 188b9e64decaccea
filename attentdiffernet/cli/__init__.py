"""The command `attentdiffernet`: a module per subcommand. Heavy imports happen inside commands, so --help is quick."""

import typer

from . import console, datasets, evaluate, explain, grid, localise, score, summarise, train

app = typer.Typer(
    help="Is this part anomalous, and where does the model look? DifferNet and its attention variants, trained on "
    "normal images only. Categories are folders in the MVTec AD layout: CATEGORY/train/good, CATEGORY/test/good, "
    "CATEGORY/test/DEFECT.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(score.score)
app.command()(explain.explain)
app.command()(localise.localise)
app.command()(summarise.summarise)
app.command()(grid.grid)
app.add_typer(datasets.app, name="datasets")


def main() -> None:
    """Entry point of the installed command."""
    console.run(app)
