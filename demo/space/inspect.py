"""The tab that inspects a visitor's images."""

from collections.abc import Generator, Iterator
from typing import Any

import gradio as gr

from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.words import VARIANT_TITLES, score_text

from ..markup import badge, text
from ..service import catalogue
from ..service.comparison import MAX_IMAGES, check_number, compare
from ..service.downloads import maps_zip, numbers_csv
from ..service.verdict import MAPS, Comparison
from .choice import CLICKED, category_html, clicked, examples_html, examples_of, is_example
from .files import kept
from .results import Results, Update
from .session import KEPT_S, Session, Turns, Upload
from .status import alert, finished, progress

INVITATION = "Drop photographs in, or take an example."

# Screen readers read the status aloud as it changes. The attributes stand from the start: set together with the first
# message, that message would not be read.
LIVE = "element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite')"

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
AT_ONCE: dict[str, Any] = {**PRIVATE, "queue": False, "show_progress": "hidden", "trigger_mode": "multiple"}


class Inspect:
    """The components of the tab, and a method for each action of the visitor. What a method yields is an update."""

    def __init__(self) -> None:
        usable = [(info.title, key) for key, info in catalogue.usable_categories().items()]
        start = usable[0][1] if usable else None
        self.turns = Turns()
        self.session = gr.State(Session(), time_to_live=KEPT_S)
        with gr.Row(elem_classes="controls"):
            with gr.Column(min_width=280):
                self.category = gr.Dropdown(usable, value=start, label="Category", filterable=False)
                self.about = gr.HTML(category_html(start), elem_id="category-text")
            self.files = gr.File(
                file_count="multiple",
                label=f"Your photographs (up to {MAX_IMAGES})",
                height=190,
                min_width=280,
                elem_id="upload",
            )
            with gr.Column(min_width=280):
                self.examples = gr.HTML(examples_html(start), elem_id="examples", js_on_load=CLICKED)
        self.status = gr.HTML(finished(INVITATION if usable else ""), elem_id="status", js_on_load=LIVE)
        self.table = gr.HTML(visible=False, elem_id="overview", js_on_load=CLICKED)
        self.results = Results()
        with gr.Row(visible=False, elem_id="downloads") as self.downloads:
            self.csv_file = gr.DownloadButton("Numbers (CSV)", size="md", elem_id="csv")
            self.zip_button = gr.Button("Maps and images (ZIP)", size="md", elem_id="zip")
            # Hidden by the style sheet; pressed by a script when the file is ready.
            self.zip_file = gr.DownloadButton("ZIP", elem_id="zip-file")
        self.turn = gr.Number(0, precision=0, visible="hidden")  # a new number starts a run
        self._connect()

    def _connect(self) -> None:
        # One visitor's work at a time, because torch uses all cores for it. The status line shows the progress.
        work: dict[str, Any] = {
            **PRIVATE,
            "concurrency_id": "compute",
            "show_progress": "minimal",
            "show_progress_on": [self.status],
            "trigger_mode": "multiple",
        }
        method, choice = self.results.method, [self.files, self.category, self.results.method]
        shown = [self.session, self.status, self.table, self.downloads, self.csv_file, *self.results.components]
        self.turn.change(self.run, [self.turn, *choice], shown, **work)
        method.input(self.show, [self.session, method], shown, **work)
        self.table.click(self.pick_row, [self.session, method], shown, **work)
        self.files.change(self.turns.take, None, self.turn, **AT_ONCE)
        offered = [self.about, self.examples, self.files, self.turn]
        self.category.input(self.choose_category, [self.category, self.files], offered, **AT_ONCE)
        self.examples.click(self.choose_example, self.category, self.files, **AT_ONCE)
        packed = self.zip_button.click(self.make_zip, [self.session, method], [self.zip_file, self.status], **work)
        packed.success(None, js="() => document.querySelector('#zip-file')?.click()", **PRIVATE)

    # -- choosing

    def choose_category(self, key: str | None, paths: list[str] | None, request: gr.Request) -> Update:
        """Uploads stay and are inspected again; an example of another category goes."""
        own = [path for path in paths or () if not is_example(path)]
        update: Update = {self.about: category_html(key), self.examples: examples_html(key)}
        update |= {self.files: gr.skip(), self.turn: gr.skip()}
        if len(own) != len(paths or ()):
            return update | {self.files: own or None}  # which starts a run
        return update | ({self.turn: self.turns.take(request)} if own else {})

    def choose_example(self, key: str | None, event: gr.EventData) -> Update:
        found, k = examples_of(key), clicked(event)
        return {self.files: [str(found[k])] if 0 <= k < len(found) else gr.skip()}

    # -- inspecting

    def run(
        self, turn: int, paths: list[str] | None, key: str | None, method: str, request: gr.Request
    ) -> Iterator[Update]:
        """Inspects all images; stops if the visitor has moved on to other images."""
        for update in self._inspect(Session(key or "", tuple(Upload(path) for path in paths or ())), method):
            if self.turns.over(turn, request):
                return
            yield update

    def _inspect(self, now: Session, method: str) -> Iterator[Update]:
        """All images, one after the other; the first that can be read is shown as it is scored."""
        if not now.uploads:
            yield self._nothing(now, finished(INVITATION))
            return
        try:
            check_number(len(now.uploads))
        except AttentDifferNetError as error:
            yield self._nothing(Session(), alert(str(error)))
            return
        for k in range(len(now.uploads)):
            now = yield from self._inspect_one(now, k, method)
        yield self._done(now)

    def _inspect_one(self, now: Session, k: int, method: str) -> Generator[Update, None, Session]:
        """Yields updates while image k is scored; returns the session with its result."""
        upload, n = now.uploads[k], len(now.uploads)
        which = upload.name if n == 1 else f"{upload.name}, {k + 1} of {n}"
        reading = progress(k / n, f"Reading {which} …")
        yield self._nothing(now, reading) if now.shown is None else {**self._overview(now), self.status: reading}
        first = True
        try:
            for comparison in compare(upload.path, now.category, method):
                now = now.with_result(k, comparison)
                update: Update = {self.status: _progress_of(comparison, which, k, n)}
                if now.shown in (None, k):
                    now = now.showing(k)
                    update |= self.results.filled(comparison, first)
                if n > 1:
                    update[self.table] = gr.HTML(overview_html(now), visible=True)
                yield update
                first = False
        except AttentDifferNetError as error:
            return now.with_result(k, None, str(error))
        return now

    def _done(self, now: Session) -> Update:
        if now.shown is None and len(now.uploads) == 1:
            return self._nothing(now, alert(now.errors[0]))
        n, bad = len(now.uploads), len(now.errors)
        done = f"Done. {conclusion(now.comparisons[0])}" if n == 1 else f"Done: {n - bad} of {n} images."
        downloads = gr.Row(visible=now.shown is not None)
        return {**self._overview(now), self.downloads: downloads, self.status: finished(done)}

    def _nothing(self, now: Session, status: str) -> Update:
        """No image is shown."""
        hidden = {**self.results.hidden(), self.downloads: gr.Row(visible=False)}
        return {**self._overview(now), **hidden, self.status: status}

    def _overview(self, now: Session) -> Update:
        """All that changes apart from the one image shown: the table of several images, the CSV file."""
        several = len(now.uploads) > 1
        update: Update = {
            self.session: now,
            self.table: gr.HTML(overview_html(now) if several else "", visible=several),
        }
        if now.comparisons:
            update[self.csv_file] = kept(numbers_csv(now.comparisons).encode(), f"{now.category.replace('/', '-')}.csv")
        return update

    # -- looking closer

    def pick_row(self, now: Session, method: str, event: gr.EventData) -> Iterator[Update]:
        yield from self.show(now, method, clicked(event))

    def show(self, now: Session, method: str, pick: int | None = None) -> Iterator[Update]:
        """Another map or, with pick, another image. The service remembers scores."""
        k = now.shown if pick is None else pick
        if k is None or not 0 <= k < len(now.uploads) or now.uploads[k].error:
            yield {self.status: gr.skip()}
            return
        upload, first = now.uploads[k], pick is not None
        try:
            for comparison in compare(upload.path, now.category, method):
                now = now.with_result(k, comparison).showing(k)
                yield {self.status: progress(0.5, f"{upload.name} …"), **self.results.filled(comparison, first)}
                first = False
            yield {**self._overview(now), self.status: finished(f"{MAPS[method]} of {upload.name}.")}
        except AttentDifferNetError as error:
            yield {self.status: alert(str(error))}

    def make_zip(self, now: Session, method: str) -> Iterator[Update]:
        """Maps of all images by the method chosen, made when asked for."""
        readable = [upload for upload in now.uploads if not upload.error]
        finals: list[Comparison] = []
        try:
            for k, upload in enumerate(readable):
                packing = progress(k / len(readable), f"Packing {upload.name} …")
                yield {self.status: packing, self.zip_file: gr.skip()}
                *_, final = compare(upload.path, now.category, method)
                finals.append(final)
            file = kept(maps_zip(finals), f"{now.category.replace('/', '-')}-{method}.zip")
            yield {self.zip_file: file, self.status: finished("The ZIP file is ready.")}
        except AttentDifferNetError as error:
            yield {self.status: alert(str(error)), self.zip_file: None}


