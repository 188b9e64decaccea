"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Category = Annotated[Path, typer.Argument(help="Folder of one category, ROOT/CATEGORY.", show_default=False)]
ModelDir = Annotated[
    str,
    typer.Argument(
        help="Folder of a trained model, its zip, or owner/name on the Hugging Face Hub.", show_default=False
    ),
]
DEVICE_HELP = "cpu, cuda, cuda:1, mps, or auto: a GPU if there is one."
CACHE_HELP = "Keep features on disk and reuse them."
Device = Annotated[str, typer.Option(help=DEVICE_HELP)]
Trusted = Annotated[
    bool,
    typer.Option("--trusted", help="Trust this model: allow it to load a weights file from this machine."),
]
Cache = Annotated[bool, typer.Option("--cache/--no-cache", help=CACHE_HELP)]
Views = Annotated[
    int | None,
    typer.Option(help="Views per image. Default: as many as the threshold was set for.", show_default=False),
]
RunName = Annotated[
    str | None,
    typer.Option(help="Name of the run in the results folder. Default: made from the options.", show_default=False),
]
Threshold = Annotated[
    float | None,
    typer.Option(help="Flag images that score above this. Default: the threshold of the model.", show_default=False),
]
FalseAlarmRate = Annotated[
    float | None,
    typer.Option(
        help="Flag at most this share of good parts: 0.02 is 2 of 100. Sets the threshold by held-out normals.",
        show_default=False,
    ),
]
