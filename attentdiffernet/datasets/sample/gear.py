"""Gear: a turned part, seen from above under two fixed lights."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from .drawing import SIZE, Array, Rendered, develop, fractal_noise, mix, photograph, rgb, rotated, smoothstep
from .levels import Defect, LevelTable

TEETH, HOLES = 24, 6
GEAR_RADIUS, TOOTH, WEB_OUT, WEB_IN, BORE, HOLE_AT, HOLE_RADIUS = 212.0, 32.0, 150.0, 74.0, 34.0, 112.0, 21.0  # px
ANGLES = 8192  # of tables over the angle
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


# fmt: off
LEVELS: LevelTable = {
    #                             obvious        moderate       hard
    "broken_tooth": {
        "teeth":                ((2.0, 3.0),    (1.0, 1.0),    (1.0, 1.0)),    # side by side
        "lost":                 ((0.9, 1.0),    (0.75, 0.9),   (0.3, 0.4)),    # of their height
    },
    "dent": {
        "radius_px":            ((28, 34),      (18, 22),      (7, 9)),
        "depth":                ((3.0, 3.8),    (1.9, 2.4),    (0.8, 1.1)),
    },
    "scratch": {
        "length_px":            ((240, 300),    (120, 160),    (60, 80)),
        "width_px":             ((8.0, 10.0),   (3.5, 4.5),    (1.8, 2.4)),
        "depth":                ((0.95, 1.0),   (0.8, 0.95),   (0.4, 0.55)),
    },
    "stain": {
        "radius_px":            ((60, 75),      (44, 54),      (30, 38)),
        "strength":             ((0.8, 0.95),   (0.6, 0.75),   (0.35, 0.45)),
    },
}
# fmt: on


@dataclass(frozen=True)
class Flaw:
    """What a defect does to a gear: radius of the outline (ANGLES), extra slope, stain and scratch (h, w)."""

    outline: Array | None = None
    slope: tuple[Array | float, Array | float] = (0.0, 0.0)
    stain: Array | None = None
    scratch: Array | None = None


# -- defects


def _flaw(defect: Defect, x: Array, y: Array) -> Flaw:
    """x, y: px from the gear's middle."""
    return FLAWS[defect.name](defect, defect.random.uniform(0, 2 * math.pi), x, y)


def _broken_tooth(defect: Defect, where: float, x: Array, y: Array) -> Flaw:
    random = defect.random
    phase = np.linspace(0, TEETH, ANGLES, endpoint=False) - random.integers(2, TEETH - 2)  # teeth from the broken one
    rough = 0.25 * ndimage.gaussian_filter1d(random.standard_normal(ANGLES), 12)
    slant, teeth = random.uniform(-0.35, 0.35), round(defect.draw("teeth"))
    across = phase - (teeth - 1) / 2  # from the middle of the gap
    lost = defect.draw("lost") + 2 * slant / teeth * across + rough
    stump = GEAR_RADIUS - TOOTH * np.clip(lost, 0, 1)
    outline = np.where(np.abs(across) < teeth / 2, np.minimum(_outline(), stump), _outline())
    return Flaw(outline=outline.astype(np.float32))


def _dent(defect: Defect, where: float, x: Array, y: Array) -> Flaw:
    random = defect.random
    far = random.choice([random.uniform(165, 176), random.uniform(52, 68)])
    radius, depth = defect.draw("radius_px"), defect.draw("depth")
    longer, spin = random.uniform(1, 1.5), random.uniform(0, 3)
    dx, dy = x - far * math.cos(where), y - far * math.sin(where)
    c, s = math.cos(spin), math.sin(spin)
    q = np.hypot((dx * c + dy * s) / longer, dy * c - dx * s) / radius
    inward = -depth * q * np.exp(-(q**2.6)) / (np.hypot(dx, dy) + 1e-3)
    return Flaw(slope=(inward * dx, inward * dy))


def _stain(defect: Defect, where: float, x: Array, y: Array) -> Flaw:
    far, radius, strength = defect.random.uniform(70, 150), defect.draw("radius_px"), defect.draw("strength")
    distance = np.hypot(x - far * math.cos(where), y - far * math.sin(where))
    blot = 1 - (distance / radius) ** 2 + 0.5 * fractal_noise(defect.random, SIZE, 1.5, 4)
    return Flaw(stain=strength * smoothstep(blot, 0, 0.7) * (1 - 0.45 * smoothstep(blot, 0.5, 1.3)))  # dark rim


