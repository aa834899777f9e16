"""Runs of which a commit has dvc.lock or plots, and nothing here tells what they cost.

As where somebody commits plots for slides, or with dvc.lock alone what an earlier version staged.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stages.books.names import name_from, names_of
from stages.books.on_record import reads_prepared
from stages.books.people import UNKNOWN
from stages.books.told import DESCRIPTION, METRICS, hash_of, metrics_anywhere, tables_in_commits
from stages.cache import kept_part
from stages.errors import UserError
from stages.model.files import CLASSIFIER
from stages.privacy.history import Spend
from stages.versions.files import Place, file_at, short
from stages.versions.locks import files_of, hashes_in, locked, locks_in_commits, parameters_in

Stages = Mapping[str, Any]
Locks = Collection[tuple[Place, dict[str, str]]]


class Lost(NamedTuple):
    """Where a lost run is told of, and by which name and hash of its content the table it read.

    Where no lock says so, the name is UNKNOWN, and it counts for everybody.
    """

    commit: str
    data: str
    fingerprint: str


def lost_runs(noted: Collection[str]) -> list[Lost]:
    """Return the runs that are named by a dvc.lock alone, or of which there are plots alone.

    Neither their metrics are here nor, of a training, the model; and no ledger has noted these.

    Args:
        noted: hashes of metrics, and of tables beside them, whose runs a ledger has.
    """
    known = {hash_of(text) for text in metrics_anywhere()} | {*noted}
    locks = [*locks_in_commits()]
    named = {digest for _, hashes in locks for digest in hashes.values()}
    return [*dict.fromkeys((*_named_alone(locks, known), *_drawn_alone(named | known)))]


def _named_alone(locks: Locks, known: Collection[str]) -> Iterator[Lost]:
    """Yield the runs whose metrics are not known, and which a lock names."""
    lost = dict[str, Lost]()
    for place, hashes in locks:
        named = {name: hashes[name] for name in METRICS if hashes.get(name) not in {None, *known}}
        if not named:  # so nothing more of it need be read
            continue
        stages = _stages(place)
        is_told = kept_part(hashes.get(str(CLASSIFIER), ""), DESCRIPTION.name) is not None
        for name, digest in named.items():
            if _spends(stages, name) and not (is_told and name == METRICS[0]):
                lost.setdefault(digest, Lost(short(place.commit), *_table(stages, name, place)))
    yield from lost.values()


def _drawn_alone(known: Collection[str]) -> Iterator[Lost]:
    """Yield the runs of this pipeline whose tables in plots/ are not known, and no lock names."""
    lost = dict[str, Lost]()
    for place, path, digest in tables_in_commits():
        if digest not in known and path in dict(hashes_in(_lock(place))):
            lost.setdefault(digest, Lost(short(place.commit), UNKNOWN, UNKNOWN))
    yield from lost.values()


def _lock(place: Place) -> str:
    return file_at(place.commit, "dvc.lock", place.folder) or ""


def _stages(place: Place) -> Stages:
    try:
        return locked(*place)
    except UserError:  # a merge was committed as it stood; its sides have commits of their own
        return {}


def _spends(stages: Stages, name: str) -> bool:
    """Whether metrics are of a stage of this pipeline that drew noise which counts."""
    stage = stages.get(Path(name).stem, {})
    ran = parameters_in(stage)
    free = ran.get("exact_metrics") or ran.get("simulation_seed") is not None
    return "-m stages." in str(stage.get("cmd")) and "preprocess" in stages and not free


def _table(stages: Stages, name: str, place: Place) -> tuple[str, str]:
    """Return name and hash of the table that a stage read.

    UNKNOWN where another is prepared by now, where a run continued another, of other people, and
    where what is measured was trained on others than it is measured on.
    """
    stage, preprocess, train = (
        stages[Path(name).stem],
        stages["preprocess"],
        stages.get("train", {}),
    )
    is_of_one_table = all(reads_prepared(one, preprocess) for one in (stage, train))
    if not is_of_one_table or parameters_in(train).get("mode") == "continue":
        return UNKNOWN, UNKNOWN
    data = str(parameters_in(preprocess).get("data"))
    return name_from(place.folder, data), files_of(preprocess, "deps").get(data, UNKNOWN)


def why_unsure(lost: Collection[Lost], spends: Collection[Spend]) -> str | None:
    """Return which runs about the people of `spends` are lost, and what to do; None if none is."""
    names = {UNKNOWN}.union(*(names_of(spend.data) for spend in spends))
    contents = {spend.fingerprint for spend in spends}
    about = [one for one in lost if names_of(one.data) & names or one.fingerprint in contents]
    if not about:
        return None
    return (
        f"{', '.join(dict.fromkeys(one.commit for one in about))} has dvc.lock or plots of a run "
        "whose metrics are not here, so that its ε is not in the ledger, whose total is too low. "
        "Where it was made: git add . && git commit; or of a training, whose model tells of it: "
        "dvc push --all-commits. Here: git pull && dvc fetch --all-commits"
    )
