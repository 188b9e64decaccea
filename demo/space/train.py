"""The tab that trains a detector on a visitor's own parts."""

import secrets
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.words import DETECTOR_TITLES

from ..markup import alert
from ..service.rate import on_slider
from ..service.training import making
from ..service.training.asked import UNNAMED, Asked, Progress
from ..service.training.limits import LEAST, MOST, MOST_JUDGED
from ..service.training.run import CHOICES
from ..service.training.state import Own, remove_all_of
from ..service.training.trainings import ELSEWHERE, FULL, POLL_S, Trainings, ahead_text
from .draw import Draw
from .inspect import PRIVATE
from .judge import AT_ONCE, Judge
from .results import Update
from .session import KEPT_S
from .status import LIVE, finished, progress, seen

INVITATION = f"Give {LEAST} to {MOST} photographs of good parts. 20 or more are better."


def forget(mine: Own | None) -> None:
    if mine is not None:
        mine.remove()


class Train:
    """The components of the tab, and a method for each action of the visitor."""

    def __init__(self) -> None:
        self.trainings = Trainings()
        self.visitor = gr.BrowserState("", storage_key="attentdiffernet-visitor")  # the same in all tabs of a browser
        self.own: gr.State = gr.State(None, time_to_live=KEPT_S, delete_callback=forget)
        self.fresh: gr.State = gr.State(None, time_to_live=KEPT_S, delete_callback=forget)  # made, not yet in use
        gr.Markdown(
            "Teach a detector what *your* good parts look like, test it, and take it away. Defective parts "
            "are never trained on: they show how many of them it finds. The detector stays in a private folder on this "
            "server, which is deleted when you close or reload the page, or after an hour. Photographs are deleted "
            "about an hour after you upload them. Download what you want to keep."
        )
        with gr.Row(elem_classes="controls"):
            with gr.Column(min_width=280):
                self.parts = _files("Good parts: photographs or a zip", "own-parts", 150)
                self.bad_parts = _files(f"Defective parts, if you have any (up to {MOST_JUDGED})", "own-defects", 150)
            with gr.Column(min_width=280):
                self.name = gr.Textbox(UNNAMED, label="Name of the part", max_length=60, elem_id="own-name")
                choices = [(DETECTOR_TITLES[choice], choice) for choice in CHOICES]
                self.choice = gr.Radio(choices, value=next(iter(CHOICES)), label="Detector", elem_id="own-choice")
                with gr.Row():
                    self.start = gr.Button("Train", variant="primary", elem_id="own-train")
                    self.stop = gr.Button("Cancel", elem_id="own-cancel")
            with gr.Column(min_width=280):
                self.model = gr.File(label="Or bring back a model (zip)", height=150, elem_id="own-model")
        self.status = gr.HTML(finished(INVITATION), elem_id="own-status", js_on_load=LIVE, elem_classes="status")
        with gr.Column(elem_classes=seen(False)) as self.use:
            self.judge = Judge(self.own)
            self.draw = Draw(self.own)
        self.turn = gr.Number(0, precision=0, visible="hidden")
        self._connect()

    def _connect(self) -> None:
        # All who wait are let in, so that each is told its place; `Trainings` lets one train, and few wait.
        told: dict[str, Any] = {**PRIVATE, "show_progress": "minimal", "show_progress_on": [self.status]}
        training, work = told | {"concurrency_limit": None}, told | {"concurrency_id": "compute"}
        judge = self.judge
        asked = [self.turn, self.parts, self.bad_parts, self.name, self.choice, judge.add, self.own]
        self.start.click(self.enter, self.visitor, [self.turn, self.status], **AT_ONCE)
        self.stop.click(self.cancel, None, self.status, **AT_ONCE)
        # Gradio applies the last update of a generator a second time when the generator ends. What the visitor can
        # change is therefore set by an event of its own, after that.
        for made in (
            self.turn.change(self.run, asked, [self.fresh, self.status], **training),
            self.model.upload(self.bring_back, [self.model, self.bad_parts], [self.fresh, self.status], **work),
        ):
            in_use = [*judge.judged_again, judge.status, self.fresh, self.use, judge.rate, judge.tests]
            made.then(self.take_over, [self.fresh, self.own], in_use, **AT_ONCE)

    def recognise(self, visitor: str) -> str:
        """A number for the browser, when it comes for the first time."""
        return visitor or secrets.token_hex(8)

    def enter(self, visitor: str, request: gr.Request) -> Update:
        session = str(request.session_hash)
        number = self.trainings.enter(visitor or session, session)
        if number is None:
            return {self.turn: gr.skip(), self.status: alert(FULL)}
        return {self.turn: number, self.status: progress(0, "Starting …")}

    def leave(self, request: gr.Request) -> None:
        """Ends a training that runs or waits and removes the files, when the page is closed."""
        self.trainings.end(str(request.session_hash))
        remove_all_of(str(request.session_hash))

    def cancel(self, request: gr.Request) -> Update:
        self.trainings.end(str(request.session_hash))
        return {self.status: finished(f"Cancelled. {INVITATION}")}

    # -- a detector

    def run(
        self,
        turn: int,
        uploads: list[str] | None,
        bad_uploads: list[str] | None,
        name: str,
        choice: str,
        with_answers: bool,
        before: Own | None,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Waits for its turn, trains, and checks with the defective parts, if there are any."""
        if not turn:
            return
        fresh, given, now = Own.new(str(request.session_hash)), False, None
        try:
            yield from self._wait(turn)
            if with_answers and before is not None and not self.trainings.over(turn):
                fresh = fresh.with_added(before)
            asked = Asked(uploads or (), bad_uploads or (), name, choice)
            with closing(making.trained(fresh, asked)) as steps:  # whose end ends the process
                for step in steps:
                    if self.trainings.over(turn):
                        break
                    if isinstance(step, Progress):
                        yield {self.status: progress(step.share, step.text)}
                    else:
                        now = step
            if self.trainings.replaced(turn):
                yield {self.status: alert(ELSEWHERE)}
            elif now is not None and not self.trainings.over(turn):
                given = True
                yield {self.fresh: now, self.status: finished(making.trained_text(now))}
        except AttentDifferNetError as error:
            yield {self.status: alert(str(error))}
        finally:  # also where the visitor has left and nobody asks for the next step
            self.trainings.leave(turn)
            if not given:
                fresh.remove()

    def _wait(self, turn: int) -> Iterator[Update]:
        """The place in the queue, until it is the first or over."""
        while ahead := self.trainings.ahead(turn):
            yield {self.status: progress(0, ahead_text(ahead))}
            time.sleep(POLL_S)

    def bring_back(self, file: str | None, bad_uploads: list[str] | None, request: gr.Request) -> Iterator[Update]:
        if file is None:
            return
        fresh, given, now = Own.new(str(request.session_hash)), False, None
        try:
            for step in making.brought_back(fresh, Path(file), bad_uploads or ()):
                if isinstance(step, Progress):
                    yield {self.status: progress(step.share, step.text)}
                else:
                    now = step
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
            **self.judge.shown(fresh),
            self.fresh: None,
            self.use: gr.Column(elem_classes=seen(True)),
            self.judge.rate: on_slider(fresh.rate),
            self.judge.tests: None,
            self.judge.status: "",
        }


def _files(label: str, elem_id: str, height: int) -> gr.File:
    return gr.File(file_count="multiple", label=label, height=height, elem_id=elem_id)
