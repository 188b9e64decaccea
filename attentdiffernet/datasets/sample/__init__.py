"""The sample data: three categories of *synthetic* inspection images, drawn by this file alone, with true defect masks.

They mirror the three data sets of the AttentDifferNet paper, so that the demo, the tests and a first look need no
download; they are no benchmark. An image is a pure function of (category, defect, seed). The scene is drawn from a
generator of its own, the defect from a second one, so that `draw(c, "good", seed)` is the normal twin of every
`draw(c, defect, seed)` and the mask is simply where the two differ.
"""

import dataclasses
import io
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from ...errors import DatasetError
from ...files import replace_folder, sweep_folder

Array = NDArray[np.floating[Any]]
Profile = tuple[tuple[float, float], ...]
Rendered = tuple[Array, Array, NDArray[np.bool_]]  # normal twin and image, developed (SIZE, SIZE, 3); twin's object

SIZE = 512  # px, height and width of every image
MIN_AREA = 60  # px: a defect that changes less is hardly in sight
MIN_DIFFERENCE = 4  # of 255: a defect changes a pixel when a channel differs by at least this much from the twin


@dataclass(frozen=True)
class SampleCategory:
    """What a visitor is told. mirrors: the paper's data set; defects: a line on each, without `good`."""

    name: str
    title: str
    description: str
    mirrors: str
    defects: Mapping[str, str]


@dataclass(frozen=True)
class Sample:
    """image: (SIZE, SIZE, 3) uint8. mask: (SIZE, SIZE) bool, exactly the pixels that differ from the normal twin.

    object: (SIZE, SIZE) bool, where the inspected part of the normal twin lies, not its background: the place of a disc
    that is missing is the object's.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    object: NDArray[np.bool_]


# ---------------------------------------------------------------- drawing tools

FILM_STEPS = 8192  # per unit of light


@cache
def _frequency(size: int) -> Array:
    """|f| in cycles per image on the grid of `rfft2`, (size, size / 2 + 1); 1 at the origin."""
    f = np.hypot(np.fft.fftfreq(size, 1 / size)[:, None], np.arange(size // 2 + 1))
    f[0, 0] = 1
    return f.astype(np.float32)


def _noise(rng: Generator, size: int, slope: float = 1.0, coarsest: float = 1.0) -> Array:
    """Periodic fractal noise, amplitude |f|**-slope from `coarsest` cycles on: (size, size), mean 0, deviation 1."""
    f = _frequency(size)
    spectrum = np.fft.rfft2(rng.standard_normal((size, size), dtype=np.float32)) * (f**-slope * (f >= coarsest))
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, (size, size)).astype(np.float32)
    return noise / noise.std()


def _wide(noise: Array, stretch: int) -> Array:
    """Noise drawn out sideways, as things are that lie flat and far away."""
    return ndimage.zoom(noise[:, : len(noise) // stretch], (1, stretch), order=1)


def _smoothstep(x: Array, low: float, high: float) -> Array:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _mix(a: Array, b: ArrayLike, weight: NDArray[Any]) -> Array:
    """a (..., 3) towards b by weight (...)."""
    return a + (np.asarray(b, np.float32) - a) * weight[..., None].astype(np.float32)


def _turned(x: ArrayLike, y: ArrayLike, angle: float) -> NDArray[np.float64]:
    """(x, y) turned by `angle` in the image, (2, ...)."""
    c, s = math.cos(angle), math.sin(angle)
    x, y = np.asarray(x), np.asarray(y)
    return np.array([c * x - s * y, s * x + c * y])


def _wrap(angle: Array) -> Array:
    """To [-pi, pi)."""
    return (angle + np.float32(math.pi)) % np.float32(2 * math.pi) - np.float32(math.pi)


def _opaque(hit: NDArray[np.bool_]) -> Array:
    return hit.astype(np.float32)


def _color(red: float, green: float, blue: float) -> Array:
    return np.array([red, green, blue], np.float32)


def _unit(*vector: float) -> Array:
    v = np.array(vector, np.float32)
    return v / np.linalg.norm(v)


def _develop(light: Array, exposure: float) -> Array:
    """Linear light ≥ 0 -> display values in [0, 1], through `_film`."""
    film = _film()
    return film[np.clip(light * np.float32(exposure * FILM_STEPS), 0, len(film) - 1).astype(np.int32)]


@cache
def _film() -> Array:
    """Display value of light 0, 1 / FILM_STEPS ... 4: a film's shoulder (ACES fit), then the gamma of screens."""
    x = np.arange(4 * FILM_STEPS) / FILM_STEPS
    return (((x * (2.51 * x + 0.03)) / (x * (2.43 * x + 0.59) + 0.14)).clip(0, 1) ** (1 / 2.2)).astype(np.float32)


# ---------------------------------------------------------------- insulator: a string of glass discs, outdoors
#
# A string is a solid of revolution seen by a far camera. View frame: u right, v down, z to the viewer; the axis runs
# along (0, cos tilt, sin tilt). Lengths in disc diameters. A profile is a list of (s along the axis, radius).

VIEW = np.array([0, 0, 1], np.float32)
DETAIL = 1.5  # solids are drawn this much larger than they come to lie in the image
PITCH = 0.575  # from disc to disc
# fmt: off
CAP = ((-0.005, 0.0), (0.0, 0.085), (0.012, 0.112), (0.06, 0.12), (0.085, 0.15), (0.13, 0.172), (0.21, 0.186),
       (0.235, 0.2), (0.262, 0.198), (0.27, 0.17))
CORE = ((0.25, 0.18), (0.3, 0.165), (0.345, 0.12), (0.36, 0.05), (0.40, 0.043), (PITCH + 0.01, 0.043))
SHELL = ((0.245, 0.165), (0.258, 0.215), (0.272, 0.265), (0.295, 0.33), (0.325, 0.393), (0.36, 0.445), (0.395, 0.482),
         (0.418, 0.498), (0.432, 0.5), (0.442, 0.492), (0.438, 0.472), (0.41, 0.445), (0.408, 0.425), (0.45, 0.405),
         (0.455, 0.395), (0.405, 0.36), (0.40, 0.335), (0.45, 0.305), (0.452, 0.29), (0.40, 0.25), (0.385, 0.2),
         (0.36, 0.07))
LINK = ((-3.2, 0.05), (-0.5, 0.05), (-0.49, 0.085), (-0.4, 0.1), (-0.31, 0.085), (-0.3, 0.045), (0.0, 0.045))
SOCKET = ((0.0, 0.05), (0.06, 0.05), (0.075, 0.1), (0.13, 0.115), (0.22, 0.1), (0.25, 0.07), (0.46, 0.06), (0.48, 0.02))
CLAMP = ((-0.62, 0.03), (-0.6, 0.055), (-0.42, 0.075), (-0.2, 0.115), (-0.17, 0.14), (-0.11, 0.14), (-0.08, 0.12),
         (0.08, 0.12), (0.11, 0.14), (0.17, 0.14), (0.2, 0.115), (0.42, 0.075), (0.6, 0.055), (0.62, 0.03))
CABLE = ((-1.0, 0.038), (1.0, 0.038))
# fmt: on
RUST, SOOT, DUST = (np.array(c, np.float32) for c in ((0.20, 0.075, 0.024), (0.018, 0.015, 0.013), (0.30, 0.27, 0.22)))


@dataclass(frozen=True)
class _Surface:
    """What rays straight along -z meet on a solid of revolution, all (h, w): whether they hit it, depth z, normal
    (h, w, 3), place s on the axis, distance r from it and angle theta around it (0 faces the viewer)."""

    hit: NDArray[np.bool_]
    z: Array
    normal: Array
    s: Array
    r: Array
    theta: Array


