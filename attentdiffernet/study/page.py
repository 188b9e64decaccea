"""The generated part of results/README.md: does attention help, other methods, by category and run, cost, commands."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..datasets import category_title, dataset_title
from ..words import METHOD_TITLES, percent, training_title, variant_title
from .across import Average, averages, averages_table, averages_text, cautions_text
from .answer import (
    all_contrasts,
    answer,
    by_category,
    by_defect,
    by_recipe,
    claim_text,
    contrast_text,
    left_at_one_text,
    means_text,
    method_text,
    published_text,
)
from .comparison import GATES_LEFT_AT_1, SIGNIFICANT, Contrast, Group, Measured, against_itself, grouped, measured
from .formats import (
    auroc_text,
    counted,
    energy_difference_text,
    energy_text,
    hit_difference_text,
    hit_text,
    mean_points_text,
    mean_text,
    p_text,
    points,
    points_range,
    points_text,
)
from .maps import summary_of_maps, summary_of_pixels
from .methods import (
    attentive_contrasts,
    attentive_table,
    attentive_text,
    compared_text,
    method_contrasts,
    methods_table,
    methods_text,
)
from .records import read_published
from .runs import BEST
from .statistics import holm
from .tables import Column, Table, group_auroc_text
from .transfer import transfer_table, transfer_text, transfers

Lines = list[str]
Costs = dict[str, dict[str, Any]]  # by run: seconds, views and machine; empty where they were not kept
STAGES = ("choosing_s", "training_s", "scoring_s")


def page(results_dir: Path, commands: Mapping[str, str], benchmarks: Path) -> str:
    """Markdown, from the files of the results folder.

    commands: by run, the command that makes it again. benchmarks: folder of attention.csv and collapse.csv.
    """
    everything = measured(results_dir)
    best = {m.run.run: m for m in everything if m.best_on_test}
    fair = [m for m in everything if not m.best_on_test]
    groups, found = grouped(fair), all_contrasts(fair)
    others = method_contrasts(groups)
    published, maps = read_published(results_dir), summary_of_maps(results_dir)
    costs: Costs = {m.run.run: m.cost for m in fair}
    lines = [
        "## Does attention help?",
        "",
        *in_short(
            found,
            averages(all_contrasts(fair, with_left_at_one=True)),
            fair,
            best,
            averages_text(averages(attentive_contrasts(groups, with_left_at_one=True))),
        ),
        *paragraph(claim_text(found, published)),
        *paragraph(maps_in_short(maps)),
        *other_methods(groups, others),
        *attentive_methods(groups),
        *carried_over(benchmarks, [*found, *attentive_contrasts(groups)]),
        "## By category",
        "",
        *LEGEND,
    ]
    for key in sorted({m.key for m in fair}, key=lambda key: (key.startswith("sample/"), key)):
        here = [group for group in groups if group.first.key == key]
        lines += category(key, here, [*found, *others], best)
        lines += published_here(key, published)
        lines += each_run([m for group in here for m in group.runs], best, costs)
    lines += where_maps_look(maps)
    lines += pixels_told_apart(summary_of_pixels(results_dir))
    lines += on_training_normals(benchmarks)
    lines += never_measured(published, {(m.run.dataset, m.run.category) for m in fair})
    lines += cost(groups, costs)
    lines += repeating(fair, commands)
    return "\n".join(lines).rstrip()


PICTURE = (
    "![AUROC minus DifferNet's, with its 95 % interval, of the usual runs of every category](differences.svg)"
    "  \n*`make figures` draws this picture and the others of a paper.*"
)
WHERE_IT_HELPS = (
    "[Where attention helps DifferNet, and where not](../docs/method.md#where-attention-helps-differnet-and-where-not)."
)
LEGEND = [
    "One table per category. **AUROC** in percent: mean ± standard deviation over seeds, or one seed with its 95 % "
    "interval. **Δ**: points of AUROC above DifferNet with the same backbone and seeds on the same images, with the "
    "95 % interval over test images (DeLong, of the mean over the seeds) and the one over seeds (Student). **p**: of "
    "that DeLong test. **Holm**: corrected for all comparisons of attention on this page, or for those of other "
    "methods, which are compared with DifferNet on its own backbone. Epochs are fixed in advance (`last`), "
    "except in columns named *best on test*: there the epoch was chosen on the test images, as DifferNet's code does. "
    "That is optimistic. Only such numbers are comparable with published ones, and they are never tested.",
    "",
]


def paragraph(text: str) -> Lines:
    return [text, ""] if text else []


def lines_of(table: Table) -> Lines:
    return [*table.markdown().splitlines(), ""]


def details(summary: str, table: Table) -> Lines:
    """A table that the reader unfolds."""
    return [f"<details><summary>{summary}</summary>", "", *lines_of(table), "</details>", ""]


# -- in short


def in_short(
    found: Sequence[Contrast],
    mean: Sequence[Average],
    fair: Sequence[Measured],
    best: Mapping[str, Measured],
    of_other_methods: str,
) -> Lines:
    """mean: over categories. of_other_methods: whether attention helps those, in a sentence."""
    drawn = len({m.key for m in fair if m.key.startswith("sample/")})
    categories = counted(len({m.key for m in fair}), "category", "categories")
    scope = f"Measured: {counted(len(fair), 'run')} in {categories}" + (
        f", {drawn} of them synthetic." if drawn else "."
    )
    lines = [f"**{answer(found)}**", ""]
    if not found:
        return [*lines, scope, ""]
    where = WHERE_IT_HELPS if any(one.helps for one in mean) else ""
    lines += paragraph(" ".join(filter(None, [averages_text(mean), cautions_text(mean), where])))
    lines += [*paragraph(of_other_methods), PICTURE, ""]
    lines += [means_text(found), "", *lines_of(by_recipe(found)), f"{scope} {how_it_is_counted(found)}", ""]
    unsure = [c for c in found if c.beyond_chance and not c.real]
    kinds = {
        "Helped": [c for c in found if c.helps],
        "Harmed": [c for c in found if c.harms],
        "Inconclusive, because it depends on the seed": unsure,
    }
    blocks = by_category(found)
    if blocks.rows:
        lines += ["Change of AUROC in points, by block and by what its gates were trained on:", "", *lines_of(blocks)]
    listed = [f"- {title}: {contrast_text(c)}" for title, some in kinds.items() for c in some]
    if mean:
        lines += [
            "Mean over the categories not drawn by this project in which DifferNet leaves room:",
            "",
            *lines_of(averages_table(mean)),
        ]
    if (defects := by_defect(found)).rows:
        lines += details("Change by kind of defect", defects)
    lines += [*listed, ""] if listed else []
    lines += filter(None, (caveats(found), left_at_one_text(fair), best_on_test_text(fair, best)))
    return [*lines, ""]


def how_it_is_counted(found: Sequence[Contrast]) -> str:
    return (
        "A comparison is one variant, training of attention and backbone against DifferNet in one category, over all "
        f"seeds. It counts as helped or harmed if p < {SIGNIFICANT} after correction for the number of tests (Holm) "
        "and, with several seeds, the interval over seeds excludes 0. The other "
        f"{answer(found).inconclusive} are inconclusive."
    )


def caveats(found: Sequence[Contrast]) -> str:
    """How small a difference the test images can show, and how many comparisons have one seed."""
    reach = 100 * float(np.median([(c.test.high - c.test.low) / 2 for c in found]))
    said = (
        f"Inconclusive does not mean equal: in half of the comparisons a change of less than {reach:.1f} points would "
        "lie inside the interval over test images, before any correction."
    )
    if alone := sum(c.over_seeds is None for c in found):
        said += f" {counted(alone, 'comparison has', 'comparisons have')} one seed only."
    return said


def best_on_test_text(fair: Sequence[Measured], best: Mapping[str, Measured]) -> str:
    gains = [best[name].interval.auroc - m.interval.auroc for m in fair if (name := m.run.run + BEST) in best]
    if not gains:
        return "What choosing the epoch on the test images would add was not measured."
    mean, most = percent(float(np.mean(gains))), percent(max(gains))
    return (
        f"Choosing the epoch on the test images, as DifferNet's code does, adds {mean} points on average to the same "
        f"training (at most {most}, {counted(len(gains), 'run')})."
    )


# -- other methods


def other_methods(groups: Sequence[Group], found: Sequence[Contrast]) -> Lines:
    if not found:
        return []
    title = " and ".join(dict.fromkeys(variant_title(c.group.first.run.variant) for c in found))
    table = lines_of(methods_table(groups, found))
    return [f"## {title} beside DifferNet", "", methods_text(found), "", compared_text(), "", *table]


def attentive_methods(groups: Sequence[Group]) -> Lines:
    if not (answer := attentive_text(groups)):
        return []
    how = (
        "One block behind each feature map that makes a place. The gates are trained on synthetic defects in training "
        "normals, as DifferNet's, and kept if the whole detector then finds such defects in other normals better "
        "(DeLong and Holm as above, for the rows of this table). Weights of places are measured, not trained: a "
        "distance counts the less, the farther normal images lie from each other there, by cross-validation. They are "
        "kept by the same rule."
    )
    mean = averages(attentive_contrasts(groups, with_left_at_one=True))
    lines = ["## Does attention help PatchCore?", "", f"**{answer}**", "", how, ""]
    return [*lines, *lines_of(attentive_table(groups)), *(lines_of(averages_table(mean)) if mean else [])]


def carried_over(benchmarks: Path, found: Sequence[Contrast]) -> Lines:
    """found: comparisons of attention on test images, in any method."""
    trials = benchmarks / "attention_trials.csv"
    if not trials.is_file() or (changes := transfers(pd.read_csv(trials), found)).empty:
        return []
    return [
        "## Does what helps on synthetic defects help on real ones?",
        "",
        "Attention is trained or chosen on synthetic defects in normal images, because real ones must not be seen. "
        f"{transfer_text(changes)} Change of AUROC in points, by kind of synthetic defect, and on the test images "
        "([what that says](../docs/method.md#where-attention-helps-differnet-and-where-not)):",
        "",
        *lines_of(transfer_table(changes)),
    ]


# -- by category


def category(key: str, groups: list[Group], found: Sequence[Contrast], best: Mapping[str, Measured]) -> Lines:
    """One row per group of seeds."""
    counts = groups[0].first.interval
    tested = {c.group.first.run.run: c for c in found}
    columns = [
        Column("Variant", method_text),
        Column("Backbone"),
        Column("Seeds"),
        Column("AUROC, %", group_auroc_text),
        Column("Δ (over test images)", lambda c: points_text(c.test) if isinstance(c, Contrast) else c),
        Column("Δ over seeds", lambda c: points_range(*c.over_seeds[1:]) if c.over_seeds else "one seed"),
        Column("p", lambda c: p_text(c.test.p_value)),
        Column("Holm", lambda c: f"**{p_text(c.p_holm)}**" if c.real else p_text(c.p_holm)),
    ]
    rows = []
    for group in groups:
        c = tested.get(group.first.run.run)
        difference = c or (GATES_LEFT_AT_1 if against_itself(group).left_at_one else None)
        rows.append([group.first, group.first.run.backbone, len(group.runs), group, difference, c, c, c])
    if any(m.run.run + BEST in best for group in groups for m in group.runs):
        columns += [
            Column("*best on test:* AUROC, %", lambda some: mean_text([m.interval.auroc for m in some])),
            Column("*best on test:* Δ", lambda some: mean_points_text([m.delong.difference for m in some])),
        ]
        for group, row in zip(groups, rows, strict=True):
            beside = [best[name] for m in group.runs if (name := m.run.run + BEST) in best]
            row += [beside or None, [m for m in beside if m.delong] or None]
    return [
        f"### {category_title(key)}",
        "",
        f"{counts.n_normal} normal and {counts.n_anomalous} anomalous test images.",
        "",
        *lines_of(Table(columns, rows)),
    ]


def each_run(runs: list[Measured], best: Mapping[str, Measured], costs: Costs) -> Lines:
    columns = [
        Column("Run", "`{}`".format),
        Column("Epochs, views, readout", made_text),
        Column("AUROC, % (95 %)", auroc_text),
        Column("Δ to DifferNet of that seed", points_text),
        Column("p, DeLong", lambda difference: p_text(difference.p_value)),
        Column("p, bootstrap", lambda difference: p_text(difference.p_value)),
        Column("*best on test:* AUROC, % (epoch)", lambda m: f"{percent(m.interval.auroc)} ({m.run.epochs})"),
        Column("Cost, s", seconds),
        Column("Commit"),
    ]
    rows = []
    for m in runs:
        tested, beside = [m.delong, m.delong, m.bootstrap], best.get(m.run.run + BEST)
        rows.append([m.run.run, m, m.interval, *tested, beside, costs[m.run.run], m.run.commit])
    return details(f"{counted(len(rows), 'run')}, each by itself", Table(columns, rows))


def made_text(m: Measured) -> str:
    """`60, 8 dihedral, z2_of_mean; gates kept ...`"""
    how = ", ".join(
        filter(
            None, (str(m.run.epochs or ""), f"{m.run.n_views} {m.run.views.replace('_', ' ')}".rstrip(), m.run.readout)
        )
    )
    return "; ".join(filter(None, (how, str(m.gates))))


def seconds(found: Mapping[str, Any]) -> str:
    """`12 + 340 + 95`: choosing, training, scoring."""
    return " + ".join(f"{found[name]:.0f}" for name in STAGES) if found else "not kept"


def published_here(key: str, published: pd.DataFrame) -> Lines:
    """Numbers of papers for the category, named as such."""
    dataset, name = key.split("/")
    here = published[(published["dataset"] == dataset) & (published["category"] == name)]
    if here.empty:
        return []
    return paragraph(
        f"*Published elsewhere, not measured here* (other weights, views and choice of epochs): {published_text(here)}."
    )


# -- maps


def where_maps_look(maps: pd.DataFrame) -> Lines:
    """Energy and maxima of maps on masks, by target; nothing where none was measured."""
    if maps.empty:
        return []
    lines = [
        "## Where the maps look",
        "",
        "Energy: the share of a map's values that lies on the mask, divided by the share of the image that the mask "
        "covers; 1 is chance. Maximum: in how many images the highest value lies on the mask. Chance is easy to beat: "
        "parts lie in the middle of their images, and so do the maps' high values. *Excess* maps hold only what "
        "exceeds held-out normal images, as in the demo; where nothing does, the image counts as chance. The p values "
        "in the tables are not corrected for their number.",
        "",
    ]
    for target in ("defect", "object"):
        here = maps[maps["target"] == target]
        if len(here):
            lines += paragraph(maps_against_differnet(beside_differnet(maps, target), target))
            title = f"Masks of the {target}" + (", against the background" if target == "object" else "")
            lines += details(title, maps_table(here, target))
    return lines


def maps_table(rows: pd.DataFrame, target: str) -> Table:
    """A row per run, method and kind of map, of one target (`defect` or `object`)."""
    columns = [
        Column("Category", category_title),
        Column("Backbone, seed"),
        Column("Map"),
        Column("Variant"),
        Column("Images (map all zero)"),
        Column("Energy over chance (95 %)", energy_text),
        Column("against DifferNet", energy_difference_text),
        Column(f"Maximum on the {target} (95 %)", hit_text),
        Column("chance", lambda share: f"{percent(share)} %"),
        Column("against DifferNet", hit_difference_text),
    ]
    body = []
    for row in rows.to_dict("records"):
        method = METHOD_TITLES[row["method"]] + (", excess over normals" if row["map"] == "excess" else "")
        training = row["attention_training"]
        trained = f", {training_title(training)}" if training not in ("", "untrained") else ""
        body.append([
            f"{row['dataset']}/{row['category']}", f"{row['backbone']}, {row['seed']}", method,
            variant_title(row["variant"]) + trained, f"{row['n_images']} ({row['n_empty']})",
            row, row, row, row["chance"], row,
        ])  # fmt: skip
    return Table(columns, body)


def pixels_told_apart(pixels: pd.DataFrame) -> Lines:
    """Pixel AUROC and AUPRO of every map, PatchCore's beside Grad-CAM's; nothing where none was measured."""
    if pixels.empty:
        return []
    columns = [
        Column("Category", category_title),
        Column("Detector", variant_title),
        Column("Map", METHOD_TITLES.__getitem__),
        Column("Defects"),
        Column("Pixel AUROC, %", percent),
        Column("AUPRO, %", percent),
    ]
    rows = [
        [f"{row.dataset}/{row.category}", row.variant, row.method, row.n_regions, row.pixel_auroc, row.aupro]
        for row in pixels.sort_values(["dataset", "category"], kind="stable").itertuples()
    ]
    return [
        "## How well maps tell pixels apart",
        "",
        "Over all test images that are normal or have a mask. Pixel AUROC: probability that a pixel on a defect has a "
        "higher value than a normal pixel; 50 % is chance, and large defects count most. AUPRO: mean share of a defect "
        "above a threshold, averaged over thresholds up to 30 % false positive pixels (Bergmann et al.); each defect "
        "counts the same, 15 % is chance. Values are counted in classes 2.3 % wide (`results/pixels/`), so that memory "
        "does not grow with the images.",
        "",
        *lines_of(Table(columns, rows)),
    ]


def beside_differnet(maps: pd.DataFrame, target: str) -> pd.DataFrame:
    """The rows that are compared: raw maps of attention variants that DifferNet has as well."""
    return maps[(maps["target"] == target) & (maps["map"] == "raw") & (maps["n_paired"] > 0)]


def more_and_less(rows: pd.DataFrame) -> list[list[Any]]:
    """Those of the rows with more energy on the target than DifferNet's map, and those with less, after Holm."""
    real = holm(rows["energy_difference_p"]) < SIGNIFICANT
    return [[*rows[real & (sign * rows["energy_difference"] > 0)].itertuples()] for sign in (1, -1)]


