"""Where anything tells of runs: in commits and experiments, the workspace and DVC's cache."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from stages.books.records import (
    Known,
    Record,
    known_in,
    looks_like_records,
    records_in,
    releases_in,
)
from stages.cache import kept_outputs, kept_part, kept_text
from stages.errors import UserError
from stages.model.files import CLASSIFIER
from stages.privacy.history import ROW
from stages.tabular.prepared import unit_of
from stages.versions.files import (
    WORKSPACE,
    Place,
    file_at,
    files_at,
    is_kept_otherwise,
    places_with,
    short,
    workspaces,
)
from stages.versions.locks import locks_anywhere

# What tells of releases.
METRICS = ("metrics/train.json", "metrics/evaluate.json")

# What tells of all runs that a ledger had when it was written: the ledger, as commits carry it.
RUNS = "metrics/runs.jsonl"

# The same as one version wrote it, in a single object, of which Git's merges could lose runs.
FORMER_RUNS = "metrics/runs.json"

# What a model says that it was made from.
DESCRIPTION = CLASSIFIER / "model.json"

# In place of a commit, where only DVC's cache tells of a run.
RUN_CACHE = "run-cache"


class Told(NamedTuple):
    """What a file somewhere tells of runs.

    Attributes:
        commit, folder: where; the commit is RUN_CACHE for DVC's.
        path: of the metrics.
        text: their content.
        own: the runs of which they are.
        releases: what these were made from.
        runs: all that a ledger had.
        unit: whom what they were made from promises something to, where it is told of nothing else.
    """

    commit: str
    folder: str
    path: str
    text: str
    own: Sequence[Record] = ()
    releases: Sequence[Record] = ()
    runs: Sequence[Known] = ()
    unit: str = ROW


def told_anywhere() -> Iterator[Told]:
    """Yield whatever tells of runs; nothing that is another project's.

    Raises:
        UserError: something may well tell of ours, but cannot be read.
    """
    for place, path, text in _in_the_cache():
        told = _read(place, path, text)
        # Of a tuning DVC may remember what nobody is shown, as others may be at it.
        if not any(one.trial for one in told.own):
            yield told
    for place, path, text in _in_commits():
        yield _read(place, path, text)
    yield from _of_models()


def runs_of_models() -> dict[str, str]:
    """Return the runs from which the models that are here were made, and of each where it is."""
    return {str(run.run): told.commit for told in _of_models() for run in told.releases}


def runs_in_workspace() -> set[str]:
    """Return the runs of which the ledger that the next commit takes along tells."""
    told = _read(Place(WORKSPACE), RUNS, file_at(WORKSPACE, RUNS) or "")
    return {str(one.run) for one in told.runs}


def metrics_anywhere() -> Iterator[str]:
    """Yield the metrics that are here, each as it was written."""
    for _, path, text in (*_in_the_cache(), *_in_commits()):
        if path in METRICS:
            yield text


def noted_anywhere() -> Iterator[tuple[str, str]]:
    """Yield hashes of metrics, each with the run of which they are, that ledgers have noted."""
    for place, path, text in _in_commits():
        if path == RUNS:
            for one in _read(place, path, text).runs:
                yield from ((digest, str(one.run)) for digest in one.metrics)


def noted_in_workspace() -> Iterator[tuple[str, str]]:
    """Yield the same of the metrics that were just written.

    But for those of trials: how many there were is nobody's to know.
    """
    for path in METRICS:
        text = file_at(WORKSPACE, path) or ""
        for one in _read(Place(WORKSPACE), path, text).own:
            if one.run is not None and one.trial is None:
                yield hash_of(text), one.run


def hash_of(text: str) -> str:
    """Return the hash by which DVC knows a file of this content."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _in_the_cache() -> Iterator[tuple[Place, str, str]]:
    """Yield what only DVC remembers, as it gives runs back whose metrics nobody committed."""
    for path, digest in kept_outputs(*METRICS):
        if text := kept_text(digest):
            yield Place(RUN_CACHE), path, text


def _in_commits() -> Iterator[tuple[Place, str, str]]:
    changed = places_with(*METRICS, RUNS, FORMER_RUNS)
    places = {place: {*METRICS, *paths} for place, paths in changed.items()}
    places |= {place: {*METRICS, RUNS, FORMER_RUNS} for place in workspaces()}
    files = [(place, path) for place, paths in places.items() for path in sorted(paths)]
    for (place, path), text in zip(files, files_at(files), strict=True):
        if text is None and path in changed.get(place, []):
            raise UserError(
                f"Git knows that {path} changed in {short(place.commit)} but does not have it, so "
                "ε of earlier runs is not known. Bring what this clone lacks: git fetch --refetch"
            )
        yield place, path, text or ""


def _of_models() -> Iterator[Told]:
    """Yield what models tell of themselves, as somebody may commit dvc.lock alone."""
    for place, model, schema in _models():
        told = _read(place, str(DESCRIPTION), model or "")
        yield told._replace(unit=unit_of(schema)) if told.releases and schema else told


def _models() -> Iterator[tuple[Place, str | None, str | None]]:
    """Yield of each model that is here what it says of itself and of its table."""
    parts = (DESCRIPTION.name, "schema.json")
    for place in workspaces():
        model, schema = (file_at(place.commit, str(CLASSIFIER / name)) for name in parts)
        yield place, model, schema
    for place, hashes in locks_anywhere():
        model, schema = (kept_part(hashes.get(str(CLASSIFIER), ""), name) for name in parts)
        yield place, model, schema


def _read(place: Place, path: str, text: str) -> Told:
    try:
        metrics = {"runs": [*_lines(text)]} if path == RUNS else json.loads(text)
        if path == str(DESCRIPTION):
            metrics = metrics.get("privacy") if isinstance(metrics, dict) else None
        own, releases, runs = records_in(metrics), releases_in(metrics), known_in(metrics)
        unit = next((one.read.unit for one in own if one.read), ROW)
        return Told(*place, path, text, own, releases, runs, unit)
    except ValidationError:
        if looks_like_records(metrics):
            raise UserError(
                f"{path} of {short(place.commit)} tells of runs in a way that this version does "
                "not know, so ε of all runs is not known. It was written by a newer version: "
                "update to that."
            ) from None
    except ValueError:
        if is_kept_otherwise(text):
            raise UserError(
                f"{path} of {short(place.commit)} should be JSON, but Git keeps it encrypted or "
                "elsewhere, so ε of all runs is not known. Set that up in this clone, as by "
                "`git-crypt unlock` or `git lfs install`. If .gitattributes names it no more, name "
                "it in .git/info/attributes, such as: **/metrics/*.json* filter=lfs"
            ) from None
    return Told(*place, path, text)


def _lines(text: str) -> Iterator[Any]:
    """Yield what stands on each line, but for what a merge left between them."""
    for line in text.split("\n"):  # and not at whatever else Unicode takes for the end of a line
        try:
            yield json.loads(line)
        except ValueError:
            if is_kept_otherwise(line):
                raise
