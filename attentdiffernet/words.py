"""Titles and phrases that the commands, both faces and the results page share."""

import math

VARIANT_TITLES: dict[str, str] = {
    "none": "DifferNet",
    "se": "AttentDifferNet (SE)",
    "cbam": "AttentDifferNet (CBAM)",
}
METHOD_TITLES: dict[str, str] = {
    "grad-cam": "Grad-CAM",
    "attention": "Attention",
    "gradient": "Gradient map",
    "spatial-gate": "Spatial gate",
}
READOUTS: dict[str, str] = {
    "z2": "mean z² over the views, as in DifferNet",
    "likelihood": "negative log-likelihood by the flow, averaged over the views (an extension)",
    "z2_of_mean": "z² of the features averaged over the views (an extension)",
    "gaussian": "squared Mahalanobis distance, averaged over the views (a baseline without flow)",
    "gaussian_of_mean": "squared Mahalanobis distance of the features averaged over the views (a baseline without "
    "flow)",
    "gaussian_full_scale": "squared Mahalanobis distance of the full scale's features, averaged over the views (a "
    "baseline without flow)",
}


def input_title(views: str, resize: str, exposure: str = "as_is") -> str:
    """`quarter turns`, or `flips, aspect kept, exposure standardised`."""
    parts = [views.replace("_", " ")]
    parts += ["aspect kept"] * (resize == "keep_aspect") + ["exposure standardised"] * (exposure == "standardised")
    return ", ".join(parts)


def variant_title(variant: str) -> str:
    """`AttentDifferNet (SE)`; a baseline's own name."""
    return VARIANT_TITLES.get(variant, variant)


def score_text(score: float, digits: int = 4) -> str:
    """`2.413`, `652,100`, and from a million on `2.043 × 10⁶`: scores have no upper limit. Infinity is `∞`."""
    if math.isinf(score):
        return "∞" if score > 0 else "-∞"
    rounded = float(f"{score:.{digits}g}")
    if rounded and not 1e-4 <= abs(rounded) < 1e6:
        mantissa, power = f"{rounded:.{digits - 1}e}".split("e")
        raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"10{raised}" if float(mantissa) == 1 else f"{float(mantissa):g} × 10{raised}"
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"
