"""`attentdiffernet explain`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import AttentDifferNetError
from .options import Device, ModelDir


def explain(
    model_dir: ModelDir,
    image: Annotated[Path, typer.Argument(help="Image file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="PNG file to write: the image with the map over it.", show_default=False)],
    method: Annotated[
        Literal["grad-cam", "attention", "gradient", "spatial-gate"], typer.Option(help="Which map.")
    ] = "grad-cam",
    raw: Annotated[
        Path | None, typer.Option(help="Also write the raw values (.npy, float32).", show_default=False)
    ] = None,
    device: Device = "cpu",
) -> None:
    """Show where the model looks.

    Colours begin at the 99th percentile of the map over held-out normal images, so most of a normal image stays
    uncoloured. Example: attentdiffernet explain models/bottle-se crack.png --out crack-map.png
    """
    import numpy as np
    from PIL import Image

    from .. import checkpoint
    from ..explain import explain as make_map
    from ..explain import methods_of, relative_heat, what_it_shows
    from ..figures.overlay import overlay
    from ..images import read_image

    if out.suffix.lower() != ".png":
        raise AttentDifferNetError(f"The map is written as PNG; --out must end in .png, got {out}")
    pixels = read_image(image)
    detector = checkpoint.load(model_dir, device=device)
    if method not in (methods := methods_of(detector.model.config)):
        raise AttentDifferNetError(f"{detector.title} has no {method} map; it has {', '.join(methods)}")
    values = make_map(detector.model, detector.model.prepare(pixels), method)
    heat, (vmin, vmax) = relative_heat({"": values}, {"": detector.map_reference(method)})
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(overlay(pixels, heat[""], vmin, vmax)).save(out)
    if raw is not None:
        np.save(raw, values)
    typer.echo(what_it_shows(method, detector.model.config))
    typer.echo(
        f"Highest value: {float(values.max()) / detector.map_reference(method):.3g} times the 99th "
        f"percentile of held-out normals. Written to {out}"
    )
