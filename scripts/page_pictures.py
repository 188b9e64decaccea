"""The pictures of both faces in docs/: `python -m scripts.page_pictures DEMO_URL DASHBOARD_URL`.

Both must run already (`make demo`, `make dashboard`), and chromium must be installed. Pictures have 256 colours at most,
so that they stay small in the history.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH, HEIGHT = 1440, 1300  # px: down to the verdicts and maps
MOST_COLOURS, MOST_BYTES = 256, 250_000


def demo(page: Page, url: str) -> None:
    """An example with a defect, its verdicts and maps."""
    page.goto(f"{url}/?category=sample/gear&example=obvious-broken_tooth")
    page.locator("#status", has_text="Done").wait_for()
    page.locator("#card-patchcore img.heat").wait_for()


def dashboard(page: Page, url: str) -> None:
    """The first page: does attention help?"""
    page.goto(url)
    page.locator(".differences .line").first.wait_for()
    page.locator(".forest .row").first.wait_for()


def written(picture: bytes, file: Path) -> None:
    """With fewer colours, if that is needed to stay below MOST_BYTES."""
    image, colours = Image.open(io.BytesIO(picture)).convert("RGB"), MOST_COLOURS
    while True:
        stream = io.BytesIO()
        image.quantize(colours, Image.Quantize.MEDIANCUT).save(stream, "PNG", optimize=True)
        if stream.tell() < MOST_BYTES or colours <= 16:
            break
        colours //= 2
    file.write_bytes(stream.getvalue())
    print(f"{file.name}: {len(stream.getvalue()) / 1000:.0f} kB, {colours} colours")


def main() -> None:
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--headless", "--no-sandbox", "--disable-gpu"])
        for show, url in zip((demo, dashboard), sys.argv[1:3], strict=True):
            page = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}).new_page()
            page.set_default_timeout(120_000)
            show(page, url.rstrip("/"))
            page.wait_for_timeout(2_000)  # pictures fade in
            written(page.screenshot(), DOCS / f"{show.__name__}.png")


if __name__ == "__main__":
    main()
