"""Figures from noisy counts: without bias, and ± of each, by the noise and for new patients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from stages.evaluation.scores import Places, Values

# Pairs of redraws of the noise, one the mirror image of the other.
PAIRS = 500

# Share of cases in which what is right lies within ±, and how many deviations that is.
CONFIDENCE = 0.95
DEVIATIONS = 1.96

# Where figures can be at all: least and greatest, of any shape that fits them.
Range = tuple[Values | float, Values | float]
ANYWHERE: Range = (-np.inf, np.inf)
SHARE: Range = (0.0, 1.0)


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

    @cached_property
    def plausible(self) -> Values:
        """(cells,) counts that people can have: none below zero, and as many in all as estimated.

        Of such counts those that are nearest to the estimated ones, by how likely noise is to have
        moved them there (the projection on a cone, by way of its polar cone: Moreau 1962).
        """
        if self.root is None:
            return self.values
        drawn = np.linalg.solve(self.root.T @ self.root, self.root.T @ self.values)
        nearest = np.maximum(self.root @ (drawn + self.root.T @ nnls(self.root.T, -drawn)[0]), 0.0)
        return nearest * (max(self.values.sum(), 0.0) / max(nearest.sum(), 1.0))

    def measure(
        self,
        figures: Callable[[Values], Values],
        views: Sequence[Places | slice] = (slice(None),),
        within: Range = ANYWHERE,
    ) -> Measured:
        """Return figures of the counts, each ± what it may be off.

        A figure that is not linear in the counts is off on average even if these are not: by about
        as much as it is when such noise is added to plausible counts, which is subtracted (the
        parametric bootstrap's correction; Efron & Tibshirani 1993, "An Introduction to the
        Bootstrap", §6.5 and §10.6). Counts that nobody can have would tell how far noise moves a
        figure badly: shares of next to nothing run away. Sampling moves a count like a Poisson
        variable, and a figure by its derivatives: for the ROC area this is the variance of DeLong
        et al. 1988.

        Args:
            figures: from counts (…, cells) to figures (…, any shape), with whatever counts.
            views: cells in which people are counted once; all, unless the same people are counted
                several times. What is not known then is how these go together, so that the
                deviations add up and not their squares.
            within: where figures can be, beyond which they are not shown; it is where they are
                shown that ± is about.
        """
        at = figures(self.plausible)
        counts = self.plausible.reshape(-1, *(1 for _ in at.shape))
        variances = counts * self._derivatives(figures) ** 2
        sampling = sum(np.sqrt(variances[view].sum(axis=0)) for view in views)
        moved = figures(self._moved)
        bias = moved.mean(axis=0) - at
        shown = np.clip(moved - bias, *within)
        noise = np.quantile(np.abs(shown - at), CONFIDENCE, axis=0)
        value = np.clip(figures(self.values) - bias, *within)
        return Measured(value, noise, np.hypot(noise, DEVIATIONS * sampling))

    def measure_greatest(self, figures: Callable[[Values], Values]) -> Measured:
        """Return the greatest of several figures, of shape ().

        Which of them it is need not be known, so its ± is the widest of those that it may be. Among
        new patients it is worse: that of equal ones is the greatest which happens to be too large
        is no matter of noise, and not subtracted. So there its ± is that of all of them together.

        Args:
            figures: from counts (…, cells) to figures (…, several).
        """
        found, at = figures(self.values), figures(self.plausible)
        moved = figures(self._moved)
        value = found.max() - (moved.max(axis=-1).mean() - at.max())
        chance = np.sqrt(self.plausible)[:, None] * self._derivatives(figures)
        drawn = np.random.default_rng(1).standard_normal((20 * PAIRS, len(at)))
        sampling = drawn @ np.linalg.qr(chance, mode="r")
        noise = np.abs(moved - at)
        both = np.abs(np.resize(moved, sampling.shape) + sampling - at)
        return Measured(
            value,
            np.quantile(noise, CONFIDENCE, axis=0)[_may_be_greatest(found, noise)].max(),
            np.quantile(both[:, _may_be_greatest(found, both)].max(axis=-1), CONFIDENCE),
        )

    @cached_property
    def _moved(self) -> Values:
        """(draws, cells): plausible counts, with the noise drawn again."""
        if self.root is None:
            return self.plausible[None]
        # No row is read for it, so the seed need not be secret.
        drawn = np.random.default_rng(0).standard_normal((PAIRS, self.root.shape[1]))
        moves = drawn @ self.root.T
        return self.plausible + np.concatenate([moves, -moves])

    def _derivatives(self, figures: Callable[[Values], Values]) -> Values:
        """Return (cells, …) how much one person more in a cell moves the figures."""
        half = np.eye(len(self.values)) / 2
        moved: Values = figures(self.plausible + half) - figures(self.plausible - half)
        return moved


def _may_be_greatest(found: Values, off: Values) -> npt.NDArray[np.bool_]:
    """Return which of `found` (several,) may be the greatest, by draws (…, several) of their ±."""
    most = np.quantile(off.max(axis=-1), CONFIDENCE)
    return np.asarray(found >= found.max() - 2 * most)
