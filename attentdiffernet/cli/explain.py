"""`attentdiffernet explain`."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import AttentDifferNetError
from ..words import MapName
from .options import Device, ModelDir


def explain(
    model_dir: ModelDir,
    image: Annotated[Path, typer.Argument(help="Image file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="PNG file to write: the image with the map over it.", show_default=False)],
    method: Annotated[
        MapName | None, typer.Option(help="Which map. Default: the first that the model has.", show_default=False)
    ] = None,
    raw: Annotated[
        Path | None, typer.Option(help="Also write the raw values (.npy, float32).", show_default=False)
    ] = None,
    device: Device = "cpu",
) -> None:
    """Show where the model looks, and for PatchCore which normal place the most unusual one looks like.

    Colours begin at the 99th percentile of the map over held-out normal images, so most of a normal image stays
    uncoloured. Example: attentdiffernet explain models/bottle-se crack.png --out crack-map.png
    """
    import numpy as np

    from ..explain import drawn_over
    from ..images import read_image
    from ..methods import load

    if out.suffix.lower() != ".png":
        raise AttentDifferNetError(f"The map is written as PNG; --out must end in .png, got {out}")
    pixels = read_image(image)
    detector = load(model_dir, device=device)
    shown = method or detector.maps[0]
    values, reference = detector.raw_map(pixels, shown), detector.map_reference(shown)
    out.parent.mkdir(parents=True, exist_ok=True)
    drawn_over(pixels, values, reference, shown).save(out)
    if raw is not None:
        np.save(raw, values)
    typer.echo(detector.what_it_shows(shown))
    if nearest := detector.nearest_normal(pixels):
        typer.echo(str(nearest))
    typer.echo(
        f"Highest value: {float(values.max()) / reference:.3g} times the 99th percentile of held-out normals. "
        f"Written to {out}"
    )
