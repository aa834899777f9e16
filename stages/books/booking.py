"""A spend from the moment before its first noise to the one after its last."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stages.books.people import Budget
from stages.books.rebuild import enter_missing, open_ledger
from stages.books.records import PublicSpend, Record, Table
from stages.books.store import Ledger
from stages.books.tunings import begin_trial, run_of, tuning_of
from stages.params import Params
from stages.privacy.events import Event
from stages.privacy.history import SIDES, Spend


@dataclass(frozen=True)
class Booking:
    """A spend that is reserved, to be settled when it has happened.

    Attributes:
        spend: what was reserved.
        budget: the cap it was held against.
        ledger, run: where it is entered and as what; None for a simulation, never released.
        trial: which trial of a tuning it is, which reserves and settles for all of them, if any.
        is_settled: whether it was settled when it was taken up.
    """

    spend: Spend
    budget: Budget | None
    ledger: Ledger | None
    run: str | None
    trial: str | None = None
    is_settled: bool = False

    @property
    def is_trial(self) -> bool:
        """Whether it is one trial of a tuning."""
        return self.trial is not None

    def settle(self, events: Sequence[Event]) -> None:
        """Enter what really ran.

        Raises:
            UserError: somebody struck it meanwhile, so that nothing of it may be told.
        """
        if self.ledger is None or self.run is None or self.is_trial:
            return
        self.ledger.require_own(self.run)
        if not self.is_settled:
            self.ledger.settle(self.run, events)

    def total(self, delta: float) -> float | None:
        """Return ε at δ of everything about these people by now.

        None for a simulation, and where it is not known, see `Ledger.total`.
        """
        return None if self.ledger is None else self.ledger.total(self.spend, delta)

    def record(self, measures: str | None = None) -> Record:
        """Return what the metrics tell of the entry; `measures` names the run that is measured."""
        spend = PublicSpend(**self.spend.public())
        read = Table.of(self.spend) if self.ledger else None
        return Record(run=self.run, spend=spend, measures=measures, read=read, trial=self.trial)

    def history(self, past: Sequence[Record], epsilon: float | None = None) -> tuple[Record, ...]:
        """Return every release that what this run publishes is made from; none of a simulation.

        Which of them read the same table and split, the ledger knows; what it does not know counts
        as another table.

        Args:
            past: the history of what this run builds on.
            epsilon: of this release on its own, where it is known better than when it was reserved.
        """
        if self.ledger is None:
            return ()
        known = {entry.run: entry for entry in self.ledger.entries()}
        spend = self.spend if epsilon is None else replace(self.spend, epsilon=epsilon)
        own = {self.run: spend.public()}
        if self.is_trial:  # the best of many is known by its test figures
            runs = [run_of(tuning_of(str(self.run)), side) for side in SIDES]
            own = {run: known[run].spend.public() for run in runs}
        releases = {record.run: record.spend.model_dump() for record in past} | own
        deals: dict[object, int] = {}
        records = []
        for run, told in releases.items():
            read = known[run].spend if run in known else None
            deal = deals.setdefault((read.split, read.fingerprint) if read else run, len(deals) + 1)
            records.append(Record(run=run, spend=PublicSpend(**{**told, "deal": deal})))
        return tuple(records)

    @property
    def name(self) -> str | None:
        """What tells this from other measurements of the same run: the first has a number alone.

        None for a simulation, which is in no ledger.
        """
        if self.ledger is None or self.run is None:
            return None
        measured = self.run.rpartition("-")[0]
        runs = [entry.run for entry in self.ledger.entries() if not entry.is_part]
        times = sum(run.startswith(f"{measured}-") for run in runs)
        return "1" if times == 1 else f"{times} {self.run}"

    def summary(self) -> str:
        """Return the line with which a run ends."""
        if self.ledger is None:
            return "privacy ledger: a simulation is not entered; do not publish it"
        return self.ledger.summary(self.spend, self.budget)


def budget_of(params: Params) -> Budget | None:
    """Return the cap that params.yaml sets, if it does."""
    if params.privacy_budget is None:
        return None
    return Budget(params.privacy_budget, params.privacy_budget_delta)


def book(
    spend: Spend,
    params: Params,
    after: str | None = None,
    of: str | None = None,
    then: Spend | None = None,
    past: Sequence[Record] = (),
) -> Booking:
    """Reserve a spend in the repository's ledger, before any noise is drawn.

    Args:
        spend: what is about to be released.
        params: with the budget, and whether the run is a simulation, which is never released and so
            not entered, or one trial of a tuning, which reserves and settles for all of them.
        after: id of the run that this one builds on.
        of: id of the run of which this is a further part.
        then: what will be released of the run next. Where there is a budget it is reserved at the
            same time, so that what begins can also be measured.
        past: all releases that it builds on, whose people it is about as well.

    Raises:
        UserError: the budget does not allow it, or the ledger does not know the run before.
    """
    budget = budget_of(params)
    if params.simulation_seed is not None:
        return Booking(spend, budget, None, None)
    ledger = open_ledger()
    if params.tuning_trial is not None:
        entry = begin_trial(ledger, params.tuning_trial, spend)
        reserved = replace(entry.spend, data=spend.data)
        return Booking(reserved, budget, ledger, entry.run, params.tuning_trial)
    enter_missing(ledger, past)
    before = [record.run for record in past if record.run is not None]
    ledger.require(*before, *([after] if after else []))
    if of is not None and (run := ledger.take_up(of, spend)):
        return Booking(spend, budget, ledger, run, is_settled=True)
    ledger.require_unit(spend, before)
    run = ledger.reserve(spend, budget, of=of, then=then if budget else None, past=before)
    return Booking(spend, budget, ledger, run)
