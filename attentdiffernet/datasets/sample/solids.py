"""Solids of revolution under the sun: where rays meet them, and the light that metal and glass send back.

View frame: u right, v down, z to the viewer; the axis runs along (0, cos tilt, sin tilt). Lengths in disc diameters. A
profile is a list of (s along the axis, radius). The camera is far away: rays are parallel.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .drawing import Array

Profile = tuple[tuple[float, float], ...]
VIEW = np.array([0, 0, 1], np.float32)


@dataclass(frozen=True)
class Surface:
    """What rays straight along -z meet on a solid of revolution, all (h, w): whether they hit it, depth z, normal
    (h, w, 3), place s on the axis, distance r from it and angle theta around it (0 faces the viewer)."""

    hit: NDArray[np.bool_]
    z: Array
    normal: Array
    s: Array
    r: Array
    theta: Array


def revolve(profile: Profile, tilt: float, u: Array, v: Array, back: bool = False) -> Surface:
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
    return Surface(hit, z.astype(np.float32), normal.astype(np.float32), s, r, np.arctan2(u, w))


@dataclass(frozen=True)
class Light:
    """Sun and surroundings in the frame of one solid: directions to the sun and up, and what comes from each height."""

    sun: Array
    up: Array
    sun_color: Array
    sky: Array  # (256, 3) from straight below to straight above

    def turned(self, angle: float) -> "Light":
        """As seen in a frame turned by `angle` (rad) in the image."""
        c, s = math.cos(angle), math.sin(angle)
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], np.float32)
        return Light(turn @ self.sun, turn @ self.up, self.sun_color, self.sky)

    def around(self, direction: Array) -> Array:
        """Light from a direction (..., 3) -> (..., 3)."""
        height = direction @ self.up
        return self.sky[np.clip((height + 1) * 127.5, 0, 255).astype(np.uint8)]


def _bounce(normal: Array) -> Array:
    """Where a surface mirrors the viewer's look to."""
    return 2 * normal[..., 2:] * normal - VIEW


def metal_light(surface: Surface, light: Light, sun: Array | float = 1.0) -> tuple[Array, Array]:
    """Weathered zinc: what multiplies the albedo and what gloss adds, each (h, w, 3) linear light."""
    n = surface.normal
    half = (light.sun + VIEW) / np.linalg.norm(light.sun + VIEW)
    gloss = np.maximum(n @ half, 0) ** 30 * (0.30 * sun)
    facing = np.maximum(n @ light.sun, 0) * (0.85 * sun)
    diffuse = 0.6 * light.around(n) + light.sun_color * facing[..., None]
    return diffuse, 0.10 * light.around(_bounce(n)) + light.sun_color * gloss[..., None]


def glass_light(front: Surface, back: Surface, light: Light, tint: Array, sun: Array) -> tuple[Array, Array]:
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
