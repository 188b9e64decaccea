"""Writes the generated parts of README.md, docs/ and results/README.md from `results/`, `benchmarks/` and `grids/`.

python -m scripts.write_tables            writes
python -m scripts.write_tables --check    exit code 1 where a part differs from its sources
"""

import sys
from pathlib import Path

from attentdiffernet.grid import made_by
from attentdiffernet.study.readme import generated
from attentdiffernet.study.records import runs_of

ROOT = Path(__file__).resolve().parent.parent


def commands(grids: Path, results_dir: Path) -> dict[str, str]:
    """By run, the command that makes it again, where a grid file has its options today."""
    runs = runs_of(results_dir)
    found: dict[str, str] = {}
    files = {file: file.relative_to(grids.parent).as_posix() for file in sorted(grids.glob("*.toml"))}
    for file, name in files.items():
        for run in made_by(file, results_dir, ["*/*"]):
            found.setdefault(run, f"attentdiffernet grid {name} --category {runs[run].key}")
    for file, name in files.items():  # a grid that names the category itself is the shorter command
        found |= dict.fromkeys(made_by(file, results_dir), f"attentdiffernet grid {name}")
    return found


def main() -> None:
    pages = generated(ROOT, commands(ROOT / "grids", ROOT / "results"))
    changed = [path for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in changed:
            print(f"{path.relative_to(ROOT)} differs from its sources: run make results", file=sys.stderr)
        sys.exit(1 if changed else 0)
    for path in changed:
        path.write_text(pages[path], encoding="utf-8")


if __name__ == "__main__":
    main()
