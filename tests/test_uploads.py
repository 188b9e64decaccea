"""What visitors upload: how much may lie there, how long, and what is left of an upload that is cut off."""

import asyncio
import os
import time
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio import processing_utils
from gradio.components.image_editor import EditorData, FileData
from gradio.routes import App
from PIL import Image
from starlette.middleware import Middleware

from attentdiffernet.errors import AttentDifferNetError
from demo.service import private
from demo.space import files, uploads
from demo.space.draw import Decoding

HEAD = b'--b\r\nContent-Disposition: form-data; name="files"; filename="part.png"\r\n\r\n'
TAIL = b"\r\n--b--\r\n"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(private, "root", lambda: tmp_path)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(private.uploads()))
    monkeypatch.setenv(private.TOTAL_ENVIRONMENT, "4")
    return tmp_path


@pytest.fixture
def page(root):
    """Gradio's application behind the gate."""

    async def build():
        with gr.Blocks(analytics_enabled=False) as blocks:
            gr.File()
        blocks.max_file_size = None
        return App.create_app(blocks, app_kwargs={"middleware": [Middleware(uploads.Uploads)]})

    return asyncio.run(build())


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def sent(page, parts, visitor="1.2.3.4", length=None, path="/gradio_api/upload"):
    """(status, text) of a request whose body comes in parts. None among the parts: the sender is gone; a number: so
    many seconds pass."""
    waiting, answer = list(parts), []

    async def receive():
        while waiting and isinstance(waiting[0], float):
            await asyncio.sleep(waiting.pop(0))
        part = waiting.pop(0) if waiting else None
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    async def send(message):
        answer.append(message)

    n_bytes = sum(len(part) for part in parts if isinstance(part, bytes)) if length is None else length
    headers = [(b"content-type", b"multipart/form-data; boundary=b"), (b"content-length", str(n_bytes).encode())]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "client": (visitor, 1)}
    scope |= {"query_string": b"", "root_path": "", "http_version": "1.1", "scheme": "http", "server": ("here", 80)}
    await page(scope | {"asgi": {"version": "3.0"}}, receive, send)
    text = b"".join(message.get("body", b"") for message in answer).decode()
    return (answer[0]["status"] if answer else None), text


def test_an_upload_arrives_and_one_that_is_cut_off_leaves_nothing(page, root):
    assert asyncio.run(sent(page, [HEAD, b"part", TAIL]))[0] == 200
    assert files_in(root) == ["part.png"]
    assert asyncio.run(sent(page, [HEAD, b"par", None], length=1000)) == (None, "")
    assert files_in(root) == ["part.png"]


def test_what_is_cut_off_beside_another_upload_goes_with_it(page, root):
    async def both():
        slow = asyncio.create_task(sent(page, [HEAD, b"slow", 1.0, TAIL]))
        await asyncio.sleep(0.05)
        await sent(page, [HEAD, b"par", None], length=1000)
        assert len(files_in(root)) == 2, "the other one is not touched"
        assert (await slow)[0] == 200

    asyncio.run(both())
    assert files_in(root) == ["part.png"]


def test_an_upload_that_stalls_is_ended_with_a_sentence(page, root, monkeypatch):
    monkeypatch.setattr(uploads, "STALLED_S", 0.05)
    assert asyncio.run(sent(page, [HEAD, b"pa", 5.0, b"rt", TAIL])) == (408, "The upload stalled; try again")
    assert files_in(root) == []
    trickling = [HEAD, *[0.02, b"x"] * 50, TAIL]
    assert asyncio.run(sent(page, trickling))[0] == 408


def test_uploads_have_a_bound_in_total_and_by_visitor(page, root, monkeypatch):
    megabyte = b"x" * 990_000
    assert asyncio.run(sent(page, [HEAD, megabyte, TAIL]))[0] == 200
    status, said = asyncio.run(sent(page, [HEAD, megabyte, TAIL]))
    assert status == 429 and said.startswith("You have brought 1 MB within the last hour, and 1 MB are the most here")
    (root / "own-1").mkdir()
    (root / "own-1" / "unpacked.png").write_bytes(b"x" * 2_500_000)  # trainings count
    status, said = asyncio.run(sent(page, [HEAD, megabyte, TAIL], visitor="5.6.7.8"))
    assert (status, said) == (507, "The page holds 3 MB of uploads at the moment; try again in a few minutes")
    with pytest.raises(AttentDifferNetError, match=r"^The page holds 3 MB"):
        files.kept(megabyte, "maps.zip")
    assert files.kept(b"image,score\n", "numbers.csv"), "what is small can be taken away"
    monkeypatch.setattr(uploads, "HOUR_S", 0.0)
    monkeypatch.setenv(private.TOTAL_ENVIRONMENT, "8")
    assert asyncio.run(sent(page, [HEAD, megabyte, TAIL]))[0] == 200


