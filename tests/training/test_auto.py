"""`auto` hyperparameters: one rule, from public numbers alone, valid wherever it is asked."""

import math
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.model.perceptron import Architecture, count_weights
from stages.training import auto
from stages.training.auto import LARGEST_LEARNING_RATE, Pinned, PublicNumbers
from stages.training.network import build_network
from stages.training.schedule import Schedule
from tests.runs import plan_of

SAMPLE: dict[str, Any] = {
    "train_size": 1070,
    "features": 9,
    "numbers": 3,
    "weights": 9666,
    "target_epsilon": 1.0,
    "target_delta": 1e-5,
}


def choose(**numbers):
    """What the rule would have for want of a pilot, of public numbers and what is pinned."""
    return chosen(**numbers).candidates[0]


def chosen(**numbers):
    public = {
        name: numbers.pop(name) for name in [*numbers] if name in PublicNumbers.__annotations__
    }
    return auto.choose(PublicNumbers(**public), Pinned(**numbers))


def steps_of(settings, train_size):
    return round(settings.epochs * train_size / settings.batch_size)


def path_of(settings, train_size, candidates=1):
    """The sum of learning rates / (1 - momentum) × clip, step by step."""
    schedule = Schedule.of(steps_of(settings, train_size), candidates)
    shares = sum(schedule.share_of_rate(step) for step in range(schedule.pilot + schedule.training))
    return settings.learning_rate * shares / (1 - settings.momentum) * settings.max_grad_norm


def path(**numbers):
    choice = chosen(**numbers)
    return path_of(choice.candidates[0], numbers["train_size"], len(choice.candidates))


def test_weights_are_counted_as_pytorch_does():
    for hidden in ([], [8], [128, 64]):
        shape = Architecture(9, 3, hidden, "relu")
        network = build_network(shape)
        assert count_weights([9, *hidden, 3]) == sum(p.numel() for p in network.parameters())


def test_the_sample_at_epsilon_one_by_hand():
    # (1, 1e-5) is a Gaussian mechanism with σ = 3.7306 (Balle & Wang 2018), so μ = 0.26805 and
    # s = 1070 · 0.26805 / √9666 = 2.9173, above 9² / 55 = 1.47. The path is 20 · 2.9173 = 58.35.
    choice = chosen(**SAMPLE)
    plain, in_pieces = choice.candidates
    assert path_of(plain, 1070, candidates=2) == pytest.approx(58.35, rel=1e-3)
    assert plain.batch_size == 1070
    assert (plain.activation, plain.pieces, plain.max_grad_norm) == ("relu", 0, 5)
    assert in_pieces == replace(plain, pieces=8)
    numbers = "from 1070 rows, 9 features, 9666 weights, ε = 1, δ = 1e-05"
    assert f"signal to noise 2.92 ({numbers}): 150 steps of 1070 rows" in choice.why


def test_a_pilot_needs_numbers_and_little_noise_by_hand():
    # The noise in the share of rows that tells two candidates apart is 1 / (μ·√0.06·n), which at
    # μ = 0.26805 is 0.025 at n = 609.2.
    for rows, candidates in ((609, 1), (610, 2)):
        assert len(chosen(**{**SAMPLE, "train_size": rows}).candidates) == candidates
    assert len(chosen(**{**SAMPLE, "numbers": 0}).candidates) == 1
    assert len(chosen(**SAMPLE, spent_epsilon=0.5).candidates) == 1
    assert len(chosen(**SAMPLE, epochs=49.0).candidates) == 1
    assert [one.pieces for one in chosen(**SAMPLE, pieces=4).candidates] == [4]


def test_with_ample_room_pieces_are_likelier_by_hand():
    # s = 2.9173 is 4 · 6.334² / 55: with 6 features pieces come first, with 7 they come second.
    # For a pilot to tell more, its noise has to be 0.0008, at 31 times as many rows as above.
    six = {**SAMPLE, "features": 6}
    assert [one.pieces for one in chosen(**six).candidates] == [8]
    assert [one.pieces for one in chosen(**{**SAMPLE, "features": 7}).candidates] == [0, 8]
    assert [one.pieces for one in chosen(**{**six, "train_size": 19_037}).candidates] == [8]
    assert [one.pieces for one in chosen(**{**six, "train_size": 19_038}).candidates] == [8, 0]


def test_candidates_differ_in_nothing_that_the_plan_is_made_of():
    for epsilon in (1.0, 1.2, 1.5):
        first, *others = chosen(**{**SAMPLE, "target_epsilon": epsilon}).candidates
        assert others == [replace(first, pieces=other.pieces) for other in others]
        assert others


def test_more_features_than_the_signal_has_room_for_by_hand():
    # s = 2.9173 as above, below 13² / 55 = 3.07 but not 12² / 55 = 2.62.
    assert choose(**{**SAMPLE, "features": 12}).activation == "relu"
    # s reaches 13² / 55 = 3.0727 at 1070 · 3.0727 / 2.9173 = 1127 rows.
    few, enough = ({**SAMPLE, "features": 13, "train_size": rows} for rows in (1126, 1128))
    assert (choose(**few).activation, choose(**enough).activation) == ("tanh", "relu")
    settings = choose(**{**SAMPLE, "features": 13})
    assert settings.activation == "tanh"


