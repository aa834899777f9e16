"""The privacy ledger: an append-only record of every spend, which no run escapes.

A spend is reserved before the first noise is drawn and settled after the last. Whatever happens in
between, the ledger never shows less than was drawn. It is a SQLite file at the repository's root,
outside Git, and shared by experiments that DVC runs in copies of the repository.
"""

import json
import math
import os
import sqlite3
import tempfile
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from stages.books.home import home
from stages.books.names import path_of
from stages.books.people import AWAITED, SEEN, Budget, Entry, mixed, refuse_beyond, spends_about
from stages.errors import UserError
from stages.privacy.events import Event, from_json, to_json
from stages.privacy.history import ROW, Spend, budgeted_epsilon, total_epsilon, units_of
from stages.versions.commits import current_run, hidden_past

FILE_NAME = "privacy-ledger.sqlite"

# How SQLite can tell our file from anybody's; "priv" in ASCII.
APPLICATION_ID = 0x70726976

# Of what the file holds. One of version 0 may lack what its runs build on, and whom they protect.
VERSION = 1

# A writer may have to wait for others that are summing up their totals.
LOCK_SECONDS = 120

# What runs are made from: tables that were read for one model may be about the same people.
BUILT_ON = (
    """
    CREATE TABLE IF NOT EXISTS built_on (run TEXT NOT NULL, past TEXT NOT NULL,
    PRIMARY KEY (run, past)) STRICT
    """,
    """
    CREATE TRIGGER IF NOT EXISTS stay_built BEFORE DELETE ON built_on
    BEGIN SELECT RAISE(ABORT, 'the privacy ledger is append-only'); END
    """,
)

SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
CREATE TABLE entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('reserve', 'settle', 'strike')),
    run TEXT NOT NULL,
    data TEXT, fingerprint TEXT, split TEXT, side TEXT,
    events TEXT, epsilon REAL, delta REAL,
    revision TEXT, experiment TEXT, reason TEXT, unit TEXT
) STRICT;
CREATE UNIQUE INDEX once ON entries (run, kind);
CREATE TRIGGER no_update BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'the privacy ledger is append-only'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'the privacy ledger is append-only'); END;
{";".join(BUILT_ON)};
"""


class Ledger:
    """The ledger in the file at `path`, made if there is none."""

    def __init__(self, path: Path | None = None):
        self.path = path or home() / FILE_NAME
        if not self.path.exists():
            _create(self.path)

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
        self.reserve_all(spends, budget, past)
        return run

    def reserve_all(
        self, spends: Mapping[str, Spend], budget: Budget | None, past: Collection[str] = ()
    ) -> None:
        """Enter spends about the same people by the ids of their runs: all or none.

        Raises:
            UserError: with them the total would exceed `budget`.
        """
        with self.writing() as connection:
            if budget is not None:
                (first, *_) = new = [*spends.values()]
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
            for entry in entries_in(connection):
                awaited = entry.run.startswith(f"{run}-{AWAITED}-") and entry.spend == named(spend)
                if awaited and not entry.settled and entry.struck is None:
                    part = f"{run}-{_new_id()[:8]}"
                    append_reservation(connection, spend, part, *current_run(), {*entry.past, run})
                    append_settlement(connection, part, spend.events)
                    append(connection, kind="strike", run=entry.run, reason=f"began as {part[-8:]}")
                    return part
        return None

    def enter_past(
        self,
        spend: Spend,
        run: str,
        revision: str,
        past: Collection[str] = (),
        experiment: str | None = None,
    ) -> bool:
        """Enter a spend that happened long ago; return whether it was missing.

        If it was not, what it builds on may have been.
        """
        with self.writing() as connection:
            if run in {entry.run for entry in entries_in(connection)}:
                _append_past(connection, run, past)
                return False
            append_reservation(connection, spend, run, revision, experiment, past)
            append_settlement(connection, run, spend.events)
        return True

    @property
    def is_old(self) -> bool:
        """Whether an earlier version made it, and nobody has entered since what it lacks."""
        with self._connected() as connection:
            return _version(connection) < VERSION

    def mark_whole(self) -> None:
        """Note that nothing is missing any more."""
        with self.writing() as connection:
            connection.execute(f"PRAGMA user_version = {VERSION}")

    def require_own(self, run: str) -> None:
        """Make sure that a run counts, before anything of it is told.

        Raises:
            UserError: somebody struck it while it ran.
        """
        struck = next((entry.struck for entry in self.entries() if entry.run == run), None)
        if struck is not None:
            raise UserError(
                f"{self.path}: the entry of this run was struck while it ran ({struck}), so "
                "nothing of it is written. Make it anew with: dvc repro"
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
            UserError: there is no such entry, it is struck already, others build on it, or its
                metrics can be seen.
        """
        entries = self.entries()
        entry = next((entry for entry in entries if entry.number == number), None)
        if entry is None or entry.struck is not None:
            problem = "there is no such entry" if entry is None else "it is struck already"
            raise UserError(f"entry {number}: {problem}. `python -m stages.ledger` lists them.")
        if entry.run.endswith(SEEN):
            raise UserError(
                f"entry {number}: its run was struck, and its metrics were seen after that, so it "
                "counts for good."
            )
        later = [one for one in entries if entry.run in one.past and one.struck is None]
        if apart := [str(one.number) for one in later if one.run not in entry.past]:
            raise UserError(
                f"entry {number}: what was released of it is also in what entries "
                f"{', '.join(apart)} released. Strike those first, the last one first."
            )
        awaited = [one for one in entries if one.run.startswith(f"{entry.run}-{AWAITED}-")]
        with_it = [one for one in (*later, *awaited) if one.struck is None]
        runs = [entry.run, *(one.run for one in with_it)]
        if seen := {shown[run] for run in runs if shown and run in shown}:
            raise UserError(
                f"entry {number}: its metrics can be seen in {', '.join(sorted(seen))}, so it "
                "counts. What no commit has can be removed: dvc exp remove NAME, or git restore "
                "--staged --worktree dvc.lock metrics"
            )
        with self.writing() as connection:
            for run in runs:
                append(connection, kind="strike", run=run, reason=reason)
        return runs

    def entries(self) -> list[Entry]:
        """Return every spend, oldest first."""
        with self._connected() as connection:
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
                f"the schema it is now {spend.unit}. Train anew with: dvc repro --force train"
            )

    def total(self, spend: Spend, delta: float | None = None) -> float | None:
        """Return ε of all released so far about the people of `spend`, at its δ or another.

        None where it is not known, as they were promised something as rows and as people.
        """
        total = total_epsilon(self._spends(spend), delta or spend.delta)
        return total if math.isfinite(total) else None

    def used(self, spend: Spend, budget: Budget) -> float:
        """Return what of a budget everything about the people of `spend` has used."""
        return budgeted_epsilon(self._spends(spend), budget.delta)

    def summary(self, spend: Spend, budget: Budget | None) -> str:
        """Return one line that says what the people of `spend` have had released about them."""
        spends = self._spends(spend)
        total = total_epsilon(spends, spend.delta)
        cap = "no privacy_budget is set"
        if budget is not None:
            used = budgeted_epsilon(spends, budget.delta)
            cap = f"{used:.3f} of privacy_budget {budget.epsilon:g} is used"
        if math.isinf(total):
            return f"privacy ledger: {mixed(spends)}"
        sign = "≥" if hidden_past() else "="
        return (
            f"privacy ledger: ε {sign} {total:.3f} at δ = {spend.delta:g} spent on these people so "
            f"far (entries: {len(spends)}); {cap}"
        )

    def _spends(self, spend: Spend) -> list[Spend]:
        with self._connected() as connection:
            return spends_about(entries_in(connection), spend)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(_connect(self.path)) as connection:
                _upgrade(connection)
                yield connection
        except sqlite3.OperationalError as error:
            raise UserError(
                f"{self.path}: the privacy ledger cannot be used now, as SQLite says: {error}. "
                "Nothing was entered. Mend that, such as a full disk, and run again."
            ) from None
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise
            raise UserError(
                f"{self.path}: expected the privacy ledger, but SQLite says: {error}. Move the "
                "file away for inspection; then bring the ledger back from a backup, or from the "
                "committed metrics with: python -m stages.ledger rebuild"
            ) from None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock, so that no other run can spend between a look and an entry."""
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.commit()


def _connect(path: Path) -> sqlite3.Connection:
    # SQLite takes an empty file for a new database, and a truncated ledger must not look like one.
    if path.stat().st_size == 0:
        raise sqlite3.DatabaseError("file is empty")
    connection = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
    connection.row_factory = sqlite3.Row
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise sqlite3.DatabaseError("file is another program's database")
    connection.execute("PRAGMA synchronous = FULL")
    if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("file is damaged")
    return connection


def _upgrade(connection: sqlite3.Connection) -> None:
    """Make room in a ledger of an earlier version for what it lacks; see `Ledger.is_old`."""
    if _version(connection) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")  # one of several processes that find it so does it
    if "unit" not in {row["name"] for row in connection.execute("PRAGMA table_info(entries)")}:
        connection.execute("ALTER TABLE entries ADD COLUMN unit TEXT")
    for statement in BUILT_ON:
        connection.execute(statement)
    connection.commit()


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _create(path: Path) -> None:
    """Make an empty ledger; if another process makes it first, keep that one."""
    path.parent.mkdir(parents=True, exist_ok=True)  # which the main worktree may not have
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        with closing(sqlite3.connect(scratch)) as connection:
            connection.executescript(SCHEMA)
            connection.execute("PRAGMA journal_mode = WAL")
        try:
            os.link(scratch, path)
        except FileExistsError:
            if not path.exists():
                raise UserError(
                    f"{path}: a link to a ledger that is not there. Bring that back, or remove the "
                    "link; then this clone makes a ledger of its own."
                ) from None
    finally:
        Path(scratch).unlink()


def _new_id() -> str:
    return uuid.uuid4().hex


def append(connection: sqlite3.Connection, **values: object) -> None:
    values["time"] = datetime.now(UTC).isoformat(timespec="seconds")
    columns = ", ".join(values)
    places = ", ".join("?" for _ in values)
    connection.execute(f"INSERT INTO entries ({columns}) VALUES ({places})", tuple(values.values()))


def append_settlement(connection: sqlite3.Connection, run: str, events: Sequence[Event]) -> None:
    append(connection, kind="settle", run=run, events=json.dumps(to_json(events)))


def _append_past(connection: sqlite3.Connection, run: str, past: Collection[str]) -> None:
    rows = [(run, one) for one in past if one != run]
    connection.executemany("INSERT OR IGNORE INTO built_on VALUES (?, ?)", rows)


def append_reservation(
    connection: sqlite3.Connection,
    spend: Spend,
    run: str,
    revision: str | None,
    experiment: str | None,
    past: Collection[str] = (),
) -> None:
    _append_past(connection, run, past)
    append(
        connection,
        kind="reserve",
        run=run,
        data=named(spend).data,
        fingerprint=spend.fingerprint,
        split=spend.split,
        side=spend.side,
        events=json.dumps(to_json(spend.events)),
        epsilon=spend.epsilon,
        delta=spend.delta,
        unit=spend.unit,
        revision=revision,
        experiment=experiment,
    )


def named(spend: Spend) -> Spend:
    """Return a spend with the name that its table has in the ledger."""
    return replace(spend, data=path_of(spend.data))


def entries_in(connection: sqlite3.Connection) -> list[Entry]:
    rows = connection.execute("SELECT * FROM entries ORDER BY number").fetchall()
    settled = {row["run"]: row for row in rows if row["kind"] == "settle"}
    struck = {row["run"]: row["reason"] for row in rows if row["kind"] == "strike"}
    past = _built_on(connection)
    return [
        Entry(
            number=row["number"],
            time=row["time"],
            run=row["run"],
            spend=spend_of(row, settled.get(row["run"], row)),
            settled=row["run"] in settled,
            struck=struck.get(row["run"]),
            revision=row["revision"],
            experiment=row["experiment"],
            past=past.get(row["run"], frozenset()),
        )
        for row in rows
        if row["kind"] == "reserve"
    ]


def _built_on(connection: sqlite3.Connection) -> dict[str, frozenset[str]]:
    """Return the runs that each run builds on."""
    found: dict[str, set[str]] = {}
    for row in connection.execute("SELECT * FROM built_on"):
        found.setdefault(row["run"], set()).add(row["past"])
    return {run: frozenset(past) for run, past in found.items()}


def spend_of(reserved: sqlite3.Row, known: sqlite3.Row) -> Spend:
    """The reserved spend with what is known of its events by now."""
    return Spend(
        data=reserved["data"],
        fingerprint=reserved["fingerprint"],
        split=reserved["split"],
        side=reserved["side"],
        events=tuple(from_json(json.loads(known["events"]))),
        epsilon=reserved["epsilon"],
        delta=reserved["delta"],
        unit=reserved["unit"] or ROW,  # earlier versions did not tell
    )
