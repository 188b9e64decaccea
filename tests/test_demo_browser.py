"""The page in a real browser (Debian's chromium): what a visitor does, and that no other host is asked."""

import csv
import io
import json
import re
import time
import zipfile
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from attentdiffernet.datasets.sample import draw
from attentdiffernet.words import OUTLINED
from benchmarks import chromium
from demo import shipped

pytestmark = [pytest.mark.browser, pytest.mark.process]

if chromium.WHY_NOT:
    pytest.skip(chromium.WHY_NOT, allow_module_level=True)

PATIENCE_MS = 240_000  # for a loaded machine
WAFER = "Wafer map (synthetic)"
DETECTORS = ["none", "se", "cbam", "patchcore-places"]  # tests/conftest.py adds the last
expect.set_options(timeout=PATIENCE_MS)
# Collects the texts of the status line: a provisional verdict may be gone before a test looks.
LISTEN = """
window.said = [];
new MutationObserver(() => {
    const now = document.querySelector('#status')?.innerText;
    if (now && now !== window.said.at(-1)) window.said.push(now);
}).observe(document, {subtree: true, childList: true, characterData: true});
"""


# A picture from the clipboard, as a browser hands it over.
PASTE = """async () => {
    const picture = await (await fetch(document.querySelector('#examples img').src)).blob();
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([picture], 'pasted.png', {type: 'image/png'}));
    document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData, bubbles: true, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = chromium.launch(playwright)
        yield browser.new_context()  # one for all tests: it keeps the page's scripts, and each page is a visitor


@pytest.fixture
def visit(browser, page_url):
    """visit(width, query) -> a page; after the test: no errors on the console, no request to any other host."""
    complaints, pages = [], []

    def watch(request):
        if urlsplit(request.url).scheme in ("http", "https") and not request.url.startswith(page_url):
            complaints.append(f"asked for {request.url}")

    def build(width=1440, query="?category=sample/wafer", named="semiconductor wafer"):
        page = browser.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", watch)
        page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.add_init_script(LISTEN)
        page.goto(page_url + query)
        if query:
            page.locator("#category-text", has_text=named).wait_for()
        return page

    yield build
    for page in pages:
        page.close()
    assert not complaints


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    Image.fromarray(draw("wafer", "donut", seed=11).image).resize((1024, 1024)).save(folder / "donut.png")
    Image.fromarray(draw("wafer", "good", seed=12).image).save(folder / "good.png")
    (folder / "no picture.png").write_text("hello\n")
    return folder


def upload(page, *paths):
    page.locator("#upload input[type=file]").set_input_files(paths)


def settled(page, text):
    expect(page.locator("#status .prose p")).to_contain_text(re.compile(text))


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def downloaded(page, press):
    with page.expect_download() as download:
        press()
    return download.value.suggested_filename, download.value.path().read_bytes()


def test_a_photograph_in_verdicts_and_maps_out(visit, files):
    page = visit(query="")
    wafers_are_chosen(page)
    upload(page, files / "donut.png")
    settled(page, "^Done. donut.png: ")

    said = page.evaluate("window.said")
    provisional = [k for k, line in enumerate(said) if "provisional, 2 of " in line]
    assert provisional
    assert provisional[0] < len(said) - 1
    expect(page.locator("#view .badge")).to_have_count(4)
    expect(page.locator("#view .badge.provisional")).to_have_count(0)
    expect(page.locator("#view .histogram svg")).to_have_count(4)
    expect(page.get_by_alt_text(re.compile("^Colour scale"))).to_have_count(2)
    for detector in DETECTORS:
        card = page.locator(f"#card-{detector}")
        expect(card).to_contain_text(re.compile(r"(normal|anomalous).*× the threshold.*normal images", re.S))
        kind = "Distance to normal places" if detector == "patchcore-places" else "Grad-CAM"
        picture = card.get_by_alt_text(re.compile(f"^{kind} of .* over donut.png; verdict: "))
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("naturalWidth", 1024)
        expect(card.locator("img.heat")).to_have_js_property("naturalWidth", 512)
    expect(page.locator("#card-photograph .likeness")).to_contain_text("looks like this")

    heat = page.locator("#card-none img.heat")
    the_picture_follows_its_controls(page)

    before = page.locator("#card-se img.heat").get_attribute("src")
    page.get_by_label("Gradient map").check()
    settled(page, "^donut.png: .*Shown: Gradient map")
    expect(page.locator("#card-se").get_by_alt_text(re.compile("^Gradient map of "))).to_be_visible()
    assert page.locator("#card-se img.heat").get_attribute("src") != before
    expect(heat).to_have_css("opacity", "0.2")

    page.locator("#rate input[type=number]").fill("40")
    page.locator("#rate input[type=number]").press("Tab")
    card = page.locator("#card-none")
    card.locator("summary").click()
    expect(card).to_contain_text("39.4 of 100 on average, in steps of 3.0")  # 13 of 32 + 1
    expect(page).to_have_url(re.compile("rate=40"))
    settled(page, "^donut.png: .*Shown: Gradient map")

    files_come_as_shown(page)


def wafers_are_chosen(page):
    page.get_by_label("Category").click()
    page.get_by_role("option", name=WAFER).click()
    page.locator("#category-text", has_text="semiconductor wafer").wait_for()


def the_picture_follows_its_controls(page):
    lines = page.locator("#card-none path.line.outline")
    page.locator("#opacity").fill("20")
    expect(page.locator("#card-none img.heat")).to_have_css("opacity", "0.2")
    expect(lines).to_be_visible()
    page.get_by_label(OUTLINED).uncheck()
    expect(lines).to_be_hidden()
    tools = page.locator("#card-none .tools button")
    tools.last.focus()
    page.keyboard.press("ArrowLeft")
    expect(tools.first).to_be_focused()
    page.keyboard.press("Tab")
    expect(tools.last).not_to_be_focused()  # both are one stop


def files_come_as_shown(page):
    _, table = downloaded(page, page.locator("#csv").click)
    rows = list(csv.DictReader(io.StringIO(table.decode())))
    assert [(row["image"], row["detector"]) for row in rows] == [("donut.png", name) for name in DETECTORS]
    name, packed = downloaded(page, page.locator("#zip").click)
    assert name.endswith("-gradient.zip")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None
        pictures = [file for file in archive.namelist() if file.endswith(".png")]
        assert len(pictures) == 1 + len(DETECTORS) + 2, "photograph, maps, and a colour bar for each kind of map"
        assert all(Image.open(archive.open(file)).format == "PNG" for file in pictures)
    name, picture = downloaded(page, page.locator("#card-cbam").get_by_label("Save as PNG").click)
    assert name == "donut-cbam-gradient.png"
    with Image.open(io.BytesIO(picture)) as saved:
        assert (saved.format, saved.size) == ("PNG", (1024, 1024))


def verdicts_are_in_one_line_that_stays_in_sight(page):
    verdicts = page.locator("#verdicts li")
    expect(verdicts).to_have_count(4)
    places = [one.bounding_box()["y"] for one in verdicts.all()]
    assert len(set(places)) == 1 and places[0] < page.locator(".cards").bounding_box()["y"], "one line, on top"
    page.locator("#rate").scroll_into_view_if_needed()
    assert verdicts.first.bounding_box()["y"] >= 0, "in sight while the threshold is moved"


def test_an_example_by_keyboard_on_a_phone_and_a_reload_brings_it_back(visit, files):
    page = visit(width=390)
    example = page.locator("#examples button").first
    example.focus()
    page.keyboard.press("Enter")
    settled(page, "^Done. ")
    verdicts_are_in_one_line_that_stays_in_sight(page)
    expect(page.locator("#card-photograph")).to_contain_text("Expected: anomalous")
    assert fits(page)
    cards = page.locator(".cards")
    assert cards.evaluate("cards => cards.scrollWidth > 2 * cards.clientWidth"), "which are swiped"
    page.get_by_role("checkbox", name="AttentDifferNet (SE)").uncheck()
    expect(page.locator("#verdicts li")).to_have_count(3)
    settled(page, "^Done. ")
    page.get_by_label("One scale per map").check()
    settled(page, "Shown: Grad-CAM")
    asked = parse_qs(urlsplit(page.url).query)
    name = asked.pop("example")
    assert asked == {
        "category": ["sample/wafer"],
        "detectors": ["none,cbam,patchcore-places"],
        "map": ["grad-cam"],
        "scale": ["own"],
    }

    page.reload()
    settled(page, f"^Done. {name[0]}")
    expect(page.locator("#verdicts li")).to_have_count(3)
    expect(page.locator("#bar")).to_contain_text("Each map from its own lowest")
    upload(page, files / "good.png")
    settled(page, "^Done. good.png")
    expect(page.locator("#overview")).to_be_hidden()
    assert "example" not in parse_qs(urlsplit(page.url).query)
    page.goto(page.url.replace("cbam", "yolo"))
    expect(page.locator("#notice")).to_contain_text("detector 'yolo'")
    page.get_by_role("tab", name="ROC curves").click()
    expect(page.locator("#answer")).to_contain_text("attention helped DifferNet in")
    if shipped.measured_categories():
        expect(page.locator("#roc-plot .main-svg").first).to_be_visible()
        expect(page.locator("#roc-tables tbody tr").first).to_contain_text("DifferNet")
        expect(page.locator("#roc-tables")).to_contain_text("Published elsewhere")
    else:
        expect(page.get_by_text("No results yet")).to_be_visible()
    assert fits(page)


def test_a_picture_of_another_thing_is_inspected_as_what_it_is_by_all_detectors(visit, files):
    """Of bottles, PatchCore alone can be used without AlexNet's weights; of wafers, every detector."""
    page = visit(query="?category=mvtec_ad/bottle", named="bottle")
    upload(page, files / "donut.png")
    offer = page.locator("#stranger button")
    expect(offer).to_have_text(f"Inspect it as {WAFER}")
    cards = page.locator(".card:not(#card-photograph)")
    expect(cards).to_have_count(1)
    offer.click()
    settled(page, "Done")
    expect(cards).to_have_count(len(DETECTORS))


