"""What steps that ran have cost: two independent accountants, and the noise for a target.

Throughout, neighbouring tables differ by one added or removed row unless a name says otherwise.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import dp_accounting
import numpy as np
from dp_accounting.pld import PLDAccountant
from dp_accounting.privacy_accountant import NeighboringRelation

from stages.errors import BrokenGuaranteeError, UserError
from stages.privacy.attack import LEAST_DELTA, POINTS, Profile
from stages.privacy.events import BestOfMany, Event, Steps
from stages.privacy.gaussian import is_gaussian
from stages.privacy.history import adaptive_epsilon
from stages.privacy.renyi import (
    delta_of_curve,
    dp_event,
    epsilon_of_curve,
    epsilon_renyi,
    renyi_curve,
)
from stages.training.engine import PRVAccountant

# A row moves each of the three metric sums of a step by at most ½ (training/curves.py).
SQUARED_METRIC_SENSITIVITY = 3 * 0.5**2

# The two accountants may differ by this share of ε plus this constant before a stage fails.
DISAGREEMENT_SHARE = 0.02
DISAGREEMENT_CONSTANT = 0.02

# Error allowed to each accountant, as a share of the target: Opacus' fixed default of 0.01 would
# cost 10 % more noise at ε = 0.1.
PRV_ERROR = 0.003
PLD_INTERVAL = 1e-4

# Five times as fast, and at most 0.1 % higher: for the search, and for figures on the way.
COARSE_PLD_INTERVAL = 5e-4

# PRV's mesh grows without bound where σ or the target is tiny: 2^23 points take about a gigabyte,
# and ten seconds.
MAX_PRV_POINTS = 2**23


@dataclass(frozen=True)
class Spent:
    """ε of a history at δ.

    Attributes:
        epsilon: the reported one: the larger of the two accountants' where the plan was fixed in
            advance; where a run was continued, at least that of plans made on the way.
        prv: by Opacus' PRV accountant (Gopi et al. 2021), an upper bound for a fixed plan.
        pld: by Google's PLD accountant (Doroshenko et al. 2022), an upper bound for a fixed plan.
        renyi: by Rényi divergence, an upper bound even if the plan was made on the way.
        replace_one: by PLD, for neighbours that replace one row by another; None where that is no
            bound: of the best of many, and of sampled batches planned on the way.
        delta: δ of all of them.
    """

    epsilon: float
    prv: float
    pld: float
    renyi: float
    replace_one: float | None
    delta: float


def effective_noise_multiplier(noise_multiplier: float, metric_noise_multiplier: float) -> float:
    """Return σ of the one mechanism that releases a noisy gradient and noisy metric sums.

    Over its clip a row moves the gradient by at most 1, and the metric sums, which are orthogonal
    to it, by at most √¾ together; whitening the noise gives a shift of at most (σ⁻² + ¾·σₘ⁻²)^½,
    the inverse of the effective σ.
    """
    squared = noise_multiplier**-2 + SQUARED_METRIC_SENSITIVITY * metric_noise_multiplier**-2
    return float(squared**-0.5)


def epsilon_pld(
    history: Sequence[Steps],
    delta: float,
    *,
    scale: float,
    interval: float = PLD_INTERVAL,
    neighbouring: NeighboringRelation = NeighboringRelation.ADD_OR_REMOVE_ONE,
) -> float:
    """Return an upper bound on ε by privacy loss distributions, in steps of `interval · scale`."""
    accountant = PLDAccountant(neighbouring, value_discretization_interval=interval * scale)
    return float(accountant.compose(composed(history)).get_epsilon(delta))


def epsilon_prv(history: Sequence[Steps], delta: float, *, scale: float) -> float:
    """Return an upper bound on ε by privacy random variables, within `PRV_ERROR` of `scale`.

    Raises:
        UserError: the mesh would not fit into memory.
    """
    if not history:
        return 0.0
    accountant = PRVAccountant()
    accountant.history = [(run.noise_multiplier, run.sample_rate, run.steps) for run in history]
    refuse_huge_mesh(history, delta, PRV_ERROR * scale)
    # At sample rate 1 the density has log(1 - q) = -inf as its lower end, which is what is meant.
    with np.errstate(divide="ignore"), _no_warning_of_orders():
        return float(accountant.get_epsilon(delta, eps_error=PRV_ERROR * scale))


@contextmanager
def _no_warning_of_orders() -> Iterator[None]:
    """Silence Opacus where the best Rényi order is the largest tried: the bound holds then too."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order is the")
        yield


def refuse_huge_mesh(history: Sequence[Steps], delta: float, error: float) -> None:
    # The mesh of Gopi et al. 2021, as Opacus lays it: [-L, L] with L an RDP bound, in steps of
    # error / sqrt(steps · log(12 / δ_error) / 2), and δ_error = δ / 1000.
    delta_error = delta / 1000
    half_width = epsilon_renyi(history, delta_error / 4) + 3
    steps = sum(run.steps for run in history)
    points = 2 * half_width * math.sqrt(steps * math.log(12 / delta_error) / 2) / error
    if points > MAX_PRV_POINTS:
        raise UserError(
            f"params.yaml: a `target_epsilon` of {error / PRV_ERROR:g} is too small for {steps} "
            f"steps: its accounting needs {points:.3g} points, and {MAX_PRV_POINTS:.3g} fit. "
            "Raise `target_epsilon`, or lower `epochs`."
        )


def composed(history: Sequence[Steps]) -> dp_accounting.DpEvent:
    return dp_accounting.ComposedDpEvent([dp_event(run) for run in history])


