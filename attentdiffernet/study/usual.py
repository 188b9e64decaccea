"""The few runs to look at first: one recipe per detector, none that is best on test. All others are ablations."""

from collections.abc import Iterable

from ..options import DEFAULT_VARIANTS, Options
from ..words import ATTENTIVE_METHODS, DEFAULT_TRAININGS, OTHER_METHODS, PAPER_VARIANTS
from .comparison import Group, Measured, grouped, without_best_on_test

TRAINED_BY_DEFAULT = {Options(method=method, variant=variant).key for method, variant in DEFAULT_VARIANTS.items()}


def usual(found: Iterable[Measured]) -> list[Measured]:
    """Of every category, backbone and seed DifferNet, the paper's variants with the default training of attention, and
    other methods as they are trained by default, in their order; where that was not measured, what was. All, where
    there are no others.

    Gates that were always kept stand before those that were judged: a run whose gates were left at 1 is DifferNet.
    """
    found = list(found)
    best: dict[tuple[str, str, str], Measured] = {}
    for m in sorted(without_best_on_test(found), key=_distance):
        if m.run.variant in (*PAPER_VARIANTS, *OTHER_METHODS):
            best.setdefault((m.key, m.setting, ATTENTIVE_METHODS.get(m.run.variant, m.run.variant)), m)
    chosen = {m.run.run for m in best.values()}
    return [m for m in found if m.run.run in chosen] or found


def _distance(m: Measured) -> tuple[bool, bool, bool, int]:
    """How far a recipe is from the default one; the first difference counts most."""
    run = m.run
    training, first = run.attention_training, DEFAULT_TRAININGS
    place = first.index(training) if training in first else len(first) if training else 0
    by_default = run.variant in TRAINED_BY_DEFAULT or run.variant in PAPER_VARIANTS
    return run.recipe != "fast", bool(run.blocks), not by_default, place


def usual_groups(found: Iterable[Measured]) -> list[Group]:
    """The same over all seeds, of every category on its first backbone alone."""
    first: dict[tuple[str, str], Group] = {}
    for group in grouped(usual(found)):
        first.setdefault((group.first.key, group.first.run.variant), group)
    return list(first.values())
