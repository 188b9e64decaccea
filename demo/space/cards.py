"""One image as HTML: the photograph, and verdict and map of each detector on a card of its own.

A picture is the photograph, its heat and lines laid on each other, so that opacity and lines need no server.
"""

from collections.abc import Callable, Sequence

import numpy as np

from attentdiffernet.figures.overlay import heat_layer
from attentdiffernet.words import DETECTOR_TITLES, ON_WHITE

from .. import markup
from ..markup import text
from ..service.catalogue import Example
from ..service.downloads import png
from ..service.naming import safe_stem
from ..service.verdict import NO_NORMAL, Comparison, Likeness

LAYER_SIDE = 512  # px of a heat layer at most: it is smooth

SAVE, FULL = (
    f"<svg viewBox='0 0 16 16' width='16' height='16' aria-hidden='true'><path d='{path}'/></svg>"
    for path in ("M8 2v8m-3.5-3.5L8 10l3.5-3.5M2.5 13.5h11", "M2.5 6V2.5H6m4 0h3.5V6m0 4v3.5H10m-4 0H2.5V10")
)

Keep = Callable[[bytes, str], str]
"""Keeps a file under a name and returns the address at which the page finds it."""


def cards_html(comparison: Comparison, example: Example | None, own_scale: bool, keep: Keep) -> str:
    """The photograph and the detectors side by side."""
    pictures = _Pictures(comparison, example, own_scale, keep)
    cards = "".join(_card(comparison, key, pictures) for key in comparison.verdicts)
    return (
        f"<div class='cards' role='region' aria-label='Photograph and detectors' tabindex='0' "
        f"data-name='{text(comparison.name)}'>{_photograph(comparison, example, pictures)}{cards}</div>"
    )


def _photograph(comparison: Comparison, example: Example | None, pictures: "_Pictures") -> str:
    height, width = comparison.image.shape[:2]
    expected = f"<p class='expected'>{text(expectation(comparison, example))}</p>" if example else ""
    likenesses = "".join(_likeness(found, pictures) for found in comparison.likenesses.values())
    on_white = f"<p>{ON_WHITE}</p>" if comparison.on_white else ""
    return (
        f"<article class='card' id='card-photograph'><h2>Photograph</h2>"
        f"<p class='verdict'>{text(comparison.name)}</p>{pictures.photograph()}<div class='details'>{expected}"
        f"<p class='file'>{text(comparison.name)}, {width} × {height} px as shown. "
        f"{text(comparison.category.title)}.</p>{on_white}{likenesses}"
        "</div></article>"
    )


def expectation(comparison: Comparison, example: Example) -> str:
    """What an example should give, and who gives something else once all verdicts are final."""
    expected = f"Expected: {'anomalous' if example.defect else 'normal'} ({example.title})."
    if any(verdict.provisional for verdict in comparison.verdicts.values()):
        return expected
    wrong = [key for key, v in comparison.verdicts.items() if v.anomalous != bool(example.defect)]
    if not wrong:
        return f"{expected} {'Found' if example.defect else 'Passed'} by {comparison.who(list(comparison.verdicts))}."
    return f"{expected} {'Missed' if example.defect else 'Called anomalous'} by {comparison.who(wrong)}."


def _card(comparison: Comparison, key: str, pictures: "_Pictures") -> str:
    verdict = comparison.verdicts[key]
    note = comparison.note(key, pictures.own_scale) if comparison.heat else "The map follows when all views are scored."
    return (
        f"<article class='card' id='card-{key}'><h2 class='variant {key}'>{text(DETECTOR_TITLES[key])}</h2>"
        f"<p class='verdict'>{markup.badge(verdict.anomalous, verdict.provisional)} "
        f"<span class='views'>{verdict.views_text}</span></p>{pictures.of(key)}<div class='details'>"
        f"{markup.numbers(verdict)}<div class='histogram'>{verdict.histogram_svg}</div>"
        f"<p class='note'>{text(note)}</p>{markup.raw_numbers(verdict)}</div></article>"
    )


