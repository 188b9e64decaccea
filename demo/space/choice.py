"""What a visitor can inspect: the category in words, and its examples as buttons."""

from functools import lru_cache
from pathlib import Path

import gradio as gr
from PIL import Image

from attentdiffernet.figures.one_file import inlined
from attentdiffernet.words import DETECTOR_TITLES

from ..markup import alert, text
from ..service import catalogue
from ..service.catalogue import Example

THUMBNAIL = 144  # px, shown at half of it for screens of double density

# A button in a gr.HTML sends its index.
CLICKED = """
element.addEventListener('click', event => {
    const button = event.target.closest('button[data-index]');
    if (button) trigger('click', {index: Number(button.dataset.index)});
});
"""


def clicked(event: gr.EventData) -> int:
    """The index of the button that was pressed; -1 for anything that CLICKED does not send."""
    index = event._data.get("index") if isinstance(event._data, dict) else None
    return index if isinstance(index, int) else -1


def category_html(key: str | None) -> str:
    """What is inspected, and which categories are not available on this machine, with the reason to unfold."""
    found = catalogue.categories()
    if not found:
        return alert("No models were found: train some with the command line (see README)")
    parts = []
    here = next((info for info in found if info.key == key), None)
    if here is not None:
        licence = f" Licence of the data: {text(here.licence)}." if here.licence else ""
        parts.append(f"<p>{text(here.description)}</p><p class='small'>{text(here.dataset_title)}.{licence}</p>")
        if left_out := catalogue.detectors_left_out(here.key):
            titles = ", ".join(DETECTOR_TITLES[name] for name in left_out)
            parts.append(_not_available(titles, f"They need {catalogue.WHY_NOT}."))
    for reason in dict.fromkeys(info.why_not for info in found if info.why_not):
        titles = ", ".join(text(info.title) for info in found if info.why_not == reason)
        parts.append(_not_available(titles, f"Each {reason}."))
    return "".join(parts)


def _not_available(titles: str, reason: str) -> str:
    """titles: HTML."""
    return (
        f"<details class='small'><summary>Not available on this machine: {titles}</summary>"
        f"<p>{text(reason)}</p></details>"
    )


def examples_of(key: str | None) -> tuple[Example, ...]:
    return next((info.examples for info in catalogue.categories() if info.key == key), ())


def example_of(key: str | None, path: str) -> Example | None:
    """The example of a category that an uploaded file is a copy of."""
    upload = Path(path)
    alike = (example for example in examples_of(key) if example.path.name == upload.name and upload.is_file())
    return next((example for example in alike if example.path.stat().st_size == upload.stat().st_size), None)


def is_example(path: str) -> bool:
    """Of any category."""
    return any(example_of(info.key, path) for info in catalogue.categories())


def examples_html(key: str | None) -> str:
    """A button for each example; the pictures are part of the page, so that none is fetched on its own."""
    buttons = "".join(
        f'<button type="button" data-index="{k}"><img src="{_thumbnail(example.path)}" alt="">'
        f"<span>{text(example.defect or 'good part')}</span>{_level(example)}</button>"
        for k, example in enumerate(examples_of(key))
    )
    return f'<p class="label">Or take an example</p><div class="examples">{buttons}</div>' if buttons else ""


def _level(example: Example) -> str:
    return f'<span class="level {example.level}">{example.level}</span>' if example.level else ""


@lru_cache(maxsize=256)
def _thumbnail(path: Path) -> str:
    return inlined(Image.open(path).convert("RGB"), THUMBNAIL)
