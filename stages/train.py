"""Train the classifier with differential privacy: the `train` stage.

Reads data/prepared; writes models/classifier, models/checkpoint, metrics/train.json and the tables
plots/training.csv and plots/attack.csv. Spends ε, which the ledger counts before noise is drawn.
"""

from threadpoolctl import threadpool_limits

from stages.books.booking import book
from stages.books.runs import write_runs
from stages.commands import run_stage
from stages.params import load_params
from stages.pricing import testing_spend
from stages.tabular.prepared import Prepared
from stages.training.accounting import account
from stages.training.output import Trained, summary, warn_of_overflow, with_progress
from stages.training.past import load_past
from stages.training.processes import Processes
from stages.training.setup import set_up, training_spend


def main() -> None:
    params, table = load_params(), Prepared.open()
    threadpool_limits(1)  # more threads help nothing at this size, and hurt on a busy machine
    processes = Processes.join()
    past = load_past(params, table)
    training, why = set_up(params, table, past, processes)
    plan = training.plan
    if not processes.is_first:
        return training.follow()

    print(why)
    spend, then = training_spend(plan, params, table, past.events), testing_spend(params, table)
    booking = book(spend, params, after=past.run, then=then, past=past.releases)
    epochs = with_progress(training, past)
    events = [*past.events, *training.checked_history()]
    spent = account(events, plan.delta, params.target_epsilon, planned=not past.events)
    booking.settle(training.history)

    result = Trained(params, table, past, training, epochs, spent, booking).write()
    write_runs()
    print(summary(result), booking.summary(), sep="\n")
    return warn_of_overflow(training.monitors.not_finite)


if __name__ == "__main__":
    run_stage(main, __doc__)
