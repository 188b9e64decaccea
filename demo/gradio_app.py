"""The browser demo: places what `service` returns on a page, and offers the same as an endpoint, `/compare`.

A callback is a service call and the HTML around its answer. What a visitor uploaded lives in that visitor's session and
in Gradio's cache folder, both for an hour; nothing is loaded from other hosts and nothing is reported home.
"""

import base64
import dataclasses
import html
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
import matplotlib.pyplot  # noqa: F401  Gradio switches its backend at each call: a first import in two threads fails
import numpy as np
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.figures.palette import ANOMALOUS_COLOUR, NORMAL_COLOUR, VARIANT_COLOURS
from attentdiffernet.words import VARIANT_TITLES

from . import service
from .service import Comparison, Verdict

HERE = Path(__file__).parent
TITLE = "AttentDifferNet"
KEPT_S = 3600  # how long uploads, pictures and a visitor's session are kept
MAX_WAITING = 20
MAX_SESSIONS = 200  # a session holds scores, no pictures
THUMBNAIL = 144  # px, shown at half of it for sharp screens
IMAGE_HEIGHT = 300  # px; fixed, so that nothing moves while results stream in

Update = dict[Any, Any]


@dataclass(frozen=True)
class Upload:
    """One image of a visitor: what came of it so far. The comparison is kept without its pictures."""

    path: str
    comparison: Comparison | None = None
    error: str = ""

    @property
    def name(self) -> str:
        return Path(self.path).name


@dataclass(frozen=True)
class Session:
    """What one visitor looks at. Immutable: a cancelled run leaves the last whole one behind."""

    category: str = ""
    uploads: tuple[Upload, ...] = ()
    shown: int = 0

    @property
    def comparisons(self) -> list[Comparison]:
        return [upload.comparison for upload in self.uploads if upload.comparison is not None]

    def having(self, index: int, comparison: Comparison | None, error: str = "") -> "Session":
        light = comparison and dataclasses.replace(comparison, image=comparison.image[:0, :0], heat=None)
        upload = dataclasses.replace(self.uploads[index], comparison=light, error=error)
        return dataclasses.replace(self, uploads=(*self.uploads[:index], upload, *self.uploads[index + 1 :]))


class Turns:
    """Numbers a visitor's runs, so that one that has been overtaken can stop. Gradio's own `cancels` loses events, and
    logs errors, when a run is cancelled in its first moments."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, request: gr.Request) -> int:
        visitor = str(request.session_hash)
        with self._lock:
            turn = self._latest.pop(visitor, 0) + 1
            self._latest[visitor] = turn
            if len(self._latest) > MAX_SESSIONS:
                self._latest.popitem(last=False)
        return turn

    def over(self, turn: int, request: gr.Request) -> bool:
        return self._latest.get(str(request.session_hash), turn) != turn


turns = Turns()


# -- pieces of HTML


def text(value: object) -> str:
    """Escaped for HTML, and for gr.HTML, which reads `${...}` and `{{...}}` as templates: names come from strangers."""
    escaped = html.escape(str(value))
    return escaped.translate({ord(sign): f"&#{ord(sign)};" for sign in "{}$`\\"})


def number(value: float) -> str:
    """Four digits that mean something, so that a score and its threshold line up."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}"


def badge(verdict: Verdict) -> str:
    """The verdict as word, sign and colour; dashed while it may still change."""
    sign = "▲" if verdict.anomalous else "✓"
    classes = f"badge {verdict.word}{' provisional' if verdict.provisional else ''}"
    return f'<span class="{classes}"><span aria-hidden="true">{sign}</span> {verdict.word}</span>'


def views(verdict: Verdict) -> str:
    if verdict.provisional:
        return f"provisional, {verdict.n_views} of {verdict.n_views_wanted} views"
    return f"{verdict.n_views} views"


def conclusion(comparison: Comparison) -> str:
    """The verdicts in a sentence, for those who hear the page."""
    anomalous = [verdict.title for verdict in comparison.verdicts.values() if verdict.anomalous]
    who = " and ".join(anomalous) if len(anomalous) < len(comparison.verdicts) else "all variants"
    return f"{comparison.name}: {f'anomalous by {who}' if anomalous else 'normal by all variants'}."


