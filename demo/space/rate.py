"""The slider of the share of good parts that may be flagged: in parts of 100, in steps of half a part."""

import math

import gradio as gr

LEAST, MOST, STEP = 0.5, 50.0, 0.5
USUAL = 0.05  # what the shipped thresholds were set for


def rate_slider(elem_id: str) -> gr.Slider:
    return gr.Slider(
        LEAST,
        MOST,
        value=on_slider(USUAL),
        step=STEP,
        label="Good parts that may be flagged, of 100",
        info="Judges all photographs again at once.",
        buttons=[],
        elem_id=elem_id,
    )


def on_slider(rate: float) -> float:
    """Rounded up: so much is promised."""
    return math.ceil(rate * 100 / STEP - 1e-9) * STEP


def asked(of_100: str) -> float | None:
    """The slider's value in an address; None for what it cannot have."""
    try:
        value = float(of_100)
    except ValueError:
        return None
    return value if LEAST <= value <= MOST else None
