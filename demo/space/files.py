"""Files for download, in Gradio's cache folder, which is emptied after `session.KEPT_S`."""

import hashlib
from pathlib import Path

from gradio.utils import get_upload_folder

from attentdiffernet.files import replace_file

from ..service.downloads import png, safe_stem
from ..service.verdict import Comparison


def kept(data: bytes, name: str) -> str:
    """Writes a file for download; returns its path. Replaced whole: a browser may be fetching the same picture, and
    Gradio's own `save_bytes_to_cache` would cut it off under its hands."""
    path = Path(get_upload_folder(), hashlib.sha256(data).hexdigest(), Path(name).name)
    with replace_file(path, durable=False) as stream:
        stream.write(data)
    return str(path.resolve())


def map_file(comparison: Comparison, key: str, method: str) -> str:
    """A detector's map over the photograph, as PNG."""
    return kept(png(comparison.overlay(key)), f"{safe_stem(comparison.name)}-{key}-{method}.png")