def _progress_of(comparison: Comparison, which: str, k: int, n: int) -> str:
    return progress((k + 0.9 * comparison.progress) / n, f"{which}: {comparison.progress_text}")


def conclusion(comparison: Comparison) -> str:
    """The verdicts in a sentence, for those who listen to the page."""
    anomalous = [verdict.title for verdict in comparison.verdicts.values() if verdict.anomalous]
    who = " and ".join(anomalous) if len(anomalous) < len(comparison.verdicts) else "all variants"
    return f"{comparison.name}: {f'anomalous by {who}' if anomalous else 'normal by all variants'}."


def overview_html(session: Session) -> str:
    """The table of several images; a row's button shows it below."""
    head = "".join(f'<th scope="col" class="variant {v}">{text(t)}</th>' for v, t in VARIANT_TITLES.items())
    rows = "".join(_row(k, upload, k == session.shown) for k, upload in enumerate(session.uploads))
    return (
        '<div class="scroll"><table><caption>All images: verdict and anomaly score. Choose one to see it below.'
        f'</caption><thead><tr><th scope="col">Image</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _row(k: int, upload: Upload, is_shown: bool) -> str:
    current = ' aria-current="true"' if is_shown else ""
    name = f'<button type="button" data-index="{k}"{current}>{text(upload.name)}</button>'
    if upload.error:
        name = text(upload.name)
        cells = f'<td colspan="{len(VARIANT_TITLES)}">{alert(upload.error)}</td>'
    elif upload.comparison is None:
        cells = "<td>…</td>" * len(VARIANT_TITLES)
    else:
        found = [upload.comparison.verdicts.get(variant) for variant in VARIANT_TITLES]
        cells = "".join(
            f"<td>{badge(v.anomalous, v.provisional)} {score_text(v.score)}</td>" if v else "<td></td>" for v in found
        )
    return f'<tr{current}><th scope="row">{name}</th>{cells}</tr>'
