"""Figures from noisy counts: without bias, and ± of each, by the noise and for new patients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

# Pairs of redraws of the noise, one the mirror image of the other.
PAIRS = 500

# Share of cases in which what is right lies within ±, and how many deviations that is.
CONFIDENCE = 0.95
DEVIATIONS = 1.96


class Measured(NamedTuple):
    """Figures of any shape, the same for all three.

    Attributes:
        value: estimates without bias.
        noise: with chance 0.95 the exact figure of these test rows lies that near.
        new_patients: with chance 0.95 the figure of the people that the test rows were drawn from
            lies that near: the noise, and that the test rows are few.
    """

    value: Values
    noise: Values
    new_patients: Values


@dataclass(frozen=True)
class Estimate:
    """Counts as they are estimated from a release: without bias, so some may be below zero.

    Attributes:
        values: (cells,).
        root: (cells, dimensions) with root @ root.T the covariance of the noise in them; None if
            they are exact.
    """

    values: Values
    root: Values | None

    def measure(self, figures: Callable[[Values], Values]) -> Measured:
        """Return figures of the counts, each ± what it may be off.

        A figure that is not linear in the counts is off on average even if these are not: by about
        as much as it is when the noise is added once more, which is subtracted (the bootstrap's
        correction; Efron & Tibshirani 1993, "An Introduction to the Bootstrap", §10.6). Sampling
        moves a count like a Poisson variable, and a figure by its derivatives: for the ROC area
        this is the variance of DeLong et al. 1988.

        Args:
            figures: from counts (…, cells) to figures (…, any shape), with whatever counts.
        """
        plain = figures(self.values)
        derivatives = self._derivatives(figures)
        counts = self.values.reshape(-1, *(1 for _ in plain.shape))
        sampling = np.maximum((counts * derivatives**2).sum(axis=0), 0.0)
        if self.root is None:
            value, noise = plain, np.zeros_like(plain)
        else:
            # No row is read for it, so the seed need not be secret.
            drawn = np.random.default_rng(0).standard_normal((PAIRS, self.root.shape[1]))
            moves = drawn @ self.root.T
            moved = figures(self.values + np.concatenate([moves, -moves]))
            value = 2 * plain - moved.mean(axis=0)
            noise = np.quantile(np.abs(moved - plain), CONFIDENCE, axis=0)
        return Measured(value, noise, np.hypot(noise, DEVIATIONS * np.sqrt(sampling)))

    def _derivatives(self, figures: Callable[[Values], Values]) -> Values:
        """Return (cells, …) how much one person more in a cell moves the figures."""
        half = np.eye(len(self.values)) / 2
        moved: Values = figures(self.values + half) - figures(self.values - half)
        return moved
