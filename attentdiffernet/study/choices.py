"""The table of `benchmarks/input_choice.csv` and `method_choice.csv`: what the rules choose on training normals."""

from collections.abc import Mapping

import pandas as pd

from ..datasets import category_title
from ..words import percent, variant_title
from .tables import Column, Table


def choices_table(inputs: pd.DataFrame, methods: pd.DataFrame, better: Mapping[str, str]) -> str:
    """A row for each category that both rules have examined. better: by category, the method that is better on its test
    images beyond chance, where one is."""
    columns = [
        Column("Category", category_title),
        Column("Views and exposure"),
        Column("Read-out"),
        Column("As in the results"),
        Column("Copies computed", number=True),
        Column("DifferNet", percent, number=True),
        Column("PatchCore", percent, number=True),
        Column("Fused", percent, number=True),
        Column("The rule takes", lambda method: variant_title("none" if method == "differnet" else method)),
    ]
    found = inputs.merge(methods, on="category")
    names = ["category", "input", "readout", "as_before", "views_computed", "differnet", "patchcore", "fused", "chosen"]
    rows = [
        [category, of_input, f"`{readout}`", "yes" if as_before else "no", f"{n:,}", *rest]
        for category, of_input, readout, as_before, n, *rest in found[names].itertuples(index=False)
    ]
    return (
        f"{Table(columns, rows).markdown()}\n"
        "The input chosen for DifferNet, whether its run in the results has it, too, and how many copies of images the "
        "choice computed (`python -m benchmarks.input_choice`). Then AUROC in percent on synthetic "
        "defects in held-out normals (`python -m benchmarks.method_choice`). "
        f"{_fusion(found)} {_mistakes(found, better)}"
    )


def _fusion(found: pd.DataFrame) -> str:
    helps = ", ".join(map(category_title, found[found["fused_helps"]]["category"]))
    where = f"in {helps}" if helps else "nowhere, so it is not offered"
    return f"Fusing their ranks among held-out normals beats the better one by more than the standard error {where}."


def _mistakes(found: pd.DataFrame, better: Mapping[str, str]) -> str:
    chosen = dict(zip(found["category"], found["chosen"], strict=True))
    wrong = [category_title(category) for category, method in chosen.items() if better.get(category, method) != method]
    if not wrong:
        return "Nowhere is the other method better on the test images beyond chance."
    return f"**On the test images the other method is better beyond chance: {', '.join(wrong)}.**"
