"""The sample data: three categories of *synthetic* inspection images, drawn by a program, with true defect masks.

They mirror the three data sets of the AttentDifferNet paper, so that the demo, the tests and a first look need no
download; they are no benchmark. An image is a pure function of (category, defect, level, seed). The scene is drawn from
a random generator of its own, the defect from a second one, so `draw(c, "good", seed)` is the normal twin of every
`draw(c, defect, seed, level)`, and the mask is where the two differ.

Every defect comes in three levels, `obvious`, `moderate` and `hard`; a table in each scene says how large and how
strong it is drawn at each. The tables were set by looking at pictures and with detectors in view: DifferNet and
PatchCore, trained on the normals, were scored on some of the test images, and the ranges were moved towards the
difficulty that the paper's data have for DifferNet. A result on this set is therefore no evidence for any detector.

    categories                             what is shown, in words
    levels                                 the three levels
    insulator (with solids, outdoors), gear, wafer    a scene each, with the table of its levels
    drawing                                tools that the scenes share
    render                                 one image and its mask
    writing                                the set as files
"""

from .categories import CATEGORIES, SampleCategory
from .drawing import SIZE
from .levels import LEVELS, Level
from .render import MIN_AREA, MIN_DIFFERENCE, Sample, draw
from .writing import N_PER_LEVEL, N_TEST_GOOD, N_TRAIN, file_of, write

__all__ = [
    "CATEGORIES",
    "LEVELS",
    "MIN_AREA",
    "MIN_DIFFERENCE",
    "N_PER_LEVEL",
    "N_TEST_GOOD",
    "N_TRAIN",
    "SIZE",
    "Level",
    "Sample",
    "SampleCategory",
    "draw",
    "file_of",
    "write",
]
