"""The outdoor scene behind an insulator string: sky, hills, fields, steelwork, and the light they give."""

import math

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw
from scipy import ndimage

from .drawing import SIZE, Array, develop, fractal_noise, mix, rgb, smoothstep, stretched, unit_vector
from .solids import Light


def _forest(rng: Generator, size: int, crowns: int, sun: Array, stretch: float = 1.0) -> Array:
    """Tree crowns from above or afar: brightness (size, size) around 0.5."""
    rows = (rng.random(crowns) * size).astype(int)
    gap = np.ones((size, size), bool)
    gap[rows, (rng.random(crowns) * size).astype(int)] = False
    distance = ndimage.distance_transform_edt(gap, sampling=(stretch, 1)).astype(np.float32)
    radius = 0.75 * size / math.sqrt(crowns)
    height = np.sqrt(np.maximum(1 - (distance / radius) ** 2, 0)) + 0.35 * fractal_noise(rng, size, 0.9, 6)
    dy, dx = np.gradient(height * radius * 0.5)
    return np.clip(0.35 + 0.25 * height - 0.2 * (dx * sun[0] + dy * sun[1]), 0.03, 1.6)


def _outdoors(rng: Generator, sun: Array, sunny: float, line: float) -> tuple[Array, Array]:
    """An outdoor scene in linear light, (256, 256, 3), with the horizon at `line` of its height, and the light from
    each height, (256, 3), from straight below to straight above."""
    n = 256
    y = np.linspace(0, 1, n, dtype=np.float32)[:, None] * np.ones((1, n), np.float32)
    zenith = rgb(0.40, 0.48, 0.56) * (1 - sunny) + rgb(0.09, 0.23, 0.60) * sunny
    horizon = rgb(0.60, 0.64, 0.68) * (1 - sunny) + rgb(0.52, 0.68, 0.86) * sunny
    season = rng.uniform(-1, 1)
    leaf = rgb(0.088 + 0.035 * season, 0.118, 0.05) * (0.7 + 0.6 * sunny)
    soil = rgb(0.30, 0.25, 0.15) * (0.6 + 0.5 * sunny) * rng.uniform(0.7, 1.1)
    haze, open_land = rng.uniform(0.3, 0.75), rng.uniform(-0.8, 1.2)
    distance = np.array([[1.0], [0.5], [0.0]], np.float32)
    skylines: Array = line - 0.10 * distance * rng.uniform(0.3, 1.6, (3, 1)) + 0.03 * fractal_noise(rng, n, 1.6)[:3]
    skylines = skylines.astype(np.float32)
    hidden = [*(skylines.max(1) < 0), False]  # the sky and each range of hills, by the next nearer one
    image = np.zeros((n, n, 3), np.float32)
    if not hidden[0]:
        image = mix(image + horizon, zenith, np.clip((line + 0.15 - y) / 1.1, 0, 1) ** 0.7)
        cloud = stretched(fractal_noise(rng, n, 1.5), 2)
        shade = 0.80 + 0.14 * np.clip(cloud - np.roll(cloud, (7, 4), (0, 1)), -1, 1)
        cover = smoothstep(cloud, rng.uniform(-0.7, 0.9), 2.2) * (0.35 + 0.6 * sunny)
        image = mix(image, shade[..., None] * rgb(0.93, 0.95, 0.98), cover)
    # ranges of hills, each nearer, greener and rougher than the one before; fields in front
    for k, far in enumerate(distance[:, 0].tolist()):
        below = np.clip((y - skylines[k]) * n, 0, 1)
        if hidden[k + 1] or not below.any():
            continue
        color = leaf * (_forest(rng, n, (2600, 1500, 500)[k], sun, 1.8) * (1.1 + 0.2 * far))[..., None]
        if far == 0:
            field = soil * (1 + 0.12 * stretched(fractal_noise(rng, n, 0.9), 2))[..., None]
            field = mix(field, leaf * 1.3, smoothstep(stretched(fractal_noise(rng, n, 1.7), 4), -0.5, 0.6))
            color = mix(color, field, smoothstep(stretched(fractal_noise(rng, n, 1.7), 4), open_land, open_land + 0.15))
        color = mix(color, horizon, haze * far**0.7 + 0.25 * (1 - far) * np.exp(-8 * np.abs(y - line)))
        image = mix(image, color, below)
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


def outdoor_view(rng: Generator) -> tuple[float, Light, float, Array]:
    """Tilt of what hangs upright, by the camera's pitch; light; exposure; background, developed (SIZE, SIZE, 3)."""
    tilt = rng.uniform(-0.42, -0.18)
    sunny, warm = rng.uniform(0.35, 0.9), rng.uniform(0, 1)
    azimuth, height = rng.uniform(-1.2, 1.2), rng.uniform(0.4, 0.9)
    sun = unit_vector(
        math.sin(azimuth) * math.cos(height), -math.sin(height), 0.25 + math.cos(azimuth) * math.cos(height)
    )
    scene, sky = _outdoors(rng, sun, sunny, 0.5 + 2.2 * tilt + rng.uniform(-0.25, 0.25))
    light = Light(
        sun=sun,
        up=unit_vector(0, -math.cos(tilt), -math.sin(tilt)),
        sun_color=rgb(2.1, 1.92 - 0.12 * warm, 1.75 - 0.45 * warm) * sunny,
        sky=sky,
    )
    exposure = rng.uniform(0.92, 1.08) * (1.35 - 0.35 * sunny)
    scene = mix(scene, (0.10 + 0.20 * sunny) * rgb(1, 1, 1.03), 0.85 * _steelwork(rng))
    blur = rng.uniform(2.0, 3.5)  # out of focus; half as many px as in the image
    scene = ndimage.gaussian_filter(scene, (blur, blur, 0), truncate=2.5)
    planes = [Image.fromarray(scene[..., k]).resize((SIZE, SIZE), Image.Resampling.BICUBIC) for k in range(3)]
    return tilt, light, exposure, develop(np.stack([np.asarray(plane) for plane in planes], -1), exposure)
