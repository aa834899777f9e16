"""Measure the classifier on the rows held back: the `evaluate` stage.

Reads data/prepared and models/classifier; writes metrics/evaluate.json and the tables plots/*.csv
of the test figures, all of which follow from one noisy table of counts. Spends ε, which the ledger
counts before noise is drawn.
"""

from pathlib import Path

from threadpoolctl import threadpool_limits

from stages.books.booking import book
from stages.books.runs import write_runs
from stages.commands import run_stage
from stages.evaluation.counting import count
from stages.evaluation.output import exact, made_from, no_promise, noisy, promise_of
from stages.evaluation.release import CountRelease, declared_rows
from stages.files import write_text
from stages.model.files import CLASSIFIER, load_model
from stages.params import load_params
from stages.tabular.prepared import Prepared

# Which evaluation of its model this is, by which the plot stage knows that it is another one.
EVALUATIONS = Path("models/evaluations.txt")


def main() -> None:
    params = load_params()
    threadpool_limits(1)  # more threads hurt on a busy machine
    model, description = load_model(CLASSIFIER)
    prepared = Prepared.open()
    prepared.require_encoding((CLASSIFIER / "schema.json").read_text("utf-8"))
    counted = count(model, prepared)
    if params.exact_metrics:
        promise = no_promise("exact_metrics is on: ε does not cover these figures")
        result = exact(counted, model, prepared).write(prepared, promise)
        return write_text(EVALUATIONS, f"exact {result.digest}\n")

    told = description["privacy"]
    past = made_from(told)
    mechanism = CountRelease.of(params, prepared)
    spend = mechanism.spend(prepared, params.target_delta)
    booking = book(spend, params, of=told["run"], past=past)
    released = mechanism.release(counted, declared_rows(params, prepared), params.simulation_seed)
    booking.settle(mechanism.events)
    result = noisy(*released, prepared).write(prepared, promise_of(booking, told, past))
    write_runs()
    print(booking.summary())
    return write_text(EVALUATIONS, f"{booking.name or f'simulated {result.digest}'}\n")


if __name__ == "__main__":
    run_stage(main, __doc__)
