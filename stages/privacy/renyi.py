"""Rényi differential privacy of events: the currency that stays valid for plans made on the way.

Whoever looks at one run and then chooses the next one's parameters composes adaptively. PRV and PLD
assume a sequence fixed in advance; Rényi divergences of each order simply add up, and a filter that
stops before their sum exceeds a bound stays valid when the plan was not fixed (Feldman & Zrnic
2021, "Individual Privacy Accounting via a Rényi Filter"; for several orders at once, Lécuyer 2021,
"Practical Privacy Filters and Odometers with Rényi Differential Privacy").
"""

import math
from collections.abc import Sequence

import dp_accounting
import numpy as np
import numpy.typing as npt
from dp_accounting.dp_event import RepeatAndSelectDpEvent
from dp_accounting.privacy_accountant import NeighboringRelation
from dp_accounting.rdp import RdpAccountant, compute_epsilon

from stages.privacy.events import BestOfMany, DiscreteLaplace, Event, Steps

# Whole numbers, for which the subsampled Gaussian has a finite and fast sum: dense where the best
# order of usual plans lies, and up to what ε of a few hundredths needs.
ORDERS = np.unique(np.concatenate([np.arange(2, 65), np.geomspace(64, 1024, 13).round()]))

Curve = npt.NDArray[np.float64]


def renyi_curve(events: Sequence[Event]) -> Curve:
    """Return the Rényi divergence bound of all events together, one value per order in `ORDERS`."""
    return sum((_curve_of(event) for event in events), np.zeros(len(ORDERS)))


def epsilon_of_curve(curve: Curve, delta: float) -> float:
    """Return ε at δ of a Rényi curve; 0 where nothing was spent."""
    if not curve.any():
        return 0.0
    epsilon, _ = compute_epsilon(ORDERS, curve, delta)
    return float(epsilon)


def epsilon_renyi(events: Sequence[Event], delta: float) -> float:
    """Return ε at δ of events whose plan may have been made on the way."""
    return epsilon_of_curve(renyi_curve(events), delta)


def dp_event(event: Event) -> dp_accounting.DpEvent:
    """Return the event in dp_accounting's terms."""
    match event:
        case Steps():
            step: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(event.noise_multiplier)
            if event.sample_rate < 1:
                step = dp_accounting.PoissonSampledDpEvent(event.sample_rate, step)
            return dp_accounting.SelfComposedDpEvent(step, event.steps)
        case DiscreteLaplace():
            # On integers one apart, the privacy loss of discrete Laplace noise is +ε or -ε with the
            # odds e^ε : 1, which is randomized response on one bit with noise 2 / (1 + e^ε).
            noise = 2 / (1 + math.exp(event.epsilon))
            return dp_accounting.RandomizedResponseDpEvent(noise, 2)
        case BestOfMany():
            once = dp_accounting.ComposedDpEvent([dp_event(part) for part in event.events])
            return RepeatAndSelectDpEvent(once, event.mean, event.shape)


def _curve_of(event: Event) -> Curve:
    accountant = RdpAccountant(ORDERS, _relation(event))
    accountant.compose(dp_event(event))
    return np.array(accountant.rdp)


def _relation(event: Event) -> NeighboringRelation:
    """Add or remove a row; for a row's counts that is, on randomized response's bit, its flip."""
    while isinstance(event, BestOfMany):
        event = event.events[0]
    if isinstance(event, DiscreteLaplace):
        return NeighboringRelation.REPLACE_ONE
    return NeighboringRelation.ADD_OR_REMOVE_ONE