def test_on_a_space_visitors_are_told_apart_by_what_the_proxy_says(monkeypatch):
    scope = {"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", b"1.2.3.4, 10.0.0.2")]}
    assert uploads._visitor(scope) == "10.0.0.1", "elsewhere anyone could say so"
    monkeypatch.setenv(uploads.ON_A_SPACE, "us/demo")
    assert uploads._visitor(scope) == "1.2.3.4"
    assert uploads._visitor(scope | {"headers": []}) == "10.0.0.1"


def test_uploads_that_are_under_way_count_with_what_is_to_come(page, root):
    async def both():
        slow = asyncio.create_task(sent(page, [HEAD, 0.2, None], length=900_000))
        await asyncio.sleep(0.05)
        assert (await sent(page, [HEAD, b"part", TAIL], length=200_000))[0] == 429
        await slow

    asyncio.run(both())


def test_other_requests_have_a_bound(page, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_OTHER_BYTES", 1000)
    for parts, length in (([b"x" * 2000], None), ([b"x" * 600, b"x" * 600], 10)):
        status, said = asyncio.run(sent(page, parts, length=length, path="/gradio_api/queue/join"))
        assert status == 413 and said.startswith("The request is larger than 0 MB")


def test_what_nobody_used_for_an_hour_goes_and_the_rest_stays(root):
    old, new = (private.uploads() / name / "part.png" for name in ("a", "b"))
    trained, forgotten = root / "own-1", root / "own-2"
    for folder in (old.parent, new.parent, trained, forgotten):
        folder.mkdir()
    old.write_bytes(b"")
    time.sleep(1.2)
    new.write_bytes(b"")
    os.utime(forgotten, (0, 0))
    os.utime(trained)
    private.forget_old(1.0)
    assert not old.exists() and new.exists()
    assert trained.exists() and not forgotten.exists()
    time.sleep(1.2)
    private.forget_old(1.0)
    assert [path.name for path in private.uploads().iterdir()] == ["b"], "empty folders go, too"


def test_a_setting_that_is_no_number_is_said(monkeypatch):
    monkeypatch.setenv(private.TOTAL_ENVIRONMENT, "4 GB")
    with pytest.raises(AttentDifferNetError, match="must be a number of megabytes, got '4 GB'"):
        private.most_bytes()


def test_addresses_in_place_of_uploads_are_not_fetched(monkeypatch):
    for name in ("async_ssrf_protected_download", "ssrf_protected_download", "save_url_to_cache"):
        monkeypatch.setattr(processing_utils, name, getattr(processing_utils, name))
    uploads.fetch_nothing()

    async def build():
        with gr.Blocks(analytics_enabled=False):
            return gr.File()

    file = asyncio.run(build())
    with pytest.raises(gr.Error, match="not fetched"):
        asyncio.run(file.async_move_resource_to_block_cache("https://example.org/part.png"))
    with pytest.raises(gr.Error, match="not fetched"):
        file.move_resource_to_block_cache("https://example.org/part.png")


def test_a_drawing_is_decoded_apart_and_those_that_nobody_asks_for_go(tmp_path, monkeypatch):
    async def build():
        with gr.Blocks(analytics_enabled=False):
            editor = gr.ImageEditor(type="numpy")
            return editor, Decoding(editor)

    canvas, decoding = asyncio.run(build())
    picture, damaged = tmp_path / "part.png", tmp_path / "damaged.png"
    Image.new("RGBA", (40, 30), (0, 0, 0, 0)).save(picture)
    damaged.write_bytes(picture.read_bytes()[:60])

    def blob(drawing, part, content):
        sent = {"type": part, "index": "null", "id": drawing}
        canvas.accept_blobs(SimpleNamespace(data=sent, files=[("file", content)]))

    for part in ("background", "composite", "layer"):
        blob("a", part, picture.read_bytes())
    found = canvas.preprocess(EditorData(background=None, layers=[], composite=None, id="a"))
    assert found["background"].shape == (30, 40, 3) and found["composite"].min() == 255, "on white"
    assert not decoding.under_way and not canvas.blob_storage
    with pytest.raises(gr.Error, match="The drawing is damaged"):
        canvas.preprocess(EditorData(background=FileData(path=str(damaged)), layers=[], composite=None, id=None))
    monkeypatch.setattr("demo.space.draw.MOST_DRAWINGS_BYTES", 2000)
    for k in range(5):
        blob(str(k), "composite", bytes(900))
    assert list(decoding.under_way) == ["3", "4"]
