"""The ledger knows what commits, experiments and the workspace tell of, without being told."""

import hashlib
import json
import posixpath
import sys
from collections.abc import Container, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import ValidationError

from stages.books.records import Record, looks_like_records, records_in, releases_in
from stages.books.store import UNKNOWN, Ledger
from stages.books.tunings import close_dead
from stages.errors import UserError
from stages.privacy.events import from_json
from stages.privacy.history import Spend
from stages.tabular.schema import Schema
from stages.tabular.split import split_name
from stages.versions import (
    WORKSPACE,
    Place,
    file_at,
    files_at,
    is_shallow,
    locked,
    neighbour,
    places_with,
)

# The metrics that tell of releases, and the stages that write them.
STAGES = {"metrics/train.json": "train", "metrics/evaluate.json": "evaluate"}

SHALLOW = (
    "this clone is shallow: runs of commits that it lacks are not in the ledger, whose total is "
    "too low. Bring the commits with: git fetch --unshallow"
)


class Table(NamedTuple):
    """Whose rows a run read, as `Spend` has it."""

    data: str
    fingerprint: str
    split: str


# Where nobody can tell any more; each run's rows count as others there, of all tables.
NOWHERE = Table(UNKNOWN, UNKNOWN, UNKNOWN)


def open_ledger() -> Ledger:
    """Return the repository's ledger with every run that is on record anywhere in it."""
    ledger = Ledger()
    if added := rebuild(ledger):
        print(f"privacy ledger: entered {added} runs that commits and experiments tell of")
    for tuning in close_dead(ledger):
        print(f"privacy ledger: {tuning} died without an end; its trials count in full")
    if is_shallow():
        print(f"privacy ledger: {SHALLOW}", file=sys.stderr)
    return ledger


def rebuild(ledger: Ledger) -> int:
    """Enter every run that is on record and missing; return how many.

    A run is on record where its metrics are, and in those of whatever was made from it. What only
    the latter tell of, and what a commit does not say for certain, as DVC's own helper commits do
    not, is asked last, and counts as about rows that no other run has read.
    """
    known = {entry.run for entry in ledger.entries()}
    missing: dict[str, Found] = {}
    for run, found in _on_record(known):
        had = missing.get(run)
        if had is None or (had.spend.split == UNKNOWN and found.spend.split != UNKNOWN):
            missing[run] = found
    for run, found in [*missing.items()]:
        for other in found.apart & {*missing}:
            # Who made both knew that they read different tables, whatever a lock says by now.
            if _same_deal(missing[run].spend, missing[other].spend):
                missing[other] = missing[other].read_nobody_knows_what(other)
    return sum(
        ledger.enter_past(found.spend, run, found.commit, found.past)
        for run, found in missing.items()
    )


class Found(NamedTuple):
    """A release on record.

    Attributes:
        commit: where.
        spend: what was released.
        past: ids of the runs that it is told to be made from.
        apart: of these, what is told to have read another table or split.
    """

    commit: str
    spend: Spend
    past: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()

    def read_nobody_knows_what(self, run: str) -> "Found":
        """Return the same where it cannot be told what was read."""
        table = _nowhere(run)
        spend = replace(
            self.spend, data=table.data, fingerprint=table.fingerprint, split=table.split
        )
        return self._replace(spend=spend)


def _same_deal(one: Spend, other: Spend) -> bool:
    return (one.fingerprint, one.split) == (other.fingerprint, other.split)


def _on_record(known: Container[str | None]) -> Iterator[tuple[str, Found]]:
    """Yield every release on record that is not `known`, by its run."""
    trials: dict[str | None, Any] = {}
    places = (*places_with(*STAGES), Place(WORKSPACE))
    files = [(place, path) for place in places for path in STAGES]
    for (place, path), text in zip(files, files_at(files), strict=True):
        try:
            metrics = json.loads(text or "{}")
            own, others = records_in(metrics), releases_in(metrics)
        except ValidationError:
            if not looks_like_records(metrics):
                continue
            raise UserError(
                f"{path} of {place.commit[:12]} tells of runs in a way that this version does not "
                "know, so ε of all runs is not known. It was written by a newer version: update to "
                "that."
            ) from None
        except ValueError:  # no metrics file
            continue
        deals = {str(one.run): one.spend.deal for one in others}
        if missing := [one for one in own if one.run is not None and one.run not in known]:
            table = _table_at(place, path, text or "")
            ran = locked(*place).get(STAGES[path], {}).get("params", {}).get("params.yaml", {})
            trial = ran.get("tuning_trial")
            for one in missing:
                # Of a tuning one trial is left. Where more are, each has been shown.
                again = "" if trial == trials.setdefault(one.run, trial) else f", {trial}"
                own_deal = deals.get(str(one.run))
                past = frozenset({*deals} - {str(one.run)}) if own_deal else frozenset()
                apart = frozenset(other for other in past if deals[other] != own_deal)
                yield f"{one.run}{again}", Found(place.commit, _spend(one, table), past, apart)
        for one in others:
            if one.run not in known and one.run not in {record.run for record in own}:
                yield str(one.run), Found(place.commit, _spend(one, NOWHERE))


def _table_at(place: Place, path: str, metrics: str) -> Table:
    """Return whose rows the run with these metrics read, by what its stage consumed.

    Not by params.yaml, which may have been changed since the run. Where dvc.lock is of other
    metrics, or the table was prepared anew or the schema edited after the run, nobody can tell any
    more.
    """
    stages = locked(*place)
    preprocess, stage = stages.get("preprocess", {}), stages.get(STAGES[path], {})
    params = preprocess.get("params", {}).get("params.yaml", {})
    if _hashes(stage, "outs").get(path) != _md5(metrics) or "data" not in params:
        return NOWHERE
    consumed = _hashes(stage, "deps").get("data/prepared")
    if consumed is None or _hashes(preprocess, "outs").get("data/prepared") != consumed:
        return NOWHERE
    read = _hashes(preprocess, "deps")
    schema = file_at(place.commit, str(params.get("schema")), place.folder)
    if schema is None or read.get(_plain(params["schema"])) != _md5(schema):
        return NOWHERE
    split = split_name(
        float(params["test_fraction"]), params["split_seed"], Schema.model_validate_json(schema)
    )
    # DVC knows a table in the repository by its path from there, however params.yaml spells it.
    schema_path, data = _plain(params["schema"]), _plain(params["data"])
    tables = [path for path in read if path != schema_path and not path.startswith("stages/")]
    name = data if data in read else next(iter(tables), data)
    fingerprint = read.get(name, f"{UNKNOWN}, of {_md5(metrics)}")
    # Another project's table of the same name is another table. A project that was moved took it
    # along.
    other = neighbour(place.folder)
    return Table(str(other / name) if other else name, fingerprint, split)


def _hashes(stage: dict[str, Any], kind: str) -> dict[str, str]:
    return {_plain(entry["path"]): str(entry.get("md5")) for entry in stage.get(kind, [])}


def _md5(text: str) -> str:
    """Return the hash by which DVC knows a file of this content."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _plain(path: str) -> str:
    return posixpath.normpath(path)


def _nowhere(run: str | None) -> Table:
    return NOWHERE._replace(fingerprint=f"{UNKNOWN}, of {run}")


def _spend(record: Record, table: Table) -> Spend:
    read = _nowhere(record.run) if table is NOWHERE else table
    return Spend(
        data=read.data,
        fingerprint=read.fingerprint,
        split=read.split,
        side=record.spend.side,
        events=tuple(from_json(record.spend.events)),
        epsilon=record.spend.epsilon,
        delta=record.spend.delta,
    )
