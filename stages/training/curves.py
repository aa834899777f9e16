"""The training curves: ratios of noisy sums, and their means where epochs are many and noisy.

Beside the gradient a step releases three sums over its batch, to which a row adds

    (loss - ½, correct - ½, ½),

its loss as a share of where it is clipped. None of these is beyond ±½, so a row moves the three
together by at most √¾: less than loss and correct alone would move uncentred. That the number of
rows is among them makes the curves right whatever number was declared.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # who reads a curve, such as the plot stage, does without the accountants
    from stages.training.plan import Plan

Epochs = Sequence[Mapping[str, float]]
Values = npt.NDArray[np.float64]

# Runs from before the number of rows was released had nothing in common.
NOTHING_SHARED = {"loss_noise_shared": 0.0, "accuracy_noise_shared": 0.0}


@dataclass(frozen=True)
class Epoch:
    """One epoch as it is released.

    Attributes:
        epoch: its number, from 1, counting those of the runs that this one continues.
        steps: steps that the run had taken when it was over, of all its networks.
        loss: noisy mean cross entropy of the epoch's batches, each row's clipped to `loss_bound`.
        accuracy: noisy share of the epoch's batches that was classified right, in [0, 1].
        loss_noise, accuracy_noise: standard deviation of the error by noise in these two.
        loss_noise_shared, accuracy_noise_shared: what of that the run's epochs have in common.
    """

    epoch: int
    steps: int
    loss: float
    accuracy: float
    loss_noise: float
    accuracy_noise: float
    loss_noise_shared: float
    accuracy_noise_shared: float


def loss_bound(classes: int) -> float:
    """Return where a row's loss is clipped for the training curve: four times that of guessing."""
    return 4 * math.log(classes)


class Curve:
    """The released epochs of a run, each made of its own noisy sums and those before it."""

    def __init__(self, plan: "Plan", loss_bound: float):
        self.plan = plan
        self.loss_bound = loss_bound
        self._rows, self._steps = 0.0, 0  # in all batches so far, by their noisy counts

    @property
    def batch_size(self) -> float:
        """The mean size of all batches so far, by their noisy counts; 1 at least."""
        return max(1.0, self._rows / self._steps)

    def epoch(self, number: int, start: int, end: int, sums: Values) -> Epoch:
        """Return the epoch of steps `start` to `end`, whose noisy sums are `sums`, shape (3,).

        How many rows its batches held is known by their own noisy counts and by the mean of all
        batches so far, from which they differ as Poisson samples do. Each counts by how little it
        errs: at full batch the mean alone.
        """
        steps, plan = end - start, self.plan
        noise = plan.metric_noise_multiplier**2  # of a sum, in a step
        spread = plan.expected_batch_size * (1 - plan.sample_rate)  # of a batch's size
        trust = spread / (spread + 4 * noise)
        own = 2 * sums[2]
        self._rows, self._steps = self._rows + own, end
        rows = max(1.0, trust * own + (1 - trust) * steps * self._rows / end)
        shared = 4 * noise * (1 - trust**2) * steps**2 / end
        unshared = 4 * noise * trust**2 * steps + (1 - trust) ** 2 * spread * steps * (
            1 - steps / end
        )

        def ratio(part: float, scale: float) -> tuple[float, float, float]:
            value = min(1.0, max(0.0, 0.5 + part / rows))
            slope = (value - 0.5) ** 2
            error = math.sqrt(noise * steps + slope * (shared + unshared))
            common = math.sqrt(slope * shared)
            return scale * value, scale * error / rows, scale * common / rows

        loss, loss_noise, loss_shared = ratio(sums[0], self.loss_bound)
        accuracy, accuracy_noise, accuracy_shared = ratio(sums[1], 1.0)
        return Epoch(
            number, end, loss, accuracy, loss_noise, accuracy_noise, loss_shared, accuracy_shared
        )


def from_csv(rows: Sequence[Mapping[str, str]]) -> list[dict[str, float]]:
    """Return the epochs that training wrote, as numbers."""
    return [NOTHING_SHARED | {name: float(value) for name, value in row.items()} for row in rows]


def reach(epochs: Epochs) -> int:
    """Return how many epochs on either side belong to the mean around one."""
    return len(epochs) // 16


def smoothed(epochs: Epochs, name: str) -> tuple[Values, Values]:
    """Return a curve's mean over the epochs around each, and the noise in that.

    Args:
        epochs: released values; as `{name}_noise` the standard deviation of the noise in each, and
            as `{name}_noise_shared` what of it does not average out.
        name: of the curve.
    """
    released, noise, shared = (
        np.array([row[name + part] for row in epochs]) for part in ("", "_noise", "_noise_shared")
    )
    variance, around = noise**2 - shared**2, reach(epochs)
    windows = [slice(max(0, place - around), place + around + 1) for place in range(len(epochs))]
    mean = np.array([released[window].mean() for window in windows])
    left = [variance[window].mean() / len(variance[window]) for window in windows]
    common = [shared[window].mean() for window in windows]
    return mean, np.hypot(np.sqrt(left), common)


def with_means(epochs: Epochs) -> list[dict[str, float]]:
    """Return the epochs with each curve's mean as well, and its band of ±2 standard deviations."""
    rows = [dict(row) for row in epochs]
    for name, most in (("loss", math.inf), ("accuracy", 1.0)):
        for row, mean, noise in zip(rows, *smoothed(epochs, name), strict=True):
            low, high = max(0.0, mean - 2 * noise), min(most, mean + 2 * noise)
            row |= {f"{name}_smoothed": mean, f"{name}_low": low, f"{name}_high": high}
    return rows


def ending(epochs: Epochs, name: str) -> tuple[float, float]:
    """Return where the smoothed curve ends, and the standard deviation of the noise in that."""
    mean, noise = smoothed(epochs, name)
    return float(mean[-1]), float(noise[-1])
