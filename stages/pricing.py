"""What a run would cost, before it is made: both sides of it, from public numbers alone."""

from collections.abc import Iterator, Sequence

from stages.books.listing import counting
from stages.books.rebuild import open_ledger
from stages.books.store import same_people
from stages.errors import UserError
from stages.evaluation.release import CountRelease
from stages.params import Params, load_params, sweep
from stages.privacy.history import Spend, total_epsilon
from stages.tabular.prepared import Prepared
from stages.training.setup import settle, training_spend


def spends_of(params: Params, prepared: Prepared) -> list[Spend]:
    """Return what a new run releases about the training and about the test side.

    Raises:
        UserError: no size is declared, or the parameters allow no plan.
    """
    if params.train_size is None:
        raise UserError("params.yaml: to price a run, `train_size` has to be declared.")
    _, plan = settle(params, prepared, params.train_size)
    return [training_spend(plan, params, prepared), testing_spend(params, prepared)]


def testing_spend(params: Params, prepared: Prepared) -> Spend:
    """Return what an evaluation adds for the people of the test side."""
    return CountRelease.of(params, prepared).spend(prepared.source, params.target_delta)


def totals_after(runs: Sequence[Params]) -> Iterator[float]:
    """Yield ε of everything about the prepared table's people after each of `runs`, in turn."""
    prepared = Prepared.open()
    source = prepared.source
    spends = counting(same_people(open_ledger().entries(), source.data, source.fingerprint))
    for params in runs:
        spends += spends_of(params, prepared)
        yield total_epsilon(spends, params.target_delta)


def price_list(sweeps: Sequence[str]) -> Iterator[str]:
    """Yield a line for each run of a sweep such as `target_epsilon=1,2`: the total after it."""
    combinations = list(sweep(sweeps))
    runs = [load_params(overrides=overrides) for overrides in combinations]
    for overrides, total in zip(combinations, totals_after(runs), strict=True):
        settings = ", ".join(f"{name}={value}" for name, value in overrides.items())
        yield f"  {total:>8.3f}  after {settings or 'a run with the present params.yaml'}"
