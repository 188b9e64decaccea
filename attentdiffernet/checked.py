"""Frozen dataclasses that check the type of every field, and go to and from plain JSON data."""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

from .errors import AttentDifferNetError

# Kept: asking for them anew is a third of the time to read the options of many runs.
_hints_of: Callable[[Any], dict[str, Any]] = functools.cache(typing.get_type_hints)


@dataclass(frozen=True)
class Checked:
    """Base class. Raises AttentDifferNetError for a value of another type than the field is annotated with."""

    def __post_init__(self) -> None:
        for name, hint in _hints_of(type(self)).items():
            if expected := _mismatch(hint, getattr(self, name)):
                raise AttentDifferNetError(f"{name} must be {expected}, got {getattr(self, name)!r}")

    def check_range(self, least: float, most: float, *names: str, above: bool = False) -> None:
        """Raises AttentDifferNetError for a field outside least..most: nan and infinity lie nowhere. None is left out.
        above: whether `least` itself is refused, too."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not (least <= value <= most and not (above and value == least)):
                where = f"above {least} and at most at {most}" if above else f"in {least}..{most}"
                raise AttentDifferNetError(f"{name} must lie {where}, got {value}")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises AttentDifferNetError for a name that is not a field, so that a typo is not swallowed."""
        if not isinstance(values, dict):
            raise AttentDifferNetError(f"{cls.__name__} needs a mapping of names to values, got {_type(values)}")
        hints = _hints_of(cls)
        if unknown := sorted(set(values) - set(hints)):
            raise AttentDifferNetError(f"{cls.__name__} has no option {', '.join(unknown)}; it has {', '.join(hints)}")
        try:
            return cls(**{name: _from_json(hints[name], value) for name, value in values.items()})
        except TypeError as error:
            raise AttentDifferNetError(f"{cls.__name__} has a value of a wrong type: {error}") from error


def _type(value: object) -> str:
    return type(value).__name__


def _from_json(hint: Any, value: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, Checked):
        return hint.from_dict(value)
    return tuple(value) if typing.get_origin(hint) is tuple else value


def _mismatch(hint: Any, value: Any) -> str:
    """What the type hint of a field asks for; empty where the value fits."""
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):
        if value is None and types.NoneType in parts:
            return ""
        return _mismatch(next(part for part in parts if part is not types.NoneType), value)
    if kind is Literal:
        return "" if value in parts else f"one of {', '.join(parts)}"
    if kind is tuple:
        any_length = parts[-1] is ...
        fits = isinstance(value, tuple) and (any_length or len(value) == len(parts))
        fits = fits and not any(_mismatch(parts[0], part) for part in value)
        return "" if fits else "numbers" if any_length else f"{len(parts)} numbers"
    if kind is dict:
        fits = isinstance(value, dict) and not any(_mismatch(parts[1], part) for part in value.values())
        return "" if fits else "numbers by name"
    if hint in (int, float):
        fits = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
        return "" if fits else "a whole number" if hint is int else "a number"
    return "" if isinstance(value, hint) else {str: "text", bool: "true or false"}.get(hint, f"a {hint.__name__}")
