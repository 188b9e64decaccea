"""Makes `import torchvision` work beside a CPU-only build of torch. Import this before anything that imports it.

The torchvision wheel of the package index is compiled against CUDA torch. Beside a `+cpu` build its compiled operators
cannot be loaded, and the import stops at `operator torchvision::nms does not exist`, although models, weights and
transforms need none of them. Declaring the two schemas it asks for is enough. Where the import works as it is,
nothing is declared.
"""

import torch

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    _library = torch.library.Library("torchvision", "DEF")  # kept alive: its declarations go with it
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

__all__ = ["torchvision"]