def _likeness(found: Likeness, pictures: "_Pictures") -> str:
    """`Looks like this, expected that`: both crops at the same scale."""
    here = pictures.crop(found.found, "looks like this", "The place that is farthest from all normal places")
    if found.normal is None:
        there = f"<figcaption>{NO_NORMAL}</figcaption>"
    else:
        there = pictures.crop(found.normal, "expected that", "The normal place that is nearest to it")
    return f"<div class='likeness'><p>{text(found.sentence)}</p>{here}{there}</div>"


class _Pictures:
    """The pictures of one comparison; the photograph is kept once for all of them."""

    def __init__(self, comparison: Comparison, example: Example | None, own_scale: bool, keep: Keep) -> None:
        self.comparison, self.own_scale, self.keep = comparison, own_scale, keep
        self.stem = safe_stem(comparison.name)
        self.address = keep(png(comparison.image), f"{self.stem}.png")
        self.truth = _line(example.outline, "truth") if example and example.mask else ""

    def photograph(self) -> str:
        return self._picture(f"{self.stem}.png", f"Photograph {self.comparison.name}", "", self.truth)

    def of(self, key: str) -> str:
        """The photograph with a detector's map, as soon as there is one."""
        heat, verdict, name = self.comparison.heat, self.comparison.verdicts[key], self.comparison.name
        if heat is None or key not in heat.heat:
            return self._picture(
                f"{self.stem}-{key}.png", f"Photograph {name}; verdict: {verdict.word}", "", self.truth
            )
        height, width = self.comparison.image.shape[:2]
        shrink = min(1.0, LAYER_SIDE / max(height, width))
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        file = f"{self.stem}-{key}-{heat.methods[key]}.png"
        layer = self.keep(png(heat_layer(*heat.scaled(key, self.own_scale), *size)), file)
        alt = f"{heat.title(key)} of {verdict.title} over {name}; verdict: {verdict.word}"
        marks = _line(heat.outline(key), "outline") + self.truth
        peak = ""
        if place := heat.peak(key, self.own_scale):
            x, y = place
            peak = f"<span class='peak' title='Highest place' style='left: {x:.2%}; top: {y:.2%}'></span>"
        return self._picture(file, alt, f"<img class='heat' src='{layer}' alt=''>", marks, peak)

    def _picture(self, file: str, alt: str, heat: str, lines: str, peak: str = "") -> str:
        height, width = self.comparison.image.shape[:2]
        drawn = f"<svg viewBox='0 0 1 1' preserveAspectRatio='none' aria-hidden='true'>{lines}</svg>" if lines else ""
        tools = "".join(
            f"<button type='button' data-do='{act}' tabindex='{index}' aria-label='{title}: {text(file)}' "
            f"title='{title}'>{sign}</button>"
            for act, title, sign, index in (("save", "Save as PNG", SAVE, -1), ("full", "Full screen", FULL, 0))
        )
        return (
            f"<figure class='picture' data-file='{text(file)}' style='--aspect: {width / height:.4f}'>"
            f"<div class='layers'><img class='photo' src='{self.address}' alt='{text(alt)}'>{heat}{drawn}{peak}</div>"
            f"<div class='tools' role='toolbar' aria-label='Picture {text(file)}'>{tools}</div></figure>"
        )

    def crop(self, picture: np.ndarray, caption: str, alt: str) -> str:
        address = self.keep(png(picture), f"{self.stem}-{caption.replace(' ', '-')}.png")
        return f"<figure><img src='{address}' alt='{text(alt)}'><figcaption>{caption}</figcaption></figure>"


def _line(lines: Sequence[np.ndarray], kind: str) -> str:
    """An SVG path of lines in shares of the picture, wide and dark below, thin and bright above."""
    if not lines:
        return ""
    path = "".join("M" + "L".join(f"{x:.4f} {y:.4f}" for x, y in line) for line in lines)
    return f"<path class='under {kind}' d='{path}'/><path class='line {kind}' d='{path}'/>"