def maps_in_short(maps: pd.DataFrame) -> str:
    """A sentence for the top of the page; empty where no map was measured beside DifferNet's."""
    said = []
    for target in ("defect", "object"):
        if len(rows := beside_differnet(maps, target)):
            more, less = map(len, more_and_less(rows))
            said.append(f"{more} of {len(rows)} put more of their energy on the {target} than DifferNet's, {less} less")
    return f"Maps of attention variants: {'; '.join(said)} ([below](#where-the-maps-look))." if said else ""


def maps_against_differnet(rows: pd.DataFrame, target: str) -> str:
    """In how many of these rows of `summary_of_maps` the map of an attention variant lies more on the target."""
    if rows.empty:
        return ""
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


# -- what was found without test images


def on_training_normals(benchmarks: Path) -> Lines:
    """How ways to train attention compare on synthetic defects, what likelihood alone does to the features, and what
    else was tried; nothing where none was measured."""
    chosen, collapse = benchmarks / "attention.csv", benchmarks / "collapse.csv"
    lines = attention_trainings(pd.read_csv(chosen, keep_default_na=False)) if chosen.is_file() else []
    lines += collapse_of_features(pd.read_csv(collapse)) if collapse.is_file() else []
    trials = benchmarks / "attention_trials.csv"
    lines += attention_trials(pd.read_csv(trials)) if trials.is_file() else []
    return ["## What training normals say about attention", "", *lines] if lines else []