def test_axe_finds_nothing_serious_in_any_tab_on_a_desk_by_day_and_a_phone_by_night(visit, serious):
    page = visit()
    page.locator("#examples button").first.click()
    settled(page, "^Done. ")
    for tab, ready in {
        "Inspect": "#view .badge",
        "Train": "#own-train",
        "ROC curves": ".main-svg",
        "About": ".about",
    }.items():
        page.get_by_role("tab", name=tab, exact=True).click()
        page.locator(ready).first.wait_for()
        for width, scheme in ((1440, "light"), (390, "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            expect(page.locator("body.dark")).to_have_count(int(scheme == "dark"))
            assert not serious(page), (tab, width, scheme)
            assert fits(page), (tab, width)


def test_what_cannot_be_read_is_said_the_rest_goes_on_and_another_visitor_waits_for_an_image_and_sees_none_of_it(
    visit, files
):
    page, other = visit(), visit()
    upload(page, files / "no picture.png")
    alert = page.locator("#status [role=alert]")
    expect(alert).to_contain_text("no picture.png is not an image that can be read")
    expect(page.locator("#results")).to_be_hidden()

    page.locator("#upload").get_by_label("Clear").click()
    expect(alert).to_have_count(0)
    upload(page, files / "no picture.png", files / "good.png", files / "donut.png")
    expect(page.locator("#status")).to_contain_text("good.png")  # which takes some seconds
    other.locator("#examples button").first.click()
    settled(other, "^Done. ")
    assert "1 visitor ahead of you" in other.evaluate("window.said")
    settled(page, "^Done: 2 of 3 images inspected, 1 could not be read")
    rows = page.locator("#overview tbody tr")
    expect(page.locator("#overview [role=alert]")).to_contain_text("not an image that can be read")
    worst, good = rows.filter(has_text="donut.png"), rows.filter(has_text="good.png")
    expect(rows.first).to_contain_text("donut.png")
    every_heading_sorts(page, n_rows=2)
    expect(worst).to_have_attribute("aria-current", "true")
    expect(page.locator("#results")).to_contain_text("1024 × 1024 px")
    worst.locator("[data-look]").press("ArrowDown")
    page.keyboard.press("Enter")
    settled(page, "^good.png: normal by all detectors. Shown: Grad-CAM")
    expect(good).to_have_attribute("aria-current", "true")
    expect(good.locator("[data-look]")).to_be_focused()
    expect(page.locator("#results")).not_to_contain_text("1024 × 1024 px")
    page.get_by_label("Show").first.select_option("normal")
    expect(rows.filter(visible=True)).to_have_count(page.locator("#overview [data-kinds=normal]").count())
    with page.expect_file_chooser():
        page.get_by_label("Add files").first.press("Enter")
    _, told = downloaded(page, page.locator("#json").click)
    assert {one["name"] for one in json.loads(told)["images"]} == {"good.png", "donut.png"}
    page.locator("#upload").get_by_label("Clear").click()
    expect(page.locator("#results")).to_be_hidden()
    with page.expect_file_chooser() as chooser:
        page.locator("#upload button").first.click()
    assert chooser.value.element.get_attribute("accept") == "image/*", "phones then offer the camera and convert HEIC"
    page.evaluate(PASTE)
    settled(page, "^Done. pasted.png")

    assert not {"donut.png", "good.png"} & set(re.findall(r"\w+\.png", other.content()))


def every_heading_sorts(page, n_rows):
    expect(page.locator("#overview tbody tr")).to_have_count(n_rows)
    for key in (*DETECTORS, "score"):
        orders = []
        for _ in range(2):
            page.locator(f"#overview [data-sort={key}]").click()
            orders.append(page.locator("#overview tbody tr th").all_inner_texts())
        assert orders[0] == orders[1][::-1] != orders[1], key
    page.locator("#overview [data-sort=score]").click()


def own_parts(folder):
    """`good parts.zip`, `part.png`, and the path of `bad part.png`."""
    with zipfile.ZipFile(folder / "good parts.zip", "w") as archive:
        for k in range(6):
            stream = io.BytesIO()
            Image.fromarray(draw("wafer", "good", 900 + k).image).resize((128, 128)).save(stream, "PNG")
            archive.writestr(f"{k}.png", stream.getvalue())
    bad = folder / "bad part.png"
    picture = Image.fromarray(draw("wafer", "good", 950).image).resize((128, 128))
    picture.paste((250, 250, 250), (40, 50, 75, 80))
    picture.save(bad)
    Image.fromarray(draw("wafer", "good", 960).image).resize((128, 128)).save(folder / "part.png")
    return bad


def test_a_detector_is_trained_on_own_parts_used_taken_away_and_brought_back(visit, tmp_path, serious, page_folder):
    """A zip of good parts, a defective one to check with, a training, verdicts with maps; another rate; answers to the
    verdicts, a drawn defect; the report and the model as files, judged with again. Nothing is left when the page is
    closed."""
    bad = own_parts(tmp_path)
    page = visit(390)
    page.get_by_role("tab", name="Train", exact=True).click()
    page.locator("#own-parts input[type=file]").set_input_files(tmp_path / "good parts.zip")
    expect(page.locator("#own-parts")).to_contain_text("good parts")
    page.locator("#own-defects input[type=file]").set_input_files(bad)
    expect(page.locator("#own-defects")).to_contain_text("bad part")
    page.get_by_label("Name of the part").fill("drawn wafer")
    page.locator("#own-train").click()
    report = page.locator("#own-report")
    expect(report).to_contain_text("Weighted PatchCore of drawn wafer")
    expect(report).to_contain_text("14.3 of 100 good parts")  # one of 6 + 1
    expect(report).to_contain_text("6 photographs are few")
    expect(page.locator("#own-check")).to_contain_text("1 of 1 defective part")
    expect(page.get_by_alt_text(re.compile("^ROC curve"))).to_be_visible()
    rate = page.locator("#own-rate input[type=number]")
    rate.fill("50")
    rate.press("Tab")
    expect(report).to_contain_text("42.9 of 100 good parts")  # three of 6 + 1
    (tmp_path / "model.zip").write_bytes(downloaded(page, page.locator("#own-download").click)[1])
    for again in (False, True):
        if again:
            page.locator("#own-model input[type=file]").set_input_files(tmp_path / "model.zip")
            expect(page.locator("#own-status")).to_contain_text("The model is back")
            expect(page.locator("#own-tests")).not_to_contain_text("bad part")
        page.locator("#own-tests input[type=file]").set_input_files([tmp_path / "part.png", bad])
        expect(page.locator("#own-judged")).to_contain_text(re.compile("[12] of 2 anomalous"))
        rows = page.locator("#own-verdicts tbody tr")
        expect(rows.first).to_contain_text(re.compile("bad part.png.*anomalous", re.S))
        expect(report).to_contain_text("42.9 of 100 good parts")
        expect(rate).to_have_value("43" if again else "50")
    verdicts_are_answered(page, rows)
    assert fits(page) and not serious(page)
    a_defect_is_drawn(page, tmp_path / "part.png")
    name, written = downloaded(page, page.locator("#own-page").click)
    assert name == "drawn_wafer-patchcore-places.html" and b"What you said" in written
    assert fits(page)
    nothing_is_left(page, page_folder, "drawn wafer")


def test_a_picture_that_is_brought_back_as_a_model_is_told_from_one(visit, files):
    page = visit(390)
    page.get_by_role("tab", name="Train", exact=True).click()
    page.locator("#own-model input[type=file]").set_input_files(files / "donut.png")
    expect(page.locator("#own-status")).to_contain_text("donut.png is no model: a model is a zip with config.json")


def verdicts_are_answered(page, rows):
    """A false alarm is corrected, taken back, corrected again: never flagged on the same photograph, also judged anew.
    The table is walked through with the keyboard, sorted and filtered."""
    status, report = page.locator("#own-judged"), page.locator("#own-report")
    before = re.search(r"\d of 2 anomalous", status.inner_text())[0]
    fine = page.get_by_label("was fine: bad part.png")
    fine.click()
    expect(report).to_contain_text("bad part.png: was fine")
    expect(report).to_contain_text("upper limit")
    expect(status).to_contain_text("0 of 2 anomalous")
    page.locator("#own-undo").click()
    expect(status).to_contain_text(before)
    expect(report).not_to_contain_text("What you said")
    fine.click()
    expect(status).to_contain_text("0 of 2 anomalous")
    _, table = downloaded(page, page.locator("#own-answers").click)
    assert [(row["image"], row["said"]) for row in csv.DictReader(io.StringIO(table.decode()))] == [
        ("bad part.png", "good")
    ]
    rows.first.locator("[data-look]").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#own-verdicts .looked-at")).to_contain_text("part.png")
    expect(rows.nth(1)).to_have_attribute("aria-current", "true")
    page.locator("#own-verdicts [data-sort=score]").click()
    expect(rows.first.locator("th")).to_have_text("part.png")
    page.get_by_label("Show").select_option("disputed")
    expect(rows.filter(visible=True)).to_have_count(1)
    expect(page.locator("#own-verdicts [data-count]")).to_have_text("1 of 2")


def a_defect_is_drawn(page, good):
    page.locator("#own-drawing button").first.click()
    page.locator("#own-take-good").click()
    expect(page.locator("#own-drawn [role=alert]")).to_contain_text("drop a photograph")  # of a model brought back
    page.locator("#own-draw input[type=file]").set_input_files(good)
    canvas = page.locator("#own-draw canvas").first
    canvas.scroll_into_view_if_needed()
    page.locator("#own-ask").click()
    expect(page.locator("#own-drawn")).to_contain_text("Nothing was drawn")
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 20, y)
    page.mouse.down()
    page.mouse.move(x + 20, y, steps=4)
    page.mouse.up()
    page.locator("#own-ask").click()
    expect(page.locator("#own-drawn")).to_contain_text(re.compile("(Caught|Not caught): the score went from"))


def nothing_is_left(page, folder, part):
    assert folders_of(part, folder)
    page.close()
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while folders_of(part, folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not folders_of(part, folder)


def folders_of(part, folder):
    """Private folders of the running demo that hold a model of this part."""
    configs = folder.glob("uploads/attentdiffernet-visitors-*/own-*/model/config.json")
    return [config for config in configs if f'"{part}"' in config.read_text()]
