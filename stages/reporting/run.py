"""A run as everything that tells of it reads it: metrics, released tables and what was declared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.books.records import Record
from stages.errors import UserError
from stages.evaluation.estimate import SHARE, Estimate
from stages.evaluation.layout import Table
from stages.evaluation.metrics import operating_points
from stages.evaluation.release import CountRelease
from stages.evaluation.released import Released
from stages.evaluation.result import EvaluateResult
from stages.evaluation.scores import Values, logits
from stages.evaluation.tables import counts_of
from stages.files import read_csv
from stages.model.classifier import Classifier
from stages.privacy.attack import (
    Profile,
    profile_of_counts,
    profile_of_gaussian,
    profile_of_promise,
)
from stages.privacy.events import (
    BestOfMany,
    DiscreteLaplace,
    Event,
    Gaussian,
    Positive,
    from_json,
)
from stages.privacy.gaussian import is_gaussian, precision
from stages.tabular.schema import Schema
from stages.training.curves import Epochs, from_csv
from stages.training.result import TrainResult

# The report tells of the thresholds nearest to these.
TOLD = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])


class Parameters(BaseModel):
    """What is told of params.yaml, which describes each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_epsilon: Positive
    test_fraction: Annotated[float, Field(gt=0, lt=1)]
    split_seed: int
    train_size: Annotated[int, Field(ge=1)] | None
    privacy_budget: Positive | None


@dataclass(frozen=True)
class Run:
    """All that is told of a run; every part of it is public.

    Attributes:
        train, test: its metrics.
        classifier: its model, with the schema that declares its table.
        parameters: what it was asked to do.
        epochs: the training curves.
        scores: the counts of scores as released, like `tables.score_rows`.
        groups: test figures of everyone, and then of each subgroup.
        attack: the trade-off curve of the model and its curves, like `attack.curve_rows`.
    """

    train: TrainResult
    test: EvaluateResult
    classifier: Classifier
    parameters: Parameters
    epochs: Epochs
    scores: Sequence[Mapping[str, str]]
    groups: Sequence[Mapping[str, str]]
    attack: Sequence[Mapping[str, float]]

    @classmethod
    def read(cls, folder: Path, classifier: Classifier, parameters: Parameters) -> "Run":
        """Read the run whose metrics and plots are in `folder`.

        Raises:
            UserError: a file is missing.
        """
        train, test = TrainResult.read(folder), EvaluateResult.read(folder)
        epochs, scores, groups, attack = (
            read_csv(folder / f"plots/{name}.csv")
            for name in ("training", "test_counts", "subgroups", "attack")
        )
        curves, attack_curve = from_csv(epochs), from_csv(attack)
        return cls(train, test, classifier, parameters, curves, scores, groups, attack_curve)

    @property
    def schema(self) -> Schema:
        """What its table was declared to hold."""
        return self.classifier.schema

    @property
    def dates(self) -> dict[str, str]:
        """How each date that the model needs is written, for pandas."""
        return {
            field.name: getattr(field, "format", None) or "ISO8601"
            for field in self.schema.inputs
            if field.type in ("date", "datetime")
        }

    @property
    def no_guarantee(self) -> str | None:
        """Why ε does not cover the run, or None if it does."""
        return self.train.no_guarantee or self.test.no_guarantee

    @property
    def epsilon(self) -> float | None:
        """ε of all that the run publishes; None where there is no guarantee."""
        return None if self.no_guarantee else self.test.epsilon_overall

    @property
    def releases(self) -> Sequence[Record]:
        """Everything that model and figures were made from."""
        return self.test.releases or self.train.releases

    @property
    def dealt_anew(self) -> bool:
        """Whether table or split changed between these, so that somebody may be on both sides."""
        return len({record.spend.deal for record in self.releases}) > 1

    @property
    def classes(self) -> list[str]:
        """Names of the label's classes."""
        return self.schema.class_names

    @property
    def test_events(self) -> list[Event]:
        """What was drawn to release the test counts; nothing if they are exact."""
        return from_json(self.test.spend.events) if self.test.spend else []

    @property
    def test_profile(self) -> Profile:
        """What the release of the test counts gives away; exact ones give all."""
        spend = self.test.spend
        if spend is None:
            return profile_of_promise(0.0, 1.0)
        events = self.test_events
        if is_gaussian(events):
            return profile_of_gaussian(precision(events))
        if laplace := [event for event in events if isinstance(event, DiscreteLaplace)]:
            return profile_of_counts(laplace)
        return profile_of_promise(spend.epsilon, spend.delta)

    @cached_property
    def counts(self) -> Released:
        """The test rows as counted, with the noise that is in them.

        Raises:
            UserError: an earlier version released them, in other tables.
        """
        if "probability_of" not in self.scores[0]:
            raise UserError(
                "plots/test_counts.csv was written by an earlier version of this pipeline, which "
                "counted otherwise. Release the test figures anew with: dvc repro"
            )
        layout, values = counts_of(self.test.confusion_matrix, self.scores)
        if (noise := _gaussian(self.test_events)) is None:
            return Released(layout, Estimate(values, None))
        groupings = len({group["column"] for group in self.groups[1:]})
        mechanism = CountRelease(noise.noise_multiplier, layout.classes, groupings)
        return Released(layout, mechanism.again(layout, values))

    @cached_property
    def operating_points(self) -> list[dict[str, Any]]:
        """What follows from a threshold for class 1, at some of those that scores are counted by.

        Each is the threshold and, by name, a share and its ± for new patients. None with more than
        two classes, or if scores were not counted.
        """
        if len(self.classes) > 2 or not self.counts.table.has_scores:
            return []

        def points(table: Table) -> Values:
            return np.stack([*operating_points(table.scores[..., 0, :, :]).values()], axis=-1)

        measured = self.counts.measure(points, SHARE)
        thresholds = self.counts.table.thresholds
        some = np.unique([np.abs(logits(thresholds) - one).argmin() for one in logits(TOLD)])
        names = operating_points(self.counts.table.scores[0])
        return [
            {"threshold": float(thresholds[place])}
            | {
                name: (float(value), float(off))
                for name, value, off in zip(
                    names, measured.value[place], measured.new_patients[place], strict=True
                )
            }
            for place in some
        ]


def _gaussian(events: Sequence[Event]) -> Gaussian | None:
    """Return the mechanism that released the counts, also where it is a trial of many."""
    for event in events:
        match event:
            case Gaussian():
                return event
            case BestOfMany():
                return _gaussian(event.events)
    return None
