"""What is said of many runs follows from their score files; what was chosen on test images is told apart everywhere."""

import re
import shutil
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from attentdiffernet.grid import Engine, Outcome, read_grid, run_grid
from attentdiffernet.study import records as results
from attentdiffernet.study.across import PICKED_HERE, averages, averages_table, averages_text
from attentdiffernet.study.answer import (
    all_contrasts,
    answer,
    by_category,
    by_defect,
    by_recipe,
    counting_text,
    kind_of,
    means_text,
)
from attentdiffernet.study.choices import choices_table
from attentdiffernet.study.comparison import Group, contrasts, grouped, measured, training_once
from attentdiffernet.study.formats import p_text
from attentdiffernet.study.methods import attentive_table, attentive_text, method_contrasts, methods_text
from attentdiffernet.study.page import in_short, page
from attentdiffernet.study.readme import better_methods, between, levels_table, results_table
from attentdiffernet.study.runs import BEST_ON_TEST_LABEL, Run, base_of, distinguishing_recipe
from attentdiffernet.study.small_sets import small_sets_table
from attentdiffernet.study.statistics import delong_test, holm, mean_interval
from attentdiffernet.study.transfer import transfer_table, transfer_text, transfers
from attentdiffernet.study.usual import usual
from attentdiffernet.words import percent
from demo import shipped
from demo.service.roc import roc_page
from scripts import write_tables

pytestmark = pytest.mark.quick

ROOT = Path(__file__).resolve().parent.parent
GRID = """
results = "../results"
data = "../data"
categories = ["mvtec_ad/*", "sample/*"]
weights = ["imagenet"]
seeds = [0, 1, 2]
best_on_test = true
[[grid]]
variants = ["none", "se", "cbam"]
[grid.options.attention]
training = "untrained"
[[grid]]
variants = ["se"]
tag = "proxy"
[grid.options.attention]
training = "proxy"
"""
PUBLISHED = """dataset,category,method,auroc,source
mvtec_ad,bottle,DifferNet,0.990,a paper
mvtec_ad,screw,DifferNet,0.963,a paper
mvtec_ad,average,DifferNet,0.949,a paper
elsewhere,average,DifferNet,0.888,another paper
insplad_fault,vari-grip,DifferNet,0.912,a paper
"""
LABELS = np.repeat([0, 1], 60)
COST = {"choosing_s": 1.0, "training_s": 20.0, "scoring_s": 3.0, "views_computed": 77}
MACHINE = {"threads": 2, "cpu": "Abacus", "cores": 4}

KEPT = "gates trained on synthetic defects, kept even if they do not help"


def rows_of(scores):
    return [
        (f"{('good', 'crack')[label]}/{i:03}.png", ("good", "crack")[label], int(label), float(score))
        for i, (label, score) in enumerate(zip(LABELS, scores, strict=True))
    ]


def made(root, gain):
    """A project's folder with runs of a grid that scores by chance, and CBAM on bottle better by `gain`."""
    for place in ("mvtec_ad/bottle", "sample/wafer"):
        (root / "data" / place / "train" / "good").mkdir(parents=True)
    (root / "grids").mkdir()
    (root / "grids" / "made.toml").write_text(GRID)
    (root / "README.md").write_text("# A\n<!-- results -->\n<!-- /results -->\n")
    for name in ("benchmark", "readouts"):
        with (root / "README.md").open("a") as file:
            file.write(f"<!-- {name} -->\nas it was\n<!-- /{name} -->\n")
    (root / "results").mkdir()
    (root / "results" / "README.md").write_text("by hand\n<!-- evidence -->\nold\n<!-- /evidence -->\nby hand, too\n")
    (root / "results" / "published.csv").write_text(PUBLISHED)
    normal = np.random.default_rng(0).normal(size=120) + 1.2 * LABELS
    rng = np.random.default_rng(1)

    def submit(task):
        better = gain if (task.category, task.options.variant) == ("bottle", "cbam") else 0
        scores = [normal + LABELS * (better + more) + 0.3 * rng.normal(size=120) for more in (0, 0.3)]
        future = Future()
        best = {"best_epoch": int(rng.integers(1, 60)), "best_scores": rows_of(scores[1])}
        future.set_result(Outcome(rows_of(scores[0]), (16, "rotations", "z2"), cost=COST | MACHINE, **best))
        return future

    assert run_grid(read_grid(root / "grids" / "made.toml"), Engine(submit, 1), "abc1234") == {}
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return made(tmp_path_factory.mktemp("better"), 1.5)


def page_of(root, results_dir=None):
    folder = results_dir or root / "results"
    return page(folder, write_tables.commands(root / "grids", folder), root / "benchmarks")


def fair(root):
    return [m for m in measured(root / "results") if not m.best_on_test]


def test_blocks_at_another_place_are_another_recipe_and_leave_the_seeds_of_the_usual_ones_together(root, tmp_path):
    shutil.copytree(root / "results", tmp_path / "results")
    run = next(m.run for m in fair(root) if m.run.run == "mvtec_ad-bottle-cbam-imagenet-s0")
    other = replace(run, run=f"{run.run}-before_pool", blocks="before pool")
    frame = results.read_scores(results.score_path(root / "results", run.dataset, run.category, run.run))
    results.write_run(tmp_path / "results", other, frame, {})
    groups = grouped(m for m in fair(tmp_path) if (m.key, m.run.variant) == ("mvtec_ad/bottle", "cbam"))
    assert [(g.first.name, len(g.runs)) for g in groups] == [("cbam", 3), ("cbam, before pool", 1)]


