"""A model as one zip: the three files of its checkpoint, as the pages hand it out. Zips are untrusted."""

import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from .errors import AttentDifferNetError, CheckpointError

FILES = ("config.json", "model.safetensors", "README.md")  # of a checkpoint
MOST_BYTES = 2_000_000_000  # of tensors: the largest flow has 0.7 GB
MOST_TEXT_BYTES = 5_000_000  # of each of the others


def pack(folder: Path, target: Path) -> None:
    """Writes the checkpoint in a folder as a zip."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILES:
            archive.write(folder / name, name)


def unpack(
    file: Path, folder: Path, most_bytes: int = MOST_BYTES, allow: Callable[[int], object] = lambda n_bytes: None
) -> Path:
    """Writes the three files of a checkpoint into `folder`, and returns it. They may lie anywhere in the zip; nothing
    else in it is read. most_bytes: of the tensors. allow: called with the bytes of all three before they are written.

    Raises CheckpointError for anything that is no such zip, is damaged or too large, or cannot be written, and what
    `allow` raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {}
            for name in FILES:
                (entries[name],) = [one for one in archive.infolist() if Path(one.filename).name == name]
            allow(sum(entry.file_size for entry in entries.values()))
            for name, entry in entries.items():
                most = most_bytes if name.endswith(".safetensors") else MOST_TEXT_BYTES
                if entry.file_size > most:
                    raise CheckpointError(
                        f"{name} has {entry.file_size / 1e6:.0f} MB; the limit is {most / 1e6:.0f} MB"
                    )
                with archive.open(entry) as stream, open(folder / name, "wb") as out:
                    shutil.copyfileobj(stream, out)
    except AttentDifferNetError:
        raise
    except OSError as error:
        raise CheckpointError(f"{file.name} cannot be unpacked: {error.strerror or error}") from error
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise CheckpointError(f"{file.name} is no model: a model is a zip with {', '.join(FILES)}") from error
    return folder
