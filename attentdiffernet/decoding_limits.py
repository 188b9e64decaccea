"""What an image file may ask of its decoder, checked before it is opened.

A file of a few hundred kilobytes can keep a decoder busy for minutes: with many refinement scans, empty chunks or
comments. The structure of a file tells; looking at it takes milliseconds.
"""

import re
from collections.abc import Iterator
from typing import Literal

from .errors import ImageError

SCANNED_PIXELS = 1_000_000_000  # JPEG: scans times pixels. A progressive photograph has about 10 scans.
JPEG_SEGMENTS = 2_000  # before the first scan; a large colour profile takes 255
PNG_CHUNKS = 50_000  # 100 MB of pixels in chunks of 2 KB
PNG_TEXTS = 1_000
GIF_EXTENSION_BYTES = 200_000  # before the first frame
GIF_BLOCKS = 2_000
RLE_BYTES = 2_000_000  # of a BMP in run-length coding, which Pillow decodes in Python
TIFF_PIECES = 65_536  # strips or tiles

STANDALONE = {0x01, *range(0xD0, 0xD9)}  # JPEG markers without a length
SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start of frame
MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")  # the next one after coded data


def check_structure(data: bytes, name: str) -> None:
    """Raises ImageError for a file that would take its decoder far longer than its pixels need."""
    asks = next((check(data) for start, check in CHECKS.items() if data.startswith(start)), None)
    if asks:
        raise ImageError(f"{name} has {asks}, which no photograph needs. Open it in an image program and save it again")


def _jpeg(data: bytes) -> str | None:
    pixels, scans, segments = 0, 0, 0
    for marker, start, place in jpeg_markers(data):
        segments += place - start - 1  # with bytes that only fill up, which Pillow reads one by one
        if marker in SIZES:
            pixels = int.from_bytes(data[place + 3 : place + 5]) * int.from_bytes(data[place + 5 : place + 7])
        scans += marker == 0xDA
        if scans * pixels > SCANNED_PIXELS:
            return f"{scans} or more scans over {pixels / 1e6:.0f} million pixels"
        if segments - scans > JPEG_SEGMENTS:
            return f"more than {JPEG_SEGMENTS} segments"
    return None


def jpeg_markers(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, where it starts, place of its length) of each segment; thumbnails within segments are passed over."""
    place = 2
    while found := MARKER.search(data, place):
        marker, place = found[1][0], found.end()
        yield marker, found.start(), place
        if marker == 0xD9:
            return
        if marker not in STANDALONE:
            place += max(2, int.from_bytes(data[place : place + 2]))


def _png(data: bytes) -> str | None:
    place, chunks, texts = 8, 0, 0
    while place + 8 <= len(data):
        kind = data[place + 4 : place + 8]
        texts += kind in (b"tEXt", b"zTXt", b"iTXt")
        chunks += 1
        if chunks > PNG_CHUNKS or texts > PNG_TEXTS:
            return f"more than {PNG_TEXTS} texts" if texts > PNG_TEXTS else f"more than {PNG_CHUNKS} chunks"
        if kind == b"IEND":
            break
        place += 12 + int.from_bytes(data[place : place + 4])
    return None


def _gif(data: bytes) -> str | None:
    """Up to the first frame: no other one is decoded."""
    flags = data[10] if len(data) > 10 else 0
    start = place = 13 + (3 * (2 << (flags & 7)) if flags & 0x80 else 0)
    blocks = 0
    while place < len(data) and data[place] != 0x2C:  # the first frame
        if data[place] == 0x21:  # an extension: its kind, then blocks up to an empty one
            place = _after_blocks(data, place + 2)
        else:
            place += 1
        blocks += 1
        if blocks > GIF_BLOCKS or place - start > GIF_EXTENSION_BYTES:
            return "too many comments or extensions"
    return None


def _after_blocks(data: bytes, place: int) -> int:
    while place < len(data) and data[place]:
        place += 1 + data[place]
    return place + 1


def _bmp(data: bytes) -> str | None:
    in_runs = int.from_bytes(data[14:18], "little") >= 40 and data[30:31] in (b"\x01", b"\x02")
    return f"over {RLE_BYTES // 1_000_000} MB of run-length code" if in_runs and len(data) > RLE_BYTES else None


def _tiff(data: bytes) -> str | None:
    """The first page: no other one is decoded. What is damaged is left to the decoder."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"

    def number(place: int, size: int) -> int:
        return int.from_bytes(data[place : place + size], order)

    big = number(2, 2) == 43  # BigTIFF: its numbers have 8 bytes
    size, width = (8, 20) if big else (4, 12)
    page = number(8 if big else 4, size)
    n_fields = number(page, 8 if big else 2)
    first = page + (8 if big else 2)
    for place in range(first, min(first + n_fields * width, len(data)), width):
        if number(place, 2) in (273, 324) and number(place + 4, size) > TIFF_PIECES:  # strips, tiles
            return f"more than {TIFF_PIECES} strips or tiles"
    return None


CHECKS = {
    b"\xff\xd8\xff": _jpeg,
    b"\x89PNG\r\n\x1a\n": _png,
    b"GIF8": _gif,
    b"BM": _bmp,
    b"II": _tiff,
    b"MM": _tiff,
}
