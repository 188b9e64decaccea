"""Own parts: a detector of the visitor's own photographs, trained, used, taken away and brought back. As "Train" of the
demo, by the same service; nothing of it is imported before it is needed, because torch takes seconds."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.words import DETECTOR_TITLES
from demo.dashboard import address, widgets
from demo.markup import literal
from demo.service.rate import on_slider
from demo.service.training import limits
from demo.service.training.asked import UNNAMED, Progress
from demo.service.training.run import CHOICES
from demo.service.training.trainings import Trainings
from demo.service.training.visit import Upload, Visit, written

if TYPE_CHECKING:
    from demo.service.training.judging import Photograph
    from demo.service.training.state import Own

LOOK_IN_S = 1.0
SHOWN = {"all": "All", "anomalous": "Anomalous", "normal": "Normal"}


@st.cache_resource(show_spinner=False)
def trainings() -> Trainings:
    return Trainings()


@st.cache_resource(scope="session", show_spinner=False, on_release=Visit.away)
def until_closed(session: str, _visit: Visit) -> Visit:
    """Tells a visit when its page loses the connection. session: the visit's own, so that another one is not its."""
    return _visit


def visit() -> Visit:
    if "visit" not in st.session_state:
        st.session_state["visit"] = Visit(trainings())
    here: Visit = st.session_state["visit"]
    until_closed(here.session, here)
    here.used()
    return here


def browser(here: Visit) -> str:
    """The same in all tabs of a browser, where it takes cookies."""
    return st.context.cookies.get("_streamlit_xsrf", here.session)


# -- asking


def ask(here: Visit) -> None:
    one, two, three = st.columns(3, gap="medium")
    with one:
        label = f"Good parts: {limits.LEAST} to {limits.MOST} photographs, or a zip"
        parts = st.file_uploader(label, accept_multiple_files=True, key="own-parts")
    with two:
        label = f"Defective parts, if you have any (up to {limits.MOST_JUDGED})"
        bad_parts = st.file_uploader(label, accept_multiple_files=True, key="own-defects")
    with three:
        name = st.text_input("Name of the part", UNNAMED, max_chars=60, key="own-name")
        choice = address.choice("Detector", {choice: DETECTOR_TITLES[choice] for choice in CHOICES}, "detector")
        busy = here.progress is not None
        if st.button("Train", type="primary", disabled=busy, icon=":material/model_training:"):
            here.train(browser(here), parts, bad_parts, name, choice)
            st.rerun()
        with st.expander("Or bring back a model"):
            model = st.file_uploader("A model that you downloaded (zip)", ["zip"], key="own-model")
            if st.button("Bring it back", disabled=model is None or busy) and model:
                show_progress(here.bring_back(model, bad_parts))
                address.forget("rate")  # the model has one of its own
                st.rerun()


def show_progress(steps: Iterable[Progress]) -> None:
    with st.empty():
        for step in steps:
            st.progress(step.share, literal(step.text))


@st.fragment(run_every=LOOK_IN_S)
def look_in(here: Visit) -> None:
    """How far the training is; the page follows when it has ended."""
    here.used()
    progress = here.progress
    if progress is None:
        st.rerun()
    st.progress(progress.share, literal(progress.text))
    if st.button("Cancel"):
        here.cancel()
        st.rerun()


def status(here: Visit) -> None:
    if here.progress is not None:
        look_in(here)
    elif here.error:
        st.error(literal(here.error), icon=":material/error:")
    elif here.mine is None:
        widgets.empty(
            here.message or f"Give {limits.LEAST} to {limits.MOST} photographs of good parts. 20 or more are better.",
            "Defective parts are never trained on: they show how many of them it finds.",
        )
    else:
        st.success(literal(here.message), icon=":material/check:")


# -- using


