"""The generated part of results/README.md: what the score files say to "Does attention help?", and what it cost."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attentdiffernet.grid import made_by
from attentdiffernet.study import records as results
from attentdiffernet.study.maps import maps_table, summary_of_maps
from attentdiffernet.study.statistics import Difference, holm
from attentdiffernet.words import METHOD_TITLES
from demo.evidence import (
    LEFT_AT_ONE,
    Contrast,
    Group,
    Measured,
    category_title,
    contrasts,
    dataset_title,
    grouped,
    mean_text,
    measured,
    p_text,
    variant_title,
)


def page(results_dir: Path, grids: Path) -> str:
    """Markdown, from the results folder and the grid files that made it."""
    everything = measured(results_dir)
    best = {m.run.run: m for m in everything if m.flatters}
    fair = [m for m in everything if not m.flatters]
    groups = grouped(fair)
    found = contrasts(groups)
    published = results.read_published(results_dir)
    costs = {m.run.run: (results.read_options(results_dir, m.run) or {}).get("cost", {}) for m in fair}
    lines = [
        "## Does attention help?",
        "",
        *in_short(found, fair, best),
        *against_the_claim(found, published),
        *maps_in_short(results_dir),
        *by_training(found),
        "## By category",
        "",
        *LEGEND,
    ]
    for key in sorted({m.key for m in fair}, key=lambda key: (key.startswith("sample/"), key)):
        here = [group for group in groups if group.first.key == key]
        lines += [*category(key, here, found, best), *published_of(key, published)]
        lines += each_run([m for group in here for m in group.runs], best, costs)
    lines += [*where_maps_look(results_dir), *on_training_normals(grids.parent / "benchmarks")]
    lines += [*never_measured(published, {(m.run.dataset, m.run.category) for m in fair}), *cost(groups, costs)]
    return "\n".join([*lines, *commands(fair, results_dir, grids)]).rstrip()


LEGEND = [
    "One table per category. **AUROC** in percent: mean ± standard deviation over seeds, or one seed with its 95 % "
    "interval. **Δ**: points of AUROC above DifferNet of the same backbone and seeds on the same images, with the 95 % "
    "interval over test images (DeLong, of the mean over the seeds) and the one over seeds (Student). **p**: of that "
    "DeLong test; **Holm**: corrected for all comparisons on this page. Epochs are fixed in advance (`last`), except "
    "where a column says *flatters*: there the epoch was chosen on the test images (`best-on-test`), as DifferNet's "
    "code does; only such numbers may be held against published ones, and they are never tested.",
    "",
]


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)] + [""]


def points(difference: Difference) -> str:
    return f"{100 * difference.difference:+z.1f} ({span(difference.low, difference.high)})"


def span(low: float, high: float) -> str:
    return f"{100 * low:+z.1f} to {100 * high:+z.1f}"


def counted(n: int, one: str, more: str = "") -> str:
    return f"{n} {one if n == 1 else more or one + 's'}"


def options(m: Measured) -> str:
    """`proxy, 90 epochs`: how attention was trained, always, and what else tells runs of the variant apart."""
    training = m.run.attention_training
    other = [part for part in m.recipe.split(", ") if part != f"attention {training}"]
    return ", ".join(filter(None, [training, *other]))


def named(m: Measured) -> str:
    """`AttentDifferNet (SE), proxy`."""
    return ", ".join(filter(None, [variant_title(m.run.variant), options(m)]))


# -- in short


def in_short(found: list[Contrast], fair: list[Measured], best: dict[str, Measured]) -> list[str]:
    keys = {m.key for m in fair}
    drawn = sum(key.startswith("sample/") for key in keys)
    measured_here = f"Measured: {counted(len(fair), 'run')} in {counted(len(keys), 'category', 'categories')}" + (
        f", {drawn} of them synthetic." if drawn else "."
    )
    if not found:
        return [measured_here, "No attention variant was measured beside DifferNet: nothing can be said.", ""]
    higher = [c for c in found if c.real and c.test.difference > 0]
    lower = [c for c in found if c.real and c.test.difference < 0]
    unsure = [c for c in found if c.beyond_chance and not c.real]
    rest = len(found) - len(higher) - len(lower) - len(unsure)
    lines = [
        f"**{conclusion(len(higher), len(lower), len(found))}**",
        "",
        f"{measured_here} A comparison is that of one variant, training of attention and backbone with DifferNet in "
        f"one category, over all seeds. On average over {len(found)} of them attention changes AUROC by "
        f"{100 * np.mean([c.test.difference for c in found]):+z.1f} points. After correction for making so many tests "
        f"(Holm), it is better beyond chance in {len(higher)}, worse in {len(lower)}, and cannot be told from no "
        f"attention in {rest}" + (f"; in {len(unsure)} other seeds may turn it" if unsure else "") + ".",
        "",
    ]
    for title, some in (("Better", higher), ("Worse", lower), ("Undecided between seeds", unsure)):
        lines += [f"- {title}: {sentence(c)}" for c in some]
    lines += [""] * bool(higher or lower or unsure)
    reach = 100 * float(np.median([(c.test.high - c.test.low) / 2 for c in found]))
    lines.append(
        f"What cannot be told from chance is not thereby nothing: in half of the comparisons a change of less than "
        f"{reach:.1f} points would lie inside the interval over test images, before any correction."
    )
    trained = [m for m in fair if m.run.attention_training]
    if left := sum(m.left_at_one for m in trained):
        lines.append(LEFT_AT_ONE.format(left=left, runs=len(trained)))
    if alone := sum(c.over_seeds is None for c in found):
        rest_on = counted(alone, "comparison rests", "comparisons rest")
        lines.append(f"{rest_on} on one seed only: of other seeds nothing is known there.")
    gains = [best[name].interval.auroc - m.interval.auroc for m in fair if (name := m.run.run + results.BEST) in best]
    if not gains:
        lines.append("What choosing the epoch on the test images would add was not measured.")
    else:
        lines.append(
            f"Choosing the epoch on the test images, as DifferNet's code does, adds {100 * np.mean(gains):.1f} points "
            f"on average to the very same training (up to {100 * max(gains):.1f}, {counted(len(gains), 'run')})."
        )
    return [*lines, ""]


def against_the_claim(found: list[Contrast], published: pd.DataFrame) -> list[str]:
    """What the paper says attention gains, where one source states both averages, and how it fares here."""
    averages = published[published["category"] == "average"].pivot_table("auroc", ["source", "dataset"], "method")
    if not found or not {"DifferNet", "AttentDifferNet"} <= {*averages}:
        return []
    gains = (averages["AttentDifferNet"] - averages["DifferNet"]).dropna()
    source = gains.groupby("source").size().idxmax()
    of_source = gains[source]
    claim = float(of_source.mean())
    stated = ", ".join(f"{dataset_title(name)} {100 * gain:+.1f}" for name, gain in of_source.items())
    below = sum(c.test.high < claim for c in found)
    reached = [c.real for c in found if c.test.difference >= claim]
    no_room = sum(c.test.auroc_b > 1 - claim for c in found)
    return [
        f"The paper states {100 * claim:+.2f} points on average over its data sets ({stated}; {source}), under its own "
        f"weights, views and choice of epochs. Here {len(reached)} of {counted(len(found), 'comparison')} reach that, "
        f"{sum(reached)} beyond chance, and in {below} the whole interval over test images lies below it; in {no_room} "
        "DifferNet leaves less room than that below 100 %.",
        "",
    ]


def conclusion(higher: int, lower: int, n: int) -> str:
    if higher and lower:
        return f"It depends: attention helps in {higher} and harms in {lower} of {counted(n, 'comparison')}."
    if higher:
        return f"Attention helps in {higher} of {counted(n, 'comparison')} and harms in none."
    if lower:
        return f"Attention helps in no comparison, and harms in {lower} of {n}."
    return "In no comparison attention helps or harms beyond chance."


def sentence(c: Contrast) -> str:
    m = c.group.first
    seeds = "one seed only"
    if c.over_seeds:
        seeds = f"{span(*c.over_seeds[1:])} over {len(c.group.differences)} seeds"
    return (
        f"{category_title(m.key)}, {named(m)}, {m.run.backbone} backbone: {100 * c.test.difference:+z.1f} points "
        f"({span(c.test.low, c.test.high)} over test images, {seeds}; p {p_text(c.p_holm, '= ')} after Holm)."
    )


def by_training(found: list[Contrast]) -> list[str]:
    """A row per variant, training of attention and backbone: in how many categories it is better or worse."""
    rows: dict[tuple[str, str], list[Contrast]] = defaultdict(list)
    for c in found:
        rows[named(c.group.first), c.group.first.run.backbone].append(c)
    if not rows:
        return []
    head = ["Variant", "Backbone", "Categories", "Mean Δ, points", "better", "worse", "no telling"]
    body = []
    for (title, backbone), some in rows.items():
        signs = [np.sign(c.test.difference) if c.real else 0 for c in some]
        mean = f"{100 * np.mean([c.test.difference for c in some]):+z.1f}"
        body.append([title, backbone, str(len(some)), mean, *(str(signs.count(sign)) for sign in (1, -1, 0))])
    return table(head, body)


# -- by category


def category(key: str, groups: list[Group], found: list[Contrast], best: dict[str, Measured]) -> list[str]:
    counts = groups[0].first.interval
    tested = {id(c.group): c for c in found}
    head = ["Variant", "Backbone", "Seeds", "AUROC, %", "Δ (over test images)", "Δ over seeds", "p", "Holm"]
    flatters = any(m.run.run + results.BEST in best for group in groups for m in group.runs)
    rows = []
    for group in groups:
        m, c = group.first, tested.get(id(group))
        rows.append([
            named(m),
            m.run.backbone,
            str(len(group.runs)),
            group.auroc_text.replace(" %", "").removesuffix(f" ({len(group.runs)} seeds)"),
            points(c.test) if c else "gates left at 1" if group.left_at_one else "",
            ("" if not c else span(*c.over_seeds[1:]) if c.over_seeds else "one seed"),
            p_text(c.test.p_value) if c else "",
            ("" if not c else f"**{p_text(c.p_holm)}**" if c.real else p_text(c.p_holm)),
        ])  # fmt: skip
        if flatters:
            beside = [best[name] for r in group.runs if (name := r.run.run + results.BEST) in best]
            gains = [b.delong.difference for b in beside if b.delong]
            rows[-1].append(mean_text([b.interval.auroc for b in beside]) if beside else "")
            rows[-1].append(mean_text(gains, "+") if gains else "")
    head += ["*flatters:* AUROC, %", "*flatters:* Δ"] if flatters else []
    return [
        f"### {category_title(key)}",
        "",
        f"{counts.n_normal} normal and {counts.n_anomalous} anomalous test images.",
        "",
        *table(head, rows),
    ]


def each_run(runs: list[Measured], best: dict[str, Measured], costs: dict[str, dict[str, Any]]) -> list[str]:
    head = ["Run", "Epochs, views, readout", "AUROC, % (95 %)", "Δ to DifferNet of that seed", "p, DeLong"]
    head += ["p, bootstrap", "*flatters:* AUROC, % (epoch)", "Cost, s", "Commit"]
    rows = []
    for m in runs:
        i, b = m.interval, best.get(m.run.run + results.BEST)
        rows.append([
            f"`{m.run.run}`",
            f"{m.run.epochs}, {m.run.n_views} {m.run.views.replace('_', ' ')}, {m.run.readout}".rstrip(", ")
            + (f"; {m.gates}" if m.gates else ""),
            f"{100 * i.auroc:.1f} ({100 * i.low:.1f} to {100 * i.high:.1f})",
            points(m.delong) if m.delong else "",
            p_text(m.delong.p_value) if m.delong else "",
            p_text(m.bootstrap.p_value) if m.bootstrap else "",
            f"{100 * b.interval.auroc:.1f} ({b.run.epochs})" if b else "",
            seconds(costs[m.run.run]),
            m.run.commit,
        ])  # fmt: skip
    summary = f"<details><summary>{counted(len(rows), 'run')}, each by itself</summary>"
    return [summary, "", *table(head, rows), "</details>", ""]


STAGES = ("choosing_s", "training_s", "scoring_s")


def seconds(found: dict[str, Any]) -> str:
    """`12 + 340 + 95`: choosing, training, scoring."""
    return " + ".join(f"{found[name]:.0f}" for name in STAGES) if found else "not kept"


def published_of(key: str, published: pd.DataFrame) -> list[str]:
    """Numbers of papers for the category, under their own name."""
    dataset, name = key.split("/")
    here = published[(published["dataset"] == dataset) & (published["category"] == name)]
    if here.empty:
        return []
    said = [f"{row.method} {100 * row.auroc:.1f} % ({row.source})" for row in here.itertuples()]
    return [
        f"*Published elsewhere, not measured here* (other weights, views and choice of epochs): {'; '.join(said)}.",
        "",
    ]


def where_maps_look(results_dir: Path) -> list[str]:
    """Energy and maxima of maps on masks, by target; nothing where none was measured."""
    tables = {target: maps_table(results_dir, target) for target in ("defect", "object")}
    if not any(tables.values()):
        return []
    lines = [
        "## Where the maps look",
        "",
        "Share of a map's values that lies on the mask, over the share of the picture that it covers: 1 is chance. "
        "And in how many images the maximum lies on it. Uniform chance is a low bar: parts lie in the middle, and "
        "so does what a map likes. *Excess* maps hold only what exceeds held-out normals, as on the page of the demo; "
        "where that is nothing, the image counts as chance. The p values of the tables are not corrected for their "
        "number.",
        "",
    ]
    for target, found in tables.items():
        if found:
            rows = raw_beside_differnet(results_dir, target)
            lines += [maps_against_differnet(rows, target), ""] if len(rows) else []
            title = f"Masks of the {target}" + (", against the background" if target == "object" else "")
            lines += [f"<details><summary>{title}</summary>", "", found, "", "</details>", ""]
    return lines


def raw_beside_differnet(results_dir: Path, target: str) -> pd.DataFrame:
    """The rows of `summary_of_maps` that are compared: raw maps of attention variants that DifferNet has as well."""
    summary = summary_of_maps(results_dir)
    return summary[(summary["target"] == target) & (summary["map"] == "raw") & (summary["n_paired"] > 0)]


def more_and_less(rows: pd.DataFrame) -> list[list[Any]]:
    """Those of the rows with more energy on the target than DifferNet's map, and those with less, after Holm."""
    real = holm(rows["energy_difference_p"]) < 0.05
    return [[*rows[real & (sign * rows["energy_difference"] > 0)].itertuples()] for sign in (1, -1)]


