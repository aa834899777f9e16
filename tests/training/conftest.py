"""What more than one privacy test needs."""

import numpy as np
import pytest

from stages.model.perceptron import Architecture
from stages.training.network import build_network


@pytest.fixture
def make_model():
    """Return a function that builds the pipeline's own network."""

    def make(features=6, classes=3, hidden_sizes=(8, 5), activation="relu"):
        return build_network(Architecture(features, classes, hidden_sizes, activation), init_seed=1)

    return make


@pytest.fixture
def make_table():
    """Return a function that makes random features in [-1, 1] and labels, as numpy arrays."""

    def make(rows, features=6, classes=3, seed=0):
        source = np.random.default_rng(seed)
        x = source.uniform(-1, 1, (rows, features)).astype(np.float32)
        return x, source.integers(0, classes, rows)

    return make