def _scratch(defect: Defect, where: float, x: Array, y: Array) -> Flaw:
    """A slightly bent line of changing depth, with a light and a dark flank."""
    random = defect.random
    far = random.uniform(85, 140)
    heading, bend = random.uniform(0, math.pi), random.normal(0, 0.12)
    length, width, depth = defect.draw("length_px"), round(4 * defect.draw("width_px")), defect.draw("depth")
    t = np.linspace(-0.5, 0.5, 40)
    start = np.array([far * math.cos(where) - x[0, 0], far * math.sin(where) - y[0, 0]])
    path = 4 * (start[:, None] + rotated(t * length, bend * length * (4 * t * t - 0.5), heading)).T
    ink = 255 * depth * np.clip(2 - 8 * t * t, 0, 1) * (0.75 + 0.25 * np.sin(9 * t + where))
    mask = Image.new("L", (4 * SIZE, 4 * SIZE))
    pen = ImageDraw.Draw(mask)
    for a, b, fill in zip(path[:-1], path[1:], ink[:-1], strict=True):
        pen.line((*a, *b), fill=int(fill), width=width)
    cut = np.asarray(mask.reduce(4), np.float32) / 255
    aside = max(1.0, width / 4 * 0.6) * rotated(0, 1, heading)  # px, from the light flank to the dark one
    down, right = np.rint(aside[::-1] * (1 if aside.sum() >= 0 else -1)).astype(int).tolist()
    return Flaw(scratch=cut - 0.8 * np.roll(cut, (down, right), (0, 1)))


FLAWS: dict[str, Callable[[Defect, float, Array, Array], Flaw]] = {
    "broken_tooth": _broken_tooth,
    "dent": _dent,
    "stain": _stain,
    "scratch": _scratch,
}


# -- the part


@cache
def _outline() -> Array:
    """Radius of the sound gear at ANGLES angles; a tooth's middle lies at the first."""
    phase = np.linspace(0, TEETH, ANGLES, endpoint=False)
    return (GEAR_RADIUS - TOOTH * smoothstep(np.abs((phase + 0.5) % 1 - 0.5) * 2, 0.28, 0.70)).astype(np.float32)


