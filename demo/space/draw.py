"""A defect drawn on a good part with a brush: is it caught?"""

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from attentdiffernet.errors import AttentDifferNetError

from ..markup import alert
from ..service.training.judging import judged
from ..service.training.report import drawn_html
from ..service.training.state import Own
from .inspect import PRIVATE

BRUSH = ["#111111", "#ffffff", "#8a5a2b", "#b3261e"]  # dirt, glare, rust, paint


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
        before, after = before[..., :3], after[..., :3]
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
