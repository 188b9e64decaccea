"""The dashboard in a real browser (Debian's chromium): what a visitor does, at a desk and on a phone.

After each: no error on the console, no request to another host; at the end none in the server's log.
"""

import contextlib
import io
import os
import re
import socket
import struct
import subprocess
import sys
import time
import urllib.request
import zlib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
from PIL import Image
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from playwright.sync_api import expect, sync_playwright

from attentdiffernet.datasets import category_title
from attentdiffernet.datasets.sample import file_of
from attentdiffernet.study.comparison import grouped
from attentdiffernet.study.failures import failures
from attentdiffernet.study.tables import overview_text
from attentdiffernet.study.usual import usual
from attentdiffernet.words import PAPER_VARIANTS, VARIANT_TITLES, score_text
from benchmarks import chromium
from benchmarks.pages import DASHBOARD as CONTENT
from demo import shipped

pytestmark = [pytest.mark.browser, pytest.mark.process]

if chromium.WHY_NOT:
    pytest.skip(chromium.WHY_NOT, allow_module_level=True)

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_MS = 240_000  # for a loaded machine
PAGES = list(CONTENT)
KEY, IMAGE = "sample/wafer", "donut/obvious_003.png"
TWO = "&detectors=none&detectors=patchcore-places"  # each takes a second or more of an image

SIZES = {"desk": (1440, 900), "phone": (390, 844)}
# Streamlit looks for its server below a page's address first, which fails; this is harmless.
PROBE = re.compile(r"/\w+/_stcore/(health|host-config)$")
# For a loaded machine; the goals on an idle one are 3 and 1. `pytest -rP` shows the measured times.
FIRST_PAGE_S, SWITCH_S = 30, 6


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The address of the dashboard in a process of its own, started from another folder: its options stand beside it.
    Errors in its log fail the last test."""
    log = tmp_path_factory.mktemp("dashboard") / "log.txt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(ROOT / "demo/dashboard/app.py"),
        "--server.port",
        str(port),
    ]
    begun = time.perf_counter()
    with log.open("w") as stream:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=log.parent, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        while process.poll() is None and time.perf_counter() - begun < PATIENCE_MS / 1000:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/_stcore/health", timeout=5):
                break
            time.sleep(0.1)
        print(f"server {time.perf_counter() - begun:.2f} s")
        yield url
        assert process.poll() is None, f"the dashboard went down:\n{log.read_text()}"
    finally:
        process.terminate()
        process.wait(60)
    said = log.read_text()
    assert not re.search(r"Traceback|Error|Exception|[Ww]arning|WARN", said), said


@pytest.fixture(scope="module")
def browser():
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = chromium.launch(playwright)
        # One for all tests: it keeps the pages' scripts. Visitors are told apart by their connection.
        yield browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    expect.set_options(timeout=5_000)  # Playwright's own: other tests set theirs


@pytest.fixture
def visit(browser, url):
    """visit(path, size, scheme, ready) -> a page of a visitor of its own, when `ready` has returned."""
    complaints, pages = [], []

    def watch(request):
        if urlsplit(request.url).scheme in ("http", "https", "ws", "wss") and urlsplit(request.url).netloc != here:
            complaints.append(f"asked for {request.url}")

    def hear(message):
        if message.type == "error" and not PROBE.search(message.location.get("url", "")):
            complaints.append(f"{message.text} ({message.location.get('url')})")

    def dismiss(dialog):
        complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    here = urlsplit(url).netloc

    def build(path="", size="desk", scheme="light", ready=settled):
        page = browser.new_page()
        pages.append(page)
        resize(page, size)
        page.emulate_media(color_scheme=scheme)
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", watch)
        page.on("websocket", watch)
        page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
        page.on("console", hear)
        page.on("dialog", dismiss)
        page.goto(f"{url}/{path}")
        ready(page)
        return page

    yield build
    for page in pages:
        page.close()
    assert not complaints


def resize(page, size):
    page.set_viewport_size(dict(zip(("width", "height"), SIZES[size], strict=True)))


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
    """Does something that the address tells of, and waits until the page has answered it."""
    before = page.url
    act()
    page.wait_for_url(lambda now: now != before)
    settled(page)


def follow(page, name, size="desk"):
    """To another page by the navigation, which on a phone is another one; returns the seconds until it can be used."""
    links = page.get_by_test_id({"desk": "stTopNavLink", "phone": "stPageLink-NavLink"}[size])
    begun = time.perf_counter()
    links.filter(has_text=name).click()
    page.locator(CONTENT[name]).first.wait_for()
    took = time.perf_counter() - begun
    settled(page)
    return took


def choose(page, label, option):
    """One of a list that opens; by keyboard, since a click that scrolls the page closes the list again."""
    box = page.get_by_role("combobox", name=label)
    box.scroll_into_view_if_needed()
    wanted = page.get_by_role("option", name=option, exact=True)

    def act():
        for _ in range(5):  # pictures that come in late move the page, which closes the list as well
            box.press("ArrowDown")
            with contextlib.suppress(PlaywrightTimeoutError):
                return wanted.click(timeout=5_000)
        raise AssertionError(f"{label} offers no {option!r}")

    change(page, act)


def upload(page, *files):
    """Files by name, as if chosen from a folder."""
    payload = [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files]
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(payload)


def downloaded(page, button):
    with page.expect_download() as download:
        page.get_by_role("button", name=button, exact=True).click()
    return download.value.suggested_filename, download.value.path().read_bytes()


def setting():
    """The one that is shown first."""
    return next(iter(shipped.settings(KEY)))


def runs():
    """The runs whose curves are drawn unless more are asked for."""
    return {m.name: m for m in usual(shipped.of_setting(KEY, setting()).values())}


# -- all pages


def looks_right(page, name, dark, serious):
    """Fits, draws its charts, has words for every picture and the visitor's colours, and axe-core finds nothing."""
    assert fits(page), name
    for chart in page.get_by_test_id("stPlotlyChart").all():
        expect(chart.locator(".main-svg").first).to_be_visible()
    silent = page.locator("[data-testid=stMain] img:not([alt]), [data-testid=stMain] img[alt='']")
    expect(silent).to_have_count(0)
    ground = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == dark
    assert not serious(page), name


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the system does not say who listens")
def test_it_listens_on_this_machine_only_from_whatever_folder_it_is_started(url):
    port = f"{int(url.rpartition(':')[2]):04X}"
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    listening = {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[1].endswith(f":{port}")}
    assert listening and listening <= {"0100007F", "00000000000000000000000001000000"}


