"""The browser demo, a Gradio page and a Hugging Face Space; `/compare` and `/roc` offer the same as endpoints.

A callback calls a function of `demo.service` and puts its answer on the page. A visitor's images stay in the visitor's
session and in Gradio's cache folder, both for an hour. Nothing is loaded from other hosts, and nothing is sent there.
"""

import os

# Read when gradio is imported.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
