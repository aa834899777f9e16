"""Figures from noisy counts: without bias, and ± of each, by the noise and for new patients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stages.evaluation.scores import Places, Values

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

    def measure(
        self, figures: Callable[[Values], Values], views: Sequence[Places | slice] = (slice(None),)
    ) -> Measured:
        """Return figures of the counts, each ± what it may be off.

        A figure that is not linear in the counts is off on average even if these are not: by about
        as much as it is when the noise is added once more, which is subtracted (the bootstrap's
        correction; Efron & Tibshirani 1993, "An Introduction to the Bootstrap", §10.6). Sampling
        moves a count like a Poisson variable, and a figure by its derivatives: for the ROC area
        this is the variance of DeLong et al. 1988.

        Args:
            figures: from counts (…, cells) to figures (…, any shape), with whatever counts.
            views: cells in which people are counted once; all, unless the same people are counted
                several times. What is not known then is how these go together, so that the
                deviations add up and not their squares.
        """
        plain = figures(self.values)
        counts = self.values.reshape(-1, *(1 for _ in plain.shape))
        variances = counts * self._derivatives(figures) ** 2
        sampling = sum(np.sqrt(np.maximum(variances[view].sum(axis=0), 0.0)) for view in views)
        moved = figures(self.values + self._noise())
        value = 2 * plain - moved.mean(axis=0)
        noise = np.quantile(np.abs(moved - plain), CONFIDENCE, axis=0)
        return Measured(value, noise, np.hypot(noise, DEVIATIONS * sampling))

    def measure_greatest(self, figures: Callable[[Values], Values]) -> Measured:
        """Return the greatest of several figures, of shape ().

        The greatest of several is off by no more than the one of them that is off most. So its ± is
        that of all that may be the greatest, together: of equal ones the greatest lies above what
        is right more often than each of them.

        Args:
            figures: from counts (…, cells) to figures (…, several).
        """
        plain, moved = figures(self.values), figures(self.values + self._noise())
        value = 2 * plain.max() - moved.max(axis=-1).mean()
        chance = np.sqrt(np.maximum(self.values, 0.0))[:, None] * self._derivatives(figures)
        drawn = np.random.default_rng(1).standard_normal((20 * PAIRS, len(plain)))
        sampling = drawn @ np.linalg.qr(chance, mode="r")
        resampled = np.resize(moved, sampling.shape) + sampling
        return Measured(value, *(_band_of_greatest(plain, some) for some in (moved, resampled)))

    def _noise(self) -> Values:
        """Return (draws, cells): the noise, drawn again."""
        if self.root is None:
            return np.zeros((1, len(self.values)))
        # No row is read for it, so the seed need not be secret.
        drawn = np.random.default_rng(0).standard_normal((PAIRS, self.root.shape[1]))
        moves = drawn @ self.root.T
        return np.concatenate([moves, -moves])

    def _derivatives(self, figures: Callable[[Values], Values]) -> Values:
        """Return (cells, …) how much one person more in a cell moves the figures."""
        half = np.eye(len(self.values)) / 2
        moved: Values = figures(self.values + half) - figures(self.values - half)
        return moved


def _band_of_greatest(plain: Values, moved: Values) -> Values:
    """Return how far the greatest of `plain` (several,) may be off, by draws (…, several) of it."""
    off = np.abs(moved - plain)
    most = np.quantile(off.max(axis=-1), CONFIDENCE)
    may_be = plain >= plain.max() - 2 * most
    band: Values = np.quantile(off[..., may_be].max(axis=-1), CONFIDENCE)
    return band
