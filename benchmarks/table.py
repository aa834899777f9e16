"""What a method of `make bench-utility` is given: a table whose bounds are public, and a task."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from stages.model.inputs import AS_THEY_ARE, Pieces
from stages.model.perceptron import Architecture
from stages.tabular.prepared import Features, Labels, Persons, Side
from stages.training.network import build_network

Probabilities = npt.NDArray[np.float64]

HIDDEN_SIZES = (128, 64)


@dataclass(frozen=True)
class Table:
    """A table and how much of it is for training.

    Attributes:
        features: (rows, features) float32 in [-1, 1].
        labels: (rows,) int64 in [0, classes).
        train_size: rows of each repeat's training side; the others test.
        classes: number of labels.
        numbers: positions of the features that are numbers; the others tell levels of categories.
    """

    features: Features
    labels: Labels
    train_size: int
    classes: int
    numbers: tuple[int, ...]

    def split(self, seed: int) -> tuple[Features, Labels, Features, Labels]:
        """Return training features and labels, then those for testing, of a random split."""
        order = np.random.default_rng(seed).permutation(len(self.labels))
        train, test = order[: self.train_size], order[self.train_size :]
        return self.features[train], self.labels[train], self.features[test], self.labels[test]


def table_of(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    low: npt.ArrayLike,
    high: npt.ArrayLike,
    train_size: int | None = None,
    numbers: int | None = None,
) -> Table:
    """Return a table whose columns are scaled from public bounds to [-1, 1].

    Args:
        x: (rows, features).
        y: (rows,), classes from 0.
        low, high: bounds of each column, or of all; cells beyond them are clipped.
        train_size: rows to train on; four fifths where there is none.
        numbers: how many of the first columns are numbers; all where there is none.
    """
    x, low, high = np.asarray(x, float), np.asarray(low, float), np.asarray(high, float)
    scaled = 2 * (np.clip(x, low, high) - low) / (high - low) - 1
    found = np.asarray(y).astype(np.int64)
    return Table(
        scaled.astype(np.float32),
        found,
        train_size or round(0.8 * len(found)),
        int(found.max()) + 1,
        tuple(range(x.shape[1] if numbers is None else numbers)),
    )


@dataclass(frozen=True)
class Task:
    """Train on these rows, predict those.

    Attributes:
        x, y: training features in [-1, 1] and labels.
        x_test: features whose labels are to be predicted.
        classes: number of labels.
        numbers: positions of the features that are numbers.
        epsilon, delta: what a private method may spend.
        seed: of all of the method's own randomness.
        persons: (rows,) whose training rows these are; None where everybody has one.
    """

    x: Features
    y: Labels
    x_test: Features
    classes: int
    numbers: tuple[int, ...]
    epsilon: float
    delta: float
    seed: int
    persons: Persons | None = None

    @property
    def side(self) -> Side:
        """What is trained on."""
        return Side(self.x, self.y, self.persons)

    def network(self, activation: str = "relu", pieces: int = 0) -> nn.Sequential:
        """Return the project's network for this table, untrained."""
        return build_network(self._architecture(activation, pieces), self.seed)

    @property
    def widths(self) -> list[int]:
        """Widths of that network's layers, with numbers as they are."""
        return self._architecture("relu", 0).widths

    def _architecture(self, activation: str, pieces: int) -> Architecture:
        inputs = Pieces(self.numbers, pieces) if pieces else AS_THEY_ARE
        return Architecture(self.x.shape[1], self.classes, HIDDEN_SIZES, activation, inputs)
