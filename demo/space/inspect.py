"""The tab that inspects a visitor's images."""

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.figures.one_file import small_jpeg
from attentdiffernet.words import DETECTOR_TITLES, VARIANT_TITLES

from ..markup import alert
from ..service import catalogue
from ..service.comparison import MAX_IMAGES, check_number, compare, counts, maps_offered
from ..service.downloads import MapsZip, numbers_csv, numbers_json
from ..service.naming import safe_stem
from ..service.rate import USUAL, on_slider
from ..service.rate import asked as asked_rate
from ..service.verdict import MAPS, Comparison, listed
from .choice import CLICKED, THUMBNAIL, category_html, clicked, example_of, examples_html, examples_of, is_example
from .files import being_written, kept, on_page
from .inspected_table import inspected_html, on_top
from .results import Results, Update
from .session import KEPT_S, Session, Turns, Upload
from .status import LIVE, finished, progress, seen
from .verdict_table import BEHAVIOUR

INVITATION = (
    "Drop or paste photographs, or take an example. For parts of another kind, train on good ones first: tab Train."
)
WRITE_ADDRESS = (Path(__file__).parent / "address.js").read_text(encoding="utf-8")

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
AT_ONCE: dict[str, Any] = {**PRIVATE, "queue": False, "show_progress": "hidden", "trigger_mode": "multiple"}


