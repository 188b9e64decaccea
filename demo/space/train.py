"""The tab that trains a detector on a visitor's own parts."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.words import DETECTOR_TITLES

from ..markup import alert
from ..service.downloads import safe_stem
from ..service.training import own
from ..service.training.judging import Photograph, judged
from ..service.training.photographs import LEAST, MOST, MOST_JUDGED, gather, gather_to_judge, look_over
from ..service.training.report import check_html, counts_text, report_page, summary_html, verdicts_html
from ..service.training.run import CHOICES, Step, train
from ..service.training.state import Own
from .files import kept
from .rate import on_slider, rate_slider
from .results import Update
from .session import KEPT_S, Turns
from .status import LIVE, finished, progress, seen

INVITATION = f"Give {LEAST} to {MOST} photographs of good parts. 20 or more are better."
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
AT_ONCE: dict[str, Any] = {**PRIVATE, "queue": False, "show_progress": "hidden"}
PRESS = "() => document.querySelector('#own-file')?.click()"


def forget(mine: Own | None) -> None:
    if mine is not None:
        mine.remove()


class Train:
    """The components of the tab, and a method for each action of the visitor."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.own: gr.State = gr.State(None, time_to_live=KEPT_S, delete_callback=forget)
        self.fresh: gr.State = gr.State(None, time_to_live=KEPT_S, delete_callback=forget)  # made, not yet in use
        gr.Markdown(
            "Teach a detector what *your* good parts look like, test it, and take it away. Defective parts "
            f"(up to {MOST_JUDGED}) are never trained on: they show how many it finds. Photographs stay in a private "
            "folder on this server, which is deleted when you leave, or after an hour."
        )
        with gr.Row(elem_classes="controls"):
            with gr.Column(min_width=280):
                self.parts = _files("Good parts: photographs or a zip", "own-parts", 150)
                self.bad_parts = _files("Defective parts, if you have any", "own-defects", 150)
            with gr.Column(min_width=280):
                self.name = gr.Textbox("my part", label="Name of the part", max_length=60, elem_id="own-name")
                choices = [(DETECTOR_TITLES[choice], choice) for choice in CHOICES]
                self.choice = gr.Radio(choices, value="patchcore", label="Detector", elem_id="own-choice")
                with gr.Row():
                    self.start = gr.Button("Train", variant="primary", elem_id="own-train")
                    self.stop = gr.Button("Cancel", elem_id="own-cancel")
            with gr.Column(min_width=280):
                self.model = gr.File(
                    label="Or bring back a model (zip)", file_types=[".zip"], height=150, elem_id="own-model"
                )
        self.status = gr.HTML(finished(INVITATION), elem_id="own-status", js_on_load=LIVE, elem_classes="status")
        with gr.Column(elem_classes=seen(False)) as self.use:
            self.rate = rate_slider("own-rate")
            with gr.Row():
                self.take_model = gr.Button("Download the model (ZIP)", elem_id="own-download")
                self.take_report = gr.Button("Download the report (HTML)", elem_id="own-page")
            # Hidden by the style sheet; pressed by a script when the file is ready.
            self.file = gr.DownloadButton("File", elem_id="own-file")
            self.report = gr.HTML(elem_id="own-report")
            self.check = gr.HTML(elem_id="own-check")
            self.tests = _files(f"Parts to judge (up to {MOST_JUDGED})", "own-tests", 150)
            self.verdicts = gr.HTML(elem_id="own-verdicts")
        self.turn = gr.Number(0, precision=0, visible="hidden")
        self._connect()

    def _connect(self) -> None:
        told: dict[str, Any] = {**PRIVATE, "show_progress": "minimal", "show_progress_on": [self.status]}
        training, work = (told | {"concurrency_id": name} for name in ("training", "compute"))
        asked = [self.turn, self.parts, self.bad_parts, self.name, self.choice]
        judged_again = [self.own, self.report, self.check, self.verdicts]
        self.start.click(self.turns.take, None, self.turn, **AT_ONCE)
        self.stop.click(self.cancel, None, self.status, **AT_ONCE)
        # Gradio applies the last update of a generator a second time when the generator ends. What the visitor can
        # change is therefore set by an event of its own, after that.
        for made in (
            self.turn.change(self.run, asked, [self.fresh, self.status], **training),
            self.model.upload(self.bring_back, [self.model, self.bad_parts], [self.fresh, self.status], **work),
        ):
            in_use = [*judged_again, self.fresh, self.use, self.rate, self.tests]
            made.then(self.take_over, [self.fresh, self.own], in_use, **AT_ONCE)
        self.tests.change(
            self.judge, [self.tests, self.own], [self.own, self.status, self.verdicts, self.rate], **work
        ).then(self.free_rate, None, self.rate, **AT_ONCE)
        self.rate.input(
            self.judge_again,
            [self.rate, self.own],
            [*judged_again, self.status],
            **AT_ONCE,
            trigger_mode="always_last",
        )
        for button, make in ((self.take_model, self.pack_model), (self.take_report, self.write_report)):
            made = button.click(make, self.own, self.file, **PRIVATE, show_progress="hidden")
            made.success(None, js=PRESS, **PRIVATE)

    def stop_all(self, request: gr.Request) -> None:
        """Ends a training that is running, when the page is closed."""
        self.turns.take(request)

    def cancel(self, request: gr.Request) -> Update:
        self.stop_all(request)
        return {self.status: finished(f"Cancelled. {INVITATION}")}

    # -- a detector

    def run(
        self,
        turn: int,
        uploads: list[str] | None,
        bad_uploads: list[str] | None,
        name: str,
        choice: str,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Trains, and checks with the defective parts, if there are any."""
        if not turn:
            return
        fresh, given = Own.new(), False
        try:
            yield {self.status: progress(0, "Looking at the photographs …")}
            photographs = gather(uploads or (), fresh.folder)
            bad = gather_to_judge(bad_uploads or (), fresh.folder, "defective parts")
            remarks = look_over(photographs)
            title = " ".join(name.split()) or "my part"
            for step in train(photographs, fresh.folder, title, choice):
                if self.turns.over(turn, request):
                    return
                if isinstance(step, Step):
                    yield {self.status: progress(_share(step), _step_text(step))}
                    continue
                now = fresh.with_model(step.folder).with_good(photographs, remarks, step.left_out)
                now = yield from self._checked(now, bad, lambda: self.turns.over(turn, request))
                if self.turns.over(turn, request):
                    return
                given = True
                yield {self.fresh: now, self.status: finished("Trained. Drop parts below to judge them.")}
        except AttentDifferNetError as error:
            yield {self.status: alert(str(error))}
        finally:  # also where the visitor has left and nobody asks for the next step
            if not given:
                fresh.remove()

    def _checked(
        self, mine: Own, bad: Sequence[Path], stopped: Callable[[], bool] = lambda: False
    ) -> Generator[Update, None, Own]:
        """Yields updates while the defective parts are judged; returns what is known then."""
        if not bad:
            return mine
        found = list[Photograph]()
        for one in judged(bad, mine.detector):
            if stopped():
                break
            found.append(one)
            said = f"Checking with defective parts: {len(found)} of {len(bad)}"
            yield {self.status: progress(len(found) / len(bad), said)}
        return replace(mine, defects=tuple(found))

    def bring_back(self, file: str | None, bad_uploads: list[str] | None) -> Iterator[Update]:
        if file is None:
            return
        fresh, given = Own.new(), False
        try:
            yield {self.status: progress(0, "Reading the model …")}
            own.unpacked(Path(file), fresh.folder)
            bad = gather_to_judge(bad_uploads or (), fresh.folder, "defective parts")
            now = fresh.with_model(fresh.folder / "model")
            now = yield from self._checked(now, bad)
            given = True
            yield {self.fresh: now, self.status: finished("The model is back. Drop parts below to judge them.")}
        except AttentDifferNetError as error:
            yield {self.status: alert(str(error))}
        finally:
            if not given:
                fresh.remove()

    def take_over(self, fresh: Own | None, mine: Own | None) -> Update:
        """Puts the detector that was just made in the place of the one before; without one, all stays as it is."""
        if fresh is None:
            return {self.fresh: gr.skip()}
        forget(mine)
        return {
            **self._judged_again(fresh),
            self.fresh: None,
            self.use: gr.Column(elem_classes=seen(True)),
            self.rate: on_slider(fresh.rate),
            self.tests: None,
        }

    # -- judging

    def judge(self, uploads: list[str] | None, mine: Own | None) -> Iterator[Update]:
        """Verdicts and maps of photographs, the worst first. The rate stays as it is meanwhile, until `free_rate`. Ends
        without a word where another detector has taken the place of this one."""
        if mine is None:
            yield {self.verdicts: ""}
            return
        detector, done = mine.detector, list[Photograph]()
        try:
            paths = gather_to_judge(uploads or (), mine.folder, "parts to judge")
            yield {self.rate: gr.Slider(interactive=False)}
            for k, one in enumerate(judged(paths, detector), 1):
                if mine.gone:
                    break
                done.append(one)
                yield {
                    self.status: progress(k / len(paths), f"Judging: {k} of {len(paths)}"),
                    self.verdicts: verdicts_html(done, detector.calibration),
                }
            said = finished(counts_text(done, detector.calibration)) if paths else gr.skip()
        except AttentDifferNetError as error:
            said = alert(str(error))
        if not mine.gone:
            yield {
                self.own: replace(mine, tests=tuple(done)),
                self.status: said,
                self.verdicts: verdicts_html(done, detector.calibration),
            }

    def free_rate(self) -> gr.Slider:
        return gr.Slider(interactive=True)

    def judge_again(self, of_100: float, mine: Own | None) -> Update:
        """By another share of good parts that may be flagged; nothing is scored anew."""
        if mine is None:
            return {self.status: gr.skip()}
        now = replace(mine, rate=of_100 / 100)
        said = finished(counts_text(now.tests, now.detector.calibration)) if now.tests else gr.skip()
        return {**self._judged_again(now), self.status: said}

    def _judged_again(self, mine: Own) -> Update:
        return {
            self.own: mine,
            self.report: summary_html(mine),
            self.check: check_html(mine),
            self.verdicts: verdicts_html(mine.tests, mine.detector.calibration),
        }

    # -- taking away

    def pack_model(self, mine: Own | None) -> str | None:
        """The model with the threshold as it stands."""
        if mine is None:
            return None
        detector = mine.detector
        return kept(own.packed(detector), f"{safe_stem(detector.data.category)}-{detector.key}.zip")

    def write_report(self, mine: Own | None) -> str | None:
        if mine is None:
            return None
        detector = mine.detector
        return kept(report_page(mine), f"{safe_stem(detector.data.category)}-{detector.key}.html")


def _files(label: str, elem_id: str, height: int) -> gr.File:
    return gr.File(file_count="multiple", label=label, height=height, elem_id=elem_id)


def _share(step: Step) -> float:
    return step.done / max(step.total, 1)


def _step_text(step: Step) -> str:
    if not step.done:
        return f"{step.stage.capitalize()} …"
    left = "" if step.seconds_left is None else f", about {step.seconds_left:.0f} s left of this stage"
    return f"{step.stage.capitalize()}: {step.done} of {step.total}{left}"
