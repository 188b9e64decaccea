"""Pictures in the page, and files for download, in Gradio's cache folder, which is emptied after `session.KEPT_S`."""

import base64
import io

from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from ..service.downloads import png, safe_stem
from ..service.verdict import Comparison


def kept(data: bytes, name: str) -> str:
    """Writes a file for download; returns its path."""
    return save_bytes_to_cache(data, name, get_upload_folder())


def map_file(comparison: Comparison, key: str, method: str) -> str:
    """A detector's map over the photograph, as PNG."""
    return kept(png(comparison.overlay(key)), f"{safe_stem(comparison.name)}-{key}-{method}.png")


def inlined(picture: Image.Image, side: int) -> str:
    """The address of a small copy that is part of the page, so that it is not fetched on its own. side: px at most."""
    small = picture.copy()
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