@given(
    train_size=st.integers(1, 10**8),
    features=st.integers(1, 10**5),
    weights=st.integers(2, 10**7),
    epsilon=st.floats(0.01, 100),
    share=st.floats(1e-6, 0.7),
)
def test_whatever_is_chosen_can_be_run(train_size, features, weights, epsilon, share):
    settings = choose(
        train_size=train_size,
        features=features,
        numbers=features,
        weights=weights,
        target_epsilon=epsilon,
        target_delta=share / train_size,
    )
    assert 1 <= settings.batch_size <= train_size
    assert 1 <= steps_of(settings, train_size) <= 4_500
    assert 0 < settings.learning_rate <= LARGEST_LEARNING_RATE * 1.1
    assert 0 <= settings.momentum < 1
    assert settings.max_grad_norm > 0


@pytest.mark.parametrize("name", ["train_size", "target_epsilon"])
def test_more_signal_goes_further(name):
    paths = [path(**{**SAMPLE, name: SAMPLE[name] * times}) for times in (1, 2, 4, 8)]
    assert all(less < more for less, more in pairwise(paths))


def test_more_weights_go_less_far():
    assert path(**{**SAMPLE, "weights": 100_000}) < path(**SAMPLE)


def test_what_the_past_has_spent_is_not_there_to_spend():
    more = {**SAMPLE, "target_epsilon": 3.5}
    assert 0 < path(**more, spent_epsilon=3.0) < path(**more)
    assert path(**SAMPLE, spent_epsilon=1.0) == 0


def test_a_past_that_went_as_far_as_one_run_may_leaves_a_way_to_go():
    large = {**SAMPLE, "train_size": 10**8, "target_delta": 1e-10}
    assert path(**large) == pytest.approx(50_000, rel=1e-3)
    assert path(**{**large, "target_epsilon": 2.0}, spent_epsilon=1.0) == pytest.approx(
        50_000, rel=1e-3
    )


def test_the_activation_follows_the_signal_and_a_continued_run_its_parent():
    # s grows with ε: 0.82 at ε = 0.25 by (0.25, 1e-5) ~ σ = 13.287, and 9² / 55 = 1.47.
    assert choose(**{**SAMPLE, "target_epsilon": 0.25}).activation == "tanh"
    assert choose(**{**SAMPLE, "target_epsilon": 3.5}).activation == "relu"
    inherited: dict[str, Any] = {"activation": "tanh", "spent_epsilon": 1.0}
    assert choose(**{**SAMPLE, "target_epsilon": 3.5}, **inherited).activation == "tanh"


@pytest.mark.parametrize("by_hand", [{"epochs": 1.0}, {"epochs": 2.0, "momentum": 0.0}])
@pytest.mark.parametrize("weights", [98, 9666])
def test_few_epochs_set_by_hand_do_not_make_leaps(by_hand, weights):
    # The whole path in one step would be a learning rate of up to 180.
    assert choose(**{**SAMPLE, "weights": weights}, **by_hand).learning_rate == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 100),
        ("epochs", 7.0),
        ("learning_rate", 0.01),
        ("momentum", 0.0),
        ("max_grad_norm", 1.0),
        ("average_decay", 0.0),
        ("activation", "relu"),
        ("pieces", 4),
    ],
)
def test_what_is_set_by_hand_is_kept(name, value):
    settings = choose(**SAMPLE, **{name: value})
    assert getattr(settings, name) == value


@pytest.mark.parametrize("by_hand", [{"epochs": 300.0}, {"momentum": 0.0}, {"max_grad_norm": 1.0}])
def test_the_others_follow_what_is_set_by_hand(by_hand):
    # The path stays what it is, whatever it is cut into.
    assert path(**SAMPLE, **by_hand) == pytest.approx(path(**SAMPLE), rel=1e-9)


def test_batches_of_a_large_table_are_a_small_share_that_costs_little_noise():
    settings = choose(**{**SAMPLE, "train_size": 10**6, "target_delta": 1e-8})
    assert settings.batch_size < 0.2 * 10**6

    def noise(batch_size):
        plan = plan_of(
            train_size=10**6,
            batch_size=batch_size,
            epochs=steps_of(settings, 10**6) * batch_size / 10**6,
            max_grad_norm=1.0,
            target_epsilon=1.0,
            target_delta=1e-8,
            metric_noise_ratio=5.0,
        )
        return plan.noise_multiplier / plan.expected_batch_size

    # s = 10^6 · 0.19607 / √9666 = 1994, and 0.04 · 1994 / √3503 = 1.348 by a limit theorem, which
    # is a little short where batches are small.
    assert noise(settings.batch_size) == pytest.approx(1.348 * noise(10**6), rel=0.1)
    # With less signal, sampling may add less.
    small = choose(**{**SAMPLE, "train_size": 20_000})
    assert 1_024 <= small.batch_size < 5_000


def other_people(text):
    """Another table of the same columns and about the same size: other values, other labels."""
    header, *rows = text.splitlines()
    changed = [
        re.sub(r"[\d.]+$", "60000.5" if number % 2 else "999.5", row)
        for number, row in enumerate(rows[: len(rows) - 40])
    ]
    return "\n".join([header, *changed, ""])


def test_auto_reads_nothing_but_public_numbers(project):
    def line():
        project.stage("preprocess")
        output = project.stage("train")
        return next(line for line in output.splitlines() if "signal to noise" in line)

    here = line()
    table = project.folder / "data/sample_medical_data.csv"
    table.write_text(other_people(table.read_text()))
    assert line() == here
    # It does depend on what is declared.
    project.set(train_size=1000)
    assert line() != here
    assert math.isfinite(float(here.split()[3]))
