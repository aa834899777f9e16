"""Test figures, released or exact, and the tables of CSV that DVC draws."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.books.booking import Booking
from stages.books.records import Record, epsilon_of
from stages.errors import UserError
from stages.evaluation.counting import Counted
from stages.evaluation.metrics import intervals, metrics_of
from stages.evaluation.release import CountRelease, Table
from stages.evaluation.result import EvaluateResult
from stages.evaluation.tables import Rows, cell_rows, confusion_rows, group_rows, roc_rows
from stages.files import write_csv
from stages.model.perceptron import Model, predict_probabilities
from stages.tabular.prepared import Prepared

REDRAWS = 1000


@dataclass(frozen=True)
class Evaluated:
    """What is shown of the test rows.

    Attributes:
        table: (classes, classes, BINS) rows by label, prediction and bin.
        group_rows: the figures of everyone and of each subgroup.
        figures: every test metric, by name.
        interval: ± of each by the noise; None if exact.
    """

    table: Table
    group_rows: Rows
    figures: Mapping[str, float]
    interval: Mapping[str, float] | None = None

    def write(self, classes: tuple[str, ...], promise: Mapping[str, Any]) -> EvaluateResult:
        """Write everything that the stage makes, and return the metrics."""
        result = EvaluateResult(
            figures=dict(self.figures),
            interval=self.interval and dict(self.interval),
            confusion_matrix=self.table.sum(axis=2).round(1).tolist(),
            **promise,
        )
        plots = Path("plots")
        write_csv(plots / "test_counts.csv", cell_rows(self.table, classes))
        write_csv(plots / "confusion.csv", confusion_rows(self.table, classes))
        write_csv(plots / "roc.csv", roc_rows(self.table))
        write_csv(plots / "subgroups.csv", self.group_rows)
        result.write()
        return result


def released(
    counted: Counted, mechanism: CountRelease, prepared: Prepared, simulation_seed: int | None
) -> Evaluated:
    """Release all counts once; return the noisy tables and every metric that follows from them."""
    table = mechanism.release(counted.table, simulation_seed)
    groups = {
        name: mechanism.release_groups(counts, simulation_seed)
        for name, counts in counted.groups.items()
    }
    # How far noise moves a figure: no row is read for it, so the seed need not be secret.
    source = np.random.default_rng(0)
    redraws = mechanism.redraws(table, REDRAWS, source)
    rows = group_rows("everyone", [""], table.sum(axis=2)[None], redraws.sum(axis=3)[:, None])
    for name, group in groups.items():
        moved = mechanism.redraw_groups(group, REDRAWS, source)
        rows += group_rows(name, prepared.groups[name], group, moved)
    return Evaluated(table, rows, metrics_of(table), intervals(table, redraws))


def exact(counted: Counted, model: Model, prepared: Prepared) -> Evaluated:
    """Return the tables without noise and every metric, for the owner's eyes."""
    from sklearn.metrics import log_loss, roc_auc_score  # noqa: PLC0415 - a second of start-up

    table = counted.table.astype(np.float64)
    features, labels = prepared.test
    probabilities = np.concatenate(list(predict_probabilities(model, features)))
    figures = metrics_of(table)
    figures["loss"] = float(log_loss(labels, probabilities, labels=range(len(table))))
    if len(table) == 2:
        figures["roc_auc"] = float(roc_auc_score(labels, probabilities[:, 1]))
    rows = group_rows("everyone", [""], table.sum(axis=2)[None])
    for name, group in counted.groups.items():
        rows += group_rows(name, prepared.groups[name], group.astype(np.float64))
    return Evaluated(table, rows, figures)


def promise_of(booking: Booking, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the figures promise, and what they and the model promise together.

    Args:
        booking: of the release of test figures.
        training: what the model says of its own training.

    Raises:
        UserError: the model does not say what it was made from.
    """
    if "releases" not in training:
        raise UserError(
            "models/classifier was trained by an older version of this pipeline and does not say "
            "what it was made from. Train it again with: dvc repro --force train"
        )
    releases = booking.history([Record.model_validate(one) for one in training["releases"]])
    told = {
        "ledger": (booking.record(measures=training["run"]),),
        "epsilon_total": booking.total(),
        "releases": releases,
    }
    if booking.ledger is None or training["epsilon"] is None:
        return told | no_promise("simulation_seed is set")
    # At the δ that the model states, whichever the figures were asked for with.
    overall = epsilon_of(releases, training["delta"])
    return told | {"epsilon": booking.spend.epsilon, "epsilon_overall": overall}


def no_promise(why: str) -> dict[str, Any]:
    """Return what stands in the metrics where ε covers nothing."""
    return {"epsilon": None, "epsilon_overall": None, "no_guarantee": why}
