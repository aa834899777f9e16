"""The network in PyTorch, whose layers and initial weights training starts from."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from stages.model.inputs import Array, Pieces
from stages.model.perceptron import Architecture, Model

ACTIVATION_LAYERS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


class Inputs(nn.Module):
    """The first layer: a public map, which has no weights."""

    def __init__(self, pieces: Pieces):
        super().__init__()
        self.pieces = pieces

    def forward(self, features: Tensor) -> Tensor:
        inputs: Tensor = self.pieces.apply(features)
        return inputs


def build_network(shape: Architecture, init_seed: int = 0) -> nn.Sequential:
    """Return a network from (rows, features) in [-1, 1] to (rows, classes) logits.

    `init_seed` is public: the initial weights depend on no data.
    """
    layers: list[nn.Module] = [Inputs(shape.inputs)]
    with torch.random.fork_rng():
        torch.manual_seed(init_seed)
        for inputs, outputs in pairwise(shape.widths):
            layers += [nn.Linear(inputs, outputs), ACTIVATION_LAYERS[shape.activation]()]
    return nn.Sequential(*layers[:-1])


def as_arrays(perceptron: nn.Sequential) -> Model:
    """Return a perceptron's weights as arrays that change with it, on a CPU numpy's."""
    layers: list[Any] = list(perceptron)
    inputs = layers.pop(0)
    between = {type(layer) for layer in layers[1::2]}
    activation = next(name for name, kind in ACTIVATION_LAYERS.items() if between <= {kind})
    weights = [(as_array(layer.weight), as_array(layer.bias)) for layer in layers[::2]]
    return Model(weights, activation, inputs.pieces)


def as_array(tensor: Tensor) -> Array:
    """Return a tensor as numpy's view on it if it is in the computer's memory, as it is if not."""
    return tensor.detach().numpy() if tensor.device.type == "cpu" else tensor.detach()
