"""The privacy ledger: an append-only record of every spend, which no run escapes.

A spend is reserved before the first noise is drawn and settled after the last. Whatever happens in
between, the ledger never shows less than was drawn. It is a SQLite file at the repository's root,
outside Git, and shared by experiments that DVC runs in copies of the repository.
"""

import math
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from sqlite3 import Connection

from stages.books.home import home
from stages.books.lost import Lost, why_unsure
from stages.books.people import (
    AWAITED,
    SEEN,
    UNKNOWN,
    Budget,
    Entry,
    mixed,
    refuse_beyond,
    same_people,
    spends_about,
)
from stages.books.sqlite import (
    append,
    append_bundle,
    append_metrics,
    append_past,
    append_reservation,
    append_settlement,
    bundles_in,
    connected,
    create,
    entries_in,
    is_old,
    mark_whole,
    metrics_in,
    named,
    writing,
)
from stages.errors import GO_BACK, UserError
from stages.privacy.events import Event
from stages.privacy.history import Spend, budgeted_epsilon, total_epsilon, units_of
from stages.versions.commits import current_run

FILE_NAME = "privacy-ledger.sqlite"


class Ledger:
    """The ledger in the file at `path`, made if there is none.

    Attributes:
        path: of the file.
        hidden: why commits that may tell of runs are not here, and what to do; None if all are.
        lost: the runs of which only a dvc.lock tells.
    """

    def __init__(self, path: Path | None = None):
        self.path = path or home() / FILE_NAME
        self.hidden: str | None = None
        self.lost: Sequence[Lost] = ()
        if not self.path.exists():
            create(self.path)

    def reserve(
        self,
        spend: Spend,
        budget: Budget | None,
        of: str | None = None,
        then: Spend | None = None,
        past: Collection[str] = (),
    ) -> str:
        """Enter a spend before it happens, and return the id of its run.

        Args:
            spend: what is about to be released.
            budget: cap on everything about the same people; None for no cap.
            of: the id of another run, of which this one is a further part: the ids of parts are
                that with more behind it, and no two clones choose the same.
            then: what will be released of the run next, entered with it; see `take_up`.
            past: ids of the runs that it builds on, whose people it is about as well.

        Raises:
            UserError: with all that the total would exceed `budget`; nothing is entered then.
        """
        run = f"{of}-{_new_id()[:8]}" if of else _new_id()
        spends = {run: spend} | ({f"{run}-{AWAITED}-{_new_id()[:8]}": then} if then else {})
        self.reserve_all(spends, budget, past, of)
        return run

    def reserve_all(
        self,
        spends: Mapping[str, Spend],
        budget: Budget | None,
        past: Collection[str] = (),
        of: str | None = None,
    ) -> None:
        """Enter spends about the same people by the ids of their runs: all or none.

        A part of another run takes the place of the one that was reserved with it.

        Raises:
            UserError: with them the total would exceed `budget`, or what is spent of it is not
                known.
        """
        (first, *_) = new = [*spends.values()]
        self.require_whole(first, budget)
        with self.writing() as connection:
            for part in _to_come(entries_in(connection), of):
                append(connection, kind="strike", run=part.run, reason="another part began")
            if budget is not None:
                refuse_beyond(budget, spends_about(entries_in(connection), first, past), new)
            for run, spend in spends.items():
                append_reservation(connection, spend, run, *current_run(), past)

    def take_up(self, run: str, spend: Spend) -> str | None:
        """Begin the part of `run` that was reserved with it for `spend`, and return its id.

        None if there is none, or it has begun before. It is settled at once, so that whoever else
        would begin it, at the same time or after a crash, has to reserve a part of his own; and by
        an id of its own, as a copy of the ledger awaits it, too.
        """
        with self.writing() as connection:
            if (awaited := _awaited(entries_in(connection), run, spend)) is None:
                return None
            part = f"{run}-{_new_id()[:8]}"
            append_reservation(connection, spend, part, *current_run(), {*awaited.past, run})
            append_settlement(connection, part, spend.events)
            append(connection, kind="strike", run=awaited.run, reason=f"began as {part[-8:]}")
            return part

    def enter_past(
        self,
        spend: Spend,
        run: str,
        revision: str,
        past: Collection[str] = (),
        experiment: str | None = None,
        struck: str | None = None,
    ) -> bool:
        """Enter a spend that happened long ago, be it `struck`; return whether it was missing.

        If it was not, what it builds on may have been, and of whose table nothing was known. A part
        that is awaited here and began in another clone is awaited no more.
        """
        with self.writing() as connection:
            entries = entries_in(connection)
            had = next((entry for entry in entries if entry.run == run), None)
            if had is not None:
                append_past(connection, run, past)
                if had.is_of_anybody and not had.settled and spend.data != UNKNOWN:
                    append_settlement(connection, run, spend.events, spend)
                return False
            append_reservation(connection, spend, run, revision, experiment, past, reason=None)
            if spend.data != UNKNOWN:
                append_settlement(connection, run, spend.events)
            if struck is not None:
                append(connection, kind="strike", run=run, reason=struck)
            if awaited := _awaited(entries, run.rpartition("-")[0], spend):
                why = f"began elsewhere as {run[-8:]}"
                append(connection, kind="strike", run=awaited.run, reason=why)
        return True

    @property
    def is_old(self) -> bool:
        """Whether an earlier version made it, and nobody has entered since what it lacks."""
        with connected(self.path) as connection:
            return is_old(connection)

    def mark_whole(self) -> None:
        """Note that nothing is missing any more."""
        with self.writing() as connection:
            mark_whole(connection)

    def require_own(self, run: str) -> None:
        """Make sure that a run counts, before anything of it is told.

        Raises:
            UserError: somebody struck it while it ran, or removed the ledger.
        """
        entry = next((entry for entry in self.entries() if entry.run == run), None)
        if entry is None or entry.struck is not None:
            what = "removed" if entry is None else "struck"
            why = "with the ledger" if entry is None else entry.struck
            raise UserError(
                f"{self.path}: the entry of this run was {what} while it ran ({why}), so nothing "
                "of it is written. Make it anew with: dvc repro"
            )

    def settle(self, run: str, events: Sequence[Event]) -> None:
        """Enter that a reserved run has ended, and what it really did."""
        with self.writing() as connection:
            append_settlement(connection, run, events)

    def strike(self, number: int, reason: str, shown: Mapping[str, str] | None = None) -> list[str]:
        """Enter that an entry does not count, for a reason that stays; return the runs struck.

        With it go those of which it is made as they are of it, as both sides of a tuning are, and
        the part that was reserved with it and has not begun.

        Args:
            number: of the entry.
            reason: why nobody has learnt anything from it.
            shown: runs whose metrics can be seen, and where.

        Raises:
            UserError: there is no such entry, it is struck already, another clone made it, others
                or a bundle build on it, or its metrics can be seen.
        """
        with self.writing() as connection:
            made = bundles_in(connection)
            runs = _struck_together(entries_in(connection), number, shown or {}, made)
            for run in runs:
                append(connection, kind="strike", run=run, reason=reason)
        return runs

    def note_bundle(self, folder: Path, runs: Collection[str]) -> None:
        """Enter that a bundle was made from runs, which others may have from now on."""
        with self.writing() as connection:
            append_bundle(connection, folder, runs)

    def note_metrics(self, found: Iterable[tuple[str, str]]) -> None:
        """Enter hashes of metrics, each with its run, as far as they are not known."""
        if missing := {*found} - self.metrics():
            with self.writing() as connection:
                for digest, run in sorted(missing):
                    append_metrics(connection, digest, run)

    def metrics(self) -> set[tuple[str, str]]:
        """Return the hashes of metrics that are known, each with its run."""
        with connected(self.path) as connection:
            return metrics_in(connection)

    def entries(self) -> list[Entry]:
        """Return every spend, oldest first."""
        with connected(self.path) as connection:
            return entries_in(connection)

    def some_entries(self) -> list[Entry]:
        """Return every spend, of which there has to be one.

        Raises:
            UserError: there is none.
        """
        entries = self.entries()
        if not entries:
            raise UserError("the privacy ledger is empty. Make a run first: dvc repro")
        return entries

    def require(self, *runs: str) -> None:
        """Make sure that runs are on record, and count, before another builds on them.

        Raises:
            UserError: one is not, or does not.
        """
        known = {entry.run: entry for entry in self.entries()}
        for entry in map(known.get, runs):
            if entry is not None and entry.struck is not None:
                raise UserError(
                    f"{self.path}: the entry of the run to build on was struck ({entry.struck}), "
                    "so nothing of it may be used. Build on another run, or train anew."
                )
            if entry is None:
                raise UserError(
                    f"{self.path}: the run to continue from is on record nowhere: neither here nor "
                    "in the metrics of any commit or experiment. Continue from another run."
                )

    def require_unit(self, spend: Spend, runs: Collection[str]) -> None:
        """Make sure that `runs`, on which `spend` builds, promise something to the same unit.

        Raises:
            UserError: they do not.
        """
        built_on = [entry.spend for entry in self.entries() if entry.run in runs]
        if len(units_of([*built_on, spend])) > 1:
            raise UserError(
                f"the model was trained to protect {', '.join(sorted(units_of(built_on)))}, and by "
                f"the schema it is now {spend.unit}. Train anew with: dvc repro --force train && "
                "dvc repro"
            )

    def total(self, spend: Spend, delta: float | None = None) -> float | None:
        """Return ε of all released so far about the people of `spend`, at its δ or another.

        None where it is not known, as they were promised something as rows and as people, or as
        some may be missing.
        """
        if self.lacks(spend):
            return None
        total = total_epsilon(self._spends(spend), delta or spend.delta)
        return total if math.isfinite(total) else None

    def lacks(self, spend: Spend) -> str | None:
        """Return why runs about the people of `spend` may be missing, and what to do, or None."""
        if self.hidden or not self.lost:
            return self.hidden
        people = same_people(self.entries(), (spend.data, spend.fingerprint))
        return why_unsure(self.lost, [spend, *(entry.spend for entry in people)])

    def at_least(self, spend: Spend) -> str:
        """Return what to say before a total: that it may be more, where `lacks` says why."""
        return "at least " if self.lacks(spend) else ""

    def require_whole(self, spend: Spend, budget: Budget | None) -> None:
        """Make sure that a budget, if there is one, is held against all about the same people.

        Raises:
            UserError: runs may be missing.
        """
        if budget is not None and (why := self.lacks(spend)):
            raise UserError(f"params.yaml: `privacy_budget` cannot be kept: {why}")

    def used(self, spend: Spend, budget: Budget) -> float:
        """Return what of a budget everything about the people of `spend` has used."""
        return budgeted_epsilon(self._spends(spend), budget.delta)

    def summary(self, spend: Spend, budget: Budget | None) -> str:
        """Return a line on what the people of `spend` have had released about them.

        And below it which of their runs are lost, if any are.
        """
        spends = self._spends(spend)
        total = total_epsilon(spends, spend.delta)
        cap = "no privacy_budget is set"
        if budget is not None:
            used = budgeted_epsilon(spends, budget.delta)
            cap = f"{used:.3f} of privacy_budget {budget.epsilon:g} is used"
        if math.isinf(total):
            return f"privacy ledger: {mixed(spends)}"
        why = self.lacks(spend)
        below = "" if why == self.hidden else f"\nprivacy ledger: {why}"
        return (
            f"privacy ledger: ε {'≥' if why else '='} {total:.3f} at δ = {spend.delta:g} spent on "
            f"these people so far (entries: {len(spends)}); {cap}{below}"
        )

    def _spends(self, spend: Spend) -> list[Spend]:
        with connected(self.path) as connection:
            return spends_about(entries_in(connection), spend)

    def writing(self) -> AbstractContextManager[Connection]:
        """Hold the write lock, so that no other run can spend between a look and an entry."""
        return writing(self.path)


