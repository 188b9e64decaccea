"""Writes what is generated in README.md and results/README.md, each part between its two markers, from `results/`,
`benchmarks/` and `grids/`.

python scripts/write_tables.py            writes
python scripts/write_tables.py --check    exit code 1 where one of them says something else
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from attentdiffernet.words import VARIANT_TITLES, input_title  # noqa: E402
from demo.evidence import category_title, contrasts, grouped, measured  # noqa: E402
from scripts.evidence_page import options, page  # noqa: E402


def results_table(root: Path) -> str:
    """Markdown: a row per category, backbone and training of attention, mean AUROC over seeds in percent; those with
    shipped models first."""
    groups = [group for group in grouped(measured(root / "results")) if not group.first.flatters]
    tested = {id(c.group): c for c in contrasts(groups)}
    shipped = {"/".join(path.parts[-4:-2]) for path in root.glob("models/*/*/*/config.json")}
    base: dict[tuple[str, str], str] = {}
    cells: dict[tuple[str, str], dict[str, dict[str, str]]] = {}  # by category and backbone, by training, by variant
    for group in sorted(groups, key=lambda group: group.first.key not in shipped):
        m, c = group.first, tested.get(id(group))
        place = m.key, m.run.backbone
        area = group.auroc_text.replace(" %", "")
        if m.run.variant == "none":
            base.setdefault(place, area)
            cells.setdefault(place, {})
        elif m.run.variant in VARIANT_TITLES:
            area = area.removesuffix(f" ({len(group.runs)} seeds)")
            if c:
                change = f"{100 * c.test.difference:+z.1f}"
                area = f"{area}, **{change}**" if c.real else f"{area}, {change}"
            elif group.left_at_one:
                area += ", gates left at 1"
            cells.setdefault(place, {}).setdefault(options(m), {})[m.run.variant] = area
    attention = [name for name in VARIANT_TITLES if name != "none"]
    lines = [
        "| Category | Backbone | DifferNet | Attention | " + " | ".join(VARIANT_TITLES[n] for n in attention) + " |",
        "| --- | --- | --- | --- |" + " --- |" * len(attention),
    ]
    for (key, backbone), trainings in cells.items():
        for training, found in (trainings or {"": {}}).items():
            row = [category_title(key), backbone, base.get((key, backbone), ""), training]
            lines.append("| " + " | ".join([*row, *(found.get(name, "") for name in attention)]) + " |")
    return "\n".join(
        [
            *lines,
            "",
            "AUROC in percent, mean ± standard deviation over seeds, or one seed with its 95 % interval; then points "
            "above DifferNet of the same seeds, bold where that is more than chance (Holm) and than seeds explain. "
            "Gates left at 1 are DifferNet: training found no help in them on normals. Epochs were fixed in advance. "
            "Intervals, tests, cost, and what choosing epochs on the test images adds: "
            "[results/README.md](results/README.md).",
        ]
    )


def benchmark_table(path: Path) -> str:
    """Markdown: the figures of `make benchmark`, with the command under them."""
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        (
            f"Train on {found['images']} images of {found['data']}, to a calibrated checkpoint",
            f"{found['paper_train_seconds'] / 3600:.1f} h",
            f"{found['train_seconds']:.0f} s",
            f"{found['train_speedup']:.0f} x",
        ),
        (
            f"Score one image (64 against {found['score_views']} views)",
            f"{found['paper_score_seconds']:.2f} s",
            f"{found['score_seconds']:.2f} s",
            f"{found['score_speedup']:.0f} x",
        ),
        ("First verdict of three variants on an upload", "", f"{found['compare_first_seconds']:.2f} s", ""),
        ("All scores and maps of three variants", "", f"{found['compare_seconds']:.2f} s", ""),
        ("Backbone against a float32 matrix product", "", f"{found['backbone_fraction_of_gemm']:.0%}", ""),
        *(
            [("Score one image with `--precision bfloat16` (against float32)", "", "", f"{gain:.1f} x")]
            if (gain := found.get("bfloat16_speedup"))
            else []
        ),
        ("Highest memory of the whole benchmark", "", f"{found['peak_rss_mb'] / 1000:.1f} GB", ""),
    ]
    machine = found["machine"]
    return "\n".join(
        [
            "| | `paper` | `fast` | |",
            "| --- | --- | --- | --- |",
            *("| " + " | ".join(row) + " |" for row in rows),
            "",
            f"`make benchmark` on {machine['cores']} cores ({machine['cpu']}, torch {machine['torch']}), "
            f"{found['date']}. The cost of `paper` is measured per image and epoch, and multiplied.",
        ]
    )


def readouts_table(path: Path) -> str:
    """Markdown: AUROC of every readout on the real categories, by kind of views; the most views of each."""
    frame = pd.read_csv(path)
    frame = frame[~frame["category"].str.startswith("sample/") & (frame["views"] != "paper")]
    recipe = ["category", "exposure", "views", "train_views"]
    most = frame.groupby(recipe)["score_views"].transform("max")
    frame = frame[frame["score_views"] == most]
    readouts = list(dict.fromkeys(frame["readout"]))
    lines = [
        "| Category | Views (training, scoring) | " + " | ".join(f"`{name}`" for name in readouts) + " |",
        "| --- | --- |" + " --- |" * len(readouts),
    ]
    for (category, exposure, views, n), rows in frame.groupby(recipe, sort=False):
        by_name = {row.readout: row for row in rows.itertuples()}
        cells = [
            f"{100 * by_name[name].auroc:.1f} ({100 * by_name[name].ci_low:.1f} to {100 * by_name[name].ci_high:.1f})"
            for name in readouts
        ]
        scored = rows["score_views"].iloc[0]
        title = f"{input_title(views, 'squeeze', exposure)} ({n}, {scored})"
        lines.append(f"| {category} | {title} | " + " | ".join(cells) + " |")
    return "\n".join(
        [*lines, "", "AUROC in percent (95 %, DeLong) by `python benchmarks/accuracy.py`; DifferNet, one seed."]
    )


def generated(root: Path) -> dict[Path, str]:
    """Every page that holds generated parts, as it should be. What has not been measured yet stays as it is."""
    bench, accuracy = root / "benchmarks" / "latest.json", root / "benchmarks" / "accuracy.csv"
    runs, grids = root / "results" / "runs.csv", root / "grids"
    parts: list[tuple[str, str, Path, Callable[[], str]]] = [
        ("README.md", "results", runs, lambda: results_table(root)),
        ("README.md", "benchmark", bench, lambda: benchmark_table(bench)),
        ("README.md", "readouts", accuracy, lambda: readouts_table(accuracy)),
        ("results/README.md", "evidence", runs, lambda: page(root / "results", grids)),
    ]
    pages: dict[Path, str] = {}
    for name, part, source, text in parts:
        path = root / name
        pages.setdefault(path, path.read_text(encoding="utf-8"))
        if source.exists():
            pages[path] = between(pages[path], part, text())
    return pages


def between(text: str, part: str, new: str) -> str:
    """The text with `new` between the two markers of a part. Raises ValueError where it has no such markers."""
    begin, end = f"<!-- {part} -->", f"<!-- /{part} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"The page has no part {begin} ... {end}")
    return f"{before}{begin}\n{new}\n{end}{after}"


def main() -> None:
    pages = generated(ROOT)
    if "--check" in sys.argv[1:]:
        old = [path for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
        for path in old:
            print(f"{path.relative_to(ROOT)} says something else than its sources: run make results", file=sys.stderr)
        sys.exit(1 if old else 0)
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
