"""The endpoint /compare, through gradio_client, on real files: verdicts, maps, and untrusted files of all kinds."""

import json
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

import attentdiffernet
from attentdiffernet.datasets.sample import draw
from demo import shipped
from demo.service.roc import roc_page

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio_client is imported
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parent.parent
CATEGORY = "sample/wafer"
DETECTORS = ["none", "se", "cbam", "patchcore-places"]  # tests/conftest.py adds the last


@pytest.fixture(scope="module")
def client(page_url, tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloads")
    return Client(page_url, verbose=False, download_files=folder, analytics_enabled=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Image files, by name; those that can be read show the same wafer."""
    folder = tmp_path_factory.mktemp("files")
    wafer = Image.fromarray(draw("wafer", "donut", seed=7).image).resize((320, 320))
    wafer.save(folder / "plain.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees clockwise
    wafer.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=turned)
    black = Image.new("RGB", wafer.size)
    wafer.save(folder / "animated.png", save_all=True, append_images=[black], duration=100)
    (folder / "text.png").write_text("I am no picture\n")
    (folder / "truncated.png").write_bytes((folder / "plain.png").read_bytes()[:9000])
    (folder / "empty.jpg").write_bytes(b"")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    return folder


def compare(client, paths, category=CATEGORY, method="grad-cam", detectors=""):
    return client.predict([handle_file(path) for path in paths], category, method, detectors, api_name="/compare")


def test_verdicts_and_maps_provisional_ones_first(client, tmp_path):
    path = tmp_path / "edge ring.png"
    Image.fromarray(draw("wafer", "edge_ring", seed=3).image).save(path)
    job = client.submit([handle_file(path)], CATEGORY, "grad-cam", "", api_name="/compare")
    numbers, maps = job.result()
    steps = [answer["images"][0]["verdicts"] for answer, _ in job.outputs()]
    assert len(steps) >= 3
    assert list(steps[0]) == list(steps[-1]) == DETECTORS
    assert numbers["category"] == CATEGORY
    assert not steps[0]["patchcore-places"]["provisional"] and steps[0]["patchcore-places"]["n_views_wanted"] == 1
    for variant in DETECTORS[:3]:
        views = [step[variant]["n_views"] for step in steps]
        assert views == sorted(views)
        assert steps[0][variant]["provisional"]
        assert not any("map" in step[variant] for step in steps[:-1])
        verdict = numbers["images"][0]["verdicts"][variant]
        assert not verdict["provisional"]
        assert verdict["n_views"] == verdict["n_views_wanted"] > views[0]
        assert verdict["anomalous"] == (verdict["score"] > verdict["threshold"])
        assert 0 <= verdict["percentile"] <= 100
        drawn = next(Path(file) for file in maps if Path(file).name == verdict["map"])
        with Image.open(drawn) as image:
            assert (image.format, image.size) == ("PNG", (512, 512))
    assert len(maps) == len(DETECTORS)


def test_the_score_is_the_librarys_however_the_file_holds_the_image(client, files):
    """Turned upright, and the first frame: `tests/test_data.py` reads all kinds of files."""
    expected = attentdiffernet.load(str(ROOT / "models" / CATEGORY / "se")).inspect(files / "plain.png").score
    names = ["plain.png", "turned.png", "animated.png"]
    numbers, maps = compare(
        client, [files / name for name in names], method="attention", detectors="se,patchcore-places"
    )
    assert [image["name"] for image in numbers["images"]] == names
    for image in numbers["images"]:
        assert image["verdicts"]["se"]["score"] == pytest.approx(expected, rel=1e-5)
    assert len(maps) == 2 * len(names)


def test_what_cannot_be_read_is_said_and_stops_nothing(client, files):
    names = ["text.png", "truncated.png", "empty.jpg", "dot.png", "plain.png"]
    numbers, maps = compare(client, [files / name for name in names])
    *bad, good = numbers["images"]
    expected = ["is not an image that can be read", "is damaged", "is empty", "has 1 x 1 px"]
    for image, name, sentence in zip(bad, names, expected, strict=False):
        assert image["error"].startswith(name)
        assert sentence in image["error"]
        assert "verdicts" not in image
    assert list(good["verdicts"]) == DETECTORS
    assert len(maps) == len(DETECTORS)


def test_requests_that_cannot_be_served_are_answered_in_plain_words_and_stop_nothing(client, files):
    for n, category, method, sentence in (
        (1, "../../etc", "grad-cam", "There is no category '../../etc'; there are "),
        (1, CATEGORY, "tea-leaves", "There is no map 'tea-leaves'; there are grad-cam, attention, gradient"),
        (51, CATEGORY, "grad-cam", "51 images were given; the limit is 50 at once"),
        (0, CATEGORY, "grad-cam", "No image was given"),
    ):
        with pytest.raises(AppError, match=re.escape(sentence)):
            compare(client, [files / "plain.png"] * n, category, method)
    assert compare(client, [files / "plain.png"])[0]["images"][0]["verdicts"]


def test_nothing_but_two_endpoints_is_offered(client):
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/compare", "/roc"}


def test_measured_results(client):
    for key in shipped.measured_categories()[:1]:
        runs = client.predict(key, api_name="/roc")["runs"]
        page = roc_page(key)
        assert [run["auroc"] for run in runs] == [row.auroc for row in page.rows]
    with pytest.raises(AppError, match="no results of 'sample/teapot'"):
        client.predict("sample/teapot", api_name="/roc")


def test_health_names_version_models_and_the_queue(page_url):
    with urllib.request.urlopen(f"{page_url}/health", timeout=10) as answer:
        found = json.load(answer)
    assert found["status"] == "ok" and found["version"] == attentdiffernet.__version__ and found["waiting"] == 0
    assert found["models"][CATEGORY] == DETECTORS
    assert not set(found["models"]) & set(found["unusable"])


WANTED = ROOT / "pyproject.toml"
PHOTOGRAPH = next((ROOT / "demo" / "examples" / CATEGORY).glob("*.*"))


@pytest.mark.parametrize(
    "address",
    [
        f"gradio_api/file={WANTED}",
        "gradio_api/file=pyproject.toml",
        f"gradio_api/file={ROOT}/demo/examples/../../pyproject.toml",
        f"gradio_api/file={ROOT}/demo/examples/%2e%2e/%2e%2e/pyproject.toml",
        f"gradio_api/file=//{WANTED}",
        f"gradio_api/file=file://{WANTED}",
        "gradio_api/file=/proc/self/environ",
        f"gradio_api/file={ROOT}/.git/config",
        f"gradio_api/stream/{WANTED}",
        "gradio_api/proxy=https://example.org/",
        "static/../../../../../../etc/passwd",
        "assets/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "custom_component/../../../etc/passwd",
        f"{WANTED}",
    ],
)
def test_no_address_leads_to_a_file_of_the_machine(address, page_url):
    with pytest.raises(urllib.error.HTTPError, match=r"40\d|422") as refused:
        urllib.request.urlopen(f"{page_url}/{address}", timeout=10)
    assert b"attentdiffernet" not in refused.value.read()


@pytest.mark.parametrize(
    "path",
    [
        *(str(WANTED), str(PHOTOGRAPH), "pyproject.toml", f"../{ROOT.name}/pyproject.toml", f"file://{WANTED}"),
        *("/etc/passwd", "/dev/stdin", "https://example.org/part.png", "http://127.0.0.1:1/part.png", ""),
    ],
)
def test_no_path_in_place_of_an_upload_is_read(path, page_url):
    """Without gradio_client, which would upload the file first."""
    stolen = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [[stolen], CATEGORY, "grad-cam", "patchcore-places"]}).encode()
    request = urllib.request.Request(f"{page_url}/gradio_api/call/compare", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{page_url}/gradio_api/call/compare/{event}", timeout=60) as stream:
        said = stream.read().decode()
    assert "event: error" in said or '"error"' in said
    assert "verdicts" not in said


def test_the_name_of_an_upload_leads_nowhere_else(page_url):
    for name in ("../../../evil.png", "/tmp/evil.png", "..", "a/../../evil.png", "evil\0.png"):
        head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        request = urllib.request.Request(f"{page_url}/gradio_api/upload", f"{head}x\r\n--b--\r\n".encode(), kind)
        path = stored(request)
        assert path is None or (path.is_file() and path.parent.parent.name == "uploads" and ".." not in path.parts)


def stored(request):
    """Where an upload lies; None where it was refused."""
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return Path(json.load(answer)[0])
    except urllib.error.HTTPError as error:
        return None if error.code == 400 else Path(f"refused with {error.code}")
