"""The whole page: its tabs, its style, and how it is launched."""

import os
from pathlib import Path
from typing import Any

import gradio as gr
import matplotlib.pyplot  # noqa: F401  Gradio switches its backend at each call: a first import in two threads fails
from starlette.middleware import Middleware

from attentdiffernet.figures.palette import ANOMALOUS_COLOUR, NORMAL_COLOUR, VARIANT_COLOURS

from ..service import private
from ..service.catalogue import EXAMPLES
from . import health, uploads
from .endpoints import add_endpoints
from .inspect import AT_ONCE, PRIVATE, Inspect
from .roc import Roc
from .session import KEPT_S, MAX_SESSIONS
from .train import Train

HERE = Path(__file__).parent
TITLE = "AttentDifferNet"
MAX_WAITING = 250  # runs in the queue: each is told its place


def build() -> gr.Blocks:
    """The page; its theme, style sheet and limits are in `launch_options`. Uploads go to the private folder of the
    process."""
    private.most_bytes()  # raises for what is no number
    os.environ["GRADIO_TEMP_DIR"] = str(private.uploads())
    uploads.fetch_nothing()
    forgotten = int(KEPT_S / 6), int(KEPT_S)  # what Gradio knows of; `private` removes what it does not
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=forgotten, fill_width=True) as page:
        gr.HTML(
            f"<header><h1>{TITLE}</h1><p>Choose the kind of part and drop a photograph: DifferNet, its two attention "
            "variants and PatchCore, which have seen only good parts, say whether it is defective, and where.</p>"
            "</header>"
        )
        with gr.Tabs():
            with gr.Tab("Inspect", id="inspect"):
                inspect = Inspect()
            with gr.Tab("Train", id="train"):
                training = Train()
            with gr.Tab("ROC curves", id="roc") as roc_tab:
                Roc(roc_tab, inspect.category)
            with gr.Tab("About", id="about"):
                about = (HERE / "about.md").read_text(encoding="utf-8")
                gr.Markdown(about, elem_classes="about")
        add_endpoints()
        page.unload(training.leave)
        page.load(training.recognise, training.visitor, training.visitor, **AT_ONCE)
        page.load(None, js=(HERE / "photographs.js").read_text(encoding="utf-8"), **PRIVATE)
        page.load(inspect.restore, None, inspect.restored, **AT_ONCE)
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)
    return page


def launch_options(page: gr.Blocks) -> dict[str, Any]:
    """For `Blocks.launch`; GRADIO_SERVER_NAME (set by Spaces) and GRADIO_SERVER_PORT win over 127.0.0.1 and 7860."""
    return {
        "theme": _theme(),
        "css": _style(),
        "footer_links": ["api"],
        "run_history": False,  # would keep a visitor's calls in the browser
        "max_file_size": "100mb",
        "allowed_paths": [str(EXAMPLES)],
        "state_session_capacity": MAX_SESSIONS,
        "ssr_mode": False,
        "i18n": gr.I18n(en={"common.upload": "Add files"}),  # the name of a button that Gradio has forgotten
        "share": False,
        "quiet": True,
        "app_kwargs": {"routes": [health.route(page)], "middleware": [Middleware(uploads.Uploads)]},
    }


def _theme() -> gr.themes.Base:
    mono = ["ui-monospace", "monospace"]
    return gr.themes.Base(
        primary_hue="blue", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=mono, radius_size="md"
    ).set(  # for a contrast of 4.5
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        color_accent="*primary_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


def _style() -> str:
    """The style sheet, with the colours of variants and classes that all charts have."""
    variants = "".join(
        f".variant.{variant} {{ --variant: {colour}; }}\n" for variant, colour in VARIANT_COLOURS.items()
    )
    classes = f".badge.normal {{ --badge: {NORMAL_COLOUR}; }}\n.badge.anomalous {{ --badge: {ANOMALOUS_COLOUR}; }}\n"
    return variants + classes + (HERE / "style.css").read_text(encoding="utf-8")
