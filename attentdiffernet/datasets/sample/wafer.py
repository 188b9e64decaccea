"""Wafer: the map of passing and failing dies."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .drawing import SIZE, Array, Rendered, mix, smoothstep, wrapped_angle
from .levels import Defect, LevelTable

DIE = (13, 11)  # px, width and height with the street
WAFER_RADIUS = 238.0  # px
FAILURE_RATE = (0.03, 0.08)  # share of dies that fail at random on a sound wafer
# fmt: off
LEVELS: LevelTable = {
    #                   obvious        moderate       hard
    # density: share of the dies on the pattern that fail; lengths in wafer radii
    "centre": {
        "radius":     ((0.24, 0.30),  (0.17, 0.21),  (0.12, 0.15)),
        "density":    ((0.85, 1.0),   (0.5, 0.7),    (0.3, 0.4)),
    },
    "edge_ring": {
        "width":      ((0.12, 0.15),  (0.09, 0.11),  (0.07, 0.08)),
        "half_angle": ((2.4, 3.6),    (1.4, 2.2),    (0.9, 1.3)),
        "density":    ((0.85, 1.0),   (0.5, 0.65),   (0.3, 0.4)),
    },
    "scratch": {
        "length":     ((1.0, 1.2),    (0.7, 0.9),    (0.35, 0.45)),
        "density":    ((0.95, 1.0),   (0.8, 0.9),    (0.55, 0.7)),
    },
    "donut": {
        "width":      ((0.10, 0.13),  (0.08, 0.10),  (0.06, 0.07)),
        "density":    ((0.7, 0.9),    (0.3, 0.4),    (0.12, 0.18)),
    },
}
# fmt: on


@dataclass(frozen=True)
class Dies:
    """The grid: number of the die under each pixel (SIZE, SIZE), -1 where there is none; place of each die from the
    middle in wafer radii, and whether it lies whole on the wafer."""

    under: NDArray[np.int32]
    x: Array
    y: Array
    whole: NDArray[np.bool_]
    wafer: Array  # opacity (SIZE, SIZE)


@cache
def _dies() -> Dies:
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
    return Dies(
        np.where(street | (wafer < 1), -1, number).astype(np.int32), (cx / WAFER_RADIUS).astype(np.float32),
        (cy / WAFER_RADIUS).astype(np.float32), (far < WAFER_RADIUS - 3) & ~notched, wafer.astype(np.float32),
    )  # fmt: skip


def _failure_pattern(defect: Defect) -> Array:
    """Probability of failing by the defect, for each die."""
    dies, random = _dies(), defect.random
    rho, theta = np.hypot(dies.x, dies.y), np.arctan2(dies.y, dies.x)
    strength = defect.draw("density")
    if defect.name == "centre":
        spread, x, y = defect.draw("radius"), *random.normal(0, 0.05, 2)
        return strength * np.exp(-(((dies.x - x) ** 2 + (dies.y - y) ** 2) / spread**2))
    if defect.name == "donut":
        radius, width, x, y = random.uniform(0.3, 0.62), defect.draw("width"), *random.normal(0, 0.06, 2)
        return strength * np.exp(-(((np.hypot(dies.x - x, dies.y - y) - radius) / width) ** 2))
    if defect.name == "edge_ring":
        where, inner, span = random.uniform(0, 2 * math.pi), 1 - defect.draw("width"), defect.draw("half_angle")
        off = np.abs(wrapped_angle(theta - where))
        return strength * smoothstep(rho, inner - 0.02, inner + 0.02) * smoothstep(-off, -span - 0.15, -span + 0.15)
    # scratch: a bent line, of which dies may have been spared
    t = np.linspace(-0.5, 0.5, 200)
    heading, bend, x0, y0 = random.uniform(0, 2 * math.pi), random.normal(0, 0.18), *random.uniform(-0.4, 0.4, 2)
    length = defect.draw("length")
    aside = bend * length * (4 * t * t - 0.5)
    x = x0 + t * length * math.cos(heading) - aside * math.sin(heading)
    y = y0 + t * length * math.sin(heading) + aside * math.cos(heading)
    hit = np.abs(dies.x - x[:, None]) * WAFER_RADIUS < DIE[0] / 2
    hit &= np.abs(dies.y - y[:, None]) * WAFER_RADIUS < DIE[1] / 2
    return np.where(hit.any(0), strength, 0).astype(np.float32)


def wafer(rng: Generator, defect: Defect | None) -> Rendered:
    dies = _dies()
    rho = np.hypot(dies.x, dies.y)
    rate = np.exp(rng.uniform(*np.log(FAILURE_RATE))) * (1 + 1.2 * smoothstep(rho, 0.8, 0.97))
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
        return mix(np.full((SIZE, SIZE, 3), (0.055, 0.065, 0.08), np.float32), disc, dies.wafer)

    twin = flawed = render(failing)
    if defect:
        pattern = _failure_pattern(defect) * dies.whole
        worse = failing | (defect.random.random(len(rho)) < pattern)
        worse[np.argsort(pattern - 2 * failing)[-5:]] = True  # never fewer than five dies more
        flawed = render(worse)
    return twin, flawed, dies.wafer >= 0.5
