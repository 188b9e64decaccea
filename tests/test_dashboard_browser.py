"""The dashboard in a real browser (Debian's chromium): journeys of a visitor, on a desk and on a phone.

After each: no error on the console, no request to another host; at the end none in the server's log.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from attentdiffernet.datasets.sample import file_of
from demo import evidence

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None and "CI" not in os.environ:
    pytest.skip("chromium is not installed (apt-get install chromium)", allow_module_level=True)

ROOT = Path(__file__).resolve().parent.parent
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--disable-default-apps", "--no-first-run"),
]
PATIENCE_MS = 180_000  # on two cores that others use, too
PAGES = ["Overview", "ROC", "Failures", "Compare", "Attention", "Figures", "Method"]
KEY, IMAGE = "sample/wafer", "donut/003.png"
SIZES = {"desk": (1440, 900), "phone": (390, 844)}
# Streamlit looks for its server beneath a page's own address first, and takes the refusal for an answer.
PROBE = re.compile(r"/\w+/_stcore/(health|host-config)$")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The dashboard in a process of its own; what it complained of fails the last test."""
    log = tmp_path_factory.mktemp("dashboard") / "log.txt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "demo/dashboard/app.py"]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/_stcore/health", timeout=5):
            break
        time.sleep(0.2)
    yield address
    alive = process.poll() is None
    process.terminate()
    process.wait(30)
    said = log.read_text()
    assert alive, f"the dashboard went down:\n{said}"
    assert not re.search(r"Traceback|Error|Exception|[Ww]arning|WARN", said), said


@pytest.fixture(scope="module")
def browser():
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM or "/usr/bin/chromium", args=QUIET)
    expect.set_options(timeout=5_000)  # Playwright's own: other tests set theirs


@pytest.fixture
def visit(browser, url):
    """visit(path, size, scheme) -> a page of a visitor of its own."""
    complaints, contexts = [], []

    def watch(request):
        if urlsplit(request.url).scheme in ("http", "https", "ws", "wss") and urlsplit(request.url).netloc != here:
            complaints.append(f"asked for {request.url}")

    def hear(message):
        if message.type == "error" and not PROBE.search(message.location.get("url", "")):
            complaints.append(f"{message.text} ({message.location.get('url')})")

    here = urlsplit(url).netloc

    def build(path="", size="desk", scheme="light"):
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", watch)
        page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
        page.on("console", hear)
        page.goto(f"{url}/{path}")
        settled(page)
        return page

    yield build
    for context in contexts:
        context.close()
    assert not complaints


def settled(page):
    """The script has run to its end, and nothing went wrong on the page."""
    page.get_by_role("heading", level=1).first.wait_for()
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    expect(page.get_by_test_id("stException")).to_have_count(0)


def fits(page):
    main = "document.querySelector('[data-testid=stMain]')"
    return page.evaluate(f"Math.max(document.documentElement.scrollWidth, {main}.scrollWidth) <= innerWidth")


def address(page):
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def change(page, act):
    """Does something and waits until the page has answered it."""
    before = page.url
    act()
    page.wait_for_url(lambda now: now != before)
    settled(page)


def follow(page, name, size="desk"):
    """To another page by the navigation; a phone has links of its own."""
    links = page.get_by_test_id({"desk": "stTopNavLink", "phone": "stPageLink-NavLink"}[size])
    links.filter(has_text=name).click()
    page.wait_for_url("**/" if name == "Overview" else f"**/{name.lower()}*")
    settled(page)


def runs():
    return evidence.of_setting(KEY, next(iter(evidence.settings(KEY))))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_by_the_navigation_fits_and_has_words_for_every_picture(visit, size, scheme):
    page = visit("", size, scheme)
    for name in PAGES:
        follow(page, name, size)
        assert fits(page), name
        silent = page.locator("main img:not([alt]), main img[alt=''], [data-testid=stMain] img:not([alt])")
        expect(silent).to_have_count(0)


def test_the_overview_gives_its_table_to_copy(visit):
    page = visit()
    expect(page.locator(".forest .row:not(.published)")).to_have_count(len(evidence.measured()))
    expect(page.locator(".forest .published .diamond").first).to_be_attached()
    page.get_by_text("Copy as CSV, Markdown or LaTeX").click()
    change(page, page.get_by_text("LaTeX", exact=True).click)
    expect(page.get_by_test_id("stCode")).to_contain_text(r"\toprule")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download", exact=True).click()
    assert download.value.path().read_text() == evidence.overview_text(list(evidence.measured()), "latex")


