"""People with many rows: each is sampled, clipped and counted as one, whatever they have."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.model.perceptron import Architecture
from stages.tabular.prepared import Side
from stages.training import gradients
from stages.training import people as module
from stages.training.gradients import ClippedSumFunction
from stages.training.network import as_arrays, build_network
from stages.training.noise import random_source
from stages.training.people import ONE_ROW_EACH, People, Whose
from stages.training.pilot import Question
from stages.training.plan import Plan
from stages.training.temperature import Temperature
from tests.runs import training_of
from tests.training.hooks import HooksClippedSum

# float32 rounds each of a sum's terms by 6e-8 of it.
ROUNDING = 1e-5

pytestmark = pytest.mark.filterwarnings(
    # PyTorch's, to Opacus' hooks, whenever the features themselves need no gradient.
    "ignore:Full backward hook is firing when gradients are computed:UserWarning"
)

PLAN = Plan(
    train_size=40,
    sample_rate=0.5,
    steps=20,
    expected_batch_size=20.0,
    noise_multiplier=1.3,
    metric_noise_multiplier=6.5,
    max_grad_norm=0.7,
    delta=1e-5,
)


@pytest.fixture
def make_side(make_table):
    """Return a function that makes a side of people with so many rows each, shuffled."""

    def make(sizes, seed=0):
        features, labels = make_table(sum(sizes), seed=seed)
        persons = np.repeat(np.arange(len(sizes), dtype=np.uint64) * 7 + 3, sizes)
        np.random.default_rng(seed).shuffle(persons)
        return Side(features, labels, persons)

    return make


def rows_by_hand(side):
    """Each person's rows, in the order of their first ones."""
    rows: dict[int, list[int]] = {}
    for row, person in enumerate(side.persons.tolist()):
        rows.setdefault(person, []).append(row)
    return list(rows.values())


# --- who is who ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 1, 4, 1, 5, 9, 2, 6), (50,), (2, 2, 2)])
def test_people_are_numbered_as_they_appear_and_have_their_rows(make_side, sizes):
    side = make_side(sizes)
    everybody, expected = People.of(side), rows_by_hand(side)
    assert len(everybody) == side.people == len(sizes)
    for person, rows in enumerate(expected):
        features, labels, whose = everybody.rows(np.array([person]))
        np.testing.assert_array_equal(features, side.features[rows])
        np.testing.assert_array_equal(labels, side.labels[rows])
        assert whose == Whose.of(np.array([len(rows)]))


@pytest.mark.parametrize("processes", [1, 3])
def test_parts_of_all_people_are_everybody_once(make_side, processes):
    everybody = People.of(make_side((3, 1, 4, 1, 5, 9, 2, 6)))
    cuts = [8 * n // processes for n in range(processes + 1)]
    found = [
        part.rows(np.array([person]))[0]
        for start, stop in pairwise(cuts)
        for part in [everybody.part(slice(start, stop))]
        for person in range(len(part))
    ]
    for person, features in enumerate(found):
        np.testing.assert_array_equal(features, everybody.rows(np.array([person]))[0])
    assert len(found) == 8


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_chunks_hold_everybody_once_and_about_so_many_rows(make_side, monkeypatch, chunk):
    monkeypatch.setattr(module, "CHUNK_ROWS", chunk)
    everybody = People.of(make_side((3, 1, 4, 1, 5, 9, 2, 6)))
    batch = np.array([0, 2, 3, 5, 7])
    chunks = everybody.chunks(batch)
    assert sorted(np.concatenate(chunks).tolist()) == batch.tolist()
    for part in chunks:
        rows = everybody.rows(part)[0]
        assert len(rows) <= chunk + 8
    assert [len(part) for part in everybody.chunks(batch[:0])] == [0]


def test_means_shares_and_spreads_are_those_of_each_person():
    whose = Whose.of(np.array([1, 1, 3]))
    values = np.array([1.0, 2.0, 3.0, 5.0, 10.0])
    assert whose.mean(values).tolist() == [1, 2, 6]
    assert whose.share(values[:, None]).ravel().tolist() == [1, 2, 1, 5 / 3, 10 / 3]
    assert whose.spread(np.array([1.0, 2.0, 3.0])).tolist() == [1, 2, 3, 3, 3]
    assert whose.mean(values > 2.5).tolist() == [0, 0, 1]


# --- what a person contributes -------------------------------------------------------------------


def both_sums(model, side, max_grad_norm, people=None):
    """Our clipped sum of people's rows, and that of Opacus' hooks over the same."""
    everybody = People.of(side)
    (chunk,) = everybody.chunks(np.arange(len(everybody)) if people is None else people)
    rows = everybody.rows(chunk)
    ours = ClippedSumFunction(as_arrays(model))(*rows[:2], max_grad_norm, rows[2])
    theirs = HooksClippedSum(model)(*rows[:2], max_grad_norm, rows[2])
    return ours, theirs


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("hidden_sizes", [(), (8,), (8, 5), (8, 5, 7)])
@pytest.mark.parametrize("sizes", [(5,) * 20, (1, 50, 2, 17), (1,) * 30, (3, 1, 4, 1, 5, 9, 2)])
def test_a_sum_over_people_is_that_of_opacus_hooks(
    make_model, make_side, activation, hidden_sizes, sizes
):
    model, side = make_model(hidden_sizes=hidden_sizes, activation=activation), make_side(sizes)
    free, _ = both_sums(model, side, 1e9)
    clip = float(np.median(free.norms))  # half of the people are clipped
    ours, theirs = both_sums(model, side, clip)
    assert np.abs(ours.gradient - theirs.gradient).max() < ROUNDING
    np.testing.assert_allclose(ours.norms, theirs.norms, atol=ROUNDING)
    # Clipped row by row, or summed and not averaged, it would be another sum.
    everybody = People.of(side)
    features, labels, whose = everybody.rows(everybody.chunks(np.arange(len(everybody)))[0])
    by_row = ClippedSumFunction(as_arrays(model))(features, labels, clip).gradient
    if not whose.has_one_row_each:
        assert np.abs(by_row - theirs.gradient).max() > 1e-3


def test_nobody_at_all_adds_nothing(make_model, make_side):
    ours, _ = both_sums(make_model(), make_side((3, 2)), 1.0, people=np.array([], np.int64))
    assert not ours.gradient.any()
    assert ours.not_finite == len(ours.norms) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_person_with_a_row_that_is_not_finite_counts_as_zero(make_model, make_side, value):
    side = make_side((3, 1, 4, 2))
    spoilt = rows_by_hand(side)[1]
    features = side.features.copy()
    features[spoilt[-1], 2] = value
    model = make_model()
    ours, theirs = both_sums(model, side._replace(features=features), 1.0)
    others, _ = both_sums(model, side, 1.0, people=np.array([0, 2, 3]))
    np.testing.assert_allclose(ours.gradient, others.gradient, atol=ROUNDING)
    np.testing.assert_allclose(theirs.gradient, others.gradient, atol=ROUNDING)
    assert ours.not_finite == theirs.not_finite == 1


def norm_of_cancelling_rows(seed, size, rows):
    """The norm of what a person adds whose rows nearly cancel, clipped to 1: all rounding."""
    source = np.random.default_rng(seed)
    model = build_network(Architecture(4, 2, [6], "relu"), init_seed=seed % 1000)
    features = np.repeat(source.uniform(-1, 1, (rows, 4)) * size, 2, axis=0).astype(np.float32)
    with torch.no_grad():
        last = model.get_parameter(f"{len(model) - 1}.weight")
        last[1] = last[0]  # so unsure that opposite labels cancel
        model.get_parameter(f"{len(model) - 1}.bias").zero_()
    side = Side(features, np.tile([0, 1], rows), np.zeros(2 * rows, np.uint64))
    ours, _ = both_sums(model, side, 1.0)
    return float(np.linalg.norm(ours.gradient.astype(np.float64)))


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 1e3, 1e6, 1e12, 1e30]), st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_nobody_moves_the_sum_by_more_than_the_clip(seed, size, rows):
    assert norm_of_cancelling_rows(seed, size, rows) <= 1 + 1e-4


