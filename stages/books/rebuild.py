"""What commits and experiments tell of the runs that were made before this ledger."""

import json
from collections.abc import Iterator

import yaml

from stages.books.records import Record, records_in
from stages.books.store import Ledger
from stages.privacy.events import from_json
from stages.privacy.history import Spend
from stages.tabular.schema import Schema
from stages.tabular.split import split_name
from stages.versions import commits_with, file_at

METRICS = ("metrics/train.json", "metrics/evaluate.json")


def rebuild(ledger: Ledger) -> int:
    """Enter every run that a commit or experiment tells of and that is missing; return how many."""
    return sum(
        ledger.enter_past(_spend_at(commit, record), record.run, commit)
        for commit, record in _records()
        if record.run is not None
    )


def runs_in_commits() -> set[str]:
    """Return every run on record in a commit or experiment."""
    return {record.run for _, record in _records() if record.run is not None}


def _records() -> Iterator[tuple[str, Record]]:
    for commit in commits_with(*METRICS):
        for path in METRICS:
            for record in records_in(json.loads(file_at(commit, path) or "{}")):
                yield commit, record


def _spend_at(commit: str, record: Record) -> Spend:
    """Return a spend, with what the parameters at `commit` say of its table."""
    params = yaml.safe_load(file_at(commit, "params.yaml") or "{}")
    lock = yaml.safe_load(file_at(commit, "dvc.lock") or "{}")
    deps = lock.get("stages", {}).get("preprocess", {}).get("deps", [])
    schema = Schema.model_validate_json(file_at(commit, params["schema"]) or "{}")
    hashes = [dep["md5"] for dep in deps if dep["path"] == params["data"]]
    return Spend(
        data=params["data"],
        fingerprint=hashes[0] if hashes else "unknown",
        split=split_name(float(params["test_fraction"]), params["split_seed"], schema),
        side=record.spend.side,
        events=tuple(from_json(record.spend.events)),
        epsilon=record.spend.epsilon,
        delta=record.spend.delta,
    )
