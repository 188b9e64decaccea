"""What `--help` says: commands with their docstrings, lists of values as words."""

import inspect
from collections.abc import Callable
from typing import Any, get_args

import typer


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As `app.command`, with paragraphs that the terminal breaks: typer keeps the line breaks of the source."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        paragraphs = (inspect.getdoc(function) or "").split("\n\n")
        return app.command(name, help="\n\n".join(" ".join(words.split()) for words in paragraphs))(function)

    return register


def one_of(kind: Any) -> str:
    """The values of a Literal as part of a sentence: in the column of types, --help breaks long lists within words."""
    return ", ".join(get_args(kind))
