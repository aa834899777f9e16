"""What all runs on the same people have spent together (a privacy odometer).

A person is on one side of a split only, so the sides of one split compose in parallel: the larger
counts. Another `split_seed` or `test_fraction` deals everybody anew, and an edited row decides its
side anew, so splits and versions of the table add up, each with its larger side.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from stages.privacy.events import Event, to_json, with_more_noise
from stages.privacy.gaussian import epsilon_gaussian, is_gaussian, precision
from stages.privacy.renyi import Curve, epsilon_of_curve, epsilon_of_filter, renyi_curve

Side = Literal["train", "test"]
FromCurve = Callable[[Curve, float], float]

# Of a budget's δ, what the filter for full batches has. It costs them a quarter of a per cent of ε,
# so that a run, whose noise is a little more than its target needs, fits a budget equal to it.
GAUSSIAN_SHARE = 0.95

SIDES: tuple[Side, ...] = ("train", "test")

# The unit that is promised the least, of which a person may be many.
ROW = "row"


@dataclass(frozen=True)
class Spend:
    """One release about one side of one table.

    Attributes:
        data: path of the private table, as params.yaml names it.
        fingerprint: hash of its content.
        split: `test_fraction` and `split_seed`, which decide who is on which side.
        side: whose rows the release reads.
        events: the mechanisms it runs.
        epsilon: what they cost on their own, planned in advance, at `delta`.
        delta: δ.
        unit: whom that is promised to, one row or a person with all rows. Rows, unless it is told.
    """

    data: str
    fingerprint: str
    split: str
    side: Side
    events: tuple[Event, ...]
    epsilon: float
    delta: float
    unit: str = ROW

    def public(self) -> dict[str, Any]:
        """Return what may stand in the metrics: no path or hash of the private table."""
        return {
            "side": self.side,
            "events": to_json(self.events),
            "epsilon": self.epsilon,
            "delta": self.delta,
        }


def total_epsilon(
    spends: Sequence[Spend], delta: float, of_curve: FromCurve = epsilon_of_curve
) -> float:
    """Return ε at δ of all `spends`, which are about the same people.

    Guarantee:
        Everything that the spends released is (ε, δ) differentially private for tables that differ
        by one row, if the number of releases and their mechanisms were fixed in advance. Who stops
        when the total pleases, or chooses a mechanism in sight of what was released, is promised
        less: the best rule fails with up to 1.9 (two runs alike) to 10 (thirty) times δ, as
        tests/privacy/test_stopping.py computes. `budgeted_epsilon` is for that. A side with a
        single release counts as what it cost on its own. Infinite where some promise something to
        each row and others to each person, who may have any number of rows.
    """
    if len(units_of(spends)) > 1:
        return math.inf
    deals: dict[tuple[str, str], list[Spend]] = {_deal(spend): [] for spend in spends}
    for spend in spends:
        deals[_deal(spend)].append(spend)
    if len(deals) <= 1:
        return max(side_epsilon(spends, side, delta, of_curve) for side in SIDES)
    if is_gaussian([event for spend in spends for event in spend.events]):
        of_deals = (max(precision(_on(deal, side)) for side in SIDES) for deal in deals.values())
        return epsilon_gaussian(sum(of_deals), delta)
    curves = [_larger_curve(deal) for deal in deals.values()]
    return of_curve(np.sum(curves, axis=0), delta)


def units_of(spends: Sequence[Spend]) -> set[str]:
    """Return whom spends promise something to."""
    return {spend.unit for spend in spends}


def budgeted_epsilon(spends: Sequence[Spend], delta: float) -> float:
    """Return ε at δ of all `spends`, as a budget that was fixed in advance counts them.

    Guarantee:
        As long as releases are refused whose entry would raise this above a budget, everything
        released is (budget, δ) differentially private, however each was chosen in sight of those
        before and whenever one stops: full batches by the filter for Gaussian mechanisms (see
        `gaussian`), whatever else by Rényi filters at fixed orders (see `epsilon_of_filter`). Who
        has full batches may choose on the way which of the two it will be, so they share δ.
    """
    if len({_deal(spend) for spend in spends}) > 1:
        return _filtered(spends, delta)
    return max(_filtered([one for one in spends if one.side == side], delta) for side in SIDES)


def _filtered(spends: Sequence[Spend], delta: float) -> float:
    """The same of what the same people may all have been in."""
    if len(spends) == 1 and spends[0].delta <= delta:
        return _alone(spends[0], delta)  # nothing was chosen in sight of anything
    gaussian = [is_gaussian(spend.events) for spend in spends]
    share = GAUSSIAN_SHARE if all(gaussian) else 1 - GAUSSIAN_SHARE if any(gaussian) else 1.0
    return total_epsilon(spends, share * delta, epsilon_of_filter)


def adaptive_epsilon(
    events: Sequence[Event], delta: float, of_curve: FromCurve = epsilon_of_curve
) -> float:
    """Return ε at δ of events about the same people, each chosen in sight of those before.

    Exact where all are Gaussian mechanisms, by Rényi divergence elsewhere.
    """
    if is_gaussian(events):
        return epsilon_gaussian(precision(events), delta)
    return of_curve(renyi_curve(events), delta)


def _deal(spend: Spend) -> tuple[str, str]:
    """What decides who is on which side: the split, and the rows as they are."""
    return spend.split, spend.fingerprint


def side_epsilon(
    spends: Sequence[Spend], side: Side, delta: float, of_curve: FromCurve = epsilon_of_curve
) -> float:
    """Return ε at δ of the spends on one side."""
    on_side = [spend for spend in spends if spend.side == side]
    if len(on_side) == 1 and on_side[0].delta <= delta:
        return _alone(on_side[0], delta)
    return adaptive_epsilon(_on(spends, side), delta, of_curve)


def _alone(spend: Spend, delta: float) -> float:
    """Return ε of a single release at its own δ or a larger one, at which it is less."""
    if spend.delta == delta:
        return spend.epsilon
    return min(spend.epsilon, adaptive_epsilon(spend.events, delta))


def _on(spends: Sequence[Spend], side: Side) -> list[Event]:
    return [event for spend in spends if spend.side == side for event in spend.events]


def _larger_curve(spends: Sequence[Spend]) -> Curve:
    return np.maximum(*(renyi_curve(_on(spends, side)) for side in SIDES))


def largest_epsilon(
    spends: Sequence[Spend], new: Sequence[Spend], delta: float, budget: float
) -> float:
    """Return about the largest ε that releases like `new` could have within `budget`; 0 if none."""

    def with_noise(factor: float) -> list[Spend]:
        return [_with_more_noise(spend, factor, delta) for spend in new]

    def fits(factor: float) -> bool:
        return budgeted_epsilon([*spends, *with_noise(factor)], delta) <= budget

    low, high = 1.0, 1000.0
    if not fits(high):
        return 0.0
    for _ in range(20):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return max(spend.epsilon for spend in with_noise(high))


def _with_more_noise(spend: Spend, factor: float, delta: float) -> Spend:
    events = tuple(with_more_noise(event, factor) for event in spend.events)
    return replace(spend, events=events, epsilon=adaptive_epsilon(events, delta))
