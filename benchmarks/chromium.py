"""Debian's chromium, without a window, for tests of the pages, their pictures and their times."""

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

# The shell draws the same pages and computes less. It is a package of its own: chromium-headless-shell.
PATH = shutil.which("chromium-headless-shell") or shutil.which("chromium")
WHY_NOT = "" if PATH or "CI" in os.environ else "chromium is not installed (apt-get install chromium-headless-shell)"
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--disable-default-apps", "--no-first-run"),
]


def launch(playwright: "Playwright") -> "Browser":
    return playwright.chromium.launch(executable_path=PATH or "/usr/bin/chromium", args=QUIET)
