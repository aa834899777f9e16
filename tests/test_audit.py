"""The audits are sound, tell something, and see faults: an audit that cannot fail proves nothing.

Simulations have a fixed seed. False alarms are counted against the rate that is promised; the small
audits of the engine were right at each of 20 to 40 other seeds.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from dp_accounting import get_epsilon_gaussian
from scipy import stats

from benchmarks import audit
from benchmarks.audit import (
    CONFIDENCE,
    Subject,
    audit_step,
    count_correct,
    epsilon_at_least,
    fisher_cut,
    refutes_by_guesses,
    refutes_by_rates,
    trade_off,
    upper_rate,
)
from stages.errors import BrokenGuaranteeError, UserError
from stages.model.inputs import AS_THEY_ARE, Pieces
from stages.model.perceptron import Architecture
from stages.privacy.events import Steps
from stages.training.dp_sgd import PrivateTraining
from stages.training.gradients import ClippedSumFunction
from stages.training.noise import random_source
from stages.training.plan import Plan

DELTA = 1e-5

# 20 steps, each with μ = 1/σ, are Gaussian differentially private with μ = √20 / 4 = 1.118.
CLAIM = Steps(noise_multiplier=4.0, sample_rate=1.0, steps=20)
MU = math.sqrt(20) / 4


def with_noise(factor):
    return replace(CLAIM, noise_multiplier=factor * CLAIM.noise_multiplier)


@pytest.fixture(scope="module")
def allowed():
    """What claims allow that have the true noise, twice as much, or 64 times: ε next to 0."""
    return {factor: trade_off(with_noise(factor)) for factor in (1, 2, 64)}


def most_false_alarms(runs):
    """How often right claims may be refuted; exceeded with probability below one in a million."""
    return int(stats.binom.isf(1e-6, runs, 1 - CONFIDENCE))


# --- what a claim allows -------------------------------------------------------------------------


@pytest.mark.parametrize("true_positives", [0.01, 0.3, 0.5, 0.9, 0.999])
def test_trade_off_of_the_gaussian_mechanism(allowed, true_positives):
    # TPR = 1 - Φ(t - μ) at threshold t, and FPR = 1 - Φ(t).
    exact = stats.norm.sf(stats.norm.isf(true_positives) + MU)
    assert exact * 0.99 - 1e-6 < allowed[1](true_positives) <= exact


def test_trade_off_of_a_subsampled_step():
    # Where a score exceeds t: N(0, 1) without the row, and with it N(1/σ, 1) if it is drawn.
    thresholds = np.linspace(-1, 3, 9)
    false_positives = stats.norm.sf(thresholds)
    true_positives = 0.8 * false_positives + 0.2 * stats.norm.sf(thresholds - 1)
    allowed = trade_off(Steps(noise_multiplier=1.0, sample_rate=0.2, steps=1))
    found = np.array([allowed(rate) for rate in true_positives])
    assert (found <= false_positives).all()
    assert found == pytest.approx(false_positives, rel=0.05)


# --- rates over many repetitions -----------------------------------------------------------------


def test_interval_for_a_rate():
    # No event in n trials: (1 - p)^n = 1 - confidence.
    assert upper_rate(0, 100, 0.95) == pytest.approx(1 - 0.05**0.01)
    assert upper_rate(100, 100, 0.95) == 1
    # The definition, at a rate in between.
    rate = upper_rate(7, 50, 0.95)
    assert stats.binom.cdf(7, 50, rate) == pytest.approx(0.05)


def test_bound_from_rates_has_its_closed_form():
    # 800 of 1,000 scores on the right side each way. A Gaussian mechanism allows both error rates
    # to be p if μ = 2·Φ⁻¹(1 - p), and ε follows from μ.
    scores = np.repeat([0.0, 1.0], [800, 200])
    refutes = refutes_by_rates(scores, 1 - scores, threshold=0.5)
    error = upper_rate(200, 1000, (1 + CONFIDENCE) / 2)
    epsilon = get_epsilon_gaussian(1 / (2 * stats.norm.isf(error)), DELTA)
    assert epsilon_at_least(refutes, CLAIM, DELTA) == pytest.approx(epsilon, rel=0.01)


def gaussian_rates(source, mu, repetitions=2_000):
    without, present = source.standard_normal((2, repetitions))
    return refutes_by_rates(without, present + mu, threshold=mu / 2)


def test_rates_refute_a_true_claim_rarely_and_a_false_one_mostly(allowed):
    source = np.random.default_rng(1)
    audits = [gaussian_rates(source, MU) for _ in range(1_000)]
    assert sum(refutes(allowed[1]) for refutes in audits) <= most_false_alarms(1_000)
    assert all(refutes(allowed[2]) for refutes in audits)


def test_rates_of_null_scores_refute_no_claim(allowed):
    source = np.random.default_rng(2)
    audits = [gaussian_rates(source, 0) for _ in range(1_000)]
    assert sum(refutes(allowed[64]) for refutes in audits) <= most_false_alarms(1_000)
    assert epsilon_at_least(audits[0], CLAIM, DELTA) == 0


# --- guesses on one training ---------------------------------------------------------------------


@pytest.mark.parametrize("canaries", [100, 1000])
def test_guesses_against_pure_privacy_are_binomial(canaries):
    # f(x) = e^-ε·x turns the recursion into (n - t)·P[T = t] = e^-ε·(t + 1)·P[T = t + 1], that is
    # T ~ Binomial(n, q) with q = 1 / (1 + e^-ε). All of 100 right refutes q^100 < 1 - CONFIDENCE.
    q = (1 - CONFIDENCE) ** 0.01
    epsilon = math.log(q / (1 - q))
    refutes = refutes_by_guesses(canaries, guesses=100, correct=100)
    assert refutes(lambda true: math.exp(-(epsilon - 1e-6)) * true)
    assert not refutes(lambda true: math.exp(-(epsilon + 1e-6)) * true)


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "epsilon"),
    [(5000, 600, 499, 2.0200), (5000, 600, 583, 4.6256), (2000, 200, 120, 0.1939)],
)
def test_bound_from_guesses_agrees_with_another_implementation(canaries, guesses, correct, epsilon):
    # By `_epsilon_one_run_fdp` of jax-privacy 2.0.0's auditing module, significance 0.05, δ = 1e-5.
    refutes = refutes_by_guesses(canaries, guesses, correct)
    assert epsilon_at_least(refutes, CLAIM, DELTA) == pytest.approx(epsilon, rel=0.01)


def gaussian_guesses(source, mu, canaries=2_000, guesses=300):
    present = source.random(canaries) < 0.5
    scores = source.standard_normal(canaries) + mu * present
    return refutes_by_guesses(canaries, guesses, count_correct(scores, present, guesses))


def test_guesses_refute_a_true_claim_rarely_and_a_false_one_mostly(allowed):
    source = np.random.default_rng(3)
    audits = [gaussian_guesses(source, MU) for _ in range(50)]
    assert sum(refutes(allowed[1]) for refutes in audits) <= most_false_alarms(50)
    assert sum(refutes(allowed[2]) for refutes in audits) >= 45


def test_guesses_on_null_scores_refute_no_claim(allowed):
    source = np.random.default_rng(4)
    audits = [gaussian_guesses(source, 0) for _ in range(50)]
    assert sum(refutes(allowed[64]) for refutes in audits) <= most_false_alarms(50)
    assert epsilon_at_least(audits[0], CLAIM, DELTA) == 0


def test_counting_abstains_in_the_middle():
    scores = np.array([5.0, -3.0, 0.1, 4.0, -2.0, 0.2])
    present = np.array([True, False, True, False, True, False])
    assert count_correct(scores, present, guesses=2) == 2
    assert count_correct(scores, present, guesses=4) == 2


def test_fisher_cut_listens_to_what_has_no_noise():
    source = np.random.default_rng(5)
    clouds = source.standard_normal((2, 50, 3)) * [1, 1, 0]
    clouds[1] += [0.1, 0.1, 0.01]
    weights, threshold = fisher_cut(*clouds)
    assert (clouds[0] @ weights < threshold).all()
    assert (clouds[1] @ weights > threshold).all()


# --- the engine ----------------------------------------------------------------------------------


@pytest.fixture
def subject():
    source = np.random.default_rng(6)
    plan = Plan(
        train_size=30,
        sample_rate=1.0,
        steps=12,
        expected_batch_size=30.0,
        noise_multiplier=4.2,
        metric_noise_multiplier=21.0,
        max_grad_norm=2.0,
        delta=DELTA,
        candidates=2,
    )
    assert plan.schedule.scoring
    assert plan.schedule.calibration
    return Subject(
        features=source.uniform(-1, 1, (31, 4)).astype(np.float32),
        labels=source.integers(0, 2, 31),
        shapes=tuple(
            Architecture(4, 2, hidden_sizes=[], activation="relu", inputs=inputs)
            for inputs in (AS_THEY_ARE, Pieces(numbers=(0, 2), count=3))
        ),
        plan=plan,
        init_seed=0,
    )


@pytest.fixture
def run_audit(monkeypatch, subject):
    """Run the command on the small subject, with a fixed seed."""

    def run_with(*arguments, generator=np.random.Generator):
        monkeypatch.setattr(audit, "configured_subject", lambda: subject)
        monkeypatch.setattr(audit, "random_source", lambda _: generator(np.random.PCG64(7)))
        monkeypatch.setattr(audit, "REPETITIONS", 1_200)
        monkeypatch.setattr(audit, "CANARIES", 2_000)
        monkeypatch.setattr("sys.argv", ["audit", *arguments])
        audit.main()

    return run_with


class HalfNoise(np.random.Generator):
    """A fault in the engine."""

    def standard_normal(self, size):  # type: ignore[override]
        return super().standard_normal(size) / 2


def test_the_right_noise_keeps_its_claim_and_half_of_it_does_not(run_audit, capsys):
    run_audit()
    lines = capsys.readouterr().out.splitlines()[1:9]
    assert ["within the claim" in line for line in lines] == 4 * [True, False]
    assert ["fault noticed" in line for line in lines] == 4 * [False, True]


def test_an_engine_with_half_the_noise_is_an_error(run_audit, capsys):
    with pytest.raises(BrokenGuaranteeError, match="more than the claimed ε"):
        run_audit("--quick", generator=HalfNoise)
    assert "EXCEEDS THE CLAIM" in capsys.readouterr().out


def test_an_audit_that_misses_the_planted_fault_is_an_error(run_audit, monkeypatch, capsys):
    monkeypatch.setattr(audit, "FAULT", 1.0)
    with pytest.raises(UserError, match="too weak"):
        run_audit("--quick")
    assert "FAULT NOT NOTICED" in capsys.readouterr().out


def test_clipping_that_does_nothing_is_noticed(subject, monkeypatch):
    clipped_sum = ClippedSumFunction.__call__
    monkeypatch.setattr(
        ClippedSumFunction,
        "__call__",
        lambda dense, x, y, _, *whose: clipped_sum(dense, x, y, 1e9, *whose),
    )
    assert refutes_the_claim_of(subject, audit_step(subject, 300, random_source(7)))


def test_curves_without_noise_are_noticed(subject):
    exact = replace(subject, plan=replace(subject.plan, metric_noise_multiplier=1e-6))
    assert refutes_the_claim_of(subject, audit_step(exact, 300, random_source(7)))


def refutes_the_claim_of(subject, refutes):
    one_step = Steps(subject.plan.effective_noise_multiplier, sample_rate=1.0, steps=1)
    return refutes(trade_off(one_step))


@pytest.mark.parametrize("attack", [audit.audit_choice, audit.audit_calibration])
def test_answers_with_too_little_noise_are_noticed(subject, monkeypatch, attack):
    # Right claims are refuted in 1 of 20 audits at most; the seed is fixed.
    assert not refutes_the_claim_of(subject, attack(subject, 300, random_source(7)))
    ask = PrivateTraining._ask
    monkeypatch.setattr(
        PrivateTraining,
        "_ask",
        lambda training, question, sensitivity: ask(training, question, 0.3 * sensitivity),
    )
    assert refutes_the_claim_of(subject, attack(subject, 300, random_source(7)))
