"""Wafer: the map of passing and failing dies."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .drawing import SIZE, Array, Rendered, mix, smoothstep, wrapped_angle

DIE = (13, 11)  # px, width and height with the street
WAFER_RADIUS = 238.0  # px


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
        off = np.abs(wrapped_angle(theta - where))
        return strength * smoothstep(rho, inner - 0.02, inner + 0.02) * smoothstep(-off, -span - 0.15, -span + 0.15)
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


def wafer(rng: Generator, defect: str, flaw: Generator) -> Rendered:
    dies = _dies()
    rho = np.hypot(dies.x, dies.y)
    rate = np.exp(rng.uniform(math.log(0.006), math.log(0.05))) * (1 + 1.2 * smoothstep(rho, 0.8, 0.97))
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
    if defect != "good":
        pattern = _failure_pattern(flaw, defect) * dies.whole
        worse = failing | (flaw.random(len(rho)) < pattern)
        worse[np.argsort(pattern - 2 * failing)[-5:]] = True  # never fewer than five dies more
        flawed = render(worse)
    return twin, flawed, dies.wafer >= 0.5
