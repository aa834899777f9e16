"""What an attacker can do: against closed forms, and against another program's figures."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from stages.privacy.attack import (
    REPORTED,
    Profile,
    curve_rows,
    figures_of,
    profile_of_counts,
    profile_of_promise,
)
from stages.privacy.events import BestOfMany, DiscreteLaplace, Steps
from stages.privacy.renyi import delta_of_curve, epsilon_of_curve, renyi_curve
from stages.training.accounting import privacy_profile

RATES = np.array([1e-4, *REPORTED, 0.5, 0.9])
FULL_BATCHES = Steps(8.789244619729972, 1.0, 52)


def figures(profile):
    return [profile.advantage, *profile.true_positives(np.array(REPORTED))]


@pytest.mark.parametrize("mu", [0.1, 0.8204, 3.0])
def test_full_batches_are_one_gaussian_with_its_closed_form(mu):
    profile = privacy_profile([Steps(10 / mu, 1.0, 100)], planned=True)
    exact = norm.cdf(norm.ppf(RATES) + mu)
    np.testing.assert_allclose(profile.true_positives(RATES), exact, rtol=1e-3)
    assert profile.advantage == pytest.approx(2 * norm.cdf(mu / 2) - 1, rel=1e-3)


# From riskcal 1.5.1 (Kulynych et al. 2024): get_advantage_from_pld, and 1 - get_beta_from_pld at
# 0.001, 0.01 and 0.1, of dp_accounting's from_gaussian_mechanism with an interval of 1e-3.
RISKCAL = [
    (FULL_BATCHES, [0.3183596, 0.01161044, 0.06604688, 0.32236337]),
    (Steps(1.0, 0.06, 400), [0.5308388, 0.06302426, 0.21072624, 0.57576183]),
    (Steps(2.0, 0.2, 50), [0.2835853, 0.01057612, 0.05958903, 0.29597939]),
]


@pytest.mark.parametrize(("steps", "theirs"), RISKCAL)
def test_another_program_finds_the_same_to_a_hundredth(steps, theirs):
    np.testing.assert_allclose(figures(privacy_profile([steps], planned=True)), theirs, rtol=0.01)


def test_one_percent_less_noise_is_seen():
    # The control of the tests above: their tolerances are finer than a fault of this size.
    (steps, theirs) = RISKCAL[0]
    less = Steps(0.98 * steps.noise_multiplier, steps.sample_rate, steps.steps)
    ours = np.array(figures(privacy_profile([less], planned=True)))
    assert (ours > 1.01 * np.array(theirs)).all()


def test_counts_are_randomized_response():
    epsilon = 1.75
    likely = np.exp(epsilon) / (1 + np.exp(epsilon))
    one = profile_of_counts([DiscreteLaplace(epsilon)])
    assert one.advantage == pytest.approx(2 * likely - 1)
    # Of two answers the best test asks for both, then for either, then for none.
    two = profile_of_counts([DiscreteLaplace(epsilon)] * 2)
    assert two.advantage == pytest.approx(likely**2 - (1 - likely) ** 2)
    corners = np.array([(1 - likely) ** 2, 1 - likely**2])
    expected = [likely**2, 1 - (1 - likely) ** 2]
    np.testing.assert_allclose(two.true_positives(corners), expected)


def test_counts_say_more_than_their_epsilon():
    known, promised = profile_of_counts([DiscreteLaplace(1.75)] * 2), profile_of_promise(3.5, 0)
    assert (known.true_positives(RATES) <= promised.true_positives(RATES) + 1e-12).all()
    assert known.advantage < 0.8 * promised.advantage


@pytest.mark.parametrize(
    "profile",
    [
        privacy_profile([FULL_BATCHES], planned=True),
        privacy_profile([FULL_BATCHES], planned=False),
        profile_of_counts([DiscreteLaplace(1.75)] * 2),
        profile_of_promise(1.0, 1e-5),
    ],
    ids=["planned", "on the way", "counts", "promise"],
)
def test_a_trade_off_curve_grows_bends_down_and_beats_guessing(profile):
    rates = np.linspace(0, 1, 501)
    found = profile.true_positives(rates)
    assert (np.diff(found) >= -1e-12).all()
    assert (np.diff(found, n=2) <= 1e-9).all()
    assert (found >= rates - 1e-12).all()
    assert found.max() <= 1
    assert (found - rates).max() == pytest.approx(profile.advantage, abs=2e-3)


def test_what_was_planned_on_the_way_is_bounded_less_tightly():
    sampled = replace(FULL_BATCHES, sample_rate=0.5)
    planned, not_planned = (
        privacy_profile([sampled], planned=planned) for planned in (True, False)
    )
    assert (not_planned.true_positives(RATES) > planned.true_positives(RATES)).all()
    assert not_planned.advantage > planned.advantage


def test_for_full_batches_it_makes_no_difference_whether_they_were_planned():
    planned, not_planned = (
        privacy_profile([FULL_BATCHES], planned=planned) for planned in (True, False)
    )
    assert (not_planned.deltas == planned.deltas).all()


def test_the_best_of_many_tells_more_than_one():
    many = BestOfMany((FULL_BATCHES,), mean=5, shape=1.0)
    once, best = (privacy_profile([event], planned=True) for event in (FULL_BATCHES, many))
    assert best.advantage > once.advantage


def test_delta_of_a_renyi_curve_is_its_epsilon_turned_round():
    curve = renyi_curve([FULL_BATCHES])
    deltas = np.array([1e-3, 1e-5, 1e-9])
    epsilons = np.array([epsilon_of_curve(curve, delta) for delta in deltas])
    np.testing.assert_allclose(delta_of_curve(curve, epsilons), deltas, rtol=1e-6)


def test_what_is_exact_gives_everything_away():
    assert figures_of(profile_of_promise(0.0, 1.0)) == {
        "advantage": 1.0,
        **{f"true_positives_at_{rate:g}": 1.0 for rate in REPORTED},
    }


def test_rows_of_the_curve_hold_what_is_told():
    profile = Profile(np.array([0.0, 1.0]), np.array([0.4, 0.01]))
    rows = {row["false_positive_rate"]: row["true_positive_rate"] for row in curve_rows(profile)}
    for rate in REPORTED:
        assert rows[rate] == pytest.approx(
            figures_of(profile)[f"true_positives_at_{rate:g}"], abs=1e-6
        )


def test_a_row_of_the_curve_is_never_below_the_bound():
    profile = privacy_profile([FULL_BATCHES], planned=True)
    rows = curve_rows(profile)
    told_rates = np.array([row["true_positive_rate"] for row in rows])
    bounds = profile.true_positives(np.array([row["false_positive_rate"] for row in rows]))
    assert (told_rates >= bounds).all()
    np.testing.assert_allclose(told_rates, bounds, atol=1.1e-6)
