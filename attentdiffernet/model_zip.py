"""A model as one zip: the three files of its checkpoint, as the pages hand it out. Zips are untrusted."""

import atexit
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from .errors import AttentDifferNetError, CheckpointError

FILES = ("config.json", "model.safetensors", "README.md")  # of a checkpoint
MOST_BYTES = 2_000_000_000  # of one file: the largest flow has 0.7 GB


def pack(folder: Path, target: Path) -> None:
    """Writes the checkpoint in a folder as a zip."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILES:
            archive.write(folder / name, name)


def unpack(
    file: Path, folder: Path, most_bytes: int = MOST_BYTES, allow: Callable[[int], object] = lambda n_bytes: None
) -> Path:
    """Writes the three files of a checkpoint into `folder`, and returns it. They may lie anywhere in the zip; nothing
    else in it is read. most_bytes: of one file. allow: called with the bytes of all three before they are written.

    Raises CheckpointError for anything that is no such zip or too large, and what `allow` raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {}
            for name in FILES:
                (entries[name],) = [one for one in archive.infolist() if Path(one.filename).name == name]
            allow(sum(entry.file_size for entry in entries.values()))
            for name, entry in entries.items():
                if entry.file_size > most_bytes:
                    size, limit = entry.file_size / 1e6, most_bytes / 1e6
                    raise CheckpointError(f"{name} has {size:.0f} MB; the limit is {limit:.0f} MB")
                with archive.open(entry) as stream, open(folder / name, "wb") as out:
                    shutil.copyfileobj(stream, out)
    except AttentDifferNetError:
        raise
    except (ValueError, zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise CheckpointError(f"{file.name} is no model: a model is a zip with {', '.join(FILES)}") from error
    return folder


def unpacked(file: Path) -> Path:
    """The checkpoint of a zip in a folder that stays until the process ends. Raises CheckpointError as `unpack`."""
    folder = Path(tempfile.mkdtemp(prefix="attentdiffernet-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return unpack(file, folder)