def _revolve(profile: Profile, tilt: float, u: Array, v: Array, back: bool = False) -> _Surface:
    """Exact intersection with the cones between profile points. u: (w,), v: (h,). back: the farthest hit instead."""
    c, k = math.cos(tilt), math.sin(tilt)
    points = np.array(profile, np.float64)
    edges = np.diff(points, axis=0)
    across = np.stack([-edges[:, 1], edges[:, 0]], 1) / np.hypot(*edges.T)[:, None]  # outward, as (s, r)
    corner = np.vstack([across[:1], (across[:-1] + across[1:]) / 2, across[-1:]])  # smooth over the joints
    sign = -1 if back else 1
    u, v = np.broadcast_arrays(u[None, :], v[:, None])
    z = np.full(u.shape, -np.inf, np.float32)
    n_s, n_r = np.zeros_like(z), np.zeros_like(z)
    for (s0, r0), (ds, dr), n0, n1 in zip(
        # plain floats: NumPy's own would turn every array into doubles
        *(rows.tolist() for rows in (points[:-1], edges, corner[:-1], corner[1:])),
        strict=True,
    ):
        # the segment only reaches so far over the image: look no further
        reach = max(abs(r0), abs(r0 + dr))
        middle, half = (s0 + ds / 2) * c, abs(ds / 2) * c + reach * abs(k)
        rows = np.flatnonzero(np.abs(v[:, 0] - middle) <= half)
        columns = np.flatnonzero(np.abs(u[0]) <= reach)
        if not len(rows) or not len(columns):
            continue
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        bu, bv = u[box], v[box]
        slope = dr / ds
        a = r0 + slope * (bv * c - s0)
        qa = c * c - (slope * k) ** 2 or 1e-6
        qb = k * (c * bv + slope * a)
        root = qb * qb - qa * (bu * bu + (k * bv) ** 2 - a * a)
        root = np.sqrt(np.maximum(root, 0), where=root >= 0, out=np.full_like(root, np.nan))
        for side in (-1, 1):
            depth = (qb + side * root) / qa
            t = (bv * c + depth * k - s0) / ds
            with np.errstate(invalid="ignore"):
                ahead = (t >= 0) & (t <= 1) & (sign * depth > z[box])
            z[box] = np.where(ahead, sign * depth, z[box])
            n_s[box] = np.where(ahead, n0[0] + t * (n1[0] - n0[0]), n_s[box])
            n_r[box] = np.where(ahead, n0[1] + t * (n1[1] - n0[1]), n_r[box])
    hit = np.isfinite(z)
    z = np.where(hit, sign * z, 0)
    s, w = v * c + z * k, z * c - v * k
    r = np.hypot(u, w) + 1e-6
    around = n_r / r
    normal = np.stack([around * u, n_s * c - around * w * k, n_s * k + around * w * c], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-6
    return _Surface(hit, z.astype(np.float32), normal.astype(np.float32), s, r, np.arctan2(u, w))


@dataclass(frozen=True)
class _Light:
    """Sun and surroundings in the frame of one solid: directions to the sun and up, and what comes from each height."""

    sun: Array
    up: Array
    sun_color: Array
    sky: Array  # (256, 3) from straight below to straight above

    def turned(self, angle: float) -> "_Light":
        """As seen in a frame turned by `angle` (rad) in the image."""
        c, s = math.cos(angle), math.sin(angle)
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], np.float32)
        return _Light(turn @ self.sun, turn @ self.up, self.sun_color, self.sky)

    def around(self, direction: Array) -> Array:
        """Light from a direction (..., 3) -> (..., 3)."""
        height = direction @ self.up
        return self.sky[np.clip((height + 1) * 127.5, 0, 255).astype(np.uint8)]


def _bounce(normal: Array) -> Array:
    """Where a surface mirrors the viewer's look to."""
    return 2 * normal[..., 2:] * normal - VIEW


def _shadow(surface: _Surface, light: _Light, tilt: float) -> Array:
    """Share of the sun that passes the disc above, (h, w): thick glass dims it, its rim most."""
    along = float(light.sun @ np.array([0, math.cos(tilt), math.sin(tilt)]))
    toward = float(light.sun @ np.array([0, -math.sin(tilt), math.cos(tilt)]))
    if along > -0.05:  # the sun stands level with the discs or below
        return np.ones_like(surface.r)
    steps = np.maximum(surface.s - (0.43 - PITCH), 0) / -along
    u = surface.r * np.sin(surface.theta) + steps * light.sun[0]
    rho = np.hypot(u, surface.r * np.cos(surface.theta) + steps * toward)
    return 1 - (0.3 + 0.35 * _smoothstep(rho, 0.3, 0.47)) * (1 - _smoothstep(rho, 0.47, 0.53))


def _metal(surface: _Surface, light: _Light, sun: Array | float = 1.0) -> tuple[Array, Array]:
    """Weathered zinc: what multiplies the albedo and what gloss adds, each (h, w, 3) linear light."""
    n = surface.normal
    half = (light.sun + VIEW) / np.linalg.norm(light.sun + VIEW)
    gloss = np.maximum(n @ half, 0) ** 30 * (0.30 * sun)
    facing = np.maximum(n @ light.sun, 0) * (0.85 * sun)
    diffuse = 0.6 * light.around(n) + light.sun_color * facing[..., None]
    return diffuse, 0.10 * light.around(_bounce(n)) + light.sun_color * gloss[..., None]


def _glass(front: _Surface, back: _Surface, light: _Light, tint: Array, sun: Array) -> tuple[Array, Array]:
    """Toughened glass: Fresnel reflection, glints, light from behind bent by both faces and dyed on its way.

    Returns linear light (h, w, 3) and opacity (h, w)."""
    n, nz = front.normal, np.abs(front.normal[..., 2])
    inner = back.normal * np.where(back.normal[..., 2:] < 0, np.float32(-1), np.float32(1))
    fresnel = 0.05 + 0.95 * (1 - nz) ** 5
    bounce, inner_bounce = _bounce(n), _bounce(inner)
    glint, inner_glint = np.maximum(bounce @ light.sun, 0), np.maximum(inner_bounce @ light.sun, 0)
    through = -VIEW - 0.5 * n - 0.9 * inner
    through /= np.linalg.norm(through, axis=-1, keepdims=True)
    path = 0.16 / (nz + 0.14) + 0.22 / (np.abs(inner[..., 2]) + 0.2)
    color = light.around(through) * np.exp(-3.2 * path[..., None] * (1 - tint)) * 0.72
    color += (0.35 * tint) * light.around(inner_bounce) * ((1 - inner[..., 2]) ** 2)[..., None]  # ribs mirror inside
    color += (0.10 * tint) * light.around(n)  # a little milk in the body
    color += light.around(bounce) * (1.3 * fresnel)[..., None]
    sparkle = sun * (14 * glint**600 + 0.5 * glint**40 + 0.15 * np.maximum(n @ light.sun, 0)) * (0.3 + fresnel)
    color += light.sun_color * sparkle[..., None]
    color += (light.sun_color * tint) * (sun * 1.8 * inner_glint**60)[..., None]
    return color, np.clip(0.66 + 0.34 * (1 - nz) ** 1.5, 0, 0.97)


def _forest(rng: Generator, size: int, crowns: int, sun: Array, stretch: float = 1.0) -> Array:
    """Tree crowns from above or afar: brightness (size, size) around 0.5."""
    rows = (rng.random(crowns) * size).astype(int)
    gap = np.ones((size, size), bool)
    gap[rows, (rng.random(crowns) * size).astype(int)] = False
    distance = ndimage.distance_transform_edt(gap, sampling=(stretch, 1)).astype(np.float32)
    radius = 0.75 * size / math.sqrt(crowns)
    height = np.sqrt(np.maximum(1 - (distance / radius) ** 2, 0)) + 0.35 * _noise(rng, size, 0.9, 6)
    dy, dx = np.gradient(height * radius * 0.5)
    return np.clip(0.35 + 0.25 * height - 0.2 * (dx * sun[0] + dy * sun[1]), 0.03, 1.6)


