"""What the ledger has of the same people, and what a budget leaves them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stages.books.names import names_of
from stages.errors import UserError
from stages.privacy.events import BestOfMany
from stages.privacy.history import Spend, budgeted_epsilon, largest_epsilon, units_of

# In place of a path, where nobody can tell any more which table a run read.
UNKNOWN = "unknown"

# In the id of a part that is reserved with its run and has not begun.
AWAITED = "awaited"

# Behind the id of a run that was struck, where its metrics lie somewhere again for all to see.
SEEN = ", seen"


class Budget(NamedTuple):
    """A cap on ε of everything about the same people, at a δ that is fixed with it."""

    epsilon: float
    delta: float


@dataclass(frozen=True)
class Entry:
    """One spend as the ledger knows it.

    Attributes:
        number: of its reservation, counting from 1.
        time: of its reservation, ISO 8601 in UTC.
        run: unique id of the run.
        spend: what it released. Reserved but not settled, it counts in full all the same.
        settled: whether the run told its end, or where that was told of, which table it read.
        struck: why it does not count, or None if it does.
        revision: commit on which the run was started.
        experiment: DVC's name for it, or None.
        past: ids of the runs that it builds on.
        made_here: whether this ledger is known to have reserved it before it was made.
    """

    number: int
    time: str
    run: str
    spend: Spend
    settled: bool
    struck: str | None
    revision: str | None
    experiment: str | None
    past: frozenset[str] = frozenset()
    made_here: bool = False

    @property
    def is_open_tuning(self) -> bool:
        """Whether it is a tuning that has not ended, whose trials may count one by one yet."""
        is_tuning = isinstance(self.spend.events[0], BestOfMany) and not self.is_of_anybody
        return is_tuning and not self.settled and self.struck is None

    @property
    def is_of_anybody(self) -> bool:
        """Whether nobody can tell which table it read."""
        return self.spend.data == UNKNOWN

    @property
    def is_part(self) -> bool:
        """Whether it was reserved with a run as the part to come; see `is_part_of`."""
        return f"-{AWAITED}-" in self.run

    @property
    def has_begun(self) -> bool:
        """Whether it was reserved with its run and has become an entry of its own since."""
        return self.struck is not None and self.is_part

    def is_part_of(self, run: str) -> bool:
        """Whether it was reserved with `run`, of which it is to be the next part."""
        return self.run.startswith(f"{run}-{AWAITED}-")


def same_people(entries: Sequence[Entry], *tables: tuple[str, str]) -> list[Entry]:
    """Return the entries about the people of tables, however their files were renamed or edited.

    A table under the same path is about the same people even if its content changed, and so is the
    same content under another path, and what was made from runs on several tables is about the
    people of each; all hold again for what is found that way. What read a table that is not known
    any more may be about anybody.

    Args:
        entries: of which some are returned.
        tables: path and fingerprint of each.
    """
    all_names = {*(data for data, _ in tables), *(entry.spend.data for entry in entries)}
    names = {one: names_of(one) for one in all_names}
    paths = {UNKNOWN}.union(*(names[data] for data, _ in tables))
    contents = {fingerprint for _, fingerprint in tables}
    runs: set[str] = set()
    joined: list[Entry] = []
    while True:
        found = len(joined)
        joined = [
            entry
            for entry in entries
            if not names[entry.spend.data].isdisjoint(paths)
            or entry.spend.fingerprint in contents
            or entry.run in runs
            or not runs.isdisjoint(entry.past)
        ]
        if len(joined) == found:
            return joined
        # What may be about anybody counts for everybody, and joins nobody to others.
        known = [entry for entry in joined if not entry.is_of_anybody]
        paths.update(*(names[entry.spend.data] for entry in known))
        contents |= {entry.spend.fingerprint for entry in known}
        runs |= {run for entry in known for run in (entry.run, *entry.past)}


def counting(entries: Sequence[Entry]) -> list[Spend]:
    """Return the spends that count: all but the struck ones on which nothing that counts builds."""
    built_on = {run for entry in entries if entry.struck is None for run in entry.past}
    built_on -= seen_again(entries)
    return [entry.spend for entry in entries if entry.struck is None or entry.run in built_on]


def seen_again(entries: Sequence[Entry]) -> set[str]:
    """Return the struck runs that have another entry, as their metrics were seen again."""
    return {entry.run.removesuffix(SEEN) for entry in entries if entry.run.endswith(SEEN)}


def spends_about(entries: Sequence[Entry], spend: Spend, past: Collection[str] = ()) -> list[Spend]:
    """Return what counts of the spends about the same people as `spend`.

    `past` has the runs that it builds on, as long as it is not entered itself.
    """
    about = [spend, *(entry.spend for entry in entries if entry.run in past)]
    return counting(same_people(entries, *((one.data, one.fingerprint) for one in about)))


def mixed(spends: Sequence[Spend]) -> str:
    """Return why ε of all `spends`, which promise something to different units, is not known."""
    return (
        f"runs on record protect different units ({', '.join(sorted(units_of(spends)))}), and a "
        "person may have any number of rows, so what all of them tell of a person is not known. "
        "Go back to the schema's former id, or strike the runs whose results nobody has seen: "
        "python -m stages.ledger strike"
    )


def refuse_beyond(budget: Budget, spends: Sequence[Spend], new: Sequence[Spend]) -> None:
    spent, then = (budgeted_epsilon(some, budget.delta) for some in (spends, [*spends, *new]))
    if then <= budget.epsilon:
        return
    if len(units_of([*spends, *new])) > 1:
        raise UserError(f"params.yaml: `privacy_budget` cannot be kept: {mixed([*spends, *new])}")
    possible = largest_epsilon(spends, new, budget.delta, budget.epsilon)
    way_on = (
        f"lower the run's ε to about {possible:.3g}"
        if possible
        else "too little is left for any run of its kind"
    )
    raise UserError(
        f"params.yaml: `privacy_budget` is {budget.epsilon:g}, and {spent:.3f} of it is spent; "
        f"with this run it would be {then:.3f}. No noise was drawn. The cheapest way on: go back "
        f"to parameters run before, which costs nothing; otherwise {way_on}, or raise "
        "`privacy_budget`. `python -m stages.ledger` shows where it went."
    )
