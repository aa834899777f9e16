"""The network, and the files it travels in: safetensors and JSON, so that loading runs no code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from stages.files import read_json, write_json
from stages.tabular.schema import Schema

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}

# Rows scored at once.
CHUNK_ROWS = 65_536


@dataclass(frozen=True)
class Architecture:
    """The shape of the network: hidden layer widths ([] is a linear model) and activation."""

    features: int
    classes: int
    hidden_sizes: Sequence[int]
    activation: str


def build_model(shape: Architecture, init_seed: int = 0) -> nn.Sequential:
    """Return a network from (rows, features) in [-1, 1] to (rows, classes) logits.

    Every layer acts on each row by itself: nothing (no batch norm) lets one row see another, which
    per-example clipping relies on. `init_seed` is public: the initial weights depend on no data.
    """
    sizes = [shape.features, *shape.hidden_sizes, shape.classes]
    layers: list[nn.Module] = []
    with torch.random.fork_rng():
        torch.manual_seed(init_seed)
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), ACTIVATIONS[shape.activation]()]
    return nn.Sequential(*layers[:-1])


def save_model(
    folder: Path, model: nn.Module, shape: Architecture, schema: Schema, privacy: dict[str, Any]
) -> None:
    """Write into `folder` all that scoring a new row needs: weights, shape, schema, guarantee."""
    folder.mkdir(exist_ok=True)
    save_file(model.state_dict(), folder / "weights.safetensors")
    content = {
        "features": schema.feature_names,
        "classes": schema.class_names,
        "hidden_sizes": list(shape.hidden_sizes),
        "activation": shape.activation,
        "privacy": privacy,
    }
    (folder / "schema.json").write_text(schema.to_json(), "utf-8")
    write_json(folder / "model.json", content)


def load_model(folder: Path) -> tuple[nn.Sequential, dict[str, Any]]:
    """Read the network, ready to score rows, and what `model.json` says of it."""
    content = read_json(folder / "model.json")
    shape = Architecture(
        features=len(content["features"]),
        classes=len(content["classes"]),
        hidden_sizes=content["hidden_sizes"],
        activation=content["activation"],
    )
    model = build_model(shape)
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    return model.eval(), content


@torch.no_grad()
def predict_probabilities(
    model: nn.Module, features: npt.NDArray[np.float32]
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the class probabilities of `features` (rows, features), a chunk of rows at a time."""
    for start in range(0, len(features), CHUNK_ROWS):
        logits = model(torch.from_numpy(np.array(features[start : start + CHUNK_ROWS])))
        yield logits.double().softmax(dim=1).numpy()
