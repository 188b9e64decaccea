"""The folder of this process for what visitors bring, and how much of it there may be.

It is removed when the process ends, and by a later process if this one is killed. What nobody has used for KEPT_S goes
before. All that is written for visitors counts: uploads, what is unpacked and trained from them, files for download,
also of runs that nobody waits for any more.
"""

import atexit
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

from attentdiffernet import files
from attentdiffernet.errors import AttentDifferNetError

PREFIX = "attentdiffernet-visitors-"
OWN = "own-"  # folders of trainings begin with it
RECEIVED = "tmp"  # files of uploads that are under way begin with it, beside the folders of those that are complete
KEPT_S = 3600.0  # how long what nobody uses is kept
EMPTY_S = 60.0  # an empty folder may be one that is about to be filled
TOTAL_ENVIRONMENT = "ATTENTDIFFERNET_UPLOADS_MB"
TOTAL_MB = 4_000  # of all visitors
_locks = ExitStack()  # held until the process ends, however it ends


@cache
def root() -> Path:
    """The folder, made when first asked for; those of processes that are gone are then removed. It lies in
    GRADIO_TEMP_DIR, or else with temporary files. Raises AttentDifferNetError where it cannot be made."""
    parent = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    try:
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        folder = claim(parent)
    except OSError as error:
        raise AttentDifferNetError(
            f"What visitors upload cannot be kept in {parent}: {error.strerror or error}. "
            "Set GRADIO_TEMP_DIR to a folder that can be written"
        ) from error
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _keep_forgetting()
    return folder


def uploads() -> Path:
    """The folder for uploads and files for download, within `root`."""
    folder = root() / "uploads"
    folder.mkdir(exist_ok=True)
    return folder


def claim(parent: Path) -> Path:
    """A new folder, marked as that of a living process."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    _locks.enter_context(files.locked(folder))
    return folder


def sweep(parent: Path) -> None:
    """Removes the folders of processes that are gone. Where nothing can be locked (Windows) it cannot tell, and keeps
    all."""
    for folder in parent.glob(f"{PREFIX}*") if os.name == "posix" else ():
        with suppress(OSError), files.locked(folder, wait=False):  # raises where the process lives
            shutil.rmtree(folder, ignore_errors=True)


# -- how much


def most_bytes() -> int:
    """That all visitors may have here together. Raises AttentDifferNetError for a setting that is no number."""
    given = os.environ.get(TOTAL_ENVIRONMENT) or str(TOTAL_MB)
    if not given.isascii() or not given.isdecimal() or int(given) < 1:
        raise AttentDifferNetError(f"{TOTAL_ENVIRONMENT} must be a number of megabytes, got {given!r}")
    return int(given) * 1_000_000


def held_bytes() -> int:
    """What lies here."""
    return sum(info.st_size for _, info in _contents(root()) if stat.S_ISREG(info.st_mode))


def check_room(n_bytes: int = 0) -> None:
    """Raises AttentDifferNetError where there is no room for so much more."""
    held = held_bytes()
    if held + n_bytes > most_bytes():
        raise AttentDifferNetError(full(held))


def full(held: int) -> str:
    return f"The page holds {held / 1e6:.0f} MB of uploads at the moment; try again in a few minutes"


# -- how long


def forget_old(kept_s: float = KEPT_S) -> None:
    """Removes what nobody has used for so long."""
    for folder in root().glob(f"{OWN}*"):
        with suppress(OSError):  # it goes meanwhile
            if time.time() - folder.stat().st_mtime > kept_s:
                shutil.rmtree(folder, ignore_errors=True)
    for path, info in sorted(_contents(uploads()), reverse=True):  # a folder after what it holds
        with suppress(OSError):
            if not stat.S_ISDIR(info.st_mode):
                if _age_s(info) > kept_s:
                    path.unlink()
            elif _age_s(path.stat()) > min(EMPTY_S, kept_s):
                path.rmdir()  # raises where it is not empty


def forget_received() -> None:
    """Removes uploads that were cut off. No upload may be under way."""
    for path in uploads().glob(f"{RECEIVED}*"):
        with suppress(OSError):
            path.unlink()


def _keep_forgetting() -> None:
    """`forget_old` from time to time, as long as the process runs."""

    def go_on() -> None:
        while True:
            time.sleep(KEPT_S / 60)
            forget_old()

    threading.Thread(target=go_on, daemon=True, name="forget old uploads").start()


def _age_s(info: os.stat_result) -> float:
    """Since it was written or came here: a copy can have the time of its original."""
    return time.time() - max(info.st_mtime, info.st_ctime)


def _contents(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All files and folders below, without following links."""
    for path in folder.rglob("*"):
        with suppress(OSError):  # it goes meanwhile
            yield path, path.lstat()
