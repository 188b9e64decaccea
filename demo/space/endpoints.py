"""The same answers for programs: `/compare` and `/roc`."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from attentdiffernet.errors import AttentDifferNetError

from ..service import catalogue, comparison
from ..service.downloads import numbers
from ..service.roc import roc_page
from ..service.verdict import Comparison
from .files import map_file


def compare(
    images: list[str] | None, category: str, method: str = "grad-cam", detectors: str = ""
) -> Iterator[tuple[dict, list[str]]]:
    """Scores, verdicts and maps of one or several images by DifferNet, its attention variants and PatchCore.

    images: image files. category: DATASET/CATEGORY, for instance sample/wafer. method: grad-cam, attention or gradient,
    the map of DifferNet and its variants. detectors: some of none, se, cbam, patchcore-places with commas between;
    empty for all that the category has. Streams: verdicts are provisional until all views are scored. Returns the
    numbers, and the maps as PNG files.
    """
    paths, chosen = images or [], [name.strip() for name in detectors.split(",") if name.strip()] or None
    try:
        comparison.check_number(len(paths))
        catalogue.detectors(category, chosen)
        comparison.check_method(method)
    except AttentDifferNetError as error:
        raise gr.Error(str(error), print_exception=False) from error
    answers: list[dict[str, Any]] = []
    maps: list[str] = []
    for k, path in enumerate(paths):
        answers.append({"name": Path(path).name})
        try:
            for found in comparison.compare(path, category, method, chosen=chosen):
                answers[k], files = _answer(found)
                maps += files
                yield {"category": category, "method": method, "images": answers}, maps
                if files:  # what follows is for the page
                    break
        except AttentDifferNetError as error:
            answers[k]["error"] = str(error)
            yield {"category": category, "method": method, "images": answers}, maps


def _answer(found: Comparison) -> tuple[dict[str, Any], list[str]]:
    """The numbers of one image, and the files of its maps."""
    verdicts = {key: numbers(verdict) for key, verdict in found.verdicts.items()}
    files = {key: map_file(found, key, method) for key, method in found.heat.methods.items()} if found.heat else {}
    for key, file in files.items():
        verdicts[key]["map"] = Path(file).name
    return {"name": found.name, "verdicts": verdicts}, list(files.values())


def roc(category: str) -> dict:
    """Measured AUROC (in percent, with interval) of each run of a category, DATASET/CATEGORY."""
    try:
        page = roc_page(category)
        return {"category": category, "runs": [dataclasses.asdict(row) for row in page.rows]}
    except AttentDifferNetError as error:
        raise gr.Error(str(error), print_exception=False) from error


def add_endpoints() -> None:
    with gr.Column(visible=False):
        images = gr.File(file_count="multiple", label="images")
        category = gr.Textbox(label="category", placeholder="sample/wafer")
        method = gr.Textbox("grad-cam", label="method")
        detectors = gr.Textbox("", label="detectors", placeholder="none,patchcore-places")
        answer = gr.JSON(label="numbers")
        maps = gr.File(file_count="multiple", label="maps")
        gr.Button("compare").click(
            compare, [images, category, method, detectors], [answer, maps], api_name="compare", concurrency_id="compute"
        )
    gr.api(roc, api_name="roc")  # type: ignore[attr-defined]