def account(
    history: Sequence[Event], delta: float, target_epsilon: float, *, planned: bool = True
) -> Spent:
    """Return ε of the steps that really ran, by both accountants and by Rényi divergence.

    Args:
        history: everything that the released model knows of the training side: steps, and the best
            of many runs.
        delta: δ.
        target_epsilon: what must not be exceeded.
        planned: whether all of it was fixed in advance; a continued run is not.

    Raises:
        BrokenGuaranteeError: the accountants disagree by more than 2 % plus 0.02, or ε exceeds the
            target: what ran is not what was planned.
    """
    spent = spent_by(history, delta, target_epsilon, planned=planned)
    prv, pld = spent.prv, spent.pld
    # `not … <=` and not `>`: an ε that is no number fails both.
    if not abs(prv - pld) <= DISAGREEMENT_SHARE * max(prv, pld) + DISAGREEMENT_CONSTANT:
        raise BrokenGuaranteeError(
            f"the accountants disagree on ε of what ran: PRV says {prv:.4f}, PLD {pld:.4f}. "
            "Nothing was written; report this with your params.yaml."
        )
    if not spent.epsilon <= target_epsilon:
        raise BrokenGuaranteeError(
            f"ε of what ran is {spent.epsilon:.4f}, above the target {target_epsilon:g}. Nothing "
            "was written: the training took other steps than its plan says. Mend the code that "
            "was changed."
        )
    return spent


def spent_by(
    history: Sequence[Event], delta: float, scale: float, *, planned: bool = True
) -> Spent:
    """Return what `account` returns, whatever it is; `scale` is about the ε to expect."""
    steps = [event for event in history if isinstance(event, Steps)]
    prv = epsilon_prv(steps, delta, scale=scale)
    pld = epsilon_pld(steps, delta, scale=scale)
    renyi = epsilon_renyi(history, delta)
    epsilon = max(prv, pld) if planned else max(prv, pld, adaptive_epsilon(history, delta))
    replace_one = None
    if len(steps) == len(history) and (planned or is_gaussian(steps)):
        relation = NeighboringRelation.REPLACE_ONE
        replaced = epsilon_pld(steps, delta, scale=scale, neighbouring=relation)
        # Replacing a row is harder to hide; PRV's margin must not make it look otherwise.
        replace_one = max(replaced, epsilon)
    return Spent(epsilon, prv, pld, renyi, replace_one, delta)


def epsilon_curve(
    past: Sequence[Event],
    run: Sequence[Steps],
    after: Sequence[int],
    spent: Spent,
    best_of: BestOfMany | None = None,
) -> list[float]:
    """Return ε after each number of new steps in `after`; the last one is `spent.epsilon`.

    By PLD for a run of its own, as a plan made on the way for one that continues a `past`. Of the
    best of many runs it is the price of all had each ended there.
    """
    parts = [_first(run, steps) for steps in after[:-1]]
    if best_of:
        many = (replace(best_of, events=tuple(part)) for part in parts)
        so_far = [epsilon_renyi([*past, one], spent.delta) for one in many]
    elif past:
        so_far = [adaptive_epsilon([*past, *part], spent.delta) for part in parts]
    else:
        so_far = [_epsilon_on_the_way(part, spent) for part in parts]
    return [*so_far, spent.epsilon]


def _epsilon_on_the_way(history: Sequence[Steps], spent: Spent) -> float:
    if all(run.sample_rate == 1 for run in history):
        # Without sampling, T steps of noise σ are one step of noise σ / √T.
        precision = sum(run.steps / run.noise_multiplier**2 for run in history)
        return float(dp_accounting.get_epsilon_gaussian(precision**-0.5, spent.delta))
    return epsilon_pld(history, spent.delta, scale=spent.epsilon, interval=COARSE_PLD_INTERVAL)


def _first(history: Sequence[Steps], steps: int) -> list[Steps]:
    """Return the part of `history` that its first `steps` steps are."""
    part = []
    for run in history:
        taken = min(steps, run.steps)
        part.append(Steps(run.noise_multiplier, run.sample_rate, taken))
        steps -= taken
    return [run for run in part if run.steps]


def privacy_profile(
    events: Sequence[Event], *, planned: bool, of_others: Sequence[Event] = ()
) -> Profile:
    """Return δ(ε) of what ran, at as many ε as its trade-off curve needs.

    By PLD where all of it was fixed in advance or is Gaussian, for which that makes no difference;
    by Rényi divergence, which is looser, elsewhere and where the best of many was kept.

    Args:
        events: what somebody was in.
        planned: whether all of it was fixed in advance.
        of_others: what somebody else was in; the profile is that of whoever has more to lose.
    """
    steps = [event for event in events if isinstance(event, Steps)]
    if len(steps) < len(events) or of_others or not (planned or is_gaussian(events)):
        curve = np.maximum(renyi_curve(events), renyi_curve(of_others))
        epsilons = np.linspace(0, epsilon_of_curve(curve, LEAST_DELTA), POINTS)
        return Profile(epsilons, delta_of_curve(curve, epsilons))
    largest = epsilon_renyi(steps, LEAST_DELTA)
    accountant = PLDAccountant(value_discretization_interval=COARSE_PLD_INTERVAL * largest)
    accountant.compose(composed(steps))
    epsilons = np.linspace(0, largest, POINTS)
    return Profile(epsilons, np.minimum(1.0, accountant.get_delta(epsilons)))
