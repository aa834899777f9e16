"""Measure the classifier on the rows held back: the `evaluate` stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from stages.books.store import Booking, book
from stages.errors import run
from stages.evaluation.metrics import count_rows, intervals, metrics_of, possible_cells
from stages.evaluation.release import CountRelease, Counts, Table
from stages.evaluation.tables import Rows, cell_rows, confusion_rows, group_rows, roc_rows
from stages.files import read_json, write_csv, write_json
from stages.model.files import load_model
from stages.model.perceptron import Model, predict_probabilities
from stages.params import Params, load_params
from stages.privacy.history import Spend
from stages.tabular.prepared import Features, Labels, Prepared, load_schema, load_side
from stages.tabular.schema import Schema

PREPARED = Path("data/prepared")
CLASSIFIER = Path("models/classifier")

# Above this ± on accuracy the figures say more about the noise than about the model.
NOISE_DOMINATES = 0.1


def main() -> None:
    params = load_params()
    threadpool_limits(1)  # more threads hurt on a busy machine
    model, description = load_model(CLASSIFIER)
    schema = load_schema(PREPARED)
    features, labels = load_side(PREPARED, "test")

    counted = _count(model, features, labels, schema)
    if params.exact_metrics:
        tables, metrics = _exact(counted, model, features, labels)
    else:
        tables, metrics = _private(counted, params, description["privacy"])

    metrics["confusion_matrix"] = tables.table.sum(axis=2).round(1).tolist()
    write_csv("plots/test_counts.csv", cell_rows(tables.table, description["classes"]))
    write_csv("plots/confusion.csv", confusion_rows(tables.table, description["classes"]))
    write_csv("plots/roc.csv", roc_rows(tables.table))
    write_csv("plots/subgroups.csv", tables.group_rows)
    write_json("metrics/evaluate.json", metrics)


@dataclass
class Counted:
    """The test rows, exactly.

    Attributes:
        table: (classes, classes, BINS) rows by label, prediction and bin.
        groups: for each grouping (levels, classes, classes) rows by level, label and prediction.
        levels: for each grouping the names of its levels.
    """

    table: Counts
    groups: dict[str, Counts]
    levels: dict[str, tuple[str, ...]]


class Released(NamedTuple):
    """What is published of the test rows: the table, and the figures of subgroups."""

    table: Table
    group_rows: Rows


def _count(model: Model, features: Features, labels: Labels, schema: Schema) -> Counted:
    """Count all rows, of which a chunk is held at a time."""
    classes = len(schema.class_names)
    levels, groups = schema.groups, Prepared.open(PREPARED).test_groups
    counted = Counted(
        np.zeros(possible_cells(classes).shape, dtype=np.int64),
        {
            name: np.zeros((len(names), classes, classes), dtype=np.int64)
            for name, names in levels.items()
        },
        levels,
    )
    start = 0
    for probabilities in predict_probabilities(model, features):
        end = start + len(probabilities)
        counted.table += count_rows(labels[start:end], probabilities)
        predicted = probabilities.argmax(axis=1)
        for name, table in counted.groups.items():
            group = groups[start:end, schema.report_by.index(name)]
            np.add.at(table, (group, labels[start:end], predicted), 1)
        start = end
    return counted


def _private(
    counted: Counted, params: Params, training: Mapping[str, Any]
) -> tuple[Released, dict[str, Any]]:
    """Release all counts once; return the noisy tables and every metric that follows from them."""
    mechanism = release_for(params, len(counted.table), len(counted.groups))
    simulated = params.simulation_seed is not None
    spend = spend_for(mechanism, read_json(PREPARED / "source.json"), params.target_delta)
    booking = book(spend, params.privacy_budget, simulated=simulated, trial=params.tuning_trial)
    table = mechanism.release(counted.table, params.simulation_seed)
    groups = {
        name: mechanism.release_groups(counts, params.simulation_seed)
        for name, counts in counted.groups.items()
    }
    booking.settle(mechanism.events)
    print(booking.summary())

    # How far noise moves a figure: no row is read for it, so the seed need not be secret.
    source = np.random.default_rng(0)
    redraws = mechanism.redraws(table, 1000, source)
    noise = intervals(table, redraws)
    rows = group_rows("everyone", [""], table.sum(axis=2)[None], redraws.sum(axis=3)[:, None])
    for name, group in groups.items():
        moved = mechanism.redraw_groups(group, 1000, source)
        rows += group_rows(name, counted.levels[name], group, moved)
    metrics = metrics_of(table)
    return Released(table, rows), metrics | {
        "interval": noise,
        "noise_dominates": noise["accuracy"] > NOISE_DOMINATES,
        **_promise(booking, training),
        "epsilon_total": booking.total(),
        "ledger": [
            {
                "run": booking.run,
                "measures": training["run"],
                "spend": booking.spend.public(),
            }
        ],
    }


def release_for(params: Params, classes: int, groupings: int) -> CountRelease:
    """Return the release that an evaluation with these parameters makes."""
    epsilon = params.evaluation_epsilon or params.target_epsilon
    return CountRelease(epsilon, possible_cells(classes), groupings)


def spend_for(mechanism: CountRelease, source: Mapping[str, Any], delta: float) -> Spend:
    """Return what a release adds for the people of the test side."""
    return Spend(
        data=source["data"],
        fingerprint=source["fingerprint"],
        split=source["split"],
        side="test",
        events=mechanism.events,
        epsilon=mechanism.epsilon,
        delta=delta,
    )


def _promise(booking: Booking, training: Mapping[str, Any]) -> dict[str, Any]:
    """What the figures promise, and what they and the model promise together."""
    epsilon, before = booking.spend.epsilon, training["epsilon"]
    if booking.ledger is None or before is None:
        return _no_guarantee("simulation_seed is set")
    # Nobody is on both sides, so the sides compose in parallel and the larger ε counts; but an
    # edited row may have changed sides, so over a changed table both count.
    overall = epsilon + before if training["table_changed"] else max(epsilon, before)
    return {"epsilon": epsilon, "epsilon_overall": overall}


def _no_guarantee(why: str) -> dict[str, Any]:
    return {"epsilon": None, "epsilon_overall": None, "no_guarantee": why}


def _exact(
    counted: Counted, model: Model, features: Features, labels: Labels
) -> tuple[Released, dict[str, Any]]:
    """Return the tables without noise and every metric, for the owner's eyes."""
    from sklearn.metrics import log_loss, roc_auc_score  # noqa: PLC0415 - a second of start-up

    table = counted.table.astype(np.float64)
    probabilities = np.concatenate(list(predict_probabilities(model, features)))
    metrics = metrics_of(table)
    metrics["loss"] = float(log_loss(labels, probabilities, labels=range(len(table))))
    if len(table) == 2:
        metrics["roc_auc"] = float(roc_auc_score(labels, probabilities[:, 1]))
    rows = group_rows("everyone", [""], table.sum(axis=2)[None])
    for name, group in counted.groups.items():
        rows += group_rows(name, counted.levels[name], group.astype(np.float64))
    return Released(table, rows), metrics | _no_guarantee(
        "exact_metrics is on: ε does not cover these figures"
    )


if __name__ == "__main__":
    run(main)
