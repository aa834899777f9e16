"""Runs of which a dvc.lock tells and nothing else here does: nobody can say what they cost.

`dvc repro` stages dvc.lock alone, and `git commit` takes what is staged.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from stages.books.told import DESCRIPTION, METRICS, hash_of, metrics_anywhere
from stages.cache import kept_part
from stages.model.files import CLASSIFIER
from stages.versions.files import short
from stages.versions.locks import locked, locks_anywhere, parameters_in

TRAIN, EVALUATE = METRICS

# What an evaluation leaves behind as its name, see `Booking.name`.
EVALUATIONS = "models/evaluations.txt"

Hashes = Mapping[str, str]
Stages = Mapping[str, Any]


def lost_runs(known: Collection[str]) -> list[str]:
    """Return the commits whose dvc.lock is of a run that is neither known nor on record here.

    Args:
        known: ids of the ledger's runs.
    """
    told = {hash_of(text) for text in metrics_anywhere()}
    locks = [*locks_anywhere()]
    measured = defaultdict[str, set[str]](set)
    for _, hashes in locks:
        measured[hashes.get(EVALUATE, "")].add(hashes.get(TRAIN, ""))
    lost = dict[str, str]()
    for place, hashes in locks:
        untold = [name for name in METRICS if name in hashes and hashes[name] not in told]
        stages = locked(*place) if untold else {}
        alone = len(measured[hashes.get(EVALUATE, "")]) == 1
        for name in untold:
            of_evaluation = name == EVALUATE and _names_evaluation(stages, hashes, known)
            of_training = name == TRAIN and _names_training(stages, hashes, known, alone)
            if _spends(stages, name) and not (of_evaluation or of_training):
                lost.setdefault(hashes[name], short(place.commit))
    return [*dict.fromkeys(lost.values())]


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
    name = hashes.get(EVALUATIONS)
    if name == hash_of("1\n"):  # the first of what it measured
        return any(run.startswith(_measured(stages)) and "-" in run for run in known)
    times = range(2, len(known) + 2)
    return any(name == hash_of(f"{number} {run}\n") for run in known for number in times)


def _measured(stages: Stages) -> str:
    """Return how the id of the run begins that was measured, or what none begins with."""
    of = stages.get("evaluate", {}).get("params", {}).get(TRAIN, {})
    return str(next(iter(of.get("run", [])), "not told"))