def test_gates_left_at_one_are_told_wherever_a_conclusion_is(root, tmp_path):
    shutil.copytree(root / "results", tmp_path / "results")
    assert "left at 1" not in page_of(root, tmp_path / "results") + counting_text(fair(tmp_path))
    run = next(m.run for m in fair(root) if m.run.run == "mvtec_ad-bottle-se-imagenet-s1-proxy")
    options = results.read_options(root / "results", run) | {
        "findings": {"gates_kept": False, "gates_judged": [0.5, 0.625]},
    }
    frame = results.read_scores(results.score_path(root / "results", run.dataset, run.category, run.run))
    results.write_run(tmp_path / "results", run, frame, options)
    text = page_of(root, tmp_path / "results")
    assert "In 1 of 18 runs the gates were left at 1" in text
    assert "In 1 of 18 runs the gates were left at 1" in counting_text(fair(tmp_path))
    (line,) = re.findall(rf"^\| `{run.run}` \|.*$", text, re.M)
    assert "gates left at 1 (AUROC on synthetic defects 50.0 % with, 62.5 % without)" in line
    assert [m.run.run for m in fair(tmp_path) if "gates left at 1" in m.detail] == [run.run]
    assert len(contrasts(grouped(fair(tmp_path)))) == 6, "one seed of three is left, others compare"

    for seed in (0, 2):
        run = replace(run, run=f"mvtec_ad-bottle-se-imagenet-s{seed}-proxy", seed=seed)
        results.write_run(tmp_path / "results", run, frame, options)
    assert len(contrasts(grouped(fair(tmp_path)))) == 5, "DifferNet beside itself is no comparison"
    assert len(contrasts(grouped(fair(tmp_path)), with_left_at_one=True)) == 6, "but a change of 0 in an average"
    text = page_of(root, tmp_path / "results")
    assert re.search(
        r"^\| AttentDifferNet \(SE\), gates trained by a classifier.* \| imagenet \| 3 \|.*\| gates left at 1 \|",
        text,
        re.M,
    )


def run_of(name, **changes):
    values = {"dataset": "d", "category": "c", "variant": "se", "seed": 0, "backbone": "imagenet", "epochs": 60}
    values |= {"attention_training": "joint", "selection": "last", "n_views": 4, "commit": "", "source": "a test"}
    return Run(run=name, **values | changes)


def test_a_recipe_says_no_more_than_tells_runs_apart():
    fast, paper = run_of("a"), run_of("b", epochs=192, n_views=64, readout="z2", recipe="paper")
    wide, other = run_of("c", blocks="reduction 4"), run_of("d", attention_training="proxy", epochs=90)
    runs = [fast, paper, wide, other, run_of("e", variant="none", attention_training="")]
    recipes = {run.run: distinguishing_recipe(run, runs).short for run in runs}
    assert str(distinguishing_recipe(other, runs)) == "gates trained by a classifier of synthetic defects"
    assert recipes == {
        "a": "attention joint",
        "b": "published procedure",
        "c": "attention joint, reduction 4",
        "d": "attention proxy",
        "e": "",
    }


def test_a_training_that_all_share_is_told_once_and_others_stay_in_the_titles(root):
    found = [m for m in measured(root / "results") if m.key == "mvtec_ad/bottle" and m.run.seed == 0]
    untrained = [m for m in found if m.run.attention_training in ("", "untrained") and not m.best_on_test]
    short, sentence = training_once(untrained)
    assert {m.title for m in untrained} >= {"AttentDifferNet (SE), gates untrained"}
    assert {m.title for m in short} == {"DifferNet", "AttentDifferNet (SE)", "AttentDifferNet (CBAM)"}
    assert sentence == "Attention: gates untrained." and training_once(untrained)[0] == short, "kept"
    assert training_once(found) == (found, "") and training_once(short[:1]) == (short[:1], "")


def test_runs_of_one_recipe_and_seed_are_told_apart_by_name_and_seeds_alone_are_no_recipe():
    twice = [run_of("a"), run_of("b"), run_of("c", seed=1)]
    assert [str(distinguishing_recipe(run, twice)) for run in twice] == ["a", "b", ""]
    seeds = [run_of("a"), run_of("b", seed=1, epochs=61, readout="z2")]
    assert [str(distinguishing_recipe(run, seeds)) for run in seeds] == ["", ""]


def test_the_base_has_the_same_backbone_seed_and_selection_and_the_most_similar_recipe():
    none = {"variant": "none", "attention_training": ""}
    fast, paper = run_of("fast", **none), run_of("paper", **none, epochs=192, recipe="paper")
    runs = [fast, paper, run_of("seed", **none | {"seed": 1}), run_of("x", **none | {"backbone": "random"})]
    runs.append(run_of("best", **none, selection="best-on-test"))
    assert base_of(run_of("a"), runs) == fast and base_of(run_of("b", epochs=192, recipe="paper"), runs) == paper
    assert base_of(run_of("c", selection="best-on-test"), runs).run == "best"
    assert base_of(run_of("d", seed=2), runs) is None and base_of(fast, runs) is None


# -- another method


def with_patchcore(root, tmp_path):
    """A copy of the results with PatchCore on two networks: better than DifferNet on bottle, worse on wafers."""
    folder = tmp_path / "results"
    shutil.copytree(root / "results", folder)
    for m in fair(root):
        if m.run.variant == "none":
            for backbone, bonus in (("tf_efficientnet_lite0", 1.0), ("resnet18", 1.1)):
                better = bonus if m.run.category == "bottle" else -bonus
                run = m.run.run.replace("none-imagenet", f"patchcore-{backbone}")
                row = replace(m.run, run=run, variant="patchcore", backbone=backbone, epochs=0, readout="maximum")
                results.write_run(folder, row, m.scores.assign(score=m.values + better * m.labels), {})
    return folder


