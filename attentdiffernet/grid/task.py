"""One run of a grid as plain data that can be sent to another process, and what came of it."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from ..findings import Findings
from ..options import Options
from ..study.runs import BEST

ScoreRow = tuple[str, str, int, float]  # image, defect, label, score
Seen = tuple[int, str, str]  # number and kind of views, readout
# options that decide the features
FEATURES = ("backbone", "attention", "weights", "image_size", "n_scales", "views", "resize", "exposure")


@dataclass(frozen=True)
class Task:
    """One run. model_dir: where to save the model, or None. device: as in `devices.find_device`.

    best_on_test: also score the test images after several epochs, and write the best of these as a second run.
    """

    run: str
    dataset: str
    category: str
    folder: str
    model_dir: str | None
    options: Options
    results: Path
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
    def features(self) -> tuple[str, str]:
        """Equal for runs that share cached features. Convolutions do not depend on the seed, most attention blocks do.
        The recipe `paper` and PatchCore cache nothing."""
        options = self.options
        if options.recipe == "paper" or options.method != "differnet":
            return self.folder, self.run
        seed = "" if options.variant == "none" else f"{options.variant} {options.attention_seed}"
        return self.folder, " ".join([*(str(getattr(options, name)) for name in FEATURES), seed])

    def to_json(self) -> str:
        names = ("run", "dataset", "category", "folder", "model_dir", "best_on_test", "device")
        plain = {name: getattr(self, name) for name in names}
        return json.dumps(plain | {"options": self.options.to_dict(), "results": str(self.results)})

    @classmethod
    def from_json(cls, text: str) -> "Task":
        plain = json.loads(text)
        return cls(**plain | {"options": Options.from_dict(plain["options"]), "results": Path(plain["results"])})


@dataclass(frozen=True)
class Outcome:
    """The scores of a run, or why it failed. details: a traceback, if the failure is a fault of the program.

    seen: how images were scored. best_epoch, best_scores: of the best epoch on the test images, if the task asks for
    it. cost: seconds, views and machine, as in RUN.json. spread: of the features, if attention was trained with the
    flow (`paper_recipe.spread`).
    """

    scores: list[ScoreRow] | None = None
    seen: Seen = (0, "", "")
    error: str = ""
    details: str = ""
    best_epoch: int = 0
    best_scores: list[ScoreRow] | None = None
    cost: dict[str, float | int | str] = field(default_factory=dict)
    findings: Findings | None = None
    spread: float | None = None

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        """Raises ValueError or TypeError for anything else."""
        plain = json.loads(text)
        for name in ("scores", "best_scores"):
            plain[name] = plain[name] and [tuple(row) for row in plain[name]]
        findings = plain["findings"] and Findings.from_dict(plain["findings"])
        return cls(**plain | {"seen": tuple(plain["seen"]), "findings": findings})