def test_the_operating_point_moves_everything_and_a_link_brings_it_back(visit):
    page = visit(f"roc?category={KEY}&fpr=10.0")
    points = {variant: m.at_fpr(0.10) for variant, m in runs().items()}
    cards = page.locator(".confusion .card")
    for k, point in enumerate(points.values()):
        expect(cards.nth(k)).to_contain_text(f"threshold {point.threshold:.4g}")
    line = page.get_by_test_id("stPlotlyChart").nth(1).locator(".legendtext", has_text="Threshold")
    expect(line).to_have_text(f"Threshold {next(iter(points.values())).threshold:.4g}")
    slider = page.get_by_role("slider")
    slider.focus()
    change(page, lambda: slider.press("End"))
    for k, m in enumerate(runs().values()):
        found = m.at_fpr(1.0)
        expect(cards.nth(k)).to_contain_text(f"threshold {found.threshold:.4g}")
    expect(line).to_have_text(f"Threshold {next(iter(runs().values())).at_fpr(1.0).threshold:.4g}")
    change(page, page.get_by_text("Logarithmic axis").click)
    assert address(page) == {"category": KEY, "fpr": "100.0", "log": "True"}

    again = visit(page.url.removeprefix(page.url.split("/roc")[0] + "/"))
    expect(again.get_by_role("slider")).to_have_value("100")
    expect(again.get_by_text("Normal images flagged (logarithmic)")).to_be_visible()


def test_a_failure_shows_its_image_its_maps_and_its_place(visit):
    page = visit(f"failures?category={KEY}&list=anomalies")
    worst = evidence.failures(runs(), "anomalies", "none", 4)
    expect(page.get_by_role("heading", name=worst[0].image)).to_be_visible()
    third = page.locator(".st-key-gallery [data-testid=stButton] button").nth(2)
    change(page, third.click)
    assert address(page)["image"] == worst[2].image
    expect(page.get_by_role("heading", name=worst[2].image)).to_be_visible()
    for variant in runs():
        title = evidence.variant_title(variant)
        expect(page.get_by_alt_text(f"Grad-CAM by {title} on {worst[2].image}")).to_be_visible()
    expect(page.get_by_text(f"This image {worst[2].scores['none']:.4g}")).to_be_visible()
    expect(page.get_by_alt_text(re.compile("^Colour scale"))).to_be_visible()


def test_two_images_are_compared_and_another_visitor_sees_neither(visit, tmp_path):
    mine, broken = tmp_path / "mine.png", tmp_path / "broken.png"
    mine.write_bytes(file_of("wafer", IMAGE))
    broken.write_bytes(b"hello")
    page = visit(f"compare?category={KEY}")
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files([mine, broken])
    badges = page.locator(".badge:not(.provisional)")
    expect(badges).to_have_count(len(runs()))
    expect(page.get_by_alt_text(re.compile("^Colour scale"))).to_be_visible()
    settled(page)
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    expect(page.get_by_role("heading", name="mine.png")).to_be_visible()
    change_map = page.get_by_text("Gradient map", exact=True)
    change(page, change_map.click)
    expect(page.get_by_alt_text(re.compile("^Gradient map: .*mine.png")).first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Numbers as CSV").click()
    assert download.value.path().read_text().count("mine.png") == len(runs())

    other = visit(f"compare?category={KEY}")
    expect(other.get_by_text("or take an example")).to_be_visible()
    assert "mine.png" not in other.content()


def test_a_broken_file_is_explained(visit, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"hello")
    page = visit(f"compare?category={KEY}")
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(tmp_path / "broken.png")
    expect(page.get_by_text("broken.png is not an image that can be read")).to_be_visible()


def test_attention_is_said_to_be_untrained_and_gates_are_shown(visit):
    page = visit(f"attention?category={KEY}&variant=cbam&image={IMAGE}")
    expect(page.get_by_text("The gates are untrained (random)")).to_be_visible()
    expect(page.get_by_alt_text(re.compile("^Spatial gate"))).to_be_visible()
    change(page, page.get_by_text("Quarter, 112 px").first.click)
    assert address(page)["scale"] == "2"
    change(page, page.get_by_text("DifferNet", exact=True).first.click)
    expect(page.get_by_text("DifferNet has no attention blocks")).to_be_visible()
    expect(page.get_by_alt_text(re.compile("^Grad-CAM at Last features"))).to_be_visible()


def test_the_figure_comes_as_pdf_svg_and_png(visit):
    page = visit(f"figures?category={KEY}&image={IMAGE}&columns=none&columns=cbam")
    expect(page.get_by_alt_text(re.compile("^Preview of the figure: Grad-CAM"))).to_be_visible()
    for kind, start in (("PDF", b"%PDF"), ("SVG", b"<?xml"), ("PNG", b"\x89PNG")):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind, exact=True).click()
        assert download.value.suggested_filename == f"sample-wafer-grad-cam.{kind.lower()}"
        assert download.value.path().read_bytes().startswith(start)


def test_a_link_between_pages_keeps_the_category(visit):
    page = visit(f"roc?category={KEY}")
    follow(page, "Failures")
    expect(page.get_by_role("combobox", name="Category")).to_have_value(evidence.category_title(KEY))
