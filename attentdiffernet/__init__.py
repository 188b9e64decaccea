"""AttentDifferNet: image anomaly detection with attention-gated features and a normalizing flow.

Train on normal images, score any image, and see where the model looks:

>>> detector = attentdiffernet.load("models/sample/wafer/cbam")
>>> image = detector.model.prepare(attentdiffernet.read_image("wafer.png"))
>>> score = attentdiffernet.score_image(detector.model, image, detector.calibration.n_views)
>>> detector.is_anomalous(score)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .category import InspectionDataset
    from .checkpoint import Calibration, DataCard, Detector, load, push_to_hub, save
    from .config import AttentionConfig, FlowConfig, ModelConfig, ScoringConfig, TrainingConfig
    from .errors import AttentDifferNetError, CheckpointError, DatasetError, ImageError, ResultsError, WeightsError
    from .images import read_image
    from .model import AttentDifferNet
    from .scoring import score_image, score_images
    from .training import train
    from .views import to_tensor

__version__ = "0.1.0"

# Names are imported when first asked for: tables and statistics then work without waiting for torch.
_MODULES = {
    "checkpoint": ("Calibration", "DataCard", "Detector", "load", "push_to_hub", "save"),
    "config": ("AttentionConfig", "FlowConfig", "ModelConfig", "ScoringConfig", "TrainingConfig"),
    "category": ("InspectionDataset",),
    "images": ("read_image",),
    "views": ("to_tensor",),
    "errors": (
        "AttentDifferNetError",
        "CheckpointError",
        "DatasetError",
        "ImageError",
        "ResultsError",
        "WeightsError",
    ),
    "model": ("AttentDifferNet",),
    "scoring": ("score_image", "score_images"),
    "training": ("train",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
__all__ = [
    "AttentDifferNet",
    "AttentDifferNetError",
    "AttentionConfig",
    "Calibration",
    "CheckpointError",
    "DataCard",
    "DatasetError",
    "Detector",
    "FlowConfig",
    "ImageError",
    "InspectionDataset",
    "ModelConfig",
    "ResultsError",
    "ScoringConfig",
    "TrainingConfig",
    "WeightsError",
    "load",
    "push_to_hub",
    "read_image",
    "save",
    "score_image",
    "score_images",
    "to_tensor",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
