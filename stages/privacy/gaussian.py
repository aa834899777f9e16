"""Gaussian mechanisms, whose ε is exact however their noise was chosen along the way.

A sequence of Gaussian mechanisms of which each is chosen in sight of those before, with the sum of
1 / σ² kept to a bound fixed in advance, is as private as a single one that reaches the bound:
nothing is lost by not planning (Smith & Thakurta 2022, "Fully Adaptive Composition for
Gaussian Differential Privacy"; Koskela, Tobaben & Honkela 2023, "Individual Privacy Accounting with
Gaussian Differential Privacy").
"""

import math
from collections.abc import Sequence

from stages.privacy.events import Event, Gaussian, Steps


def is_gaussian(events: Sequence[Event]) -> bool:
    """Whether all are Gaussian mechanisms: releases, and steps whose batches are everybody."""
    return all(
        isinstance(event, Gaussian) or (isinstance(event, Steps) and event.sample_rate == 1)
        for event in events
    )


def precision(events: Sequence[Event]) -> float:
    """Return μ², the sum of 1 / σ² over all of them, in which Gaussian mechanisms add up."""
    return sum(map(_precision, events))


def _precision(event: Event) -> float:
    match event:
        case Steps():
            return event.steps / event.noise_multiplier**2
        case Gaussian():
            return float(event.noise_multiplier**-2)
        case _:
            raise TypeError(f"expected Gaussian mechanisms, got {event}")


def epsilon_gaussian(squared_mu: float, delta: float) -> float:
    """Return ε at δ of a Gaussian mechanism of noise σ = 1 / μ, exactly; rounded up by 1e-9.

    Balle & Wang 2018, "Improving the Gaussian Mechanism for Differential Privacy", Theorem 8:
    δ(ε) = Φ(μ/2 - ε/μ) - e^ε·Φ(-μ/2 - ε/μ), which falls as ε grows.
    """
    mu = math.sqrt(squared_mu)
    if mu == 0 or _delta(mu, 0.0) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while _delta(mu, high) > delta:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _delta(mu, middle) > delta else (low, middle)
    return high


def delta_gaussian(squared_mu: float, epsilon: float) -> float:
    """Return δ at ε of a Gaussian mechanism of noise σ = 1 / μ, for μ above 0, exactly."""
    return _delta(math.sqrt(squared_mu), epsilon)


def gaussian_noise(epsilon: float, delta: float) -> float:
    """Return the least σ of a Gaussian mechanism that is (ε, δ) private; rounded up by 1e-9."""
    low, high = 0.0, 1.0
    while epsilon_gaussian(high**-2, delta) > epsilon:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (
            (middle, high) if epsilon_gaussian(middle**-2, delta) > epsilon else (low, middle)
        )
    return high


def _delta(mu: float, epsilon: float) -> float:
    far = _log_normal(-mu / 2 - epsilon / mu)
    return math.exp(_log_normal(mu / 2 - epsilon / mu)) - math.exp(epsilon + far)


def _log_normal(x: float) -> float:
    """Return log Φ(x); far out by the first terms of its asymptotic series, as erfc underflows."""
    if x > -30:
        return math.log(math.erfc(-x / math.sqrt(2)) / 2)
    return -x * x / 2 - math.log(-x * math.sqrt(2 * math.pi)) + math.log1p(-(x**-2))
