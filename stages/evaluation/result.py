"""What an evaluation leaves behind: metrics/evaluate.json, whose keys are known here alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from stages.books.records import PublicSpend, Record
from stages.results import Result


class PlusMinus(BaseModel):
    """How far a figure may be off, each with chance 0.95.

    Attributes:
        new_patients: from what it would be on ever more people like the test rows: the noise, and
            that these are few. None in files of earlier versions, which do not tell.
        noise: from what it is on these very test rows: the privacy noise alone. None if exact.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    new_patients: float | None = None
    noise: float | None = None


class EvaluateResult(Result):
    """The test figures of a run and what they promise.

    Attributes:
        figures: every test metric, by name.
        plus_minus: how far each may be off.
        confusion_matrix: (classes, classes) rows by label and prediction, estimated without bias
            and so perhaps below zero.
        epsilon: of the test figures alone; None where there is no guarantee.
        epsilon_overall: of all that the run publishes, model and figures.
        epsilon_total: of all runs on record about the same people when this one ended.
        no_guarantee: why ε covers nothing, or None if it does.
        releases: everything that model and figures were made from; () in old files.
        ledger: the release of test figures as the ledger knows it; empty if they are exact.
    """

    path: ClassVar = Path("metrics/evaluate.json")
    headline: ClassVar = {
        "epsilon": "epsilon_overall",
        "test_accuracy": "accuracy",
        "test_loss": "loss",
    }

    figures: dict[str, float]
    plus_minus: dict[str, PlusMinus]
    confusion_matrix: list[list[float]]
    epsilon: float | None
    epsilon_overall: float | None
    epsilon_total: float | None = None
    no_guarantee: str | None = None
    releases: tuple[Record, ...] = ()
    ledger: tuple[Record, ...] = ()

    @property
    def accuracy(self) -> float:
        """Share of test rows that are classified right."""
        return self.figures["accuracy"]

    @property
    def loss(self) -> float | None:
        """Mean log loss of the test rows, in nats; None if scores were not counted."""
        return self.figures.get("loss")

    def off(self, figure: str) -> PlusMinus:
        """Return how far a figure may be off."""
        return self.plus_minus.get(figure, PlusMinus())

    @property
    def base_rate(self) -> float:
        """Share of the largest class in the released test counts: the accuracy of guessing it."""
        rows = [sum(row) for row in self.confusion_matrix]
        return self.figures.get("base_rate", max(rows) / max(sum(rows), 1.0))

    @property
    def is_guessing(self) -> bool:
        """Whether new patients may well be told no better than by naming the largest class."""
        return self.figures.get("gain", 1.0) <= (self.off("gain").new_patients or 0.0)

    @property
    def spend(self) -> PublicSpend | None:
        """What the release of the test counts spent; None if they are exact."""
        return self.ledger[0].spend if self.ledger else None

    @model_validator(mode="before")
    @classmethod
    def _from_noise_alone(cls, content: Any) -> Any:
        """Read a file of the time when only the noise was told, as `interval`."""
        if not isinstance(content, Mapping) or "plus_minus" in content:
            return content
        noise = content.get("interval") or {}
        rest = {key: value for key, value in content.items() if key != "interval"}
        return rest | {"plus_minus": {name: {"noise": value} for name, value in noise.items()}}

    @classmethod
    def from_version_1(cls, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the evidence of a file in which every number was a column."""
        known = {*cls.model_fields, "interval"}
        figures = {
            key: value
            for key, value in content.items()
            if isinstance(value, float) and key not in known
        }
        return {key: content[key] for key in known if key in content} | {"figures": figures}
