"""Rényi differential privacy of events: the currency that stays valid for plans made on the way.

Whoever looks at one run and then chooses the next one's parameters composes adaptively. PRV and PLD
assume a sequence fixed in advance; Rényi divergences of each order simply add up, and a filter that
stops before their sum exceeds a bound stays valid when the plan was not fixed (Feldman & Zrnic
2021, "Individual Privacy Accounting via a Rényi Filter"; for several orders at once, Lécuyer 2021,
"Practical Privacy Filters and Odometers with Rényi Differential Privacy").
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stages.privacy.events import BestOfMany, DiscreteLaplace, Event, Gaussian, Steps

if TYPE_CHECKING:
    from dp_accounting import DpEvent

# Whole numbers, for which the subsampled Gaussian has a finite and fast sum: dense where the best
# order of usual plans lies, and up to what ε of a few hundredths needs.
ORDERS = np.unique(np.concatenate([np.arange(2, 65), np.geomspace(64, 1024, 13).round()]))

# From ε of hundreds to hundredths at usual δ.
FILTER_ORDERS = (2, 4, 8, 16, 32, 64)

Curve = npt.NDArray[np.float64]


def renyi_curve(events: Sequence[Event]) -> Curve:
    """Return the Rényi divergence bound of all events together, one value per order in `ORDERS`."""
    return sum((_curve_of(event) for event in events), np.zeros(len(ORDERS)))


def epsilon_of_curve(curve: Curve, delta: float) -> float:
    """Return ε at δ of a Rényi curve; 0 where nothing was spent.

    Canonne, Kamath & Steinke 2020, "The Discrete Gaussian for Differential Privacy", Prop. 12.
    """
    if not curve.any():
        return 0.0
    epsilons = curve + np.log1p(-1 / ORDERS) - np.log(delta * ORDERS) / (ORDERS - 1)
    # Total variation is at most √(1 - e^-KL), and where δ is above that, ε is 0.
    covered = np.expm1(-curve) > -(delta**2)
    return max(0.0, float(np.where(covered, 0.0, epsilons).min()))


def epsilon_of_filter(curve: Curve, delta: float) -> float:
    """Return ε at δ of a Rényi curve as a filter counts it, whose runs are chosen on the way.

    `epsilon_of_curve` takes the best order after all is known, and which one that is can be steered
    by who chooses the next run in sight of the last. Here each of `FILTER_ORDERS`, fixed in
    advance, is a filter of its own (Feldman & Zrnic 2021) with its share of δ, so that all of them
    hold together.
    """
    of_filters = np.full(len(ORDERS), np.inf)
    fixed = np.isin(ORDERS, FILTER_ORDERS)
    of_filters[fixed] = curve[fixed]
    return epsilon_of_curve(of_filters, delta / len(FILTER_ORDERS)) if curve.any() else 0.0


def delta_of_curve(curve: Curve, epsilons: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return δ at each ε (points,) of a Rényi curve: `epsilon_of_curve` solved for δ."""
    orders, log_delta = ORDERS[:, None], (ORDERS - 1)[:, None] * (curve[:, None] - epsilons)
    log_delta = log_delta + (orders - 1) * np.log1p(-1 / orders) - np.log(orders)
    # Total variation is at most √(1 - e^-KL), and δ is at most that.
    variation = math.sqrt(-math.expm1(-float(curve.min())))
    return np.minimum(variation, np.exp(np.minimum(log_delta, 0.0)).min(axis=0))


def epsilon_renyi(events: Sequence[Event], delta: float) -> float:
    """Return ε at δ of events whose plan may have been made on the way."""
    return epsilon_of_curve(renyi_curve(events), delta)


def _curve_of(event: Event) -> Curve:
    match event:
        case Steps():
            return event.steps * _step_curve(event.noise_multiplier, event.sample_rate)
        case Gaussian():
            return _step_curve(event.noise_multiplier, 1.0)
        case DiscreteLaplace():
            return _discrete_laplace_curve(event.epsilon)
        case BestOfMany():
            return _best_of_many_curve(event)


def _step_curve(sigma: float, rate: float) -> Curve:
    """Return one subsampled Gaussian step's curve.

    Mironov, Talwar & Zhang 2019, "Rényi Differential Privacy of the Sampled Gaussian Mechanism":
    at a whole order α, exp((α - 1)·RDP) = Σ_k C(α, k)·(1 - q)^(α - k)·q^k·exp(k(k - 1) / 2σ²).
    """
    if rate == 1:
        return ORDERS / (2 * sigma**2)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, ORDERS[-1] + 1)))])
    divergences = []
    for order in ORDERS.astype(int):
        k = np.arange(order + 1)
        log_choices = log_factorials[order] - log_factorials[k] - log_factorials[order - k]
        log_chances = log_choices + k * math.log(rate) + (order - k) * math.log1p(-rate)
        terms = log_chances + k * (k - 1) / (2 * sigma**2)
        divergences.append(np.logaddexp.reduce(terms) / (order - 1))
    return np.array(divergences)


def _discrete_laplace_curve(epsilon: float) -> Curve:
    """On integers one apart, the privacy loss is +ε or -ε, with the odds e^ε : 1.

    The divergence of order α is log((p^α·r^(1 - α) + r^α·p^(1 - α))) / (α - 1) where
    p = e^ε / (1 + e^ε) and r = 1 - p.
    """
    log_r = -np.logaddexp(0, epsilon)
    log_p = epsilon + log_r
    with_row = ORDERS * log_p + (1 - ORDERS) * log_r
    without = ORDERS * log_r + (1 - ORDERS) * log_p
    return np.logaddexp(with_row, without) / (ORDERS - 1)


def _best_of_many_curve(event: BestOfMany) -> Curve:
    """Papernot & Steinke 2022, "Hyperparameter Tuning with Rényi Differential Privacy", Thm. 2."""
    # Takes most of a second to import, and only this needs it here.
    from dp_accounting import ComposedDpEvent  # noqa: PLC0415
    from dp_accounting.dp_event import RepeatAndSelectDpEvent  # noqa: PLC0415
    from dp_accounting.privacy_accountant import NeighboringRelation  # noqa: PLC0415
    from dp_accounting.rdp import RdpAccountant  # noqa: PLC0415

    # A row's counts are, on randomized response's bit, its flip.
    counts = any(isinstance(part, DiscreteLaplace) for part in event.events)
    relation = NeighboringRelation.REPLACE_ONE if counts else NeighboringRelation.ADD_OR_REMOVE_ONE
    once = ComposedDpEvent([dp_event(part) for part in event.events])
    accountant = RdpAccountant(ORDERS, relation)
    accountant.compose(RepeatAndSelectDpEvent(once, event.mean, event.shape))
    return np.array(accountant.rdp)


def dp_event(event: Event) -> "DpEvent":
    """Return steps or counts in dp_accounting's terms."""
    import dp_accounting  # noqa: PLC0415 - see above

    match event:
        case Steps():
            step: DpEvent = dp_accounting.GaussianDpEvent(event.noise_multiplier)
            if event.sample_rate < 1:
                step = dp_accounting.PoissonSampledDpEvent(event.sample_rate, step)
            return dp_accounting.SelfComposedDpEvent(step, event.steps)
        case Gaussian():
            return dp_accounting.GaussianDpEvent(event.noise_multiplier)
        case DiscreteLaplace():
            # Randomized response on one bit with noise 2 / (1 + e^ε).
            return dp_accounting.RandomizedResponseDpEvent(2 / (1 + math.exp(event.epsilon)), 2)
        case BestOfMany():
            raise TypeError("expected steps or counts, got many of them")