def maps_in_short(results_dir: Path) -> list[str]:
    """A sentence for the top of the page; nothing where no map was measured beside DifferNet's."""
    said = []
    for target in ("defect", "object"):
        if len(rows := raw_beside_differnet(results_dir, target)):
            more, less = map(len, more_and_less(rows))
            said.append(f"{more} of {len(rows)} put more of their energy on the {target} than DifferNet's, {less} less")
    return [f"Maps of attention variants: {'; '.join(said)} ([below](#where-the-maps-look)).", ""] if said else []


def maps_against_differnet(rows: pd.DataFrame, target: str) -> str:
    """In how many of these rows of `summary_of_maps` the map of an attention variant lies more on the target."""
    more, less = more_and_less(rows)
    said = [
        f"{variant_title(row.variant)} on {category_title(f'{row.dataset}/{row.category}')}, "
        f"{METHOD_TITLES[row.method]} {row.energy_difference:+.2f}"
        for row in [*more, *less]
    ]
    return (
        f"Of {len(rows)} maps of attention variants, each against the same map of DifferNet, {len(more)} put more of "
        f"their energy on the {target} and {len(less)} less (bootstrap over images, corrected for these by Holm; raw "
        f"maps, one seed)" + (f": {'; '.join(said)}, in units of chance." if said else ".")
    )


