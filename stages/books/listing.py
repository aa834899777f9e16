"""The ledger as a person reads it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.books.booking import budget_of
from stages.books.names import names_of
from stages.books.people import SEEN, Entry, counting, mixed, same_people
from stages.books.store import Ledger
from stages.errors import UserError
from stages.files import write_csv, write_json
from stages.params import Params
from stages.privacy.events import to_json
from stages.privacy.history import SIDES, budgeted_epsilon, side_epsilon, total_epsilon
from stages.tabular.schema import Schema


def by_people(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yield the entries about the same people, table by table; those about anybody with each."""
    entries = [entry for entry in entries if not entry.has_begun]
    rest = [entry for entry in entries if not entry.is_of_anybody] or list(entries)
    while rest:
        people = same_people(entries, (rest[0].spend.data, rest[0].spend.fingerprint))
        yield people
        rest = [entry for entry in rest if entry not in people]


def listing(people: Sequence[Entry], params: Params, ledger: Ledger) -> Iterator[str]:
    """Yield the lines of a table of runs and totals about the same people.

    Args:
        people: their entries.
        params: with δ and the budget.
        ledger: which has them, and says whether some of their runs may be missing.
    """
    delta = params.target_delta
    yield f"{people[0].spend.data}, ε at δ = {delta:g}"
    yield "entry  when              run           side   ε alone  total so far  left"
    budget = budget_of(params)
    for count, (entry, total) in enumerate(
        zip(people, running_totals(people, delta), strict=True), start=1
    ):
        used = budgeted_epsilon(counting(people[:count]), budget.delta) if budget else 0.0
        name = entry.experiment or (entry.revision or "")[:12]
        left = "no cap" if budget is None else _known(budget.epsilon - used)
        yield (
            f"{entry.number:>5}  {entry.time[:16].replace('T', ' ')}  {name:<12.12}  "
            f"{entry.spend.side:<5}  {entry.spend.epsilon:>7.3f}  {_known(total):>12}  "
            f"{left}{_note(entry)}"
        )
    first, spends = people[0], counting(people)
    sides = ", ".join(f"{side} side {side_epsilon(spends, side, delta):.3f}" for side in SIDES)
    total = total_epsilon(spends, delta)
    before = ledger.at_least(first.spend)
    yield f"total {before}{total:.3f} ({sides})" if math.isfinite(total) else mixed(spends)
    if why := ledger.lacks(first.spend):
        yield why
    if _are_of_table(people, params) and Schema.load(params.schema_path).public:
        yield "This table is declared public: these figures demonstrate and protect nobody."


def _known(epsilon: float) -> str:
    return f"{epsilon:.3f}" if math.isfinite(epsilon) else "not known"


def of_table(entries: Sequence[Entry], params: Params) -> list[Entry]:
    """Return the entries about the people of the table that params.yaml names.

    Raises:
        UserError: there is none.
    """
    for people in by_people(entries):
        if _are_of_table(people, params):
            return people
    raise UserError(
        f"{params.data}: no run on this table is on record. `python -m stages.ledger` lists those "
        "on others; make one with: dvc repro"
    )


def _are_of_table(people: Sequence[Entry], params: Params) -> bool:
    names = set[str]().union(*(names_of(entry.spend.data) for entry in people))
    return not names_of(str(params.data)).isdisjoint(names)


def _note(entry: Entry) -> str:
    if entry.struck is not None:
        return f"  struck: {entry.struck}"
    if entry.run.endswith(SEEN):
        return "  struck, but its metrics can be seen"
    if entry.is_of_anybody:
        return "  of a table that is not known, so it counts for everybody"
    return "" if entry.settled else "  not settled, counts in full"


def running_totals(entries: Sequence[Entry], delta: float) -> list[float]:
    """Return ε at δ of the entries up to each."""
    return [total_epsilon(counting(entries[: number + 1]), delta) for number in range(len(entries))]


def export(entries: Sequence[Entry], file: Path) -> None:
    """Write entries to a .csv or .json file.

    Raises:
        UserError: the file's name ends otherwise.
    """
    rows = [_flat(entry) for entry in entries]
    match file.suffix:
        case ".json":
            write_json(file, {"entries": rows})
        case ".csv":
            write_csv(file, rows)
        case other:
            raise UserError(f"{file}: expected a .csv or .json file, not {other!r}.")


def _flat(entry: Entry) -> dict[str, Any]:
    content = asdict(entry)
    spend = content.pop("spend")
    past = " ".join(sorted(entry.past))
    return {**content, **spend, "past": past, "events": to_json(entry.spend.events)}
