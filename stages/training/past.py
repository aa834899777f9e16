"""The run that a run continues: found, checked, and recorded. A new run's past is empty."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stages.books.rebuild import open_ledger
from stages.books.records import Record, epsilon_of, seen_by
from stages.errors import UserError
from stages.params import Params
from stages.privacy.events import Event, Steps
from stages.tabular.prepared import Prepared
from stages.training.checkpoint import NOTHING, Checkpoint
from stages.training.dp_sgd import PrivateTraining
from stages.training.result import ParentRun
from stages.versions.commits import resolve
from stages.versions.locks import dependency_hashes, fetch_output, output_hash

CHECKPOINT = Path("models/checkpoint")


@dataclass(frozen=True)
class Past:
    """Everything that happened before a run, of which its weights know.

    Attributes:
        checkpoint: where the run before ended.
        commit: full id of the commit or experiment that it is kept in.
        checkpoint_hash: under which DVC knows its checkpoint.
        data_changed: whether the private table is another one now.
        deal: number, in the history of releases, of the table and split as they are now; None if
            nothing before has read them.
    """

    checkpoint: Checkpoint = NOTHING
    commit: str | None = None
    checkpoint_hash: str | None = None
    data_changed: bool = False
    deal: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there was no run before."""
        return not self.checkpoint.tensors

    @property
    def run(self) -> str | None:
        """The run before, by its id in the ledger."""
        return self.checkpoint.run

    @property
    def history(self) -> Sequence[Steps]:
        """Every step that the weights have seen, oldest first."""
        return self.checkpoint.history

    @property
    def releases(self) -> Sequence[Record]:
        """Everything that the weights were made from, of either side."""
        return self.checkpoint.releases

    @property
    def events(self) -> list[Event]:
        """What whoever is trained on may have been in: steps, or the best of many runs of them."""
        return seen_by("train", self.releases, self.deal) or [*self.history]

    @property
    def network(self) -> tuple[str, int]:
        """Activation and pieces of the network."""
        about = self.checkpoint.about
        return about["activation"], about.get("pieces", 0)

    @property
    def table_changed(self) -> bool:
        """Whether the table changed somewhere between the runs that led here."""
        return self.data_changed or bool(self.checkpoint.about.get("table_changed"))

    @property
    def parent(self) -> ParentRun | None:
        """What is told of the run before."""
        if self.is_empty:
            return None
        return ParentRun(
            commit=self.commit,
            checkpoint=self.checkpoint_hash,
            data_changed=self.data_changed,
            table_changed=self.table_changed,
        )

    @torch.no_grad()
    def restore_into(self, training: PrivateTraining) -> None:
        """Put a run that has not started where the past ended."""
        if self.is_empty:
            return
        tensors = self.checkpoint.tensors
        learner = training.learner
        learner.weights.copy_(tensors["weights"])
        learner.average_weights.copy_(tensors["average"])
        if learner.settings.momentum:  # else nobody would move it on
            momentum = tensors["momentum"].to(learner.weights.device, copy=True)
            learner.optimizer.state[learner.weights]["momentum_buffer"] = momentum
        learner.updates = sum(run.steps for run in self.history)
        training.past_epochs = len(self.checkpoint.epochs)


def lineage(params: Params, table: Prepared) -> dict[str, Any]:
    """Return what has to be the same in a run that continues; None goes with anything."""
    return {
        "architecture": layer_widths(params, table),
        "activation": params.activation,
        "pieces": params.pieces,
        "schema": table.schema_text,
        "split": table.source.split,
        "simulated": params.simulation_seed is not None,
    }


NO_PAST = Past()


def layer_widths(params: Params, table: Prepared) -> list[int]:
    """Return the widths of the layers, from the features, not in pieces, to the classes."""
    return [len(table.features), *params.hidden_sizes, len(table.classes)]


def load_past(params: Params, table: Prepared) -> Past:
    """Return the run that `continue_from` names, or an empty past where nothing is continued.

    Raises:
        UserError: the name moves or means nothing, the run has no checkpoint at hand, or it cannot
            be continued: it had another architecture, schema or split, or it was a simulation.
    """
    name = params.continue_from
    if params.mode == "new" or name is None:
        return NO_PAST
    commit = resolve(name)
    checkpoint_hash = output_hash(commit, str(CHECKPOINT))
    if checkpoint_hash is None:
        raise UserError(
            f"params.yaml: `continue_from`: {name} has no checkpoint in its dvc.lock: no training "
            "run was committed there. `dvc exp show` lists the runs that were kept."
        )
    with tempfile.TemporaryDirectory() as folder:
        fetch_output(commit, str(CHECKPOINT), Path(folder) / "checkpoint")
        checkpoint = Checkpoint.load(Path(folder) / "checkpoint")
    _refuse_another_kind(name, checkpoint.about, lineage(params, table))
    if checkpoint.run is not None and not checkpoint.releases:
        raise UserError(
            f"params.yaml: `continue_from`: {name} was made by an older version of this pipeline "
            "and does not say what it was made from. Start a new run."
        )
    past = past_of(checkpoint, commit, checkpoint_hash, table)
    _refuse_spent(past, params)
    return past


def past_of(checkpoint: Checkpoint, commit: str, checkpoint_hash: str, table: Prepared) -> Past:
    """Return the past that a checkpoint of a commit is for a run on `table`."""
    changed, deal = _has_changed(checkpoint, commit, table), _deal_of(checkpoint.releases, table)
    return Past(checkpoint, commit, checkpoint_hash, changed, deal)


def _has_changed(checkpoint: Checkpoint, commit: str, table: Prepared) -> bool:
    """Whether the table is another one than the run read.

    Its hash stays in the ledger and in dvc.lock: a checkpoint that named it would tell more than ε
    allows.
    """
    entries = {} if checkpoint.run is None else {e.run: e for e in open_ledger().entries()}
    if checkpoint.run in entries:
        return entries[checkpoint.run].spend.fingerprint != table.source.fingerprint
    return table.source.fingerprint not in dependency_hashes(commit, "preprocess")


def _deal_of(releases: Sequence[Record], table: Prepared) -> int | None:
    read = {entry.run: entry.spend for entry in open_ledger().entries()}
    now = table.source.split, table.source.fingerprint
    deals = (
        one.spend.deal
        for one in releases
        if one.run in read and (read[one.run].split, read[one.run].fingerprint) == now
    )
    return next(deals, None)


def _refuse_spent(past: Past, params: Params) -> None:
    spent = epsilon_of(past.releases, params.target_delta, side="test")
    if spent > params.target_epsilon:
        raise UserError(
            f"params.yaml: `target_epsilon` is {params.target_epsilon:g}, and the run to continue "
            f"from was chosen by test figures of ε = {spent:.3f}. Raise `target_epsilon`."
        )


def _refuse_another_kind(name: str, parent: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if parent["simulated"] and not now["simulated"]:
        raise UserError(
            f"params.yaml: `continue_from`: {name} was a simulation (`simulation_seed` was set), "
            "so its weights have no guarantee to build on. Continue from another run."
        )
    for what, mend in (
        ("architecture", "`hidden_sizes`"),
        ("activation", "`activation`"),
        ("pieces", "`pieces`"),
        ("schema", "the schema file"),
        ("split", "`test_fraction` and `split_seed`"),
    ):
        before = parent.get(what, 0)  # of old runs, which had no pieces
        if now[what] is not None and before != now[what]:
            raise UserError(
                f"params.yaml: `continue_from`: {name} was trained with another {what}. Set {mend} "
                f"back to what it was ({before!r}), or start a new run."
            )