# -- what was found out without test images


def on_training_normals(benchmarks: Path) -> list[str]:
    """How ways to train attention compare on synthetic defects, and what likelihood alone does to the features; nothing
    where neither was measured."""
    chosen, collapse = benchmarks / "attention.csv", benchmarks / "collapse.csv"
    lines = []
    if chosen.is_file():
        frame = pd.read_csv(chosen, keep_default_na=False)
        rows = [
            [*map(str, key[:2]), variant_title(key[2]), key[3], mean_text(list(of_one["auroc_synthetic"]))]
            for key, of_one in frame.groupby(["category", "detector", "variant", "attention_training"], sort=False)
        ]
        head = ["Category", "Detector", "Variant", "Training", "AUROC on synthetic defects, %"]
        lines += [
            "Synthetic defects in normals held out, gates kept even where they do not help "
            "(`python scripts/choose_attention.py`):",
            "",
            *table(head, rows),
        ]
    if collapse.is_file():
        frame = pd.read_csv(collapse)
        lines += [
            "Likelihood alone does not count the backbone's own Jacobian, so gates that bring all features to one "
            "point win. Trained `joint` with no guard (`python benchmarks/collapse.py`), spread of the features "
            "against that at the start:",
            "",
        ]
        for (name, variant), steps in frame.groupby(["category", "variant"], sort=False):
            first, last = steps.iloc[0], steps.iloc[-1]
            lines.append(
                f"- {category_title(name)}, {variant_title(variant)}: {last['spread']:.0%} after {last['step']:.0f} "
                f"steps (least {steps['spread'].min():.0%}), loss from {first['loss']:.2f} to {last['loss']:.2f}."
            )
        lines += ["", "![Spread and loss by step](../benchmarks/collapse.png)", ""]
    return ["## What training normals say of attention", "", *lines] if lines else []