def add_attention_to_patchcore(folder, variant, training, left_at_one):
    """PatchCore as measured on its first network, but better; that gates were left at 1 is only in its record."""
    for m in [m for m in measured(folder) if m.run.variant == "patchcore" and m.run.backbone != "resnet18"]:
        if not m.best_on_test:
            kept = not left_at_one(m)
            run = m.run.run.replace("patchcore", variant)
            row = replace(m.run, run=run, variant=variant, attention_training=training)
            frame = m.scores.assign(score=m.values + 0.8 * m.labels)
            results.write_run(folder, row, frame, {"findings": {"gates_kept": kept, "gates_judged": [0.9, 0.8]}})


def test_patchcore_as_it_is_trained_by_default_stands_beside_differnet(root, tmp_path):
    """And has two comparisons: with PatchCore without weights, and with DifferNet, which counts where all weights were
    left at 1 as well."""
    folder = with_patchcore(root, tmp_path)
    add_attention_to_patchcore(folder, "patchcore-places", "normal places", lambda m: m.run.category == "wafer")
    found = [m for m in measured(folder) if not m.best_on_test]
    places = [m for m in found if m.run.variant == "patchcore-places"]
    by_run = {m.run.run: m for m in found}
    for m in places:
        for compared, variant in ((m, "none"), (m.against_itself, "patchcore")):
            base = by_run[compared.base_run.run]
            assert (compared.run, base.run.variant, base.run.seed) == (m.run, variant, m.run.seed)
            assert compared.delong == delong_test(m.labels, m.values, base.values)
            assert compared.setting == base.setting
    shown = usual(found)
    assert {m.run.variant for m in shown} == {"none", "se", "cbam", "patchcore-places"}
    assert {m.base_run.variant for m in shown if m.run.variant != "none"} == {"none"}
    contrasts = [c for c in method_contrasts(grouped(found)) if c.group.first.run.variant == "patchcore-places"]
    assert [(c.group.first.run.category, c.test.difference > 0) for c in contrasts] == [
        ("bottle", True),
        ("wafer", False),
    ]
    assert "Weighted PatchCore on Bottle (MVTec AD), +" in attentive_text(grouped(found))
    assert results_table(tmp_path, tmp_path).splitlines()[0].endswith("| AttentDifferNet (CBAM) | Weighted PatchCore |")
    assert better_methods(folder)["mvtec_ad/bottle"] == "patchcore"


