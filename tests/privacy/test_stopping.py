"""What a total and a budget promise to who stops when it pleases: computed, not sampled.

The privacy loss of Gaussian mechanisms of noise 1 / μ is a random walk with steps N(μ² / 2, μ²).
Who stops at loss L against a stated ε fails with mass max(0, 1 - e^(ε - L)). The best rule is found
backwards: the value of a loss is the larger of stopping there and of the mean value one step on. A
failure of 1e-5 is too rare to be seen in 1e5 draws, but not on a grid.
"""

import dp_accounting
import numpy as np
import pytest
from scipy.stats import norm

from stages.privacy.events import Steps
from stages.privacy.history import GAUSSIAN_SHARE, Spend, budgeted_epsilon, total_epsilon

DELTA = 1e-5
POINTS_PER_DEVIATION = 16


def best_failure(noise, budgets, moves):
    """Failure mass of the best rule; `budgets[k]` is what is stated after k runs of this noise.

    Args:
        noise: σ of one run.
        budgets: ε after 0, 1, … runs.
        moves: how many runs may be made at once, as one with less noise: the rule chooses, in sight
            of the loss so far.
    """
    runs, mu = len(budgets) - 1, 1 / noise
    reach = runs * mu**2 / 2 + 9 * mu * np.sqrt(runs)
    losses = np.arange(-reach, reach, mu / POINTS_PER_DEVIATION)
    width = losses[1] - losses[0]

    def step(number):
        mean, deviation = number * mu**2 / 2, np.sqrt(number) * mu
        return norm.pdf(losses[None] - losses[:, None], mean, deviation) * width

    kernels = {number: step(number) for number in moves}
    values: list[np.ndarray] = []  # of having made k runs, from the last to the first
    for made in range(runs, -1, -1):
        value = np.maximum(0.0, -np.expm1(budgets[made] - losses))
        for number in (number for number in moves if number <= runs - made):
            value = np.maximum(value, kernels[number] @ values[-number])
        values.append(value)
    return float(np.interp(0.0, losses, values[-1]))


def spends(noise, runs):
    steps = (Steps(noise, 1.0, 1),)
    return [Spend("patients.csv", "abc", "a split", "train", steps, exact(noise, 1), DELTA)] * runs


def exact(noise, runs, delta=DELTA):
    """ε of so many runs, by Google's code."""
    return dp_accounting.get_epsilon_gaussian(noise / np.sqrt(runs), delta) if runs else 0.0


@pytest.fixture(params=[1.0, 3.5])
def noise(request):
    return dp_accounting.get_sigma_gaussian(request.param, DELTA)


def test_a_number_of_runs_fixed_in_advance_fails_as_often_as_stated(noise):
    # The grid against what is known: nobody chooses anything, and the mass is δ.
    budgets = [np.inf] * 10 + [exact(noise, 10)]
    assert best_failure(noise, budgets, [1]) == pytest.approx(DELTA, rel=0.01)


@pytest.mark.parametrize(("runs", "more"), [(2, 1.8), (10, 5.0), (30, 8.0)])
def test_the_total_is_no_promise_to_who_stops_when_it_pleases(noise, runs, more):
    # So it is named for what it is: what all runs cost, had they been planned together.
    totals = [total_epsilon(spends(noise, made), DELTA) for made in range(runs + 1)]
    assert totals[1:] == pytest.approx(
        [exact(noise, made) for made in range(1, runs + 1)], rel=1e-4
    )
    # Before the first run there is nothing to fail.
    assert best_failure(noise, [np.inf, *totals[1:]], [1]) > more * DELTA


@pytest.mark.parametrize("runs", [2, 10, 30])
def test_a_budget_holds_for_every_rule(noise, runs):
    # Stop whenever, and choose how much noise is next: whatever fits the budget has been let in.
    budget = budgeted_epsilon(spends(noise, runs), DELTA)
    assert budget == pytest.approx(exact(noise, runs, GAUSSIAN_SHARE * DELTA), rel=1e-4)
    failure = best_failure(noise, [budget] * (runs + 1), [1, 2, 5])
    assert failure == pytest.approx(GAUSSIAN_SHARE * DELTA, rel=0.02)
    # A filter with a per cent less ε would be told apart.
    assert best_failure(noise, [0.98 * budget] * (runs + 1), [1]) > 0.95 * DELTA
