"""The files a model travels in: safetensors and JSON, which run no code.

`sha256sums` tells a damaged or swapped file from the one that training wrote (`sha256sum --check
sha256sums` does the same); it is no signature, so whoever can replace all files can still deceive.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pydantic
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from stages.errors import UserError
from stages.explain import mistakes
from stages.files import write_json, write_text
from stages.model.inputs import AS_THEY_ARE, Array, Pieces
from stages.model.perceptron import Model

# Where the pipeline keeps its own.
CLASSIFIER = Path("models/classifier")

CONTENTS = ("model.json", "schema.json", "weights.safetensors")
SUMS = "sha256sums"


def save_model(
    folder: Path,
    model: Model,
    *,
    features: Sequence[str],
    classes: Sequence[str],
    schema_text: str,
    privacy: Mapping[str, Any],
) -> None:
    """Write into `folder`, which is made, all that scoring a new row needs.

    Args:
        folder: the model's.
        model: the network.
        features: names of its input columns.
        classes: names of its classes.
        schema_text: how a row is encoded, as JSON.
        privacy: the guarantee.
    """
    folder.mkdir(exist_ok=True)
    tensors: dict[str, Array] = {}
    for number, (weight, bias) in enumerate(model.layers):
        tensors |= {f"layer{number}.weight": weight, f"layer{number}.bias": bias}
    (folder / "weights.safetensors").write_bytes(save(tensors))
    content = {
        "features": list(features),
        "classes": list(classes),
        "hidden_sizes": [len(bias) for _, bias in model.layers[:-1]],
        "activation": model.activation,
        "pieces": asdict(model.inputs),
        "privacy": privacy,
    }
    write_text(folder / "schema.json", schema_text)
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
            f"{error}. {GET_ANOTHER}"
        ) from None
    _refuse_other_tensors(folder, tensors, content)
    layers = [
        (tensors[f"layer{number}.weight"], tensors[f"layer{number}.bias"])
        for number in range(len(content["hidden_sizes"]) + 1)
    ]
    return Model(layers, content["activation"], content["pieces"]), content


GET_ANOTHER = "Use another copy of the model; `dvc checkout` brings the pipeline's own back."


class _Description(pydantic.BaseModel):
    """What `model.json` has to hold."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    features: list[str]
    classes: list[str]
    hidden_sizes: list[pydantic.PositiveInt]
    activation: Literal["relu", "tanh"]
    pieces: Pieces = AS_THEY_ARE  # of a model from before there were any: none
    privacy: dict[str, Any]

    @pydantic.model_validator(mode="after")
    def _numbers_are_features(self) -> Self:
        if self.pieces.count < 0 or not set(self.pieces.numbers) <= set(range(len(self.features))):
            raise ValueError(f"`pieces` should name some of {len(self.features)} features")
        return self


def _description(folder: Path) -> dict[str, Any]:
    try:
        told = _Description.model_validate_json((folder / "model.json").read_bytes())
    except pydantic.ValidationError as error:
        wrong = "; ".join(map(str, mistakes(error, _Description)))
        raise UserError(
            f"{folder}/model.json: expected a model's description, but: {wrong}. {GET_ANOTHER}"
        ) from None
    return dict(told)


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
            f"{', '.join(foreign)}. {GET_ANOTHER}"
        )
    if (folder / SUMS).read_bytes() != _sums(folder).encode():
        raise UserError(
            f"{folder}: the files are not those that training wrote: their checksums differ from "
            f"{SUMS}. {GET_ANOTHER}"
        )


def _refuse_other_tensors(
    folder: Path, tensors: Mapping[str, Array], content: Mapping[str, Any]
) -> None:
    inputs = content["pieces"].width(len(content["features"]))
    sizes = [inputs, *content["hidden_sizes"], len(content["classes"])]
    expected: dict[str, tuple[int, ...]] = {}
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        expected |= {f"layer{number}.weight": (outputs, inputs), f"layer{number}.bias": (outputs,)}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    finite = all(t.dtype == np.float32 and np.isfinite(t).all() for t in tensors.values())
    if found != expected or not finite:
        raise UserError(
            f"{folder}/weights.safetensors: expected finite float32 numbers in tensors {expected}, "
            f"but found other numbers or tensors: {found}. {GET_ANOTHER}"
        )
