"""Whether a JPEG file holds all of its picture.

A file that was cut off and closed again with an end marker decodes without an error: libjpeg repeats the last colour
down to the lower edge, and Pillow does not pass its warning on. Three signs tell, each exact where it applies: too few
restart markers; a progressive picture whose last scans are missing; a flat lower part for which the file holds no code.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .decoding_limits import jpeg_markers

FLAT_BITS = 400  # of code that are looked at, at the end
LEAST_BITS = 64  # fewer say nothing
BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2


@dataclass
class _Structure:
    """kind: of the frame, a marker. unit: (height, width) px and blocks of the smallest coded piece (MCU).
    interval: of restarts, in MCUs, 0 for none. scans: (components, first and last coefficient, bits still missing,
    where its code begins). end: where the end marker stands."""

    kind: int = 0
    size: tuple[int, int] = (0, 0)
    unit: tuple[int, int] = (8, 8)
    blocks: int = 1
    components: tuple[int, ...] = ()
    interval: int = 0
    scans: tuple[tuple[tuple[int, ...], int, int, int, int], ...] = ()
    end: int = 0


def share_present(data: bytes, picture: Image.Image) -> float:
    """The share of a picture's rows that the file holds; 1 unless it is certain that some are missing.

    picture: as decoded from the file, of mode L or RGB, not turned.
    """
    found = _structure(data)
    if found.kind == PROGRESSIVE:
        return 1.0 if _all_scans(found) else 0.0
    if found.kind not in (BASELINE, EXTENDED) or len(found.scans) != 1 or found.scans[0][0] != found.components:
        return 1.0
    code = data[found.scans[0][4] : found.end]
    rows, columns = (math.ceil(side / step) for side, step in zip(found.size, found.unit, strict=True))
    if found.interval:
        wanted = math.ceil(rows * columns / found.interval)
        present = 1 + sum(code.count(bytes([0xFF, marker])) for marker in range(0xD0, 0xD8))
        return min(1.0, present / wanted)
    flat = _flat_rows(picture)
    least_bits = 2  # of a block: one for its mean, one for all else
    coded_bits = (flat // found.unit[0] - 1) * columns * found.blocks * least_bits
    if coded_bits < LEAST_BITS or _repeats(code, min(coded_bits, FLAT_BITS)):
        return 1.0
    return 1 - flat / picture.height


def _structure(data: bytes) -> _Structure:
    found = _Structure(end=len(data))
    for marker, start, place in jpeg_markers(data):
        body = data[place + 2 : place + int.from_bytes(data[place : place + 2])]
        if marker == 0xD9:
            found.end = start
        elif marker == 0xDD:
            found.interval = int.from_bytes(body[:2])
        elif marker == 0xDA and body:
            n = body[0]
            first, last, bits = body[1 + 2 * n : 4 + 2 * n]
            found.scans += ((tuple(body[1 : 1 + 2 * n : 2]), first, last, bits & 15, place + 2 + len(body)),)
        elif marker in (BASELINE, EXTENDED, PROGRESSIVE) and body:
            sampling = [(k >> 4, k & 15) for k in body[7 : 6 + 3 * body[5] : 3]]
            found.kind, found.components = marker, tuple(body[6 : 6 + 3 * body[5] : 3])
            found.size = int.from_bytes(body[1:3]), int.from_bytes(body[3:5])
            if len(sampling) > 1:
                found.unit = 8 * max(v for _, v in sampling), 8 * max(h for h, _ in sampling)
                found.blocks = sum(h * v for h, v in sampling)
    return found


def _all_scans(found: _Structure) -> bool:
    """Whether each coefficient of each component is sent down to its last bit."""
    missing = {(component, k) for component in found.components for k in range(64)}
    for components, first, last, bits, _ in found.scans:
        if not bits:
            missing -= {(component, k) for component in components for k in range(first, last + 1)}
    return not missing


def _flat_rows(picture: Image.Image) -> int:
    """How many rows at the lower edge have one colour, other than black or white: those may hide what was coded."""
    width, height = picture.size
    colour = np.asarray(picture.getpixel((width - 1, height - 1)))
    if colour.min() == 0 or colour.max() == 255:
        return 0
    for row in reversed(range(height)):
        if (np.asarray(picture.crop((0, row, width, row + 1))) != colour).any():
            return height - 1 - row
    return height


def _repeats(code: bytes, n_bits: int) -> bool:
    """Whether the code ends with a pattern that repeats: a flat piece of picture takes the same few bits each time."""
    tail = code[-n_bits // 4 :].replace(b"\xff\x00", b"\xff")
    bits = np.unpackbits(np.frombuffer(tail, np.uint8))
    for filled in range(8):  # bits that fill the last byte
        if len(bits) < filled + n_bits:
            return False
        end = bits[len(bits) - filled - n_bits : len(bits) - filled]
        if any(np.array_equal(end[period:], end[:-period]) for period in range(2, n_bits // 2)):
            return True
    return False
