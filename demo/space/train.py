"""The tab that trains a detector on a visitor's own parts."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from attentdiffernet.detector import Detector
from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.figures.screen import percentile_svg
from attentdiffernet.images import read_image
from attentdiffernet.words import DETECTOR_TITLES, times_text

from ..markup import badge, text
from ..service import catalogue
from ..service.comparison import MAX_IMAGES, check_number, compare_by
from ..service.downloads import safe_stem
from ..service.training import own
from ..service.training.photographs import LEAST, MOST, Remark, gather, look_over
from ..service.training.run import CHOICES, Step, Trained, train
from ..service.verdict import Comparison
from .files import inlined, kept
from .inspect import LIVE
from .results import Update
from .session import KEPT_S, Turns
from .status import alert, finished, progress, seen

INVITATION = f"Give {LEAST} to {MOST} photographs of good parts. 20 or more are better."
THUMBNAIL, LARGE = 96, 360  # px
MOST_UNUSUAL = 4  # photographs that are shown
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
AT_ONCE: dict[str, Any] = {**PRIVATE, "queue": False, "show_progress": "hidden"}


@dataclass(frozen=True)
class Own:
    """What belongs to one visitor: a private folder, and the checkpoint in it once there is one."""

    folder: Path
    model: Path | None = None

    @classmethod
    def new(cls) -> "Own":
        return cls(Path(tempfile.mkdtemp(prefix="attentdiffernet-own-")))

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def forget(mine: Own | None) -> None:
    if mine is not None:
        mine.remove()


class Train:
    """The components of the tab, and a method for each action of the visitor."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.own: gr.State = gr.State(None, time_to_live=KEPT_S, delete_callback=forget)
        gr.Markdown(
            "Teach a detector what *your* good parts look like, test it, and take it away. Photographs stay in a "
            "private folder on this server, which is deleted when you leave, or after an hour."
        )
        with gr.Row(elem_classes="controls"):
            with gr.Column(min_width=280):
                self.parts = gr.File(
                    file_count="multiple",
                    label="Good parts: photographs or a zip",
                    height=220,
                    elem_id="own-parts",
                )
            with gr.Column(min_width=280):
                self.name = gr.Textbox("my part", label="Name of the part", max_length=60, elem_id="own-name")
                choices = [(DETECTOR_TITLES[choice], choice) for choice in CHOICES]
                self.choice = gr.Radio(choices, value="patchcore", label="Detector", elem_id="own-choice")
                with gr.Row():
                    self.start = gr.Button("Train", variant="primary", elem_id="own-train")
                    self.stop = gr.Button("Cancel", elem_id="own-cancel")
            with gr.Column(min_width=280):
                self.model = gr.File(
                    label="Or bring back a model (zip)", file_types=[".zip"], height=220, elem_id="own-model"
                )
        self.status = gr.HTML(finished(INVITATION), elem_id="own-status", js_on_load=LIVE)
        self.report = gr.HTML(elem_classes=seen(False), elem_id="own-report")
        with gr.Column(elem_classes=seen(False)) as self.use:
            self.download = gr.DownloadButton("Download the model (ZIP)", elem_id="own-download")
            self.tests = gr.File(
                file_count="multiple", label=f"Parts to judge (up to {MAX_IMAGES})", height=150, elem_id="own-tests"
            )
            self.verdicts = gr.HTML(elem_id="own-verdicts")
        self.turn = gr.Number(0, precision=0, visible="hidden")
        self._connect()

    def _connect(self) -> None:
        training: dict[str, Any] = {**PRIVATE, "concurrency_id": "training", "show_progress": "hidden"}
        asked = [self.turn, self.parts, self.name, self.choice, self.own]
        shown = [self.own, self.status, self.report, self.use, self.download, self.verdicts, self.tests]
        self.start.click(self.turns.take, None, self.turn, **AT_ONCE)
        self.turn.change(self.run, asked, shown, **training)
        self.stop.click(self.cancel, None, self.status, **AT_ONCE)
        self.model.upload(self.bring_back, [self.model, self.own], shown, **PRIVATE)
        work: dict[str, Any] = {**PRIVATE, "concurrency_id": "compute", "show_progress": "hidden"}
        self.tests.change(self.judge, [self.tests, self.own], [self.status, self.verdicts], **work)

    def stop_all(self, request: gr.Request) -> None:
        """Ends a training that is running, when the page is closed."""
        self.turns.take(request)

    def cancel(self, request: gr.Request) -> Update:
        self.stop_all(request)
        return {self.status: finished(f"Cancelled. {INVITATION}")}

    def run(
        self, turn: int, uploads: list[str] | None, name: str, choice: str, mine: Own | None, request: gr.Request
    ) -> Iterator[Update]:
        if not turn:
            return
        fresh, given = Own.new(), False
        try:
            yield {self.status: progress(0, "Looking at the photographs …")}
            photographs = gather(uploads or (), fresh.folder)
            remarks = look_over(photographs)
            title = " ".join(name.split()) or "my part"
            for step in train(photographs, fresh.folder, title, choice):
                if self.turns.over(turn, request):
                    return
                if isinstance(step, Step):
                    yield {self.status: progress(_share(step), _step_text(step))}
                else:
                    forget(mine)
                    given = True
                    yield self._ready(Own(fresh.folder, step.folder), photographs, remarks, step)
        except AttentDifferNetError as error:
            yield {self.status: alert(str(error))}
        finally:  # also where the visitor has left and nobody asks for the next step
            if not given:
                fresh.remove()

    def _ready(self, mine: Own, photographs: list[Path], remarks: list[Remark], trained: Trained) -> Update:
        detector = catalogue.loaded(trained.folder)
        report = report_html(detector, photographs, remarks, trained.left_out)
        return self._usable(mine, detector, report, "Trained. Drop parts below to judge them.")

    def _usable(self, mine: Own, detector: Detector, report: str, said: str) -> Update:
        assert mine.model is not None
        file = kept(own.packed(mine.model), f"{safe_stem(detector.data.category)}-{detector.key}.zip")
        return {
            self.own: mine,
            self.status: finished(said),
            self.report: gr.HTML(report, elem_classes=seen(True)),
            self.use: gr.Column(elem_classes=seen(True)),
            self.download: file,
            self.verdicts: "",
            self.tests: None,
        }

    def bring_back(self, file: str | None, mine: Own | None) -> Update:
        if file is None:
            return {self.status: gr.skip()}
        fresh = Own.new()
        try:
            detector = own.unpacked(Path(file), fresh.folder)
        except AttentDifferNetError as error:
            fresh.remove()
            return {self.status: alert(str(error))}
        forget(mine)
        now = Own(fresh.folder, fresh.folder / "model")
        return self._usable(now, detector, report_html(detector), "The model is back. Drop parts below to judge them.")

    def judge(self, uploads: list[str] | None, mine: Own | None) -> Iterator[Update]:
        """Verdicts and maps of photographs, the worst first."""
        if not uploads or mine is None or mine.model is None:
            yield {self.verdicts: ""}
            return
        try:
            check_number(len(uploads))
            detector = catalogue.loaded(mine.model)
        except AttentDifferNetError as error:
            yield {self.status: alert(str(error))}
            return
        info, done, errors = own.info(detector), list[Comparison](), list[str]()
        for k, path in enumerate(uploads):
            yield {self.status: progress(k / len(uploads), f"Judging {Path(path).name} …")}
            try:
                *_, last = compare_by(path, info, {detector.key: detector})
                done.append(last)
            except AttentDifferNetError as error:
                errors.append(str(error))
            yield {self.verdicts: verdicts_html(done, errors)}
        flagged = sum(found.verdicts[detector.key].anomalous for found in done)
        yield {self.status: finished(f"{flagged} of {len(done)} anomalous.")}