@dataclass(frozen=True)
class _Part:
    """A sound gear as it lies, all (SIZE, SIZE): what its defects change is added by `render`.

    x, y: px from its middle; r: their distance; ex, ey: outward. at: number of the angle, of ANGLES. cut_out: negative
    distance in px to the holes and the bore. sx, sy: slope of steps and chamfers. brushed: turn of the lathe's marks.
    machined: share of the surface that is not cast. polish: share of the light that is kept. cast, mat, uneven: noise.
    """

    exposure: float
    x: Array
    y: Array
    r: Array
    ex: Array
    ey: Array
    at: NDArray[np.int32]
    cut_out: Array
    sx: Array
    sy: Array
    brushed: Array
    machined: Array
    polish: Array
    cast: Array
    mat: Array
    uneven: Array

    @classmethod
    def laid_down(cls, rng: Generator) -> "_Part":
        turn, exposure = rng.uniform(0, 2 * math.pi), rng.normal(1, 0.035)
        middle = 255.5 + rng.normal(0, 3, 2)
        lathe = 1.8 * ndimage.gaussian_filter1d(rng.standard_normal(1680), 1.2).astype(np.float32)  # over the radius
        mat, cast = (np.tile(fractal_noise(rng, 256, slope, 12), (2, 2)) for slope in (0.25, 0.35))
        uneven = ndimage.zoom(fractal_noise(rng, 64, 1.6), SIZE / 64, order=1)
        chatter = rng.uniform(0, 2 * math.pi)

        y, x = np.ogrid[0:SIZE, 0:SIZE]
        x, y = np.broadcast_arrays((x - middle[0]).astype(np.float32), (y - middle[1]).astype(np.float32))
        r, theta = np.hypot(x, y) + np.float32(1e-3), np.arctan2(y, x)
        ex, ey = x / r, y / r
        ring, at = (r / RING).astype(np.int32), ((theta - turn) * (ANGLES / (2 * math.pi))).astype(np.int32) % ANGLES
        steps, machined, corner = (table[ring] for table in _steps())
        # bore with keyway, and the holes, folded into one
        kx, ky = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
        bore = np.maximum(BORE - r, np.minimum(10 - np.abs(ky), np.minimum(kx, BORE + 13 - kx)))
        nearest = turn + (np.floor((theta - turn) * (HOLES / (2 * math.pi))) + 0.5) * (2 * math.pi / HOLES)
        hx, hy = x - HOLE_AT * np.cos(nearest), y - HOLE_AT * np.sin(nearest)
        far = np.hypot(hx, hy) + np.float32(1e-3)
        hole = HOLE_RADIUS - far
        outward = -steps - 0.8 * smoothstep(bore, -5, -3)
        rim = 0.8 * smoothstep(hole, -4, -2) / far
        return cls(
            exposure, x, y, r, ex, ey, at,
            cut_out=np.maximum(hole, bore),
            sx=outward * ex - rim * hx,
            sy=outward * ey - rim * hy,
            brushed=0.03 * lathe[ring] * (1 + 0.3 * np.sin(3 * theta + chatter)),
            machined=machined,
            polish=corner * (1 + 0.03 * uneven) * (1 + 0.05 * machined * lathe[ring]),
            cast=cast, mat=mat, uneven=uneven,
        )  # fmt: skip

    def render(self, flaw: Flaw) -> tuple[Array, NDArray[np.bool_]]:
        """The developed image (SIZE, SIZE, 3), and where the metal is."""
        outline = _outline() if flaw.outline is None else flaw.outline
        lean = (np.gradient(outline, 2 * math.pi / ANGLES).astype(np.float32))[self.at] / self.r
        stretch = 1 / np.sqrt(1 + lean * lean)
        outside = (self.r - outline[self.at]) * stretch  # px beyond the outline
        solid = np.clip(0.5 - np.maximum(outside, self.cut_out), 0, 1)
        chamfer = 0.9 * smoothstep(outside, -4.5, -2.5) * stretch
        nx: Array = self.sx + chamfer * (self.ex + self.ey * lean) + flaw.slope[0]
        ny: Array = self.sy + chamfer * (self.ey - self.ex * lean) + flaw.slope[1]
        metal: Array = self._reflected(nx, ny)[..., None] * rgb(0.98, 0.97, 0.95)
        if flaw.stain is not None:
            metal = mix(metal, metal * rgb(0.42, 0.27, 0.13), flaw.stain)
        if flaw.scratch is not None:
            metal = metal * (1 - 0.65 * np.abs(flaw.scratch))[..., None] + 0.45 * np.maximum(flaw.scratch, 0)[..., None]
        # the mat below, with the part's shadow; in the holes it lies in the dark
        shadow = ndimage.shift(ndimage.gaussian_filter(solid[::4, ::4], 2.5), (3, 2.5), order=1, mode="nearest")
        floor = (0.060 + 0.010 * self.mat + 0.004 * self.uneven) * (1 - 0.8 * ndimage.zoom(shadow, 4, order=1))
        return develop(mix(floor[..., None] * rgb(0.80, 0.95, 1.2), metal, solid), self.exposure), solid >= 0.5

    def _reflected(self, nx: Array, ny: Array) -> Array:
        """Light from a surface of this slope. Turned faces shine where the lathe's circles lie across the light; slopes
        and castings scatter it."""
        tilted = np.clip((nx * nx + ny * ny) * 4, 0, 1)
        light: Array = np.full_like(self.r, 0.06)
        for direction, strength in SOFTBOXES:
            lx, ly = math.cos(direction), math.sin(direction)
            toward = nx * lx + ny * ly
            across = (self.ex * ly - self.ey * lx + self.brushed + 0.55 * (nx * ly - ny * lx)) ** 2
            fan = (np.exp(across / -0.09) + 0.35 * np.exp(across / -0.56)) * np.exp((toward - 0.05) ** 2 / -0.22)
            face = fan + tilted * (np.clip(0.18 + 0.77 * toward, 0, 1.3) - fan)
            rough = np.clip(0.19 + 0.25 * toward + 0.023 * self.cast, 0, 1) * 0.42
            light += strength * (rough + self.machined * (0.62 * face - rough)) * self.polish
        return light


def gear(rng: Generator, defect: Defect | None) -> Rendered:
    part = _Part.laid_down(rng)
    twin, metal = part.render(Flaw())
    flawed = twin
    if defect:
        flawed, _ = part.render(_flaw(defect, part.x, part.y))
    return *photograph(rng, twin, flawed, grain=0.006), metal
