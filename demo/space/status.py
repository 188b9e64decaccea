"""The line that says what is going on, as HTML."""

from ..markup import text


def finished(message: str) -> str:
    return f"<p>{text(message)}</p>"


def progress(done: float, message: str) -> str:
    return f'<p>{text(message)}</p><div class="progress"><div style="width: {done:.1%}"></div></div>'


def alert(message: str) -> str:
    return f'<p class="alert" role="alert"><span aria-hidden="true">⚠</span> {text(message)}</p>'
