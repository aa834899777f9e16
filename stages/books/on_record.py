"""What commits, experiments, the workspace and DVC's cache tell of runs, and of whose rows."""

import functools
import hashlib
import json
import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from stages.books.names import name_from
from stages.books.people import SEEN, UNKNOWN
from stages.books.records import (
    Known,
    Record,
    Table,
    known_in,
    looks_like_records,
    records_in,
    releases_in,
)
from stages.cache import kept_outputs, kept_text
from stages.errors import UserError
from stages.privacy.events import from_json
from stages.privacy.history import Spend
from stages.tabular.prepared import PREPARED, unit_of
from stages.tabular.schema import Schema
from stages.tabular.split import split_name
from stages.versions.files import (
    HERE,
    WORKSPACE,
    Place,
    file_at,
    files_at,
    is_kept_otherwise,
    places_with,
)
from stages.versions.locks import locked, parameters_in

# What tells of releases.
METRICS = ("metrics/train.json", "metrics/evaluate.json")

# What tells of all runs that a ledger had when it was written: the ledger, as commits carry it.
RUNS = "metrics/runs.json"

# In place of a commit, where only DVC's cache tells of a run.
RUN_CACHE = "run-cache"

# Where nobody can tell any more; each run's rows count as others there, of all tables.
NOWHERE = Table(data=UNKNOWN, fingerprint=UNKNOWN, split=UNKNOWN)


class Found(NamedTuple):
    """A release on record.

    Attributes:
        commit: where.
        spend: what was released.
        past: ids of the runs that it is told to be made from.
        trial: which trial of a tuning it is, if it is one, by the name of its experiment.
        known: whether another ledger tells of it, and not its own metrics or what was made of it.
        struck: why it did not count there, or None if it did.
    """

    commit: str
    spend: Spend
    past: frozenset[str] = frozenset()
    trial: str | None = None
    known: bool = False
    struck: str | None = None


def on_record(
    known: Mapping[str, str | None], struck: Collection[str] = ()
) -> Iterator[tuple[str, Found]]:
    """Yield every release on record that is not known, or struck, by its run.

    At the end those that another ledger knew of, of which there may be no more to see.

    Args:
        known: runs, and which experiments they were.
        struck: which of them nobody should have seen.
    """
    trials = dict(known)
    # What counted, what was struck later, and what was seen after that.
    elsewhere: tuple[dict[str, Found], ...] = ({}, {}, {})
    for told in (*_in_the_cache(), *_in_commits()):
        own, releases, runs = _records(told)
        if told.commit == RUN_CACHE and any(one.trial for one in own):
            continue  # of a tuning DVC may remember what nobody is shown, as others may be at it
        made_from = {str(one.run) for one in releases}
        for one in own:
            if one.run is None:
                continue
            run = _entry_of(one, known, trials)
            if run in known and run not in struck:
                continue
            past = frozenset(made_from - {one.run}) if one.run in made_from else frozenset()
            table = _today(one.read or _by_lock(told), told)
            yield run, Found(told.commit, spend_of(one, table), past, one.trial)
        for one in releases:
            if one.run not in known and one.run not in {record.run for record in own}:
                table = _today(_of_deal(one.spend.deal, own, releases), told)
                yield str(one.run), Found(told.commit, spend_of(one, table))
        for each in runs:
            run = str(each.run).removesuffix(SEEN)
            if run not in known and run not in struck:
                found = _found(each, told)
                elsewhere[2 if run != each.run else found.struck is not None][run] = found
    yield from functools.reduce(operator.or_, elsewhere).items()


def _of_deal(deal: int, own: Sequence[Record], releases: Sequence[Record]) -> Table:
    """Return the table of a deal that a run's own release read as well, or NOWHERE."""
    deals = {one.run: one.spend.deal for one in releases}
    return next((one.read for one in own if one.read and deals.get(one.run) == deal), NOWHERE)


def _found(known: Known, told: "Told") -> Found:
    """Return a run as another ledger knew it."""
    spend = spend_of(known, _today(known.read or NOWHERE, told))
    return Found(told.commit, spend, frozenset(known.past), known=True, struck=known.struck)


def _today(table: Table, told: "Told") -> Table:
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


