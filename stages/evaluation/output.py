"""Test figures, released or exact, and the tables of CSV that DVC draws."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.books.booking import Booking
from stages.books.records import Record, epsilon_of, releases_in
from stages.errors import UserError
from stages.evaluation.counted import Counted
from stages.evaluation.estimate import Estimate, Measured
from stages.evaluation.layout import Layout, scored_classes
from stages.evaluation.released import Released, figures_of_everyone, figures_of_groups
from stages.evaluation.result import EvaluateResult, PlusMinus
from stages.evaluation.scores import THRESHOLDS
from stages.evaluation.tables import group_rows, score_rows, write_drawn
from stages.files import write_csv
from stages.model.files import CLASSIFIER
from stages.model.perceptron import Model, predict_probabilities
from stages.tabular.prepared import Prepared


@dataclass(frozen=True)
class Evaluated:
    """What is shown of the test rows.

    Attributes:
        counts: from which all of it follows.
        groups: the counts of each grouping (levels, classes, 2), as a vector.
        figures: every test metric, by name.
    """

    counts: Released
    groups: Mapping[str, Estimate]
    figures: Mapping[str, Measured]

    def write(self, prepared: Prepared, promise: Mapping[str, Any]) -> EvaluateResult:
        """Write everything that the stage makes, and return the metrics."""
        classes, table, noisy = prepared.classes, self.counts.table, self.counts.is_noisy
        result = EvaluateResult(
            figures={name: float(one.value) for name, one in self.figures.items()},
            plus_minus={
                name: PlusMinus(
                    new_patients=float(one.new_patients),
                    noise=float(one.noise) if noisy else None,
                )
                for name, one in self.figures.items()
            },
            confusion_matrix=table.confusion.round(3).tolist(),
            **promise,
        )
        plots = Path("plots")
        write_csv(plots / "test_counts.csv", score_rows(table, classes))
        write_drawn(table, classes, plots)
        write_csv(plots / "subgroups.csv", [*self._group_rows(prepared.groups)])
        result.write()
        return result

    def _group_rows(self, groups: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
        noisy = self.counts.is_noisy
        yield from group_rows("everyone", [""], figures_of_everyone(self.counts), noisy=noisy)
        for name, counts in self.groups.items():
            figures = figures_of_groups(counts, self.counts.layout.classes)
            yield from group_rows(name, groups[name], figures, noisy=noisy)


def noisy(counts: Released, groups: Mapping[str, Estimate], prepared: Prepared) -> Evaluated:
    """Return every figure of what was released."""
    return Evaluated(counts, groups, counts.figures(ordered=prepared.ordered))


def exact(counted: Counted, model: Model, prepared: Prepared) -> Evaluated:
    """Return every figure without noise, for the owner's eyes."""
    from sklearn.metrics import log_loss, roc_auc_score  # noqa: PLC0415 - a second of start-up

    classes = len(prepared.classes)
    scored = scored_classes(classes)
    layout = Layout(classes, np.arange(len(THRESHOLDS)))
    people = layout.counts(counted.confusion, counted.scores) / counted.person
    counts = Released(layout, Estimate(people, None))
    labels, parts = prepared.test.labels, prepared.test.parts_of_a_person(counted.person)
    probabilities = np.concatenate(list(predict_probabilities(model, prepared.test.features)))
    areas = [
        roc_auc_score(labels == of, probabilities[:, of], sample_weight=parts)
        if 0 < np.count_nonzero(labels == of) < len(labels)
        else 0.0  # as of noisy counts that have nobody of a class, or nobody else
        for of in scored
    ]
    known = {
        "loss": log_loss(labels, probabilities, labels=range(classes), sample_weight=parts),
        "roc_auc": np.mean(areas),
    }
    figures = counts.figures(ordered=prepared.ordered)
    for name, value in known.items():
        figures[name] = figures[name]._replace(value=np.asarray(value))
    groups = {
        name: Estimate(own.ravel() / counted.person, None) for name, own in counted.groups.items()
    }
    return Evaluated(counts, groups, figures)


def made_from(training: Mapping[str, Any]) -> list[Record]:
    """Return everything that a model was made from, by what it says of its own training.

    Raises:
        UserError: it does not say.
    """
    if "releases" not in training:
        raise UserError(
            f"{CLASSIFIER} was trained by an older version of this pipeline and does not say "
            "what it was made from. Train it again with: dvc repro --force train && dvc repro"
        )
    return releases_in(training)


def promise_of(
    booking: Booking, training: Mapping[str, Any], past: Sequence[Record]
) -> dict[str, Any]:
    """Return what the figures promise, and what they and the model promise together.

    Args:
        booking: of the release of test figures.
        training: what the model says of its own training.
        past: everything that the model was made from.
    """
    releases = booking.history(past)
    own = booking.record(measures=training["run"])
    # All at the δ that the model states, whichever the figures were asked for with.
    delta = training["delta"] or booking.spend.delta
    told = {
        "ledger": (own,),
        "epsilon_total": booking.total(delta),
        "releases": releases,
    }
    if booking.ledger is None or training["epsilon"] is None:
        return told | no_promise("simulation_seed is set")
    alone = booking.spend.epsilon if own.spend.delta == delta else epsilon_of([own], delta)
    return told | {"epsilon": alone, "epsilon_overall": epsilon_of(releases, delta)}


def no_promise(why: str) -> dict[str, Any]:
    """Return what stands in the metrics where ε covers nothing."""
    return {"epsilon": None, "epsilon_overall": None, "no_guarantee": why}
