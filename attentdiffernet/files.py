"""Replace files and folders as a whole, lock them, and remove what killed processes left behind.

New content is written beside its target as `.NAME.XXXXXXXX.new` and renamed into place when it is complete, so readers
see the old content or the new one, never a part. A folder cannot be renamed over another one that holds files: the old
one is first renamed to `.NAME.XXXXXXXX.old`, and `finish_replacement` completes a replacement that was killed between
the two renames.
"""

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

try:
    import fcntl
except ImportError:  # Windows: locks are not taken
    fcntl = None  # type: ignore[assignment]

GAP_SECONDS = 1.0  # far longer than the two renames of a folder take
LEFTOVER_SECONDS = 3600.0  # far longer than writing anything takes: what is older belongs to no running process
LEFTOVER = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.(?P<kind>new|old)", re.DOTALL)


# -- replace


@contextmanager
def replace_file(path: str | Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A stream for the new content of `path`, put in place at the end of the block and dropped if the block raises.

    The permissions of an existing file are kept; a symbolic link is replaced by a file. durable: write the content to
    the disk before the rename, so that it survives a power failure, and remove old leftovers. Without, for many small
    files that can be made again, both are skipped.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = _beside(path)
    try:
        with open(new, "xb") as stream:
            yield stream
            if durable:
                _sync(stream)
        if path.exists():
            shutil.copymode(path, new)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
    if durable:
        _sync_folder(path.parent)
        sweep(path)


@contextmanager
def replace_folder(folder: str | Path, durable: bool = True) -> Iterator[Path]:
    """An empty folder, put in the place of `folder` at the end of the block and dropped if the block raises.

    durable: write all files to the disk before the rename. Slow for folders of many files.
    """
    folder = Path(folder)
    finish_replacement(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = _beside(folder)
    new.mkdir()
    try:
        yield new
        if durable:
            _sync_tree(new)
        _swap(folder, new)
    finally:
        _remove(new)
    if durable:
        _sync_folder(folder.parent)
    sweep(folder)


def finish_replacement(folder: str | Path) -> None:
    """Puts the new folder in place where `replace_folder` was killed between its two renames. Else does nothing."""
    folder = Path(folder)

    def interrupted() -> list[Path]:
        """New folders, all complete, whose old one has been moved away already."""
        if os.path.lexists(folder):
            return []
        moved = [path for path in leftovers(folder) if path.suffix == ".old"]
        return [new for old in moved if (new := old.with_suffix(".new")).is_dir()]

    if interrupted():
        time.sleep(GAP_SECONDS)  # the other process may still be alive, and about to do it itself
    for new in interrupted()[:1]:
        os.replace(new, folder)
        _remove(new.with_suffix(".old"))


def _swap(folder: Path, new: Path) -> None:
    """Puts one folder in the place of another; if that fails, the old one is moved back."""
    old = new.with_suffix(".old")
    if os.path.lexists(folder):
        os.replace(folder, old)
    try:
        os.replace(new, folder)
    except BaseException:
        if os.path.lexists(old):
            os.replace(old, folder)
        raise
    _remove(old)


# -- clear away


def leftovers(path: str | Path) -> list[Path]:
    """What lies beside `path` of replacements that are running or were killed."""
    path = Path(path)
    return [left for left in leftovers_in(path.parent) if _match(left)["name"] == path.name]


def leftovers_in(folder: str | Path) -> list[Path]:
    """As `leftovers`, for all files and folders in `folder`. Empty if it cannot be listed."""
    try:
        return sorted(path for path in Path(folder).iterdir() if LEFTOVER.fullmatch(path.name))
    except OSError:  # it does not exist, or may be written but not listed
        return []


def sweep(path: str | Path, older_than: float = LEFTOVER_SECONDS) -> None:
    """Removes what killed replacements of `path` left, where it is older than that many seconds."""
    _sweep(leftovers(path), older_than)


def sweep_folder(folder: str | Path, older_than: float = LEFTOVER_SECONDS) -> None:
    """Finishes all replacements in the folder that were killed half-way, and removes what the others left."""
    folder = Path(folder)
    for name in {_match(left)["name"] for left in leftovers_in(folder) if left.suffix == ".old"}:
        finish_replacement(folder / name)
    _sweep(leftovers_in(folder), older_than)


def _sweep(paths: list[Path], older_than: float) -> None:
    for path in paths:
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime >= older_than:
                _remove(path)


def _remove(path: Path) -> None:
    """Removes a file, a link or a whole folder, as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")


def _match(left: Path) -> re.Match[str]:
    match = LEFTOVER.fullmatch(left.name)
    assert match
    return match


# -- disk


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    with suppress(OSError):  # some file systems cannot
        os.fsync(stream.fileno())


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "r+b") as stream:
                _sync(stream)
    for path in [*folder.rglob("*/"), folder]:
        _sync_folder(path)


def _sync_folder(folder: Path) -> None:
    """Writes the names in a folder to the disk. Windows cannot open folders and needs no such call."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# -- lock


@contextmanager
def locked(folder: str | Path, wait: bool = True) -> Iterator[None]:
    """Makes the folder and holds a lock on it; a lock ends with its process, even a killed one.

    wait: wait for another process to release it, otherwise raise BlockingIOError. Without effect on Windows, and on
    network file systems that have no locks.
    """
    folder = Path(folder)
    descriptor = _locked_descriptor(folder, wait)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked_descriptor(folder: Path, wait: bool) -> int | None:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        if fcntl is None:
            return None
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _lock(descriptor, wait)
            if _is_at(descriptor, folder):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # removed between opening and locking: try again


def open_locked(path: str | Path) -> IO[bytes]:
    """The file, opened to read and append, with a lock that ends when it is closed.

    Raises BlockingIOError where another process holds it. Without effect where `locked` has none.
    """
    stream = open(path, "a+b")  # noqa: SIM115  the caller closes it
    try:
        _lock(stream.fileno(), wait=False)
        if not _is_at(stream.fileno(), Path(path)):
            raise BlockingIOError(f"{path} was replaced by another process")
    except BaseException:
        stream.close()
        raise
    return stream


def _lock(descriptor: int, wait: bool) -> None:
    """Raises BlockingIOError where another process holds the lock and `wait` is false."""
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:  # some network file systems have no locks
        pass


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