def test_every_page_fits_a_desk_by_night_and_a_phone_by_day_and_every_switch_is_quick(visit, url, serious):
    """The first test of this file: the server has just started."""
    begun = time.perf_counter()
    page = visit(scheme="dark", ready=lambda page: page.locator(CONTENT["Overview"]).first.wait_for())
    first = time.perf_counter() - begun
    # One image, one detector: the session keeps what it has scored.
    page.goto(f"{url}/figures?category={KEY}&image={IMAGE}&columns=none")
    page.locator(CONTENT["Figures"]).wait_for()
    for name in PAGES:  # once for what is loaded and computed once
        follow(page, name)
        looks_right(page, name, True, serious)
    page.emulate_media(color_scheme="light")
    resize(page, "phone")
    took = {}
    for name in PAGES:
        took[name] = follow(page, name, "phone")
        looks_right(page, name, False, serious)
        if name == "Method":
            method_is_drawn(page)
    print(f"first page {first:.2f} s, from page to page:", end=" ")
    print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items()))
    assert first < FIRST_PAGE_S
    assert max(took.values()) < SWITCH_S


def legend_is_not_cut(page):
    legend = page.get_by_test_id("stPlotlyChart").first.locator(".legend .legendtext")
    expect(legend).to_have_count(1 + len(runs()))
    edges = legend.evaluate_all("texts => texts.map(text => text.getBoundingClientRect().right)")
    assert max(edges) <= SIZES["phone"][0]


def method_is_drawn(page):
    drawings = page.locator(".pipeline img")
    expect(drawings).to_have_count(6)
    loaded = "images => images.map(image => image.complete && image.naturalWidth > 0)"
    assert all(drawings.evaluate_all(loaded))
    expect(page.locator(".katex-display")).to_have_count(7)
    expect(page.locator(".katex-error")).to_have_count(0)
    expect(page.get_by_role("row", name=re.compile("^Training of attention"))).to_be_visible()


