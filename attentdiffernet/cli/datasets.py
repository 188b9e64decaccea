"""`attentdiffernet datasets list | info | prepare | sample`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..datasets import CARDS, FOLDER, DatasetCard
from .console import bars
from .help import command

app = typer.Typer(help="Data sets: what they are, and how to get them.", no_args_is_help=True)

SourcePath = Annotated[Path, typer.Argument(help="Downloaded archive, or folder.", show_default=False)]


@command(app, "list")
def list_() -> None:
    """One line for each data set: name, title, size, licence.

    Example: attentdiffernet datasets list
    """
    for name, card in {**CARDS, "folder": FOLDER}.items():
        images = sum(counts.train + counts.test_good + counts.anomalous for counts in card.categories.values())
        size = f"{len(card.categories)} categories, {images:,} images. " if len(card.categories) > 1 else ""
        size = size or (f"{images:,} images. " if images else "")
        typer.echo(f"{name:20} {card.title}. {size}{f'Licence: {card.licence}' if card.licence else ''}".rstrip())


@command(app)
def info(name: Annotated[str, typer.Argument(help="As in `datasets list`.", show_default=False)]) -> None:
    """What a data set shows, its counts, licence and citation, what to download, and the commands that follow.

    Example: attentdiffernet datasets info mvtec_ad
    """
    from ..datasets.prepare import card_of

    card = card_of(name)
    console = Console(highlight=False)
    console.print(Text(card.title, "bold"))
    page = Table.grid(padding=(0, 2))
    rows = {
        "Shows": card.shows,
        "Licence": card.licence,
        "Cite": card.citation,
        "From": card.source,
        "Download": card.archive,
        "Split": card.split,
        "Note": card.caveat,
    }
    for label, value in rows.items():
        if value:
            page.add_row(Text(label, "bold"), Text(value))
    console.print(page)
    if card.categories:
        console.print()
        console.print(_counts(card))
    console.print()
    for line in commands(name, card):
        typer.echo(line)


def _counts(card: DatasetCard) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("Category")
    for column in ("train", "test normal", "test anomalous"):
        table.add_column(column, justify="right")
    for category, counts in card.categories.items():
        table.add_row(Text(category), str(counts.train), str(counts.test_good), str(counts.anomalous))
    return table


def commands(name: str, card: DatasetCard) -> list[str]:
    """The commands from the download to a result."""
    category = next(iter(card.categories), "bolt" if name == "folder" else "wafer")
    folder = f"data/{'own' if name == 'folder' else name}"
    first = f"attentdiffernet datasets prepare {name} {card.file}"
    return [
        f"attentdiffernet datasets sample --out {folder}" if name == "sample" else first,
        f"attentdiffernet train {folder}/{category} --variant se --out runs/{category}-se",
        f"attentdiffernet evaluate runs/{category}-se {folder}/{category} --out {category}-se.csv",
    ]


@command(app)
def prepare(
    name: Annotated[str, typer.Argument(help="As in `datasets list`, or folder.", show_default=False)],
    source: SourcePath,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder in which categories become folders; data/NAME (data/own) if left out."),
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Only this category (may be repeated); for folder: its name.")
    ] = None,
    normal: Annotated[
        list[str] | None, typer.Option(help="For folder: subfolder with normal images (may be repeated).")
    ] = None,
    anomalous: Annotated[
        list[str] | None, typer.Option(help="For folder: subfolder with one kind of defect (may be repeated).")
    ] = None,
    held_out: Annotated[float, typer.Option(help="For folder: share of normal images used for testing.")] = 0.2,
    limit: Annotated[
        int | None, typer.Option(help="For wm811k, mixedwm38: at most this many images of each kind.", min=1)
    ] = None,
    any_counts: Annotated[
        bool, typer.Option("--any-counts", help="Accept other numbers of images than published.")
    ] = False,
) -> None:
    """Convert a download, or any folder of images, to the layout that all other commands read.

    Nothing is downloaded. Archives that are unsafe, damaged or incomplete are rejected. An interrupted run leaves no
    incomplete category behind and can be continued with the same command.

    Example: attentdiffernet datasets prepare mvtec_ad mvtec_anomaly_detection.tar.xz --category bottle
    """
    from ..datasets.prepare import Options, card_of
    from ..datasets.prepare import prepare as make

    card = card_of(name)
    out = out or Path("data") / ("own" if name == "folder" else name)
    options = Options(
        categories=tuple(category or ()),
        any_counts=any_counts,
        normal=tuple(normal or ()),
        anomalous=tuple(anomalous or ()),
        held_out=held_out,
        limit=limit,
    )
    with bars() as progress:
        outcome = make(name, source, out, options, progress)
    for made in outcome.prepared:
        masks = f", {made.n_masks} masks" if made.n_masks else ""
        typer.echo(f"{made.folder}: {made.counts}{masks}{' (already there)' if made.already else ''}")
    for note in outcome.notes:
        typer.echo(f"{note}.")
    if card.licence:
        typer.echo(f"Licence: {card.licence}")
    if card.citation:
        typer.echo(f"Please cite: {card.citation}")
    first = outcome.prepared[0]
    typer.echo(f"Next: attentdiffernet train {first.folder} --variant se --out runs/{first.category}-se")


@command(app)
def sample(
    out: Annotated[Path, typer.Option(help="Root folder; categories become folders in it.", show_default=False)],
    seed: Annotated[int, typer.Option(help="Another seed draws other images.", min=0)] = 0,
) -> None:
    """Draw the synthetic sample set: insulator strings, gear wheels, wafer maps. Nothing is downloaded.

    Example: attentdiffernet datasets sample --out data/sample
    """
    from ..datasets.sample import write

    with bars() as progress:
        write(out, seed=seed, progress=lambda done, total: progress("drawing images", done, total))
    typer.echo(f"Written to {out}. Train on one of its folders: attentdiffernet train {out}/wafer --out MODEL_DIR")
