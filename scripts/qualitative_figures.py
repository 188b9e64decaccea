"""The qualitative figure of a paper for every drawn category: photographs with the outline of the defect, and the map
and score of each shipped detector.

    python -m scripts.qualitative_figures FOLDER      writes maps-CATEGORY.pdf, .svg and .png
"""

import sys
from dataclasses import replace
from pathlib import Path

from attentdiffernet.figures.overlay import with_outline
from attentdiffernet.figures.print import FORMATS, figure_file
from attentdiffernet.files import replace_file
from demo.service import catalogue
from demo.service.catalogue import Example
from demo.service.comparison import compare
from demo.service.downloads import paper_grid
from demo.service.verdict import Comparison

ROWS = 4
MAP = "grad-cam"  # of DifferNet and its variants; PatchCore shows its distances


def compared(key: str, example: Example) -> Comparison:
    *_, found = compare(example.path, key, MAP)
    title = example.name.replace("-", "\n").replace("_", " ")
    return replace(found, name=title, image=with_outline(found.image, example.outline))


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "figures")
    for key, info in catalogue.usable_categories().items():
        if not key.startswith("sample/"):
            continue
        examples = [example for example in info.examples if example.mask][: ROWS - 1]
        normal = [example for example in info.examples if not example.mask][:1]
        found = [compared(key, example) for example in [*examples, *normal]]
        figure = paper_grid(found, catalogue.detector_names(key))
        for suffix in FORMATS:
            with replace_file(out / f"maps-{key.replace('/', '-')}.{suffix}") as stream:
                stream.write(figure_file(figure, suffix))
        print(f"maps of {info.title} written to {out}")


if __name__ == "__main__":
    main()