def test_a_page_keeps_what_was_chosen_on_another(visit):
    page = visit(f"roc?category={KEY}")
    follow(page, "Failures")
    expect(page.get_by_role("combobox", name="Category")).to_have_value(category_title(KEY))
    assert address(page)["category"] == KEY
    choose(page, "Method", shipped.of_setting(KEY, setting())["se"].title)
    follow(page, "Attention")
    assert address(page) == {"category": KEY, "variant": "se"}


# -- each page


def test_the_overview_answers_at_a_glance_and_shows_published_numbers_if_asked_for(visit):
    page = visit("overview?dataset=sample")
    expect(page.get_by_text("Page not found")).to_have_count(0)
    assert urlsplit(page.url).path == "/" and address(page) == {"dataset": "sample"}, "an address by its name, too"
    picture = page.locator(".differences").bounding_box()
    assert picture["y"] + picture["height"] < SIZES["desk"][1], "the whole picture is seen without scrolling"
    expect(page.locator(".forest .diamond")).to_have_count(0)
    change(page, page.get_by_text("Published numbers beside them").click)
    choose(page, "Data set", "All")
    expect(page.locator(".forest .published .diamond").first).to_be_attached()


def test_the_ablations_are_sorted_copied_and_downloaded(visit):
    page = visit("ablations?order=difference&category=all&best_on_test=True")
    groups = grouped(shipped.measured())
    lines = sum(1 if len(group.runs) == 1 else 1 + len(group.runs) for group in groups)
    expect(page.locator(".forest .row")).to_have_count(lines)

    def first_section():
        fair = ".row:not(.published, .best-on-test):not(details > div) .value"
        values = page.locator(".forest section").first.locator(fair)
        return [float(re.match(r"[\d.]+", text)[0]) for text in values.all_inner_texts()]

    choose(page, "Order", "AUROC")
    assert address(page) == {"order": "auroc", "category": "all", "best_on_test": "True"}
    assert first_section() == sorted(first_section(), reverse=True)

    page.get_by_text("As a table, to sort and to copy").click()
    table = page.get_by_test_id("stDataFrame").first
    cell = table.locator("canvas td[aria-colindex='1']").first  # the table that screen readers see
    expect(cell).to_be_attached()
    titles = sorted(category_title(m.key) for m in shipped.measured())
    for wanted in (titles[0], titles[-1]):  # ascending, then descending
        table.click(position={"x": 40, "y": 15})
        expect(cell).to_have_text(wanted)

    change(page, page.get_by_text("LaTeX", exact=True).click)
    groups.sort(key=lambda group: (group.first.best_on_test, -group.auroc))
    wanted = overview_text([m for group in groups for m in group.runs], "latex")
    code = page.get_by_test_id("stCode")
    expect(code).to_contain_text(r"\toprule")
    code.hover()
    code.get_by_role("button", name="Copy to clipboard").click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()).includes('toprule')")
    assert page.evaluate("navigator.clipboard.readText()").strip() == wanted.strip()
    name, content = downloaded(page, "Download")
    assert (name, content.decode()) == ("attentdiffernet-auroc.tex", wanted)