def attention_trainings(frame: pd.DataFrame) -> Lines:
    columns = [Column("Category"), Column("Detector"), Column("Variant", variant_title), Column("Training")]
    columns.append(Column("AUROC on synthetic defects, %", mean_text))
    by = ["category", "detector", "variant", "attention_training"]
    rows = [[*key, list(of_one["auroc_synthetic"])] for key, of_one in frame.groupby(by, sort=False)]
    return [
        "Synthetic defects in held-out normal images, with the gates kept even where they do not help "
        "(`python -m scripts.choose_attention`):",
        "",
        *lines_of(Table(columns, rows)),
    ]


def collapse_of_features(frame: pd.DataFrame) -> Lines:
    lines = [
        "Likelihood alone does not count the backbone's own Jacobian, so gates that bring all features to one point "
        "win. Trained `joint` without a guard (`python -m benchmarks.collapse`), spread of the features relative to "
        "the start:",
        "",
    ]
    for (name, variant), steps in frame.groupby(["category", "variant"], sort=False):
        first, last = steps.iloc[0], steps.iloc[-1]
        what = f"{category_title(str(name))}, {variant_title(str(variant))}"
        lines.append(
            f"- {what}: {100 * last['spread']:.0f} % after {last['step']:.0f} steps "
            f"(least {100 * steps['spread'].min():.0f} %), "
            f"loss from {first['loss']:.2f} to {last['loss']:.2f}."
        )
    return [*lines, "", "![Spread and loss by step](../benchmarks/collapse.png)", ""]