# -- words and pictures


def _share(step: Step) -> float:
    return step.done / max(step.total, 1)


def _step_text(step: Step) -> str:
    if not step.done:
        return f"{step.stage.capitalize()} …"
    left = "" if step.seconds_left is None else f", about {step.seconds_left:.0f} s left of this stage"
    return f"{step.stage.capitalize()}: {step.done} of {step.total}{left}"


def report_html(
    detector: Detector,
    photographs: Sequence[Path] = (),
    remarks: Sequence[Remark] = (),
    left_out: dict[int, float] | None = None,
) -> str:
    """What the detector promises, what is unusual about its photographs, and which of them it finds most unusual."""
    promise, calibration = own.promise(detector), detector.calibration
    scores = calibration.scores
    parts = [
        f"<h3>{text(detector.title)} of {text(detector.data.category)}</h3>"
        f"<p>It flags about <b>{100 * promise.expected:.1f} of 100 good parts</b> on average over sets of "
        f"{promise.n_images} photographs. For this set it is between {100 * promise.low:.1f} and "
        f"{100 * promise.high:.1f} of 100, in 95 of 100 cases. More photographs narrow this.</p>"
        f"<div class='histogram'>{percentile_svg(scores, max(scores), calibration.threshold)}</div>"
        f"<p class='note'>Scores of {len(scores)} photographs by a detector that had not seen them. The dashed line is "
        "the threshold, the triangle the highest score.</p>"
    ]
    parts += [_remark_html(remark, photographs) for remark in remarks]
    if left_out:
        worst = sorted(left_out, key=lambda k: -left_out[k])[:MOST_UNUSUAL]
        shown = "".join(
            _figure(photographs[k], f"{times_text(left_out[k], calibration.threshold)} the threshold") for k in worst
        )
        parts.append(f"<h4>The most unusual photographs: are these good parts?</h4><div class='strip'>{shown}</div>")
    return "".join(parts)


def _remark_html(remark: Remark, photographs: Sequence[Path]) -> str:
    shown = "".join(_figure(photographs[k], photographs[k].name) for k in remark.images[:MOST_UNUSUAL])
    return f"<p class='remark'>{text(remark.sentence)}.</p><div class='strip'>{shown}</div>"


def verdicts_html(done: Sequence[Comparison], errors: Sequence[str]) -> str:
    """Each photograph with its map, the highest score first; then what could not be read."""
    ranked = sorted(done, key=lambda found: -max(verdict.score for verdict in found.verdicts.values()))
    cards = []
    for found in ranked:
        (key, verdict) = next(iter(found.verdicts.items()))
        picture = inlined(Image.fromarray(found.overlay(key, outlined=True)), LARGE)
        alt = f"{verdict.title} over {found.name}; verdict: {verdict.word}"
        cards.append(
            f"<figure><img src='{picture}' alt='{text(alt)}'><figcaption>{badge(verdict.anomalous)} {verdict.times} "
            f"the threshold<br><span class='small'>{text(found.name)}</span></figcaption></figure>"
        )
    return f"<div class='strip large'>{''.join(cards)}</div>" + "".join(map(alert, errors))


def _figure(photograph: Path, caption: str) -> str:
    small = inlined(Image.fromarray(read_image(photograph)), THUMBNAIL)
    return (
        f"<figure><img src='{small}' alt='{text(photograph.name)}'>"
        f"<figcaption class='small'>{text(caption)}</figcaption></figure>"
    )
