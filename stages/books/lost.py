"""Runs of which a commit's dvc.lock tells and nothing else here: nobody can say what they cost.

As where an earlier version staged dvc.lock alone, or somebody adds nothing else to a commit.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stages.books.names import name_from, names_of
from stages.books.on_record import reads_prepared
from stages.books.people import UNKNOWN
from stages.books.told import DESCRIPTION, METRICS, hash_of, metrics_anywhere
from stages.cache import kept_part
from stages.errors import UserError
from stages.model.files import CLASSIFIER
from stages.privacy.history import Spend
from stages.versions.files import Place, short
from stages.versions.locks import files_of, locked, locks_in_commits, parameters_in

Stages = Mapping[str, Any]


class Lost(NamedTuple):
    """Where a lost run is told of, and by which name and hash of its content the table it read.

    Where the lock does not say, the name is UNKNOWN, and it counts for everybody.
    """

    commit: str
    data: str
    fingerprint: str


def lost_runs(noted: Collection[str]) -> list[Lost]:
    """Return the runs that are named by a dvc.lock alone.

    Neither their metrics are here nor, of a training, the model; and no ledger has noted these.

    Args:
        noted: hashes of metrics whose runs a ledger has.
    """
    known = {hash_of(text) for text in metrics_anywhere()} | {*noted}
    lost = dict[str, Lost]()
    for place, hashes in locks_in_commits():
        named = {name: hashes[name] for name in METRICS if hashes.get(name) not in {None, *known}}
        if not named:  # so nothing more of it need be read
            continue
        stages = _stages(place)
        is_told = kept_part(hashes.get(str(CLASSIFIER), ""), DESCRIPTION.name) is not None
        for name, digest in named.items():
            if _spends(stages, name) and not (is_told and name == METRICS[0]):
                lost.setdefault(digest, Lost(short(place.commit), *_table(stages, name, place)))
    return [*dict.fromkeys(lost.values())]


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
        f"dvc.lock of {', '.join(dict.fromkeys(one.commit for one in about))} is of a run whose "
        "metrics are not here, so that its ε is not in the ledger, whose total is too low. Where "
        "it was made: git add . && git commit; or of a training, whose model tells of it: dvc push "
        "--all-commits. Here: git pull && dvc fetch --all-commits"
    )
