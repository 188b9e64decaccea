"""The line that says what is going on, as HTML."""

from ..markup import text


def seen(yes: bool) -> list[str]:
    """`elem_classes` of a component that comes and goes, in place of `visible=`. What is not visible is mounted only
    when it is to be seen, and Gradio loses updates that come at that moment. Columns and rows cannot be `hidden`."""
    return [] if yes else ["away"]


def finished(message: str) -> str:
    return f"<p>{text(message)}</p>"


def progress(done: float, message: str) -> str:
    return f'<p>{text(message)}</p><div class="progress"><div style="width: {done:.1%}"></div></div>'
