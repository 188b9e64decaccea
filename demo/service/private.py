"""The folder of this process for what visitors bring. It is swept by a later process if this one is killed."""

import os
import shutil
import tempfile
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

from attentdiffernet import files

PREFIX = "attentdiffernet-visitors-"
_locks = ExitStack()  # held until the process ends, however it ends


@cache
def root() -> Path:
    """The folder, made when first asked for; those of processes that are gone are then removed."""
    parent = Path(tempfile.gettempdir())
    sweep(parent)
    return claim(parent)


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
