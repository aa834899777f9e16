"""Measure the classifier on the rows held back: the `evaluate` stage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from stages.errors import run
from stages.files import read_json, write_csv, write_json
from stages.model import Model, load_model, predict_probabilities
from stages.params import Params, load_params
from stages.privacy.ledger import Booking, book
from stages.privacy.odometer import Spend
from stages.privacy.release import CountRelease, Counts, Table
from stages.reporting.metrics import all_metrics, count_rows, intervals, possible_cells
from stages.reporting.tables import cell_rows, confusion_rows, roc_rows
from stages.tabular.store import Features, Labels, load_side

PREPARED = Path("data/prepared")
CLASSIFIER = Path("models/classifier")

# Above this ± on accuracy the figures say more about the noise than about the model.
NOISE_DOMINATES = 0.1


def main() -> None:
    params = load_params()
    threadpool_limits(1)  # more threads hurt on a busy machine
    model, description = load_model(CLASSIFIER)
    features, labels = load_side(PREPARED, "test")

    counts = _count(model, features, labels)
    if params.exact_metrics:
        table: Table = counts.astype(np.float64)
        probabilities = np.concatenate(list(predict_probabilities(model, features)))
        metrics = _exact(table, labels, probabilities)
    else:
        table, metrics = _private(counts, params, description["privacy"])

    metrics["confusion_matrix"] = table.sum(axis=2).round(1).tolist()
    write_csv("plots/test_counts.csv", cell_rows(table, description["classes"]))
    write_csv("plots/confusion.csv", confusion_rows(table, description["classes"]))
    write_csv("plots/roc.csv", roc_rows(table))
    write_json("metrics/evaluate.json", metrics)


def _count(model: Model, features: Features, labels: Labels) -> Counts:
    """Count all rows, of which a chunk is held at a time."""
    counts, start = np.zeros((), dtype=np.int64), 0
    for probabilities in predict_probabilities(model, features):
        end = start + len(probabilities)
        counts = counts + count_rows(labels[start:end], probabilities)
        start = end
    return counts


def _private(
    counts: Counts, params: Params, training: Mapping[str, Any]
) -> tuple[Table, dict[str, Any]]:
    """Release `counts` once; return the noisy table and every metric that follows from it."""
    mechanism = release_for(params, len(counts))
    simulated = params.simulation_seed is not None
    spend = spend_for(mechanism, read_json(PREPARED / "source.json"), params.target_delta)
    booking = book(spend, params.privacy_budget, simulated=simulated, trial=params.tuning_trial)
    table = mechanism.release(counts, params.simulation_seed)
    booking.settle(mechanism.events)
    print(booking.summary())

    noise = intervals(table, mechanism.redraws(table, 1000, np.random.default_rng(0)))
    metrics = {name: float(value) for name, value in all_metrics(table).items()}
    return table, metrics | {
        "interval": noise,
        "noise_dominates": noise["accuracy"] > NOISE_DOMINATES,
        **_promise(booking, training),
        "epsilon_total": booking.total(),
        "ledger": [{"run": booking.run, "spend": booking.spend.public()}],
    }


def release_for(params: Params, classes: int) -> CountRelease:
    """Return the release that an evaluation with these parameters makes."""
    return CountRelease(params.evaluation_epsilon or params.target_epsilon, possible_cells(classes))


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


def _exact(table: Table, labels: Any, probabilities: Any) -> dict[str, Any]:
    from sklearn.metrics import log_loss, roc_auc_score  # noqa: PLC0415 - a second of start-up

    metrics = {name: float(value) for name, value in all_metrics(table).items()}
    metrics["loss"] = float(log_loss(labels, probabilities, labels=range(len(table))))
    if len(table) == 2:
        metrics["roc_auc"] = float(roc_auc_score(labels, probabilities[:, 1]))
    return metrics | _no_guarantee("exact_metrics is on: ε does not cover these figures")


if __name__ == "__main__":
    run(main)
