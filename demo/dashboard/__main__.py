"""`python -m demo.dashboard [--port N]`, or `make dashboard`."""

import os
import sys
from pathlib import Path

from demo.ports import port_asked_for

if __name__ == "__main__":
    port = port_asked_for(8501, "STREAMLIT_SERVER_PORT")
    print(f"The dashboard is at http://localhost:{port} (stop it with Ctrl+C)", flush=True)
    page = str(Path(__file__).with_name("app.py"))
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", page, "--server.port", str(port)])
