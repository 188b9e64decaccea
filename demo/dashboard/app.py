"""The frame around the pages: `python -m streamlit run demo/dashboard/app.py`, or `make dashboard`."""

import importlib
import threading
from pathlib import Path

import streamlit as st

from attentdiffernet.errors import AttentDifferNetError
from demo.dashboard import parts

HERE = Path(__file__).parent
PAGES = {
    "overview": "Overview",
    "roc": "ROC",
    "failures": "Failures",
    "compare": "Compare",
    "attention": "Attention",
    "figures": "Figures",
    "method": "Method",
}
FIRST = next(iter(PAGES))


@st.cache_resource(show_spinner=False)
def warm_up() -> None:
    """Imports what later pages need while the first one is read: torch alone takes two seconds."""

    def work() -> None:
        for module in ("plotly.graph_objects", "sklearn.metrics", "matplotlib.figure", "demo.service.comparison"):
            importlib.import_module(module)

    timer = threading.Timer(1.0, work)
    timer.daemon = True
    timer.start()


st.set_page_config("AttentDifferNet", page_icon="🔍", layout="wide")
st.html(HERE / "style.css")
st.html(parts.variant_style())
pages = [
    st.Page(HERE / f"{name}.py", title=title, url_path="start" if name == FIRST else name)
    for name, title in PAGES.items()
]


def led_to_the_first() -> None:
    """Streamlit serves the first page at the root alone; who asks for it by its name is led there."""
    asked = {name: st.query_params.get_all(name) for name in st.query_params}
    st.switch_page(pages[0], query_params=asked)


named = st.Page(led_to_the_first, title="Start", url_path=FIRST, visibility="hidden")
page = st.navigation([*pages, named], position="top")
with st.container(
    horizontal=True, gap="xxsmall", key="narrow-navigation"
):  # Streamlit's own covers the page on a phone
    for other in pages:
        st.page_link(other)
parts.enter(page.url_path or FIRST)
try:
    page.run()
except AttentDifferNetError as error:  # a sentence for the visitor
    st.error(parts.words(error), icon=":material/error:")
warm_up()