def test_the_operating_point_moves_everything_and_a_link_brings_it_back(visit):
    page = visit(f"roc?category={KEY}&fpr=10.0&explore=True")
    dots = """() => document.querySelector('.js-plotly-plot').calcdata
        .filter(points => points[0].trace.mode === 'markers').map(([point]) => [point.x, point.y])"""
    drawn = "() => document.querySelector('.js-plotly-plot')?.calcdata"
    histogram = page.get_by_role("img", name="Anomaly scores of normal and anomalous test images")

    def follows(rate):
        """Counts, histogram and curve show the operating point of each run at this rate."""
        points = [m.at_fpr(rate) for m in runs().values()]
        for k, point in enumerate(points):
            card = page.locator(".confusion .card").nth(k)
            expect(card).to_contain_text(f"threshold {score_text(point.threshold)}")
            expect(card.locator("td.right").first).to_have_text(str(point.true_positives))
        expect(histogram).to_have_attribute(
            "alt", re.compile(f"; threshold {re.escape(score_text(points[0].threshold))}$")
        )
        page.wait_for_function(drawn)
        assert page.evaluate(dots) == [pytest.approx([point.fpr, point.tpr]) for point in points]

    follows(0.10)
    slider = page.get_by_role("slider")
    slider.focus()
    change(page, lambda: slider.press("End"))
    follows(1.0)
    change(page, lambda: slider.press("ArrowLeft"))
    follows(0.995)
    change(page, page.get_by_text("Logarithmic axis").click)
    assert address(page) == {"category": KEY, "setting": setting(), "fpr": "99.5", "log": "True", "explore": "True"}

    again = visit(page.url.split("/", 3)[3], size="phone")
    legend_is_not_cut(again)
    expect(again.get_by_role("slider")).to_have_value("99.5")
    expect(again.get_by_text("Normal images flagged (logarithmic)")).to_be_visible()
    again.wait_for_function(drawn)
    assert again.evaluate(dots) == page.evaluate(dots)


def test_a_failure_shows_its_image_its_maps_and_its_place(visit):
    page = visit(f"failures?category={KEY}&list=anomalies")
    first = next(iter(runs()))
    worst = failures(runs(), "anomalies", first, 4)
    expect(page.get_by_role("heading", name=worst[0].image)).to_be_visible()
    picture = page.locator(".st-key-gallery img").nth(2)
    change(page, lambda: picture.click(force=True))  # which its button covers
    assert address(page)["image"] == worst[2].image
    expect(page.get_by_role("heading", name=worst[2].image)).to_be_visible()
    for title in (VARIANT_TITLES[name] for name in PAPER_VARIANTS):
        expect(page.get_by_alt_text(f"Grad-CAM by {title} on {worst[2].image}")).to_be_visible()
    places = page.get_by_alt_text(re.compile("^Its place among [0-9]+ normal test images by "))
    expect(places).to_have_count(len(runs()))
    expect(places.first).to_be_visible()
    expect(page.get_by_alt_text(re.compile("^Colour scale")).first).to_be_visible()


