"""Runs of which a commit's dvc.lock tells and nothing else here: nobody can say what they cost.

`dvc repro` stages dvc.lock alone, and `git commit` takes what is staged.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stages.books.names import name_from, names_of
from stages.books.people import Entry
from stages.books.told import DESCRIPTION, METRICS, Told, hash_of, metrics_anywhere
from stages.cache import kept_part
from stages.errors import UserError
from stages.model.files import CLASSIFIER
from stages.privacy.history import Spend
from stages.versions.files import Place, short
from stages.versions.locks import locked, locks_in_commits, parameters_in

TRAIN, EVALUATE = METRICS

# Where an evaluation leaves its name, by which the plot stage knows that it is another one.
EVALUATIONS = "models/evaluations.txt"

# The name of an evaluation that is the first of its model.
FIRST = "1"


def name_of(run: str, times: int) -> str:
    """Return the name of an evaluation, which was so many times that its model was measured."""
    return FIRST if times == 1 else f"{times} {run}"


class Lost(NamedTuple):
    """Where a lost run is told of, and by which name and hash of its content the table it read."""

    commit: str
    data: str
    fingerprint: str


class Lock(NamedTuple):
    """What a commit's dvc.lock says: hashes by path, and each stage."""

    place: Place
    hashes: Mapping[str, str]
    stages: Mapping[str, Any]

    @property
    def measured(self) -> str:
        """How the id of the run begins whose model was measured, or what none begins with."""
        of = self.stages.get("evaluate", {}).get("params", {}).get(TRAIN) or {}
        return str(next(iter(of.get("run") or []), "not told"))

    @property
    def data(self) -> str | None:
        """Which table was prepared, or None where it is another pipeline's lock."""
        return parameters_in(self.stages.get("preprocess", {})).get("data")

    def is_of(self, name: str) -> bool:
        """Whether its evaluation has this name."""
        return self.hashes.get(EVALUATIONS) == hash_of(f"{name}\n")

    def spends(self, name: str) -> bool:
        """Whether the metrics of this name are of a stage that drew noise which counts."""
        stage = self.stages.get(Path(name).stem, {})
        ran = parameters_in(stage)
        free = ran.get("exact_metrics") or ran.get("simulation_seed") is not None
        return self.data is not None and "-m stages." in str(stage.get("cmd")) and not free


def lost_runs(entries: Collection[Entry]) -> list[Lost]:
    """Return the runs of which a dvc.lock is that neither `entries` nor metrics here explain.

    Where metrics are not here the lock says whose they are: the name of an evaluation, or that of
    a run which was measured after its training, in this lock or a later one. Each name explains as
    many of them as the ledger has runs of this name whose metrics are not here either.
    """
    metrics = [*metrics_anywhere()]
    seen = {record.run for told in metrics for record in told.own}
    unseen = [one for one in entries if one.run not in seen and not one.is_part]
    locks = [*_locks_without(metrics)]
    lost = [*_trainings(locks, unseen), *_evaluations(locks, entries, unseen)]
    return [*dict.fromkeys(map(_table_of, lost))]


def _locks_without(metrics: Sequence[Told]) -> Iterator[Lock]:
    """Yield the locks, each with only those hashes of metrics that are not here, if any are not."""
    told = {hash_of(one.text) for one in metrics}
    for place, hashes in locks_in_commits():
        if {hashes[name] for name in METRICS if name in hashes} - told:
            rest = {path: one for path, one in hashes.items() if one not in told}
            yield Lock(place, rest, _stages(place))


def _stages(place: Place) -> Mapping[str, Any]:
    try:
        return locked(*place)
    except UserError:  # a merge was committed as it stood; its sides have commits of their own
        return {}


def _by_hash(locks: Sequence[Lock], name: str) -> Collection[list[Lock]]:
    """Return the locks that have metrics of this name, together where these are the same."""
    found = defaultdict[str, list[Lock]](list)
    for lock in locks:
        if name in lock.hashes and lock.spends(name):
            found[lock.hashes[name]].append(lock)
    return found.values()


def _trainings(locks: Sequence[Lock], unseen: Sequence[Entry]) -> Iterator[Lock]:
    """Yield a lock of each training that no model here tells of, and none of `unseen` is."""
    left = {one.run for one in unseen if one.spend.side == "train"}
    for same in _by_hash(locks, TRAIN):
        models = (lock.hashes.get(str(CLASSIFIER), "") for lock in same)
        measured = tuple(lock.measured for lock in same)
        own = next((run for run in left if run.startswith(measured)), None)
        left -= {own}
        if own is None and not any(kept_part(model, DESCRIPTION.name) for model in models):
            yield same[0]


def _evaluations(
    locks: Sequence[Lock], entries: Collection[Entry], unseen: Sequence[Entry]
) -> Iterator[Lock]:
    """Yield a lock of each evaluation that is none of `entries`, by the hash of its name."""
    evaluations = [lock for lock, *_ in _by_hash(locks, EVALUATE)]
    firsts = Counter(lock.measured for lock in evaluations if lock.is_of(FIRST))
    tests = [one for one in unseen if one.spend.side == "test"]
    for lock in evaluations:
        if lock.is_of(FIRST):
            known = sum(one.run.startswith(lock.measured) for one in tests)
            is_known = firsts[lock.measured] <= known
        else:
            times = range(2, len(entries) + 1)
            is_known = any(lock.is_of(name_of(one.run, n)) for one in entries for n in times)
        if not is_known:
            yield lock


def _table_of(lock: Lock) -> Lost:
    data = str(lock.data)
    return Lost(
        short(lock.place.commit), name_from(lock.place.folder, data), lock.hashes.get(data, "")
    )


def why_unsure(lost: Collection[Lost], spends: Collection[Spend]) -> str | None:
    """Return which runs about the people of `spends` are lost, and what to do; None if none is."""
    names = set[str]().union(*(names_of(spend.data) for spend in spends))
    contents = {spend.fingerprint for spend in spends}
    about = [one for one in lost if names_of(one.data) & names or one.fingerprint in contents]
    if not about:
        return None
    return (
        f"dvc.lock of {', '.join(dict.fromkeys(one.commit for one in about))} is of a run whose "
        "metrics are not here, so that its ε is not in the ledger, whose total is too low. Where "
        "it was made: git add . && git commit; or of a training, whose model tells of it: dvc push "
        "--all-commits. Here: git pull && dvc fetch --all-commits"
    )
