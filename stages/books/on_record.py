"""What commits, experiments, the workspace and DVC's cache tell of runs, and of whose rows."""

import hashlib
import json
import posixpath
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from pydantic import ValidationError

from stages.books.people import UNKNOWN
from stages.books.records import Record, looks_like_records, records_in, releases_in
from stages.cache import kept_folder, kept_runs, kept_text
from stages.errors import UserError
from stages.privacy.events import from_json
from stages.privacy.history import ROW, Spend
from stages.tabular.prepared import unit_of
from stages.tabular.schema import Schema
from stages.tabular.split import split_name
from stages.versions import (
    HERE,
    WORKSPACE,
    Place,
    file_at,
    files_at,
    locked,
    neighbour,
    parameters_in,
    places_with,
)

# The metrics that tell of releases, and the stages that write them.
STAGES = {"metrics/train.json": "train", "metrics/evaluate.json": "evaluate"}

# In place of a commit, where only DVC's cache tells of a run.
RUN_CACHE = "run-cache"


class Table(NamedTuple):
    """Whose rows a run read, as `Spend` has it."""

    data: str
    fingerprint: str
    split: str
    unit: str = ROW


# Where nobody can tell any more; each run's rows count as others there, of all tables.
NOWHERE = Table(UNKNOWN, UNKNOWN, UNKNOWN)


# From what a lock says that a table was prepared, and what came out.
Claim = tuple[str, str]


class Found(NamedTuple):
    """A release on record.

    Attributes:
        commit: where.
        spend: what was released.
        past: ids of the runs that it is told to be made from.
        apart: of these, what is told to have read another table or split.
        claim: what its lock says of the table, see `claim_of`; None without one.
        is_certain: whether what was prepared says itself of which table it is.
    """

    commit: str
    spend: Spend
    past: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()
    claim: Claim | None = None
    is_certain: bool = False

    def read_nobody_knows_what(self, run: str) -> "Found":
        """Return the same where it cannot be told what was read."""
        return self._replace(spend=replace(self.spend, **_nowhere(run)._asdict()))


def on_record(known: Container[str | None]) -> Iterator[tuple[str, Found]]:
    """Yield every release on record that is not `known`, by its run."""
    trials: dict[str | None, Any] = {}
    for told in (*_in_the_cache(), *_in_commits()):
        try:
            metrics = json.loads(told.text)
            own, others = records_in(metrics), releases_in(metrics)
        except ValidationError:
            if not looks_like_records(metrics):
                continue
            raise UserError(
                f"{told.path} of {told.commit[:12]} tells of runs in a way that this version does "
                "not know, so ε of all runs is not known. It was written by a newer version: "
                "update to that."
            ) from None
        except ValueError:  # no metrics file
            continue
        deals = {str(one.run): one.spend.deal for one in others}
        if missing := [one for one in own if one.run is not None and one.run not in known]:
            stages = told.stages()
            table, is_certain = _table_of(told, stages)
            trial = parameters_in(stages, STAGES[told.path]).get("tuning_trial")
            for one in missing:
                # Of a tuning one trial is left. Where more are, each has been shown.
                again = "" if trial == trials.setdefault(one.run, trial) else f", {trial}"
                own_deal = deals.get(str(one.run))
                past = frozenset({*deals} - {str(one.run)}) if own_deal else frozenset()
                apart = frozenset(other for other in past if deals[other] != own_deal)
                spend = spend_of(one, table)
                yield (
                    f"{one.run}{again}",
                    Found(told.commit, spend, past, apart, claim_of(stages), is_certain),
                )
        for one in others:
            if one.run not in known and one.run not in {record.run for record in own}:
                yield str(one.run), Found(told.commit, spend_of(one, NOWHERE))


class Told(NamedTuple):
    """What somewhere tells of a run.

    Attributes:
        commit, folder: where; the commit is RUN_CACHE for DVC's.
        path: of the metrics.
        text: their content.
        stages: what dvc.lock, or the run-cache, says of stages with it.
    """

    commit: str
    folder: str
    path: str
    text: str
    stages: Callable[[], Mapping[str, Any]]


