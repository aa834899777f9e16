"""The network in PyTorch, whose layers and initial weights training starts from."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from stages.model.perceptron import Architecture, Array, Model

ACTIVATION_LAYERS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def build_network(shape: Architecture, init_seed: int = 0) -> nn.Sequential:
    """Return a network from (rows, features) in [-1, 1] to (rows, classes) logits.

    `init_seed` is public: the initial weights depend on no data.
    """
    sizes = [shape.features, *shape.hidden_sizes, shape.classes]
    layers: list[nn.Module] = []
    with torch.random.fork_rng():
        torch.manual_seed(init_seed)
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), ACTIVATION_LAYERS[shape.activation]()]
    return nn.Sequential(*layers[:-1])


def as_arrays(perceptron: nn.Sequential) -> Model:
    """Return a perceptron's weights as arrays that change with it, on a CPU numpy's."""
    layers: list[Any] = list(perceptron)
    between = {type(layer) for layer in layers[1::2]}
    activation = next(name for name, kind in ACTIVATION_LAYERS.items() if between <= {kind})
    weights = [(as_array(layer.weight), as_array(layer.bias)) for layer in layers[::2]]
    return Model(weights, activation)


def as_array(tensor: Tensor) -> Array:
    """Return a tensor as numpy's view on it if it is in the computer's memory, as it is if not."""
    return tensor.detach().numpy() if tensor.device.type == "cpu" else tensor.detach()