class Told(NamedTuple):
    """What somewhere tells of a run.

    Attributes:
        commit, folder: where; the commit is RUN_CACHE for DVC's.
        path: of the metrics.
        text: their content.
    """

    commit: str
    folder: str
    path: str
    text: str


def _in_commits() -> Iterator[Told]:
    changed = places_with(*METRICS, RUNS)
    places = {place: [*METRICS, *({RUNS} & {*paths})] for place, paths in changed.items()}
    places[Place(WORKSPACE)] = [*METRICS, RUNS]
    files = [(place, path) for place, paths in places.items() for path in paths]
    for (place, path), text in zip(files, files_at(files), strict=True):
        if text is None and path in changed.get(place, []):
            raise UserError(
                f"Git knows that {path} changed in {place.commit[:12]} but does not have it, so ε "
                "of earlier runs is not known. Bring what this clone lacks: git fetch --refetch"
            )
        yield Told(*place, path, text or "{}")


def _records(told: Told) -> tuple[list[Record], list[Record], list[Known]]:
    """Return what a file of metrics has on record, what that was made from, and what else is known.

    Nothing if it is another project's.

    Raises:
        UserError: it may well be one of ours, but cannot be read.
    """
    try:
        metrics = json.loads(told.text)
        return records_in(metrics), releases_in(metrics), known_in(metrics)
    except ValidationError:
        if not looks_like_records(metrics):
            return [], [], []
        raise UserError(
            f"{told.path} of {told.commit[:12]} tells of runs in a way that this version does "
            "not know, so ε of all runs is not known. It was written by a newer version: "
            "update to that."
        ) from None
    except ValueError:
        if not is_kept_otherwise(told.text):
            return [], [], []
        raise UserError(
            f"{told.path} of {told.commit[:12]} should be JSON, but Git keeps it encrypted or "
            "elsewhere, so ε of all runs is not known. Set that up in this clone, as by `git-crypt "
            "unlock` or `git lfs install`. If .gitattributes names it no more, name it in "
            ".git/info/attributes, such as: **/metrics/*.json filter=lfs"
        ) from None


def _in_the_cache() -> Iterator[Told]:
    """Yield what only DVC remembers, as it gives runs back whose metrics nobody committed."""
    for path, digest in kept_outputs(*METRICS):
        if text := kept_text(digest):
            yield Told(RUN_CACHE, HERE, path, text)


def _by_lock(told: Told) -> Table:
    """Return what dvc.lock says of the table that a run read which does not say so itself.

    As those of earlier versions. Where it is of other metrics nobody can tell any more, nor where
    the table was prepared anew or the schema edited after the run.
    """
    stages = {} if told.commit == RUN_CACHE else locked(told.commit, told.folder)
    stage = stages.get(Path(told.path).stem, {})
    preprocess = stages.get("preprocess", {})
    ran, read = parameters_in(preprocess), _hashes(preprocess, "deps")
    consumed = _hashes(stage, "deps").get(str(PREPARED), "nothing")
    if (
        _hashes(stage, "outs").get(told.path) != _md5(told.text)
        or _hashes(preprocess, "outs").get(str(PREPARED)) != consumed
        or ran.get("data") not in read
        or (schema := file_at(told.commit, str(ran.get("schema")), told.folder)) is None
        or read.get(ran["schema"]) != _md5(schema)
    ):
        return NOWHERE
    split = split_name(
        float(ran["test_fraction"]), ran["split_seed"], Schema.model_validate_json(schema)
    )
    return Table(data=ran["data"], fingerprint=read[ran["data"]], split=split, unit=unit_of(schema))


def _hashes(stage: Mapping[str, Any], kind: str) -> dict[str, str]:
    return {entry["path"]: str(entry.get("md5")) for entry in stage.get(kind, [])}


def _md5(text: str) -> str:
    """Return the hash by which DVC knows a file of this content."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def spend_of(record: Record, table: Table) -> Spend:
    """Return what a record tells of, as the ledger has it."""
    if table is NOWHERE:  # each run's rows are others there
        table = table.model_copy(update={"fingerprint": f"{UNKNOWN}, of {record.run}"})
    return Spend(
        **table.model_dump(),
        side=record.spend.side,
        events=tuple(from_json(record.spend.events)),
        epsilon=record.spend.epsilon,
        delta=record.spend.delta,
    )
