"""The run that a run continues from: found, checked, and recorded."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.errors import UserError
from stages.training.checkpoint import Checkpoint
from stages.versions import dependency_hashes, fetch_output, output_hash, resolve

CHECKPOINT = "models/checkpoint"


@dataclass(frozen=True)
class Parent:
    """An earlier run.

    Attributes:
        commit: full id of the commit or experiment it is kept in.
        checkpoint_hash: under which DVC knows its checkpoint.
        checkpoint: where it ended.
        data_changed: whether the private table is another one now.
    """

    commit: str
    checkpoint_hash: str
    checkpoint: Checkpoint
    data_changed: bool


def load_parent(name: str, about: Mapping[str, Any], fingerprint: str) -> Parent:
    """Return the run called `name`, which a run that is `about` this may continue.

    Args:
        name: commit, tag or experiment.
        about: what `Checkpoint.about` will be of the run that continues.
        fingerprint: hash of the private table as it is now.

    Raises:
        UserError: the name moves or means nothing, the run has no checkpoint at hand, or it cannot
            be continued: it had another architecture, schema or split, or it was a simulation.
    """
    commit = resolve(name)
    checkpoint_hash = output_hash(commit, CHECKPOINT)
    if checkpoint_hash is None:
        raise UserError(
            f"params.yaml: `continue_from`: {name} has no checkpoint in its dvc.lock: no training "
            "run was committed there. `dvc exp show` lists the runs that were kept."
        )
    with tempfile.TemporaryDirectory() as folder:
        fetch_output(commit, CHECKPOINT, Path(folder) / "checkpoint")
        checkpoint = Checkpoint.load(Path(folder) / "checkpoint")
    _refuse_another_kind(name, checkpoint.about, about)
    # The hash stays in dvc.lock: a checkpoint that named it would tell more than ε allows.
    data_changed = fingerprint not in dependency_hashes(commit, "preprocess")
    return Parent(commit, checkpoint_hash, checkpoint, data_changed)


def _refuse_another_kind(name: str, parent: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if parent["simulated"] and not now["simulated"]:
        raise UserError(
            f"params.yaml: `continue_from`: {name} was a simulation (`simulation_seed` was set), "
            "so its weights have no guarantee to build on. Continue from another run."
        )
    for what, mend in (
        ("architecture", "`hidden_sizes`"),
        ("activation", "`activation`"),
        ("schema", "the schema file"),
        ("split", "`test_fraction` and `split_seed`"),
    ):
        if now[what] is not None and parent[what] != now[what]:
            raise UserError(
                f"params.yaml: `continue_from`: {name} was trained with another {what}. Set {mend} "
                f"back to what it was ({parent[what]!r}), or start a new run."
            )