def _outdoors(rng: Generator, sun: Array, sunny: float, line: float) -> tuple[Array, Array]:
    """An outdoor scene in linear light, (256, 256, 3), with the horizon at `line` of its height, and the light from
    each height, (256, 3), from straight below to straight above."""
    n = 256
    y = np.linspace(0, 1, n, dtype=np.float32)[:, None] * np.ones((1, n), np.float32)
    zenith = _color(0.40, 0.48, 0.56) * (1 - sunny) + _color(0.09, 0.23, 0.60) * sunny
    horizon = _color(0.60, 0.64, 0.68) * (1 - sunny) + _color(0.52, 0.68, 0.86) * sunny
    season = rng.uniform(-1, 1)
    leaf = _color(0.088 + 0.035 * season, 0.118, 0.05) * (0.7 + 0.6 * sunny)
    soil = _color(0.30, 0.25, 0.15) * (0.6 + 0.5 * sunny) * rng.uniform(0.7, 1.1)
    haze, open_land = rng.uniform(0.3, 0.75), rng.uniform(-0.8, 1.2)
    distance = np.array([[1.0], [0.5], [0.0]], np.float32)
    skylines: Array = line - 0.10 * distance * rng.uniform(0.3, 1.6, (3, 1)) + 0.03 * _noise(rng, n, 1.6)[:3]
    skylines = skylines.astype(np.float32)
    hidden = [*(skylines.max(1) < 0), False]  # the sky and each range of hills, by the next nearer one
    image = np.zeros((n, n, 3), np.float32)
    if not hidden[0]:
        image = _mix(image + horizon, zenith, np.clip((line + 0.15 - y) / 1.1, 0, 1) ** 0.7)
        cloud = _wide(_noise(rng, n, 1.5), 2)
        shade = 0.80 + 0.14 * np.clip(cloud - np.roll(cloud, (7, 4), (0, 1)), -1, 1)
        cover = _smoothstep(cloud, rng.uniform(-0.7, 0.9), 2.2) * (0.35 + 0.6 * sunny)
        image = _mix(image, shade[..., None] * _color(0.93, 0.95, 0.98), cover)
    # ranges of hills, each nearer, greener and rougher than the one before; fields in front
    for k, far in enumerate(distance[:, 0].tolist()):
        below = np.clip((y - skylines[k]) * n, 0, 1)
        if hidden[k + 1] or not below.any():
            continue
        color = leaf * (_forest(rng, n, (2600, 1500, 500)[k], sun, 1.8) * (1.1 + 0.2 * far))[..., None]
        if far == 0:
            field = soil * (1 + 0.12 * _wide(_noise(rng, n, 0.9), 2))[..., None]
            field = _mix(field, leaf * 1.3, _smoothstep(_wide(_noise(rng, n, 1.7), 4), -0.5, 0.6))
            color = _mix(color, field, _smoothstep(_wide(_noise(rng, n, 1.7), 4), open_land, open_land + 0.15))
        color = _mix(color, horizon, haze * far**0.7 + 0.25 * (1 - far) * np.exp(-8 * np.abs(y - line)))
        image = _mix(image, color, below)
    sky = np.array(
        [leaf * 0.45, leaf * 0.6 + soil * 0.10, leaf * 0.6 + soil * 0.2, horizon, horizon * 0.5 + zenith * 0.5, zenith]
    )
    heights = np.linspace(-1, 1, 256)
    table = np.stack([np.interp(heights, (-1, -0.4, -0.1, 0.05, 0.4, 1), sky[:, k]) for k in range(3)], -1)
    return image.astype(np.float32), table.astype(np.float32)


def _steelwork(rng: Generator) -> Array:
    """A lattice tower and wires far behind: opacity (256, 256)."""
    mask = Image.new("L", (SIZE, SIZE))
    pen = ImageDraw.Draw(mask)
    if rng.random() < 0.5:
        x, width, lean = rng.uniform(0, SIZE), rng.uniform(0.1, 0.25) * SIZE, rng.uniform(-0.2, 0.2)
        thick, step = int(rng.integers(4, 8)), width * rng.uniform(0.8, 1.2)
        y = np.arange(-step, SIZE + 2 * step, step)
        left, right = (
            list(zip(x + lean * y + side * width * (0.35 + 0.5 * y / SIZE), y, strict=True)) for side in (-1, 1)
        )
        for a, b, c, d in zip(left[:-1], right[:-1], left[1:], right[1:], strict=True):
            for ends in ((a, b), (a, d), (b, c)):
                pen.line(ends, fill=205, width=thick - 1)
            for ends in ((a, c), (b, d)):
                pen.line(ends, fill=255, width=thick + 2)
    height, slope = rng.uniform(-0.2, 1.1) * SIZE, rng.uniform(-0.35, 0.35)
    for _ in range(rng.integers(0, 4)):
        height += rng.uniform(0.06, 0.3) * SIZE
        pen.line([(0, height), (256, height + slope * 256 + 6), (SIZE, height + slope * SIZE)], fill=200, width=2)
    return np.asarray(mask.reduce(2), np.float32) / 255