# -- what there is not, and what there was to pay


def never_measured(published: pd.DataFrame, runs: set[tuple[str, str]]) -> list[str]:
    """Of what papers state numbers for, what has no run here."""
    lines = ["## What was never measured here", ""]
    for dataset in dict.fromkeys(published["dataset"]):
        known = [c for c in dict.fromkeys(published[published["dataset"] == dataset]["category"]) if c != "average"]
        lacking = [name for name in known if (dataset, name) not in runs]
        title = dataset_title(dataset) if dataset_title(dataset) != dataset else dataset.replace("_", " ").capitalize()
        if not known and not any(place == dataset for place, _ in runs):
            lines.append(f"- **{title}**: nothing; papers state an average over it alone.")
        elif lacking and len(lacking) == len(known):
            lines.append(f"- **{title}**: nothing. Papers state numbers for {', '.join(lacking)}.")
        elif lacking:
            lines.append(f"- **{title}**: {len(lacking)} of {len(known)} categories: {', '.join(lacking)}.")
    lines = lines if len(lines) > 2 else [*lines, "Every category that a published number is known for has a run here."]
    return [
        *lines,
        "",
        "No average over a data set is given or compared where one of its categories was not measured.",
        "",
    ]


def cost(groups: list[Group], costs: dict[str, dict[str, Any]]) -> list[str]:
    """Medians over the runs of each group, and the machines."""
    lines, rows = ["## What it cost", ""], []
    machines: dict[str, int] = defaultdict(int)
    for group in sorted(groups, key=lambda group: (group.first.key.startswith("sample/"), group.first.key)):
        kept = [costs[m.run.run] for m in group.runs if costs[m.run.run]]
        for one in kept:
            machines[f"{one['cpu']}, {counted(one['cores'], 'core')}, {counted(one['threads'], 'thread')} per run"] += 1
        if kept:
            middle = {name: float(np.median([one[name] for one in kept])) for name in (*STAGES, "views_computed")}
            m = group.first
            rows.append([category_title(m.key), named(m), m.run.backbone, str(len(kept)), seconds(middle)])
            rows[-1].append(f"{middle['views_computed']:,.0f}")
    if not rows:
        return [*lines, "No run here has kept it: they are older than the keeping.", ""]
    total = sum(sum(one[name] for name in STAGES) for one in costs.values() if one)
    lines += [
        "Seconds by the clock for choosing views and readout + training + scoring the test images (all looks of "
        "`best-on-test` among the last), median over seeds; views: copies of images put through the backbone for their "
        "features, few where another run had left them in the cache. Together "
        f"{total / 3600:.1f} hours: "
        + "; ".join(f"{counted(n, 'run')} on {name}" for name, n in machines.items())
        + ".",
        "",
        "<details><summary>By category and variant</summary>",
        "",
        *table(["Category", "Variant", "Backbone", "Runs", "Cost, s", "Views"], rows),
        "</details>",
        "",
    ]
    if without := sum(not one for one in costs.values()):
        lines += [f"{counted(without, 'run')} did not keep it.", ""]
    return lines


