"""The share of good parts that may be flagged, as both faces ask for it: in parts of 100, in steps of half a part."""

import math

LEAST, MOST, STEP = 0.5, 50.0, 0.5
USUAL = 0.05  # what the shipped thresholds were set for
LABEL = "Good parts that may be flagged, of 100"


def on_slider(rate: float) -> float:
    """Rounded up, as far as the slider goes: so much is promised."""
    return min(MOST, max(LEAST, math.ceil(rate * 100 / STEP - 1e-9) * STEP))


def asked(of_100: str) -> float | None:
    """The slider's value in an address; None for what it cannot have."""
    try:
        value = float(of_100)
    except ValueError:
        return None
    return value if LEAST <= value <= MOST else None
