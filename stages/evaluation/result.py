"""What an evaluation leaves behind: metrics/evaluate.json, whose keys are known here alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from stages.books.records import PublicSpend, Record
from stages.results import Result


class EvaluateResult(Result):
    """The test figures of a run and what they promise.

    Attributes:
        figures: every test metric, by name.
        interval: ± of each by privacy noise: with chance 0.95 the exact figure lies that near. None
            if figures are exact.
        confusion_matrix: (classes, classes) rows by label and prediction, as released.
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
    interval: dict[str, float] | None = None
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
    def loss(self) -> float:
        """Mean log loss of the test rows, in nats."""
        return self.figures["loss"]

    def noise_in(self, figure: str) -> float | None:
        """Return ± of a figure; None if it is exact."""
        return (self.interval or {}).get(figure)

    @property
    def base_rate(self) -> float:
        """Share of the largest class in the released test counts: the accuracy of guessing it."""
        rows = [sum(row) for row in self.confusion_matrix]
        return max(rows) / max(sum(rows), 1.0)

    @property
    def spend(self) -> PublicSpend | None:
        """What the release of the test counts spent; None if they are exact."""
        return self.ledger[0].spend if self.ledger else None

    @classmethod
    def from_version_1(cls, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the evidence of a file in which every number was a column."""
        known = cls.model_fields
        figures = {
            key: value
            for key, value in content.items()
            if isinstance(value, float) and key not in known
        }
        return {key: content[key] for key in known if key in content} | {"figures": figures}
