"""Wafer maps as images: WM-811K (a pickled table, read without unpickling) and MixedWM38 (NumPy arrays).

A map tells for each die whether it passed. It is drawn as a square image, since a wafer is round whatever the shape of
its dies, without smoothing, in three colours that can be told apart by the colour-blind and in grey.
"""

import io
import math
import mmap
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DatasetError
from ..stages import Progress
from . import pickles
from .archives import Source, is_hidden, open_source, reading
from .layouts import Plan, hold_out
from .layouts import draw as draw_names

SIDE = 448  # px
COLOURS = {"none": (20, 24, 33), "passed": (38, 132, 126), "failed": (247, 165, 96)}  # codes 0, 1, 2
MAX_DIES = SIDE  # along a side: more do not fit into the image
CATEGORY = "wafer"
BYTES_PER_IMAGE = 8192  # on disk, at most, for the check of free space

WM811K_LABELS = {
    "none": 147_431,
    "Edge-Ring": 9_680,
    "Edge-Loc": 5_189,
    "Center": 4_294,
    "Loc": 3_593,
    "Scratch": 1_193,
    "Random": 866,
    "Donut": 555,
    "Near-full": 149,
}
MIXED_PATTERNS = ("center", "donut", "edge_loc", "edge_ring", "loc", "near_full", "scratch", "random")


