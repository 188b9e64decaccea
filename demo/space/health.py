"""`/health`: what whoever watches over the page wants to know, as JSON."""

from typing import Any

import gradio as gr
from fastapi.routing import APIRoute

from attentdiffernet import __version__

from ..service import catalogue


def route(page: gr.Blocks) -> APIRoute:
    """GET /health -> version, the detectors by category, how many runs wait in the queue, and categories that cannot be
    used, with the reason."""

    def health() -> dict[str, Any]:
        usable = catalogue.usable_categories()
        return {
            "status": "ok" if usable else "no models",
            "version": __version__,
            "models": {key: catalogue.detector_names(key) for key in usable},
            "unusable": {info.key: info.why_not for info in catalogue.categories() if info.why_not},
            "waiting": len(page._queue),
        }

    return APIRoute("/health", health, methods=["GET"])
