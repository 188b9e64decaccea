"""The line that says what is going on, as HTML."""

from pathlib import Path

from ..markup import text

# Screen readers read the status aloud as it changes. The attributes stand from the start: set together with the first
# message, that message would not be read.
LIVE = "element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite');\n" + (
    Path(__file__).parent / "waiting.js"
).read_text(encoding="utf-8")


def seen(yes: bool) -> list[str]:
    """`elem_classes` of a component that comes and goes, in place of `visible=`. What is not visible is mounted only
    when it is to be seen, and Gradio loses updates that come at that moment. Columns and rows cannot be `hidden`."""
    return [] if yes else ["away"]


def finished(message: str) -> str:
    return f"<p>{text(message)}</p>"


def progress(done: float, message: str) -> str:
    return f'<p>{text(message)}</p><div class="progress"><div style="width: {done:.1%}"></div></div>'
