"""Procedural images: textures, lighting, dead leaves, objects, outdoor clutter, wafers, strokes.

They have the local structure of photographs (edges of all sharpness, 1/f and oriented texture, shading, occlusion,
highlights, noise) but use none, so a network can be distilled on them without a data set.
To see some: `python -m scripts.procedural_images sheet.png`.
"""

import sys
from collections.abc import Callable

import cv2
import numpy as np
from numpy import ndarray

Field = ndarray  # (S, S) float32, mostly in [0, 1]
Picture = ndarray  # (S, S, 3) float32 RGB in [0, 1]


class ImageMaker:
    """Draws RGB images (size, size, 3) uint8. The same seed draws the same sequence.

    Keeps a bank of textures that changes by one or two with every image: a texture costs more than placing it.
    """

    BANK = 48

    def __init__(self, seed: int, size: int = 384) -> None:
        self.rng = np.random.default_rng(seed)
        self.size = size
        axis = np.linspace(-1, 1, size, dtype=np.float32)
        self.x, self.y = np.meshgrid(axis, axis)
        frequency = np.fft.fftfreq(size).astype(np.float32)
        self.fx, self.fy = np.meshgrid(np.fft.rfftfreq(size).astype(np.float32), frequency)
        self.bank: list[Picture] = []

    def draw(self) -> ndarray:
        rng = self.rng
        for _ in range(1 + (rng.random() < 0.5) if len(self.bank) >= self.BANK else 12):
            self.bank.append(self.texture())
        if len(self.bank) > self.BANK:
            for _ in range(len(self.bank) - self.BANK):
                self.bank.pop(rng.integers(len(self.bank) - 1))
        names = list(SCENES)
        weights = np.array([SCENES[name][1] for name in names])
        scene = SCENES[names[rng.choice(len(names), p=weights / weights.sum())]][0](self)
        return self.photograph(scene)

    # Numbers and colours

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def log_uniform(self, low: float, high: float) -> float:
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def colour(self, near: ndarray | None = None) -> ndarray:
        """(3,) RGB in [0, 1]: greys and muted colours more often than vivid ones; `near` gives a neighbour of it."""
        if near is not None:
            return np.clip(near * self.log_uniform(0.5, 1.6) + self.rng.normal(0, 0.07, 3), 0, 1).astype(np.float32)
        hue, value = self.uniform(0, 1), self.rng.beta(1.3, 1.3)
        saturation = 0.0 if self.chance(0.25) else self.rng.beta(1.1, 1.8)
        ramp = np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1
        return (value * (1 - saturation + saturation * np.clip(ramp, 0, 1))).astype(np.float32)

    # Fields: structure without colour

    def noise(self, slope: float | None = None, stretch: float | None = None) -> Field:
        """Spectrum 1/f^slope, stretched along one random direction."""
        slope = self.uniform(0.4, 2.2) if slope is None else slope
        stretch = (self.log_uniform(1, 30) if self.chance(0.4) else 1.0) if stretch is None else stretch
        angle = self.uniform(0, np.pi)
        u = self.fx * np.cos(angle) + self.fy * np.sin(angle)
        v = (self.fy * np.cos(angle) - self.fx * np.sin(angle)) * stretch
        amplitude = (u * u + v * v + (0.7 / self.size) ** 2) ** (-slope / 2)
        if self.chance(0.15):  # one scale dominates, as in leather or orange peel
            centre = self.log_uniform(0.01, 0.25)
            amplitude *= np.exp(-((np.log(np.hypot(u, v) + 1e-6) - np.log(centre)) ** 2) / 0.3)
        white = self.rng.standard_normal(amplitude.shape, np.float32) + 1j * self.rng.standard_normal(
            amplitude.shape, np.float32
        )
        field = np.fft.irfft2(white * amplitude, s=(self.size, self.size)).astype(np.float32)
        field = 0.5 + 0.22 * (field - field.mean()) / (field.std() + 1e-9)
        return np.clip(field, 0, 1)

    def turned(self) -> tuple[Field, Field]:
        angle = self.uniform(0, 2 * np.pi)
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return self.x * c + self.y * s, self.y * c - self.x * s

    def gradient(self) -> Field:
        u, v = self.turned()
        if self.chance(0.5):
            return np.clip(0.5 + 0.5 * u * self.uniform(0.3, 1), 0, 1)
        return np.exp(
            -((u - self.uniform(-0.7, 0.7)) ** 2 + (v - self.uniform(-0.7, 0.7)) ** 2) / self.log_uniform(0.1, 3)
        )

    def wave(self, phase: Field) -> Field:
        """Sine, sharp square or sawtooth of a phase in radians."""
        kind = self.rng.integers(4)
        if kind == 3:
            return (phase / (2 * np.pi)) % 1
        wave = np.sin(phase)
        return 0.5 + 0.5 * (np.tanh(wave * self.log_uniform(1.5, 12)) if kind else wave)

    def stripes(self) -> Field:
        u, _ = self.turned()
        bend = self.noise(2.0, 1.0) * self.uniform(0, 6) if self.chance(0.5) else 0
        return self.wave(u * self.log_uniform(8, 300) + bend)

    def weave(self) -> Field:
        u, v = self.turned()
        f, g = self.log_uniform(20, 250), self.log_uniform(0.7, 1.5)
        a, b = np.sin(u * f), np.sin(v * f * g)
        kind = self.rng.integers(3)
        if kind == 0:
            field = a * b
        elif kind == 1:
            field = np.maximum(a, b)
        else:
            field = np.where(np.sin(u * f / 2) * np.sin(v * f * g / 2) > 0, np.abs(a), np.abs(b))
        return np.clip(0.5 + 0.5 * field * self.uniform(0.4, 1.2) + 0.5 * (self.noise() - 0.5), 0, 1)

    def wood(self) -> Field:
        u, v = self.turned()
        distance = np.hypot(u * self.uniform(0.05, 1) + self.uniform(-1, 1), v + self.uniform(-1, 1))
        rings = self.wave(distance * self.log_uniform(15, 120) + self.noise(2.2, 4.0) * self.uniform(2, 14))
        return np.clip(0.65 * rings + 0.35 * self.noise(0.8, 20.0), 0, 1)

    def marble(self) -> Field:
        u, _ = self.turned()
        return self.wave(
            u * self.log_uniform(2, 20) + self.noise(self.uniform(1.2, 2.2), 1.0) * self.log_uniform(5, 60)
        )

    def metal(self) -> Field:
        return np.clip(
            0.5 + (self.noise(self.uniform(0.3, 1), 40.0) - 0.5) * self.uniform(0.2, 1) + 0.5 * (self.gradient() - 0.5),
            0,
            1,
        )

    def cells(self) -> Field:
        """Distance to scattered points: pebbles, scales, bubbles, or flat patches."""
        seeds = np.full((self.size, self.size), 255, np.uint8)
        count = int(self.log_uniform(15, 3000))
        seeds[self.rng.integers(self.size, size=count), self.rng.integers(self.size, size=count)] = 0
        distance, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        if self.chance(0.4):
            return self.rng.random(int(label.max()) + 1, np.float32)[label]
        field = np.clip(distance / (self.size / np.sqrt(count)), 0, 1)
        return field if self.chance(0.5) else 1 - field

    def bricks(self) -> Field:
        u, v = self.turned() if self.chance(0.5) else (self.x, self.y)
        rows, ratio, joint = self.log_uniform(2, 40), self.log_uniform(1, 3), self.log_uniform(0.03, 0.2)
        row = np.floor(v * rows)
        shifted = u * rows / ratio + (row % 2) * self.rng.choice([0, 0.5])
        tone = np.sin(np.floor(shifted) * 12.9898 + row * 78.233) * 43758.5453 % 1
        inside = ((shifted % 1) > joint / ratio) & ((v * rows % 1) > joint)
        return np.where(inside, 0.45 + self.uniform(0, 0.55) * tone, self.uniform(0, 1)).astype(np.float32)

    def dots(self) -> Field:
        canvas = np.zeros((self.size, self.size), np.float32)
        mean_radius = self.log_uniform(1, 14)
        for _ in range(int(min(1500, 0.4 * (self.size / mean_radius) ** 2 * self.uniform(0.1, 1)))):
            centre = self.rng.integers(0, self.size * 8, 2)
            radius = mean_radius * self.uniform(0.4, 1.6)
            cv2.circle(canvas, centre.tolist(), int(radius * 8), self.uniform(0.3, 1), -1, cv2.LINE_AA, 3)
        return canvas

    def hair(self) -> Field:
        """Strokes that follow a smooth direction: fur, grass, scratches."""
        canvas = np.full((self.size, self.size), 0.4, np.float32)
        flow = cv2.resize(self.noise(2.0, 1.0)[::4, ::4].copy(), None, fx=0.25, fy=0.25) * self.uniform(
            0, 8
        ) + self.uniform(0, 6)
        length, width, spread = self.log_uniform(6, 120), int(self.rng.integers(1, 4)), self.uniform(0.02, 0.5)
        for _ in range(int(min(2500, self.log_uniform(3, 60) * self.size**2 / length / width / 10))):
            start = self.rng.random(2) * self.size
            angle = flow[tuple((start[::-1] / self.size * flow.shape[0]).astype(int))] + self.rng.normal(0, spread)
            end = start + length * self.uniform(0.5, 1.5) * np.array([np.cos(angle), np.sin(angle)])
            cv2.line(
                canvas,
                (start * 8).astype(int).tolist(),
                (end * 8).astype(int).tolist(),
                self.uniform(0, 1),
                width,
                cv2.LINE_AA,
                3,
            )
        return canvas

    def grain(self) -> Field:
        return self.noise(self.uniform(0, 0.8), 1.0)

    def warped(self, picture: ndarray) -> ndarray:
        """Bent by a smooth displacement, or seen in perspective, or turned and zoomed; mirrored at the border."""
        size, kind = self.size, self.rng.integers(3)
        if kind == 0:
            reach = self.log_uniform(0.02, 0.5) * size
            slope = self.uniform(1.6, 2.6)
            dx, dy = ((self.noise(slope, 1.0) - 0.5) * reach for _ in range(2))
            grid = (np.float32(size) - 1) / 2
            return cv2.remap(
                picture,
                (self.x + 1) * grid + dx,
                (self.y + 1) * grid + dy,
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REFLECT_101,
            )
        corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32)
        if kind == 1:
            moved = corners + self.rng.normal(0, 0.25 * size, (4, 2)).clip(-0.4 * size, 0.4 * size).astype(np.float32)
            matrix = cv2.getPerspectiveTransform(corners, moved)
            return cv2.warpPerspective(
                picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
            )
        matrix = cv2.getRotationMatrix2D((size / 2, size / 2), self.uniform(0, 360), self.log_uniform(0.6, 3))
        return cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)

    def texture(self) -> Picture:
        """A field painted with two to four colours, sometimes bent, sometimes two textures under a third's mask."""
        makers: tuple[Callable[..., Picture], ...] = (
            *(self.noise, self.grain, self.gradient, self.stripes, self.weave, self.wood, self.marble, self.metal),
            *(self.cells, self.bricks, self.dots, self.hair),
        )
        field = makers[self.rng.integers(len(makers))]()
        if self.chance(0.2):
            field = field * makers[self.rng.integers(len(makers))]()
        first = self.colour()
        related = self.chance(0.7)
        colours = np.stack([first, *(self.colour(first if related else None) for _ in range(self.rng.integers(1, 4)))])
        steps = np.linspace(0, 1, len(colours))
        ramp = np.stack([np.interp(np.linspace(0, 1, 256), steps, colours[:, i]) for i in range(3)], 1).astype(
            np.float32
        )
        picture = ramp[(np.clip(field, 0, 1) * 255).astype(np.uint8)]
        if self.chance(0.2):
            picture = np.clip(
                picture + (np.stack([self.noise() for _ in range(3)], -1) - 0.5) * self.uniform(0.05, 0.6), 0, 1
            )
        if self.bank and self.chance(0.15):
            mask = np.clip((self.noise(self.uniform(1, 2.2)) - 0.5) * self.log_uniform(3, 60) + 0.5, 0, 1)[..., None]
            picture = picture * mask + self.any_texture() * (1 - mask)
        return self.warped(picture) if self.chance(0.45) else picture

    def any_texture(self) -> Picture:
        """One of the bank, flipped, turned, and recoloured; a view or a copy: never write to it."""
        picture = self.bank[self.rng.integers(len(self.bank))]
        if self.chance(0.5):
            picture = picture.transpose(1, 0, 2)
        if self.chance(0.5):
            picture = picture[:, ::-1]
        if self.chance(0.35):
            picture = np.clip(
                picture[..., self.rng.permutation(3)] * self.rng.uniform(0.5, 1.4, 3).astype(np.float32), 0, 1
            )
        return picture

    # Shapes and what is done with them

    def outline(self, centre: ndarray, radius: float) -> ndarray:
        """(N, 2) float px: ellipse, polygon, rectangle, star or smooth blob."""
        kind = self.rng.integers(5)
        aspect, turn = (self.log_uniform(0.15, 1) if self.chance(0.6) else 1.0), self.uniform(0, 2 * np.pi)
        if kind == 0:
            angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
            r: ndarray = np.ones(64)
        elif kind == 1:
            angle = np.sort(self.rng.uniform(0, 2 * np.pi, self.rng.integers(3, 8)))
            r = np.ones(len(angle))
        elif kind == 2:
            angle = np.array([0.25, 0.75, 1.25, 1.75]) * np.pi
            r = np.full(4, 1.3)
        elif kind == 3:
            n_points = 2 * int(self.rng.integers(3, 16))
            angle = np.linspace(0, 2 * np.pi, n_points, endpoint=False)
            r = np.where(np.arange(n_points) % 2, 1.0, self.uniform(0.3, 0.9))
        else:
            angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
            waves = (self.rng.normal(0, 0.5 / k) * np.sin(k * angle + self.uniform(0, 6.3)) for k in range(1, 7))
            r = 1 + sum(waves, start=np.zeros(96)) * self.uniform(0.2, 0.8)
        points = np.stack([r * np.cos(angle), r * np.sin(angle) * aspect], 1) * radius
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        return points @ rotation + centre

    def place(self, scene: Picture, points: ndarray, paint: Picture | ndarray, shade: bool | None = None) -> None:
        """Fills an outline of the scene, in place, with a picture or one colour; some are shaded or throw a shadow."""
        size = self.size
        margin = 12
        low = np.clip(np.floor(points.min(0)).astype(int) - margin, 0, size)
        high = np.clip(np.ceil(points.max(0)).astype(int) + margin, 0, size)
        width, height = high - low
        if width < 2 or height < 2:
            return
        window = scene[low[1] : high[1], low[0] : high[0]]
        local = ((points - low) * 16).round().astype(np.int32)
        mask = np.zeros((height, width), np.float32)
        cv2.fillPoly(mask, [local], 1.0, cv2.LINE_8 if self.chance(0.1) else cv2.LINE_AA, 4)
        if self.chance(0.2):  # shadow
            reach = int(self.rng.integers(1, 9))
            shadow = cv2.GaussianBlur(
                np.roll(mask, self.rng.integers(-reach, reach + 1, 2), (0, 1)), (0, 0), 0.5 + reach / 3
            )
            window *= 1 - self.uniform(0.2, 0.8) * shadow[..., None]
        if self.chance(0.15):  # out of focus
            mask = cv2.GaussianBlur(mask, (0, 0), self.log_uniform(0.6, 4))
        if paint.ndim == 3:
            y, x = self.rng.integers(0, size - height + 1), self.rng.integers(0, size - width + 1)
            paint = paint[y : y + height, x : x + width]
        else:
            paint = np.broadcast_to(paint, (height, width, 3))
        if shade if shade is not None else self.chance(0.5):
            paint = np.clip(paint * self.shading(height, width), 0, 1)
        window *= 1 - mask[..., None]
        window += paint * mask[..., None]
        if self.chance(0.25):
            cv2.polylines(window, [local], True, self.colour().tolist(), int(self.rng.integers(1, 4)), cv2.LINE_AA, 4)

    def shading(self, height: int, width: int) -> ndarray:
        """(height, width, 1) factor: a lit ball, cylinder or ramp, some with a highlight."""
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        angle = self.uniform(0, 2 * np.pi)
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        kind = self.rng.integers(3)
        if kind == 0:
            light = np.sqrt(np.clip(1.1 - (u - 0.35) ** 2 - v**2, 0.02, None))
        elif kind == 1:
            light = np.sqrt(np.clip(1.1 - (u - self.uniform(-0.4, 0.4)) ** 2, 0.02, None))
        else:
            light = 0.65 + 0.4 * u
        if self.chance(0.3):
            light = light + self.uniform(0.5, 3) * np.exp(
                -((u - 0.4) ** 2 + (v - self.uniform(-0.2, 0.2)) ** 2) / self.log_uniform(0.002, 0.1)
            )
        return (light * self.uniform(0.8, 1.3))[..., None].astype(np.float32)

    def paint(self) -> ndarray:
        return self.any_texture() if self.chance(0.7) else self.colour()

    def ground(self, plain: float) -> Picture:
        """A background to draw on: one colour with the given probability, otherwise a texture."""
        if self.chance(plain):
            extreme = self.rng.choice([0.02, 0.95]) if self.chance(0.4) else None
            colour = self.colour() if extreme is None else np.full(3, extreme, np.float32)
            return np.broadcast_to(colour, (self.size, self.size, 3)).copy()
        return np.array(self.any_texture(), np.float32, order="C")

    # Scenes

    def plain_texture(self) -> Picture:
        scene = np.array(self.bank[-1] if self.chance(0.7) else self.any_texture(), np.float32, order="C")
        for _ in range(self.rng.integers(0, 4)):  # spots and scratches on it
            self.place(scene, self.outline(self.rng.random(2) * self.size, self.log_uniform(2, 40)), self.paint())
        return scene

    def dead_leaves(self) -> Picture:
        """Occluding shapes whose sizes follow a power law (Lee, Mumford & Huang 2001), each textured and shaded."""
        scene = self.ground(0.2)
        smallest = self.log_uniform(3, 20)
        count = int(self.log_uniform(15, 260))
        radii = np.minimum(smallest * self.rng.random(count) ** (-1 / 1.4), self.size * 0.6)
        for radius in np.sort(radii)[::-1] if self.chance(0.6) else radii:
            self.place(scene, self.outline(self.rng.random(2) * self.size, radius), self.paint())
        return scene

    def object(self) -> Picture:
        """One thing on a quiet ground: nested outlines around one centre, as bottles, nuts, capsules from above."""
        scene = self.ground(0.65)
        centre = self.size / 2 + self.rng.normal(0, 0.05 * self.size, 2)
        radius = self.size * self.uniform(0.2, 0.48)
        shape = self.outline(np.zeros(2), 1.0)
        for _ in range(self.rng.integers(1, 8)):
            self.place(scene, centre + shape * radius, self.paint())
            if self.chance(0.2):
                shape = self.outline(np.zeros(2), 1.0)
            radius *= self.uniform(0.55, 0.95)
        for _ in range(int(self.rng.integers(0, 6))):
            self.place(
                scene, self.outline(centre + self.rng.normal(0, radius, 2), self.log_uniform(3, 30)), self.paint()
            )
        for _ in range(self.rng.integers(0, 3)):  # glints
            glint = np.zeros((self.size, self.size), np.float32)
            axes = (self.rng.random(2) * radius + 4).astype(int).tolist()
            start = self.uniform(0, 360)
            spot = (centre + self.rng.normal(0, radius / 3, 2)).astype(int).tolist()
            cv2.ellipse(
                glint,
                spot,
                axes,
                self.uniform(0, 360),
                start,
                start + self.uniform(20, 180),
                1.0,
                int(self.rng.integers(1, 9)),
                cv2.LINE_AA,
            )
            scene += cv2.GaussianBlur(glint, (0, 0), self.log_uniform(0.5, 5))[..., None] * self.uniform(0.3, 1.5)
        return scene

    def things(self) -> Picture:
        """A few or many copies of one thing: strings of discs, pills, screws in rows, seeds strewn about."""
        scene = self.ground(0.5)
        radius = self.log_uniform(6, 60)
        shape, paint = self.outline(np.zeros(2), radius), self.paint()
        inner = self.paint()
        pitch, angle = radius * self.uniform(0.5, 2.5), self.uniform(0, 2 * np.pi)
        strewn, turn_all = self.chance(0.4), self.chance(0.4)
        columns = int(self.rng.integers(1, 6))
        for i in range(min(150, int(columns * self.size / pitch))):
            step = np.array([(i // columns) - self.size / pitch / 2, (i % columns - columns / 2) * 1.1]) * pitch
            turn = self.uniform(0, 6.3) if turn_all else angle
            rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            along = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            centre = self.rng.random(2) * self.size if strewn else self.size / 2 + along @ step
            self.place(scene, centre + shape @ rotation.T, paint, shade=True)
            if i % 2 == 0 or turn_all:
                self.place(scene, centre + 0.5 * shape @ rotation.T, inner)
        return scene

    def outdoors(self) -> Picture:
        """Sky, ground and clutter with poles, wires, lattices and stacks of discs in front."""
        size = self.size
        near, far = self.colour(), self.colour()
        depth = ((self.y + 1) / 2)[..., None]
        scene: Picture = (near * depth + far * (1 - depth)).astype(np.float32)
        if self.chance(0.6):
            clouds = np.clip((self.noise(1.8, 2.0) - 0.45) * self.uniform(1, 4), 0, 1)[..., None]
            scene = scene * (1 - clouds) + self.uniform(0.6, 1) * clouds
        horizon = self.uniform(0.1, 1.1) * size
        edge = horizon + (self.noise(2.0, 1.0)[0] - 0.5) * self.uniform(5, 150)
        land = np.arange(size)[:, None] > edge[None]
        scene = np.where(land[..., None], self.any_texture(), scene).astype(np.float32)
        for _ in range(int(self.log_uniform(1, 60))):
            spot = np.array([self.uniform(0, size), self.rng.normal(horizon, 0.2 * size)])
            self.place(scene, self.outline(spot, self.log_uniform(4, 60)), self.any_texture())
        if self.chance(0.5):
            scene = cv2.GaussianBlur(scene, (0, 0), self.log_uniform(0.7, 6))
        for _ in range(self.rng.integers(1, 9)):
            start, end = self.rng.uniform(-0.2, 1.2, (2, 2)) * size
            half = self.log_uniform(0.7, 18)
            normal = np.array([end[1] - start[1], start[0] - end[0]]) / (np.linalg.norm(end - start) + 1e-6)
            bar = np.stack([start + normal * half, end + normal * half, end - normal * half, start - normal * half])
            self.place(scene, bar, self.paint())
            if self.chance(0.35):
                discs, disc = int(self.rng.integers(3, 16)), half * self.uniform(1.5, 6)
                paint, slim = self.paint(), self.uniform(0.15, 0.6)
                turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)[:, None]
                along = np.array([normal[1], -normal[0]])
                for t in np.linspace(0.15, 0.15 + self.uniform(0.2, 0.7), discs):
                    self.place(
                        scene,
                        start + (end - start) * t + disc * (np.cos(turn) * normal + slim * np.sin(turn) * along),
                        paint,
                        shade=True,
                    )
        return scene

    def strokes(self) -> Picture:
        """Lines, curves, rings and writing."""
        scene = self.ground(0.5)
        ink = self.colour()
        for _ in range(int(self.log_uniform(4, 80))):
            ink = self.colour() if self.chance(0.3) else ink
            width = int(self.log_uniform(1, 12))
            kind = self.rng.integers(4)
            spot = (self.rng.random(2) * self.size).astype(int)
            if kind == 0:
                text = "".join(map(chr, self.rng.integers(33, 126, self.rng.integers(1, 9))))
                mask = np.zeros((self.size, self.size), np.uint8)
                cv2.putText(
                    mask,
                    text,
                    spot.tolist(),
                    int(self.rng.integers(8)),
                    self.log_uniform(0.4, 3),
                    255,
                    min(width, 5),
                    cv2.LINE_AA,
                )
                scene += (ink - scene) * (mask[..., None] / np.float32(255))
            elif kind == 1:
                cv2.line(
                    scene,
                    spot.tolist(),
                    (self.rng.random(2) * self.size).astype(int).tolist(),
                    ink.tolist(),
                    width,
                    cv2.LINE_AA,
                )
            elif kind == 2:
                axes = (self.rng.random(2) * self.size * 0.4).astype(int).tolist()
                cv2.ellipse(
                    scene,
                    spot.tolist(),
                    axes,
                    self.uniform(0, 360),
                    0,
                    self.uniform(60, 360),
                    ink.tolist(),
                    width,
                    cv2.LINE_AA,
                )
            else:
                path = spot + np.cumsum(np.cumsum(self.rng.normal(0, self.log_uniform(0.2, 3), (40, 2)), 0), 0)
                cv2.polylines(
                    scene, [(path * 8).astype(np.int32)], self.chance(0.2), ink.tolist(), width, cv2.LINE_AA, 3
                )
        return scene

    def wafer(self) -> Picture:
        """A grid of dies with circuits, clipped by a disc or filling the view."""
        scene = self.ground(0.8)
        pitch, gap = self.log_uniform(12, 110), self.uniform(0.02, 0.2)
        if self.chance(0.5):
            die = cv2.resize(self.strokes(), (int(pitch), int(pitch)), interpolation=cv2.INTER_AREA)
        else:
            die = cv2.resize(
                np.ascontiguousarray(self.any_texture()), (int(pitch), int(pitch)), interpolation=cv2.INTER_AREA
            )
        edge = max(1, int(gap * pitch / 2))
        die[:edge], die[:, :edge] = self.colour(), self.colour()
        times = self.size // int(pitch) + 1
        dies = np.tile(die, (times, times, 1))[: self.size, : self.size]
        dies = dies * (1 + 0.4 * (self.gradient() - 0.5)[..., None])
        if self.chance(0.5):
            bad = (
                (self.rng.random((times, times, 1)) < self.uniform(0, 0.3))
                .astype(np.float32)
                .repeat(int(pitch), 0)
                .repeat(int(pitch), 1)
            )
            bad = bad[: self.size, : self.size]
            dies = dies * (1 - bad) + bad * self.colour()
        inside = (np.hypot(self.x, self.y) < self.uniform(0.6, 1.5))[..., None]
        scene = np.where(inside, dies, scene).astype(np.float32)
        return self.warped(scene) if self.chance(0.3) else scene

    # The camera

    def photograph(self, scene: Picture) -> ndarray:
        """Light, lens and sensor: uneven light, tint, gamma, blur, noise, JPEG. Returns (S, S, 3) uint8."""
        scene = np.clip(scene, 0, 1)
        if self.chance(0.5):
            scene = scene * (1 + self.uniform(0.1, 1.2) * (self.gradient() - 0.5))[..., None]
        if self.chance(0.15):
            spot = np.exp(
                -((self.x - self.uniform(-1, 1)) ** 2 + (self.y - self.uniform(-1, 1)) ** 2)
                / self.log_uniform(0.003, 0.3)
            )
            scene = scene + self.uniform(0.2, 1) * spot[..., None]
        if self.chance(0.25):
            scene = np.repeat(scene.mean(-1, keepdims=True), 3, -1)
        if self.chance(0.3):
            scene = scene * self.rng.uniform(0.75, 1.2, 3).astype(np.float32)
        scene = np.clip(scene, 0, 1) ** self.log_uniform(0.6, 1.7)
        if self.chance(0.35):
            low, high = self.uniform(0, 0.45), self.uniform(0.55, 1)
            scene = low + scene * (high - low)
        scene = np.ascontiguousarray(scene, np.float32)
        if self.chance(0.4):
            scene = cv2.GaussianBlur(scene, (0, 0), self.log_uniform(0.4, 4))
        if self.chance(0.45):
            grain = self.rng.standard_normal((self.size, self.size, 1 if self.chance(0.5) else 3), np.float32)
            scene = scene + grain * self.log_uniform(0.005, 0.1)
        image = (np.clip(scene, 0, 1) * 255 + 0.5).astype(np.uint8)
        if self.chance(0.3):
            coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(self.rng.integers(25, 95))])[
                1
            ]
            decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
            assert decoded is not None
            image = decoded[..., ::-1]
        return np.ascontiguousarray(image)


SCENES: dict[str, tuple[Callable[[ImageMaker], Picture], float]] = {
    "plain_texture": (ImageMaker.plain_texture, 0.2),
    "dead_leaves": (ImageMaker.dead_leaves, 0.28),
    "object": (ImageMaker.object, 0.16),
    "things": (ImageMaker.things, 0.1),
    "outdoors": (ImageMaker.outdoors, 0.12),
    "strokes": (ImageMaker.strokes, 0.06),
    "wafer": (ImageMaker.wafer, 0.08),
}


def contact_sheet(seed: int, rows: int = 6, columns: int = 10, size: int = 160) -> ndarray:
    """(rows·size, columns·size, 3) uint8 RGB."""
    maker = ImageMaker(seed)
    images = [cv2.resize(maker.draw(), (size, size), interpolation=cv2.INTER_AREA) for _ in range(rows * columns)]
    return np.vstack([np.hstack(images[i * columns : (i + 1) * columns]) for i in range(rows)])


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m scripts.procedural_images SHEET.png   (writes a contact sheet of 60 images)")
    cv2.imwrite(sys.argv[1], contact_sheet(seed=0)[..., ::-1])