def heading(variant: str, verdict: Verdict | None) -> str:
    said = (
        f'{badge(verdict)} <span class="views">{views(verdict)}</span>' if verdict else '<span class="views">…</span>'
    )
    return f'<h3 class="variant {variant}">{text(VARIANT_TITLES[variant])}</h3><p class="verdict">{said}</p>'


def details(verdict: Verdict, note: str) -> str:
    error = verdict.standard_error
    spread = f' <small title="standard error over views">± {error:.1g}</small>' if error == error else ""
    n = len(verdict.calibration_scores)
    return (
        f"<dl><div><dt>Anomaly score</dt><dd>{number(verdict.score)}{spread}</dd></div>"
        f"<div><dt>Threshold</dt><dd>{number(verdict.threshold)}</dd></div>"
        f"<div><dt>Higher than</dt><dd>{verdict.percentile:.0f} % of {n} held-out normals</dd></div></dl>"
        f'<div class="histogram">{verdict.histogram_svg}</div>'
        f'<p class="choices">{text(verdict.choices)}</p>'
        f'<p class="note">{text(note)}</p>'
    )


def alert(message: str) -> str:
    return f'<p class="alert" role="alert"><span aria-hidden="true">⚠</span> {text(message)}</p>'


def progress(done: float, message: str) -> str:
    return f'<p>{text(message)}</p><div class="progress"><div style="width: {done:.1%}"></div></div>'


def finished(message: str) -> str:
    return f"<p>{text(message)}</p>"


def inline_picture(picture: np.ndarray, alt: str) -> str:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img class="colour-bar" src="data:image/png;base64,{data}" alt="{text(alt)}">'


def category_text(key: str | None) -> str:
    """What is inspected, and what cannot be chosen now, with the reason to unfold."""
    found = service.categories()
    here = next((info for info in found if info.key == key), None)
    parts = []
    if here is not None:
        licence = f" Licence of the data: {text(here.licence)}." if here.licence else ""
        parts.append(f"<p>{text(here.description)}</p><p class='small'>{text(here.dataset_title)}.{licence}</p>")
    elif not found:
        parts.append(alert("No models are shipped: train some with the command line (see README)"))
    for reason in dict.fromkeys(info.why_not for info in found if info.why_not):
        titles = ", ".join(text(info.title) for info in found if info.why_not == reason)
        parts.append(
            f"<details class='small'><summary>Not available on this machine: {titles}</summary>"
            f"<p>Each {text(reason)}.</p></details>"
        )
    return "".join(parts)


def examples_of(key: str | None) -> tuple[Path, ...]:
    return next((info.examples for info in service.categories() if info.key == key), ())


def examples_html(key: str | None) -> str:
    """Buttons with a small picture each; the pictures stand in the page, so that nothing is fetched one by one."""
    buttons = "".join(
        f'<button type="button" data-index="{k}"><img src="{_thumbnail(path)}" alt="">'
        f"<span>{text(path.stem.replace('_', ' ').replace('-', ' '))}</span></button>"
        for k, path in enumerate(examples_of(key))
    )
    return f'<p class="label">Or take an example</p><div class="examples">{buttons}</div>' if buttons else ""


@lru_cache(maxsize=256)
def _thumbnail(path: Path) -> str:
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def clicked(event: gr.EventData) -> int:
    """Which button of a gr.HTML was pressed; -1 for anything that CLICKED does not send."""
    index = event._data.get("index") if isinstance(event._data, dict) else None
    return index if isinstance(index, int) else -1