def attention_trials(frame: pd.DataFrame) -> Lines:
    """Mean AUROC over the categories, by kind of defect, with the change from what each trial is compared with."""
    means = frame.groupby(["trial", "defects"], sort=False)[["auroc", "difference"]].mean().unstack()
    kinds = list(dict.fromkeys(frame["defects"]))
    columns = [Column("Tried")]
    for kind in kinds:
        columns += [Column(f"{kind}: AUROC, %", percent, number=True), Column("change", points, number=True)]
    rows = [
        [trial, *(value for kind in kinds for value in (row["auroc", kind], row["difference", kind] or None))]
        for trial, row in means.iterrows()
    ]
    categories = ", ".join(map(category_title, dict.fromkeys(frame["category"])))
    return [
        f"What else was tried, mean over {categories}: synthetic defects of three kinds, something "
        "*foreign*, the same on a *wide* piece, or *structure* that is altered, in held-out normal images. DifferNet's "
        "trials are read off by the Gaussian, changes are from the average, PatchCore's from PatchCore, and the flow's "
        "from the flow "
        "(`python -m benchmarks.attention_trials --summary` tells the categories apart):",
        "",
        *lines_of(Table(columns, rows)),
    ]


# -- what was not measured, what it cost, how to repeat it


def never_measured(published: pd.DataFrame, runs: set[tuple[str, str]]) -> Lines:
    """Categories with published numbers that have no run here."""
    lines = []
    for dataset in dict.fromkeys(published["dataset"]):
        known = [c for c in dict.fromkeys(published[published["dataset"] == dataset]["category"]) if c != "average"]
        lacking = [name for name in known if (dataset, name) not in runs]
        title = dataset_title(dataset) if dataset_title(dataset) != dataset else dataset.replace("_", " ").capitalize()
        if not known and not any(place == dataset for place, _ in runs):
            lines.append(f"- **{title}**: nothing. Papers state only an average over it.")
        elif lacking and len(lacking) == len(known):
            lines.append(f"- **{title}**: nothing. Papers state numbers for {', '.join(lacking)}.")
        elif lacking:
            lines.append(f"- **{title}**: {len(lacking)} of {len(known)} categories: {', '.join(lacking)}.")
    return [
        "## What was not measured here",
        "",
        *(lines or ["Every category with a published number has a run here."]),
        "",
        "No average over a data set is given or compared where one of its categories was not measured.",
        "",
    ]


