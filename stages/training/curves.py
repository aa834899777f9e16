"""The training curves, smoothed: where epochs are many, each of them is noisy."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Epochs = Sequence[Mapping[str, float]]
Values = npt.NDArray[np.float64]


def from_csv(rows: Sequence[Mapping[str, str]]) -> list[dict[str, float]]:
    """Return the epochs that training wrote, as numbers."""
    return [{name: float(value) for name, value in row.items()} for row in rows]


def reach(epochs: Epochs) -> int:
    """Return how many epochs on either side belong to the mean around one."""
    return len(epochs) // 16


def smoothed(epochs: Epochs, name: str) -> tuple[Values, Values]:
    """Return a curve's mean over the epochs around each, and the noise in that.

    Args:
        epochs: released values, and as `{name}_noise` the standard deviation of the noise in each,
            which is independent of that in the others.
        name: of the curve.
    """
    released = np.array([row[name] for row in epochs])
    variance = np.array([row[f"{name}_noise"] for row in epochs]) ** 2
    around = reach(epochs)
    windows = [slice(max(0, place - around), place + around + 1) for place in range(len(epochs))]
    mean = np.array([released[window].mean() for window in windows])
    noise = np.array(
        [np.sqrt(variance[window].sum()) / len(variance[window]) for window in windows]
    )
    return mean, noise


def ending(epochs: Epochs, name: str) -> tuple[float, float]:
    """Return where the smoothed curve ends, and the standard deviation of the noise in that."""
    mean, noise = smoothed(epochs, name)
    return float(mean[-1]), float(noise[-1])
