"""Colours, dashes and the font that all figures share."""

from typing import Any

# Okabe & Ito's palette, told apart with any colour vision. A detector (`Detector.key`) has its colour in every chart,
# and a dash, so that a black-and-white print works too. What is none of them (a baseline) is grey.
VARIANT_COLOURS = {"none": "#0072B2", "se": "#D55E00", "cbam": "#009E73"}
VARIANT_COLOURS |= dict.fromkeys(("patchcore", "patchcore-places"), "#E69F00")
VARIANT_DASHES = {"none": "solid", "se": "dash", "cbam": "dot", "patchcore": "dashdot", "patchcore-places": "longdash"}
# Names as in Plotly, patterns as in Matplotlib.
DASHES: dict[str, Any] = {
    "solid": "-",
    "dash": (0, (5, 1.5)),
    "dot": (0, (1.2, 1)),
    "dashdot": (0, (5, 1.5, 1.2, 1.5)),
    "longdash": (0, (8, 2)),
    "longdashdot": (0, (8, 2, 1.2, 2)),
}
NORMAL_COLOUR, ANOMALOUS_COLOUR = "#56B4E9", "#CC79A7"  # of the same palette, and no variant's
INK = "#767676"  # contrast 4.5 to white and 4.6 to black
HEAT = "inferno"  # perceptually uniform
FONT = "system-ui, sans-serif"
