"""The choice of results: those of this project, or a visitor's own, which stay in the session."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.study.formats import counted
from demo import shipped
from demo.markup import literal
from demo.service import own_results, private

CHOSEN = "results folder"  # in the session
PAGES = ("overview", "roc", "ablations", "failures", "attention")  # which show results
HELP = (
    "A folder as `attentdiffernet evaluate --results FOLDER` writes it, or score files (image, defect, label, score). "
    "What you choose here is uploaded; no folder of the server is read."
)


def chosen() -> Path | None:
    """For `shipped.results_chosen`; None outside of a session."""
    return st.session_state.get(CHOSEN) if get_script_run_ctx(suppress_warning=True) else None


def choose(page: str) -> None:
    """A button that opens the choice, on every page, because Streamlit forgets a choice that is not shown; and what is
    shown instead of the project's results."""
    place = "results" if page in PAGES else "results-away"
    with st.container(key=place), st.popover("Results", icon=":material/folder_open:"):
        st.caption(HELP)
        below: list[Any] = st.file_uploader(
            "A results folder", own_results.TYPES, accept_multiple_files="directory", key="results-folder"
        )
        alone: list[Any] = st.file_uploader(
            "Or its zip, or score files", own_results.TYPES, accept_multiple_files=True, key="results-files"
        )
    st.session_state[CHOSEN] = None
    if not (files := [*below, *alone]):
        return
    try:
        uploads = [(file.name, file.getvalue()) for file in files]
        st.session_state[CHOSEN] = folder(_digest(uploads), uploads)
        found = shipped.measured()
    except AttentDifferNetError as error:
        with st.container(key="results-said"):
            st.error(f"{literal(error)}. The results of this project are shown.", icon=":material/error:")
        return
    if page in PAGES:
        categories = counted(len({m.key for m in found}), "category", "categories")
        with st.container(key="results-said"):
            st.info(
                f"Your own results are shown: {counted(len(found), 'run')} in {categories}. They stay in this session, "
                "and in no link. Remove the files under *Results* to see those of this project.",
                icon=":material/folder_open:",
            )


def said(error: AttentDifferNetError) -> str:
    """An error of a page, which may lie in files that the visitor brought."""
    brought = chosen()
    return own_results.as_brought(error, brought) if brought else str(error)


def _digest(uploads: own_results.Files) -> str:
    found = hashlib.sha256()
    for name, content in uploads:
        found.update(f"{name}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


@st.cache_resource(scope="session", max_entries=1, show_spinner=False, on_release=shutil.rmtree)
def folder(digest: str, _uploads: own_results.Files) -> Path:
    """A private folder of what was uploaded, which goes with the session."""
    found = Path(tempfile.mkdtemp(prefix="results-", dir=private.root()))
    try:
        private.check_room(sum(len(content) for _, content in _uploads))
        own_results.take(_uploads, found)
    except AttentDifferNetError:
        shutil.rmtree(found)
        raise
    return found
