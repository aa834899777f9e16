"""A run as everything that tells of it reads it: metrics, released tables and what was declared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from stages.books.records import Record
from stages.evaluation.metrics import Table, possible_cells
from stages.evaluation.release import CountRelease
from stages.evaluation.result import EvaluateResult
from stages.evaluation.tables import table_of
from stages.files import read_csv
from stages.model.classifier import Classifier
from stages.privacy.attack import Profile, profile_of_counts, profile_of_promise
from stages.privacy.events import BestOfMany, DiscreteLaplace, Event, Positive, from_json
from stages.tabular.schema import Schema
from stages.training.curves import Epochs, from_csv
from stages.training.result import TrainResult

REDRAWS = 1000


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
        table: (classes, classes, BINS) test rows by label, prediction and bin.
        groups: test figures of everyone, and then of each subgroup.
        attack: the trade-off curve of the model and its curves, like `attack.curve_rows`.
    """

    train: TrainResult
    test: EvaluateResult
    classifier: Classifier
    parameters: Parameters
    epochs: Epochs
    table: Table
    groups: Sequence[Mapping[str, str]]
    attack: Sequence[Mapping[str, float]]

    @classmethod
    def read(cls, folder: Path, classifier: Classifier, parameters: Parameters) -> "Run":
        """Read the run whose metrics and plots are in `folder`.

        Raises:
            UserError: a file is missing.
        """
        train, test = TrainResult.read(folder), EvaluateResult.read(folder)
        epochs, counts, groups, attack = (
            read_csv(folder / f"plots/{name}.csv")
            for name in ("training", "test_counts", "subgroups", "attack")
        )
        table, _ = table_of(counts)
        curves, attack_curve = from_csv(epochs), from_csv(attack)
        return cls(train, test, classifier, parameters, curves, table, groups, attack_curve)

    @property
    def schema(self) -> Schema:
        """What its table was declared to hold."""
        return self.classifier.schema

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
        if any(isinstance(event, BestOfMany) for event in self.test_events):
            return profile_of_promise(spend.epsilon, spend.delta)
        return profile_of_counts(list(_counts(self.test_events)))

    @cached_property
    def redraws(self) -> Table | None:
        """Copies of the table with the noise of its release added once more, if it has any."""
        if self.test.spend is None:
            return None
        # Two for the table, one for each grouping.
        epsilons = [event.epsilon for event in _counts(self.test_events)]
        cells = possible_cells(len(self.table))
        mechanism = CountRelease(sum(epsilons), cells, len(epsilons) - 2)
        return mechanism.redraws(self.table, REDRAWS, np.random.default_rng(0))


def _counts(events: Sequence[Event]) -> Iterator[DiscreteLaplace]:
    for event in events:
        match event:
            case DiscreteLaplace():
                yield event
            case BestOfMany():
                yield from _counts(event.events)
