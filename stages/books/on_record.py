"""What commits, experiments, the workspace and DVC's cache tell of runs, and of whose rows."""

import json
from collections.abc import Container, Iterator
from typing import NamedTuple

from pydantic import ValidationError

from stages.books.people import UNKNOWN
from stages.books.records import Record, Table, looks_like_records, records_in, releases_in
from stages.cache import kept_outputs, kept_text
from stages.errors import UserError
from stages.privacy.events import from_json
from stages.privacy.history import Spend
from stages.versions import (
    HERE,
    WORKSPACE,
    Place,
    files_at,
    name_from,
    places_with,
)

# What tells of releases.
METRICS = ("metrics/train.json", "metrics/evaluate.json")

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
    """

    commit: str
    spend: Spend
    past: frozenset[str] = frozenset()


def on_record(known: Container[str | None]) -> Iterator[tuple[str, Found]]:
    """Yield every release on record that is not `known`, by its run."""
    trials: dict[str, str | None] = {}
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
        made_from = {str(one.run) for one in others}
        for one in own:
            if one.run is None or one.run in known:
                continue
            # Of a tuning one trial is left. Where more are, each has been shown.
            again = "" if one.trial == trials.setdefault(one.run, one.trial) else f", {one.trial}"
            past = frozenset(made_from - {one.run}) if one.run in made_from else frozenset()
            table = one.read or NOWHERE
            if one.read:
                table = table.model_copy(update={"data": name_from(told.folder, table.data)})
            yield f"{one.run}{again}", Found(told.commit, spend_of(one, table), past)
        for one in others:
            if one.run not in known and one.run not in {record.run for record in own}:
                yield str(one.run), Found(told.commit, spend_of(one, NOWHERE))


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
    changed = places_with(*METRICS)
    files = [(place, path) for place in (*changed, Place(WORKSPACE)) for path in METRICS]
    for (place, path), text in zip(files, files_at(files), strict=True):
        if text is None and path in changed.get(place, []):
            raise UserError(
                f"Git knows that {path} changed in {place.commit[:12]} but does not have it, so ε "
                "of earlier runs is not known. Bring what this clone lacks: git fetch --refetch"
            )
        yield Told(*place, path, text or "{}")


def _in_the_cache() -> Iterator[Told]:
    """Yield what only DVC remembers, as it gives runs back whose metrics nobody committed."""
    for path, digest in kept_outputs(*METRICS):
        if text := kept_text(digest):
            yield Told(RUN_CACHE, HERE, path, text)


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