def test_it_stands_beside_differnet_where_patchcore_alone_was_not_measured(root, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(root / "results", folder)
    for m in fair(root):
        if m.run.variant == "none":
            run = m.run.run.replace("none-imagenet", "patchcore-places-tf_efficientnet_lite0")
            row = replace(m.run, run=run, variant="patchcore-places", backbone="tf_efficientnet_lite0", epochs=0)
            results.write_run(folder, row, m.scores.assign(score=m.values + m.labels), {})
    found = [m for m in measured(folder) if m.run.variant == "patchcore-places"]
    assert {m.against_itself.base_run for m in found} == {None} and {m.base_run.variant for m in found} == {"none"}
    assert {m.setting for m in found} == {f"imagenet-{seed}" for seed in range(3)}
    compared = method_contrasts(grouped(m for m in measured(folder) if not m.best_on_test))
    assert [(c.group.first.run.category, c.test.difference > 0) for c in compared] == [
        ("bottle", True),
        ("wafer", True),
    ]


def test_patchcore_with_attention_is_compared_with_itself_and_not_counted_for_differnet(root, tmp_path):
    folder = with_patchcore(root, tmp_path)
    before = page_of(root, folder)
    add_attention_to_patchcore(folder, "patchcore-se", "separation", left_at_one=lambda m: m.run.seed == 1)
    found = [m for m in measured(folder) if m.run.variant == "patchcore-se"]
    assert found and {m.against_itself.base_run.variant for m in found} == {"patchcore"}
    assert {m.base_run.variant for m in found} == {"none"}, "every page that says DifferNet means it"
    alone = {(m.key, m.run.seed): m for m in measured(folder) if m.name == "patchcore"}
    assert all(m.setting == alone[m.key, m.run.seed].setting for m in found), "beside the same DifferNet"
    groups = grouped(m for m in measured(folder) if not m.best_on_test)
    assert "PatchCore in none" not in attentive_text(groups) and "harmed it in none" in attentive_text(groups)
    after = page_of(root, folder)
    assert "## Does attention help PatchCore?" in after and "## Does attention help PatchCore?" not in before
    first = next(line for line in before.splitlines() if line.startswith("**In "))
    assert first in after, "the answer about DifferNet is the same"
    assert not [m for m in usual(measured(folder)) if m.run.variant == "patchcore-se"]


def test_areas_beside_a_difference_are_of_its_seeds(root, tmp_path):
    """PatchCore has three seeds, with attention one: the row shows PatchCore's of that seed."""
    folder = with_patchcore(root, tmp_path)
    (one,) = (m for m in measured(folder) if m.run.run == "mvtec_ad-bottle-patchcore-tf_efficientnet_lite0-s1")
    row = replace(one.run, run="one", variant="patchcore-se", attention_training="separation")
    results.write_run(folder, row, one.scores.assign(score=one.values + 0.8 * one.labels), {})
    table = attentive_table(grouped(m for m in measured(folder) if not m.best_on_test)).markdown()
    cells = [cell.strip() for cell in table.splitlines()[-1].split("|")]
    assert cells[3] == "1" and cells[5].startswith(percent(one.interval.auroc)) and cells[7] == "one seed"


def test_another_method_stands_beside_differnet_and_is_no_comparison_of_attention(root, tmp_path):
    found = [m for m in measured(with_patchcore(root, tmp_path)) if not m.best_on_test]
    assert answer(all_contrasts(found)) == answer(all_contrasts(fair(root)))
    here = [m for m in found if m.run.variant == "patchcore" and m.run.seed == 0 and m.run.category == "bottle"]
    assert [m.name for m in here] == ["patchcore", "patchcore, resnet18"]
    assert [m.title for m in here] == ["PatchCore", "PatchCore, resnet18"], "the default network first"
    assert {m.setting for m in here} == {"imagenet-0"}, "beside the DifferNet that it is compared with"
    compared = method_contrasts(grouped(found))
    assert [(c.group.first.run.category, c.helps, c.harms) for c in compared] == [
        *[("bottle", True, False)] * 2,
        *[("wafer", False, True)] * 2,
    ]
    assert "Better on Bottle (MVTec AD) (+" in methods_text(compared)
    assert "Worse on Wafer map (synthetic) (-" in methods_text(compared)


def test_pages_show_another_method_in_its_own_table_and_column(root, tmp_path):
    folder = with_patchcore(root, tmp_path)
    text = page_of(root, folder)
    assert text.count("## PatchCore beside DifferNet") == 1
    assert len(re.findall(r"^\| Bottle \(MVTec AD\) \| PatchCore \| 3 \|", text, re.M)) == 1
    assert results_table(tmp_path, tmp_path).splitlines()[0].endswith("| AttentDifferNet (CBAM) | PatchCore |")


def test_kinds_of_recipes_are_not_averaged_together(root):
    found = contrasts(grouped(fair(root)))
    assert means_text(found).count("on average") == 1, "untrained and proxy are ablations, both"
    first = found[0].group.first

    def like(**changes):
        run = replace(first.run, **changes)
        return replace(found[0], group=Group((replace(first, run=run),)))

    default = like(attention_training="separation")
    paper = like(attention_training="joint", recipe="paper")
    assert [kind_of(c) for c in (default, paper, like(attention_training="separation", blocks="before pool"))] == [
        "default",
        "published",
        "ablation",
    ]
    text = means_text([default, paper, *found])
    assert text.count("on average over 1 comparison:") == 2 and text.count("on average over 6 comparisons:") == 1


def test_other_blocks_are_compared_by_category_apart_from_the_papers_trainings(root):
    found = contrasts(grouped(fair(root)))
    assert by_category(found).rows == [], "no other blocks, no table"

    def like(c, **changes):
        return replace(c, group=Group(tuple(replace(m, run=replace(m.run, **changes)) for m in c.group.runs)))

    bottle = next(c for c in found if c.group.first.run.category == "bottle")
    wafer = next(c for c in found if c.group.first.run.category == "wafer")
    kept = [
        like(wafer, variant="se", attention_training="separation, always kept"),
        like(bottle, variant="pooling", attention_training="structure, always kept"),
        like(bottle, variant="pooling", attention_training="separation, always kept"),
        like(bottle, variant="simam", attention_training="nothing to train, always kept"),
    ]
    table = by_category([*kept, *found])
    change = f"{100 * bottle.test.difference:+.1f} (3 seeds)"
    assert [cells[:3] for cells in table.cells] == [
        ["SE", KEPT, f"{100 * wafer.test.difference:+.1f} (3 seeds)"],
        ["SimAM", "nothing to train, kept even if it does not help", ""],
        ["attention pooling", KEPT, ""],
        ["attention pooling", KEPT.replace("defects", "defects of structure"), ""],
    ]
    assert [cells[3] for cells in table.cells] == ["", *[change] * 3]
    change = f"{100 * bottle.test.difference:+.1f}"  # it has one kind of defect
    of_real = [["Bottle (MVTec AD)", "crack", "60", change, change]]
    assert by_defect(kept).cells == of_real, "of attention pooling and SimAM; the wafer is drawn"
    assert by_recipe([*kept, *found]).rows == by_recipe([kept[0], *found]).rows, "averages are of the paper's blocks"


def test_a_mean_over_categories_by_hand(root):
    """Of two categories with room: images are other ones in each, seeds the same ones in both."""
    se = next(c for c in contrasts(grouped(fair(root))) if c.group.first.run.variant == "se")

    def on(dataset, changes, half_width, auroc_b=0.9):
        runs = [
            replace(m, run=replace(m.run, dataset=dataset), delong=replace(m.delong, difference=change))
            for m, change in zip(se.group.runs, changes, strict=True)
        ]
        mean = float(np.mean(changes))
        test = replace(se.test, difference=mean, auroc_b=auroc_b, low=mean - half_width, high=mean + half_width)
        return replace(se, group=Group(tuple(runs)), test=test)

    one, other = on("cplid", [0.02, 0.04, 0.03], 0.03), on("mtd", [-0.02, 0.02, 0.0], 0.04)
    (found,) = averages([one, other])
    assert found.difference == pytest.approx(0.015), "of 0.03 and 0"
    assert (found.high - found.low) / 2 == pytest.approx(0.025), "half of the root of 0.03² + 0.04²"
    assert found.p_value == pytest.approx(2 * norm.sf(0.015 / (0.025 / 1.959964)), abs=1e-6)
    assert found.over_seeds == pytest.approx(mean_interval([0.0, 0.03, 0.015])) and found.n_seeds == 3
    (cells,) = averages_table([found]).cells
    assert cells[:1] + cells[2:4] == ["SE", "3", "+1.5 (-1.0 to +4.0)"]
    assert "no attention helps beyond chance. The largest change is +1.5 points" in averages_text([found])
    sure = on("cplid", [0.02, 0.04, 0.03], 0.01), on("mtd", [0.02, 0.02, 0.03], 0.01)
    assert averages(sure)[0].helps and not found.helps
    assert "helps: +2.7 points (+2.0 to +3.4 over" in averages_text(averages(sure))
    said = ["\n".join(in_short(some, averages(some), fair(root), {}, "")) for some in (sure, [one, other])]
    cautions = [text.count(PICKED_HERE) for text in said]
    assert cautions == [1, 0], "the best of many looks better here than it is"
    assert averages([one]) == averages([one, on("sample", [0.0] * 3, 0.01)]) == [], "one real category has no mean"
    assert averages([one, on("mtd", [0.0] * 3, 0.01, auroc_b=0.99)]) == [], "and one without room does not count"
    eca = [
        replace(c, group=Group(tuple(replace(m, run=replace(m.run, variant="eca")) for m in c.group.runs)))
        for c in (one, other)
    ]
    assert [mean.p_holm for mean in averages([one, other, *eca])] == pytest.approx([min(1, 2 * found.p_value)] * 2)
    fewer = replace(other, group=Group(other.group.runs[1:]))
    assert averages([one, fewer])[0].over_seeds == pytest.approx(mean_interval([0.03, 0.015])), "seeds that both have"


def test_levels_of_defects_have_their_own_aurocs(root, tmp_path):
    assert levels_table(fair(root)).rows == [], "no levels, no table"
    (none,) = (m for m in fair(root) if (m.run.category, m.run.variant, m.run.seed) == ("wafer", "none", 0))
    names = ["good/0.png", "good/1.png", "a/obvious_0.png", "b/moderate_0.png", "b/hard_0.png", "a/hard_1.png"]
    scores = pd.DataFrame({"image": names, "label": [0, 0, 1, 1, 1, 1], "score": [1.0, 3, 4, 2, 2, 0]})
    (cells,) = levels_table([replace(none, scores=scores)]).cells
    assert cells[1:] == ["DifferNet", "imagenet", "100.0", "50.0", "25.0"]


# -- what was chosen on the test images


def test_runs_that_are_best_on_test_form_groups_of_their_own_whatever_their_epochs(root):
    groups = grouped(m for m in measured(root / "results") if m.key == "mvtec_ad/bottle")
    assert [(g.first.name, len(g.runs)) for g in groups[:4]] == [
        ("none", 3),
        ("se", 3),
        ("se, attention proxy", 3),
        ("cbam", 3),
    ]
    assert [(g.first.recipe.short, len(g.runs)) for g in groups[4:]] == [
        ("best epoch chosen on test images (optimistic)", 3),
        ("attention untrained, best epoch chosen on test images (optimistic)", 3),
        ("attention proxy, best epoch chosen on test images (optimistic)", 3),
        ("best epoch chosen on test images (optimistic)", 3),
    ]
    assert all(BEST_ON_TEST_LABEL in m.title and BEST_ON_TEST_LABEL in m.detail for g in groups[4:] for m in g.runs)
    assert len({g.first.name for g in groups}) == 8


def test_best_on_test_is_compared_with_its_own_kind_and_has_no_say(root):
    everything = measured(root / "results")
    by_name = {m.run.run: m for m in everything}
    for m in everything:
        base = by_name[re.sub("-(se|cbam)-", "-none-", m.run.run).replace("-proxy", "")]
        assert (m.base is None) == (m.run.variant == "none")
        assert m.base is None or m.base.equals(base.scores)
        assert shipped.shipped_threshold(m) is None or not m.best_on_test
    assert counting_text(everything) == counting_text(fair(root))
    said = r"In 6 comparisons on 2 categories attention helped DifferNet in 1 and harmed it in none\. "
    named = r"Helped: CBAM on Bottle \(MVTec AD\) \(\+\d+\.\d points\)\."
    assert re.fullmatch(said + named, str(answer(all_contrasts(fair(root)))))
    told = [c.p_holm for c in contrasts(grouped(everything))]
    assert told == [c.p_holm for c in contrasts(grouped(fair(root)))] and len(told) == 6


def test_a_last_run_without_its_differnet_is_not_compared_with_a_flattering_one(root, tmp_path):
    folder = tmp_path / "results"
    for m in measured(root / "results"):
        if m.run.run not in ("mvtec_ad-bottle-none-imagenet-s0", "mvtec_ad-bottle-none-imagenet-s1"):
            results.write_run(folder, m.run, m.scores, {})
    lone = {m.run.run: m for m in measured(folder)}
    assert lone["mvtec_ad-bottle-se-imagenet-s0"].delong is None
    assert lone["mvtec_ad-bottle-se-imagenet-s0-best"].delong is not None
    (c,) = [
        c for c in contrasts(grouped(lone.values())) if c.group.first.name == "cbam"
        and c.group.first.key == "mvtec_ad/bottle"
    ]  # fmt: skip
    assert c.over_seeds is None and len(c.group.differences) == 1 and len(c.group.runs) == 3


def test_no_curve_is_best_on_test_unless_asked_for(root, monkeypatch):
    monkeypatch.setattr(shipped, "RESULTS", root / "results")
    shown = roc_page("sample/wafer")
    assert [curve.variant for curve in shown.curves] == ["none", "se", "cbam"]
    assert not any("optimistic" in one.title for one in (*shown.curves, *(group.first for group in shown.groups)))
    assert sum("optimistic" in row.title for row in shown.rows) == 12


@pytest.mark.parametrize("name", ["ablations", "roc", "failures"])
def test_pages_label_what_is_best_on_test(root, monkeypatch, name):
    from streamlit.testing.v1 import AppTest

    monkeypatch.setattr(shipped, "RESULTS", root / "results")
    at = AppTest.from_file(str(ROOT / "demo" / "dashboard" / "app.py"), default_timeout=240).run()
    at.switch_page(f"{name}.py")
    at.query_params["category"] = "sample/wafer"
    at.query_params["order"] = "auroc"
    at.run()
    assert not at.exception
    shown = " ".join(element.proto.body for element in at.get("html"))
    assert "best epoch chosen on test images (optimistic)" not in shown
    if name == "roc":
        (picker,) = [picker for picker in at.multiselect if picker.label == "Curves"]
        best = [label for label in picker.options if "optimistic" in label]
        assert len(best) == 4
        picker.select(best[0])
        at.run()
        cards = re.findall(r"class='card .*?</h2>", " ".join(element.proto.body for element in at.get("html")))
        assert ["optimistic" in card for card in cards] == [False] * 3 + [True]
    if name == "ablations":
        (switch,) = [toggle for toggle in at.toggle if toggle.label == "Best epoch chosen on test images"]
        switch.set_value(True)
        at.session_state["on demand: As a table, to sort and to copy"] = True
        at.run()
        variants = list(at.dataframe[0].value["variant"])
        assert ["optimistic" in title for title in variants] == [False] * 12 + [True] * 12


# -- contrasts


def test_a_contrast_is_over_the_seeds_and_corrected_for_all(root):
    found = contrasts(grouped(fair(root)))
    assert [c.p_holm for c in found] == pytest.approx(holm([c.test.p_value for c in found]).tolist())
    for c in found:
        areas = [delong_test(m.labels, m.values, m.base["score"]).difference for m in c.group.runs]
        assert c.test.difference == pytest.approx(np.mean(areas)) and c.over_seeds == pytest.approx(
            mean_interval(areas)
        )
    (real,) = [c for c in found if c.real]
    assert (real.group.first.key, real.group.first.name) == ("mvtec_ad/bottle", "cbam") and real.test.difference > 0
    assert not replace(real, over_seeds=(0.1, -0.1, 0.3)).real, "seeds that disagree"
    assert replace(real, over_seeds=None).real and not replace(real, p_holm=0.06).real


# -- the page


def test_the_page_says_what_the_numbers_say(root, tmp_path):
    text = page_of(root)
    assert "**In 6 comparisons on 2 categories attention helped DifferNet in 1 and harmed it in none. Helped:" in text
    assert re.search(
        r"^- Helped: Bottle \(MVTec AD\), AttentDifferNet \(CBAM\), gates untrained, imagenet backbone: \+", text, re.M
    )
    assert "Measured: 24 runs in 2 categories, 1 of them synthetic." in text
    worse = made(tmp_path / "worse", -1.5)
    assert "attention helped DifferNet in none and harmed it in 1.**" in page_of(worse)
    nothing = made(tmp_path / "nothing", 0)
    text = page_of(nothing)
    assert "attention helped DifferNet in none and harmed it in none.**" in text and "Helped:" not in text


def test_the_claim_of_the_paper_is_held_against_what_was_measured(root, tmp_path):
    shutil.copytree(root / "results", tmp_path / "results")
    assert "The authors state" not in page_of(root, tmp_path / "results"), "no source states both averages"
    rows = "mvtec_ad,average,AttentDifferNet,0.96,the paper\nmvtec_ad,average,DifferNet,0.93,the paper\n"
    rows += "wafers,average,AttentDifferNet,0.91,the paper\nwafers,average,DifferNet,0.9,the paper\n"
    (tmp_path / "results" / "published.csv").write_text(PUBLISHED + rows)
    text = page_of(root, tmp_path / "results")
    assert "The authors state +2.00 points on average over 2 data sets (MVTec AD +3.0, wafers +1.0; the paper)" in text
    tests = [c.test for c in contrasts(grouped(fair(root)))]
    reached, below = sum(t.difference >= 0.02 for t in tests), sum(t.high < 0.02 for t in tests)
    assert f"Here {reached} of 6 comparisons reach that, 1 of them beyond chance. In {below} the whole interval" in text


def test_the_page_has_every_run_both_protocols_and_the_published_numbers_apart(root):
    text = page_of(root)
    best = {m.run.run: m for m in measured(root / "results") if m.best_on_test}
    gains = []
    for m in fair(root):
        (line,) = re.findall(rf"^\| `{m.run.run}` \|.*$", text, re.M)
        cells = [cell.strip() for cell in line.split("|")]
        b = best[f"{m.run.run}-best"]
        gains.append(b.interval.auroc - m.interval.auroc)
        assert f"{100 * m.interval.auroc:.1f} ({100 * m.interval.low:.1f}" in cells[3]
        assert cells[7:10] == [f"{100 * b.interval.auroc:.1f} ({b.run.epochs})", "1 + 20 + 3", "abc1234"]
        assert cells[5:7] == ([p_text(m.delong.p_value), p_text(m.bootstrap.p_value)] if m.delong else ["", ""])
    assert "-best`" not in text, "a run that is best on test has no row of its own"
    assert f"adds {100 * np.mean(gains):.1f} points" in text
    assert re.findall(r"^\*Published elsewhere, not measured here\*.*: (.*)$", text, re.M) == [
        "DifferNet 99.0 % (a paper)."
    ]
    assert not [line for line in text.splitlines() if line.startswith("|") and "a paper" in line]
    opened = re.sub(r"<details>.*?</details>", "", text, flags=re.S)
    assert len(opened.splitlines()) < 80 and "abc1234`" in opened and "s0" not in opened


def test_the_page_shows_what_was_found_on_training_normals(root, tmp_path):
    shutil.copytree(root, tmp_path / "project")
    before = page_of(root)
    assert "training normals say" not in before
    (tmp_path / "project" / "benchmarks").mkdir()
    (tmp_path / "project" / "benchmarks" / "attention.csv").write_text(
        "category,detector,variant,attention_training,seed,auroc_synthetic,steps,seconds\n"
        "mvtec_ad/bottle,whole,none,,0,0.9,0,0\n"
        "mvtec_ad/bottle,whole,se,proxy,0,0.94,120,9\n"
        "mvtec_ad/bottle,whole,se,proxy,1,0.92,120,9\n"
    )
    (tmp_path / "project" / "benchmarks" / "collapse.csv").write_text(
        "category,variant,step,loss,spread\nmvtec_ad/bottle,cbam,1,0.5,1.0\nmvtec_ad/bottle,cbam,2,-3.25,0.25\n"
    )
    (tmp_path / "project" / "benchmarks" / "attention_trials.csv").write_text(
        "category,trial,defects,auroc,low,high,difference,p\n"
        "mvtec_ad/bottle,average (DifferNet),foreign,0.8,0.7,0.9,0,1\n"
        "mtd/magnetic_tile,average (DifferNet),foreign,0.6,0.5,0.7,0,1\n"
        "mvtec_ad/bottle,rarity 1,foreign,0.9,0.8,1,0.1,0.01\n"
        "mtd/magnetic_tile,rarity 1,foreign,0.6,0.5,0.7,0,1\n"
    )
    text = page_of(tmp_path / "project")
    assert "| average (DifferNet) | 70.0 |  |" in text and "| rarity 1 | 75.0 | +5.0 |" in text
    assert "| mvtec_ad/bottle | whole | DifferNet |  | 90.0 |" in text
    assert "| mvtec_ad/bottle | whole | AttentDifferNet (SE) | proxy | 93.0 ± 1.4 |" in text
    assert "25 % after 2 steps (least 25 %), loss from 0.50 to -3.25." in text


def test_the_page_tells_what_there_is_not_what_it_cost_and_how_to_repeat_it(root):
    text = page_of(root)
    assert "- **MVTec AD**: 1 of 2 categories: screw." in text
    assert "- **InsPLAD-fault**: nothing. Papers state numbers for vari-grip." in text
    assert "- **Elsewhere**: nothing. Papers state only an average over it." in text
    assert f"Together {24 * 24 / 3600:.1f} hours: 24 runs on Abacus, 4 cores, 2 threads per run." in text
    assert "| `attentdiffernet grid grids/made.toml` | `abc1234` | 24 | mvtec_ad/bottle, sample/wafer |" in text
    (root / "grids" / "made.toml").write_text(GRID + "[grid.options]\nepochs = 7\n")
    try:
        text = page_of(root)
    finally:
        (root / "grids" / "made.toml").write_text(GRID)
    assert "| no grid file has these options today | `abc1234` | 6 |" in text and "| `abc1234` | 18 |" in text


def test_runs_of_other_makers_and_of_one_seed(root, tmp_path):
    (tmp_path / "published.csv").write_text(PUBLISHED)
    for m in fair(root):
        if m.run.seed == 0:
            results.write_scores(results.score_path(tmp_path, m.run.dataset, m.run.category, m.run.run), m.scores)
            results.append_run(tmp_path, m.run)
    text = page(tmp_path, {}, tmp_path)
    assert "6 comparisons have one seed only" in text and "| one seed |" in text
    assert "was not measured" in text and "*best on test:* Δ" not in text
    assert "None of these runs kept its cost" in text and "| not kept |" in text


def test_generated_parts_are_written_once_and_checked(root, monkeypatch, capsys):
    monkeypatch.setattr(write_tables, "ROOT", root)
    monkeypatch.setattr("sys.argv", ["write_tables.py"])
    write_tables.main()
    text = (root / "results" / "README.md").read_text()
    assert text.startswith("by hand\n<!-- evidence -->\n## Does") and text.endswith(
        "<!-- /evidence -->\nby hand, too\n"
    )
    readme = (root / "README.md").read_text()
    assert readme.count("as it was") == 2, "what was not measured stays"
    body = [line for line in readme.splitlines() if line.startswith("| ")][2:]
    assert len(body) == 4 and sum("**+" in line for line in body) == 1
    write_tables.main()
    assert (root / "results" / "README.md").read_text() == text
    monkeypatch.setattr("sys.argv", ["write_tables.py", "--check"])
    with pytest.raises(SystemExit, match=r"^0$"):
        write_tables.main()
    (root / "results" / "README.md").write_text(text.replace("helped DifferNet in 1", "helped DifferNet in 6"))
    with pytest.raises(SystemExit, match=r"^1$"):
        write_tables.main()
    assert capsys.readouterr().err.startswith("results/README.md differs from its sources")
    with pytest.raises(ValueError, match="no part <!-- gone -->"):
        between(text, "gone", "")


def test_usual_are_one_recipe_per_variant_and_none_that_is_best_on_test(root, tmp_path):
    shutil.copytree(root / "results", tmp_path / "results")
    run = next(m.run for m in fair(root) if m.run.run == "mvtec_ad-bottle-cbam-imagenet-s0")
    frame = results.read_scores(results.score_path(root / "results", run.dataset, run.category, run.run))
    recipes = [("separation", ""), ("separation, always kept", ""), ("separation, always kept", "before pool")]
    for k, (training, blocks) in enumerate(recipes):
        other = replace(run, run=f"{run.run}-{k}", attention_training=training, blocks=blocks)
        results.write_run(tmp_path / "results", other, frame, {})
    shown = usual(measured(tmp_path / "results"))
    assert not any(m.best_on_test for m in shown)
    bottle = [m.run for m in shown if m.key == "mvtec_ad/bottle"]
    assert sorted((r.variant, r.seed) for r in bottle) == [(v, s) for v in ("cbam", "none", "se") for s in range(3)]
    first = next(r for r in bottle if r.variant == "cbam" and r.seed == 0)
    assert (first.run, first.attention_training) == (f"{run.run}-1", "separation, always kept")
    best = [m for m in measured(root / "results") if m.best_on_test]
    assert usual(best), "where there are no others"
    assert {m.run.variant for m in usual(best)} == {"none", "se", "cbam"}


def test_what_carries_over_by_hand():
    trials = pd.DataFrame(
        [
            ["mvtec_ad/bottle", "average (DifferNet)", "foreign", 0.0],
            ["mvtec_ad/bottle", "rarity 1", "foreign", 0.04],
            ["mvtec_ad/bottle", "rarity 1", "wide", 0.02],
            ["mtd/magnetic_tile", "rarity 1", "foreign", 0.03],
            ["mtd/magnetic_tile", "rarity 1", "wide", -0.01],
            ["mtd/magnetic_tile", "PatchCore, over mean and two deviations there", "foreign", 0.5],
        ],
        columns=["category", "trial", "defects", "difference"],
    )
    found = [
        SimpleNamespace(
            group=SimpleNamespace(
                first=SimpleNamespace(run=SimpleNamespace(variant=variant, attention_training=training), key=key)
            ),
            test=SimpleNamespace(difference=difference),
        )
        for variant, key, training, difference in [
            ("rarity", "mvtec_ad/bottle", "normal places, always kept", 0.01),
            ("rarity", "mvtec_ad/bottle", "normal places", 0.0),  # left at 1
            ("rarity", "mtd/magnetic_tile", "normal places", -0.03),
            ("se", "mtd/magnetic_tile", "separation", 0.2),
        ]
    ]
    changes = transfers(trials, found)
    assert transfer_table(changes).markdown().splitlines()[2:] == [
        "| rarity pooling | Bottle (MVTec AD) | +4.0 | +2.0 | +1.0 |",
        "| rarity pooling | Magnetic tile (Magnetic Tile Defects) | +3.0 | -1.0 | -3.0 |",
    ], "where both were measured"
    assert transfer_text(changes) == (
        "Rarity pooling: +2.0 points on synthetic defects and -1.0 on test images, on average over 2 categories; both "
        "go the same way in 1."
    )
    assert transfers(trials, found[3:]).empty


def test_choices_by_hand():
    inputs = pd.DataFrame(
        [["mvtec_ad/bottle", "flips", "z2", True, 1472], ["other/part", "none", "z2", False, 9]],
        columns=["category", "input", "readout", "as_before", "views_computed"],
    )
    columns = ["category", "differnet", "patchcore", "chosen", "fused", "fused_helps"]
    methods = pd.DataFrame([["mvtec_ad/bottle", 0.5, 0.9, "patchcore", 0.8, False]], columns=columns)
    head, _, row, *_ = (written := choices_table(inputs, methods, {})).splitlines()
    assert row.endswith("| flips | `z2` | yes | 1,472 | 50.0 | 90.0 | 80.0 | PatchCore |") and "part" not in written
    assert head.count("|") == row.count("|") and "not offered" in written and "Nowhere" in written
    other = choices_table(inputs, methods.assign(fused_helps=True), {"mvtec_ad/bottle": "differnet"})
    assert (
        "standard error in Bottle" in other
        and "**On the test images the other method is better beyond chance: Bottle" in other
    )
    assert "Nowhere" in choices_table(inputs, methods, {"mvtec_ad/bottle": "patchcore"})


def test_small_sets_by_hand():
    """Two draws of PatchCore, one of DifferNet for which the rule takes PatchCore."""
    columns = ["category", "method", "n_images", "draw", "auroc", "n_calibrated", "promised", "n_normal", "flagged"]
    rows = [
        ["mvtec_ad/bottle", "patchcore", 4, 0, 0.97, 4, 0.2, 10, 1, None],
        ["mvtec_ad/bottle", "patchcore", 4, 1, 0.99, 4, 0.2, 10, 9, None],
        ["mvtec_ad/bottle", "differnet", 4, 0, 0.9, 1, 0.5, 10, 10, "patchcore"],
    ]
    written = small_sets_table(pd.DataFrame(rows, columns=[*columns, "chosen"]))
    differnet, patchcore = (line for line in written.splitlines() if line.startswith("| Bottle"))
    assert "| 1 | 90.0 | 50.0 | 100.0 (100.0 to 100.0) | 1 of 1 | PatchCore 1 time |" in differnet
    assert "| 2 | 98.0 ± 1.4 | 20.0 | 50.0 (10.0 to 90.0) | 1 of 2 |" in patchcore  # 0 to 7 of 10
    assert "not finished" in written and "not finished" not in small_sets_table(
        pd.DataFrame(rows[:2], columns=[*columns, "chosen"])
    )


def test_a_change_is_seen_and_a_file_on_its_way_disturbs_nothing(root, tmp_path):
    folder = Path(shutil.copytree(root / "results", tmp_path / "results"))
    first = measured(folder)
    scores = next((folder / "scores").rglob("*.csv"))
    scores.with_name(f".{scores.name}.0a1b2c3d.new").symlink_to("gone before it was looked at")
    assert measured(folder) is first
    scores.write_text(scores.read_text().replace("\n", "\r\n"))
    assert measured(folder) is not first
