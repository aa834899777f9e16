"""The network as arrays, and the files it travels in: safetensors and JSON, which run no code.

Written to the Array API standard, so that the same lines run in numpy, which starts in a tenth of
the time that PyTorch takes and at a few hundred rows is twice as fast, and on a GPU in PyTorch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace
from safetensors.numpy import load_file, save_file

from stages.files import read_json, write_json
from stages.tabular.schema import Schema

# Of numpy or of another library that follows the standard.
Array = Any

# Rows scored at once.
CHUNK_ROWS = 8_192


class Activation(NamedTuple):
    """What a layer's outputs pass through.

    Attributes:
        apply: from the library and the outputs.
        slope: the derivative, from what `apply` returned.
    """

    apply: Callable[[Any, Array], Array]
    slope: Callable[[Array], Array]


ACTIVATIONS = {
    "relu": Activation(lambda xp, z: xp.maximum(z, 0), lambda h: h > 0),
    "tanh": Activation(lambda xp, z: xp.tanh(z), lambda h: 1 - h * h),
}


@dataclass(frozen=True)
class Architecture:
    """The shape of the network: hidden layer widths ([] is a linear model) and activation."""

    features: int
    classes: int
    hidden_sizes: Sequence[int]
    activation: str


def count_weights(shape: Architecture) -> int:
    """Return the number of weights and biases."""
    sizes = [shape.features, *shape.hidden_sizes, shape.classes]
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))


@dataclass(frozen=True)
class Model:
    """A multilayer perceptron.

    Attributes:
        layers: weight (outputs, inputs) and bias (outputs,) of each layer, first to last.
        activation: name of what follows each layer but the last.
    """

    layers: Sequence[tuple[Array, Array]]
    activation: str

    def forward(self, features: Array) -> tuple[list[Array], Array]:
        """Return the input of each layer, (rows, inputs), and the logits (rows, classes).

        Every row passes by itself: nothing (no batch norm) lets one row see another, which
        per-example clipping relies on.
        """
        xp, activation = array_namespace(features), ACTIVATIONS[self.activation]
        inputs = [features]
        for weight, bias in self.layers[:-1]:
            inputs.append(activation.apply(xp, _linear(inputs[-1], weight, bias)))
        return inputs, _linear(inputs[-1], *self.layers[-1])


def _linear(h: Array, weight: Array, bias: Array) -> Array:
    z = h @ weight.T
    z += bias
    return z


def predict_probabilities(
    model: Model, features: npt.NDArray[np.float32]
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the class probabilities of `features` (rows, features), a chunk of rows at a time."""
    for start in range(0, len(features), CHUNK_ROWS):
        _, logits = model.forward(np.asarray(features[start : start + CHUNK_ROWS]))
        odds = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        yield odds / odds.sum(axis=1, keepdims=True)


def save_model(folder: Path, model: Model, schema: Schema, privacy: dict[str, Any]) -> None:
    """Write into `folder` all that scoring a new row needs: weights, shape, schema, guarantee."""
    folder.mkdir(exist_ok=True)
    tensors: dict[str, Array] = {}
    for number, (weight, bias) in enumerate(model.layers):
        tensors |= {f"layer{number}.weight": weight, f"layer{number}.bias": bias}
    save_file(tensors, folder / "weights.safetensors")
    content = {
        "features": schema.feature_names,
        "classes": schema.class_names,
        "hidden_sizes": [len(bias) for _, bias in model.layers[:-1]],
        "activation": model.activation,
        "privacy": privacy,
    }
    (folder / "schema.json").write_text(schema.to_json(), "utf-8")
    write_json(folder / "model.json", content)


def load_model(folder: Path) -> tuple[Model, dict[str, Any]]:
    """Read the network, ready to score rows, and what `model.json` says of it."""
    content = read_json(folder / "model.json")
    tensors = load_file(folder / "weights.safetensors")
    layers = [
        (tensors[f"layer{number}.weight"], tensors[f"layer{number}.bias"])
        for number in range(len(content["hidden_sizes"]) + 1)
    ]
    return Model(layers, content["activation"]), content