def cost(groups: list[Group], costs: Costs) -> Lines:
    """Medians over the runs of each group, and the machines."""
    machines: dict[str, int] = defaultdict(int)
    rows = []
    for group in sorted(groups, key=lambda group: (group.first.key.startswith("sample/"), group.first.key)):
        kept = [costs[m.run.run] for m in group.runs if costs[m.run.run]]
        for one in kept:
            machines[f"{one['cpu']}, {counted(one['cores'], 'core')}, {counted(one['threads'], 'thread')} per run"] += 1
        if kept:
            middle = {name: float(np.median([one[name] for one in kept])) for name in (*STAGES, "views_computed")}
            m = group.first
            rows.append([m.key, m, m.run.backbone, len(kept), middle, middle["views_computed"]])
    if not rows:
        return ["## Cost", "", "None of these runs kept its cost.", ""]
    total = sum(sum(one[name] for name in STAGES) for one in costs.values() if one)
    columns = [Column("Category", category_title), Column("Variant", method_text), Column("Backbone"), Column("Runs")]
    columns += [Column("Cost, s", seconds), Column("Views", "{:,.0f}".format)]
    lines = [
        "## Cost",
        "",
        "Wall-clock seconds for choosing views and readout + training + scoring the test images (including all "
        "evaluations of `best-on-test`), median over seeds. Views: copies of images whose features were computed; few "
        f"where another run had left them in the cache. Together {total / 3600:.1f} hours: "
        + "; ".join(f"{counted(n, 'run')} on {name}" for name, n in machines.items())
        + ".",
        "",
        *details("By category and variant", Table(columns, rows)),
    ]
    if without := sum(not one for one in costs.values()):
        lines += [f"{counted(without, 'run')} did not keep it.", ""]
    return lines


def repeating(fair: Sequence[Measured], commands: Mapping[str, str]) -> Lines:
    """The command that makes each run again, from the grid file that has its options."""
    places: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for m in fair:
        places[commands.get(m.run.run, ""), m.run.commit].append(m)
    columns = [
        Column("Command", lambda command: f"`{command}`" if command else "no grid file has these options today"),
        Column("Commit", lambda commit: f"`{commit}`" if commit else "not kept"),
        Column("Runs"),
        Column("Categories", ", ".join),
    ]
    rows = [
        [command, commit, len(runs), sorted({m.key for m in runs})]
        for (command, commit), runs in sorted(places.items())
    ]
    return [
        "## How to repeat it",
        "",
        "The data are read from the folder `ATTENTDIFFERNET_DATA` (`attentdiffernet datasets`). A grid makes the runs "
        "that results lack: to repeat a run, delete its score file `results/scores/DATASET/CATEGORY/RUN.csv` and run "
        "the command; check out the commit for the same digits. `RUN.json` beside each score file has every option.",
        "",
        *lines_of(Table(columns, rows)),
    ]
