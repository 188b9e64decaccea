"""Writes the table of measured results into README.md, between its two markers, from `results/`.

python scripts/readme_table.py            writes
python scripts/readme_table.py --check    exit code 1 where README.md says something else
"""

import sys
from pathlib import Path

from attentdiffernet.config import VARIANT_TITLES
from attentdiffernet.figures import interval_text
from attentdiffernet.results import read_runs, read_scores, score_path
from attentdiffernet.statistics import auroc_interval, delong_test

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results -->", "<!-- /results -->"


def table(results_dir: Path) -> str:
    """Markdown: a row per run, AUROC with its interval, difference to DifferNet on the same images and backbone."""
    runs = read_runs(results_dir)
    scores = {r.run: read_scores(score_path(results_dir, r.dataset, r.category, r.run)) for r in runs.itertuples()}
    baseline = {
        (r.dataset, r.category, r.backbone, r.seed): scores[r.run] for r in runs.itertuples() if r.variant == "none"
    }
    lines = [
        "| Data set | Category | Variant | Backbone | AUROC (95 %) | against DifferNet |",
        "| --- | --- | --- | --- | --- | --- |",
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
            f"| {r.dataset} | {r.category} | {VARIANT_TITLES[r.variant]} | {r.backbone} | {interval_text(interval)} "
            f"| {against} |"
        )
    return "\n".join(lines)


def with_table(readme: str, results_dir: Path) -> str:
    """The README with the table between its markers."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(results_dir)}\n{END}{after}"


def main() -> None:
    path = ROOT / "README.md"
    readme = path.read_text(encoding="utf-8")
    wanted = with_table(readme, ROOT / "results")
    if "--check" in sys.argv[1:]:
        sys.exit(int(readme != wanted))
    path.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