def _new_id() -> str:
    return uuid.uuid4().hex


def _awaited(entries: Sequence[Entry], run: str, spend: Spend) -> Entry | None:
    """Return the part that was reserved with a run for `spend`, and has not begun."""
    return next((part for part in _to_come(entries, run) if part.spend == named(spend)), None)


def _to_come(entries: Sequence[Entry], run: str | None) -> list[Entry]:
    """Return the parts that were reserved with a run, and have not begun."""
    return [
        one
        for one in entries
        if run and one.is_part_of(run) and not one.settled and one.struck is None
    ]


def _struck_together(
    entries: Sequence[Entry], number: int, shown: Mapping[str, str], bundles: Mapping[str, str]
) -> list[str]:
    """Return the runs that are struck with the entry of a number; see `Ledger.strike`."""
    entry = next((entry for entry in entries if entry.number == number), None)
    if entry is None or entry.struck is not None:
        problem = "there is no such entry" if entry is None else "it is struck already"
        raise UserError(f"entry {number}: {problem}. `python -m stages.ledger` lists them.")
    if entry.run.endswith(SEEN):
        raise UserError(
            f"entry {number}: its run was struck, and its metrics were seen after that, so it "
            "counts for good."
        )
    if not entry.made_here:
        raise UserError(
            f"entry {number}: another clone made that run, or this one with an earlier version or "
            "before it lost its ledger, so who has seen it is not known here. Strike a run where "
            "it was made, before you push."
        )
    if made := bundles.get(entry.run):
        raise UserError(
            f"entry {number}: {made} was made of it, to be given away, so it counts for good."
        )
    later = [one for one in entries if entry.run in one.past and one.struck is None]
    if apart := [str(one.number) for one in later if one.run not in entry.past]:
        raise UserError(
            f"entry {number}: what was released of it is also in what entries "
            f"{', '.join(apart)} released. Strike those first, the last one first."
        )
    runs = [one.run for one in (entry, *later, *_to_come(entries, entry.run))]
    if seen := {shown[run] for run in runs if run in shown}:
        raise UserError(
            f"entry {number}: it can be seen in {', '.join(sorted(seen))}, so it "
            f"counts. What no commit and nobody else has can be removed: dvc exp remove NAME, or "
            f"{GO_BACK} (and what only a reflog has: git reflog expire --expire-unreachable=now "
            "--all)"
        )
    return runs
