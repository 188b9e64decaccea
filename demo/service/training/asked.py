"""What a visitor asks for when a detector is to be made, and what is told meanwhile. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

UNNAMED = "my part"


@dataclass(frozen=True)
class Progress:
    """share: 0 to 1, of a stage."""

    share: float
    text: str


@dataclass(frozen=True)
class Asked:
    """Files of good parts to train on and of defective ones to check with, archives among them; the part's name; what
    is trained, of `run.CHOICES`."""

    parts: Sequence[str | Path]
    bad_parts: Sequence[str | Path]
    name: str
    choice: str
