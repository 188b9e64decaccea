"""The frame around the pages: `python -m streamlit run demo/dashboard/app.py`, or `make dashboard`."""

from pathlib import Path

import streamlit as st

from attentdiffernet.errors import AttentDifferNetError
from demo import shipped
from demo.dashboard import address, results, widgets
from demo.markup import literal

HERE = Path(__file__).parent
PAGES = {
    "overview": "Overview",
    "roc": "ROC",
    "ablations": "Ablations",
    "failures": "Failures",
    "compare": "Compare",
    "attention": "Attention",
    "figures": "Figures",
    "own": "Own parts",
    "method": "Method",
}
FIRST = next(iter(PAGES))


st.set_page_config("AttentDifferNet", page_icon="🔍", layout="wide")
st.html(HERE / "style.css")
st.html(widgets.variant_style())
pages = [
    st.Page(HERE / f"{name}.py", title=title, url_path="start" if name == FIRST else name)
    for name, title in PAGES.items()
]


def redirect_to_first() -> None:
    """Streamlit serves the first page at the root only; this serves it under its name, too."""
    asked = {name: st.query_params.get_all(name) for name in st.query_params}
    st.switch_page(pages[0], query_params=asked)


first_by_name = st.Page(redirect_to_first, title="Start", url_path=FIRST, visibility="hidden")
page = st.navigation([*pages, first_by_name], position="top")
# On a narrow page: Streamlit's own navigation folds pages away there, or covers the page.
with st.container(horizontal=True, gap="xxsmall", key="narrow-navigation"):
    for other in pages:
        st.page_link(other)
address.enter(page.url_path or FIRST)
shipped.results_chosen = results.chosen
try:
    results.choose(page.url_path or FIRST)
    page.run()
except AttentDifferNetError as error:
    st.error(literal(results.said(error)), icon=":material/error:")