class Inspect:
    """The components of the tab, and a method for each action of the visitor. What a method yields is an update."""

    def __init__(self) -> None:
        usable = [(info.title, key) for key, info in catalogue.usable_categories().items()]
        start = catalogue.start()
        self.turns = Turns()
        self.session = gr.State(Session(), time_to_live=KEPT_S)
        with gr.Row(elem_classes="controls"):
            with gr.Column(min_width=280):
                self.category = gr.Dropdown(usable, value=start, label="Category", filterable=False)
                self.about = gr.HTML(category_html(start), elem_id="category-text")
            with gr.Column(min_width=280):
                self.files = gr.File(
                    file_count="multiple", label=f"Your photographs (up to {MAX_IMAGES})", height=150, elem_id="upload"
                )
                self.detectors = gr.CheckboxGroup(**_offered_detectors(start), label="Detectors", elem_id="detectors")
            with gr.Column(min_width=280):
                self.examples = gr.HTML(examples_html(start), elem_id="examples", js_on_load=CLICKED)
        self.notice = gr.HTML(elem_classes=seen(False), elem_id="notice")
        self.status = gr.HTML(
            finished(INVITATION if usable else ""), elem_id="status", js_on_load=LIVE, elem_classes="status"
        )
        self.table = gr.HTML(elem_classes=seen(False), elem_id="overview", js_on_load=BEHAVIOUR)
        self.results = Results()
        with gr.Row(elem_classes=seen(False), elem_id="downloads") as self.downloads:
            self.csv_file = gr.DownloadButton("Numbers (CSV)", size="md", elem_id="csv")
            self.json_file = gr.DownloadButton("Numbers (JSON)", size="md", elem_id="json")
            self.zip_button = gr.Button("Maps and images (ZIP)", size="md", elem_id="zip")
            # Hidden by the style sheet; pressed by a script when the file is ready.
            self.zip_file = gr.DownloadButton("ZIP", elem_id="zip-file")
        self.turn = gr.Number(0, precision=0, visible="hidden")  # a new number starts a run
        self.step = gr.Number(0, precision=0, visible="hidden")  # a new number goes on with its next image
        self.before = gr.State(start)  # the category whose detectors are offered
        self.example = gr.Textbox("", visible="hidden")  # the name of the example shown, for the address
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
        method, own_scale = self.results.method, self.results.own_scale
        rate = self.results.rate
        choice = [self.files, self.category, self.detectors, method, own_scale, rate]
        files = [self.csv_file, self.json_file]
        shown = [self.session, self.status, self.table, self.downloads, *files, *self.results.components]
        self.turn.change(self.run, [self.turn, *choice], [self.step, *shown], **work)
        going_on = [self.step, self.session, method, own_scale]
        self.step.change(self.go_on, going_on, [self.step, *shown], **work)
        for control in (method, own_scale):
            control.input(self.show, [self.session, method, own_scale], shown, **work)
        judging = [rate, self.session, method, own_scale]
        rate.input(self.judge_again, judging, shown, **(work | {"trigger_mode": "always_last"}))
        self.table.click(self.pick_row, [self.session, method, own_scale], shown, **work)
        self.files.change(
            self.choose_files,
            [self.files, self.category, self.example],
            [self.files, self.example, self.turn],
            **AT_ONCE,
        )
        self.detectors.input(self.turns.take, None, self.turn, **AT_ONCE)
        chosen = [self.category, self.before, self.files, self.detectors]
        offered = [self.about, self.examples, self.files, self.turn, self.before, self.detectors, method, self.notice]
        self.category.input(self.choose_category, chosen, offered, **AT_ONCE)
        taken = self.results.stranger.click(
            self.take_offer, [self.session, *chosen], [self.category, *offered], **AT_ONCE
        )
        taken.success(self.turns.take, None, self.turn, **AT_ONCE)  # by then the page holds the new detectors
        self.examples.click(self.choose_example, self.category, self.files, **AT_ONCE)
        packing = [self.session, method, own_scale]
        packed = self.zip_button.click(self.make_zip, packing, [self.zip_file, self.status], **work)
        packed.success(None, js="() => document.querySelector('#zip-file')?.click()", **PRIVATE)
        in_address: list[Any] = [self.category, self.detectors, method, own_scale, self.example, rate]
        for part in in_address:
            part.change(None, in_address, js=WRITE_ADDRESS, **PRIVATE)

    # -- choosing

    @property
    def restored(self) -> list[Any]:
        """What `restore` fills."""
        shown = [self.category, self.before, self.about, self.examples, self.detectors, self.notice, self.files]
        return [*shown, self.results.method, self.results.own_scale, self.results.rate]

    def restore(self, request: gr.Request) -> Update:
        """The choice that stands in the page's address. What is unknown there falls back, which is said."""
        asked, unknown = dict(request.query_params), []
        if not asked:  # the page is as it was built; a visitor may have chosen something already
            return {self.notice: gr.skip()}
        key = asked.get("category", catalogue.start())
        if key not in catalogue.usable_categories():
            unknown += [f"category {key!r}"] if key else []
            key = catalogue.start()
        known = catalogue.detector_names(key) if key else []
        wanted = [name for name in asked.get("detectors", "").split(",") if name]
        unknown += [f"detector {name!r}" for name in wanted if name not in known]
        offered = maps_offered(key) if key else MAPS
        if (method := asked.get("map", "")) not in ("", *offered):
            unknown.append(f"map {method!r}")
        if (scale := asked.get("scale", "")) not in ("", "own"):
            unknown.append(f"scale {scale!r}")
        if (rate := asked_rate(asked.get("rate", str(on_slider(USUAL))))) is None:
            unknown.append(f"rate {asked['rate']!r}")
        example = next((one for one in examples_of(key) if one.name == asked.get("example")), None)
        if asked.get("example") and example is None:
            unknown.append(f"example {asked['example']!r}")
        said = alert(f"The link asks for {listed(unknown)}, which is not available here. The default is shown instead.")
        return {
            self.category: key,
            self.before: key,
            self.about: category_html(key),
            self.examples: examples_html(key),
            self.detectors: gr.CheckboxGroup(**_offered_detectors(key, wanted)),
            self.notice: gr.HTML(said if unknown else "", elem_classes=seen(bool(unknown))),
            self.files: [str(example.path)] if example else gr.skip(),
            self.results.method: gr.Radio(**_offered_maps(offered, known, method)),
            self.results.own_scale: scale == "own",
            self.results.rate: rate or on_slider(USUAL),
        }

    def choose_category(
        self, key: str | None, before: str | None, paths: list[str] | None, detectors: list[str], request: gr.Request
    ) -> Update:
        """Uploads stay and are inspected again; an example of another category goes. So do detectors, if some of the
        category before were left out."""
        own = [path for path in paths or () if not is_example(path)]
        if before and set(detectors) == set(catalogue.detector_names(before)):
            detectors = []
        offered, known = (maps_offered(key), catalogue.detector_names(key)) if key else (MAPS, [])
        update: Update = {
            self.about: category_html(key),
            self.examples: examples_html(key),
            self.detectors: gr.CheckboxGroup(**_offered_detectors(key, detectors)),
            self.results.method: gr.Radio(**_offered_maps(offered, known)),
            self.notice: gr.HTML("", elem_classes=seen(False)),
            self.before: key,
            self.files: gr.skip(),
            self.turn: gr.skip(),
        }
        if len(own) != len(paths or ()):
            return update | {self.files: own or None}  # which starts a run
        return update | ({self.turn: self.turns.take(request)} if own else {})

    def take_offer(
        self,
        now: Session,
        key: str | None,
        before: str | None,
        paths: list[str] | None,
        detectors: list[str],
        request: gr.Request,
    ) -> Update:
        """Chooses the category that the image shown fits. The same images stay."""
        shown = now.uploads[now.shown].comparison if now.shown is not None else None
        fits = shown.stranger.fits if shown and shown.stranger else None
        if fits is None:
            raise gr.Error("This picture fits no other category.", print_exception=False)
        update = self.choose_category(fits.key, before, paths, detectors, request)
        return update | {self.category: fits.key, self.files: gr.skip(), self.turn: gr.skip()}

    def choose_example(self, key: str | None, event: gr.EventData) -> Update:
        found, k = examples_of(key), clicked(event)
        return {self.files: [str(found[k].path)] if 0 <= k < len(found) else gr.skip()}

    def choose_files(self, paths: list[str] | None, key: str | None, shown: str, request: gr.Request) -> Update:
        """Starts a run. An upload replaces the example that is shown, which then starts one. shown: its name, or
        nothing; a copy of an example that is uploaded together with others stays."""
        own = [path for path in paths or () if not is_example(path)]
        if shown and own and len(own) < len(paths or ()):
            return {self.files: own, self.example: gr.skip(), self.turn: gr.skip()}
        example = example_of(key, paths[0]) if paths else None
        name = example.name if example else ""
        return {self.files: gr.skip(), self.example: name, self.turn: self.turns.take(request)}

    # -- inspecting

    def run(
        self,
        turn: int,
        paths: list[str] | None,
        key: str | None,
        detectors: list[str],
        method: str,
        own_scale: bool,
        of_100: float,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Inspects the first image, and asks to go on with the others."""
        uploads = tuple(Upload(path) for path in paths or ())
        asked = Session(key or "", _in_order(detectors), uploads, rate=of_100 / 100)
        yield from self._while_asked(turn, request, self._begin(turn, asked, method, own_scale))

    def go_on(self, step: int, now: Session, method: str, own_scale: bool, request: gr.Request) -> Iterator[Update]:
        """The next image of a run. Each has an event of its own, so that other visitors' come in between."""
        turn = step // MAX_IMAGES
        yield from self._while_asked(turn, request, self._next(turn, now, method, own_scale))

    def _while_asked(self, turn: int, request: gr.Request, updates: Iterator[Update]) -> Iterator[Update]:
        """Until the visitor has moved on to other images."""
        for update in updates:
            if self.turns.over(turn, request):
                return
            yield update

    def _begin(self, turn: int, now: Session, method: str, own_scale: bool) -> Iterator[Update]:
        if not now.uploads:
            yield self._nothing(now, finished(INVITATION))
            return
        try:
            check_number(len(now.uploads))
            catalogue.detectors(now.category, now.detectors)
        except AttentDifferNetError as error:
            yield self._nothing(Session(), alert(str(error)))
            return
        yield from self._next(turn, now, method, own_scale)

    def _next(self, turn: int, now: Session, method: str, own_scale: bool) -> Iterator[Update]:
        """One image; the first that can be read is shown as it is scored."""
        if (k := now.next_upload) is None:
            return
        now = yield from self._inspect_one(now, k, method, own_scale)
        if (k := now.next_upload) is None:
            yield from self._done(now, method, own_scale)
        else:
            yield {**self._overview(now), self.step: turn * MAX_IMAGES + k}

    def _inspect_one(self, now: Session, k: int, method: str, own_scale: bool) -> Generator[Update, None, Session]:
        """Yields updates while image k is scored; returns the session with its result."""
        upload, n = now.uploads[k], len(now.uploads)
        which = upload.name if n == 1 else f"{upload.name}, {k + 1} of {n}"
        reading = progress(k / n, f"Reading {which} …")
        yield self._nothing(now, reading) if now.shown is None else {**self._overview(now), self.status: reading}
        example = example_of(now.category, upload.path)
        try:
            for found in compare(upload.path, now.category, method, chosen=now.detectors):
                comparison = found.at_rate(now.rate)
                now = now.with_result(k, comparison)
                if n > 1 and not now.uploads[k].picture:
                    now = now.with_picture(k, self._thumbnail(comparison))
                update: Update = {self.status: _progress_of(comparison, which, k, n)}
                if now.shown in (None, k):
                    now = now.showing(k)
                    update |= self.results.filled(comparison, example, own_scale)
                if n > 1:
                    update[self.table] = gr.HTML(inspected_html(now), elem_classes=seen(True))
                yield update
        except AttentDifferNetError as error:
            return now.with_result(k, None, str(error))
        return now

    def _done(self, now: Session, method: str, own_scale: bool) -> Iterator[Update]:
        """Shows the photograph on top of the table, unless the visitor picked one."""
        if now.shown is None and len(now.uploads) == 1:
            yield self._nothing(now, alert(now.errors[0]))
            return
        top = on_top(now)
        if top is not None and top != now.shown and not now.picked:
            with suppress(AttentDifferNetError):  # its file may be gone by now; its verdicts are known all the same
                now = yield from self._look_at(now, top, method, own_scale)
        n, bad = len(now.uploads), len(now.errors)
        done = f"Done. {now.comparisons[0].conclusion}" if n == 1 else counts(n - bad, n)
        downloads = gr.Row(elem_classes=seen(now.shown is not None))
        yield {**self._overview(now), self.downloads: downloads, self.status: finished(done)}

    def _nothing(self, now: Session, status: str) -> Update:
        """No image is shown."""
        hidden = {**self.results.hidden(), self.downloads: gr.Row(elem_classes=seen(False))}
        return {**self._overview(now), **hidden, self.status: status}

    def _overview(self, now: Session) -> Update:
        """All that changes apart from the one image shown: the table of several images, the files of numbers."""
        several = len(now.uploads) > 1
        update: Update = {
            self.session: now,
            self.table: gr.HTML(inspected_html(now) if several else "", elem_classes=seen(several)),
        }
        if now.comparisons:
            stem = now.category.replace("/", "-")
            update[self.csv_file] = kept(numbers_csv(now.comparisons).encode(), f"{stem}.csv")
            update[self.json_file] = kept(numbers_json(now.comparisons).encode(), f"{stem}.json")
        return update

    def _thumbnail(self, comparison: Comparison) -> str:
        small = small_jpeg(Image.fromarray(comparison.image), THUMBNAIL)
        return on_page(self.table, small, f"{safe_stem(comparison.name)}-small.jpg")

    # -- looking closer

    def pick_row(self, now: Session, method: str, own_scale: bool, event: gr.EventData) -> Iterator[Update]:
        yield from self.show(now, method, own_scale, clicked(event))

    def judge_again(self, of_100: float, now: Session, method: str, own_scale: bool) -> Iterator[Update]:
        """By another share of good parts that may be flagged; nothing is scored anew. The image shown follows."""
        now = now.at_rate(of_100 / 100)
        yield self._overview(now)
        yield from self.show(now, method, own_scale)

    def show(self, now: Session, method: str, own_scale: bool, pick: int | None = None) -> Iterator[Update]:
        """Another map, another scale or, with pick, another image."""
        k = now.shown if pick is None else pick
        if k is None or not 0 <= k < len(now.uploads) or now.uploads[k].error:
            yield {self.status: gr.skip()}
            return
        if pick is not None:
            now = now.showing(k, picked=True)
        try:
            now = yield from self._look_at(now, k, method, own_scale)
            found = now.uploads[k].comparison
            shown = f" Shown: {MAPS[method]}." if any(name in VARIANT_TITLES for name in now.detectors) else ""
            yield {**self._overview(now), self.status: finished(f"{found.conclusion}{shown}" if found else "")}
        except AttentDifferNetError as error:
            yield {self.status: alert(str(error))}

    def _look_at(self, now: Session, k: int, method: str, own_scale: bool) -> Generator[Update, None, Session]:
        """Shows image k. The service remembers scores and maps."""
        upload = now.uploads[k]
        example = example_of(now.category, upload.path)
        for found in compare(upload.path, now.category, method, chosen=now.detectors):
            comparison = found.at_rate(now.rate)
            now = now.with_result(k, comparison).showing(k)
            filled = self.results.filled(comparison, example, own_scale) if comparison.heat else {}
            yield {self.status: progress(0.5, f"{upload.name} …"), **filled}
        return now

    def make_zip(self, now: Session, method: str, own_scale: bool) -> Iterator[Update]:
        """Maps of all images by the method chosen, made when asked for."""
        readable = [upload for upload in now.uploads if not upload.error]
        try:
            name = f"{now.category.replace('/', '-')}-{method}.zip"
            with being_written(name) as (stream, file), MapsZip(stream, own_scale) as archive:
                for k, upload in enumerate(readable):
                    packing = progress(k / len(readable), f"Packing {upload.name} …")
                    yield {self.status: packing, self.zip_file: gr.skip()}
                    *_, final = compare(upload.path, now.category, method, chosen=now.detectors)
                    archive.add(final.at_rate(now.rate))
            yield {self.zip_file: file, self.status: finished("The ZIP file is ready.")}
        except AttentDifferNetError as error:
            yield {self.status: alert(str(error)), self.zip_file: None}


def _in_order(detectors: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in DETECTOR_TITLES if name in detectors)


def _offered_detectors(key: str | None, wanted: Collection[str] = ()) -> dict[str, Any]:
    """Choices and value of the group: of what was wanted all that there is; without any, all."""
    known = catalogue.detector_names(key) if key else []
    chosen = [name for name in known if name in wanted] or known
    return {"choices": [(DETECTOR_TITLES[name], name) for name in known], "value": chosen}


def _offered_maps(offered: Mapping[str, str], detectors: Sequence[str], wanted: str = "") -> dict[str, Any]:
    """Seen where DifferNet or a variant of it can be asked: other detectors have a map of their own."""
    value = wanted if wanted in offered else next(iter(offered))
    choices = [(title, name) for name, title in offered.items()]
    return {"choices": choices, "value": value, "visible": any(name in VARIANT_TITLES for name in detectors)}


def _progress_of(comparison: Comparison, which: str, k: int, n: int) -> str:
    return progress((k + 0.9 * comparison.progress) / n, f"{which}: {comparison.progress_text}")
