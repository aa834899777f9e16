"""The least noise that keeps a run within its target."""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial

import dp_accounting
from scipy import optimize

from stages.errors import UserError
from stages.privacy.events import Event, Steps
from stages.privacy.history import adaptive_epsilon
from stages.training.accounting import (
    COARSE_PLD_INTERVAL,
    PLD_INTERVAL,
    PRV_ERROR,
    epsilon_pld,
    epsilon_prv,
    refuse_huge_mesh,
)

# Calibration aims PLD this far below the target, so that PRV fits, whose bound is PRV_ERROR higher.
CALIBRATION_MARGIN = 0.004

# What of the target the coarse accountant may waste; beyond, the fine one searches, which is slow.
COARSE_MAY_WASTE = 0.002
# Up to as many steps it wastes a thousandth at most.
COARSE_STEPS = 1_000

# By how much the logarithm of the noise is lowered where it is not known to be too little.
BELOW = 0.2

# Of the target; what is less is taken for as much while noise is looked for.
LEAST_SHARE = 1e-3

# Above this share of the target, a past leaves nothing for a run that continues it.
LEAST_SHARE_LEFT = 0.99


def calibrate(
    target_epsilon: float,
    *,
    delta: float,
    sample_rate: float,
    steps: int,
    past: Sequence[Event] = (),
) -> float:
    """Return the least effective noise multiplier that keeps past and new steps in the target.

    Guarantee:
        The `past` and then `steps` Gaussian steps at `sample_rate` with the result as σ are
        (`target_epsilon`, `delta`) differentially private for tables that differ by one row, if
        batches are Poisson samples and sampling and noise are secret. The reported ε lies in
        (0.99, 1] × target.

    Raises:
        UserError: the target is too small for that many steps, or the past has used it up.
    """

    def history(noise_multiplier: float) -> list[Steps]:
        own = Steps(noise_multiplier, sample_rate, steps)
        return [*(event for event in past if isinstance(event, Steps)), own]

    # What full batches need without a past is enough for every sample rate, up to rounding.
    enough = 1.01 * dp_accounting.get_sigma_gaussian(target_epsilon, delta) * math.sqrt(steps)
    refuse_huge_mesh(history(enough), delta, PRV_ERROR * target_epsilon)
    if past:
        others = [event for event in past if not isinstance(event, Steps)]
        noise_multiplier = _least_noise_on_the_way(
            lambda noise: adaptive_epsilon([*others, *history(noise)], delta),
            adaptive_epsilon(past, delta),
            target_epsilon,
            enough,
        )
    else:
        noise_multiplier = _least_noise_by_pld(history, target_epsilon, delta, enough)
    while (prv := epsilon_prv(history(noise_multiplier), delta, scale=target_epsilon)) > (
        target_epsilon
    ):
        noise_multiplier *= prv / target_epsilon
    return noise_multiplier


def _least_noise_by_pld(
    history: Callable[[float], list[Steps]], target_epsilon: float, delta: float, enough: float
) -> float:
    goal = target_epsilon * (1 - CALIBRATION_MARGIN)

    @cache
    def excess(log_noise: float, interval: float) -> float:
        # As a logarithm, which is nearly straight, so that fewer evaluations find its root.
        steps = history(math.exp(log_noise))
        epsilon = epsilon_pld(steps, delta, scale=target_epsilon, interval=interval)
        return math.log(max(epsilon, LEAST_SHARE * goal) / goal)

    # Subsampling saves at best a factor of 1 / sample_rate, and less where σ is small.
    low = math.log(max(history(1)[0].sample_rate * enough / 1.02, min(enough / 1.02, 0.5)))
    found = _root(partial(excess, interval=COARSE_PLD_INTERVAL), low, math.log(enough), BELOW)
    # Over many steps the coarse one is several per cent too high.
    many = history(1)[0].steps > COARSE_STEPS
    fine = partial(excess, interval=PLD_INTERVAL)
    if many and fine(found) < -COARSE_MAY_WASTE:
        found = _root(fine, found - 0.01, found, 0.02)
    return math.exp(found)


def _root(excess: Callable[[float], float], low: float, high: float, further: float) -> float:
    """Return where what falls from above `low` to below `high` is zero, on its lower side.

    Where it is below zero at `low` as well, it is looked for `further` down, in steps.
    """
    while excess(low) <= 0:
        low, high = low - further, low
    return float(optimize.brentq(excess, low, high, xtol=1e-4)) + 1e-4


def _least_noise_on_the_way(
    epsilon: Callable[[float], float], spent: float, target_epsilon: float, enough: float
) -> float:
    """Return the least noise with which a past and a run chosen in sight of it keep the target.

    Args:
        epsilon: of both, by the noise of the run, with which it falls.
        spent: ε of the past.
        target_epsilon: of both.
        enough: noise that would be enough without a past.
    """
    if spent >= LEAST_SHARE_LEFT * target_epsilon:
        raise UserError(
            f"params.yaml: `target_epsilon` is {target_epsilon:g}, and the run to continue from "
            f"has used {spent:.3f} of it. Raise `target_epsilon`."
        )
    goal = target_epsilon * (1 - CALIBRATION_MARGIN)
    high = low = enough
    while epsilon(high) > goal:
        high *= 2
    while epsilon(low) <= goal:
        low *= 0.7
    while high / low > 1 + 1e-5:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if epsilon(middle) > goal else (low, middle)
    return high
