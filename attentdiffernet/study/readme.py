"""The generated parts of Markdown pages: each stands between two comments, `<!-- NAME -->` and `<!-- /NAME -->`.

| part | from |
| --- | --- |
| answer, methods, levels, results, evidence | results/ |
| benchmark | benchmarks/latest.json |
| readouts | benchmarks/accuracy.csv |
| small_sets | benchmarks/small_sets.csv |
| choices | benchmarks/input_choice.csv, benchmarks/method_choice.csv |
| hostile | benchmarks/hostile_files.json |
| kills | benchmarks/kills.json |
| load | benchmarks/load.json |
| audit | docs/dependencies.csv |
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..datasets import category_title
from ..datasets.sample import LEVELS
from ..words import (
    ATTENTIVE_METHODS,
    DETECTOR_TITLES,
    OTHER_METHODS,
    PAPER_VARIANTS,
    VARIANT_TITLES,
    input_title,
    percent,
    variant_title,
)
from .answer import all_contrasts, answer, training_text
from .choices import choices_table
from .comparison import GATES_LEFT_AT_1, SIGNIFICANT, Contrast, Group, Measured, contrasts, grouped, measured
from .formats import percent_range, points
from .methods import attentive_text, method_contrasts, methods_text
from .page import page
from .small_sets import small_sets_table
from .statistics import auroc
from .tables import Column, Table, group_auroc_text
from .usual import usual

LEVEL = f"/({'|'.join(LEVELS)})_"  # in the name of an image
LOAD_COLUMNS = {
    "asked": "asked",
    "answered": "answered",
    "place_shown": "told their place",
    "median_s": "median, s",
    "longest_s": "longest, s",
}


def generated(root: Path, commands: Mapping[str, str]) -> dict[Path, str]:
    """Every page of the project with generated parts, as it should be. A part whose source is missing stays as it is.

    commands: as of `page.page`.
    """
    results, benchmarks = root / "results", root / "benchmarks"
    latest, accuracy, hostile = (benchmarks / name for name in ("latest.json", "accuracy.csv", "hostile_files.json"))
    small_sets, kills, load = (benchmarks / name for name in ("small_sets.csv", "kills.json", "load.json"))
    inputs, methods = benchmarks / "input_choice.csv", benchmarks / "method_choice.csv"
    audit = root / "docs" / "dependencies.csv"
    parts: dict[str, tuple[Path, Callable[[Path], str]]] = {  # source, and the text for a page in this folder
        "answer": (results / "runs.csv", lambda _: attention_sentences(results)),
        "methods": (results / "runs.csv", lambda _: methods_sentence(results)),
        "levels": (results / "runs.csv", lambda _: levels_table(measured(results)).markdown().strip()),
        "results": (results / "runs.csv", lambda folder: results_table(root, folder)),
        "evidence": (results / "runs.csv", lambda _: page(results, commands, benchmarks)),
        "benchmark": (latest, lambda _: benchmark_table(json.loads(latest.read_text(encoding="utf-8")))),
        "hostile": (hostile, lambda _: hostile_text(json.loads(hostile.read_text(encoding="utf-8")))),
        "kills": (kills, lambda _: kills_text(json.loads(kills.read_text(encoding="utf-8")))),
        "load": (load, lambda _: load_text(json.loads(load.read_text(encoding="utf-8")))),
        "audit": (audit, lambda _: audit_text(pd.read_csv(audit, dtype=str, keep_default_na=False))),
        "readouts": (accuracy, lambda _: readouts_table(pd.read_csv(accuracy))),
        "choices": (
            inputs,
            lambda _: choices_table(pd.read_csv(inputs), pd.read_csv(methods), better_methods(results)),
        ),
        "small_sets": (small_sets, lambda _: small_sets_table(pd.read_csv(small_sets))),
    }
    pages: dict[Path, str] = {}
    for path in (root / "README.md", *sorted((root / "docs").glob("*.md")), results / "README.md"):
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        named = [name for name in parts_in(text) if name in parts]
        for name in named:
            source, write = parts[name]
            if source.is_file():
                text = between(text, name, write(path.parent))
        if named:
            pages[path] = text
    return pages


def parts_in(text: str) -> list[str]:
    """The names of the generated parts of a page."""
    return re.findall(r"^<!-- (\w+) -->$", text, re.M)


def between(text: str, part: str, new: str) -> str:
    """The text with `new` between the two comments of a part. Raises ValueError where it has no such part."""
    begin, end = f"<!-- {part} -->", f"<!-- /{part} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"The page has no part {begin} ... {end}")
    return f"{before}{begin}\n{new}\n{end}{after}"


def hostile_text(found: Mapping[str, Any]) -> str:
    """A table of what mutated files did to the decoder, and the worst of it."""
    rows = [[form, counts["read"], counts["refused"]] for form, counts in found["outcomes"].items()]
    columns = [Column("Format"), Column("read", number=True), Column("refused in a sentence", number=True)]
    command, page = found["command line"], found["page"]
    return (
        f"{Table(columns, rows).markdown()}\n"
        f"The slowest of {found['files']:,} files took {found['slowest_s']:.1f} s of a core ({found['slowest']}); "
        f"the process that decoded all of them took {found['memory_gb']:.1f} GB at most. `attentdiffernet score` gave "
        f"{command['scored']:,} of them a score and {command['refused']:,} a sentence; of {sum(page.values()):,} that "
        f"were uploaded to the demo, {page['scored']:,} got a verdict and {page['refused']:,} a sentence."
    )


def kills_text(found: Mapping[str, Any]) -> str:
    """A table of the kinds of work that were killed, and what was wrong afterwards."""
    rows = [
        [name.replace("_", " "), work["kills"], f"{work['seconds']:.1f}", len(work["wrong"])]
        for name, work in found["works"].items()
    ]
    columns = [Column("Work"), Column("kills", number=True), Column("undisturbed, s", number=True)]
    columns.append(Column("ended otherwise", number=True))
    wrong = [sentence for work in found["works"].values() for sentence in work["wrong"]]
    said = "; ".join(wrong) or "After every one, the same work ended with the same files and no others"
    return f"{Table(columns, rows).markdown()}\n{found['kills']} kills. {said}."


def load_text(found: Mapping[str, Any]) -> str:
    """A table of what visitors met, by the part of the measurement, and what else was measured meanwhile."""
    crowd = found["crowd"]
    titles = {"crowd": f"{crowd['visitors']} visitors for {crowd['seconds'] / 60:.3g} minutes"}
    titles |= {"burst": f"{found['burst']['asked']} visitors at once", "light": "a visitor every 5 s"}
    parts = {title: found[part] for part, title in titles.items() if part in found}
    rows = [[title, *(part[column] for column in LOAD_COLUMNS), _memory_text(part)] for title, part in parts.items()]
    columns = [Column("Load"), *(Column(title, number=True) for title in LOAD_COLUMNS.values()), Column("memory")]
    errors = "; ".join(error for part in parts.values() for error in part["errors"]) or "none"
    ended, (least, most) = crowd["trickling_uploads_ended_s"], crowd["shares"]
    return (
        f"{Table(columns, rows).markdown()}\n"
        f"Errors: {errors}. On {found['cores']} cores; each of the {crowd['visitors']} got {least} to {most} answers. "
        f"Meanwhile {crowd['vanished']} visitors vanished from long requests, and {len(ended)} uploads that trickled "
        f"were ended after {max(ended):.0f} s. After a long request was left or cancelled, the next visitor's turn "
        f"came within {crowd['freed_s']:.1f} s. Memory is the most of the demo's process, and its slope in the second "
        "half of the time."
    )


def audit_text(rows: pd.DataFrame) -> str:
    """How many known vulnerabilities concern the packages that were checked, and a table of those in our versions.

    rows: one for each advisory of a package; a package without one has the verdict `no advisory`.
    """
    known = rows[rows["verdict"] != "no advisory"]
    count = known["verdict"].value_counts()
    affected, unused = int(count.get("affected", 0)), int(count.get("not used", 0))
    table = known[known["verdict"].isin(["affected", "not used"])]
    columns = [Column("Package"), Column("Advisory"), Column("Verdict"), Column("Remark")]
    cells = [
        [str(package), f"{advisory}, {str(aliases).split()[0]}", str(verdict), str(remark)]
        for package, advisory, aliases, verdict, remark in zip(
            *(table[name] for name in ("package", "advisory", "aliases", "verdict", "remark")), strict=True
        )
    ]
    return (
        f"{rows['package'].nunique()} packages, {len(known)} advisories about {known['package'].nunique()} of them; "
        f"{affected or 'none'} of these affect{'' if affected > 1 else 's'} what is used here. "
        f"{count.get('not affected', 0)} are about other versions, {count.get('withdrawn', 0)} were withdrawn, and "
        f"{unused} name no version as mended, but a part that is not used:\n\n"
        f"{Table(columns, cells).markdown().strip()}"
    )


def _memory_text(part: Mapping[str, Any]) -> str:
    if (memory := part.get("memory")) is None:
        return ""
    slope, minutes = memory["slope_mb_per_minute"], memory["minutes"]
    return f"{memory['most_mb']:,} MB, {slope:+.1f} MB a minute over {minutes:.0f} minutes"


# -- results


def _other_methods(results: Path) -> list[Contrast]:
    """As they are trained by default; corrected for all that were measured, as on the results page."""
    fair = [m for m in measured(results) if not m.best_on_test]
    by_default = {m.run.run for m in usual(fair)}
    return [c for c in method_contrasts(grouped(fair)) if c.group.first.run.run in by_default]


def methods_sentence(results: Path) -> str:
    return methods_text(_other_methods(results)) or "No other method was compared with DifferNet."


def attention_sentences(results: Path) -> str:
    """The answer about DifferNet, and about other methods with attention, where they were measured."""
    fair = [m for m in measured(results) if not m.best_on_test]
    return "\n\n".join(filter(None, (f"**{answer(all_contrasts(fair))}**", attentive_text(grouped(fair)))))


def better_methods(results: Path) -> dict[str, str]:
    """By category, DifferNet or the other method, where one of them is better beyond chance."""
    better = {}
    for c in _other_methods(results):
        run = c.group.first.run
        if c.real:
            better[run.key] = ATTENTIVE_METHODS.get(run.variant, run.variant) if c.test.difference > 0 else "differnet"
    return better


def levels_table(found: Iterable[Measured]) -> Table:
    """AUROC by level of the defects of the drawn sets, whose images are named by it: of DifferNet and other methods,
    seed 0."""
    rows: list[list[object]] = []
    for m in usual(found):
        level = m.scores["image"].str.extract(LEVEL, expand=False)
        if m.run.seed or m.run.variant not in ("none", *OTHER_METHODS) or not level.notna().any():
            continue
        those = [m.scores[(m.scores["label"] == 0) | (level == name)] for name in LEVELS]
        rows.append([m.key, m.run.variant, m.run.backbone, *(auroc(of["label"], of["score"]) for of in those)])
    columns = [Column("Category", category_title), Column("Method", variant_title), Column("Backbone")]
    return Table([*columns, *(Column(name, percent, number=True) for name in LEVELS)], rows)


def results_table(root: Path, folder: Path) -> str:
    """A row per category, backbone and training of attention, mean AUROC over seeds in percent, with other methods in
    the first row of a category; those with shipped models first. folder: of the page, for its links."""
    fair = [m for m in measured(root / "results") if not m.best_on_test]
    groups, of_default = grouped(fair), {m.run.run for m in usual(fair) if m.run.variant in OTHER_METHODS}
    tested = {c.group.first.run.run: c for c in [*contrasts(groups), *method_contrasts(groups)]}
    shipped = {"/".join(path.parts[-4:-2]) for path in root.glob("models/*/*/*/config.json")}
    base: dict[tuple[str, str], Group] = {}
    others: dict[tuple[str, str], Group] = {}  # by category and method, on its first network
    rows: dict[tuple[str, str], dict[str, dict[str, Group]]] = {}  # by category and backbone, by training, by variant
    for group in sorted(groups, key=lambda group: group.first.key not in shipped):
        m = group.first
        place = m.key, m.run.backbone
        if m.run.variant == "none":
            base.setdefault(place, group)
            rows.setdefault(place, {})
        elif m.run.run in of_default:
            others.setdefault((m.key, m.run.variant), group)
        elif m.run.variant in PAPER_VARIANTS:
            rows.setdefault(place, {}).setdefault(training_text(m), {})[m.run.variant] = group

    def area(group: Group) -> str:
        return group_auroc_text(group) + _change(group, tested.get(group.first.run.run))

    attention = [name for name in PAPER_VARIANTS if name != "none"]
    columns = [Column("Category", category_title), Column("Backbone"), Column("DifferNet", group_auroc_text)]
    columns += [Column("Attention"), *(Column(VARIANT_TITLES[name], area) for name in attention)]
    shown = [name for name in OTHER_METHODS if any(method == name for _, method in others)]
    columns += [Column(DETECTOR_TITLES[name], area) for name in shown]
    for key, _ in others:
        if not any(place == key for place, _ in rows):
            rows[key, ""] = {}
    table = Table(
        columns,
        [
            [key, backbone, base.get((key, backbone)), training, *(found.get(name) for name in attention)]
            + [others.pop((key, name), None) for name in shown]
            for (key, backbone), trainings in rows.items()
            for training, found in (trainings or {"": {}}).items()
        ],
    )
    link = Path(os.path.relpath(root / "results" / "README.md", folder)).as_posix()
    return (
        f"{table.markdown()}\n"
        "AUROC in percent: mean ± standard deviation over seeds, or one seed with its 95 % interval. Then points above "
        f"DifferNet of the same seeds, bold where p < {SIGNIFICANT} after Holm's correction and the interval over "
        "seeds excludes 0. PatchCore has a backbone of its own and does not count as attention. Gates left at 1 are "
        "DifferNet: they did not help on training normals. Epochs were fixed in advance. "
        f"Intervals, tests, cost, and what choosing epochs on the test images adds: [results]({link})."
    )


def _change(group: Group, c: Contrast | None) -> str:
    if c is None:
        return f", {GATES_LEFT_AT_1}" if group.left_at_one else ""
    change = points(c.test.difference)
    return f", **{change}**" if c.real else f", {change}"


# -- benchmarks


def benchmark_table(found: Mapping[str, Any]) -> str:
    """The figures of `make benchmark`, with the command under them."""
    columns = [Column(""), Column("`paper`"), Column("`fast`"), Column("")]
    rows: list[list[Any]] = [
        [
            f"Train on {found['images']} images of {found['data']}, to a calibrated checkpoint",
            f"{found['paper_train_seconds'] / 3600:.1f} h",
            f"{found['train_seconds']:.0f} s",
            f"{found['train_speedup']:.0f} x",
        ],
        [
            f"Score one image (64 against {found['score_views']} views)",
            f"{found['paper_score_seconds']:.2f} s",
            f"{found['score_seconds']:.2f} s",
            f"{found['score_speedup']:.0f} x",
        ],
        ["First verdict of three variants on an upload", None, f"{found['compare_first_seconds']:.2f} s", None],
        ["All scores and maps of three variants", None, f"{found['compare_seconds']:.2f} s", None],
        ["Backbone against a float32 matrix product", None, f"{100 * found['backbone_fraction_of_gemm']:.0f} %", None],
    ]
    if gain := found.get("bfloat16_speedup"):
        rows.append(["Score one image with `--precision bfloat16` (against float32)", None, None, f"{gain:.1f} x"])
    rows.append(["Highest memory of the whole benchmark", None, f"{found['peak_rss_mb'] / 1000:.1f} GB", None])
    machine = found["machine"]
    return (
        f"{Table(columns, rows).markdown()}\n"
        f"`make benchmark` on {machine['cores']} cores ({machine['cpu']}, torch {machine['torch']}), {found['date']}. "
        "The cost of `paper` is measured per image and epoch, and multiplied."
    )


def readouts_table(frame: pd.DataFrame) -> str:
    """AUROC of every readout on the real categories, by kind of views; the most views of each."""
    frame = frame[~frame["category"].str.startswith("sample/") & (frame["views"] != "paper")]
    recipe = ["category", "exposure", "views", "train_views"]
    frame = frame[frame["score_views"] == frame.groupby(recipe)["score_views"].transform("max")]
    readouts = list(dict.fromkeys(frame["readout"]))

    def area(row: Any) -> str:
        return f"{percent(row.auroc)} ({percent_range(row.ci_low, row.ci_high)})"

    columns = [Column("Category"), Column("Views (training, scoring)")]
    columns += [Column(f"`{name}`", area) for name in readouts]
    rows = []
    for (category, exposure, views, n), some in frame.groupby(recipe, sort=False):
        by_name = {row.readout: row for row in some.itertuples()}
        title = f"{input_title(str(views), 'squeeze', str(exposure))} ({n}, {some['score_views'].iloc[0]})"
        rows.append([category, title, *(by_name[name] for name in readouts)])
    return (
        f"{Table(columns, rows).markdown()}\n"
        "AUROC in percent (95 %, DeLong) by `python -m benchmarks.accuracy`; DifferNet, one seed."
    )