def draw(dies: NDArray[np.integer[Any]]) -> bytes:
    """A PNG of SIDE x SIDE px. dies: (rows, columns) in {0 no die, 1 passed, 2 failed}.

    Raises DatasetError for another shape or other values.
    """
    if dies.ndim != 2 or not 2 <= min(dies.shape) <= max(dies.shape) <= MAX_DIES:
        raise DatasetError(f"A wafer map must have 2 to {MAX_DIES} dies along each side, got shape {dies.shape}")
    if dies.dtype.kind not in "uib" or dies.min() < 0 or dies.max() > 2:
        raise DatasetError("A wafer map must hold only 0 (no die), 1 (passed) and 2 (failed)")
    rows, columns = (np.arange(SIDE) * side // SIDE for side in dies.shape)
    image = Image.fromarray(dies.astype(np.uint8)[np.ix_(rows, columns)])
    image.putpalette([value for colour in COLOURS.values() for value in colour])
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


class WaferMaps:
    """Labelled maps. labels: one per map, '' for none. in_test: whether a map without a pattern belongs to the test."""

    def __init__(self, labels: list[str], in_test: list[bool], maps: Any) -> None:
        self.labels, self.in_test, self._maps = labels, in_test, maps

    def plan(self, limit: int | None) -> Plan:
        """Where each map goes. limit: at most this many images of each kind, drawn by a hash of their numbers."""
        kinds: dict[str, list[str]] = {}
        for index, (label, test) in enumerate(zip(self.labels, self.in_test, strict=True)):
            if label:
                kind = f"test/{label}" if label != "good" or test else "train/good"
                kinds.setdefault(kind, []).append(f"{index:06d}")
        files: dict[str, str] = {}
        for kind, names in kinds.items():
            kept = names if limit is None or len(names) <= limit else sorted(draw_names(names, limit))
            files.update({f"{kind}/{name}.png": name for name in kept})
        return {CATEGORY: files}

    def read(self, names: Collection[str], max_bytes: int) -> Iterator[tuple[str, bytes]]:
        for name in names:
            with pickles.guarded():
                dies = self._maps(int(name))
            try:
                picture = draw(dies)
            except DatasetError as error:
                raise DatasetError(f"Wafer {int(name)}: {error}") from error
            yield name, picture


@contextmanager
def wm811k(path: Path, scratch: Path, any_counts: bool, progress: Progress) -> Iterator[WaferMaps]:
    """LSWMD.pkl, or a zip or folder with it. scratch: a folder for the file unpacked from a zip."""
    with (
        _file(path, (".pkl",), scratch, progress) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        table = pickles.read_table(
            data,
            ["waferMap", "failureType", "trianTestLabel"],
            lambda done, total: progress("reading the table (MB)", done // 1_000_000, total // 1_000_000),
        )
        with pickles.guarded():
            patterns = [table.text(value) for value in table.columns["failureType"]]
            sides = [table.text(value) for value in table.columns["trianTestLabel"]]
        counts = {label: patterns.count(label) for label in WM811K_LABELS}
        if unknown := set(patterns) - set(WM811K_LABELS) - {""}:
            raise DatasetError(f"The table has labels that WM-811K does not: {', '.join(sorted(unknown))[:200]}")
        if counts != WM811K_LABELS and not any_counts:
            came = ", ".join(f"{label} {count}" for label, count in counts.items())
            wanted = ", ".join(f"{label} {count}" for label, count in WM811K_LABELS.items())
            raise DatasetError(
                f"The table has {came}, but the published counts of WM-811K are {wanted}. "
                "--any-counts accepts it as it is"
            )
        if stray := set(sides) - {"Training", "Test", ""}:
            raise DatasetError(f"trianTestLabel must be Training, Test or empty, got {', '.join(sorted(stray))[:200]}")
        labels = [{"none": "good"}.get(pattern, pattern.lower().replace("-", "_")) for pattern in patterns]
        maps = table.columns["waferMap"]
        yield WaferMaps(labels, [side == "Test" for side in sides], lambda index: table.array(maps[index]))


@contextmanager
def mixedwm38(path: Path, scratch: Path, any_counts: bool, progress: Progress) -> Iterator[WaferMaps]:
    """The .npz with arr_0 and arr_1, or a zip or folder with it."""
    with _file(path, (".npz",), scratch, progress) as file, reading(path):
        dies = _member(file, "arr_0", ndim=3)
        marks = _member(file, "arr_1", ndim=2)
    if marks.shape != (len(dies), len(MIXED_PATTERNS)) or not np.isin(marks, (0, 1)).all():
        raise DatasetError(
            f"arr_1 must hold {len(MIXED_PATTERNS)} marks of 0 or 1 for each of the {len(dies)} maps in arr_0, "
            f"got shape {marks.shape}"
        )
    if dies.shape != (38015, 52, 52) and not any_counts:
        raise DatasetError(
            f"arr_0 of MixedWM38 as published has shape (38015, 52, 52), got {dies.shape}. "
            "--any-counts accepts it as it is"
        )
    labels = ["+".join(name for name, mark in zip(MIXED_PATTERNS, row, strict=True) if mark) for row in marks]
    labels = [label or "good" for label in labels]
    normals = [f"{index:06d}" for index, label in enumerate(labels) if label == "good"]
    test = hold_out(normals, 0.2)
    in_test = [f"{index:06d}" in test for index in range(len(labels))]
    yield WaferMaps(labels, in_test, lambda index: np.where(dies[index] == 3, 2, dies[index]))


MAX_ARRAY = 4_000_000_000  # bytes


def _member(file: IO[bytes], name: str, ndim: int) -> NDArray[Any]:
    """One array of whole numbers from an .npz; its header is checked before memory is allocated.

    Pickled objects are rejected. Floats are accepted if they are whole numbers.
    """
    with zipfile.ZipFile(file) as archive:
        known = {info.filename for info in archive.infolist()}
        if f"{name}.npy" not in known:
            raise DatasetError(f"The .npz holds no {name}; it holds {', '.join(sorted(known))[:200]}")
        info = archive.getinfo(f"{name}.npy")
        with archive.open(info) as stream:
            version = np.lib.format.read_magic(stream)
            reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in reader:
                raise DatasetError(f"{name} has NumPy's format {version}; only 1.0 and 2.0 can be read")
            shape, fortran, dtype = reader[version](stream)
            if dtype.kind not in "uibf" or len(shape) != ndim:
                raise DatasetError(f"{name} must hold numbers in {ndim} dimensions, got {dtype} in {len(shape)}")
            size = math.prod(shape) * dtype.itemsize
            if min(shape) < 0 or size > MAX_ARRAY or size > info.file_size:
                raise DatasetError(f"{name} states {size:,} bytes, but there are {info.file_size:,}")
            rows = np.empty(shape, np.uint8)
            if fortran:
                raise DatasetError(f"{name} is stored by columns; save it again with numpy.ascontiguousarray")
            row_bytes = math.prod(shape[1:]) * dtype.itemsize
            step = max(1, (1 << 24) // max(row_bytes, 1))
            for start in range(0, shape[0], step):
                count = min(step, shape[0] - start)
                data = _exactly(stream, count * row_bytes)
                part = np.frombuffer(data, dtype).reshape(count, *shape[1:])
                if not ((part >= 0) & (part <= 255) & (part == np.floor(part))).all():
                    raise DatasetError(f"{name} must hold whole numbers from 0 to 255")
                rows[start : start + count] = part
    return rows


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise EOFError("an array ends early")
        data += more
    return data


@contextmanager
def _file(path: Path, suffixes: tuple[str, ...], scratch: Path, progress: Progress) -> Iterator[IO[bytes]]:
    """The one data file: the path itself, or a file in the archive or folder that it names."""
    with ExitStack() as stack:
        if path.is_file() and path.suffix.lower() in suffixes:
            file: IO[bytes] = stack.enter_context(open(path, "rb"))
            if not path.stat().st_size:
                raise DatasetError(f"{path.name} is empty")
            yield file
            return
        source: Source = open_source(path, progress=progress)
        inside = [name for name in source.files if name.lower().endswith(suffixes) and not is_hidden(name)]
        if len(inside) != 1 or not source.files[inside[0]]:
            found = f"{len(inside)} of them" if inside else "none"
            raise DatasetError(f"{path.name} must hold one file {' or '.join(suffixes)}, got {found}")
        if path.is_dir():
            yield stack.enter_context(open(path / inside[0], "rb"))
            return
        # Without a name on disk: it is removed with the process, however that ends.
        file = stack.enter_context(tempfile.TemporaryFile(dir=scratch))
        progress("unpacking", 0, 1)
        source.save(inside[0], file)
        file.flush()
        progress("unpacking", 1, 1)
        yield file
