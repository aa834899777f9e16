"""The network as arrays, and the files it travels in: safetensors and JSON, which run no code.

`sha256sums` tells a damaged or swapped file from the one that training wrote (`sha256sum --check
sha256sums` does the same); it is no signature, so whoever can replace all files can still deceive.

Written to the Array API standard, so that the same lines run in numpy, which starts in a tenth of
the time that PyTorch takes and at a few hundred rows is twice as fast, and on a GPU in PyTorch.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydantic
from array_api_compat import array_namespace
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from stages.errors import UserError
from stages.files import write_json
from stages.tabular.schema import Schema

# Of numpy or of another library that follows the standard.
Array = Any

# Rows scored at once. Always as many: how a product is summed up depends on its size, and a row's
# logits have to be the same bits whatever rows are scored with it.
CHUNK_ROWS = 1_024

CONTENTS = ("model.json", "schema.json", "weights.safetensors")
SUMS = "sha256sums"


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


def count_weights(widths: Sequence[int]) -> int:
    """Return the number of weights and biases of a network from its features to its classes."""
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))


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


def predict_logits(
    model: Model, features: npt.NDArray[np.float32]
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the logits of `features` (rows, features), a chunk of rows at a time.

    A row's logits depend on no other row, to the bit.
    """
    block = np.zeros((CHUNK_ROWS, features.shape[1]), dtype=np.float32)
    for start in range(0, len(features), CHUNK_ROWS):
        rows = features[start : start + CHUNK_ROWS]
        block[: len(rows)] = rows
        _, logits = model.forward(block)
        yield logits[: len(rows)]


def predict_probabilities(
    model: Model, features: npt.NDArray[np.float32]
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the class probabilities of `features` (rows, features), a chunk of rows at a time."""
    for logits in predict_logits(model, features):
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
    (folder / SUMS).write_text(_sums(folder), "utf-8")


def load_model(folder: Path) -> tuple[Model, dict[str, Any]]:
    """Read the network, ready to score rows, and what `model.json` says of it.

    Raises:
        UserError: a file is missing, foreign or not as training wrote it, or the weights are not
            those of the network that `model.json` describes.
    """
    _refuse_other_files(folder)
    content = _description(folder)
    try:
        tensors = load_file(folder / "weights.safetensors")
    except (SafetensorError, TypeError, AttributeError) as error:  # the latter: types numpy lacks
        raise UserError(
            f"{folder}/weights.safetensors: expected weights in the safetensors format, but: "
            f"{error}. {_GET_ANOTHER}"
        ) from None
    _refuse_other_tensors(folder, tensors, content)
    layers = [
        (tensors[f"layer{number}.weight"], tensors[f"layer{number}.bias"])
        for number in range(len(content["hidden_sizes"]) + 1)
    ]
    return Model(layers, content["activation"]), content


_GET_ANOTHER = "Use another copy of the model; `dvc checkout` brings the pipeline's own back."


class _Description(pydantic.BaseModel):
    """What `model.json` has to hold."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    features: list[str]
    classes: list[str]
    hidden_sizes: list[pydantic.PositiveInt]
    activation: str
    privacy: dict[str, Any]


def _description(folder: Path) -> dict[str, Any]:
    """Read `model.json` and hold it against the schema beside it."""
    try:
        told = _Description.model_validate_json((folder / "model.json").read_bytes())
    except (pydantic.ValidationError, RecursionError) as error:
        raise UserError(
            f"{folder}/model.json: expected a model's description, but: {error}. {_GET_ANOTHER}"
        ) from None
    schema = Schema.load(folder / "schema.json")
    if (told.features, told.classes) != (schema.feature_names, schema.class_names):
        raise UserError(
            f"{folder}: model.json and schema.json are not of one model: their columns or classes "
            f"differ. {_GET_ANOTHER}"
        )
    if told.activation not in ACTIVATIONS:
        raise UserError(
            f"{folder}/model.json: expected `activation` to be one of {', '.join(ACTIVATIONS)}, "
            f"but it is {told.activation!r}. {_GET_ANOTHER}"
        )
    return told.model_dump()


def _sums(folder: Path) -> str:
    """The checksums of a model's files, in the format of the command sha256sum."""
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in CONTENTS}
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items())


def _refuse_other_files(folder: Path) -> None:
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if missing := sorted(name for name in (*CONTENTS, SUMS) if not (folder / name).is_file()):
        raise UserError(
            f"{folder}: expected a trained model, but there is no {', '.join(missing)}. Make one "
            "with: dvc repro"
        )
    if foreign := sorted(found - {*CONTENTS, SUMS}):
        raise UserError(
            f"{folder}: expected a model's four files and nothing else, but found "
            f"{', '.join(foreign)}. {_GET_ANOTHER}"
        )
    if (folder / SUMS).read_bytes() != _sums(folder).encode():
        raise UserError(
            f"{folder}: the files are not those that training wrote: their checksums differ from "
            f"{SUMS}. {_GET_ANOTHER}"
        )


def _refuse_other_tensors(
    folder: Path, tensors: Mapping[str, Array], content: Mapping[str, Any]
) -> None:
    sizes = [len(content["features"]), *content["hidden_sizes"], len(content["classes"])]
    expected: dict[str, tuple[int, ...]] = {}
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        expected |= {f"layer{number}.weight": (outputs, inputs), f"layer{number}.bias": (outputs,)}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected:
        raise UserError(
            f"{folder}/weights.safetensors: expected the tensors {expected}, but found {found}. "
            f"{_GET_ANOTHER}"
        )
    if not all(t.dtype == np.float32 and np.isfinite(t).all() for t in tensors.values()):
        raise UserError(
            f"{folder}/weights.safetensors: expected finite float32 numbers. {_GET_ANOTHER}"
        )