@dataclass(frozen=True)
class _Layer:
    """Light over transparency, DETAIL times enlarged: premultiplied linear light (h, w, 3), opacity (h, w)."""

    light: Array
    opacity: Array

    @classmethod
    def empty(cls, height: int, width: int) -> "_Layer":
        return cls(np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32))

    def add(self, light: Array, opacity: Array, row: int = 0) -> None:
        """Lays light (h, w, 3) of an opacity (h, w) on top: from a row on, in the middle of the width."""
        column = (self.opacity.shape[1] - light.shape[1]) // 2
        skip, stop = max(0, -row), max(0, min(len(light), len(self.light) - row))
        box = np.s_[row + skip : row + stop, column : column + light.shape[1]]
        light, opacity = light[skip:stop], opacity[skip:stop]
        keep = 1 - opacity
        self.light[box] = self.light[box] * keep[..., None] + light * opacity[..., None]
        self.opacity[box] = self.opacity[box] * keep + opacity

    def onto(self, image: Array, exposure: float, row: float, at: ArrayLike, angle: float) -> Array:
        """Developed, turned by `angle` about the middle of a row, which comes to lie on `at` (x, y in px)."""
        opacity = self.opacity[..., None]
        values = np.empty((*self.opacity.shape, 4), np.uint8)
        values[..., :3] = _develop(self.light / np.maximum(opacity, 1e-3), exposure) * (255 * opacity) + 0.5
        values[..., 3:] = opacity * 255 + 0.5
        # RGBX, for with RGBA Pillow would multiply by the opacity once more
        source = Image.frombytes("RGBX", (values.shape[1], values.shape[0]), values.tobytes())
        placed = self._placed(source, row, at, angle)
        if (box := placed.getbbox()) is None:
            return image
        left, top, right, bottom = box
        soft = placed.crop(box).filter(ImageFilter.BoxBlur(0.3))  # no lens draws harder edges
        rgba = np.asarray(soft, np.float32) / 255
        image = image.copy()
        part = image[top:bottom, left:right]
        part *= 1 - rgba[..., 3:]
        part += rgba[..., :3]
        return image

    def silhouette(self, row: float, at: ArrayLike, angle: float) -> NDArray[np.bool_]:
        """The pixels that `onto` changes, clear glass included: (SIZE, SIZE)."""
        covered = Image.fromarray((self.opacity > 0).astype(np.uint8) * 255)
        return np.asarray(self._placed(covered, row, at, angle)) >= 128

    @staticmethod
    def _placed(source: Image.Image, row: float, at: ArrayLike, angle: float) -> Image.Image:
        c, s = DETAIL * math.cos(angle), DETAIL * math.sin(angle)
        x, y = np.asarray(at).tolist()
        matrix = (c, s, source.width / 2 - c * x - s * y, -s, c, row + s * x - c * y)
        return source.transform((SIZE, SIZE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class _Disc:
    """One unit of a string, seen once: far away, all look the same but for wear. u: (w,), v: (h,), of the pixels.

    on_shell: light that falls on the glass; iron, pin: diffuse and glossy light of the metal, in the columns `near`.
    """

    tilt: float
    light: _Light
    tint: Array
    u: Array
    v: Array
    near: NDArray[np.bool_]
    cap: _Surface
    core: _Surface
    shell: _Surface
    inside: _Surface
    iron: tuple[Array, Array]
    pin: tuple[Array, Array]
    on_shell: Array
    glass: Array
    opacity: Array

    @classmethod
    def seen(cls, tilt: float, px: float, light: _Light, tint: Array) -> "_Disc":
        """px: pixels per disc diameter."""
        margin = 0.5 * abs(math.sin(tilt)) + 0.03
        side = math.ceil(0.52 * px)
        u = np.arange(-side, side + 1, dtype=np.float32) / px
        v = np.arange(math.floor(-margin * px), math.ceil((PITCH + margin) * px), dtype=np.float32) / px
        near = np.abs(u) < 0.22
        cap, core = _revolve(CAP, tilt, u[near], v), _revolve(CORE, tilt, u[near], v)
        shell, inside = _revolve(SHELL, tilt, u, v), _revolve(SHELL, tilt, u, v, back=True)
        # corners between the parts get less light
        cap_shade = (0.45 + 0.55 * _smoothstep(cap.s, -0.03, 0.14))[..., None]
        pin_shade = (0.6 + 0.3 * _smoothstep(core.s, 0.3, 0.62))[..., None]
        sun = _shadow(shell, light, tilt)
        glass, opacity = _glass(shell, inside, light, tint, sun)
        diffuse, gloss = _metal(cap, light, _shadow(cap, light, tilt))
        pin_diffuse, pin_gloss = _metal(core, light, 0.3)
        return cls(
            tilt, light, tint, u, v, near, cap, core, shell, inside,
            iron=(diffuse * cap_shade, gloss * cap_shade),
            pin=(pin_diffuse * pin_shade, 0.5 * pin_gloss * pin_shade),
            on_shell=_metal(shell, light, sun)[0],
            glass=glass * (0.6 + 0.4 * _smoothstep(shell.r, 0.17, 0.34))[..., None],
            opacity=opacity * shell.hit,
        )  # fmt: skip

    def layers(
        self, grain: Array, speck: Array, rust: float, dirt: float, defect: str, flaw: Generator
    ) -> list[tuple[Array, Array]]:
        """Light (h, w, 3) and opacity (h, w) of pin, glass and cap, back to front. grain, speck: noise (h, w)."""
        cap, core, shell, near = self.cap, self.core, self.shell, self.near
        spots = 0.6 + 0.5 * grain[:, near] + 0.3 * speck[:, near]
        cap_rust, pin_rust = np.clip(0.5 * rust * spots, 0, 0.5), np.clip(rust * spots, 0, 1)
        dusty = np.clip(dirt * (0.5 + 0.5 * grain), 0, 1)
        dusty *= 0.25 + 0.75 * np.clip(shell.normal @ self.light.up * 2, 0, 1)
        glass, opacity = _mix(self.glass, DUST * self.on_shell, 0.6 * dusty), self.opacity + 0.3 * dusty * shell.hit
        opacity = np.minimum(opacity, 0.98)
        if defect == "corrosion":
            patch = _noise(flaw, 512, 1.1, 4)[: len(self.v), : len(self.u)]
            bloom = patch[:, near] + 0.25 * speck[:, near] + flaw.uniform(-0.9, 1.0)
            strength = flaw.uniform(0.55, 1)
            cap_rust = np.maximum(cap_rust, strength * _smoothstep(bloom + 2 * (cap.s - 0.15), -0.2, 0.5))
            pin_rust = np.maximum(pin_rust, strength * _smoothstep(bloom, -1.4, 0))
            run_off = strength * _smoothstep(patch, 0.2, 1.6) * _smoothstep(-shell.r, -0.36, -0.2)
            glass = _mix(glass, RUST * self.on_shell, 0.6 * run_off)
        if defect == "flashover":
            off = _wrap(shell.theta - flaw.uniform(-1.3, 1.3)) / flaw.uniform(0.25, 0.8)
            cloud = _noise(flaw, 512, 1.3, 4)[: len(self.v), : len(self.u)]
            soot = flaw.uniform(0.35, 0.95) * _smoothstep(1.3 - off**2 + 0.35 * cloud - 1.5 * shell.r, -0.2, 0.9)
            glass, opacity = _mix(glass, SOOT * self.on_shell, soot), np.maximum(opacity, soot * shell.hit)
        zinc = _color(0.30, 0.31, 0.32) * (1 + 0.10 * grain[:, near] + 0.07 * speck[:, near])[..., None]
        cement = core.s < 0.35
        pin = _coat(_mix(zinc, (0.30, 0.29, 0.27), cement), pin_rust * ~cement, self.pin)
        iron = _coat(zinc, cap_rust, self.iron)
        before_glass = (cap.z > shell.z[:, near]) | ~shell.hit[:, near]
        parts = [(pin, _opaque(core.hit)), (glass, opacity), (iron, _opaque(cap.hit & before_glass))]
        if defect == "missing_cap":
            parts = [parts[0], (iron, _opaque(cap.hit))]
        if defect == "broken_cap":
            parts[1:2] = self._broken(glass, opacity, flaw)
        return parts

    def _broken(self, glass: Array, opacity: Array, flaw: Generator) -> list[tuple[Array, Array]]:
        """The far side of the disc, now seen through the gap, and its front with a piece out of the rim."""
        where, width, depth = flaw.uniform(-1.9, 1.9), flaw.uniform(0.2, 0.75), flaw.uniform(0.07, 0.28)
        phase = flaw.uniform(0, 2 * math.pi, 3).tolist()

        def lost(surface: _Surface) -> Array:
            """> 0 where glass is missing, 0 at the fracture."""
            off = _wrap(surface.theta - where) / width
            jag = (
                0.10 * np.sin(4 * off + phase[0])
                + 0.05 * np.sin(9 * off + phase[1])
                + 0.03 * np.sin(17 * off + phase[2])
            )
            return surface.r - 0.5 + depth * (1 - off**2 + jag)

        front = lost(self.shell)
        fracture = _smoothstep(front, -0.016, -0.004)
        glass = _mix(glass, 1.2 * self.on_shell * _color(0.75, 0.95, 0.9), 0.75 * fracture)
        opacity = np.maximum(opacity, 0.9 * fracture * self.shell.hit) * (front < 0)
        facing = self.inside.normal * np.sign(self.inside.normal[..., 2:])
        far = dataclasses.replace(self.inside, normal=facing)
        deep, deep_opacity = _glass(far, far, self.light, self.tint, np.full_like(far.r, 0.4))
        return [(0.8 * deep, 0.85 * deep_opacity * (far.hit & (front >= 0) & (lost(far) < 0))), (glass, opacity)]


def _coat(albedo: Array, rust: Array, light: tuple[Array, Array]) -> Array:
    """Metal under (diffuse, glossy) light; rust takes the gloss off."""
    return _mix(albedo, RUST, rust) * light[0] + light[1] * (1 - rust)[..., None]


def _fitting(profile: Profile, tilt: float, px: float, light: _Light, albedo: float = 0.30) -> tuple[Array, Array, int]:
    """A plain metal solid: light, opacity, and the row of its first pixels counted from s = 0."""
    side = math.ceil(0.16 * px)
    low, high = (end * math.cos(tilt) for end in (profile[0][0] - 0.1, profile[-1][0] + 0.1))
    first = math.floor(low * px)
    u = np.arange(-side, side + 1, dtype=np.float32) / px
    part = _revolve(profile, tilt, u, np.arange(first, math.ceil(high * px), dtype=np.float32) / px)
    diffuse, gloss = _metal(part, light)
    return albedo * diffuse + gloss, _opaque(part.hit), first


def _conductor(px: float, light: _Light) -> tuple[_Layer, int]:
    """The cable in its clamp, upright, and the row of the clamp's middle."""
    clamp, covered, first = _fitting(CLAMP, 0.0, px, light, 0.28)
    u = (np.arange(clamp.shape[1], dtype=np.float32) - clamp.shape[1] // 2) / px
    wire = _revolve(CABLE, 0.0, u, np.zeros(1, np.float32))  # one row: light is the same all along
    diffuse, gloss = _metal(wire, light)
    middle = round(6 * px)
    s = np.arange(-middle, middle, dtype=np.float32)[:, None] / px
    strands = 0.24 * (1 + 0.25 * np.sin(2 * math.pi * (s / 0.045 + 0.9 * wire.theta)))
    layer = _Layer.empty(*strands.shape)
    layer.add(strands[..., None] * diffuse + gloss, np.broadcast_to(_opaque(wire.hit), strands.shape))
    layer.add(clamp, covered, middle + first)
    return layer, middle


def _view(rng: Generator) -> tuple[float, _Light, float, Array]:
    """Tilt of what hangs upright, by the camera's pitch; light; exposure; background, developed (SIZE, SIZE, 3)."""
    tilt = rng.uniform(-0.60, 0.22)
    sunny, warm = float(rng.beta(1.5, 1.1)), rng.uniform(0, 1)
    azimuth, height = rng.uniform(-1.7, 1.7), rng.uniform(0.25, 0.95)
    sun = _unit(math.sin(azimuth) * math.cos(height), -math.sin(height), 0.25 + math.cos(azimuth) * math.cos(height))
    scene, sky = _outdoors(rng, sun, sunny, 0.5 + 2.2 * tilt + rng.uniform(-0.25, 0.25))
    light = _Light(
        sun=sun,
        up=_unit(0, -math.cos(tilt), -math.sin(tilt)),
        sun_color=_color(2.1, 1.92 - 0.12 * warm, 1.75 - 0.45 * warm) * sunny,
        sky=sky,
    )
    exposure = rng.uniform(0.85, 1.15) * (1.35 - 0.35 * sunny)
    scene = _mix(scene, (0.10 + 0.20 * sunny) * _color(1, 1, 1.03), 0.85 * _steelwork(rng))
    blur = rng.uniform(0.9, 2.8)  # out of focus; half as many px as in the image
    scene = ndimage.gaussian_filter(scene, (blur, blur, 0), truncate=2.5)
    planes = [Image.fromarray(scene[..., k]).resize((SIZE, SIZE), Image.Resampling.BICUBIC) for k in range(3)]
    return tilt, light, exposure, _develop(np.stack([np.asarray(plane) for plane in planes], -1), exposure)


def _insulator(rng: Generator, defect: str, flaw: Generator) -> Rendered:
    tilt, light, exposure, image = _view(rng)
    angle, diameter, n_discs = rng.uniform(-0.6, 0.6), rng.uniform(118, 152), int(rng.integers(5, 8))
    center = 256 + _turned(rng.uniform(-30, 30), rng.uniform(-45, 45), angle)
    cable_angle = rng.uniform(-0.3, 0.3) - math.pi / 2
    tint = _color(rng.uniform(0.42, 0.6), rng.uniform(0.84, 0.90), rng.uniform(0.76, 0.86))
    dirt, rust = rng.uniform(0.0, 0.45), rng.uniform(0, 0.4)
    grain, speck = _noise(rng, 256, 1.0, 2), _noise(rng, 256, 0.3, 20)
    shifts = rng.integers(0, 256, (n_discs, 2))

    px = DETAIL * diameter
    pitch = PITCH * math.cos(tilt) * px
    length = n_discs * pitch
    turned = light.turned(angle)
    disc = _Disc.seen(tilt, px, turned, tint)
    link = _fitting(LINK, tilt, px, turned)
    socket = _fitting(SOCKET, tilt, px, turned)
    away = tilt < 0  # each disc lies farther than the one above, which hides it
    top = round(max(0.55 * px, DETAIL * (center[1] + 60) / math.cos(angle) - length / 2))  # the link leaves the image

    foot = center + _turned(0, (length / 2 + 0.5 * math.cos(tilt) * px) / DETAIL, angle)
    if np.abs(foot - 256).max() < 400:
        cable, middle = _conductor(px, light.turned(cable_angle))
        image = cable.onto(image, exposure, middle, foot, cable_angle)

    def layers(i: int, defect: str) -> list[tuple[Array, Array]]:
        box = np.ix_((shifts[i, 0] + np.arange(len(disc.v))) % 256, (shifts[i, 1] + np.arange(len(disc.u))) % 256)
        return disc.layers(grain[box], speck[box], rust, dirt, defect, flaw)

    def hang(discs: list[list[tuple[Array, Array]]]) -> _Layer:
        layer = _Layer.empty(top + math.ceil(length + 0.6 * px), len(disc.u))
        ends = [(*link[:2], top + link[2]), (*socket[:2], top + round(length) + socket[2])]
        layer.add(*ends[away])
        for i in reversed(range(n_discs)) if away else range(n_discs):
            for part in discs[i]:
                layer.add(*part, round(top + i * pitch + disc.v[0] * px))
        layer.add(*ends[not away])
        return layer

    place = top + length / 2, center, angle
    discs = [layers(i, "good") for i in range(n_discs)]
    string = hang(discs)  # the object: without the cable, which is not inspected
    twin = flawed = string.onto(image, exposure, *place)
    if defect != "good":
        middles = [center + _turned(0, ((i + 0.55) * pitch - length / 2) / DETAIL, angle) for i in range(n_discs)]
        i = flaw.choice([i for i, at in enumerate(middles) if np.hypot(*(at - 256)) < 185])
        discs[i] = layers(i, defect)
        flawed = hang(discs).onto(image, exposure, *place)
    return *_photograph(rng, twin, flawed, grain=0.008), string.silhouette(*place)


@cache
def _vignette() -> Array:
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j].astype(np.float32)
    return (1 - 0.10 * (x * x + y * y))[..., None]


def _photograph(rng: Generator, twin: Array, image: Array, grain: float) -> tuple[Array, Array]:
    """The same lens and the same sensor noise for both."""
    noise = rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32) * np.float32(grain)
    noise = noise + rng.standard_normal((SIZE // 2, SIZE // 2, 3), dtype=np.float32).repeat(2, 0).repeat(
        2, 1
    ) * np.float32(grain / 2)
    lens = _vignette()
    shot = twin * lens + noise
    return shot, shot if image is twin else image * lens + noise


# ---------------------------------------------------------------- gear: a turned part from above, under fixed lights

TEETH, HOLES = 24, 6
GEAR_RADIUS, TOOTH, WEB_OUT, WEB_IN, BORE, HOLE_AT, HOLE_RADIUS = 212.0, 32.0, 150.0, 74.0, 34.0, 112.0, 21.0  # px
RING = 0.25  # px, step of tables over the radius
SOFTBOXES = ((-2.2, 0.95), (0.55, 0.60))  # direction in the image (rad) and strength of the lights


@cache
def _steps() -> tuple[Array, Array, Array]:
    """Over the radius: slope of the turned faces, share of machined (not cast) surface, light kept in corners."""
    r = np.arange(0, 420, RING)
    web = (r > WEB_IN) & (r < WEB_OUT)
    groove = np.abs(r - 160) < 2
    height = np.where(web, -9.0, 0) - 1.5 * groove
    slope = np.gradient(ndimage.gaussian_filter1d(height, 1.6 / RING), RING)
    wall = np.minimum(np.abs(r - WEB_IN), np.abs(r - WEB_OUT))
    corner = 1 - 0.55 * web * np.exp(-wall / 7) - 0.3 * groove
    machined = ndimage.gaussian_filter1d(np.where(web, 0.0, 1.0), 0.8 / RING)
    return slope.astype(np.float32), machined.astype(np.float32), corner.astype(np.float32)


@dataclass(frozen=True)
class _Flaw:
    """What a defect does to a gear: radius of the outline (8192 angles), extra slope, stain and scratch (h, w)."""

    outline: Array | None = None
    slope: tuple[Array | float, Array | float] = (0.0, 0.0)
    stain: Array | None = None
    scratch: Array | None = None


def _gear_flaw(flaw: Generator, defect: str, x: Array, y: Array) -> _Flaw:
    """x, y: px from the gear's middle."""
    where = flaw.uniform(0, 2 * math.pi)
    ahead = (math.cos(where), math.sin(where))
    if defect == "broken_tooth":
        phase = np.linspace(0, TEETH, 8192, endpoint=False) - flaw.integers(1, TEETH - 1)  # teeth from the broken one
        rough = 0.25 * ndimage.gaussian_filter1d(flaw.standard_normal(8192), 12)
        left = flaw.uniform(0, 0.75) + 2 * flaw.uniform(-0.35, 0.35) * phase + rough  # of its height
        stump = GEAR_RADIUS - TOOTH * np.clip(1 - left, 0, 1)
        return _Flaw(
            outline=np.where(np.abs(phase) < 0.5, np.minimum(_outline(), stump), _outline()).astype(np.float32)
        )
    if defect == "dent":
        far = flaw.choice([flaw.uniform(165, 176), flaw.uniform(52, 68)])
        radius, depth, longer, spin = (
            flaw.uniform(4, 12),
            flaw.uniform(0.5, 2.2),
            flaw.uniform(1, 1.8),
            flaw.uniform(0, 3),
        )
        dx, dy = x - far * ahead[0], y - far * ahead[1]
        c, s = math.cos(spin), math.sin(spin)
        q = np.hypot((dx * c + dy * s) / longer, dy * c - dx * s) / radius
        inward = -depth * q * np.exp(-(q**2.6)) / (np.hypot(dx, dy) + 1e-3)
        return _Flaw(slope=(inward * dx, inward * dy))
    if defect == "stain":
        far, radius, strength = flaw.uniform(45, 175), flaw.uniform(16, 48), flaw.uniform(0.12, 0.6)
        distance = np.hypot(x - far * ahead[0], y - far * ahead[1])
        blot = 1 - (distance / radius) ** 2 + 0.5 * _noise(flaw, SIZE, 1.5, 4)
        return _Flaw(stain=strength * _smoothstep(blot, 0, 0.7) * (1 - 0.45 * _smoothstep(blot, 0.5, 1.3)))  # dark rim
    # a scratch: a fine, slightly bent line of changing depth with a light and a dark flank
    far = flaw.choice([flaw.uniform(164, 175), flaw.uniform(85, 140)])
    length, heading, bend = flaw.uniform(25, 130), flaw.uniform(0, math.pi), flaw.normal(0, 0.12)
    strength, width = flaw.uniform(0.2, 0.9), int(flaw.integers(3, 8))
    t = np.linspace(-0.5, 0.5, 40)
    start = np.array([far * ahead[0] - x[0, 0], far * ahead[1] - y[0, 0]])
    path = 4 * (start[:, None] + _turned(t * length, bend * length * (4 * t * t - 0.5), heading)).T
    ink = 255 * strength * np.clip(2 - 8 * t * t, 0, 1) * (0.75 + 0.25 * np.sin(9 * t + where))
    mask = Image.new("L", (4 * SIZE, 4 * SIZE))
    pen = ImageDraw.Draw(mask)
    for a, b, fill in zip(path[:-1], path[1:], ink[:-1], strict=True):
        pen.line((*a, *b), fill=int(fill), width=width)
    cut = np.asarray(mask.reduce(4), np.float32) / 255
    return _Flaw(scratch=cut - 0.8 * np.roll(cut, (1, 1), (0, 1)))


@cache
def _outline() -> Array:
    """Radius of the sound gear at 8192 angles; a tooth's middle lies at the first."""
    phase = np.linspace(0, TEETH, 8192, endpoint=False)
    return (GEAR_RADIUS - TOOTH * _smoothstep(np.abs((phase + 0.5) % 1 - 0.5) * 2, 0.28, 0.70)).astype(np.float32)


def _gear(rng: Generator, defect: str, flaw: Generator) -> Rendered:
    turn, exposure = rng.uniform(0, 2 * math.pi), rng.normal(1, 0.035)
    middle = 255.5 + rng.normal(0, 3, 2)
    lathe = 1.8 * ndimage.gaussian_filter1d(rng.standard_normal(1680), 1.2).astype(np.float32)  # over the radius
    mat, cast = (np.tile(_noise(rng, 256, slope, 12), (2, 2)) for slope in (0.25, 0.35))
    uneven = ndimage.zoom(_noise(rng, 64, 1.6), SIZE / 64, order=1)
    chatter = rng.uniform(0, 2 * math.pi)

    y, x = np.ogrid[0:SIZE, 0:SIZE]
    x, y = np.broadcast_arrays((x - middle[0]).astype(np.float32), (y - middle[1]).astype(np.float32))
    r, theta = np.hypot(x, y) + np.float32(1e-3), np.arctan2(y, x)
    ex, ey = x / r, y / r  # outward
    ring, at = (r / RING).astype(np.int32), ((theta - turn) * (8192 / (2 * math.pi))).astype(np.int32) % 8192
    steps, machined, corner = (table[ring] for table in _steps())
    # bore with keyway, and the holes, folded into one; negative distance in px: inside the metal
    kx, ky = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    bore = np.maximum(BORE - r, np.minimum(10 - np.abs(ky), np.minimum(kx, BORE + 13 - kx)))
    nearest = turn + (np.floor((theta - turn) * (HOLES / (2 * math.pi))) + 0.5) * (2 * math.pi / HOLES)
    hx, hy = x - HOLE_AT * np.cos(nearest), y - HOLE_AT * np.sin(nearest)
    far = np.hypot(hx, hy) + np.float32(1e-3)
    hole = HOLE_RADIUS - far
    # slopes of turned steps and chamfers
    outward = -steps - 0.8 * _smoothstep(bore, -5, -3)
    rim = 0.8 * _smoothstep(hole, -4, -2) / far
    sx, sy = outward * ex - rim * hx, outward * ey - rim * hy
    brushed = 0.03 * lathe[ring] * (1 + 0.3 * np.sin(3 * theta + chatter))
    polish = corner * (1 + 0.03 * uneven) * (1 + 0.05 * machined * lathe[ring])

    def render(flaw: _Flaw) -> tuple[Array, NDArray[np.bool_]]:
        outline = _outline() if flaw.outline is None else flaw.outline
        lean = (np.gradient(outline, 2 * math.pi / 8192).astype(np.float32))[at] / r
        stretch = 1 / np.sqrt(1 + lean * lean)
        outside = (r - outline[at]) * stretch  # px beyond the outline
        solid = np.clip(0.5 - np.maximum(outside, np.maximum(hole, bore)), 0, 1)
        chamfer = 0.9 * _smoothstep(outside, -4.5, -2.5) * stretch
        nx: Array = sx + chamfer * (ex + ey * lean) + flaw.slope[0]
        ny: Array = sy + chamfer * (ey - ex * lean) + flaw.slope[1]
        # turned faces shine where the lathe's circles lie across the light; slopes and castings scatter it
        tilted = np.clip((nx * nx + ny * ny) * 4, 0, 1)
        light: Array = np.full_like(r, 0.06)
        for direction, strength in SOFTBOXES:
            lx, ly = math.cos(direction), math.sin(direction)
            toward = nx * lx + ny * ly
            across = (ex * ly - ey * lx + brushed + 0.55 * (nx * ly - ny * lx)) ** 2
            fan = (np.exp(across / -0.09) + 0.35 * np.exp(across / -0.56)) * np.exp((toward - 0.05) ** 2 / -0.22)
            face = fan + tilted * (np.clip(0.18 + 0.77 * toward, 0, 1.3) - fan)
            rough = np.clip(0.19 + 0.25 * toward + 0.023 * cast, 0, 1) * 0.42
            light += strength * (rough + machined * (0.62 * face - rough)) * polish
        metal: Array = light[..., None] * _color(0.98, 0.97, 0.95)
        if flaw.stain is not None:
            metal = _mix(metal, metal * _color(0.42, 0.27, 0.13), flaw.stain)
        if flaw.scratch is not None:
            metal = metal * (1 - 0.55 * np.abs(flaw.scratch))[..., None] + 0.38 * np.maximum(flaw.scratch, 0)[..., None]
        # the mat below, with the part's shadow; in the holes it lies in the dark
        shadow = ndimage.shift(ndimage.gaussian_filter(solid[::4, ::4], 2.5), (3, 2.5), order=1, mode="nearest")
        floor = (0.060 + 0.010 * mat + 0.004 * uneven) * (1 - 0.8 * ndimage.zoom(shadow, 4, order=1))
        return _develop(_mix(floor[..., None] * _color(0.80, 0.95, 1.2), metal, solid), exposure), solid >= 0.5

    twin, metal = render(_Flaw())
    flawed = twin
    if defect != "good":
        flawed, _ = render(_gear_flaw(flaw, defect, x, y))
    return *_photograph(rng, twin, flawed, grain=0.006), metal


# ---------------------------------------------------------------- wafer: the map of passing and failing dies

DIE = (13, 11)  # px, width and height with the street
WAFER_RADIUS = 238.0  # px


@dataclass(frozen=True)
class _Dies:
    """The grid: number of the die under each pixel (SIZE, SIZE), -1 where there is none; place of each die from the
    middle in wafer radii, and whether it lies whole on the wafer."""

    under: NDArray[np.int32]
    x: Array
    y: Array
    whole: NDArray[np.bool_]
    wafer: Array  # opacity (SIZE, SIZE)


@cache
def _dies() -> _Dies:
    w, h = DIE
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    middle = SIZE / 2 - 0.5
    edge = np.hypot(x - middle, y - middle)
    notch = np.hypot(x - middle, y - middle - WAFER_RADIUS)
    wafer = np.clip(WAFER_RADIUS - edge + 0.5, 0, 1) * np.clip(notch - 9 + 0.5, 0, 1)
    column, row = (x - SIZE // 2 + w // 2) // w, (y - SIZE // 2 + h // 2) // h
    n = SIZE // min(DIE) + 2
    number = (row + n // 2) * n + column + n // 2
    street = ((x - SIZE // 2 + w // 2) % w == 0) | ((y - SIZE // 2 + h // 2) % h == 0)
    rows, columns = np.divmod(np.arange(n * n), n)
    cx, cy = (columns - n // 2) * w + 0.5, (rows - n // 2) * h + 0.5
    far = np.hypot(np.abs(cx) + w / 2, np.abs(cy) + h / 2)
    notched = np.hypot(cx, cy - WAFER_RADIUS) < 9 + w
    return _Dies(
        np.where(street | (wafer < 1), -1, number).astype(np.int32), (cx / WAFER_RADIUS).astype(np.float32),
        (cy / WAFER_RADIUS).astype(np.float32), (far < WAFER_RADIUS - 3) & ~notched, wafer.astype(np.float32),
    )  # fmt: skip


def _failure_pattern(flaw: Generator, defect: str) -> Array:
    """Probability of failing by the defect, for each die."""
    dies = _dies()
    rho, theta = np.hypot(dies.x, dies.y), np.arctan2(dies.y, dies.x)
    strength = flaw.uniform(0.25, 0.95)
    if defect == "centre":
        spread, x, y = flaw.uniform(0.07, 0.24), *flaw.normal(0, 0.05, 2)
        return strength * np.exp(-(((dies.x - x) ** 2 + (dies.y - y) ** 2) / spread**2))
    if defect == "donut":
        radius, width, x, y = flaw.uniform(0.3, 0.62), flaw.uniform(0.06, 0.13), *flaw.normal(0, 0.06, 2)
        return strength * np.exp(-(((np.hypot(dies.x - x, dies.y - y) - radius) / width) ** 2))
    if defect == "edge_ring":
        inner, where, span = flaw.uniform(0.86, 0.93), flaw.uniform(0, 2 * math.pi), flaw.uniform(1.2, 3.6)
        off = np.abs(_wrap(theta - where))
        return strength * _smoothstep(rho, inner - 0.02, inner + 0.02) * _smoothstep(-off, -span - 0.15, -span + 0.15)
    # scratch: a bent line, of which a few dies may have been spared
    t = np.linspace(-0.5, 0.5, 200)
    length, heading, bend = flaw.uniform(0.25, 1.1), flaw.uniform(0, 2 * math.pi), flaw.normal(0, 0.18)
    x0, y0 = flaw.uniform(-0.4, 0.4, 2)
    aside = bend * length * (4 * t * t - 0.5)
    x = x0 + t * length * math.cos(heading) - aside * math.sin(heading)
    y = y0 + t * length * math.sin(heading) + aside * math.cos(heading)
    hit = np.abs(dies.x - x[:, None]) * WAFER_RADIUS < DIE[0] / 2
    hit &= np.abs(dies.y - y[:, None]) * WAFER_RADIUS < DIE[1] / 2
    return np.where(hit.any(0), 0.7 + 0.3 * strength, 0).astype(np.float32)


def _wafer(rng: Generator, defect: str, flaw: Generator) -> Rendered:
    dies = _dies()
    rho = np.hypot(dies.x, dies.y)
    rate = np.exp(rng.uniform(math.log(0.006), math.log(0.05))) * (1 + 1.2 * _smoothstep(rho, 0.8, 0.97))
    failing = rng.random(len(rho)) < rate
    tilt, bow = rng.normal(0, 0.09, 2), rng.normal(0, 0.12)
    process = 1 + tilt[0] * dies.x + tilt[1] * dies.y + bow * (rho**2 - 0.5) + rng.normal(0, 0.018, len(rho))
    bins = rng.choice(3, len(rho), p=(0.7, 0.2, 0.1))

    def render(failing: NDArray[np.bool_]) -> Array:
        passed = np.array([0.145, 0.43, 0.475], np.float32) * process[:, None]
        failed = np.array([[0.965, 0.66, 0.22], [0.93, 0.50, 0.20], [0.86, 0.33, 0.25]], np.float32)[bins]
        color = np.where(failing[:, None], failed, passed)
        color = np.where(dies.whole[:, None], color, np.array([0.165, 0.215, 0.245]))
        street = np.array([[0.105, 0.15, 0.175]])
        disc = np.vstack([color, street]).astype(np.float32)[dies.under]
        return _mix(np.full((SIZE, SIZE, 3), (0.055, 0.065, 0.08), np.float32), disc, dies.wafer)

    twin = flawed = render(failing)
    if defect != "good":
        pattern = _failure_pattern(flaw, defect) * dies.whole
        worse = failing | (flaw.random(len(rho)) < pattern)
        worse[np.argsort(pattern - 2 * failing)[-5:]] = True  # never fewer than five dies more
        flawed = render(worse)
    return twin, flawed, dies.wafer >= 0.5


# ---------------------------------------------------------------- what the rest of the house uses


CATEGORIES: dict[str, SampleCategory] = {
    category.name: category
    for category in (
        SampleCategory(
            "insulator",
            "Insulator string",
            "A string of glass insulators on a power line, seen outdoors from changing angles, in changing light and "
            "weather. Discs may be missing, broken or burnt, and metal may rust.",
            "InsPLAD-fault",
            {
                "missing_cap": "one glass disc has shattered; only its iron cap and pin are left",
                "broken_cap": "a piece is broken out of the rim of one disc",
                "corrosion": "rust on the iron cap and pin of one disc",
                "flashover": "an arc has left soot on one disc",
            },
        ),
        SampleCategory(
            "gear",
            "Gear wheel",
            "A turned steel gear on a dark mat, seen from above under two fixed lights; it lies at any angle. A tooth "
            "may be broken, a face dented, scratched or stained.",
            "MVTec AD",
            {
                "broken_tooth": "one tooth is broken off, wholly or in part",
                "dent": "a dent in a turned face",
                "scratch": "a fine scratch across the metal",
                "stain": "a brownish stain, from faint to plain",
            },
        ),
        SampleCategory(
            "wafer",
            "Wafer map",
            "The test map of a semiconductor wafer: each cell is a die that passed (teal) or failed (orange to red). A "
            "few dies fail at random on every wafer; failures that form a pattern point to a fault in the process.",
            "Semiconductor Wafer",
            {
                "centre": "failures gather near the middle",
                "edge_ring": "failures along the rim, all around or in part",
                "scratch": "failures in a line",
                "donut": "failures in a ring around the middle, from dense to sparse",
            },
        ),
    )
}
# Photographs come as JPEG and maps as PNG, as in real sets.
_SUFFIX = {"insulator": ".jpg", "gear": ".jpg", "wafer": ".png"}
_RENDER: dict[str, Callable[[Generator, str, Generator], Rendered]] = {
    "insulator": _insulator,
    "gear": _gear,
    "wafer": _wafer,
}
LICENCE = """Synthetic sample images for AttentDifferNet.

Drawn by attentdiffernet/datasets/sample.py from random numbers: they show no real object, and no photograph went into
them. Released under CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/): use them for anything. They mirror
the kinds of data in the AttentDifferNet paper and are no benchmark: results on them say nothing about real data sets.
"""
N_TRAIN, N_TEST_GOOD, N_PER_DEFECT = 160, 40, 20
MAX_IMAGES = 1_000_000  # of one category: the seeds of two sets never meet
MARK = "license.txt"  # holds LICENCE: how `write` knows a folder as its own; MVTec AD has a file of this name there too


def draw(category: str, defect: str = "good", seed: int = 0) -> Sample:
    """One image, a pure function of its arguments: the scene of (category, seed), with the defect added.

    Raises DatasetError for an unknown category or defect and for a negative seed.
    """
    known = _known(category)
    if defect != "good" and defect not in known.defects:
        raise DatasetError(f"{category} has no defect {defect!r}; it has good, {', '.join(known.defects)}")
    if seed < 0:
        raise DatasetError(f"A seed must be 0 or more, got {seed}")
    for attempt in range(50):
        scene = np.random.default_rng([_code(category), seed])
        flaw = np.random.default_rng([_code(category), seed, _code(defect), attempt])
        *pair, part = _RENDER[category](scene, defect, flaw)
        twin, image = (np.rint(values.clip(0, 1) * 255).astype(np.uint8) for values in pair)
        if defect == "good":
            return Sample(image, np.zeros((SIZE, SIZE), bool), part)
        mask = (np.maximum(image, twin) - np.minimum(image, twin)).max(-1) >= MIN_DIFFERENCE
        if mask.sum() >= MIN_AREA:  # else it lies out of sight: try another place
            return Sample(np.where(mask[..., None], image, twin), mask, part)
    raise RuntimeError(f"No visible {defect} on {category} with seed {seed} in 50 attempts")


def _known(category: str) -> SampleCategory:
    if category not in CATEGORIES:
        raise DatasetError(f"There is no sample category {category!r}; there are {', '.join(CATEGORIES)}")
    return CATEGORIES[category]


def _code(name: str) -> int:
    return zlib.crc32(name.encode())  # Python's own hash differs from run to run


def write(
    root: str | Path,
    categories: Iterable[str] | None = None,
    n_train: int = N_TRAIN,
    n_test_good: int = N_TEST_GOOD,
    n_per_defect: int = N_PER_DEFECT,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Draws the sample set into ROOT/CATEGORY in the MVTec AD layout and returns ROOT. Beside ground_truth/DEFECT with
    masks of the defects lies objects/DEFECT with masks of the whole part, which MVTec AD has not.

    Every image has a scene of its own: none of the test is in training. A category folder appears whole or not at all,
    and replaces one that `write` made before. progress: called with (images done, images in all) after each. Raises
    DatasetError where ROOT or a category in it is something else than ours, for unknown categories and negative counts.
    """
    root = Path(root)
    chosen = [_known(name) for name in dict.fromkeys(CATEGORIES if categories is None else categories)]
    if min(n_train, n_test_good, n_per_defect, seed) < 0:
        raise DatasetError("The counts and the seed of the sample set must be 0 or more")
    plans = {category.name: _plan(category, n_train, n_test_good, n_per_defect) for category in chosen}
    total = sum(map(len, plans.values()))
    if root.exists() and not root.is_dir():
        raise DatasetError(f"{root} is a file; the sample set needs a folder")
    for name in plans:
        _check_ours(root / name)
    root.mkdir(parents=True, exist_ok=True)
    sweep_folder(root)
    done = 0
    for name, plan in plans.items():
        with replace_folder(root / name, durable=False) as folder:
            for k, (split, defect, number) in enumerate(plan):
                _save(draw(name, defect, seed * MAX_IMAGES + k), folder, split, f"{defect}/{number:03d}", _SUFFIX[name])
                done += 1
                if progress is not None:
                    progress(done, total)
            (folder / MARK).write_text(LICENCE, encoding="utf-8")
            _check_ours(root / name)
    return root


def file_of(category: str, name: str, split: str = "test") -> bytes:
    """The image file that `write` puts into ROOT/CATEGORY/SPLIT/NAME (as `scratch/007.png`), drawn anew.

    Of the set as `write` draws it unless told otherwise. Raises DatasetError for a name that is not in it.
    """
    plan = _plan(_known(category), N_TRAIN, N_TEST_GOOD, N_PER_DEFECT)
    names = [_name(category, defect, number) if part == split else "" for part, defect, number in plan]
    if not name or name not in names:
        raise DatasetError(f"The sample set has no image {category}/{split}/{name}")
    k = names.index(name)
    stream = io.BytesIO()
    _encode(draw(category, plan[k][1], seed=k), stream, Path(name).suffix)
    return stream.getvalue()


def _plan(category: SampleCategory, n_train: int, n_test_good: int, n_per_defect: int) -> list[tuple[str, str, int]]:
    """(split, defect, number) of each image; its place in the list becomes its seed."""
    parts = [("train", "good", n_train), ("test", "good", n_test_good)]
    parts += [("test", defect, n_per_defect) for defect in category.defects]
    plan = [(split, defect, number) for split, defect, count in parts for number in range(count)]
    if len(plan) > MAX_IMAGES:
        raise DatasetError(f"{category.name} would have {len(plan)} images; the limit is {MAX_IMAGES}")
    return plan


def _save(sample: Sample, folder: Path, split: str, name: str, suffix: str) -> None:
    path = folder / split / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        _encode(sample, file, path.suffix)
    if not name.startswith("good/"):
        for kind, mask in (("ground_truth", sample.mask), ("objects", sample.object)):
            path = folder / kind / f"{name}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).convert("1").save(path)


def _name(category: str, defect: str, number: int) -> str:
    return f"{defect}/{number:03d}{_SUFFIX[category]}"


def _encode(sample: Sample, file: BinaryIO, suffix: str) -> None:
    kind = Image.registered_extensions()[suffix]
    Image.fromarray(sample.image).save(file, kind, quality=95)  # PNG knows no quality and ignores it


def _check_ours(folder: Path) -> None:
    """Raises DatasetError unless the folder is missing, empty or written by `write`."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() and not (folder / MARK).is_file():
        raise DatasetError(f"{folder} exists and is not a sample set; it is left alone. Choose another folder")
    if folder.exists() and (folder / MARK).read_text(encoding="utf-8", errors="replace") != LICENCE:
        raise DatasetError(f"{folder} holds another data set; it is left alone. Choose another folder")
