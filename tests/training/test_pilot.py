"""The pilot: what it releases, what it chooses, and that nothing else follows from it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from stages.errors import BrokenGuaranteeError
from stages.model.inputs import AS_THEY_ARE, Pieces
from stages.model.perceptron import Architecture
from stages.tabular.prepared import Side
from stages.training import dp_sgd
from stages.training.dp_sgd import PrivateTraining
from stages.training.network import build_network
from stages.training.noise import random_source
from stages.training.pilot import Question, Verdict
from stages.training.temperature import Temperature
from tests.runs import plan_of, settings

ROWS = 4_000


def table(rule, seed=0):
    """Rows of two numbers, and the labels that a rule gives to the first."""
    source = np.random.default_rng(seed)
    features = source.uniform(-1, 1, (ROWS, 2)).astype(np.float32)
    return Side(features, rule(features[:, 0]).astype(np.int64))


def within(x):
    """What no straight line tells: whether a number is in the middle."""
    return np.abs(x) < 0.5


def above(x):
    return x > 0


def plan(candidates=2, **changes):
    made = plan_of(
        train_size=ROWS,
        batch_size=ROWS,
        epochs=150,
        target_epsilon=2.0,
        target_delta=1e-6,
        max_grad_norm=5.0,
        metric_noise_ratio=4.0,
    )
    return replace(made, candidates=candidates, **changes)


def training_of(side, plan, seed=1):
    """A run that chooses between a linear model of numbers as they are, and one of pieces."""
    candidates = []
    for pieces in (AS_THEY_ARE, Pieces((0, 1), 8))[: plan.candidates]:
        network = build_network(Architecture(2, 2, [], "tanh", pieces), init_seed=1)
        candidates.append((network, settings(learning_rate=0.3, pieces=pieces.count)))
    return PrivateTraining(candidates, side, plan, random_source(seed))


def carried_out(*arguments, **named):
    training = training_of(*arguments, **named)
    epochs = list(training.epochs())
    training.monitors.require_passed(training.history)
    return training, epochs


def test_the_pilot_finds_out_which_kind_of_table_it_is():
    # At this seed the scores of the two differ by 0.39 and 0.006, with noise of 0.0016 in each.
    for rule, pieces in ((within, 8), (above, 0)):
        training, _ = carried_out(table(rule), plan())
        assert training.learner.settings.pieces == pieces
        assert [score.pieces for score in training.scores if score.chosen] == [pieces]


def test_without_noise_a_score_is_the_share_that_a_candidate_gets_right():
    side = table(within)
    run = training_of(side, plan(noise_multiplier=1e-9, metric_noise_multiplier=4e-9))
    exact: list = []
    choose = run._choose

    def remembering():
        for learner in run.learners:
            _, logits = learner.averaged.forward(side.features)
            exact.append(np.mean(logits.argmax(axis=1) == side.labels))
        choose()

    run._choose = remembering
    list(run.epochs())
    assert [score.accuracy for score in run.scores] == pytest.approx(exact, abs=1e-6)


def test_a_pilot_of_one_is_no_pilot():
    training, epochs = carried_out(table(within), plan(candidates=1))
    assert training.scores == []
    assert [epoch.epoch for epoch in epochs] == list(range(1, 143))  # 8 of 150 steps calibrate


def test_whatever_is_released_the_accountants_see_one_plan():
    """Tables that lead to other choices take the same steps, at the same noise and rate."""
    runs = [carried_out(table(rule), plan()) for rule in (within, above)]
    (chosen_one, epochs_one), (chosen_other, epochs_other) = runs
    assert chosen_one.learner.settings != chosen_other.learner.settings
    assert chosen_one.history == chosen_other.history == [plan().planned]
    assert len(epochs_one) == len(epochs_other)
    assert epochs_one[-1].steps == epochs_other[-1].steps


def test_the_curve_is_the_winners_from_its_first_step_on():
    # Of 150 steps each of two takes 12, 9 score, 8 calibrate and 109 are the winner's alone.
    training, epochs = carried_out(table(within), plan())
    assert [epoch.epoch for epoch in epochs] == list(range(1, 122))
    assert [epoch.steps for epoch in epochs[:12]] == list(range(2, 25, 2))
    assert [epoch.steps for epoch in epochs[12:]] == list(range(34, 143))
    assert training.learner.updates == 121


def test_the_loser_takes_no_further_step():
    training, _ = carried_out(table(within), plan())
    assert [learner.updates for learner in training.learners] == [12, 121]


# --- faults --------------------------------------------------------------------------------------


def refusal(training):
    for _ in training.epochs():
        pass
    with pytest.raises(BrokenGuaranteeError) as caught:
        training.monitors.require_passed(training.history)
    return str(caught.value)


def test_a_choice_that_moves_the_noise_is_caught(monkeypatch):
    choose = PrivateTraining._choose

    def louder(training):
        choose(training)
        training.learner.optimizer.noise_multiplier *= 0.9

    monkeypatch.setattr(PrivateTraining, "_choose", louder)
    assert "accounting: every step, once" in refusal(training_of(table(within), plan()))


def test_a_choice_that_moves_the_number_of_steps_is_caught(monkeypatch):
    choose = PrivateTraining._choose

    def once_more(training):
        choose(training)
        choose(training)

    monkeypatch.setattr(PrivateTraining, "_choose", once_more)
    assert "accounting: every step, once" in refusal(training_of(table(within), plan()))


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_answers_with_too_little_noise_are_caught(monkeypatch, share):
    # 9 steps with two answers and 8 with one are 26 draws, whose squares add up to 26 with a
    # deviation of 7.2. A twentieth of the noise makes that 0.07.
    cover = PrivateTraining._cover

    def quieter(training, exact, deviation):
        return cover(training, exact, deviation * (share if len(exact) < dp_sgd.METRICS else 1.0))

    monkeypatch.setattr(PrivateTraining, "_cover", quieter)
    assert "noise of other answers: variance" in refusal(training_of(table(within), plan()))


def test_a_question_that_the_accountant_never_hears_of_is_caught():
    training = training_of(table(within), plan())
    question = Question([learner.averaged for learner in training.learners])
    training._ask(question, question.sensitivity)
    assert "accounting: every step, once" in refusal(training)


# --- what a row moves ----------------------------------------------------------------------------


def models():
    return [learner.averaged for learner in training_of(table(within), plan()).learners]


@pytest.mark.parametrize("bad", [None, np.nan, np.inf, 1e30])
def test_no_row_moves_an_answer_by_more_than_its_sensitivity(bad):
    side = table(above)
    features, labels = side.features[:40].copy(), side.labels[:40]
    if bad is not None:
        features[7] = bad
    question, temperature = Question(models()), Temperature(models()[1])
    with np.errstate(all="ignore"):
        for ask, sensitivity in (
            (question, question.sensitivity),
            (lambda *rows: [temperature.excess(*rows)], 1.0),
        ):
            whole = np.array(ask(features, labels))
            for row in range(40):
                others = np.array(
                    ask(np.delete(features, row, axis=0), np.delete(labels, row, axis=0))
                )
                alone = np.array(ask(features[[row]], labels[[row]]))
                assert np.linalg.norm(whole - others) <= sensitivity + 1e-5
                assert whole - others == pytest.approx(alone, abs=1e-4)


def test_the_sensitivity_of_two_is_reached():
    # A row that both get right adds ½ to both sums: √(½² + ½²) = 0.7071.
    question = Question(models())
    assert question.sensitivity == pytest.approx(math.sqrt(0.5))
    told = [
        question(features[None], np.array([y]))
        for features in table(above).features[:50]
        for y in (0, 1)
    ]
    assert max(np.linalg.norm(one) for one in told) == pytest.approx(question.sensitivity)


# --- the verdict ---------------------------------------------------------------------------------


def test_another_than_the_first_wins_where_it_is_ahead_by_a_deviation():
    # Noise of 0.02 in each is 0.0283 in their difference.
    for ahead, winner in ((0.028, 0), (0.029, 1)):
        assert Verdict(np.array([0.7, 0.7 + ahead]), noise=0.02).winner == winner
    assert Verdict(np.array([0.7, 0.75, 0.76]), noise=0.02).winner == 2


def test_a_verdict_by_hand():
    # Over 800 rows, sums of ½ less: 0.5 + 200/800 and 0.5 - 80/800.
    verdict = Verdict.of(np.array([200.0, -80.0]), rows=800, noise=16.0)
    assert verdict.accuracies.tolist() == [0.75, 0.4]
    assert verdict.noise == 0.02


def test_scores_are_divided_by_released_numbers_and_by_no_exact_one():
    """With one row less, and noise that hides its answer, the very same scores come out."""
    side = table(above)
    whole = training_of(side, plan(), seed=3)
    less = training_of(Side(side.features[1:], side.labels[1:]), plan(), seed=3)
    for run in (whole, less):
        run._answer = lambda question, batch: np.zeros(2 if isinstance(question, Question) else 1)
        for curve in run.curves:
            curve.epoch(1, 0, 1, np.array([0.0, 0.0, 2_000.0]))
        run._choose()
    assert whole.scores == less.scores
