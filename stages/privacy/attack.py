"""What an attacker can do: the best test of whether somebody is in the table.

Membership inference is a test between two tables that differ in one row. A test has a rate of false
positives (people it takes to be in the table who are not) and one of true positives. A mechanism
that is (ε, δ(ε)) differentially private for many ε at once bounds the second by the first, for all
tests, whatever they know and however they were made (Dong, Roth & Su 2022, "Gaussian Differential
Privacy"). A single (ε, δ) says much less.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.privacy.events import DiscreteLaplace
from stages.privacy.gaussian import delta_gaussian, epsilon_gaussian

Rates = npt.NDArray[np.float64]

# The rates of false positives at which a report tells the true ones.
REPORTED = (0.001, 0.01, 0.1)

# A profile ends where an attack would gain less than this, on this many points.
LEAST_DELTA = 1e-10
POINTS = 400


@dataclass(frozen=True)
class Profile:
    """Upper bounds δ(ε) of a mechanism, which hold together and in both directions.

    Attributes:
        epsilons: (points,) in [0, ∞), ascending.
        deltas: (points,) in [0, 1].
    """

    epsilons: Rates
    deltas: Rates

    def true_positives(self, false_positives: Rates) -> Rates:
        """Return the largest rate of true positives of any attack at each rate of false ones.

        1 - f with the trade-off curve f(α) = max over ε of 0, 1 - δ - e^ε·α, e^-ε·(1 - δ - α).

        Args:
            false_positives: (rates,) in [0, 1].
        """
        alpha = np.asarray(false_positives, dtype=np.float64)[:, None]
        steep = 1 - self.deltas - np.exp(self.epsilons) * alpha
        flat = np.exp(-self.epsilons) * (1 - self.deltas - alpha)
        return 1 - np.maximum(0.0, np.maximum(steep, flat).max(axis=1))

    @property
    def advantage(self) -> float:
        """The most by which the rate of true positives can exceed that of false ones.

        Each (ε, δ) bounds it by (e^ε - 1 + 2δ) / (e^ε + 1), where its two lines meet; at ε = 0 that
        is δ(0), the total variation distance.
        """
        bounds = (np.expm1(self.epsilons) + 2 * self.deltas) / (np.exp(self.epsilons) + 1)
        return float(bounds.min())


def profile_of_counts(events: Sequence[DiscreteLaplace]) -> Profile:
    """Return δ(ε) of counts released together, exactly.

    A count that a row moves by one has a privacy loss of +ε or -ε, with odds e^ε : 1; losses add
    up, and δ(x) is the mean of max(0, 1 - e^(x - loss)), which bends at the losses only.
    """
    losses, chances = np.zeros(1), np.ones(1)
    for event in events:
        likely = 1 / (1 + np.exp(-event.epsilon))
        moved = np.concatenate([losses + event.epsilon, losses - event.epsilon]).round(12)
        weights = np.concatenate([chances * likely, chances * (1 - likely)])
        losses, places = np.unique(moved, return_inverse=True)
        chances = np.bincount(places, weights).astype(np.float64)
    epsilons = np.unique(np.append(losses[losses > 0], 0.0))
    missing = np.maximum(0.0, -np.expm1(epsilons[:, None] - losses))
    return Profile(epsilons, missing @ chances)


def profile_of_gaussian(squared_mu: float) -> Profile:
    """Return δ(ε) of Gaussian mechanisms with μ² in all, at as many ε as the curve needs."""
    epsilons = np.linspace(0, epsilon_gaussian(squared_mu, LEAST_DELTA), POINTS)
    return Profile(epsilons, np.array([delta_gaussian(squared_mu, float(e)) for e in epsilons]))


def profile_of_promise(epsilon: float, delta: float) -> Profile:
    """Return what a single (ε, δ) says where no more is known."""
    return Profile(np.array([epsilon]), np.array([delta]))


def figures_of(profile: Profile) -> dict[str, float]:
    """Return the figures that a report tells: the advantage, and true positives at `REPORTED`."""
    rates = profile.true_positives(np.array(REPORTED))
    named = {
        f"true_positives_at_{false:g}": float(true)
        for false, true in zip(REPORTED, rates, strict=True)
    }
    return {"advantage": profile.advantage, **named}


def curve_rows(profile: Profile) -> list[dict[str, float]]:
    """Return the trade-off curve as rows of CSV, denser where false positives are rare."""
    false = np.concatenate([[0.0], np.geomspace(1e-4, 1, 41).round(6)])
    return [
        {"false_positive_rate": float(x), "true_positive_rate": _rounded_up(float(y))}
        for x, y in zip(false, profile.true_positives(false), strict=True)
    ]


def _rounded_up(bound: float) -> float:
    return min(1.0, math.ceil(bound * 1e6) / 1e6)
