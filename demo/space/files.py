"""Files for download, in Gradio's cache folder, which is emptied after `private.KEPT_S`."""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

from gradio.components import Component
from gradio.utils import get_upload_folder

from attentdiffernet.files import replace_file

from ..service import private
from ..service.downloads import png
from ..service.naming import safe_stem
from ..service.verdict import Comparison

SMALL_BYTES = 100_000  # numbers, which a visitor who has brought pictures can always take away


def kept(data: bytes, name: str) -> str:
    """Writes a file for download; returns its path. Replaced whole: a browser may be fetching the same picture, and
    Gradio's own `save_bytes_to_cache` would cut it off under its hands. Raises AttentDifferNetError where a large one
    finds no room."""
    if len(data) > SMALL_BYTES:
        private.check_room(len(data))
    path = Path(get_upload_folder(), hashlib.sha256(data).hexdigest(), Path(name).name)
    with replace_file(path, durable=False) as stream:
        stream.write(data)
    return str(path.resolve())


@contextmanager
def being_written(name: str) -> Iterator[tuple[IO[bytes], str]]:
    """The same for what is too much to be held in memory: a stream, and the path that the file has in the end."""
    private.check_room()
    path = Path(get_upload_folder(), secrets.token_hex(16), Path(name).name).resolve()
    with replace_file(path, durable=False) as stream:
        yield stream, str(path)


def on_page(component: Component, data: bytes, name: str) -> str:
    """Keeps a picture that a component shows, as long as Gradio keeps it; returns its address."""
    file = kept(data, name)
    component.temp_files.add(file)
    return f"gradio_api/file={quote(file)}"


def map_file(comparison: Comparison, key: str, method: str) -> str:
    """A detector's map over the photograph, as PNG."""
    return kept(png(comparison.overlay(key)), f"{safe_stem(comparison.name)}-{key}-{method}.png")
