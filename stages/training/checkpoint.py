"""A training run on disk, so that another can continue it. Loading never executes code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from stages.books.records import Record
from stages.files import read_json, write_json
from stages.privacy.events import Steps, from_json, to_json
from stages.training.curves import NOTHING_SHARED
from stages.training.dp_sgd import PrivateTraining


@dataclass(frozen=True)
class Checkpoint:
    """Everything that continuing needs to know of a run.

    Attributes:
        history: every step that the weights have ever seen, oldest first.
        epochs: the released rows of the per-epoch table.
        about: what has to be the same in the run that continues (architecture, schema, split),
            whether it was a simulation, and whether the table changed on the way to it.
        tensors: `weights`, `momentum` and `average` (of the weights), each a vector.
        run: id of the run in the privacy ledger; None for a simulation.
        releases: everything that the weights were made from, of either side.
    """

    run: str | None
    history: Sequence[Steps]
    epochs: Sequence[Mapping[str, float]]
    about: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    releases: Sequence[Record] = ()

    def save(self, folder: Path) -> None:
        """Write the checkpoint into `folder`."""
        (folder / "state.safetensors").write_bytes(save(dict(self.tensors)))
        content = {
            "run": self.run,
            "history": to_json(self.history),
            "epochs": list(self.epochs),
            "about": dict(self.about),
            "releases": [record.model_dump(mode="json") for record in self.releases],
        }
        write_json(folder / "history.json", content)

    @classmethod
    def load(cls, folder: Path) -> "Checkpoint":
        """Read the checkpoint that `save` wrote."""
        content = read_json(folder / "history.json")
        return cls(
            run=content["run"],
            history=[event for event in from_json(content["history"]) if isinstance(event, Steps)],
            epochs=[NOTHING_SHARED | epoch for epoch in content["epochs"]],
            about=content["about"],
            tensors=load_file(folder / "state.safetensors"),
            releases=[Record.model_validate(record) for record in content.get("releases", [])],
        )


def state_of(training: PrivateTraining) -> dict[str, Tensor]:
    """Return weights, momentum and averaged weights of a run, each one vector."""
    weights = training.learner.weights
    # There is none at momentum 0.
    buffer = training.learner.optimizer.state[weights].get("momentum_buffer")
    return {
        "weights": weights.detach(),
        "momentum": torch.zeros_like(weights) if buffer is None else buffer,
        "average": training.learner.average_weights.detach(),
    }


NOTHING = Checkpoint(run=None, history=(), epochs=(), about={}, tensors={})
