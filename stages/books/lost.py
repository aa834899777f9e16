"""Runs of which a commit's dvc.lock tells and nothing else here: nobody can say what they cost.

`dvc repro` stages dvc.lock alone, and `git commit` takes what is staged.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stages.books.names import name_from, names_of
from stages.books.people import UNKNOWN
from stages.books.told import DESCRIPTION, METRICS, hash_of, metrics_anywhere
from stages.cache import kept_part
from stages.model.files import CLASSIFIER
from stages.privacy.history import Spend
from stages.versions.files import short
from stages.versions.locks import locked, locks_in_commits, parameters_in

TRAIN, EVALUATE = METRICS

# Where an evaluation leaves its name, by which the plot stage knows that it is another one.
EVALUATIONS = "models/evaluations.txt"

Hashes = Mapping[str, str]
Stages = Mapping[str, Any]


def name_of(run: str, times: int) -> str:
    """Return the name of an evaluation, which was so many times that its model was measured."""
    return "1" if times == 1 else f"{times} {run}"


class Lost(NamedTuple):
    """Where a lost run is told of, and by which name and hash of its content the table it read."""

    commit: str
    data: str
    fingerprint: str


def lost_runs(known: Collection[str]) -> list[Lost]:
    """Return the runs of which a dvc.lock is that are neither known nor on record here.

    Args:
        known: ids of the ledger's runs.
    """
    told = {hash_of(text) for text in metrics_anywhere()}
    locks = [*locks_in_commits()]
    measured = defaultdict[str, set[str]](set)
    for _, hashes in locks:
        measured[hashes.get(EVALUATE, "")].add(hashes.get(TRAIN, ""))
    lost = dict[str, Lost]()
    for place, hashes in locks:
        untold = [name for name in METRICS if name in hashes and hashes[name] not in told]
        stages = locked(*place) if untold else {}
        alone = len(measured[hashes.get(EVALUATE, "")]) == 1
        for name in untold:
            of_evaluation = name == EVALUATE and _names_evaluation(stages, hashes, known)
            of_training = name == TRAIN and _names_training(stages, hashes, known, alone)
            if _spends(stages, name) and not (of_evaluation or of_training):
                data = str(parameters_in(stages.get("preprocess", {})).get("data", UNKNOWN))
                read = name_from(place.folder, data), hashes.get(data, UNKNOWN)
                lost.setdefault(hashes[name], Lost(short(place.commit), *read))
    return [*dict.fromkeys(lost.values())]


def why_unsure(lost: Collection[Lost], spends: Collection[Spend]) -> str | None:
    """Return which runs about the people of `spends` are lost, and what to do; None if none is."""
    names = {UNKNOWN}.union(*(names_of(spend.data) for spend in spends))
    contents = {spend.fingerprint for spend in spends}
    about = [one for one in lost if names_of(one.data) & names or one.fingerprint in contents]
    if not about:
        return None
    return (
        f"dvc.lock of {', '.join(dict.fromkeys(one.commit for one in about))} is of a run whose "
        "metrics are not here, so that its ε is not in the ledger, whose total is too low. Commit "
        "metrics/ where it was made, with: git add . && git commit; and pull that here"
    )


def _spends(stages: Stages, name: str) -> bool:
    """Whether the stage that made metrics is this pipeline's, and drew noise that counts."""
    stage = stages.get(Path(name).stem, {})
    ran = parameters_in(stage)
    free = ran.get("exact_metrics") or ran.get("simulation_seed") is not None
    return "stages." in str(stage.get("cmd")) and not free


def _names_training(stages: Stages, hashes: Hashes, known: Collection[str], alone: bool) -> bool:
    """Whether a training is told of by its model, or known by what was measured beside it.

    That is another one where no evaluation followed; then an older lock has the same evaluation.
    """
    if kept_part(hashes.get(str(CLASSIFIER), ""), DESCRIPTION.name):
        return True
    return alone and any(run.startswith(_measured(stages)) for run in known)


def _names_evaluation(stages: Stages, hashes: Hashes, known: Collection[str]) -> bool:
    """Whether an evaluation is known, by the hash of its name."""
    parts = (run for run in known if run.startswith(_measured(stages)) and "-" in run)
    names = (name_of(run, times) for run in parts for times in range(1, len(known) + 1))
    return hashes.get(EVALUATIONS) in {hash_of(f"{name}\n") for name in names}


def _measured(stages: Stages) -> str:
    """Return how the id of the run begins that was measured, or what none begins with."""
    of = stages.get("evaluate", {}).get("params", {}).get(TRAIN, {})
    return str(next(iter(of.get("run", [])), "not told"))
