"""`python -m demo.dashboard [--port N]`, or `make dashboard`."""

import importlib
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread

from streamlit.web import cli

from attentdiffernet.errors import AttentDifferNetError
from demo import shipped
from demo.ports import port_asked_for

LATER = ("plotly.graph_objects", "sklearn.metrics", "matplotlib.figure", "demo.service.comparison")


def warm_up() -> None:
    """Reads the results and imports what the pages need, while the first visitor comes: torch alone takes seconds."""
    with suppress(AttentDifferNetError):  # the page says what is wrong
        shipped.measured()
    for module in LATER:
        importlib.import_module(module)


if __name__ == "__main__":
    port = port_asked_for(8501, "STREAMLIT_SERVER_PORT")
    print(f"The dashboard is at http://localhost:{port} (stop it with Ctrl+C)", flush=True)
    Thread(target=warm_up, daemon=True).start()
    page = str(Path(__file__).with_name("app.py"))
    sys.argv = ["streamlit", "run", page, "--server.port", str(port)]
    cli.main()
