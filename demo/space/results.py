"""The part of the page that shows one image, and how its maps are shown."""

import base64
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from attentdiffernet.words import METHOD_TITLES, OUTLINED, OWN_SCALE, OWN_SCALE_HELP

from ..markup import alert, text, verdicts
from ..service.catalogue import Example
from ..service.downloads import png
from ..service.verdict import MAPS, Comparison, Heat, heat_bar
from .cards import cards_html
from .choice import CLICKED
from .files import on_page
from .rate import rate_slider
from .status import seen

HERE = Path(__file__).parent
CONTROLS = f"""
<label class="opacity">Opacity of the heat <input type="range" id="opacity" min="0" max="100" value="75"></label>
<label><input type="checkbox" id="show-outline" checked> {OUTLINED}</label>
<label class="truth-control"><input type="checkbox" id="show-truth"> True outline of the defect</label>
"""

Update = dict[Any, Any]


class Results:
    """The components, and the updates that fill them."""

    def __init__(self) -> None:
        with gr.Column(elem_classes=seen(False), elem_id="results") as self.section:
            self.stranger = gr.HTML(elem_classes=seen(False), elem_id="stranger", js_on_load=CLICKED)
            self.verdicts = gr.HTML(elem_id="verdicts")
            self.view = gr.HTML(elem_id="view", js_on_load=(HERE / "view.js").read_text(encoding="utf-8"))
            self.bar = gr.HTML(elem_id="bar")
            with gr.Row():
                with gr.Column(min_width=280):
                    self.rate = rate_slider("rate")
                with gr.Column(min_width=280):
                    self.method = gr.Radio(
                        [(title, name) for name, title in MAPS.items()],
                        value="grad-cam",
                        label="Map of DifferNet and its variants",
                        elem_id="map",
                    )
                    self.own_scale = gr.Checkbox(label=OWN_SCALE, elem_id="own-scale", container=False)
                with gr.Column(min_width=280):
                    gr.HTML(CONTROLS, elem_id="view-controls")

    @property
    def components(self) -> list[Any]:
        return [self.section, self.stranger, self.verdicts, self.bar, self.view]

    def hidden(self) -> Update:
        return {self.section: gr.Column(elem_classes=seen(False))}

    def filled(self, comparison: Comparison, example: Example | None, own_scale: bool) -> Update:
        return {
            self.section: gr.Column(elem_classes=seen(True)),
            self.stranger: gr.HTML(stranger_html(comparison), elem_classes=seen(comparison.stranger is not None)),
            self.verdicts: verdicts(comparison),
            self.view: cards_html(comparison, example, own_scale, partial(on_page, self.view)),
            self.bar: _colour_bars(comparison.heat, own_scale) if comparison.heat else gr.skip(),
        }


def stranger_html(comparison: Comparison) -> str:
    """That it is a picture of another thing, with the offer of a category that it fits; empty if it is none."""
    if (found := comparison.stranger) is None:
        return ""
    offer = ""
    if found.fits:
        offer = f"<button type='button' data-index='0'>Inspect it as {text(found.fits.title)}</button>"
    return f"{alert(comparison.warning)}{offer}"


def _colour_bars(heat: Heat, own_scale: bool) -> str:
    """One for each kind of map shown."""
    if own_scale:
        return f"<p class='note'>{OWN_SCALE_HELP}</p>"
    return "".join(_colour_bar(METHOD_TITLES[method], scale) for method, scale in heat.kinds.items())


def _colour_bar(title: str, scale: tuple[float, float]) -> str:
    alt = f"Colour scale of {title}: none up to what normals reach, brightest from {2.0 ** scale[1]:.3g} times that"
    picture = base64.b64encode(png(heat_bar(scale, title))).decode()
    return f'<img class="colour-bar" src="data:image/png;base64,{picture}" alt="{text(alt)}">'
