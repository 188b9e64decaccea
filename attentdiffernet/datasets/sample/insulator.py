"""Insulator: a string of glass discs on a power line, outdoors."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageFilter

from .drawing import (
    SIZE,
    Array,
    Rendered,
    develop,
    fractal_noise,
    mix,
    opaque,
    photograph,
    rgb,
    rotated,
    smoothstep,
    wrapped_angle,
)
from .levels import Defect, LevelTable
from .outdoors import outdoor_view
from .solids import Light, Profile, Surface, glass_light, metal_light, revolve

DETAIL = 1.0  # solids are drawn this much larger than they come to lie in the image
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
# fmt: off
LEVELS: LevelTable = {
    #                       obvious        moderate       hard
    # lengths in disc diameters, angles (half of what is hit) in rad around the axis
    "missing_cap": {
        "lost":           ((0.5, 0.5),    (0.13, 0.17),  (0.03, 0.045)),  # of the glass, from the rim inwards
    },
    "broken_cap": {
        "half_angle":     ((1.7, 2.0),    (1.2, 1.4),    (0.4, 0.5)),
        "depth":          ((0.33, 0.37),  (0.27, 0.31),  (0.12, 0.15)),
    },
    "corrosion": {
        "spread":         ((0.9, 1.2),    (0.1, 0.5),    (-0.5, -0.2)),  # of the rust over the cap, 0 = half
        "strength":       ((0.9, 1.0),    (0.7, 0.85),   (0.5, 0.6)),
    },
    "flashover": {
        "half_angle":     ((1.3, 1.6),    (0.9, 1.1),    (0.4, 0.5)),
        "soot":           ((0.95, 1.0),   (0.85, 0.92),  (0.5, 0.6)),    # share of the light that it takes
    },
}
# fmt: on
RUST, SOOT, DUST = (np.array(c, np.float32) for c in ((0.20, 0.075, 0.024), (0.018, 0.015, 0.013), (0.30, 0.27, 0.22)))


@dataclass(frozen=True)
class Layer:
    """Light over transparency, DETAIL times enlarged: premultiplied linear light (h, w, 3), opacity (h, w)."""

    light: Array
    opacity: Array

    @classmethod
    def empty(cls, height: int, width: int) -> "Layer":
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
        values[..., :3] = develop(self.light / np.maximum(opacity, 1e-3), exposure) * (255 * opacity) + 0.5
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
class Disc:
    """One unit of a string, seen once: far away, all look the same but for wear. u: (w,), v: (h,), of the pixels.

    on_shell: light that falls on the glass; iron, pin: diffuse and glossy light of the metal, in the columns `near`.
    """

    tilt: float
    light: Light
    tint: Array
    u: Array
    v: Array
    near: NDArray[np.bool_]
    cap: Surface
    core: Surface
    shell: Surface
    inside: Surface
    iron: tuple[Array, Array]
    pin: tuple[Array, Array]
    on_shell: Array
    glass: Array
    opacity: Array

    @classmethod
    def seen(cls, tilt: float, px: float, light: Light, tint: Array) -> "Disc":
        """px: pixels per disc diameter."""
        margin = 0.5 * abs(math.sin(tilt)) + 0.03
        side = math.ceil(0.52 * px)
        u = np.arange(-side, side + 1, dtype=np.float32) / px
        v = np.arange(math.floor(-margin * px), math.ceil((PITCH + margin) * px), dtype=np.float32) / px
        near = np.abs(u) < 0.22
        cap, core = revolve(CAP, tilt, u[near], v), revolve(CORE, tilt, u[near], v)
        shell, inside = revolve(SHELL, tilt, u, v), revolve(SHELL, tilt, u, v, back=True)
        # corners between the parts get less light
        cap_shade = (0.45 + 0.55 * smoothstep(cap.s, -0.03, 0.14))[..., None]
        pin_shade = (0.6 + 0.3 * smoothstep(core.s, 0.3, 0.62))[..., None]
        sun = _disc_shadow(shell, light, tilt)
        glass, opacity = glass_light(shell, inside, light, tint, sun)
        diffuse, gloss = metal_light(cap, light, _disc_shadow(cap, light, tilt))
        pin_diffuse, pin_gloss = metal_light(core, light, 0.3)
        return cls(
            tilt, light, tint, u, v, near, cap, core, shell, inside,
            iron=(diffuse * cap_shade, gloss * cap_shade),
            pin=(pin_diffuse * pin_shade, 0.5 * pin_gloss * pin_shade),
            on_shell=metal_light(shell, light, sun)[0],
            glass=glass * (0.6 + 0.4 * smoothstep(shell.r, 0.17, 0.34))[..., None],
            opacity=opacity * shell.hit,
        )  # fmt: skip

    def layers(
        self, grain: Array, speck: Array, rust: float, dirt: float, defect: Defect | None = None
    ) -> list[tuple[Array, Array]]:
        """Light (h, w, 3) and opacity (h, w) of pin, glass and cap, back to front. grain, speck: noise (h, w)."""
        cap, core, shell, near = self.cap, self.core, self.shell, self.near
        spots = 0.6 + 0.5 * grain[:, near] + 0.3 * speck[:, near]
        cap_rust, pin_rust = np.clip(0.5 * rust * spots, 0, 0.5), np.clip(rust * spots, 0, 1)
        dusty = np.clip(dirt * (0.5 + 0.5 * grain), 0, 1)
        dusty *= 0.25 + 0.75 * np.clip(shell.normal @ self.light.up * 2, 0, 1)
        glass, opacity = mix(self.glass, DUST * self.on_shell, 0.6 * dusty), self.opacity + 0.3 * dusty * shell.hit
        opacity = np.minimum(opacity, 0.98)
        if defect and defect.name == "corrosion":
            patch = fractal_noise(defect.random, 512, 1.1, 4)[: len(self.v), : len(self.u)]
            bloom = patch[:, near] + 0.25 * speck[:, near] + defect.draw("spread")
            strength = defect.draw("strength")
            cap_rust = np.maximum(cap_rust, strength * smoothstep(bloom + 2 * (cap.s - 0.15), -0.2, 0.5))
            pin_rust = np.maximum(pin_rust, strength * smoothstep(bloom, -1.4, 0))
            run_off = strength * smoothstep(patch, 0.2, 1.6) * smoothstep(-shell.r, -0.36, -0.2)
            glass = mix(glass, RUST * self.on_shell, 0.6 * run_off)
        if defect and defect.name == "flashover":
            off = wrapped_angle(shell.theta - defect.random.uniform(-1.3, 1.3)) / defect.draw("half_angle")
            cloud = fractal_noise(defect.random, 512, 1.3, 4)[: len(self.v), : len(self.u)]
            soot = defect.draw("soot") * smoothstep(1.3 - off**2 + 0.35 * cloud - 1.5 * shell.r, -0.2, 0.7)
            glass, opacity = mix(glass, SOOT * self.on_shell, soot), np.maximum(opacity, soot * shell.hit)
        zinc = rgb(0.30, 0.31, 0.32) * (1 + 0.10 * grain[:, near] + 0.07 * speck[:, near])[..., None]
        cement = core.s < 0.35
        pin = _coat(mix(zinc, (0.30, 0.29, 0.27), cement), pin_rust * ~cement, self.pin)
        iron = _coat(zinc, cap_rust, self.iron)
        before_glass = (cap.z > shell.z[:, near]) | ~shell.hit[:, near]
        parts = [(pin, opaque(core.hit)), (glass, opacity), (iron, opaque(cap.hit & before_glass))]
        if defect and defect.name == "missing_cap":
            parts[1:] = [*self._shattered(glass, opacity, defect), (iron, opaque(cap.hit))]
        if defect and defect.name == "broken_cap":
            parts[1:2] = self._broken(glass, opacity, defect)
        return parts

    def _shattered(self, glass: Array, opacity: Array, defect: Defect) -> list[tuple[Array, Array]]:
        """What is left of the glass where its rim has gone all around: nothing, or a jagged stump."""
        jag, lost = _jag(defect.random), defect.draw("lost")
        if lost > 0.3:  # the cap hides what is left
            return []
        return self._without(lambda s: s.r - 0.5 + lost * (1 + 0.15 * jag(4 * s.theta)), glass, opacity)

    def _broken(self, glass: Array, opacity: Array, defect: Defect) -> list[tuple[Array, Array]]:
        """A piece out of the rim."""
        where, jag = defect.random.uniform(-1.0, 1.0), _jag(defect.random)
        half_angle, depth = defect.draw("half_angle"), defect.draw("depth")

        def lost(surface: Surface) -> Array:
            off = wrapped_angle(surface.theta - where) / half_angle
            return surface.r - 0.5 + depth * (1 - off**2 + 0.1 * jag(4 * off))

        return self._without(lost, glass, opacity)

    def _without(self, lost: Callable[[Surface], Array], glass: Array, opacity: Array) -> list[tuple[Array, Array]]:
        """The far side of the disc, now seen through the gap, and its front. lost: > 0 where glass is missing, 0 at the
        fracture."""
        front = lost(self.shell)
        fracture = smoothstep(front, -0.016, -0.004)
        glass = mix(glass, self.on_shell * rgb(0.75, 0.95, 0.9), 0.6 * fracture)
        opacity = np.maximum(opacity, 0.9 * fracture * self.shell.hit) * (front < 0)
        facing = self.inside.normal * np.sign(self.inside.normal[..., 2:])
        far = dataclasses.replace(self.inside, normal=facing)
        deep, deep_opacity = glass_light(far, far, self.light, self.tint, np.full_like(far.r, 0.4))
        return [(0.8 * deep, 0.85 * deep_opacity * (far.hit & (front >= 0) & (lost(far) < 0))), (glass, opacity)]


def _jag(random: Generator) -> Callable[[Array], Array]:
    """How a fracture strays over an angle, about -1.8 to 1.8."""
    a, b, c = random.uniform(0, 2 * math.pi, 3).tolist()
    return lambda x: np.sin(x + a) + 0.5 * np.sin(2.25 * x + b) + 0.3 * np.sin(4.25 * x + c)


def _disc_shadow(surface: Surface, light: Light, tilt: float) -> Array:
    """Share of the sun that passes the disc above, (h, w): thick glass dims it, its rim most."""
    along = float(light.sun @ np.array([0, math.cos(tilt), math.sin(tilt)]))
    toward = float(light.sun @ np.array([0, -math.sin(tilt), math.cos(tilt)]))
    if along > -0.05:  # the sun stands level with the discs or below
        return np.ones_like(surface.r)
    steps = np.maximum(surface.s - (0.43 - PITCH), 0) / -along
    u = surface.r * np.sin(surface.theta) + steps * light.sun[0]
    rho = np.hypot(u, surface.r * np.cos(surface.theta) + steps * toward)
    return 1 - (0.3 + 0.35 * smoothstep(rho, 0.3, 0.47)) * (1 - smoothstep(rho, 0.47, 0.53))


def _coat(albedo: Array, rust: Array, light: tuple[Array, Array]) -> Array:
    """Metal under (diffuse, glossy) light; rust takes the gloss off."""
    return mix(albedo, RUST, rust) * light[0] + light[1] * (1 - rust)[..., None]


def _fitting(profile: Profile, tilt: float, px: float, light: Light, albedo: float = 0.30) -> tuple[Array, Array, int]:
    """A plain metal solid: light, opacity, and the row of its first pixels counted from s = 0."""
    side = math.ceil(0.16 * px)
    low, high = (end * math.cos(tilt) for end in (profile[0][0] - 0.1, profile[-1][0] + 0.1))
    first = math.floor(low * px)
    u = np.arange(-side, side + 1, dtype=np.float32) / px
    part = revolve(profile, tilt, u, np.arange(first, math.ceil(high * px), dtype=np.float32) / px)
    diffuse, gloss = metal_light(part, light)
    return albedo * diffuse + gloss, opaque(part.hit), first


def _conductor(px: float, light: Light) -> tuple[Layer, int]:
    """The cable in its clamp, upright, and the row of the clamp's middle."""
    clamp, covered, first = _fitting(CLAMP, 0.0, px, light, 0.28)
    u = (np.arange(clamp.shape[1], dtype=np.float32) - clamp.shape[1] // 2) / px
    wire = revolve(CABLE, 0.0, u, np.zeros(1, np.float32))  # one row: light is the same all along
    diffuse, gloss = metal_light(wire, light)
    middle = round(6 * px)
    s = np.arange(-middle, middle, dtype=np.float32)[:, None] / px
    strands = 0.24 * (1 + 0.25 * np.sin(2 * math.pi * (s / 0.045 + 0.9 * wire.theta)))
    layer = Layer.empty(*strands.shape)
    layer.add(strands[..., None] * diffuse + gloss, np.broadcast_to(opaque(wire.hit), strands.shape))
    layer.add(clamp, covered, middle + first)
    return layer, middle


def insulator(rng: Generator, defect: Defect | None) -> Rendered:
    tilt, light, exposure, image = outdoor_view(rng)
    angle, diameter, n_discs = rng.uniform(-0.12, 0.12), rng.uniform(270, 290), 5
    center = 256 + rotated(rng.uniform(-10, 10), rng.uniform(-20, 20), angle)
    cable_angle = rng.uniform(-0.3, 0.3) - math.pi / 2
    tint = rgb(rng.uniform(0.30, 0.36), rng.uniform(0.82, 0.86), rng.uniform(0.74, 0.79))
    dirt, rust = rng.uniform(0.0, 0.25), rng.uniform(0, 0.15)
    grain, speck = fractal_noise(rng, 256, 1.0, 2), fractal_noise(rng, 256, 0.3, 20)
    shifts = rng.integers(0, 256, (n_discs, 2))

    px = DETAIL * diameter
    pitch = PITCH * math.cos(tilt) * px
    length = n_discs * pitch
    turned = light.turned(angle)
    disc = Disc.seen(tilt, px, turned, tint)
    link = _fitting(LINK, tilt, px, turned)
    socket = _fitting(SOCKET, tilt, px, turned)
    away = tilt < 0  # each disc lies farther than the one above, which hides it
    top = round(max(0.55 * px, DETAIL * (center[1] + 60) / math.cos(angle) - length / 2))  # the link leaves the image

    foot = center + rotated(0, (length / 2 + 0.5 * math.cos(tilt) * px) / DETAIL, angle)
    if np.abs(foot - 256).max() < 400:
        cable, middle = _conductor(px, light.turned(cable_angle))
        image = cable.onto(image, exposure, middle, foot, cable_angle)

    def layers(i: int, defect: Defect | None = None) -> list[tuple[Array, Array]]:
        box = np.ix_((shifts[i, 0] + np.arange(len(disc.v))) % 256, (shifts[i, 1] + np.arange(len(disc.u))) % 256)
        return disc.layers(grain[box], speck[box], rust, dirt, defect)

    def hang(discs: list[list[tuple[Array, Array]]]) -> Layer:
        layer = Layer.empty(top + math.ceil(length + 0.6 * px), len(disc.u))
        ends = [(*link[:2], top + link[2]), (*socket[:2], top + round(length) + socket[2])]
        layer.add(*ends[away])
        for i in reversed(range(n_discs)) if away else range(n_discs):
            for part in discs[i]:
                layer.add(*part, round(top + i * pitch + disc.v[0] * px))
        layer.add(*ends[not away])
        return layer

    place = top + length / 2, center, angle
    discs = [layers(i) for i in range(n_discs)]
    string = hang(discs)  # the object: without the cable, which is not inspected
    twin = flawed = string.onto(image, exposure, *place)
    if defect:
        middles = [center + rotated(0, ((i + 0.55) * pitch - length / 2) / DETAIL, angle) for i in range(n_discs)]
        i = defect.random.choice([i for i, at in enumerate(middles) if np.hypot(*(at - 256)) < 185])
        discs[i] = layers(i, defect)
        flawed = hang(discs).onto(image, exposure, *place)
    return *photograph(rng, twin, flawed, grain=0.008), string.silhouette(*place)
