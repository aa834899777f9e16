"""Every release that is on record somewhere, and whose rows it read."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stages.books.names import name_from
from stages.books.people import UNKNOWN
from stages.books.records import Record, Table
from stages.books.told import RUN_CACHE, Told, hash_of, told_anywhere
from stages.privacy.events import from_json
from stages.privacy.history import Spend
from stages.tabular.prepared import PREPARED, unit_of
from stages.tabular.schema import Schema
from stages.tabular.split import split_name
from stages.versions.files import file_at
from stages.versions.locks import files_of, locked, parameters_in

# Where nobody can tell any more; each run's rows count as others there, of all tables.
NOWHERE = Table(data=UNKNOWN, fingerprint=UNKNOWN, split=UNKNOWN)


def _nowhere(unit: str) -> Table:
    return NOWHERE.model_copy(update={"unit": unit})


class Found(NamedTuple):
    """A release on record.

    Attributes:
        commit: where.
        spend: what was released.
        past: ids of the runs that it is told to be made from.
        trial: which trial of a tuning it is, if it is one, by the name of its experiment.
        elsewhere: whether a ledger tells of it, and not its own metrics or what was made of it.
        struck: why it did not count there, or None if it did.
    """

    commit: str
    spend: Spend
    past: frozenset[str] = frozenset()
    trial: str | None = None
    elsewhere: bool = False
    struck: str | None = None


def on_record(
    known: Mapping[str, str | None], struck: Collection[str] = ()
) -> Iterator[tuple[str, Found]]:
    """Yield every release on record that is not known, or struck, by its run.

    First by its own metrics, then by those of what was made from it, and at the end those that
    another ledger knew of, of which there may be no more to see.

    Args:
        known: runs, and which experiments they were.
        struck: which of them nobody should have seen.
    """
    trials = dict(known)
    everything = [*told_anywhere()]
    elsewhere = _elsewhere(everything)
    anywhere = {*known, *elsewhere}
    for told in everything:
        yield from _own(told, known, struck, trials, anywhere)
    for told in everything:
        yield from _made_from(told, known)
    for run, found in elsewhere.items():
        if run not in known and run not in struck:
            yield run, found


def _own(
    told: Told,
    known: Collection[str],
    struck: Collection[str],
    trials: dict[str, str | None],
    anywhere: Collection[str],
) -> Iterator[tuple[str, Found]]:
    """Yield the runs of which metrics are.

    Args:
        told, known, struck: see `on_record`.
        trials: which trial a run is so far.
        anywhere: runs that are known here or elsewhere.
    """
    made_from = {str(one.run) for one in told.releases}
    for one in told.own:
        if one.run is None:
            continue
        run = _entry_of(one, anywhere, trials)
        if run in known and run not in struck:
            continue
        past = frozenset(made_from - {one.run}) if one.run in made_from else frozenset()
        table = _today(one.read or _by_lock(told), told)
        yield run, Found(told.commit, spend_of(one, table), past, one.trial)


def _made_from(told: Told, known: Collection[str]) -> Iterator[tuple[str, Found]]:
    """Yield the runs that those of metrics were made from.

    Of their table is known whether it was dealt out as that of these.
    """
    deals = {one.run: one.spend.deal for one in told.releases}
    tables = {deals[one.run]: one.read for one in told.own if one.read and one.run in deals}
    own = {one.run for one in told.own}
    for one in told.releases:
        if one.run not in known and one.run not in own:
            table = _today(tables.get(one.spend.deal, _nowhere(told.unit)), told)
            yield str(one.run), Found(told.commit, spend_of(one, table))


def _elsewhere(everything: Collection[Told]) -> dict[str, Found]:
    """Return all that other ledgers knew.

    What one of them struck is struck, unless a merge brought together that another counts it.
    """
    counted, struck, disputed = dict[str, Found](), dict[str, Found](), set[str]()
    for told in everything:
        counting = {str(one.run) for one in told.runs if one.struck is None}
        disputed |= counting & {str(one.run) for one in told.runs if one.struck is not None}
        for one in told.runs:
            spend = spend_of(one, _today(one.read or NOWHERE, told))
            past = frozenset(one.past)
            found = Found(told.commit, spend, past, elsewhere=True, struck=one.struck)
            (counted if one.struck is None else struck)[str(one.run)] = found
    # As they follow each other.
    return counted | {run: found for run, found in struck.items() if run not in disputed}


def _today(table: Table, told: Told) -> Table:
    """Return a table by the name that it has where the project is today."""
    if table.data == UNKNOWN:
        return table
    return table.model_copy(update={"data": name_from(told.folder, table.data)})


def _entry_of(one: Record, known: Collection[str], trials: dict[str, str | None]) -> str:
    """Return the run under which a release is entered; `trials` has which trial a run is so far."""
    run = str(one.run)
    if one.trial is None:
        return run
    by_itself = f"{one.trial}-{one.spend.side}"
    if by_itself in known:  # as each trial counts of a tuning that died
        return by_itself
    # Of a tuning that was made elsewhere one trial is left. Where more are, each has been shown.
    # Those of one that was made here are its own to count.
    is_another = trials.setdefault(run, one.trial) not in (None, one.trial)
    return f"{run}, {one.trial}" if is_another else run


def _by_lock(told: Told) -> Table:
    """Return what dvc.lock says of the table that a run read which does not say so itself.

    As those of earlier versions. Where it is of other metrics nobody can tell any more, nor where
    the table was prepared anew or the schema edited after the run.
    """
    stages = {} if told.commit == RUN_CACHE else locked(told.commit, told.folder)
    stage = stages.get(Path(told.path).stem, {})
    preprocess = stages.get("preprocess", {})
    ran, read = parameters_in(preprocess), files_of(preprocess, "deps")
    if (
        files_of(stage, "outs").get(told.path) != hash_of(told.text)
        or not reads_prepared(stage, preprocess)
        or ran.get("data") not in read
        or (schema := file_at(told.commit, str(ran.get("schema")), told.folder)) is None
        or read.get(ran["schema"]) != hash_of(schema)
    ):
        return NOWHERE
    split = split_name(
        float(ran["test_fraction"]), ran["split_seed"], Schema.model_validate_json(schema)
    )
    return Table(data=ran["data"], fingerprint=read[ran["data"]], split=split, unit=unit_of(schema))


def reads_prepared(stage: Mapping[str, Any], preprocess: Mapping[str, Any]) -> bool:
    """Whether a stage read what is prepared now, by what a lock says of both."""
    consumed = files_of(stage, "deps").get(str(PREPARED), "nothing")
    return files_of(preprocess, "outs").get(str(PREPARED)) == consumed


def spend_of(record: Record, table: Table) -> Spend:
    """Return what a record tells of, as the ledger has it."""
    if table.fingerprint == UNKNOWN:  # each run's rows are others there
        table = table.model_copy(update={"fingerprint": f"{UNKNOWN}, of {record.run}"})
    return Spend(
        **table.model_dump(),
        side=record.spend.side,
        events=tuple(from_json(record.spend.events)),
        epsilon=record.spend.epsilon,
        delta=record.spend.delta,
    )
