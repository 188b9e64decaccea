"""Files for download, in Gradio's cache folder, which is emptied after `session.KEPT_S`."""

from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from ..service.downloads import png, safe_stem
from ..service.verdict import Comparison


def kept(data: bytes, name: str) -> str:
    """Writes a file for download; returns its path."""
    return save_bytes_to_cache(data, name, get_upload_folder())


def map_file(comparison: Comparison, key: str, method: str) -> str:
    """A detector's map over the photograph, as PNG."""
    return kept(png(comparison.overlay(key)), f"{safe_stem(comparison.name)}-{key}-{method}.png")
