"""Other methods beside DifferNet, on the same images: never counted among the comparisons of attention."""

from collections.abc import Sequence

from ..datasets import category_title
from ..words import ATTENTIVE_METHODS, OTHER_METHODS, variant_title
from .comparison import GATES_LEFT_AT_1, Contrast, Group, against_itself, contrasts, of_seeds
from .formats import counted, p_text, points, points_range, points_text
from .runs import RECIPES, Run
from .tables import Column, Table, group_auroc_text


def method_contrasts(groups: Sequence[Group]) -> list[Contrast]:
    """Every other method that was measured beside DifferNet; Holm corrects for these alone."""
    return contrasts(groups, OTHER_METHODS)


def methods_text(found: Sequence[Contrast]) -> str:
    """Where each method is better than DifferNet and where worse; empty without any."""
    by_title: dict[str, list[Contrast]] = {}
    for c in found:
        by_title.setdefault(c.group.first.title, []).append(c)
    return " ".join(_sentences(title, some) for title, some in by_title.items())


def _sentences(title: str, found: Sequence[Contrast]) -> str:
    kinds = {
        "Better": [c for c in found if c.helps],
        "Worse": [c for c in found if c.harms],
        "No clear difference": [c for c in found if not c.real],
    }
    parts = [f"{kind} on {', '.join(map(_place, some))}." for kind, some in kinds.items() if some]
    return f"{title} against DifferNet, in points of AUROC, mean over seeds. {' '.join(parts)}"


def _place(c: Contrast) -> str:
    m = c.group.first
    procedure = RECIPES[m.base_run.recipe] if m.base_run else ""
    change = ", against its ".join(filter(None, (points(c.test.difference), procedure)))
    return f"{category_title(m.key)} ({change})"


def methods_table(groups: Sequence[Group], found: Sequence[Contrast]) -> Table:
    """A row per category and method: both areas, their difference and its tests."""
    by_run = {m.run.run: group for group in groups for m in group.runs}

    def row(c: Contrast) -> list[object]:
        first = c.group.first
        assert first.base_run
        base = by_run[first.base_run.run]
        return [first.key, first.title, len(c.group.runs), c.group, first.base_run, of_seeds(base, c.group), c, c, c, c]

    columns = [
        Column("Category", category_title),
        Column("Method"),
        Column("Seeds"),
        Column("AUROC, %", group_auroc_text),
        Column("DifferNet", _base_text),
        Column("AUROC, %", group_auroc_text),
        Column("Δ (over test images)", lambda c: points_text(c.test)),
        Column("Δ over seeds", lambda c: points_range(*c.over_seeds[1:]) if c.over_seeds else "one seed"),
        Column("p", lambda c: p_text(c.test.p_value)),
        Column("Holm", lambda c: f"**{p_text(c.p_holm)}**" if c.real else p_text(c.p_holm)),
    ]
    return Table(columns, [row(c) for c in found])


def _base_text(run: Run) -> str:
    """`imagenet backbone, published procedure`"""
    return ", ".join(filter(None, (f"{run.backbone} backbone", RECIPES[run.recipe])))


def compared_text() -> str:
    names = " and ".join(variant_title(name) for name in OTHER_METHODS)
    return (
        f"{names} have a backbone of their own. They are compared with DifferNet on the same images, with the same "
        "seeds (DeLong, paired, of the mean over the seeds both have, as the areas are; Holm's correction for the rows "
        "of this table). These comparisons are not counted among those of attention."
    )


# -- with attention


def attentive_contrasts(groups: Sequence[Group], with_left_at_one: bool = False) -> list[Contrast]:
    """Attention in other methods against the same methods without; Holm corrects for these alone. with_left_at_one: as
    of `contrasts`."""
    return contrasts(map(against_itself, groups), ATTENTIVE_METHODS, with_left_at_one)


def attentive_text(groups: Sequence[Group]) -> str:
    """Whether attention helps another method, in one or two sentences; empty where it was not measured."""
    mine = [group for group in groups if group.first.run.variant in ATTENTIVE_METHODS]
    if not mine:
        return ""
    found = attentive_contrasts(mine)
    method = variant_title(ATTENTIVE_METHODS[mine[0].first.run.variant])
    n, where = len(found), len({c.group.first.key for c in found})
    named = {"Helped": [c for c in found if c.helps], "Harmed": [c for c in found if c.harms]}
    helped, harmed = (len(some) or "none" for some in named.values())
    runs = [m for group in mine for m in group.runs]
    left = sum(not m.gates.kept for m in runs)
    sentences = [
        f"In {counted(n, 'comparison')} with {method} alone, on {counted(where, 'category', 'categories')}, attention "
        f"helped {method} in {helped} and harmed it in {harmed}.",
        *(f"{title}: {'; '.join(map(_named, some))}." for title, some in named.items() if some),
        "All with one seed." if all(len(group.runs) == 1 for group in mine) else "",
        f"In {left} of {len(runs)} runs gates or weights were left at 1, because they did not measurably help on "
        "training normals.",
    ]
    return " ".join(filter(None, sentences))


def _named(c: Contrast) -> str:
    """`PatchCore (SE) on Bottle (MVTec AD), +1.2 points`"""
    return f"{c.group.first.title} on {category_title(c.group.first.key)}, {points(c.test.difference)} points"


def attentive_table(groups: Sequence[Group]) -> Table:
    """A row per category and variant: its area, the one without attention, and the tests of their difference."""
    tested = {c.group.first.run.run: c for c in attentive_contrasts(groups)}
    by_run = {m.run.run: group for group in groups for m in group.runs}

    def row(group: Group) -> list[object]:
        first, c = group.first.against_itself or group.first, tested.get(group.first.run.run)
        base = by_run.get(first.base_run.run) if first.base_run else None
        paired = of_seeds(base, group) if base else None
        return [first.key, first.title, len(group.runs), group, paired, c or GATES_LEFT_AT_1, c, c]

    columns = [
        Column("Category", category_title),
        Column("Method"),
        Column("Seeds"),
        Column("AUROC, %", group_auroc_text),
        Column("without attention", group_auroc_text),
        Column("Δ (over test images)", lambda c: c if isinstance(c, str) else points_text(c.test)),
        Column("Δ over seeds", lambda c: points_range(*c.over_seeds[1:]) if c.over_seeds else "one seed"),
        Column("Holm", lambda c: f"**{p_text(c.p_holm)}**" if c.real else p_text(c.p_holm)),
    ]
    return Table(columns, [row(group) for group in groups if group.first.run.variant in ATTENTIVE_METHODS])