def test_rows_that_cancel_need_the_room_for_rounding(monkeypatch):
    assert max(norm_of_cancelling_rows(seed, 1e12, 40) for seed in range(20)) <= 1 + 1e-4
    monkeypatch.setattr(gradients, "ROUNDING", 0.0)
    assert max(norm_of_cancelling_rows(seed, 1e12, 40) for seed in range(20)) > 1.01


# --- what is released of people ------------------------------------------------------------------


def answers(model, side):
    everybody = People.of(side)
    question, temperature = Question([model, model]), Temperature(model)
    rows = everybody.rows(everybody.chunks(np.arange(len(everybody)))[0])
    return question(*rows)[0], temperature.excess(*rows)


def test_a_persons_answer_is_the_mean_of_their_rows(make_model, make_side):
    model, side = as_arrays(make_model()), make_side((3, 1, 4, 2))
    right, excess = answers(model, side)
    expected = np.zeros(2)
    for rows in rows_by_hand(side):
        one_by_one = [
            answers(model, Side(side.features[[row]], side.labels[[row]])) for row in rows
        ]
        expected += np.mean(one_by_one, axis=0)
    assert (right, excess) == pytest.approx(tuple(expected), abs=1e-5)


# --- a run ---------------------------------------------------------------------------------------


def run(make_model, side, plan=PLAN):
    training = training_of(make_model(), side, plan, random_source(3))
    return list(training.epochs()), training


def test_people_with_one_row_each_are_rows_to_the_bit(make_model, make_side):
    side = make_side((1,) * 40)
    epochs, training = run(make_model, side)
    expected, plain = run(make_model, side._replace(persons=None))
    assert epochs == expected
    assert torch.equal(training.learner.weights, plain.learner.weights)
    assert training.temperature.beta == plain.temperature.beta
    assert training.history == plain.history


def test_batches_are_of_people_and_every_monitor_passes(make_model, make_side):
    side = make_side((1, 2, 3, 4) * 10)
    _, training = run(make_model, side)
    assert training.monitors.people == 40
    assert max(training.monitors.batch_sizes) <= 40 < len(side.labels)
    assert training.checked_history() == [PLAN.planned]


def test_the_curve_is_of_people(make_model, make_side):
    # One person with fifty rows and thirty-nine with one: each weighs a fortieth.
    side = make_side((50, *(1,) * 39))
    quiet = replace(PLAN, sample_rate=1.0, expected_batch_size=40.0, steps=1)
    quiet = replace(quiet, metric_noise_multiplier=1e-9)
    (epoch,), _ = run(make_model, side, quiet)
    with torch.no_grad():
        logits = make_model()(torch.from_numpy(side.features))
    losses = torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(side.labels), reduction="none"
    ).numpy()
    by_person = [losses[rows].mean() for rows in rows_by_hand(side)]
    assert epoch.loss == pytest.approx(np.mean(by_person), rel=1e-5)
    assert epoch.loss != pytest.approx(losses.mean(), rel=1e-3)


def test_one_row_each_needs_no_grouping():
    assert Whose.of(np.array([1, 1])) == ONE_ROW_EACH == Whose.of(np.array([], np.int64))
