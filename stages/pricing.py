"""What a run would cost, before it is made: both sides of it, from public numbers alone."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from stages.books.booking import budget_of
from stages.books.names import path_of
from stages.books.people import Entry, spends_about
from stages.books.rebuild import open_ledger
from stages.errors import UserError
from stages.evaluation.release import CountRelease
from stages.params import Params, load_params, sweep
from stages.privacy.history import Spend, budgeted_epsilon, total_epsilon
from stages.tabular.prepared import PREPARED, Prepared, Source
from stages.tabular.schema import Schema
from stages.tabular.split import source_of
from stages.training.past import NO_PAST, Past, load_past
from stages.training.setup import settle, training_spend


class Price(NamedTuple):
    """What a run would bring its people to.

    Attributes:
        total: ε of all runs with it, had they been planned together.
        refused_at: what the budget would have to be, if it does not allow the run.
        before: what is said before the total, such as "at least ".
    """

    total: float
    refused_at: float | None
    before: str = ""

    def __str__(self) -> str:
        if math.isinf(self.total):
            return " not known: earlier runs protect another unit than this schema"
        if self.refused_at is None:
            return f" {self.before}{self.total:>7.3f}"
        return f" refused (`privacy_budget` would have to be {self.refused_at:.3f})"


def spends_of(params: Params, prepared: Prepared, past: Past = NO_PAST) -> list[Spend]:
    """Return what a run, new or from a past on, releases about the training and the test side.

    Raises:
        UserError: no size is declared, or the parameters allow no plan.
    """
    if params.train_size is None:
        raise UserError("params.yaml: to price a run, `train_size` has to be declared.")
    _, plan = settle(params, prepared, params.train_size, past)
    return [training_spend(plan, params, prepared, past.events), testing_spend(params, prepared)]


def prepared_for(params: Params) -> Prepared:
    """Return the prepared table, which has to be the one that the parameters ask for.

    Raises:
        UserError: it is not.
    """
    prepared, schema = Prepared.open(), Schema.load(params.schema_path)
    asked = source_of(params.data, schema, params.test_fraction, params.split_seed)
    if (_told(asked), schema.to_json()) != (_told(prepared.source), prepared.schema_text):
        raise UserError(
            "data/prepared: another table, schema or split is prepared than params.yaml asks for, "
            "so that a run cannot be priced. Prepare it with: dvc repro preprocess"
        )
    return prepared


def _told(source: Source) -> Source:
    return replace(source, data=path_of(source.data))


def testing_spend(params: Params, prepared: Prepared) -> Spend:
    """Return what an evaluation adds for the people of the test side."""
    return CountRelease.of(params, prepared).spend(prepared, params.target_delta)


def prices_after(runs: Sequence[Params]) -> Iterator[Price]:
    """Yield what everything about the prepared table's people has cost after each of `runs`.

    A run beyond the budget would be refused, and what follows goes on without it.
    """
    # A sweep over other settings reads the table once.
    tables = {(one.data, one.schema_path, one.test_fraction, one.split_seed): one for one in runs}
    (*_, prepared) = [prepared_for(one) for one in tables.values()]
    ledger = open_ledger()
    entries = ledger.entries()
    for params in runs:
        past = load_past(params, prepared)
        made_from = frozenset(str(one.run) for one in past.releases)
        new = spends_of(params, prepared, past)
        budget = budget_of(params)
        ledger.require_whole(new[0], budget)
        then = [*spends_about(entries, new[0], made_from), *new]
        used = budgeted_epsilon(then, budget.delta) if budget else 0.0
        refused = budget is not None and used > budget.epsilon
        total = total_epsilon(then, params.target_delta)
        yield Price(total, used if refused else None, ledger.at_least(new[0]))
        # What is made from runs on several tables joins their people for all that follows.
        entries += [] if refused else [_planned(one, len(entries), made_from) for one in new]


def _planned(spend: Spend, number: int, past: frozenset[str]) -> Entry:
    """Return the entry that a ledger will have of a run which is planned."""
    run = f"planned after {number}, {spend.side} side"
    return Entry(
        number,
        "",
        run,
        spend,
        settled=False,
        struck=None,
        revision=None,
        experiment=None,
        past=past,
    )


def another_run(params: Params) -> str:
    """Return a paragraph on what a run with these parameters would cost, or why nobody can say.

    None where the size of the run is not declared, or no table is prepared.
    """
    if params.train_size is None or not PREPARED.exists():
        return ""
    try:
        (price,) = prices_after([params])
    except UserError as error:
        return f"\n{error}\n"
    return f"\nThe total after another run with the present params.yaml:{price}\n"


def price_list(sweeps: Sequence[str]) -> Iterator[str]:
    """Yield a line for each run of a sweep such as `target_epsilon=1,2`: the total after it."""
    combinations = list(sweep(sweeps))
    runs = [load_params(overrides=overrides) for overrides in combinations]
    for overrides, price in zip(combinations, prices_after(runs), strict=True):
        settings = ", ".join(f"{name}={value}" for name, value in overrides.items())
        yield f"  {price}  after {settings or 'a run with the present params.yaml'}"
