"""The slider of the share of good parts that may be flagged."""

import gradio as gr

from ..service.rate import LABEL, LEAST, MOST, STEP, USUAL, on_slider


def rate_slider(elem_id: str) -> gr.Slider:
    return gr.Slider(
        LEAST,
        MOST,
        value=on_slider(USUAL),
        step=STEP,
        label=LABEL,
        info="Judges all photographs again at once.",
        buttons=[],
        elem_id=elem_id,
    )