def test_images_are_compared_and_another_visitor_sees_none_of_them(visit):
    page = visit(f"compare?category={KEY}{TWO}")
    upload(page, ("mine.png", file_of("wafer", IMAGE)))
    badges = page.locator(".said .badge:not(.provisional)")
    expect(badges).to_have_count(TWO.count("="))
    expect(page.get_by_alt_text(re.compile("^Colour scale")).first).to_be_visible()
    settled(page)
    expect(page.get_by_test_id("stDataFrame")).to_have_count(0)

    other = visit(f"compare?category={KEY}{TWO}")
    expect(other.get_by_text("Drop photographs")).to_be_visible()
    upload(other, ("broken.png", b"hello"), ("theirs.png", file_of("wafer", "good/001.png")))
    rows = other.get_by_test_id("stDataFrame").locator("canvas tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("theirs.png")
    expect(rows.nth(0)).to_contain_text(re.compile("anomalous by|normal by all"))
    expect(rows.nth(1)).to_contain_text("could not be read")
    expect(other.get_by_text("Done: 1 of 2 images inspected, 1 could not be read.")).to_be_visible()
    expect(other.get_by_text("broken.png is not an image that can be read")).to_be_visible()
    expect(other.get_by_role("heading", name="theirs.png")).to_be_visible()
    assert "mine.png" not in other.content()
    verdicts_are_in_a_line_on_a_phone(other)
    other.get_by_role("button", name=re.compile("^Remove.*theirs")).click()
    expect(rows).to_have_count(0)  # of one image there is no table
    upload(other, ("another.png", file_of("wafer", "good/002.png")))
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text(re.compile("anomalous by|normal by all"))
    expect(other.get_by_text("Done: 1 of 2 images inspected, 1 could not be read.")).to_be_visible()
    assert "theirs.png" not in page.content()

    change(page, page.get_by_text("Gradient map", exact=True).click)
    expect(page.get_by_alt_text(re.compile("^Gradient map: .*mine.png")).first).to_be_visible()
    name, table = downloaded(page, "Numbers (CSV)")
    assert name == "numbers.csv" and table.decode().count("mine.png") == TWO.count("=")


def verdicts_are_in_a_line_on_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    verdicts = page.locator(".verdicts li")
    places = verdicts.evaluate_all("all => all.map(one => one.getBoundingClientRect().y)")  # the page may still move
    assert len(places) == TWO.count("=") and len(set(places)) == 1
    expect(verdicts.first).to_contain_text(re.compile("(anomalous|normal), .*×"))
    page.set_viewport_size({"width": 1440, "height": 900})
    expect(verdicts.first).to_be_hidden()


def test_hostile_files_are_refused_in_plain_words(visit):
    page = visit(f"compare?category={KEY}")
    bait = "<img src=x onerror=alert(1)>![a](x.png) $\\frac$ :red[b].png"
    upload(page, (bait, b"hello"))
    expect(page.get_by_text(f"{bait} is not an image that can be read")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Remove")).first.click()
    expect(page.get_by_text("Drop photographs")).to_be_visible()

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    huge = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    upload(page, ("huge.png", huge))
    expect(page.get_by_text(re.compile(r"huge\.png has .*the limit is"))).to_be_visible()
    page.get_by_role("button", name=re.compile("^Remove")).first.click()
    expect(page.get_by_text("Drop photographs")).to_be_visible()

    upload(page, ("script.exe", b"MZ"))
    expect(page.get_by_text("script.exe is not an image that can be read")).to_be_visible()


def test_gates_are_shown_and_said_to_be_trained_or_not(visit):
    page = visit(f"attention?category={KEY}&variant=cbam&image={IMAGE}")
    expect(page.get_by_text(re.compile("The gates (are untrained|were trained)"))).to_be_visible()
    for start in ("Mean activation before", "Mean activation after", "Spatial gate", "The spatial gate over the image"):
        expect(page.get_by_alt_text(re.compile(f"^{start}"))).to_be_visible()
    cam = page.get_by_alt_text(re.compile("^Grad-CAM at Last features"))
    expect(cam).to_have_count(0)
    page.get_by_text("Grad-CAM at any layer and scale").click()
    expect(cam).to_be_visible()
    change(page, page.get_by_text("Quarter, 112 px").first.click)
    expect(page.get_by_alt_text(re.compile("^Mean activation before .* quarter scale"))).to_be_visible()
    choose(page, "Layer", "Block 2 (192 channels)")
    expect(page.get_by_alt_text(re.compile("^Grad-CAM at Block 2"))).to_be_visible()
    assert address(page) == {"category": KEY, "image": IMAGE, "scale": "2", "layer": "attention2"}
    choose(page, "Layer", "Last features")  # which no address names
    expect(cam).to_be_visible()
    change(page, page.get_by_text("DifferNet", exact=True).first.click)
    expect(page.get_by_text("DifferNet has no attention blocks")).to_be_visible()
    expect(page.get_by_alt_text(re.compile("^Grad-CAM at Last features"))).to_be_visible()


def test_the_figure_comes_as_pdf_svg_and_png(visit):
    page = visit(f"figures?category={KEY}&image={IMAGE}&columns=none&columns=cbam")
    expect(page.get_by_alt_text(re.compile("^Preview of the figure: Grad-CAM"))).to_be_visible()
    name, file = downloaded(page, "PDF")
    assert name == "sample-wafer-grad-cam.pdf"
    assert file.startswith(b"%PDF-") and file.rstrip().endswith(b"%%EOF") and b"/Subtype /Type0" in file, "real fonts"
    name, file = downloaded(page, "SVG")
    words = [text.text for text in ElementTree.fromstring(file).iter("{http://www.w3.org/2000/svg}text")]
    assert name.endswith(".svg") and {"Image", *(VARIANT_TITLES[v] for v in ("none", "cbam"))} <= set(words)
    name, file = downloaded(page, "PNG")
    with Image.open(io.BytesIO(file)) as picture:
        picture.load()
        assert name.endswith(".png") and picture.format == "PNG" and picture.width > 1500
