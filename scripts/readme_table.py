"""Writes the tables of README.md, each between its two markers, from `results/` and `benchmarks/`.

python scripts/readme_table.py            writes
python scripts/readme_table.py --check    exit code 1 where README.md says something else
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from attentdiffernet.config import VARIANT_TITLES
from attentdiffernet.figures import interval_text
from attentdiffernet.results import read_runs, read_scores, score_path
from attentdiffernet.statistics import auroc_interval, delong_test

ROOT = Path(__file__).resolve().parent.parent


def results_table(results_dir: Path) -> str:
    """Markdown: a row per run, AUROC with its interval, difference to DifferNet on the same images and backbone."""
    runs = read_runs(results_dir)
    scores = {r.run: read_scores(score_path(results_dir, r.dataset, r.category, r.run)) for r in runs.itertuples()}
    baseline = {
        (r.dataset, r.category, r.backbone, r.seed): scores[r.run] for r in runs.itertuples() if r.variant == "none"
    }
    lines = [
        "| Data set | Category | Views | Variant | Backbone | AUROC (95 %) | against DifferNet |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    order = list(VARIANT_TITLES)
    shipped_first = sorted(
        runs.itertuples(),
        key=lambda r: (r.dataset != "sample", r.dataset, r.category, r.backbone != "imagenet", r.backbone,
                       order.index(r.variant)),
    )  # fmt: skip
    for r in shipped_first:
        found = scores[r.run]
        interval = auroc_interval(found["label"], found["score"])
        against = ""
        if r.variant != "none":
            base = baseline[r.dataset, r.category, r.backbone, r.seed]
            test = delong_test(found["label"], found["score"], base["score"])
            against = f"{100 * test.difference:+.1f} points, p = {test.p_value:.2g}"
        lines.append(
            f"| {r.dataset} | {r.category} | {r.n_views} {r.views.replace('_', ' ')} | {VARIANT_TITLES[r.variant]} "
            f"| {r.backbone} | {interval_text(interval)} | {against} |"
        )
    return "\n".join(lines)


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
    frame = frame[~frame["category"].str.startswith("sample/")]
    most = frame.groupby(["category", "views", "train_views"])["score_views"].transform("max")
    frame = frame[frame["score_views"] == most]
    readouts = list(dict.fromkeys(frame["readout"]))
    lines = [
        "| Category | Views (training, scoring) | " + " | ".join(f"`{name}`" for name in readouts) + " |",
        "| --- | --- |" + " --- |" * len(readouts),
    ]
    for (category, views, n), rows in frame.groupby(["category", "views", "train_views"], sort=False):
        by_name = {row.readout: row for row in rows.itertuples()}
        cells = [
            f"{100 * by_name[name].auroc:.1f} ({100 * by_name[name].ci_low:.1f} to {100 * by_name[name].ci_high:.1f})"
            for name in readouts
        ]
        scored = rows["score_views"].iloc[0]
        lines.append(f"| {category} | {views.replace('_', ' ')} ({n}, {scored}) | " + " | ".join(cells) + " |")
    return "\n".join(
        [*lines, "", "AUROC in percent (95 %, DeLong) by `python benchmarks/accuracy.py`; DifferNet, one seed."]
    )


def with_tables(readme: str, root: Path) -> str:
    """The README with its tables; one whose figures have not been measured yet stays as it is."""
    tables: dict[str, tuple[Callable[[Path], str], Path]] = {
        "results": (results_table, root / "results"),
        "benchmark": (benchmark_table, root / "benchmarks" / "latest.json"),
        "readouts": (readouts_table, root / "benchmarks" / "accuracy.csv"),
    }
    for name, (table, path) in tables.items():
        if path.exists():
            begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
            before, _, rest = readme.partition(begin)
            _, _, after = rest.partition(end)
            readme = f"{before}{begin}\n{table(path)}\n{end}{after}"
    return readme


def main() -> None:
    path = ROOT / "README.md"
    readme = path.read_text(encoding="utf-8")
    wanted = with_tables(readme, ROOT)
    if "--check" in sys.argv[1:]:
        sys.exit(int(readme != wanted))
    path.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
