"""One run of a grid as plain data that can be sent to another process, and what came of it."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import FLOW_SIZES, ModelConfig, ScoringConfig, TrainingConfig
from ..study.runs import BEST

TABLES = ("model", "training", "scoring")  # of options, in the file and in a task
CHOSEN = {  # options that are chosen for the category unless the file gives them, and their table
    "views": "model",
    "resize": "model",
    "exposure": "model",
    "readout": "model",
    "views_per_image": "training",
    "n_views": "scoring",
}
ScoreRow = tuple[str, str, int, float]  # image, defect, label, score


@dataclass(frozen=True)
class Task:
    """One run. model_dir: where to save the model, or None. fixed: those options of CHOSEN that the file gives.

    best_on_test: also score the test images after several epochs, and write the best of these as a second run.
    device: as in `devices.find_device`.
    """

    run: str
    dataset: str
    category: str
    folder: str
    model_dir: str | None
    model: ModelConfig
    training: TrainingConfig
    scoring: ScoringConfig
    results: Path
    fixed: tuple[str, ...]
    best_on_test: bool = False
    device: str = "cpu"

    @property
    def best_run(self) -> str:
        return self.run + BEST

    @property
    def runs(self) -> list[str]:
        """The names of the runs that it writes."""
        return [self.run, self.best_run] if self.best_on_test else [self.run]

    @property
    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name).to_dict() for name in TABLES} | {"fixed": list(self.fixed)}

    @property
    def chooses(self) -> bool:
        """Whether anything is left to be chosen for the category by `input_choice.choose`."""
        return self.training.recipe == "fast" and not {"views", "resize", "exposure", "readout"} <= set(self.fixed)

    @property
    def features(self) -> tuple[str, str]:
        """Equal for runs that share cached features. Only attention blocks depend on the seed, convolutions do not.
        The recipe `paper` caches nothing."""
        if self.training.recipe == "paper":
            return self.folder, self.run
        model = dataclasses.replace(self.model, flow=FLOW_SIZES["compact"])
        seed = "" if model.attention.kind == "none" else str(self.training.seed)
        return self.folder, f"{model} {seed}"

    def to_json(self) -> str:
        names = ("run", "dataset", "category", "folder", "model_dir", "best_on_test", "device")
        plain = {name: getattr(self, name) for name in names}
        return json.dumps(plain | self.options | {"results": str(self.results)})

    @classmethod
    def from_json(cls, text: str) -> "Task":
        plain = json.loads(text)
        plain["model"] = ModelConfig.from_dict(plain["model"])
        plain["training"] = TrainingConfig.from_dict(plain["training"])
        plain["scoring"] = ScoringConfig.from_dict(plain["scoring"])
        return cls(**plain | {"results": Path(plain["results"]), "fixed": tuple(plain["fixed"])})


@dataclass(frozen=True)
class Outcome:
    """The scores of a run, or why it failed. details: a traceback, if the failure is a fault of the program.

    chosen: number and kind of views, readout. best_epoch, best_scores: of the best epoch on the test images, if the
    task asks for it. cost: seconds, views and machine, as in RUN.json. strength, judged: as of AttentionConfig.
    spread: of the features, if attention was trained with the flow (`paper_recipe.spread`).
    """

    scores: list[ScoreRow] | None = None
    chosen: tuple[int, str, str] = (0, "", "")
    error: str = ""
    details: str = ""
    best_epoch: int = 0
    best_scores: list[ScoreRow] | None = None
    cost: dict[str, float | int | str] = field(default_factory=dict)
    strength: float = 1.0
    judged: tuple[float, ...] = ()
    spread: float | None = None

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        """Raises ValueError or TypeError for anything else."""
        plain = json.loads(text)
        for name in ("scores", "best_scores"):
            plain[name] = plain[name] and [tuple(row) for row in plain[name]]
        return cls(**plain | {name: tuple(plain[name]) for name in ("chosen", "judged")})
