"""`attentdiffernet explain`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import AttentDifferNetError, ImageError
from ..files import replace_file
from ..words import MapName
from .console import bars, say, say_skipped
from .help import one_of
from .options import Device, ModelDir, Trusted

if TYPE_CHECKING:
    from ..detector import Detector


def explain(
    model_dir: ModelDir,
    paths: Annotated[list[str], typer.Argument(help="Image files, folders or globs.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option(
            help="PNG file to write: the image with the map over it. Of several images or a folder: a folder for one "
            "PNG each.",
            show_default=False,
        ),
    ],
    method: Annotated[
        MapName | None,
        typer.Option(
            metavar="MAP",
            help=f"Which map: {one_of(MapName)}. Default: the first of these that the model has.",
            show_default=False,
        ),
    ] = None,
    raw: Annotated[
        Path | None,
        typer.Option(help="Also write the raw values (.npy, float32); of one image only.", show_default=False),
    ] = None,
    device: Device = "cpu",
    trusted: Trusted = False,
) -> None:
    """Show where the model looks, and for PatchCore which normal place the most unusual one looks like.

    Colours begin at the 99th percentile of the map over held-out normal images, so most of a normal image stays
    uncoloured.

    Example: attentdiffernet explain models/bottle-se crack.png --out crack-map.png
    """
    from ..images import find_images
    from ..methods import load

    files = find_images(paths)
    one = len(paths) == 1 and Path(paths[0]).is_file()
    if one and out.suffix.lower() != ".png":
        raise AttentDifferNetError(f"The map is written as PNG; --out must end in .png, got {out}")
    if not one and (raw is not None or out.suffix):
        raise AttentDifferNetError(f"Maps of several images go to a folder, without --raw; got --out {out}")
    say_skipped(paths, len(files))
    detector = load(model_dir, device=device, trusted=trusted)
    shown = method or detector.maps[0]
    if one:
        said = _explain_one(detector, files[0], out, shown, raw)
        typer.echo("\n".join([detector.what_it_shows(shown), *said]))
        return
    failed = 0
    with bars() as progress:
        for done, (file, target) in enumerate(zip(files, _targets(files, out), strict=True), 1):
            try:
                typer.echo(f"{file}: {_explain_one(detector, file, target, shown)[-1]}")
            except ImageError as error:
                failed += 1
                say(str(error))
            progress("drawing maps", done, len(files))
    typer.echo(detector.what_it_shows(shown))
    if failed:
        say(f"{failed} of {len(files)} files could not be read")
        raise typer.Exit(1)


def _targets(files: list[str], out: Path) -> list[Path]:
    """A PNG in `out` for each file, named as it lies below the folder that all have in common: `crack-000-png-map.png`.
    Raises AttentDifferNetError where two would be the same."""
    import os

    common = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files]) if files else ""
    parts = [Path(os.path.relpath(file, common)) for file in files]
    targets = [out / ("-".join((*part.parts[:-1], part.name.replace(".", "-"))) + "-map.png") for part in parts]
    first = dict(zip(reversed(targets), reversed(files), strict=True))
    for file, target in zip(files, targets, strict=True):
        if first[target] != file:
            raise AttentDifferNetError(
                f"The maps of {first[target]} and {file} would both be {target}: draw one of them at a time"
            )
    return targets


def _explain_one(detector: "Detector", file: str, out: Path, shown: str, raw: Path | None = None) -> list[str]:
    """Writes the map, and what can be said about it in numbers."""
    import numpy as np

    from ..explain import drawn_over

    pixels = detector.read(file)
    values, reference = detector.raw_map(pixels, shown), detector.map_reference(shown)
    with replace_file(out) as stream:
        drawn_over(pixels, values, reference, shown).save(stream, "PNG")
    if raw is not None:
        with replace_file(raw if raw.suffix == ".npy" else raw.with_name(f"{raw.name}.npy")) as stream:  # as np.save
            np.save(stream, values)
    nearest = detector.nearest_normal(pixels)
    highest = float(values.max()) / reference
    numbers = f"Highest value: {highest:.3g} times the 99th percentile of held-out normals. Written to {out}"
    return [*([str(nearest)] if nearest else []), numbers]
