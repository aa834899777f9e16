"""The ledger knows what commits, experiments and the workspace tell of, without being told."""

import json
import sys
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from stages.books.records import Record, records_in
from stages.books.store import Ledger
from stages.privacy.events import from_json
from stages.privacy.history import Spend
from stages.tabular.schema import Schema
from stages.tabular.split import split_name
from stages.versions import WORKSPACE, commits_with, file_at, files_at, is_shallow

METRICS = ("metrics/train.json", "metrics/evaluate.json")
UNKNOWN = "unknown"

SHALLOW = (
    "this clone is shallow: runs of commits that it lacks are not in the ledger, whose total is "
    "too low. Bring the commits with: git fetch --unshallow"
)


class Table(NamedTuple):
    """Whose rows a run read, as `Spend` has it."""

    data: str
    fingerprint: str
    split: str


def open_ledger() -> Ledger:
    """Return the repository's ledger with every run that is on record anywhere in it."""
    ledger = Ledger()
    if added := rebuild(ledger):
        print(f"privacy ledger: entered {added} runs that commits and experiments tell of")
    if is_shallow():
        print(f"privacy ledger: {SHALLOW}", file=sys.stderr)
    return ledger


def rebuild(ledger: Ledger) -> int:
    """Enter every run that is on record and missing; return how many.

    A commit that lacks part of a run's files, as DVC's own helper commits do, is asked last, and
    what only such a one tells of counts as about rows that no other run has read.
    """
    known = {entry.run for entry in ledger.entries()}
    missing: dict[str, tuple[str, Record, Table]] = {}
    for commit, record in _records():
        if record.run is not None and record.run not in known:
            had = missing.get(record.run)
            if had is None or had[2].split == UNKNOWN:
                missing[record.run] = (commit, record, _table_at(commit))
    for run, (commit, record, table) in missing.items():
        ledger.enter_past(_spend(record, table), run, commit)
    return len(missing)


def _records() -> Iterator[tuple[str, Record]]:
    places = [(commit, path) for commit in (*commits_with(*METRICS), WORKSPACE) for path in METRICS]
    for (commit, _), text in zip(places, files_at(places), strict=True):
        try:
            found = records_in(json.loads(text or "{}"))
        except (ValueError, ValidationError):  # no metrics file of ours
            continue
        yield from ((commit, record) for record in found)


def _table_at(commit: str) -> Table:
    """Return whose rows the run at `commit` read, by what its stages consumed.

    Not by params.yaml, which may have been changed since the run. Where the table was prepared
    anew after the run, nobody can tell any more, and the rows count as others.
    """
    lock = yaml.safe_load(file_at(commit, "dvc.lock") or "{}") or {}
    stages = lock.get("stages", {})
    preprocess = stages.get("preprocess", {})
    params = preprocess.get("params", {}).get("params.yaml", {})
    schema = file_at(commit, str(params.get("schema")))
    if schema is None or "data" not in params:
        params = yaml.safe_load(file_at(commit, "params.yaml") or "{}") or {}
        return Table(str(params.get("data", UNKNOWN)), UNKNOWN, UNKNOWN)
    prepared = _hashes(preprocess, "outs").get("data/prepared")
    consumed = _hashes(stages.get("train", {}), "deps").get("data/prepared")
    if prepared != consumed:
        return Table(params["data"], f"prepared as {consumed}", UNKNOWN)
    split = split_name(
        float(params["test_fraction"]), params["split_seed"], Schema.model_validate_json(schema)
    )
    fingerprint = _hashes(preprocess, "deps").get(_plain(params["data"]), UNKNOWN)
    return Table(params["data"], fingerprint, split)


def _hashes(stage: dict[str, Any], kind: str) -> dict[str, str]:
    return {_plain(entry["path"]): str(entry.get("md5")) for entry in stage.get(kind, [])}


def _plain(path: str) -> str:
    return str(PurePosixPath(path))


def _spend(record: Record, table: Table) -> Spend:
    return Spend(
        data=table.data,
        fingerprint=table.fingerprint,
        split=table.split,
        side=record.spend.side,
        events=tuple(from_json(record.spend.events)),
        epsilon=record.spend.epsilon,
        delta=record.spend.delta,
    )
