"""The page that `evaluate --report` writes: numbers, ROC curve and what went wrong, in one file that loads nothing."""

import html
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AttentDifferNetError
from ..figures.one_file import inlined, inlined_svg, page
from ..words import times_text, variant_title, verdict_word

if TYPE_CHECKING:
    import PIL.Image

MOST_SHOWN = 8  # images of a kind of mistake
SIDE = 300  # px of a picture
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } .roc { max-width: 26rem; width: 100%; background: #fff; border-radius: 6px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem 1.2rem .3rem 0; text-align: left; border-bottom: 1px solid #8886; }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; padding: 0; }
.images li { list-style: none; } .images img { width: 100%; border-radius: 4px; }
.images span { display: block; font-size: .85rem; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Tested:
    """One test image. overlay: draws the photograph with the detector's map on it when asked."""

    name: str
    defect: str
    label: int
    score: float
    overlay: Callable[[], "PIL.Image.Image"]


def check_picture(path: Path) -> None:
    """Raises AttentDifferNetError for a kind of file that there is no figure as."""
    from ..figures.print import FORMATS

    if path.suffix.lower().removeprefix(".") not in FORMATS:
        kinds = ", ".join(f".{suffix}" for suffix in FORMATS)
        raise AttentDifferNetError(f"The ROC curve is written as one of {kinds}; got {path}")


def roc_file(tested: Sequence[Tested], key: str, threshold: float | None, suffix: str) -> bytes:
    """The ROC curve of a detector (`Detector.key`) with its band, and a dot at the threshold. Raises
    AttentDifferNetError for images of one kind."""
    import numpy as np

    from ..figures.curves import Curve
    from ..figures.print import figure_file, roc_paper_figure

    labels = [image.label for image in tested]
    if len(set(labels)) < 2:
        raise AttentDifferNetError("A ROC curve needs normal and anomalous test images")
    curve = Curve(variant_title(key), key, np.array(labels), np.array([image.score for image in tested]), threshold)
    return figure_file(roc_paper_figure([curve], band=True), suffix)


def report(tested: Sequence[Tested], title: str, key: str, threshold: float, said: Sequence[str]) -> str:
    """The page. title: of the category; key: `Detector.key`; said: sentences that stand on top."""
    detector = variant_title(key)
    both = len({image.label for image in tested}) == 2
    curve = ""
    if both:
        drawing = inlined_svg(roc_file(tested, key, threshold, "svg"))
        curve = f"<img class='roc' alt='ROC curve of {html.escape(detector)}' src='{drawing}'>"
    missed = sorted((t for t in tested if t.label and t.score <= threshold), key=lambda t: t.score)
    alarms = sorted((t for t in tested if not t.label and t.score > threshold), key=lambda t: -t.score)
    sentences = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in said)
    return page(
        f"{title}: {detector}",
        STYLE,
        f"<h1>{html.escape(title)}</h1><p><b>{html.escape(detector)}</b></p>{sentences}{curve}"
        f"<h2>By kind of image</h2><div class='wide'>{_by_defect(tested, threshold)}</div>"
        f"{_mistakes('Missed defects', missed, threshold)}{_mistakes('False alarms', alarms, threshold)}",
    )


def _by_defect(tested: Sequence[Tested], threshold: float) -> str:
    rows = []
    for defect in dict.fromkeys(image.defect for image in tested):
        scores = [image.score for image in tested if image.defect == defect]
        flagged = sum(score > threshold for score in scores)
        median = times_text(statistics.median(scores), threshold)
        name = html.escape(defect.replace("_", " "))
        rows.append(
            f"<tr><th scope='row'>{name}</th><td>{len(scores)}</td><td>{flagged}</td>"
            f"<td>{len(scores) - flagged}</td><td>{median}</td></tr>"
        )
    heads = ["Kind", "Images", f"Called {verdict_word(True)}", f"Called {verdict_word(False)}"]
    heads.append("Median score, × threshold")
    titles = "".join(f"<th scope='col'>{title}</th>" for title in heads)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _mistakes(title: str, images: Sequence[Tested], threshold: float) -> str:
    if not images:
        return f"<h2>{title}</h2><p>None.</p>"
    of = f" (the {MOST_SHOWN} worst of {len(images)})" if len(images) > MOST_SHOWN else f" ({len(images)})"
    items = "".join(
        f"<li><img alt='{html.escape(image.name)} with its map' src='{inlined(image.overlay(), SIDE)}'>"
        f"<span>{html.escape(image.name)}</span><span>{times_text(image.score, threshold)} the threshold</span></li>"
        for image in images[:MOST_SHOWN]
    )
    return f"<h2>{title}{of}</h2><ul class='images'>{items}</ul>"
