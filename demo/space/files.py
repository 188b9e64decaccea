"""Files for download, in Gradio's cache folder, which is emptied after `session.KEPT_S`."""

from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from ..service.downloads import png, safe_stem
from ..service.verdict import Comparison


def kept(data: bytes, name: str) -> str:
    """Writes a file for download; returns its path."""
    return save_bytes_to_cache(data, name, get_upload_folder())


def picture_file(comparison: Comparison, variant: str = "") -> str:
    """The photograph, or a variant's map over it, as PNG."""
    stem = safe_stem(comparison.name)
    if not variant or comparison.heat is None:
        return kept(png(comparison.image), f"{stem}.png")
    return kept(png(comparison.overlay(variant)), f"{stem}-{variant}-{comparison.heat.method}.png")
