"""Heat on photographs, heat alone, and the colour bar that goes with both."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from .palette import HEAT, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = NDArray[np.uint8]
OPACITY = 0.75  # of the hottest place
OUTLINE_SIDE = 128  # px of a map at most, where its outline is drawn: finer ones are all noise
LEAST_OUTLINE = 1e-3  # of the picture


def overlay(image: Pixels, heatmap: ArrayLike, vmin: float, vmax: float, opacity: float = OPACITY) -> Pixels:
    """The photograph with heat laid on it: (H, W, 3) uint8, (h, w) float -> (H, W, 3) uint8.

    Where the heatmap is at most vmin the photograph stays as it is; from there colour and opacity grow to vmax. Give
    all maps shown together the same vmin and vmax. Upsampling is bilinear: it adds no peak that was not there.
    """
    picture = np.asarray(image)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"The image must be (H, W, 3) uint8, got {picture.shape} {picture.dtype}")
    colour, share = _coloured(heatmap, vmin, vmax, (picture.shape[1], picture.shape[0]))
    alpha = opacity * share[..., None]
    return np.round(picture * (1 - alpha) + colour * alpha).astype(np.uint8)


def heat_layer(heatmap: ArrayLike, vmin: float, vmax: float, width: int, height: int) -> Pixels:
    """What `overlay` lays on a photograph, with the opacity left to who lays it: (height, width, 4) uint8."""
    colour, share = _coloured(heatmap, vmin, vmax, (width, height))
    return np.round(np.concatenate([colour, 255 * share[..., None]], axis=-1)).astype(np.uint8)


def _coloured(
    heatmap: ArrayLike, vmin: float, vmax: float, size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """(colour (H, W, 3) in 0 ... 255, share of the scale (H, W) in [0, 1]) at a size (W, H)."""
    heat = np.asarray(heatmap, dtype=np.float32)
    if heat.ndim != 2 or not np.isfinite(heat).all():
        raise ValueError(f"The heatmap must be (h, w) finite numbers, got shape {heat.shape}")
    if not vmin <= vmax:
        raise ValueError(f"vmin must not exceed vmax, got {vmin} and {vmax}")
    from matplotlib import colormaps

    heat = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR))
    share = np.clip((heat - vmin) / (vmax - vmin), 0, 1) if vmax > vmin else (heat > vmin).astype(np.float32)
    return 255 * colormaps[HEAT](share)[..., :3], share


def outline(values: ArrayLike, level: float) -> list[NDArray[np.float64]]:
    """Where a map or a mask (h, w) crosses a level: lines of points (n, 2), (x, y) as shares of width and height.

    Lines end at the edge of the picture. Specks of under a thousandth of the picture are left out.
    """
    from contourpy import LineType, contour_generator

    field = np.asarray(values, dtype=np.float32)
    shrink = max(1.0, max(field.shape) / OUTLINE_SIDE)
    if shrink > 1:
        size = max(2, round(field.shape[1] / shrink)), max(2, round(field.shape[0] / shrink))
        field = np.asarray(Image.fromarray(field).resize(size, Image.Resampling.BILINEAR))
    height, width = field.shape
    field = np.pad(field, 1, mode="edge")
    scale = np.array([width, height])
    found = contour_generator(z=field, line_type=LineType.Separate).lines(level)
    lines = [np.clip((np.asarray(points) - 0.5) / scale, 0, 1) for points in found]
    return [line for line in lines if np.prod(np.ptp(line, axis=0)) >= LEAST_OUTLINE]


def with_outline(image: Pixels, lines: Sequence[NDArray[np.float64]]) -> Pixels:
    """The picture with these lines on it, white on black, so that they are seen on any photograph."""
    height, width = image.shape[:2]
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    thin = max(1, round(max(height, width) / 250))
    for colour, thickness in (("black", 3 * thin), ("white", thin)):
        for line in lines:
            draw.line([(x * width, y * height) for x, y in line], fill=colour, width=thickness)
    return np.asarray(picture)


def with_ring(image: Pixels, x: float, y: float) -> Pixels:
    """The picture with a ring around one place (shares of width and height): white between black, as an outline."""
    height, width = image.shape[:2]
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    thin = max(1, round(max(height, width) / 250))
    for radius, colour in ((6 * thin, "black"), (5 * thin, "white"), (3 * thin, "black")):
        box = x * width - radius, y * height - radius, x * width + radius, y * height + radius
        draw.ellipse(box, outline=colour, width=thin + thin * (colour == "white"))
    return np.asarray(picture)


def heat_picture(heatmap: ArrayLike, vmin: float, vmax: float, side: int = 416) -> Pixels:
    """A map alone, in the colours of `overlay`: (h, w) float -> about (side, side, 3) uint8, each value a square."""
    heat = np.asarray(heatmap, dtype=np.float64)
    if heat.ndim != 2 or not np.isfinite(heat).all():
        raise ValueError(f"The heatmap must be (h, w) finite numbers, got shape {heat.shape}")
    from matplotlib import colormaps

    share = np.clip((heat - vmin) / (vmax - vmin), 0, 1) if vmax > vmin else np.zeros_like(heat)
    cell = max(1, side // max(heat.shape))
    colour = np.round(255 * colormaps[HEAT](share)[..., :3]).astype(np.uint8)
    return colour.repeat(cell, axis=0).repeat(cell, axis=1)


def pixels(figure: "Figure") -> Pixels:
    """A Matplotlib figure as (H, W, 4) uint8 at its own dpi, for a page that takes arrays."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())


def new_figure(width_in: float, height_in: float, dpi: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=dpi, layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    return figure


def heat_scale(vmin: float, vmax: float) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(vmin, vmax if vmax > vmin else vmin + 1), HEAT)


def colour_bar(vmin: float, vmax: float, label: str, *, ink: str = INK) -> "Figure":
    """The scale of `overlay` as a strip of 3.6 x 0.6 in, for maps shown together."""
    figure = new_figure(3.6, 0.6, 150)
    bar = figure.colorbar(heat_scale(vmin, vmax), cax=figure.add_subplot(), orientation="horizontal")
    bar.set_label(label, color=ink, fontsize=8)
    bar.ax.locator_params(nbins=6)
    bar.ax.tick_params(colors=ink, labelsize=7)
    bar.outline.set_visible(False)
    return figure
