"""Figures from noisy counts: without bias, and ± of each, by the noise and for new patients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from stages.evaluation.scores import Places, Values

# Pairs of redraws of the noise, one the mirror image of the other; and of those redraws around
# which it is drawn once more.
PAIRS = 500
PAIRS_AGAIN = 4

# Share of cases in which what is right lies within ±, and how many deviations that is; and which
# part of it, where errors are only ever to one side.
CONFIDENCE = 0.95
DEVIATIONS = 1.96
ONE_SIDED = 1.645 / DEVIATIONS

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
        figure badly: shares of next to nothing run away.

        Plausible counts have noise in them, which can make ± too wide: through it equal classes
        look unequal, and figures seem to hang on more than they do. By how much too wide is seen
        by doing all of it around redrawn counts, and taken off (the iterated bootstrap; Hall 1986,
        "On the Bootstrap and Confidence Intervals", Annals of Statistics 14).

        Args:
            figures: from counts (…, cells) to figures (…, any shape), with whatever counts.
            views: cells in which people are counted once; all, unless the same people are counted
                several times. What is not known then is how these go together, so that the
                deviations add up and not their squares.
            within: where figures can be, beyond which they are not shown; it is where they are
                shown that ± is about.
        """
        bias, halves = self._off(figures, views, within)
        again = np.mean([one._off(figures, views, within)[1] for one in self._redrawn], axis=0)
        nothing = np.zeros_like(halves)
        noise, both = np.divide(halves**2, again, out=nothing, where=again > 0)
        value = np.clip(figures(self.values) - bias, *within)
        return Measured(value, noise, np.maximum(noise, both))

    def _off(
        self,
        figures: Callable[[Values], Values],
        views: Sequence[Places | slice],
        within: Range,
    ) -> tuple[Values, Values]:
        """Return how far figures of plausible counts are off: on average, and with chance 0.95.

        The latter is (2, …): by the noise, and by noise and sampling. Sampling moves a count like a
        Poisson variable, and a figure by its derivatives: for the ROC area this is the variance of
        DeLong et al. 1988.
        """
        at, moved = figures(self.plausible), figures(self._moved)
        bias = (moved - at).mean(axis=0)
        flat = (-1, *(1 for _ in at.shape))
        variances = self.plausible.reshape(flat) * self._derivatives(figures) ** 2
        sampling = sum(np.sqrt(variances[view].sum(axis=0)) for view in views)
        unbiased = moved - bias
        by_noise = _within(np.clip(unbiased, *within) - at)
        by_both = np.hypot(_within(unbiased - at), DEVIATIONS * sampling)
        # Where an end of the range is nearer than that, errors beyond it are not shown, and those
        # to the other side may be as many as those to both would have been.
        nearest = np.minimum(at - within[0], within[1] - at)
        return bias, np.stack([by_noise, np.clip(nearest, ONE_SIDED * by_both, by_both)])

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

    @cached_property
    def _redrawn(self) -> "list[Estimate]":
        """Estimates as others might have been released of plausible counts."""
        first, mirrored = np.array_split(self._moved, 2)
        redrawn = (*first[:PAIRS_AGAIN], *mirrored[:PAIRS_AGAIN])
        return [Estimate(counts, self.root) for counts in redrawn]

    def _derivatives(self, figures: Callable[[Values], Values]) -> Values:
        """Return (cells, …) how much one person more in a cell moves the figures."""
        half = np.eye(len(self.values)) / 2
        moved: Values = figures(self.plausible + half) - figures(self.plausible - half)
        return moved


def _within(off: Values) -> Values:
    """Return (…) within what draws (draws, …) are off, with chance 0.95."""
    half: Values = np.quantile(np.abs(off), CONFIDENCE, axis=0)
    return half


def _may_be_greatest(found: Values, off: Values) -> npt.NDArray[np.bool_]:
    """Return which of `found` (several,) may be the greatest, by draws (…, several) of their ±."""
    most = np.quantile(off.max(axis=-1), CONFIDENCE)
    return np.asarray(found >= found.max() - 2 * most)
