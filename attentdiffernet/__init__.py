"""AttentDifferNet: image anomaly detection with attention-gated features and a normalizing flow.

Fit a detector to normal images, inspect any image, and see where the detector looks:

>>> import attentdiffernet as adn
>>> detector = adn.fit("wafer/train/good", adn.Options(variant="se", weights="bundled"))
>>> verdict = detector.inspect("wafer/test/donut/moderate_000.png")
>>> verdict.anomalous, verdict.score > verdict.threshold
(True, True)
>>> heat = verdict.map("grad-cam")  # (H, W), in units of what held-out normal images reach
>>> verdict.overlay("grad-cam").save("donut-map.png")
>>> for verdict in detector.inspect_all("wafer/test"):
...     assert not verdict.error
>>> detector.save("runs/wafer-se")
PosixPath('runs/wafer-se')
>>> detector = adn.load("runs/wafer-se")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .card import DataCard
    from .category import InspectionDataset
    from .detector import Detector, Verdict
    from .errors import AttentDifferNetError, CheckpointError, DatasetError, ImageError, ResultsError, WeightsError
    from .findings import Calibration, Findings
    from .images import read_image
    from .methods import fit, load
    from .options import AttentionConfig, FlowConfig, Options

__version__ = "0.2.0"

# Names are imported when first asked for: tables and statistics then work without waiting for torch.
_MODULES = {
    "card": ("DataCard",),
    "category": ("InspectionDataset",),
    "detector": ("Detector", "Verdict"),
    "errors": (
        "AttentDifferNetError",
        "CheckpointError",
        "DatasetError",
        "ImageError",
        "ResultsError",
        "WeightsError",
    ),
    "findings": ("Calibration", "Findings"),
    "images": ("read_image",),
    "methods": ("fit", "load"),
    "options": ("AttentionConfig", "FlowConfig", "Options"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
__all__ = [
    "AttentDifferNetError",
    "AttentionConfig",
    "Calibration",
    "CheckpointError",
    "DataCard",
    "DatasetError",
    "Detector",
    "Findings",
    "FlowConfig",
    "ImageError",
    "InspectionDataset",
    "Options",
    "ResultsError",
    "Verdict",
    "WeightsError",
    "fit",
    "load",
    "read_image",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
