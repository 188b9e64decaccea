"""How long the pages of both faces take, in chromium: `python -m benchmarks.pages DEMO_URL DASHBOARD_URL`.

Both must run already (`make demo`, `make dashboard`). A page counts as loaded when what a visitor came for is seen; the
median of three visits, each by a new visitor. A switch is a click in the navigation, the second time round, by a
visitor who has looked at the page before for a second. Failures and Attention want the images of real categories, as
`make dashboard` finds them below $ATTENTDIFFERNET_DATA.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable

from playwright.sync_api import Page, sync_playwright

from . import chromium

VISITS = 3
LOOKED_AT_MS = 1000  # how long a visitor looks at a page before going on
DEMO = {
    "Inspect": "#examples button",
    "Train": "#own-train",
    "ROC curves": "#roc-tables tbody tr",
    "About": ".about h2",
}
DASHBOARD = {
    "Overview": ".differences .line",
    "ROC": ".still img[alt^='ROC curves']",
    "Ablations": "[aria-label='Trainings and places'] tbody tr",
    "Failures": ".st-key-gallery img",
    "Compare": ".st-key-uploads [data-testid=stFileUploaderDropzone]",
    "Attention": "img[alt^='Mean activation after']",
    "Figures": "img[alt^='Preview of the figure']",
    "Own parts": ".st-key-own-parts [data-testid=stFileUploaderDropzone]",
    "Method": ".pipeline img",
}


def seconds(act: Callable[[], object], page: Page, shown: str) -> float:
    begun = time.perf_counter()
    act()
    page.locator(shown).first.wait_for()
    return time.perf_counter() - begun


def main() -> None:
    demo, dashboard = (url.rstrip("/") for url in sys.argv[1:])
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with sync_playwright() as playwright:
        browser = chromium.launch(playwright)

        def visitor() -> Page:
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            page.set_default_timeout(120_000)
            return page

        def load(url: str, shown: str) -> float:
            page = visitor()
            try:
                return seconds(lambda: page.goto(url), page, shown)
            finally:
                page.context.close()

        loads = {"demo": (demo, DEMO["Inspect"])}
        loads |= {name: (f"{dashboard}/{name.split()[0].lower()}", shown) for name, shown in DASHBOARD.items()}
        for name, (url, shown) in loads.items():
            print(f"load {name}: {statistics.median(load(url, shown) for _ in range(VISITS)):.2f} s", flush=True)
        for url, pages, link in (
            (demo, DEMO, "[role=tab]:visible"),
            (dashboard, DASHBOARD, "[data-testid=stTopNavLink]"),
        ):
            page = visitor()
            page.goto(url)
            for again in (False, True):
                for name, shown in pages.items():
                    page.wait_for_timeout(LOOKED_AT_MS)
                    took = seconds(
                        page.locator(link).filter(has_text=name).first.click, page, f"{shown} >> visible=true"
                    )
                    if again:
                        print(f"switch to {name}: {took:.2f} s", flush=True)


if __name__ == "__main__":
    main()
