"""Gaussian mechanisms: exact, additive in μ², and the same whether steps or releases of counts."""

import numpy as np
import pytest
from dp_accounting import get_epsilon_gaussian, get_sigma_gaussian
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from stages.privacy.attack import profile_of_gaussian
from stages.privacy.events import BestOfMany, DiscreteLaplace, Gaussian, Steps
from stages.privacy.gaussian import (
    delta_gaussian,
    epsilon_gaussian,
    gaussian_noise,
    is_gaussian,
    precision,
)
from stages.privacy.history import Spend, budgeted_epsilon, side_epsilon, total_epsilon
from stages.privacy.renyi import epsilon_renyi


@pytest.mark.parametrize("epsilon", [0.05, 0.25, 1.0, 3.5, 20.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-9])
def test_the_noise_for_an_epsilon_is_googles_and_just_enough(epsilon, delta):
    sigma = gaussian_noise(epsilon, delta)
    assert sigma == pytest.approx(get_sigma_gaussian(epsilon, delta), rel=1e-5)
    assert epsilon_gaussian(sigma**-2, delta) <= epsilon
    assert epsilon_gaussian((0.9999 * sigma) ** -2, delta) > epsilon


@given(sigma=st.floats(0.3, 50), epsilon=st.floats(0, 20))
@settings(deadline=None, max_examples=50)
def test_delta_is_the_formula_and_epsilon_turns_it_round(sigma, epsilon):
    # Balle & Wang 2018, Theorem 8, by scipy.
    mu = 1 / sigma
    exact = norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
    assert delta_gaussian(mu**2, epsilon) == pytest.approx(exact, rel=1e-4, abs=1e-14)
    if delta_gaussian(mu**2, epsilon) > 1e-10 and epsilon > 0:
        again = epsilon_gaussian(mu**2, delta_gaussian(mu**2, epsilon))
        assert again == pytest.approx(epsilon, rel=1e-4, abs=1e-6)


def test_releases_and_steps_on_everybody_add_up_alike():
    steps, release = Steps(10.0, 1.0, 25), Gaussian(2.0)
    assert precision([steps]) == precision([release]) == pytest.approx(0.25)
    assert precision([steps, release]) == pytest.approx(0.5)
    assert is_gaussian([steps, release])
    assert not is_gaussian([Steps(10.0, 0.5, 25)])
    for other in (DiscreteLaplace(1.0), BestOfMany((release,), 2.0, 1.0)):
        assert not is_gaussian([release, other])
        with pytest.raises(TypeError, match="expected Gaussian"):
            precision([release, other])


def spend(side, *events, split="0.2 by seed 0"):
    epsilon = epsilon_renyi(events, 1e-5)
    return Spend("data.csv", "a hash", split, side, events, epsilon, 1e-5)


def test_a_history_of_runs_costs_either_side_the_same():
    runs = [spend("train", Steps(37.3, 1.0, 100)), spend("test", Gaussian(3.73))] * 10
    train, test = (side_epsilon(runs, side, 1e-5) for side in ("train", "test"))
    assert train == pytest.approx(test)
    exact = get_epsilon_gaussian(3.73 / 10**0.5, 1e-5)
    assert total_epsilon(runs, 1e-5) == pytest.approx(exact, rel=1e-6)
    # So chosen in sight of each other they cost no more, but for the δ that is kept for others.
    assert budgeted_epsilon(runs, 1e-5) == total_epsilon(runs, 0.95e-5)


def test_another_split_adds_up_and_an_old_release_is_priced_with_the_new():
    here = [spend("train", Steps(37.3, 1.0, 100)), spend("test", Gaussian(3.73))]
    elsewhere = [spend("test", Gaussian(3.73), split="0.2 by seed 1")]
    exact = get_epsilon_gaussian(3.73 / 2**0.5, 1e-5)
    assert total_epsilon([*here, *elsewhere], 1e-5) == pytest.approx(exact, rel=1e-6)
    old = spend("test", DiscreteLaplace(0.5), DiscreteLaplace(0.5))
    both = total_epsilon([*here, old], 1e-5)
    assert both == pytest.approx(epsilon_renyi([Gaussian(3.73), *old.events], 1e-5))
    assert both > side_epsilon([old], "test", 1e-5)


def test_the_best_of_many_runs_may_release_counts():
    many = BestOfMany((Gaussian(3.73),), 5.0, 1.0)
    steps = BestOfMany((Steps(3.73, 1.0, 1),), 5.0, 1.0)
    assert epsilon_renyi([many], 1e-5) == epsilon_renyi([steps], 1e-5)
    assert epsilon_renyi([many], 1e-5) > epsilon_renyi([Gaussian(3.73)], 1e-5)


@pytest.mark.parametrize("mu", [0.1, 0.8204, 3.0])
def test_what_an_attacker_can_do_is_the_closed_form(mu):
    # Dong, Roth & Su 2022: 1 - f(α) = Φ(Φ⁻¹(α) + μ), and an advantage of 2·Φ(μ / 2) - 1.
    profile, rates = profile_of_gaussian(mu**2), np.array([1e-3, 0.01, 0.1, 0.5, 0.9])
    exact = norm.cdf(norm.ppf(rates) + mu)
    found = profile.true_positives(rates)
    np.testing.assert_allclose(found, exact, rtol=1e-3)
    assert (found >= exact - 1e-12).all()
    assert profile.advantage == pytest.approx(2 * norm.cdf(mu / 2) - 1)