def overview(session: Session) -> str:
    """The table of several images; a row's button shows it below."""
    head = "".join(f'<th scope="col" class="variant {v}">{text(t)}</th>' for v, t in VARIANT_TITLES.items())
    rows = []
    for k, upload in enumerate(session.uploads):
        shown = ' aria-current="true"' if k == session.shown else ""
        button = f'<button type="button" data-index="{k}"{shown}>{text(upload.name)}</button>'
        if upload.error:
            button = text(upload.name)
            cells = f'<td colspan="{len(VARIANT_TITLES)}">{alert(upload.error)}</td>'
        elif upload.comparison is None:
            cells = "<td>…</td>" * len(VARIANT_TITLES)
        else:
            found = [upload.comparison.verdicts.get(v) for v in VARIANT_TITLES]
            cells = "".join(f"<td>{badge(v)} {number(v.score)}</td>" if v else "<td></td>" for v in found)
        rows.append(f'<tr{shown}><th scope="row">{button}</th>{cells}</tr>')
    return (
        '<div class="scroll"><table><caption>All images: verdict and anomaly score. Choose one to see it below.'
        f'</caption><thead><tr><th scope="col">Image</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def roc_tables(page: service.RocPage) -> str:
    measured = "".join(
        f'<tr><th scope="row">{text(row.title)}</th><td>{text(row.backbone)}</td><td>{text(row.auroc)}</td>'
        f"<td>{text(row.difference)}</td><td>{row.n_normal} + {row.n_anomalous}</td><td>{text(row.detail)}</td></tr>"
        for row in page.rows
    )
    published = "".join(
        f'<tr><th scope="row">{text(method)}</th><td>{text(category)}</td><td>{100 * auroc:.2f} %</td>'
        f"<td>{text(source)}</td></tr>"
        for method, category, auroc, source in page.published[["method", "category", "auroc", "source"]].to_numpy()
    )
    return (
        "<h3>Measured here</h3>"
        + _table(
            ["Variant", "Backbone", "AUROC (95 %)", "Against DifferNet", "Images (normal + anomalous)", "Run"], measured
        )
        + "<h3>Published elsewhere</h3><p>Numbers that others report, copied from the sources named. They are never "
        "mixed with the measured ones: backbones, splits, views and the choice of epochs may differ.</p>"
        + (
            _table(["Method", "Category", "AUROC", "Source"], published)
            if published
            else "<p>None are known to us for this category.</p>"
        )
    )


def _table(columns: list[str], rows: str) -> str:
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


# -- files for download, in Gradio's cache: swept away after KEPT_S


def kept(data: bytes, name: str) -> str:
    return save_bytes_to_cache(data, name, get_upload_folder())


def picture_file(comparison: Comparison, variant: str = "") -> str:
    """The photograph, or a variant's map over it, as PNG."""
    stem = service.safe_stem(comparison.name)
    if not variant or comparison.heat is None:
        return kept(service.png(comparison.image), f"{stem}.png")
    return kept(service.png(comparison.overlay(variant)), f"{stem}-{variant}-{comparison.heat.method}.png")


# -- the endpoint


def compare(images: list[str] | None, category: str, method: str = "grad-cam") -> Iterator[tuple[dict, list[str]]]:
    """Scores, verdicts and maps of one or several images by DifferNet, AttentDifferNet (SE) and AttentDifferNet (CBAM).

    images: image files. category: DATASET/CATEGORY, for instance sample/wafer. method: grad-cam, attention or gradient.
    Streams: verdicts are provisional until all views are scored. Returns the numbers, and the maps as PNG files.
    """
    answers: list[dict[str, Any]] = []
    maps: list[str] = []
    paths = images or []
    try:
        check(paths)
        service.category(category)
        service.check_method(method)
    except AttentDifferNetError as error:
        raise gr.Error(str(error), print_exception=False) from error
    for k, path in enumerate(paths):
        answers.append({"name": Path(path).name})
        try:
            for comparison in service.compare(path, category, method):
                answers[k] = numbers(comparison)
                if comparison.heat is not None:
                    files = {variant: picture_file(comparison, variant) for variant in comparison.heat.heat}
                    for variant, file in files.items():
                        answers[k]["verdicts"][variant]["map"] = Path(file).name
                    maps += files.values()
                yield {"category": category, "method": method, "images": answers}, maps
        except AttentDifferNetError as error:
            answers[k]["error"] = str(error)
            yield {"category": category, "method": method, "images": answers}, maps


def numbers(comparison: Comparison) -> dict[str, Any]:
    fields = ["title", "score", "threshold", "anomalous", "percentile", "n_views", "n_views_wanted", "provisional"]
    return {
        "name": comparison.name,
        "verdicts": {
            variant: {field: getattr(verdict, field) for field in fields} | {"attention": verdict.choices}
            for variant, verdict in comparison.verdicts.items()
        },
    }


def check(paths: list[str]) -> None:
    if not paths:
        raise AttentDifferNetError("No image came; give one image file or several")
    if len(paths) > service.MAX_IMAGES:
        raise AttentDifferNetError(f"{len(paths)} images came; the limit is {service.MAX_IMAGES} at once")


# -- the page


class Results:
    """The part of the page that shows one image; its components, and the updates that fill them."""

    def __init__(self) -> None:
        with gr.Column(visible=False, elem_id="results") as self.section:
            with gr.Row(elem_classes="legend"):
                with gr.Column(min_width=320):
                    self.method = gr.Radio(
                        [(title, name) for name, title in service.METHODS.items()], value="grad-cam", label="Map"
                    )
                with gr.Column(min_width=320):
                    self.bar = gr.HTML(elem_id="bar")
            with gr.Row(elem_classes="cards"):
                with gr.Column(min_width=240, elem_classes="card"):
                    self.file = gr.HTML(js_on_load=SCROLL_TO_RESULTS)
                    self.image = self._picture("Photograph")
                    self.legend = gr.HTML(elem_classes="details")
                self.heads, self.maps, self.details = {}, {}, {}
                for variant, title in VARIANT_TITLES.items():
                    with gr.Column(min_width=240, elem_classes="card", elem_id=f"card-{variant}"):
                        self.heads[variant] = gr.HTML(heading(variant, None))
                        self.maps[variant] = self._picture(title)
                        self.details[variant] = gr.HTML(elem_classes="details")

    @staticmethod
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

    @property
    def components(self) -> list[Any]:
        shown = [self.section, self.bar, self.file, self.image, self.legend]
        return [*shown, *self.heads.values(), *self.maps.values(), *self.details.values()]

    def filled(self, comparison: Comparison, first: bool) -> Update:
        """first: of this image. Pictures are sent with the first verdicts and with the maps, not in between."""
        height, width = comparison.image.shape[:2]
        heat = comparison.heat
        photograph = picture_file(comparison) if first else None
        update: Update = {self.section: gr.Column(visible=True)}
        for variant, verdict in comparison.verdicts.items():
            update[self.heads[variant]] = heading(variant, verdict)
            note = heat.notes.get(variant, "") if heat else "The map follows when all views are scored."
            update[self.details[variant]] = details(verdict, note)
        if first:
            update[self.file] = f'<h3>Photograph</h3><p class="verdict file">{text(comparison.name)}</p>'
            update[self.image] = gr.Image(photograph, alt_text=f"Photograph {comparison.name}")
            update[self.legend] = (
                f"<p>{width} × {height} px as shown, {text(comparison.category.title)}.</p>"
                "<p class='note'>Scores have no unit and no upper end, and are no probabilities. They compare with the "
                "threshold of the same variant, not with another variant's score.</p>"
            )
        if heat:
            low, high = heat.scale
            alt = f"Colour scale: none up to what normals reach, brightest at {2.0**high:.3g} times that"
            update[self.bar] = inline_picture(service.heat_bar((low, high)), alt)
        if first or heat:
            for variant, verdict in comparison.verdicts.items():
                shown = f"{heat.title} of {verdict.title} over" if heat else "Photograph"
                alt = f"{shown} {comparison.name}; verdict: {verdict.word}"
                file = picture_file(comparison, variant) if heat else photograph
                update[self.maps[variant]] = gr.Image(file, alt_text=alt)
        return update


def build() -> gr.Blocks:
    """The whole page. Theme, style sheet and limits belong to `launch_options`."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(KEPT_S // 6, KEPT_S), fill_width=True) as page:
        gr.HTML(
            f"<header><h1>{TITLE}</h1><p>Finds defects after seeing only good parts. DifferNet and its two attention "
            "variants look at the same photograph, side by side.</p></header>"
        )
        with gr.Tabs():
            with gr.Tab("Inspect", id="inspect"):
                _inspect()
            with gr.Tab("ROC curves", id="roc") as roc_tab:
                _roc(roc_tab)
            with gr.Tab("About", id="about"):
                gr.Markdown((HERE / "about.md").read_text(encoding="utf-8"), elem_classes="about")
        _endpoints()
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)
    return page


def _inspect() -> None:
    usable = [info for info in service.categories() if not info.why_not]
    start = usable[0].key if usable else None
    session = gr.State(Session(), time_to_live=KEPT_S)
    with gr.Row(elem_classes="controls"):
        with gr.Column(min_width=280):
            category = gr.Dropdown(
                [(info.title, info.key) for info in usable], value=start, label="Category", filterable=False
            )
            about = gr.HTML(category_text(start), elem_id="category-text")
        files = gr.File(
            file_count="multiple",
            label=f"Your photographs (up to {service.MAX_IMAGES})",
            height=190,
            min_width=280,
            elem_id="upload",
        )
        with gr.Column(min_width=280):
            examples = gr.HTML(examples_html(start), elem_id="examples", js_on_load=CLICKED)
    # Read out by screen readers as it changes; in place from the start, or the first message would go unheard.
    live = "element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite')"
    status = gr.HTML(
        finished("Drop photographs in, or take an example." if usable else ""), elem_id="status", js_on_load=live
    )
    table = gr.HTML(visible=False, elem_id="overview", js_on_load=CLICKED)
    results = Results()
    with gr.Row(visible=False, elem_id="downloads") as downloads:
        csv_file = gr.DownloadButton("Numbers (CSV)", size="md", elem_id="csv")
        zip_button = gr.Button("Maps and images (ZIP)", size="md", elem_id="zip")
        zip_file = gr.DownloadButton("ZIP", elem_id="zip-file")  # hidden by style; pressed when the file is made
    turn = gr.Number(0, precision=0, visible="hidden")  # a new number starts a run
    everything = [session, status, table, downloads, csv_file, *results.components]

    def seen(now: Session) -> Update:
        """What changes beside the one image shown: the table of several, the downloads."""
        several = len(now.uploads) > 1
        update: Update = {session: now, table: gr.HTML(overview(now) if several else "", visible=several)}
        if now.comparisons:
            name = f"{now.category.replace('/', '-')}.csv"
            update[csv_file] = kept(service.numbers_csv(now.comparisons).encode(), name)
        return update

    def run(mine: int, paths: list[str] | None, key: str | None, method: str, request: gr.Request) -> Iterator[Update]:
        """Stops where the visitor has moved on to other images."""
        for update in look_at(paths, key, method):
            if turns.over(mine, request):
                return
            yield update

    def look_at(paths: list[str] | None, key: str | None, method: str) -> Iterator[Update]:
        """All images, one after the other; the first that can be read is shown as it is scored."""
        now = Session(key or "", tuple(Upload(path) for path in paths or ()))
        nothing = {results.section: gr.Column(visible=False), downloads: gr.Row(visible=False)}
        if not now.uploads:
            yield {**seen(now), **nothing, status: finished("Drop photographs in, or take an example.")}
            return
        try:
            check(list(paths or ()))
        except AttentDifferNetError as error:
            yield {**seen(Session()), **nothing, status: alert(str(error))}
            return
        n, shown = len(now.uploads), None
        for k, upload in enumerate(now.uploads):
            which = upload.name if n == 1 else f"{upload.name}, {k + 1} of {n}"
            yield {**seen(now), **(nothing if shown is None else {}), status: progress(k / n, f"Reading {which} …")}
            try:
                first = True
                for comparison in service.compare(upload.path, now.category, method):
                    now = now.having(k, comparison)
                    verdict = next(iter(comparison.verdicts.values()))
                    share = verdict.n_views / verdict.n_views_wanted
                    said = f"provisional, {verdict.n_views} of {verdict.n_views_wanted} views"
                    said = said if verdict.provisional else "all views scored, maps follow"
                    update: Update = {status: progress((k + 0.9 * share) / n, f"{which}: {said}")}
                    if shown in (None, k):
                        shown = k
                        now = dataclasses.replace(now, shown=k)
                        update |= results.filled(comparison, first)
                    if n > 1:
                        update[table] = gr.HTML(overview(now), visible=True)
                    yield update
                    first = False
            except AttentDifferNetError as error:
                now = now.having(k, None, str(error))
        errors = [upload.error for upload in now.uploads if upload.error]
        if n == 1 and errors:
            yield {**seen(now), **nothing, status: alert(errors[0])}
            return
        done = f"Done: {n - len(errors)} of {n} images." if n > 1 else f"Done. {conclusion(now.comparisons[0])}"
        yield {**seen(now), downloads: gr.Row(visible=shown is not None), status: finished(done)}

    def show(now: Session, method: str, pick: int | None = None) -> Iterator[Update]:
        """Another map, or another of several images: scores are remembered by the service."""
        k = now.shown if pick is None else pick
        if not 0 <= k < len(now.uploads) or now.uploads[k].error:
            yield {status: gr.skip()}
            return
        name = now.uploads[k].name
        try:
            first = pick is not None
            for comparison in service.compare(now.uploads[k].path, now.category, method):
                update = {status: progress(0.5, f"{name} …"), **results.filled(comparison, first)}
                first = False
                yield update
            now = dataclasses.replace(now.having(k, comparison), shown=k)
            yield {**seen(now), status: finished(f"{service.METHODS[method]} of {name}.")}
        except AttentDifferNetError as error:
            yield {status: alert(str(error))}

    def pick_row(now: Session, method: str, event: gr.EventData) -> Iterator[Update]:
        yield from show(now, method, clicked(event))

    def make_zip(now: Session, method: str) -> Iterator[Update]:
        """Made anew when asked for: maps of all images, by the method chosen."""
        readable = [upload for upload in now.uploads if not upload.error]
        whole = []
        try:
            for k, upload in enumerate(readable):
                yield {status: progress(k / len(readable), f"Packing {upload.name} …"), zip_file: gr.skip()}
                *_, comparison = service.compare(upload.path, now.category, method)
                whole.append(comparison)
            name = f"{now.category.replace('/', '-')}-{method}.zip"
            yield {zip_file: kept(service.maps_zip(whole), name), status: finished("The ZIP file is ready.")}
        except AttentDifferNetError as error:
            yield {status: alert(str(error)), zip_file: None}

    def choose_category(key: str | None, paths: list[str] | None, request: gr.Request) -> Update:
        """Uploads stay and are looked at anew; another category's example goes."""
        own = [path for path in paths or () if not _is_example(path)]
        update = {about: category_text(key), examples: examples_html(key), files: gr.skip(), turn: gr.skip()}
        if len(own) != len(paths or ()):
            return update | {files: own or None}  # which starts a run
        return update | ({turn: turns.take(request)} if own else {})

    def choose_example(key: str | None, event: gr.EventData) -> Update:
        found, k = examples_of(key), clicked(event)
        return {files: [str(found[k])] if 0 <= k < len(found) else gr.skip()}

    private: dict[str, Any] = {"api_visibility": "private"}
    # One visitor's work at a time: torch uses all cores for it. Progress is told in words, beside the results.
    work: dict[str, Any] = private | {
        "concurrency_id": "compute",
        "show_progress": "minimal",
        "show_progress_on": [status],
        "trigger_mode": "multiple",
    }
    at_once: dict[str, Any] = private | {"queue": False, "show_progress": "hidden", "trigger_mode": "multiple"}
    turn.change(run, [turn, files, category, results.method], everything, **work)
    results.method.input(show, [session, results.method], everything, **work)
    table.click(pick_row, [session, results.method], everything, **work)
    files.change(turns.take, None, turn, **at_once)
    category.input(choose_category, [category, files], [about, examples, files, turn], **at_once)
    examples.click(choose_example, category, files, **at_once)
    zip_button.click(make_zip, [session, results.method], [zip_file, status], **work).success(
        None, js="() => document.querySelector('#zip-file')?.click()", **private
    )


def _is_example(path: str) -> bool:
    upload = Path(path)
    alike = (example for info in service.categories() for example in info.examples if example.name == upload.name)
    return any(upload.is_file() and example.stat().st_size == upload.stat().st_size for example in alike)


def _roc(tab: gr.Tab) -> None:
    gr.Markdown(
        "How many defects are found for how many false alarms, at every threshold. All curves are computed from the "
        "committed score files; bands and intervals are 95 %."
    )
    choice = gr.Dropdown(label="Data set and category", filterable=False, elem_id="roc-category")
    with gr.Row():
        with gr.Column(min_width=340, scale=5):
            plot = gr.Plot(show_label=False, container=False, elem_id="roc-plot")
        with gr.Column(min_width=340, scale=7):
            tables = gr.HTML(elem_id="roc-tables")

    def draw(key: str | None) -> Update:
        try:
            found = service.roc_page(key or "")
        except AttentDifferNetError as error:
            return {plot: None, tables: alert(str(error))}
        return {plot: found.figure(), tables: roc_tables(found)}

    def enter(key: str | None) -> Update:
        keys = service.measured_categories()
        if not keys:
            none = "<p>No results are shipped yet: <code>make results</code> builds them from score files.</p>"
            return {choice: gr.Dropdown(visible=False), plot: None, tables: none}
        key = key if key in keys else keys[0]
        titled = [(service.category_title(key), key) for key in keys]
        return {choice: gr.Dropdown(titled, value=key, visible=True), **draw(key)}

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    tab.select(enter, choice, [choice, plot, tables], **quiet)  # drawn when looked at: Plotly's code is large
    choice.input(draw, choice, [plot, tables], **quiet)


def roc(category: str) -> dict:
    """Measured AUROC (in percent, with interval) of each run of a category, DATASET/CATEGORY."""
    try:
        return {"category": category, "runs": [dataclasses.asdict(row) for row in service.roc_page(category).rows]}
    except AttentDifferNetError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _endpoints() -> None:
    with gr.Column(visible=False):
        images = gr.File(file_count="multiple", label="images")
        category = gr.Textbox(label="category", placeholder="sample/wafer")
        method = gr.Textbox("grad-cam", label="method")
        answer = gr.JSON(label="numbers")
        maps = gr.File(file_count="multiple", label="maps")
        gr.Button("compare").click(
            compare, [images, category, method], [answer, maps], api_name="compare", concurrency_id="compute"
        )
    gr.api(roc, api_name="roc")


def launch_options() -> dict[str, Any]:
    """For `Blocks.launch`; GRADIO_SERVER_NAME (set by Spaces) and GRADIO_SERVER_PORT win over 127.0.0.1 and 7860."""
    mono = ["ui-monospace", "monospace"]
    theme = gr.themes.Base(
        primary_hue="blue", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=mono, radius_size="md"
    ).set(body_text_color_subdued="*neutral_500", body_text_color_subdued_dark="*neutral_400")  # readable: contrast 4.5
    return {
        "theme": theme,
        "css": STYLE,
        "footer_links": ["api"],
        "run_history": False,  # would keep a visitor's calls in the browser
        "max_file_size": "100mb",
        "allowed_paths": [str(service.EXAMPLES)],
        "state_session_capacity": MAX_SESSIONS,
        "ssr_mode": False,
        "share": False,
        "quiet": True,
    }


# On a narrow page results lie below the fold: go there when they come.
SCROLL_TO_RESULTS = """
const scroll = () => innerWidth < 800 && setTimeout(() => document.querySelector('#status')?.scrollIntoView(), 200);
watch('value', scroll);
scroll();
"""

# A button in gr.HTML says which it is.
CLICKED = """
element.addEventListener('click', event => {
    const button = event.target.closest('button[data-index]');
    if (button) trigger('click', {index: Number(button.dataset.index)});
});
"""

STYLE = (
    "".join(f".variant.{variant} {{ --variant: {colour}; }}\n" for variant, colour in VARIANT_COLOURS.items())
    + f".badge.normal {{ --badge: {NORMAL_COLOUR}; }}\n.badge.anomalous {{ --badge: {ANOMALOUS_COLOUR}; }}\n"
    + (HERE / "gradio_app.css").read_text(encoding="utf-8")
)
