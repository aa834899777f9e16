"""The ledger's file: an SQLite database, of which no entry can be changed or deleted."""

import json
import os
import sqlite3
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from stages.books.names import path_of
from stages.books.people import Entry
from stages.errors import UserError
from stages.privacy.events import Event, from_json, to_json
from stages.privacy.history import ROW, Spend

# How SQLite can tell our file from anybody's; "priv" in ASCII.
APPLICATION_ID = 0x70726976

# Of what the file holds. One of version 0 may lack what its runs build on, and whom they protect.
VERSION = 1

# A writer may have to wait for others that are summing up their totals.
LOCK_SECONDS = 120

# Before a bundle's folder, where a bundle is what is made from runs, and before a hash of metrics.
BUNDLE, METRICS = "bundle ", "metrics "

# Why a ledger has an entry that it reserved itself, other than one that it was told of later. Those
# of earlier versions say neither.
MADE_HERE = "made here"

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


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the ledger in a file.

    Raises:
        UserError: it cannot be used now, or is no ledger.
    """
    try:
        with closing(_connect(path)) as connection:
            _upgrade(connection)
            yield connection
    except sqlite3.OperationalError as error:
        raise UserError(
            f"{path}: the privacy ledger cannot be used now, as SQLite says: {error}. "
            "Nothing was entered. Mend that, such as a full disk, and run again."
        ) from None
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError):
            raise
        raise UserError(
            f"{path}: expected the privacy ledger, but SQLite says: {error}. Move the "
            "file away for inspection; then bring the ledger back from a backup, or from the "
            "committed metrics with: python -m stages.ledger rebuild"
        ) from None


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Hold the write lock, so that no other run can spend between a look and an entry."""
    with connected(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.commit()


def _connect(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise UserError(
            f"{path}: the privacy ledger was removed meanwhile, so nothing is told of what was to "
            "be entered. Bring it back from a backup, or run again: what is on record is entered "
            "in a new one."
        )
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
    """Make room in a ledger of an earlier version for what it lacks; see `is_old`."""
    if not is_old(connection):
        return
    connection.execute("BEGIN IMMEDIATE")  # one of several processes that find it so does it
    if "unit" not in {row["name"] for row in connection.execute("PRAGMA table_info(entries)")}:
        connection.execute("ALTER TABLE entries ADD COLUMN unit TEXT")
    for statement in BUILT_ON:
        connection.execute(statement)
    connection.commit()


def is_old(connection: sqlite3.Connection) -> bool:
    """Whether an earlier version made the ledger, and nobody has entered since what it lacks."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version) < VERSION


def mark_whole(connection: sqlite3.Connection) -> None:
    """Note that nothing is missing any more."""
    connection.execute(f"PRAGMA user_version = {VERSION}")


def create(path: Path) -> None:
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


def append(connection: sqlite3.Connection, **values: object) -> None:
    """Enter a row by its columns, now."""
    values["time"] = datetime.now(UTC).isoformat(timespec="seconds")
    columns = ", ".join(values)
    places = ", ".join("?" for _ in values)
    connection.execute(f"INSERT INTO entries ({columns}) VALUES ({places})", tuple(values.values()))


def append_settlement(
    connection: sqlite3.Connection, run: str, events: Sequence[Event], read: Spend | None = None
) -> None:
    """Enter that a run has ended, and what it really did.

    Also whose rows it `read`, if that was not known when it was reserved.
    """
    table = {} if read is None else _table_of(read)
    append(connection, kind="settle", run=run, events=json.dumps(to_json(events)), **table)


def append_past(connection: sqlite3.Connection, run: str, past: Collection[str]) -> None:
    """Enter which runs a run builds on, as far as it is not known."""
    rows = [(run, one) for one in past if one != run]
    connection.executemany("INSERT OR IGNORE INTO built_on VALUES (?, ?)", rows)


def append_reservation(
    connection: sqlite3.Connection,
    spend: Spend,
    run: str,
    revision: str | None,
    experiment: str | None,
    past: Collection[str] = (),
    reason: str | None = MADE_HERE,
) -> None:
    """Enter a spend and what it builds on: before it happens, or for another reason."""
    append_past(connection, run, past)
    append(
        connection,
        kind="reserve",
        run=run,
        events=json.dumps(to_json(spend.events)),
        epsilon=spend.epsilon,
        delta=spend.delta,
        **_table_of(spend),
        revision=revision,
        experiment=experiment,
        reason=reason,
    )


def _table_of(spend: Spend) -> dict[str, str]:
    """Return the columns that say whose rows were read."""
    return {
        "data": named(spend).data,
        "fingerprint": spend.fingerprint,
        "split": spend.split,
        "side": spend.side,
        "unit": spend.unit,
    }


def named(spend: Spend) -> Spend:
    """Return a spend with the name that its table has in the ledger."""
    return replace(spend, data=path_of(spend.data))


def entries_in(connection: sqlite3.Connection) -> list[Entry]:
    """Return every spend, oldest first."""
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
            made_here=row["reason"] == MADE_HERE,
        )
        for row in rows
        if row["kind"] == "reserve"
    ]


def append_bundle(connection: sqlite3.Connection, folder: Path, runs: Collection[str]) -> None:
    """Enter that a bundle was made from runs."""
    append_past(connection, f"{BUNDLE}{folder}", runs)


def bundles_in(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the runs from which bundles were made, and of each such a bundle."""
    return {run: f"{BUNDLE}{folder}" for folder, run in _made(connection, BUNDLE)}


def append_metrics(connection: sqlite3.Connection, digest: str, run: str) -> None:
    """Enter the hash of a run's metrics."""
    append_past(connection, f"{METRICS}{digest}", [run])


def metrics_in(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Return the hashes of metrics, each with its run."""
    return {*_made(connection, METRICS)}


def _made(connection: sqlite3.Connection, kind: str) -> Iterator[tuple[str, str]]:
    """Yield what of a kind was made from runs, each time with one of them."""
    for row in connection.execute("SELECT * FROM built_on WHERE run LIKE ?", (f"{kind}%",)):
        yield row["run"].removeprefix(kind), row["past"]


def _built_on(connection: sqlite3.Connection) -> dict[str, frozenset[str]]:
    """Return the runs that each run builds on."""
    found: dict[str, set[str]] = {}
    for row in connection.execute("SELECT * FROM built_on"):
        found.setdefault(row["run"], set()).add(row["past"])
    return {run: frozenset(past) for run, past in found.items()}


def spend_of(reserved: sqlite3.Row, known: sqlite3.Row) -> Spend:
    """The reserved spend with what is known of its events and its table by now."""
    table = known if known["data"] else reserved
    return Spend(
        data=table["data"],
        fingerprint=table["fingerprint"],
        split=table["split"],
        side=table["side"],
        events=tuple(from_json(json.loads(known["events"]))),
        epsilon=reserved["epsilon"],
        delta=reserved["delta"],
        unit=table["unit"] or ROW,  # earlier versions did not tell
    )