def commands(fair: list[Measured], results_dir: Path, grids: Path) -> list[str]:
    """The command that makes each run again, from the grid file that has its options."""
    key_of = {m.run.run: m.key for m in fair}
    maker: dict[str, str] = {}
    for file in sorted(grids.glob("*.toml")):
        name = file.relative_to(grids.parent).as_posix()
        for run in made_by(file, results_dir, ["*/*"]):
            maker.setdefault(run, f"{name} --category {key_of.get(run)}")
    for file in sorted(grids.glob("*.toml")):  # those that name the category themselves are the shorter command
        maker |= dict.fromkeys(made_by(file, results_dir), file.relative_to(grids.parent).as_posix())
    places: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for m in fair:
        places[maker.get(m.run.run, ""), m.run.commit].append(m)
    rows = []
    for (maker_of_all, commit), runs in sorted(places.items()):
        command = f"`attentdiffernet grid {maker_of_all}`"
        command = command if maker_of_all else "no grid file of today has their options"
        keys = sorted({m.key for m in runs})
        rows.append([command, f"`{commit}`" if commit else "not kept", str(len(runs)), ", ".join(keys)])
    return [
        "## How to make it again",
        "",
        "The data lie below `ATTENTDIFFERNET_DATA` (`attentdiffernet datasets`). A grid makes what results lack: to "
        "repeat a run, delete its score file `results/scores/DATASET/CATEGORY/RUN.csv` and give the command, at the "
        "commit named for the same digits. Beside each score file, `RUN.json` has every option.",
        "",
        *table(["Command", "Commit", "Runs", "Categories"], rows),
    ]
