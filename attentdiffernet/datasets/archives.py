"""Reads untrusted archives and folders: zip, tar (plain, gz, bz2, xz), a folder.

Nothing is unpacked to the paths that an archive names: `files` lists its content, `read` returns bytes, and the caller
decides where they go. The whole list is checked before anything is read. Absolute names, `..`, links, devices,
encrypted or sparse entries, names that occur twice or differ only in case, too many or too large entries, and a
suspicious compression ratio are rejected with a clear message.
"""

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

from ..errors import DatasetError
from ..stages import Progress, no_progress

CHUNK = 1 << 20  # bytes
XZ_MEMORY = 512 << 20  # bytes a decoder may ask for; `xz -9` needs 65 MiB
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag
MAX_HEADER = 1 << 20  # bytes of one tar header with its long names


@dataclass(frozen=True)
class Limits:
    """Beyond any data set used here. ratio: unpacked to packed bytes, checked above `ratio_from` bytes."""

    entries: int = 300_000
    total_bytes: int = 60_000_000_000
    file_bytes: int = 16_000_000_000
    ratio: float = 200
    ratio_from: int = 100_000_000
    name_bytes: int = 1024
    depth: int = 20


class Source:
    """The content of an archive or a folder. files: name with forward slashes -> bytes, in the order of storage."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, int] = {}

    def read(self, names: Collection[str], max_bytes: int) -> Iterator[tuple[str, bytes]]:
        """The content of the named files, one by one, in the order of storage.

        Raises DatasetError for a file of more than max_bytes, and for an archive that is damaged or has changed.
        """
        for name in names:
            if self.files[name] > max_bytes:
                raise DatasetError(f"{name} has {self.files[name] / 1e6:.0f} MB; the limit is {max_bytes / 1e6:.0f} MB")
        for name, stream in self._open(frozenset(names)):
            with reading(self.path):
                data = stream.read(self.files[name] + 1)
            if len(data) != self.files[name]:
                raise DatasetError(f"{self.path.name} changed while it was read: the size of {name} is different")
            yield name, data

    def save(self, name: str, file: IO[bytes]) -> None:
        """Copies the content of one file, of any size."""
        for _, stream in self._open(frozenset([name])):
            left = self.files[name]
            while left > 0:
                with reading(self.path):
                    data = stream.read(min(CHUNK, left))
                if not data:
                    raise DatasetError(f"{self.path.name} is damaged or incomplete: {name} ends early")
                file.write(data)
                left -= len(data)

    def _open(self, names: frozenset[str]) -> Iterator[tuple[str, IO[bytes]]]:
        raise NotImplementedError


def open_source(path: Path, limits: Limits | None = None, progress: Progress = no_progress) -> Source:
    """Lists an archive or a folder, and checks the list. progress: called with megabytes read of a tar archive.

    Raises DatasetError for a file that is not an archive, is damaged, or is rejected for the reasons above.
    """
    limits = limits or Limits()
    if path.is_dir():
        return _Folder(path, limits)
    if not path.is_file():
        raise DatasetError(f"There is no file or folder {path}")
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _Zip(path, limits)
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")) or head[257:262] == b"ustar":
        return _Tar(path, limits, progress)
    raise DatasetError(
        f"{path.name} is neither a folder nor an archive that can be read (zip, tar, tar.gz, tar.bz2, tar.xz)"
    )


def is_hidden(name: str) -> bool:
    """Files that operating systems add: `.DS_Store`, `._crack.png`, `__MACOSX/...`, thumbnails."""
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini") for part in name.split("/"))


class _Listing:
    """Takes one entry after the other and rejects unsafe ones as early as possible."""

    def __init__(self, path: Path, limits: Limits, packed: int | None) -> None:
        self.path, self.limits, self.packed = path, limits, packed
        self.files: dict[str, int] = {}
        self.total = self.entries = 0
        self._seen: dict[str, tuple[str, bool]] = {}  # folded name -> (name, is it a folder)

    def rejected(self, name: str, reason: str) -> DatasetError:
        shown = name if name.isprintable() else ascii(name)[1:-1]
        return DatasetError(f"{self.path.name} is rejected: {shown[:200]} {reason}")

    def add(self, name: str, size: int, is_folder: bool) -> str | None:
        """The cleaned name, or None for a folder."""
        self.entries += 1
        if self.entries > self.limits.entries:
            raise DatasetError(f"{self.path.name} is rejected: it has more than {self.limits.entries:,} entries")
        clean = self._clean(name)
        if is_folder or not clean:
            if clean:
                self._register(clean, True)
            return None
        if size < 0 or size > self.limits.file_bytes:
            raise self.rejected(name, f"would unpack to {size / 1e9:.1f} GB")
        self.total += size
        if self.total > self.limits.total_bytes:
            raise DatasetError(
                f"{self.path.name} is rejected: it would unpack to more than {self.limits.total_bytes / 1e9:.0f} GB"
            )
        if self.packed is not None and self.total > self.limits.ratio_from:
            ratio = self.total / max(self.packed, 1)
            if ratio > self.limits.ratio:
                raise DatasetError(
                    f"{self.path.name} is rejected: it would unpack to {ratio:.0f} times its size or more; "
                    f"the limit is {self.limits.ratio:.0f} times"
                )
        self._register(clean, False)
        self.files[clean] = size
        return clean

    def _clean(self, name: str) -> str:
        if not name or name.startswith("/") or "\\" in name or (len(name) > 1 and name[1] == ":"):
            raise self.rejected(name, "is an absolute name or has backslashes")
        if not name.isprintable():  # control characters, and bytes that are not text
            raise self.rejected(name, "has characters that are not allowed in names")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self.rejected(name, "leads out of its folder")
        if len(parts) > self.limits.depth or len(name.encode()) > self.limits.name_bytes:
            raise self.rejected(name, "is too deep or too long")
        if any(len(part.encode()) > 255 for part in parts):
            raise self.rejected(name, "has a part of more than 255 bytes")
        return "/".join(parts)

    def _register(self, name: str, is_folder: bool) -> None:
        """Rejects names that occur twice in any case, and files with the name of a folder."""
        folded = unicodedata.normalize("NFC", name).casefold()
        known = self._seen.get(folded)
        if known is not None:
            if known == (name, True) and is_folder:
                return
            reason = "occurs twice" if known[0] == name else f"differs from {known[0]} only in case"
            raise self.rejected(name, reason)
        self._seen[folded] = name, is_folder
        parent = name.rpartition("/")[0]
        if parent:
            self._register(parent, True)


class _Folder(Source):
    def __init__(self, path: Path, limits: Limits) -> None:
        super().__init__(path)
        listing = _Listing(path, limits, packed=None)
        waiting = [path]
        while waiting:
            folder = waiting.pop()
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if is_hidden(entry.name):
                        continue
                    name = Path(entry.path).relative_to(path).as_posix()
                    if entry.is_symlink():
                        raise listing.rejected(name, "is a link; replace it by what it points to")
                    if entry.is_dir():
                        waiting.append(Path(entry.path))
                    elif entry.is_file():
                        listing.add(name, entry.stat().st_size, is_folder=False)
                    else:
                        raise listing.rejected(name, "is neither a file nor a folder")
        self.files = dict(sorted(listing.files.items()))

    def _open(self, names: frozenset[str]) -> Iterator[tuple[str, IO[bytes]]]:
        for name in self.files:
            if name in names:
                # A link that was put there since the listing is an error, not a way out of the folder.
                descriptor = os.open(self.path / name, os.O_RDONLY | NO_FOLLOW)
                with os.fdopen(descriptor, "rb") as stream:
                    yield name, stream


class _Zip(Source):
    def __init__(self, path: Path, limits: Limits) -> None:
        super().__init__(path)
        listing = _Listing(path, limits, path.stat().st_size)
        self._stored: dict[str, zipfile.ZipInfo] = {}
        with reading(path), zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind == stat.S_IFLNK:
                    raise listing.rejected(info.filename, "is a link")
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise listing.rejected(info.filename, "is neither a file nor a folder")
                if info.flag_bits & 1:
                    raise listing.rejected(info.filename, "is encrypted")
                if "\0" in info.orig_filename:
                    raise listing.rejected(info.orig_filename, "has characters that are not allowed in names")
                name = listing.add(info.filename, info.file_size, info.is_dir())
                if name is not None:
                    self._stored[name] = info
        self.files = listing.files

    def _open(self, names: frozenset[str]) -> Iterator[tuple[str, IO[bytes]]]:
        with reading(self.path):
            archive = zipfile.ZipFile(self.path)
        with archive:
            for name, info in self._stored.items():
                if name in names:
                    with reading(self.path):
                        stream = archive.open(info)
                    with stream:
                        yield name, stream


class _Tar(Source):
    def __init__(self, path: Path, limits: Limits, progress: Progress) -> None:
        super().__init__(path)
        packed = path.stat().st_size
        listing = _Listing(path, limits, packed)
        self._limits = limits
        with open(path, "rb") as file:
            for member in self._members(file):
                if member.islnk() or member.issym():
                    raise listing.rejected(member.name, "is a link")
                if member.issparse():
                    raise listing.rejected(member.name, "is a sparse file")
                if not (member.isreg() or member.isdir()):
                    raise listing.rejected(member.name, "is neither a file nor a folder")
                listing.add(member.name, member.size, member.isdir())
                progress("listing the archive (MB)", file.tell() // 1_000_000, packed // 1_000_000)
        self.files = listing.files

    def _members(self, file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
        with reading(self.path):
            tape = _Tape(file, self._limits)
            self._archive = tarfile.TarFile(fileobj=cast(Any, tape), errorlevel=2)
        while True:
            with reading(self.path):
                member = self._archive.next()
            if member is None:
                break
            yield member
        # tarfile takes an entry that it cannot read for the end; after the true end there are only zeros.
        with reading(self.path):
            while rest := tape.read(CHUNK):
                if rest.count(0) != len(rest):
                    raise tarfile.ReadError("an entry cannot be read")

    def _open(self, names: frozenset[str]) -> Iterator[tuple[str, IO[bytes]]]:
        left = len(names)
        with open(self.path, "rb") as file:
            for member in self._members(file):
                name = "/".join(part for part in member.name.split("/") if part not in ("", "."))
                if member.isreg() and name in names:
                    if member.size != self.files[name]:
                        raise DatasetError(
                            f"{self.path.name} changed while it was read: the size of {name} is different"
                        )
                    stream = self._archive.extractfile(member)
                    assert stream is not None
                    yield name, stream
                    left -= 1
                if not left:
                    return
        raise DatasetError(f"{self.path.name} changed while it was read: {left} files are missing")


class _Tape:
    """A tar archive, decompressed while it is read, forwards only and up to the limits."""

    def __init__(self, file: IO[bytes], limits: Limits) -> None:
        head = file.read(6)
        file.seek(0)
        self._raw: _Reads = file
        if head.startswith(b"\x1f\x8b"):
            self._raw = gzip.GzipFile(fileobj=file)
        elif head.startswith(b"BZh"):
            self._raw = bz2.BZ2File(file)
        elif head.startswith(b"\xfd7zXZ"):
            self._raw = _Xz(file)
        self._position = 0
        self._limit = limits.total_bytes + limits.entries * 1536  # headers and padding on top of the files

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= max(MAX_HEADER, CHUNK):  # tarfile reads a long name at once
            raise tarfile.ReadError("a header of unreasonable size")
        data = b""
        while len(data) < size:
            more = self._raw.read(size - len(data))
            if not more:
                break
            data += more
        self._position += len(data)
        if self._position > self._limit:
            raise tarfile.ReadError("more data than its entries announce")
        return data

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._position:
            raise tarfile.ReadError("entries out of order")
        while self._position < position:
            if not self.read(min(CHUNK, position - self._position)):
                break
        return self._position


class _Reads(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Xz:
    """As lzma.open, with a limit on the memory of the decoder."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)

    def read(self, size: int = -1, /) -> bytes:
        while True:
            if self._decoder.eof:
                rest = (self._decoder.unused_data or self._file.read(CHUNK)).lstrip(b"\0")  # streams may be padded
                if not rest:
                    return b""
                self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
            else:
                rest = self._file.read(CHUNK) if self._decoder.needs_input else b""
                if not rest and self._decoder.needs_input:
                    raise EOFError("it ends early")
            if data := self._decoder.decompress(rest, size):
                return data


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns the errors that a damaged archive causes into a DatasetError."""
    try:
        yield
    except DatasetError:
        raise
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        lzma.LZMAError,
        zlib.error,
        EOFError,
        ValueError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise DatasetError(f"{path.name} is damaged or incomplete ({error}); download it again") from error
    except OSError as error:
        if error.errno is not None:  # the disk, not the archive
            raise
        raise DatasetError(f"{path.name} is damaged or incomplete ({error}); download it again") from error


def common_folder(names: Iterable[str]) -> str:
    """The deepest folder that holds all names, with a slash at its end, or ''."""
    folders = [name.split("/")[:-1] for name in names]
    if not folders:
        return ""
    low, high = min(folders), max(folders)
    same = 0
    while same < min(len(low), len(high)) and low[same] == high[same]:
        same += 1
    return "/".join([*low[:same], ""]) if same else ""
