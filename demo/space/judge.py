"""The part of the training tab that judges a visitor's parts, and takes answers."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from attentdiffernet.errors import AttentDifferNetError

from ..markup import alert
from ..service.training import own
from ..service.training.judging import Photograph, judging, readable
from ..service.training.limits import GONE, MOST_JUDGED
from ..service.training.numbers import answers_csv, verdicts_csv, verdicts_json, verdicts_zip
from ..service.training.photographs import gather_to_judge
from ..service.training.report import check_html, counts_text, report_page, summary_html
from ..service.training.state import Own
from .files import kept
from .inspect import PRIVATE
from .judged_table import answered, judged_html
from .rate import rate_slider
from .results import Update
from .status import LIVE, finished, progress, seen
from .verdict_table import BEHAVIOUR

AT_ONCE: dict[str, Any] = {**PRIVATE, "queue": False, "show_progress": "hidden"}
PRESS = "() => document.querySelector('#own-file')?.click()"
Make = Callable[[Own], bytes]
ADD = "Use these answers in the next training: good parts to train on, defects to check with"


class Judge:
    """The components, and a method for each action of the visitor."""

    def __init__(self, mine: gr.State) -> None:
        self.own = mine
        with gr.Row():
            self.take_model = gr.Button("Download the model (ZIP)", elem_id="own-download", size="md")
            self.take_report = gr.Button("Download the report (HTML)", elem_id="own-page", size="md")
        self.rate = rate_slider("own-rate")
        self.report = gr.HTML(elem_id="own-report")
        self.check = gr.HTML(elem_id="own-check")
        self.tests = gr.File(
            file_count="multiple", label=f"Parts to judge (up to {MOST_JUDGED})", height=150, elem_id="own-tests"
        )
        self.status = gr.HTML(elem_id="own-judged", js_on_load=LIVE, elem_classes="status")
        self.table = gr.HTML(elem_id="own-verdicts", js_on_load=BEHAVIOUR)
        with gr.Column(elem_classes=seen(False)) as self.with_verdicts:
            with gr.Row():
                self.undo = gr.Button("Take back the last answer", elem_id="own-undo", size="md")
                self.add = gr.Checkbox(label=ADD, elem_id="own-add")
            with gr.Row():
                take_csv, take_json, take_zip, take_answers = (
                    gr.Button(title, elem_id=f"own-{what}", size="md")
                    for what, title in (
                        ("csv", "Verdicts (CSV)"),
                        ("json", "Verdicts (JSON)"),
                        ("zip", "Verdicts and maps (ZIP)"),
                        ("answers", "What you said (CSV)"),
                    )
                )
        self.downloads: list[tuple[gr.Button, str, Make]] = [
            (self.take_model, ".zip", lambda mine: own.packed(mine.detector)),
            (self.take_report, ".html", report_page),
            (take_csv, "-verdicts.csv", lambda mine: verdicts_csv(mine).encode()),
            (take_json, "-verdicts.json", lambda mine: verdicts_json(mine).encode()),
            (take_zip, "-verdicts.zip", verdicts_zip),
            (take_answers, "-answers.csv", lambda mine: answers_csv(mine).encode()),
        ]
        # Hidden by the style sheet; pressed by a script when the file is ready.
        self.file = gr.DownloadButton("File", elem_id="own-file")
        self._connect()

    @property
    def judged_again(self) -> list[Any]:
        return [self.own, self.report, self.check, self.table, self.with_verdicts]

    def _connect(self) -> None:
        told: dict[str, Any] = {**PRIVATE, "show_progress": "minimal", "show_progress_on": [self.status]}
        work = told | {"concurrency_id": "compute"}
        shown = [*self.judged_again, self.status]
        self.tests.change(
            self.judge,
            [self.tests, self.own],
            [self.own, self.status, self.table, self.rate, self.with_verdicts],
            **work,
        ).then(self.free_rate, None, self.rate, **AT_ONCE)
        self.rate.input(self.judge_again, [self.rate, self.own], shown, **AT_ONCE, trigger_mode="always_last")
        self.table.click(self.answer, self.own, shown, **AT_ONCE, trigger_mode="multiple")
        self.undo.click(self.take_back, self.own, shown, **AT_ONCE, trigger_mode="multiple")
        for button, ending, make in self.downloads:
            made = button.click(partial(taken, ending, make), self.own, self.file, **PRIVATE, show_progress="hidden")
            made.success(None, js=PRESS, **PRIVATE)

    def judge(self, uploads: list[str] | None, mine: Own | None) -> Iterator[Update]:
        """Verdicts and maps of photographs, the worst first. The rate stays as it is meanwhile, until `free_rate`. Ends
        without a word where another detector has taken the place of this one."""
        if mine is None or not mine.in_use():
            yield {self.table: "" if mine is None or not uploads else alert(GONE)}
            return
        detector, done = mine.detector, list[Photograph]()
        try:
            paths = gather_to_judge(uploads or (), mine.folder, "parts to judge")
            yield {self.rate: gr.Slider(interactive=False), self.with_verdicts: gr.Column(elem_classes=seen(False))}
            for one in judging(paths, detector, mine.training):
                if mine.gone:
                    break
                if done and done[-1].map_follows:
                    done.pop()
                done.append(one)
                k = len(done)
                yield {
                    self.status: progress(k / len(paths), f"Judging: {k} of {len(paths)}"),
                    self.table: judged_html(replace(mine, tests=tuple(done)), finished=False),
                }
            said = finished(counts_text(done, detector.calibration)) if paths else ""
        except AttentDifferNetError as error:
            said = alert(str(error))
        if not mine.gone:
            now = replace(mine, tests=tuple(done))
            yield {
                self.own: now,
                self.status: said,
                self.table: judged_html(now),
                self.with_verdicts: gr.Column(elem_classes=seen(bool(readable(done)))),
            }

    def free_rate(self) -> gr.Slider:
        return gr.Slider(interactive=True)

    def judge_again(self, of_100: float, mine: Own | None) -> Update:
        """By another share of good parts that may be flagged; nothing is scored anew."""
        return self._changed(mine and replace(mine, rate=of_100 / 100))

    def answer(self, mine: Own | None, event: gr.EventData) -> Update:
        """That a part was fine, or is a defect."""
        said = answered(event)
        return self._changed(mine and said and mine.with_answer(*said))

    def take_back(self, mine: Own | None) -> Update:
        return self._changed(mine and mine.without_last_answer())

    def _changed(self, now: Own | None) -> Update:
        if now is None or not now.in_use():
            return {self.status: gr.skip() if now is None else alert(GONE)}
        said = finished(counts_text(now.tests, now.calibration)) if now.tests else gr.skip()
        return {**self.shown(now), self.status: said}

    def shown(self, mine: Own) -> Update:
        return {
            self.own: mine,
            self.report: summary_html(mine),
            self.check: check_html(mine),
            self.table: judged_html(mine),
            self.with_verdicts: gr.Column(elem_classes=seen(bool(readable(mine.tests) or mine.answers))),
        }


def taken(ending: str, make: Make, mine: Own | None) -> str | None:
    """A file for download, with the threshold as it stands."""
    if mine is None or not mine.in_use():
        return None
    detector = mine.detector
    try:
        return kept(make(mine), f"{own.file_stem(detector)}{ending}")
    except AttentDifferNetError as error:  # there is no room
        raise gr.Error(str(error), print_exception=False) from error
