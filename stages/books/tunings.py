"""Tunings on the books: many trials under one reservation, each of which may run once.

While a tuning lives, each of its trials is noted beside the ledger. When it ends, only its best
trial is left to be seen and the notes are thrown away: how many there were is nobody's to know. A
tuning that died leaves trials that may have been seen, so each of them counts in full.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from stages.books.names import path_of
from stages.books.people import Budget, Entry
from stages.books.sqlite import (
    append,
    append_reservation,
    append_settlement,
    entries_in,
    spend_of,
)
from stages.books.store import Ledger
from stages.errors import UserError
from stages.privacy.events import BestOfMany, to_json
from stages.privacy.history import SIDES, Side, Spend
from stages.versions.commits import remove_experiments

TRIALS = """
CREATE TABLE IF NOT EXISTS trials (
    run TEXT PRIMARY KEY, tuning TEXT NOT NULL,
    data TEXT, fingerprint TEXT, split TEXT, side TEXT, events TEXT, epsilon REAL, delta REAL
) STRICT
"""


def run_of(tuning: str, side: Side) -> str:
    """Return the id under which the ledger has all trials of a tuning, on one side."""
    return f"{tuning}-{side}"


def tuning_of(token: str) -> str:
    """Return the tuning to which a trial's token belongs."""
    return token.rpartition("-")[0]


@contextmanager
def opened(
    ledger: Ledger, tuning: str, spends: Mapping[Side, Spend], budget: Budget | None
) -> Iterator[Callable[[], None]]:
    """Reserve both sides of a tuning; yield what closes it once nothing of a loser is left.

    Raises:
        UserError: the budget does not allow it; nothing is reserved then.
    """

    def close() -> None:
        with ledger.writing() as connection:
            began = _take_notes(connection, tuning)
            for side, spend in spends.items():
                run = run_of(tuning, side)
                if began:
                    append_settlement(connection, run, spend.events)
                else:  # as where DVC's copy has no table
                    append(connection, kind="strike", run=run, reason="no trial began")

    life = _life_of(ledger, tuning)
    try:
        with life:
            both = {run_of(tuning, side): one for side, one in spends.items()}
            ledger.reserve_all(both, budget, past=both)  # the best was chosen by its test figures
            yield close
    finally:
        _remove(life)


def begin_trial(ledger: Ledger, token: str, spend: Spend) -> Entry:
    """Note that a trial is about to make `spend`; return the reservation that pays for all.

    Raises:
        UserError: the tuning is over, was reserved for other mechanisms or never was, or the token
            was used before.
    """
    tuning = tuning_of(token)
    with ledger.writing() as connection:
        entry = _reserved(connection, run_of(tuning, spend.side))
        if entry is None or _asked(entry.spend) != (spend.events, *_read(spend)):
            raise UserError(
                f"params.yaml: `tuning_trial` names the tuning {tuning}, which is over or was "
                "reserved for other settings or another table. A tuned model is measured once. "
                "Empty `tuning_trial` to train another, or start a new tuning: "
                "python -m stages.tune"
            )
        connection.execute(TRIALS)
        values = (f"{token}-{spend.side}", tuning, spend.data, spend.fingerprint, spend.split)
        events = json.dumps(to_json(spend.events))
        try:
            connection.execute(
                f"INSERT INTO trials VALUES ({', '.join('?' * 9)})",
                (*values, spend.side, events, spend.epsilon, spend.delta),
            )
        except sqlite3.IntegrityError:
            raise UserError(
                f"params.yaml: `tuning_trial`: the trial {token} was run before, and each runs "
                "once. Empty `tuning_trial` to train another, or start a new tuning: "
                "python -m stages.tune"
            ) from None
        return entry


def close_dead(ledger: Ledger) -> Iterator[str]:
    """Yield the tunings that died, each closed: its trials count in full, and none is left to see.

    Of one that left no note, what was reserved counts.
    """
    runs = [entry.run for entry in ledger.entries() if entry.is_open_tuning]
    for tuning in dict.fromkeys(tuning_of(run) for run in runs):
        life = _life_of(ledger, tuning)
        try:
            life.acquire(timeout=0)
        except Timeout:
            continue
        with life, ledger.writing() as connection:
            remove_experiments(f"{tuning}-*")
            trials = _take_notes(connection, tuning)
            for run, spend in trials.items():
                append_reservation(connection, spend, run, None, tuning)
            for side in SIDES:
                if reserved := _reserved(connection, run_of(tuning, side)):
                    if trials:
                        why = "the tuning died; each of its trials counts instead"
                        append(connection, kind="strike", run=reserved.run, reason=why)
                    else:
                        append_settlement(connection, reserved.run, reserved.spend.events)
        _remove(life)
        yield tuning


def _life_of(ledger: Ledger, tuning: str) -> FileLock:
    """Return a lock that a tuning holds as long as its process lives, however that ends."""
    file = ledger.path.resolve()  # the same for all clones that share it by links
    return FileLock(file.with_name(f"{file.name}-{tuning}.lock"))


def _remove(life: FileLock) -> None:
    Path(life.lock_file).unlink(missing_ok=True)


def _asked(reserved: Spend) -> tuple[object, ...]:
    """What a trial has to do, and of which people."""
    (event,) = reserved.events
    assert isinstance(event, BestOfMany)
    return (event.events, *_read(reserved))


def _read(spend: Spend) -> tuple[str, str, str]:
    return path_of(spend.data), spend.fingerprint, spend.split


def _reserved(connection: sqlite3.Connection, run: str) -> Entry | None:
    entries = entries_in(connection)
    return next((entry for entry in entries if entry.run == run and entry.is_open_tuning), None)


def _take_notes(connection: sqlite3.Connection, tuning: str) -> dict[str, Spend]:
    """Return the trials that were noted, by the ids of their runs, and throw the notes away."""
    connection.execute(TRIALS)
    # Whom a trial protects, its reservation says.
    noted = connection.execute(
        """
        SELECT trials.*, entries.unit FROM trials JOIN entries
        ON entries.run = trials.tuning || '-' || trials.side AND entries.kind = 'reserve'
        WHERE tuning = ?
        """,
        (tuning,),
    ).fetchall()
    connection.execute("DELETE FROM trials WHERE tuning = ?", (tuning,))
    return {row["run"]: spend_of(row, row) for row in noted}
