"""The sample data: three categories of *synthetic* inspection images, drawn by a program, with true defect masks.

They mirror the three data sets of the AttentDifferNet paper, so that the demo, the tests and a first look need no
download; they are no benchmark. An image is a pure function of (category, defect, seed). The scene is drawn from a
random generator of its own, the defect from a second one, so `draw(c, "good", seed)` is the normal twin of every
`draw(c, defect, seed)`, and the mask is where the two differ.

    categories                             what is shown, in words
    insulator (with solids, outdoors), gear, wafer    a scene each
    drawing                                tools that the scenes share
    render                                 one image and its mask
    writing                                the set as files
"""

from .categories import CATEGORIES, SampleCategory
from .drawing import SIZE
from .render import MIN_AREA, MIN_DIFFERENCE, Sample, draw
from .writing import N_PER_DEFECT, N_TEST_GOOD, N_TRAIN, file_of, write

__all__ = [
    "CATEGORIES",
    "MIN_AREA",
    "MIN_DIFFERENCE",
    "N_PER_DEFECT",
    "N_TEST_GOOD",
    "N_TRAIN",
    "SIZE",
    "Sample",
    "SampleCategory",
    "draw",
    "file_of",
    "write",
]
