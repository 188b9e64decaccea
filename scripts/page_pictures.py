"""The pictures of both faces in docs/: `python -m scripts.page_pictures DEMO_URL DASHBOARD_URL`.

Both must run already (`make demo`, `make dashboard`), and chromium must be installed. Pictures have few colours,
so that they stay small in the history.
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from benchmarks import chromium

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH, HEIGHTS = 1440, {"demo": 1380, "dashboard": 960}  # px: down to the answer
COLOURS, MOST_BYTES = 256, 250_000


def demo(page: Page, url: str) -> None:
    """An example with a defect, its verdicts and maps."""
    page.goto(f"{url}/?category=sample/gear&example=obvious-broken_tooth")
    page.locator("#status", has_text="Done").wait_for()
    page.locator("#card-patchcore-places img.heat").wait_for()


def dashboard(page: Page, url: str) -> None:
    """The first page: does attention help?"""
    page.goto(url)
    page.locator(".differences .line").first.wait_for()


def written(picture: bytes, file: Path) -> None:
    """With few colours, evenly spread: those of variants are small, and must not get lost. Raises ValueError for more
    than MOST_BYTES."""
    stream = io.BytesIO()
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    if stream.tell() > MOST_BYTES:
        raise ValueError(f"{file.name} would have {stream.tell() / 1000:.0f} kB; the limit is {MOST_BYTES / 1000:.0f}")
    file.write_bytes(stream.getvalue())
    print(f"{file.name}: {stream.tell() / 1000:.0f} kB")


def main() -> None:
    with sync_playwright() as playwright:
        browser = chromium.launch(playwright)
        for show, url in zip((demo, dashboard), sys.argv[1:3], strict=True):
            height = HEIGHTS[show.__name__]
            page = browser.new_context(viewport={"width": WIDTH, "height": height}).new_page()
            page.set_default_timeout(120_000)
            show(page, url.rstrip("/"))
            page.wait_for_timeout(2_000)  # pictures fade in
            written(page.screenshot(), DOCS / f"{show.__name__}.png")


if __name__ == "__main__":
    main()
