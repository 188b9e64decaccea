"""Drawing tools that the scenes share: noise, colours, film, and the camera."""

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Array = NDArray[np.floating[Any]]
Rendered = tuple[Array, Array, NDArray[np.bool_]]
"""Normal twin and image, developed, (SIZE, SIZE, 3); where the twin's object is, (SIZE, SIZE)."""

SIZE = 512  # px, height and width of every image


FILM_STEPS = 8192  # per unit of light


@cache
def _frequency(size: int) -> Array:
    """|f| in cycles per image on the grid of `rfft2`, (size, size / 2 + 1); 1 at the origin."""
    f = np.hypot(np.fft.fftfreq(size, 1 / size)[:, None], np.arange(size // 2 + 1))
    f[0, 0] = 1
    return f.astype(np.float32)


def fractal_noise(rng: Generator, size: int, slope: float = 1.0, coarsest: float = 1.0) -> Array:
    """Periodic fractal noise, amplitude |f|**-slope from `coarsest` cycles on: (size, size), mean 0, deviation 1."""
    f = _frequency(size)
    spectrum = np.fft.rfft2(rng.standard_normal((size, size), dtype=np.float32)) * (f**-slope * (f >= coarsest))
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, (size, size)).astype(np.float32)
    return noise / noise.std()


def stretched(noise: Array, stretch: int) -> Array:
    """Noise drawn out sideways, as things are that lie flat and far away."""
    return ndimage.zoom(noise[:, : len(noise) // stretch], (1, stretch), order=1)


def smoothstep(x: Array, low: float, high: float) -> Array:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(a: Array, b: ArrayLike, weight: NDArray[Any]) -> Array:
    """a (..., 3) towards b by weight (...)."""
    return a + (np.asarray(b, np.float32) - a) * weight[..., None].astype(np.float32)


def rotated(x: ArrayLike, y: ArrayLike, angle: float) -> NDArray[np.float64]:
    """(x, y) turned by `angle` in the image, (2, ...)."""
    c, s = math.cos(angle), math.sin(angle)
    x, y = np.asarray(x), np.asarray(y)
    return np.array([c * x - s * y, s * x + c * y])


def wrapped_angle(angle: Array) -> Array:
    """To [-pi, pi)."""
    return (angle + np.float32(math.pi)) % np.float32(2 * math.pi) - np.float32(math.pi)


def opaque(hit: NDArray[np.bool_]) -> Array:
    return hit.astype(np.float32)


def rgb(red: float, green: float, blue: float) -> Array:
    return np.array([red, green, blue], np.float32)


def unit_vector(*vector: float) -> Array:
    v = np.array(vector, np.float32)
    return v / np.linalg.norm(v)


def develop(light: Array, exposure: float) -> Array:
    """Linear light ≥ 0 -> display values in [0, 1], through `_film`."""
    film = _film()
    return film[np.clip(light * np.float32(exposure * FILM_STEPS), 0, len(film) - 1).astype(np.int32)]


@cache
def _film() -> Array:
    """Display value of light 0, 1 / FILM_STEPS ... 4: a film's shoulder (ACES fit), then the gamma of screens."""
    x = np.arange(4 * FILM_STEPS) / FILM_STEPS
    return (((x * (2.51 * x + 0.03)) / (x * (2.43 * x + 0.59) + 0.14)).clip(0, 1) ** (1 / 2.2)).astype(np.float32)


@cache
def _vignette() -> Array:
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j].astype(np.float32)
    return (1 - 0.10 * (x * x + y * y))[..., None]


def photograph(rng: Generator, twin: Array, image: Array, grain: float) -> tuple[Array, Array]:
    """The same lens and the same sensor noise for both."""
    noise = rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32) * np.float32(grain)
    noise = noise + rng.standard_normal((SIZE // 2, SIZE // 2, 3), dtype=np.float32).repeat(2, 0).repeat(
        2, 1
    ) * np.float32(grain / 2)
    lens = _vignette()
    shot = twin * lens + noise
    return shot, shot if image is twin else image * lens + noise
