"""A defect drawn on a good part with a brush: is it caught?"""

import io
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs, EditorData, EditorDataBlobs
from gradio.data_classes import FileData
from PIL import Image

from attentdiffernet.errors import AttentDifferNetError

from ..markup import alert
from ..service.decoding import read_image
from ..service.training.judging import judged
from ..service.training.report import drawn_html
from ..service.training.state import Own
from .inspect import PRIVATE

MOST_DRAWINGS_BYTES = 200_000_000  # of all that are under way; the oldest goes
BRUSH = ["#111111", "#ffffff", "#8a5a2b", "#b3261e"]  # dirt, glare, rust, paint


class Decoding:
    """Takes the place of what Gradio's editor does with a drawing: it would decode whatever is sent in the page's own
    process, and keep in memory what nobody asks for. (A class of components beside Gradio's would write files here.)"""

    def __init__(self, editor: gr.ImageEditor) -> None:
        self.under_way: dict[str, EditorDataBlobs] = {}
        editor.preprocess = self.preprocess  # type: ignore[method-assign, assignment]
        editor.accept_blobs = self.accept_blobs

    def preprocess(self, payload: EditorData | None) -> dict[str, Any] | None:
        """{background, composite}: (H, W, 3) uint8, or None for what was not sent."""
        if payload is None:
            return None
        sent = payload if payload.id is None else self.under_way.pop(payload.id, None)
        return {part: _decoded(getattr(sent, part, None)) for part in ("background", "composite")}

    @server  # type: ignore[untyped-decorator]
    def accept_blobs(self, data: AcceptBlobs) -> None:
        """Takes a part of a drawing, in the moment before it is asked for."""
        drawing, part = str(data.data["id"]), data.data["type"]
        if part not in ("background", "composite"):
            return  # a layer: is in the composite
        taken = self.under_way.pop(drawing, EditorDataBlobs(background=None, layers=[], composite=None))
        setattr(taken, part, data.files[0][1])
        self.under_way[drawing] = taken
        while sum(map(_size, self.under_way.values())) > MOST_DRAWINGS_BYTES:
            del self.under_way[next(iter(self.under_way))]


def _size(drawing: EditorDataBlobs) -> int:
    return sum(len(part) for part in (drawing.background, drawing.composite) if part)


def _decoded(file: FileData | bytes | None) -> np.ndarray | None:
    if file is None:
        return None
    try:
        return read_image(io.BytesIO(file) if isinstance(file, bytes) else file.path, "The drawing")
    except AttentDifferNetError as error:
        raise gr.Error(str(error), print_exception=False) from error


class Draw:
    """The components, and a method for each action of the visitor. Folded: the canvas is made when it is opened."""

    def __init__(self, own: gr.State) -> None:
        self.own = own
        with gr.Accordion("Draw a defect and see whether it is caught", open=False, elem_id="own-drawing"):
            gr.Markdown("Take a typical good part, or drop a photograph in, and draw on it with the brush.")
            with gr.Row():
                self.take = gr.Button("Take a good part", elem_id="own-take-good", size="md")
                self.ask = gr.Button("Is it caught?", variant="primary", elem_id="own-ask", size="md")
            with gr.Row():
                with gr.Column(min_width=300):
                    self.editor = gr.ImageEditor(
                        label="Draw here",
                        show_label=False,  # on a phone, the tools would cover it
                        type="numpy",
                        image_mode="RGB",
                        format="png",  # the traces of another one would be judged, too
                        sources=["upload", "clipboard"],
                        transforms=(),
                        layers=False,
                        brush=gr.Brush(12, list(BRUSH), BRUSH[0], "fixed"),
                        canvas_size=(480, 480),
                        buttons=[],
                        elem_id="own-draw",
                    )
                    Decoding(self.editor)
                with gr.Column(min_width=300):
                    self.found = gr.HTML(elem_id="own-drawn")
        work: dict[str, Any] = {**PRIVATE, "concurrency_id": "compute", "show_progress": "hidden"}
        self.take.click(self.take_good, own, [self.editor, self.found], **PRIVATE, queue=False)
        self.ask.click(self.is_caught, [self.editor, own], self.found, **work)

    def take_good(self, mine: Own | None) -> dict[Any, Any]:
        if mine is None or mine.typical is None or not mine.in_use():
            return {self.found: alert("There is no good part at hand: drop a photograph of one into the editor.")}
        image = np.asarray(Image.open(mine.typical).convert("RGB"))
        return {self.editor: {"background": image, "layers": [], "composite": image}, self.found: ""}

    def is_caught(self, drawing: dict[str, Any] | None, mine: Own | None) -> str:
        before, after = (None if drawing is None else drawing.get(part) for part in ("background", "composite"))
        if mine is None or not mine.in_use() or before is None or after is None:
            return alert("There is nothing to judge yet: take a good part, and draw on it.")
        if np.array_equal(before, after):
            return alert("Nothing was drawn yet.")
        try:
            files = [_written(before, mine.folder / "as it was.png"), _written(after, mine.folder / "drawn.png")]
            was, is_now = judged(files, mine.detector)
            return drawn_html(was, is_now, mine.calibration)
        except AttentDifferNetError as error:
            return alert(str(error))


def _written(image: np.ndarray, path: Path) -> Path:
    Image.fromarray(image).save(path)
    return path
