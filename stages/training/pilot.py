"""Which of several networks learns this table best: counted privately, on the same rows for all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from stages.model.inputs import Array
from stages.model.perceptron import Model
from stages.training.people import ONE_ROW_EACH, Whose

# How many standard deviations of the noise another candidate has to be ahead of the first.
CLEARLY_AHEAD = 1.0


@dataclass(frozen=True)
class Question:
    """How many people each of several models gets right.

    A row adds ½ to the sum of a model that gets it right, and takes ½ from that of one that does
    not; a person with several rows the mean over these.
    """

    models: Sequence[Model]

    @property
    def sensitivity(self) -> float:
        """By how much a person moves the sums together, in L2 norm."""
        return math.sqrt(len(self.models)) / 2

    def __call__(self, features: Array, labels: Array, whose: Whose = ONE_ROW_EACH) -> list[float]:
        """Return each model's sum over rows (B, features) with labels (B,)."""
        return [_sum(model.forward(features)[1], labels, whose) for model in self.models]


@dataclass(frozen=True)
class Verdict:
    """What was released of the candidates, and which is to go on.

    Attributes:
        accuracies: (candidates,) share of rows that each gets right, with noise.
        noise: standard deviation of the noise in each.
    """

    accuracies: npt.NDArray[np.float64]
    noise: float

    @classmethod
    def of(cls, sums: npt.NDArray[np.float64], rows: float, noise: float) -> "Verdict":
        """Return the verdict on sums with noise, over about so many rows as were released."""
        return cls(0.5 + sums / rows, noise / rows)

    @property
    def winner(self) -> int:
        """The most accurate; the first, unless another is clearly ahead of it."""
        handicap = CLEARLY_AHEAD * math.sqrt(2) * self.noise  # two sums differ by √2 of the noise
        ahead = self.accuracies - handicap
        ahead[0] = self.accuracies[0]
        return int(ahead.argmax())


def _sum(logits: Array, labels: Array, whose: Whose) -> float:
    xp = array_namespace(logits)
    right = whose.mean(xp.argmax(logits, axis=1) == labels)
    return float(xp.sum(right)) - right.shape[0] / 2
