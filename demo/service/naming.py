"""Names for files whose own names are untrusted."""

from pathlib import Path


def safe_stem(name: str) -> str:
    """A file name without suffix, of letters, digits and `._-` only; never a hidden one."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in Path(name).stem)
    return kept.lstrip(".")[:60] or "image"
