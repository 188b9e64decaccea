"""The part of the page that shows one image: photograph, and verdict and map of each variant."""

import base64
import io
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from attentdiffernet.words import VARIANT_TITLES

from .. import markup
from ..markup import text
from ..service.verdict import MAPS, Comparison, Verdict, heat_bar
from .files import picture_file

IMAGE_HEIGHT = 300  # px; fixed, so that nothing moves while results arrive

# On a narrow page results lie below the fold: go there when they arrive.
SCROLL_TO_RESULTS = """
const scroll = () => innerWidth < 800 && setTimeout(() => document.querySelector('#status')?.scrollIntoView(), 200);
watch('value', scroll);
scroll();
"""

Update = dict[Any, Any]


class Results:
    """The components, and the updates that fill them."""

    def __init__(self) -> None:
        with gr.Column(visible=False, elem_id="results") as self.section:
            with gr.Row(elem_classes="legend"):
                with gr.Column(min_width=320):
                    self.method = gr.Radio(
                        [(title, name) for name, title in MAPS.items()], value="grad-cam", label="Map"
                    )
                with gr.Column(min_width=320):
                    self.bar = gr.HTML(elem_id="bar")
            with gr.Row(elem_classes="cards"):
                with gr.Column(min_width=240, elem_classes="card"):
                    self.file = gr.HTML(js_on_load=SCROLL_TO_RESULTS)
                    self.image = _picture("Photograph")
                    self.legend = gr.HTML(elem_classes="details")
                self.heads, self.maps, self.details = {}, {}, {}
                for variant, title in VARIANT_TITLES.items():
                    with gr.Column(min_width=240, elem_classes="card", elem_id=f"card-{variant}"):
                        self.heads[variant] = gr.HTML(_heading(variant, None))
                        self.maps[variant] = _picture(title)
                        self.details[variant] = gr.HTML(elem_classes="details")

    @property
    def components(self) -> list[Any]:
        shown = [self.section, self.bar, self.file, self.image, self.legend]
        return [*shown, *self.heads.values(), *self.maps.values(), *self.details.values()]

    def hidden(self) -> Update:
        return {self.section: gr.Column(visible=False)}

    def filled(self, comparison: Comparison, first: bool) -> Update:
        """first: of this image. Pictures are sent with the first verdicts and with the maps, not in between."""
        update: Update = {self.section: gr.Column(visible=True), **self._verdicts(comparison)}
        if first:
            photograph = picture_file(comparison)
            update |= self._photograph(comparison, photograph)
            for variant, verdict in comparison.verdicts.items():
                alt = f"Photograph {comparison.name}; verdict: {verdict.word}"
                update[self.maps[variant]] = gr.Image(photograph, alt_text=alt)
        if comparison.heat:
            for variant, verdict in comparison.verdicts.items():
                alt = f"{comparison.heat.title} of {verdict.title} over {comparison.name}; verdict: {verdict.word}"
                update[self.maps[variant]] = gr.Image(picture_file(comparison, variant), alt_text=alt)
            update[self.bar] = _colour_bar(comparison.heat.scale)
        return update

    def _verdicts(self, comparison: Comparison) -> Update:
        notes = comparison.heat.notes if comparison.heat else {}
        to_come = "" if comparison.heat else "The map follows when all views are scored."
        update: Update = {}
        for variant, verdict in comparison.verdicts.items():
            update[self.heads[variant]] = _heading(variant, verdict)
            update[self.details[variant]] = _details(verdict, notes.get(variant, to_come))
        return update

    def _photograph(self, comparison: Comparison, file: str) -> Update:
        height, width = comparison.image.shape[:2]
        return {
            self.file: f'<h3>Photograph</h3><p class="verdict file">{text(comparison.name)}</p>',
            self.image: gr.Image(file, alt_text=f"Photograph {comparison.name}"),
            self.legend: f"<p>{width} × {height} px as shown, {text(comparison.category.title)}.</p>"
            "<p class='note'>A score has no unit and no upper limit, and is not a probability. Compare it with the "
            "threshold of the same variant, not with the score of another variant.</p>",
        }


def _picture(label: str) -> gr.Image:
    return gr.Image(
        label=label,
        show_label=False,
        format="png",
        interactive=False,
        height=IMAGE_HEIGHT,
        buttons=["download", "fullscreen"],
        alt_text=label,
    )


def _heading(variant: str, verdict: Verdict | None) -> str:
    badge = markup.badge(verdict.anomalous, verdict.provisional) if verdict else ""
    views = verdict.views_text if verdict else "…"
    return (
        f'<h3 class="variant {variant}">{text(VARIANT_TITLES[variant])}</h3>'
        f'<p class="verdict">{badge} <span class="views">{views}</span></p>'
    )


def _details(verdict: Verdict, note: str) -> str:
    return (
        f'{markup.numbers(verdict)}<div class="histogram">{verdict.histogram_svg}</div>'
        f'<p class="choices">{text(verdict.choices)}</p><p class="note">{text(note)}</p>'
    )


def _colour_bar(scale: tuple[float, float]) -> str:
    alt = f"Colour scale: none up to what normals reach, brightest at {2.0 ** scale[1]:.3g} times that"
    return f'<img class="colour-bar" src="{_data_url(heat_bar(scale))}" alt="{alt}">'


def _data_url(picture: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
