"""An HTML page as one file: pictures are part of it, and its policy lets it load nothing."""

import base64
import html
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

NOTHING_FROM_ELSEWHERE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, style: str, body: str) -> str:
    """title: text. style: CSS. body: HTML, whose names from elsewhere are escaped."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{NOTHING_FROM_ELSEWHERE}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def inlined(picture: "Image.Image", side: int) -> str:
    """The address of a small copy that is part of the page, so that it is not fetched on its own. side: px at most."""
    return f"data:image/jpeg;base64,{base64.b64encode(small_jpeg(picture, side)).decode()}"


def small_jpeg(picture: "Image.Image", side: int) -> bytes:
    small = picture.copy()
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def inlined_svg(file: bytes) -> str:
    """The address of a drawing that is part of the page."""
    return f"data:image/svg+xml;base64,{base64.b64encode(file).decode()}"