def _in_commits() -> Iterator[Told]:
    changed = places_with(*STAGES)
    files = [(place, path) for place in (*changed, Place(WORKSPACE)) for path in STAGES]
    for (place, path), text in zip(files, files_at(files), strict=True):
        if text is None and path in changed.get(place, []):
            raise UserError(
                f"Git knows that {path} changed in {place.commit[:12]} but does not have it, so ε "
                "of earlier runs is not known. Bring what this clone lacks: git fetch --refetch"
            )
        yield Told(*place, path, text or "{}", partial(locked, *place))


def _in_the_cache() -> Iterator[Told]:
    """Yield what only DVC remembers, as it gives runs back whose metrics nobody committed."""
    for path, digest, read in kept_runs(*STAGES):
        if text := kept_text(digest):
            yield Told(RUN_CACHE, HERE, path, text, partial(_alone, STAGES[path], read))


def _alone(stage: str, read: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    return {stage: read()}


def claim_of(stages: Mapping[str, Any]) -> Claim | None:
    """Return what a lock says of its prepared table; None if it says nothing."""
    preprocess = stages.get("preprocess", {})
    made = _hashes(preprocess, "outs").get("data/prepared")
    if made is None:
        return None
    return json.dumps([preprocess.get("deps"), preprocess.get("params")]), made


def _table_of(told: Told, stages: Mapping[str, Any]) -> tuple[Table, bool]:
    """Return whose rows the run with these metrics read, by what its stage consumed.

    And whether that is certain.

    Not by params.yaml, which may have been changed since the run. Where dvc.lock is of other
    metrics nobody can tell any more. What the stage consumed says of itself which table it is;
    where it is not at hand dvc.lock does, unless the table was prepared anew or the schema edited
    after the run.
    """
    stage = stages.get(STAGES[told.path], {})
    consumed = _hashes(stage, "deps").get("data/prepared")
    if _hashes(stage, "outs").get(told.path) != _md5(told.text) or consumed is None:
        return NOWHERE, False
    kept = _table_in(kept_folder(consumed))
    table = kept or _table_by_lock(told, stages, consumed)
    # Another project's table of the same name is another table. A project that was moved took it
    # along.
    other = neighbour(told.folder)
    if other and table != NOWHERE:
        table = table._replace(data=str(other / table.data))
    return table, kept is not None


def _table_in(prepared: Mapping[str, str]) -> Table | None:
    """Return which table a prepared one is made of, by its files in the cache; None without."""
    source, schema = (
        kept_text(prepared.get(name, "none")) for name in ("source.json", "schema.json")
    )
    if source is None or schema is None:
        return None
    return Table(**json.loads(source), unit=unit_of(schema))


def _table_by_lock(told: Told, stages: Mapping[str, Any], consumed: str) -> Table:
    preprocess = stages.get("preprocess", {})
    params = parameters_in(stages, "preprocess")
    if _hashes(preprocess, "outs").get("data/prepared") != consumed or "data" not in params:
        return NOWHERE
    read = _hashes(preprocess, "deps")
    text = file_at(told.commit, str(params.get("schema")), told.folder)
    if text is None or read.get(_plain(params["schema"])) != _md5(text):
        return NOWHERE
    schema = Schema.model_validate_json(text)
    split = split_name(float(params["test_fraction"]), params["split_seed"], schema)
    # DVC knows a table in the repository by its path from there, however params.yaml spells it.
    schema_path, data = _plain(params["schema"]), _plain(params["data"])
    tables = [path for path in read if path != schema_path and not path.startswith("stages/")]
    name = data if data in read else next(iter(tables), data)
    fingerprint = read.get(name, f"{UNKNOWN}, of {_md5(told.text)}")
    return Table(name, fingerprint, split, unit_of(text))


def _hashes(stage: Mapping[str, Any], kind: str) -> dict[str, str]:
    return {_plain(entry["path"]): str(entry.get("md5")) for entry in stage.get(kind, [])}


def _md5(text: str) -> str:
    """Return the hash by which DVC knows a file of this content."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _plain(path: str) -> str:
    return posixpath.normpath(path)


def _nowhere(run: str | None) -> Table:
    return NOWHERE._replace(fingerprint=f"{UNKNOWN}, of {run}")


def spend_of(record: Record, table: Table) -> Spend:
    read = _nowhere(record.run) if table is NOWHERE else table
    return Spend(
        **read._asdict(),
        side=record.spend.side,
        events=tuple(from_json(record.spend.events)),
        epsilon=record.spend.epsilon,
        delta=record.spend.delta,
    )