def use(here: Visit, mine: "Own") -> None:
    from demo.service.training.report import check_html, summary_html

    rate = widgets.rate("rate", on_slider(mine.stored_rate))
    if rate != on_slider(mine.rate):
        mine = changed(here, replace(mine, rate=rate / 100))
    take_away(mine)
    left, right = st.columns([1, 1], gap="large")
    with left:
        widgets.report(summary_html(mine), "Scores of good parts, and the threshold")
    with right:
        widgets.report(check_html(mine), "")
    judge(here, mine)


def changed(here: Visit, now: "Own") -> "Own":
    """The detector in use, changed; the page begins anew where another one has taken over meanwhile."""
    kept = here.changed(now)
    if kept is not now:
        st.rerun()
    return now


def take_away(mine: "Own") -> None:
    from demo.service.training import numbers, own, report

    files: dict[str, tuple[str, Callable[[], str | bytes]]] = {
        "Model (ZIP)": (".zip", partial(own.packed, mine.detector)),
        "Report (HTML)": (".html", partial(report.report_page, mine)),
        "Verdicts (CSV)": ("-verdicts.csv", partial(numbers.verdicts_csv, mine)),
        "Verdicts (JSON)": ("-verdicts.json", partial(numbers.verdicts_json, mine)),
        "Verdicts and maps (ZIP)": ("-verdicts.zip", partial(numbers.verdicts_zip, mine)),
    }
    with st.container(horizontal=True):
        for label, (ending, make) in files.items():
            name = f"{own.file_stem(mine.detector)}{ending}"
            st.download_button(label, make, name, icon=":material/download:", on_click="ignore")


def judge(here: Visit, mine: "Own") -> None:
    """Verdicts and maps of parts, the worst first; judged once, whatever the rate."""
    from demo.service.training.judging import flagged
    from demo.service.training.report import counts_text, trained_on_html, verdicts_html

    st.header("Judge parts", anchor=False)
    label = f"Parts to judge (up to {limits.MOST_JUDGED})"
    files = st.file_uploader(label, accept_multiple_files=True, key=f"own-tests-{mine.folder.name}")
    asked = tuple(file.file_id for file in files)
    if here.asked != (mine.folder, asked):
        try:
            tests, here.refused = judged(mine, files), ""
        except AttentDifferNetError as error:
            tests, here.refused = (), str(error)
        mine = changed(here, replace(mine, tests=tests))
        here.asked = mine.folder, asked
    if here.refused:
        st.error(literal(here.refused), icon=":material/error:")
    if not mine.tests:
        return
    st.markdown(f"**{counts_text(mine.tests, mine.calibration)}**")
    shown = address.choice("Show", SHOWN, "show", segments=True)
    over = flagged(mine.tests, mine.calibration.threshold)
    kept = [one for one in mine.tests if shown == "all" or (one in over) == (shown == "anomalous")]
    widgets.report(trained_on_html(mine.tests, "part") + verdicts_html(kept, mine.calibration), "")


def judged(mine: "Own", files: Sequence[Upload]) -> "tuple[Photograph, ...]":
    from demo.service.training.judging import judged as judging
    from demo.service.training.photographs import gather_to_judge

    folder = mine.folder / "tests"
    shutil.rmtree(folder, ignore_errors=True)  # of those judged before
    folder.mkdir()
    found, paths = [], gather_to_judge(written(files, folder), folder, "parts to judge")
    place = st.empty()
    for k, one in enumerate(judging(paths, mine.detector, mine.training), 1):
        found.append(one)
        place.progress(k / len(paths), f"Judging: {k} of {len(paths)}")
    place.empty()
    return tuple(found)


# -- the page


widgets.head(
    "Your own parts",
    "Teach a detector what <i>your</i> good parts look like, test it, and take it away. Photographs and detector stay "
    "in a private folder on this server, which is deleted when you leave or load the page anew, or after an hour: "
    "download what you want to keep.",
)
here = visit()
try:
    ask(here)
    status(here)
    if here.mine is not None:
        use(here, here.mine)
except AttentDifferNetError as error:
    st.error(literal(error), icon=":material/error:")
