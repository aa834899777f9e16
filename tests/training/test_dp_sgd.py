"""DP-SGD: each step is exactly the accounted mechanism, and the curves it releases are true.

Every statistical test has a fixed seed and would reject a right mechanism at one in ten million.
"""

import math
import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from stages.training import network, people
from stages.training.checkpoint import NOTHING, Checkpoint, state_of
from stages.training.curves import loss_bound
from stages.training.dp_sgd import PrivateTraining
from stages.training.gradients import ClippedSumFunction
from stages.training.network import as_arrays
from stages.training.noise import random_source
from stages.training.past import Past
from stages.training.plan import Plan
from tests.runs import training_of

FALSE_ALARM = 1e-7

# One step an epoch, so that every step can be looked at.
PLAN = Plan(
    train_size=24,
    sample_rate=1.0,
    steps=3,
    expected_batch_size=24.0,
    noise_multiplier=1.3,
    metric_noise_multiplier=6.5,
    max_grad_norm=0.7,
    delta=1e-5,
)
HALVES = replace(PLAN, sample_rate=0.5, expected_batch_size=12.0, steps=6)
ONE_HALF = replace(HALVES, steps=1)
# Metrics without noise worth mentioning.
QUIET = replace(PLAN, metric_noise_multiplier=1e-9)

LEARNING_RATE = 0.5


class Recorder:
    """A source that remembers its noise and draws the batch that it is told to."""

    def __init__(self, batch):
        self.batch = list(batch)
        self.noise = []
        self._source = random_source(simulation_seed=3)

    def binomial(self, rows, rate):
        return len(self.batch)

    def choice(self, rows, **_):
        return np.array(self.batch, dtype=np.int64)

    def standard_normal(self, shape):
        self.noise.append(self._source.standard_normal(shape))
        return self.noise[-1]


class Repeater:
    """The fault to be caught: a source that gives the same noise in each step."""

    def binomial(self, rows, rate):
        return rows

    def standard_normal(self, shape):
        return random_source(simulation_seed=3).standard_normal(shape)


@pytest.fixture
def prepare(make_model, make_table):
    """Return a function that prepares a training run, of 24 random rows unless told otherwise."""

    def make(plan, *, table=None, source=None, classes=3, momentum=0.0, average_decay=0.9, **model):
        features, labels = make_table(24, classes=classes) if table is None else table
        return training_of(
            make_model(features=features.shape[1], classes=classes, **model),
            (features, labels),
            plan,
            random_source(simulation_seed=5) if source is None else source,
            learning_rate=LEARNING_RATE,
            momentum=momentum,
            average_decay=average_decay,
        )

    return make


def empty_table(features=6):
    return np.zeros((0, features), np.float32), np.zeros(0, np.int64)


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def largest_difference(tensors, others):
    return max(
        float((tensor - other).abs().max()) for tensor, other in zip(tensors, others, strict=True)
    )


# --- a step --------------------------------------------------------------------------------------


def clipped_sums(training, batch):
    """The exact sum, in the shapes of the model's parameters."""
    sums = ClippedSumFunction(as_arrays(training.model))(
        training.people.features[batch], training.people.labels[batch], training.plan.max_grad_norm
    )
    return in_shape(training, sums.gradient)


def in_shape(training, vector):
    """A vector over all parameters, one array for each."""
    shapes = [parameter.shape for parameter in training.model.parameters()]
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    parts = np.split(vector, ends)
    return [torch.from_numpy(part.reshape(s)) for part, s in zip(parts, shapes, strict=True)]


def step_by_hand(before, sums, noise, divisor):
    """θ₁ = θ₀ - lr·(Σ clipped + σ·C·z) / divisor with σ = 1.3 and C = 0.7, in float64."""
    return [
        theta.double() - LEARNING_RATE * (total.double() + 1.3 * 0.7 * z) / divisor
        for theta, total, z in zip(before, sums, noise, strict=True)
    ]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("batch", [range(24), range(5, 10), []], ids=["full", "five", "empty"])
def test_first_step_divides_the_noisy_clipped_sum_by_the_expected_batch_size(
    prepare, batch, momentum
):
    source = Recorder(batch)
    training = prepare(ONE_HALF, source=source, momentum=momentum)
    before = weights(training.model)
    sums = clipped_sums(training, source.batch)
    list(training.epochs())
    after, noise = weights(training.model), in_shape(training, source.noise[0])
    assert largest_difference(after, step_by_hand(before, sums, noise, 12)) < 1e-6
    # Were it divided by the batch's true size, it would show.
    true_size = max(1, len(source.batch))
    assert largest_difference(after, step_by_hand(before, sums, noise, true_size)) > 1e-3


def test_noise_and_sum_are_added_in_float64(prepare):
    source = Recorder(range(24))
    training = prepare(ONE_HALF, source=source)
    sums = training._clipped_sum_of(np.arange(24))[0].gradient
    list(training.epochs())
    noisy = 1.3 * 0.7 * source.noise[0] + sums.astype(np.float64)
    applied = training.learner.weights.grad.numpy()
    assert np.array_equal(applied, noisy.astype(np.float32) / np.float32(12))
    # Noise that was rounded before it was added would show in the last bits.
    rounded = (1.3 * 0.7 * source.noise[0]).astype(np.float32) + sums
    assert not np.array_equal(applied, rounded / np.float32(12))


def test_momentum_carries_the_last_gradient_on(prepare):
    # On an empty table a gradient is noise: g = σ·C·z / 12, velocity v₂ = 0.9·g₁ + g₂, and
    # θ₂ = θ₀ - lr·(g₁ + ½·v₂), the second step being half as long.
    source = Recorder([])
    plan = replace(HALVES, steps=2)
    training = prepare(plan, source=source, table=empty_table(), momentum=0.9)
    before = weights(training.model)
    list(training.epochs())
    # A step draws the gradient's noise, and then that of the metrics.
    first, second = (in_shape(training, noise) for noise in source.noise[::2])
    moved = [z1 + 0.5 * (0.9 * z1 + z2) for z1, z2 in zip(first, second, strict=True)]
    nothing = [torch.zeros_like(theta) for theta in before]
    assert largest_difference(weights(training.model), step_by_hand(before, nothing, moved, 12)) < (
        1e-6
    )


@pytest.mark.parametrize("batch", [[], [3]], ids=["empty", "one row"])
def test_every_step_is_taken_and_accounted_whatever_its_batch(prepare, batch):
    training = prepare(HALVES, source=Recorder(batch))
    start = weights(training.model)
    seen = [start, *(weights(training.model) for _ in training.epochs())]
    assert len(seen) > 2
    assert all(largest_difference(*pair) > 0 for pair in pairwise(seen))
    assert training.history == [HALVES.planned]
    assert training.history[0].steps == HALVES.steps == 6


def test_learning_rate_falls_linearly_to_zero(prepare):
    training = prepare(replace(PLAN, steps=5))
    (group,) = training.learner.optimizer.param_groups
    taken_at = [group["lr"] for _ in training.epochs()]
    assert taken_at == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1])


def test_average_forgets_early_weights_faster(prepare):
    # It starts at θ₁ and then keeps min(0.9, (1 + t) / (10 + t)) of itself with t = 1, 2:
    # a₂ = 2/11·θ₁ + 9/11·θ₂ and a₃ = 3/12·a₂ + 9/12·θ₃.
    training = prepare(PLAN)
    theta, average = [], []
    for _ in training.epochs():
        theta.append(weights(training.model))
        average.append(weights(training.average))
    second = [2 / 11 * one + 9 / 11 * two for one, two in zip(theta[0], theta[1], strict=True)]
    third = [1 / 4 * two + 3 / 4 * three for two, three in zip(second, theta[2], strict=True)]
    assert largest_difference(average[0], theta[0]) == 0
    assert largest_difference(average[1], second) < 1e-6
    assert largest_difference(average[2], third) < 1e-6


def test_average_keeps_at_most_nine_tenths_of_itself(prepare):
    # (1 + t) / (10 + t) reaches 0.9 at t = 80; of 105 steps 100 learn, and the last is t = 99.
    training = prepare(replace(PLAN, steps=105))
    for epoch in training.epochs():
        if epoch.steps == 99:
            before = weights(training.average)
    theta, after = weights(training.model), weights(training.average)
    expected = [0.9 * old + 0.1 * new for old, new in zip(before, theta, strict=True)]
    assert largest_difference(after, expected) < 1e-6
    assert largest_difference(after, before) > 1e-3


def test_average_keeps_no_more_of_itself_than_it_is_told(prepare):
    # At t = 2 it would keep 3/12 of itself.
    quick, none = prepare(PLAN, average_decay=0.1), prepare(PLAN, average_decay=0.0)
    for training, decay in ((quick, 0.1), (none, 0.0)):
        for epoch in training.epochs():
            if epoch.steps == 2:
                before = weights(training.average)
        theta, after = weights(training.model), weights(training.average)
        expected = [decay * old + (1 - decay) * new for old, new in zip(before, theta, strict=True)]
        assert largest_difference(after, expected) < 1e-6


@pytest.mark.parametrize("chunk", [1, 5, 24])
def test_a_batch_summed_in_chunks_is_the_same_batch(prepare, monkeypatch, chunk):
    whole = prepare(QUIET)
    curve = list(whole.epochs())
    monkeypatch.setattr(people, "CHUNK_ROWS", chunk)
    chunked = prepare(QUIET)
    for epoch, other in zip(curve, chunked.epochs(), strict=True):
        assert other.loss == pytest.approx(epoch.loss, rel=1e-5)
        assert other.accuracy == pytest.approx(epoch.accuracy)
    assert largest_difference(weights(whole.model), weights(chunked.model)) < 1e-6
    assert chunked.history == whole.history


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_continued_run_goes_on_where_its_checkpoint_ended(prepare, tmp_path, momentum):
    first = prepare(HALVES, momentum=momentum)
    rows = [{"epoch": epoch.epoch} for epoch in first.epochs()]
    Checkpoint(None, first.history, rows, {}, state_of(first)).save(tmp_path)
    loaded = Checkpoint.load(tmp_path)
    before = {name: vector.double() for name, vector in loaded.tensors.items()}

    # On an empty table a gradient is noise: θ₁ = θ₀ - lr·(momentum·v₀ + σ·C·z / 12).
    source = Recorder([])
    second = prepare(ONE_HALF, source=source, table=empty_table(), momentum=momentum)
    Past(loaded).restore_into(second)
    (epoch,) = second.epochs()
    velocity = momentum * before["momentum"] + 1.3 * 0.7 * torch.from_numpy(source.noise[0]) / 12
    theta = before["weights"] - LEARNING_RATE * velocity
    assert largest_difference([second.learner.weights.detach()], [theta]) < 1e-6
    # Six steps were before this one, so that the average keeps (1 + 6) / (10 + 6) of itself.
    average = 7 / 16 * before["average"] + 9 / 16 * theta
    assert largest_difference([second.learner.average_weights.detach()], [average]) < 1e-6
    assert epoch.epoch == len(rows) + 1


def test_a_run_without_momentum_leaves_none_of_the_run_before_to_the_next(prepare):
    first = prepare(HALVES, momentum=0.9)
    assert [*first.epochs()]
    checkpoint = replace(NOTHING, history=first.history, tensors=state_of(first))
    assert checkpoint.tensors["momentum"].any()
    second = prepare(ONE_HALF, momentum=0.0)
    Past(checkpoint).restore_into(second)
    assert [*second.epochs()]
    assert not state_of(second)["momentum"].any()


def test_a_continued_run_has_its_momentum_where_its_weights_are(prepare):
    first = prepare(HALVES, momentum=0.9)
    assert [*first.epochs()]
    elsewhere = prepare(ONE_HALF, momentum=0.9)
    learner = elsewhere.learner
    learner.weights = nn.Parameter(learner.weights.to("meta"))  # as on a GPU
    learner.average_weights = nn.Parameter(learner.average_weights.to("meta"))
    Past(replace(NOTHING, tensors=state_of(first))).restore_into(elsewhere)
    assert learner.optimizer.state[learner.weights]["momentum_buffer"].device.type == "meta"


# --- its noise -----------------------------------------------------------------------------------


def realised_noise(prepare, plan, source=None):
    """Return (steps, parameters) of gradients without rows, in units of what PLAN promises."""
    training = prepare(plan, table=empty_table(100), classes=100, hidden_sizes=(), source=source)
    applied = [training.learner.weights.grad.double().numpy() for _ in training.epochs()]
    return np.array(applied) * 24 / (1.3 * 0.7)


def has_unit_variance(noise):
    squares, count = float((noise**2).sum()), noise.size
    tails = stats.chi2.cdf(squares, count), stats.chi2.sf(squares, count)
    return 2 * min(tails) > FALSE_ALARM


def is_fresh_in_each_step(noise):
    """Given the step before, ⟨before, z⟩ / |before| is standard normal for independent noise."""
    before, after = noise[:-1], noise[1:]
    projections = (before * after).sum(axis=1) / np.linalg.norm(before, axis=1)
    statistic = projections.sum() / math.sqrt(len(projections))
    return 2 * stats.norm.sf(abs(statistic)) > FALSE_ALARM


# 100 steps that learn, of 10,100 parameters, tell 1 % of σ, which is 14 standard errors.
NOISY = replace(PLAN, steps=105)


def test_noise_is_normal_with_the_planned_deviation(prepare):
    noise = realised_noise(prepare, NOISY)
    assert noise.shape == (100, 10_100)
    assert has_unit_variance(noise)
    assert stats.kstest(noise[:10].ravel(), "norm").pvalue > FALSE_ALARM


@pytest.mark.parametrize("share", [0.99, 1.01])
@pytest.mark.parametrize("name", ["noise_multiplier", "max_grad_norm", "expected_batch_size"])
def test_noise_that_is_one_percent_off_is_rejected(prepare, name, share):
    wrong = replace(NOISY, **{name: share * getattr(NOISY, name)})
    assert not has_unit_variance(realised_noise(prepare, wrong))


def test_noise_is_fresh_in_each_step(prepare):
    assert is_fresh_in_each_step(realised_noise(prepare, NOISY))
    assert not is_fresh_in_each_step(realised_noise(prepare, NOISY, source=Repeater()))


def train(training):
    curve = list(training.epochs())
    return curve, weights(training.model)


def test_a_simulation_repeats_to_the_last_bit(prepare):
    curve, model = train(prepare(HALVES))
    again, other = train(prepare(HALVES))
    assert again == curve
    assert largest_difference(model, other) == 0


def test_secret_runs_differ(prepare):
    (curve, model), (again, other) = (
        train(prepare(HALVES, source=random_source(None))) for _ in range(2)
    )
    assert again != curve
    assert largest_difference(model, other) > 0


# --- its curves ----------------------------------------------------------------------------------


def test_first_epoch_shows_the_mean_loss_and_accuracy_of_its_batch(prepare):
    training = prepare(replace(QUIET, steps=1))
    logits = training.model(torch.from_numpy(training.people.features)).detach()
    labels = torch.from_numpy(training.people.labels)
    (epoch,) = training.epochs()
    chosen = logits.log_softmax(dim=1)[torch.arange(24), labels]
    assert epoch.loss == pytest.approx(-float(chosen.mean()), rel=1e-5)
    assert epoch.accuracy == pytest.approx(float((logits.argmax(dim=1) == labels).float().mean()))
    assert (epoch.epoch, epoch.steps) == (1, 1)


def test_loss_is_clipped_at_four_times_that_of_guessing():
    # Guessing one of three classes costs log 3 = 1.0986.
    assert loss_bound(3) == pytest.approx(4.3944, abs=1e-4)
    assert loss_bound(2) == pytest.approx(2.7726, abs=1e-4)


def metric_sums(prepare, table):
    """Return the un-noised sums over all of `table`, of (loss - ½, correct - ½, ½) of each row."""
    return prepare(PLAN, table=table)._sum_over(np.arange(len(table[1])))


ROWS = {
    "usual": [0.3, -0.2, 0.9, 0.1, -0.7, 0.5],
    "beyond its bounds": [1e5, -1e5, 1e5, 1e5, -1e5, 1e5],
    "enormous": [1e30, 1e30, -1e30, 1e30, 1e30, 1e30],
    "infinite": [math.inf, 0, 0, 0, 0, 0],
    "not a number": [math.nan] * 6,
}


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_row_moves_each_metric_sum_by_at_most_a_half(prepare, make_table, row, label):
    features, labels = make_table(8)
    more = np.vstack([features, np.array(row, np.float32)]), np.append(labels, label)
    moved = metric_sums(prepare, more) - metric_sums(prepare, (features, labels))
    assert np.abs(moved).max() <= 0.5 + 1e-5
    assert moved[2] == 0.5


def test_a_loss_beyond_the_bound_counts_as_the_bound(prepare, make_table):
    features, labels = make_table(8)
    features[0] *= 1e5
    training = prepare(PLAN, table=(features, labels))
    labels[0] = int(training.model(torch.from_numpy(features))[0].argmin())
    moved = metric_sums(prepare, (features, labels)) - metric_sums(
        prepare, (features[1:], labels[1:])
    )
    part = ClippedSumFunction(as_arrays(training.model))(features, labels, 1.0)
    # Unclipped, this row would have moved the sum by more than a thousand.
    assert float(part.losses[0]) / loss_bound(3) > 1000
    assert moved[0] == pytest.approx(0.5, abs=1e-4)


def test_released_figures_stay_in_their_range(prepare):
    loud = replace(PLAN, metric_noise_multiplier=1000.0, steps=50)
    curve = list(prepare(loud).epochs())
    assert min(epoch.accuracy for epoch in curve) == 0
    assert max(epoch.accuracy for epoch in curve) == 1
    assert min(epoch.loss for epoch in curve) == 0


def test_training_on_tensors_is_training_on_arrays(prepare, monkeypatch):
    # On a GPU the rows and weights are tensors; here they are, on the CPU.
    on_arrays = train(prepare(HALVES))
    monkeypatch.setattr(network, "as_array", torch.Tensor.detach)
    monkeypatch.setattr(PrivateTraining, "_on_device", lambda _, array: torch.from_numpy(array))
    on_tensors = prepare(HALVES)
    assert isinstance(on_tensors._clipped_sum_of(np.arange(3))[0].norms, torch.Tensor)
    curve, trained = train(on_tensors)
    assert largest_difference(trained, on_arrays[1]) < 1e-6
    for epoch, other in zip(curve, on_arrays[0], strict=True):
        assert (epoch.loss, epoch.accuracy) == pytest.approx((other.loss, other.accuracy))
    assert on_tensors.monitors.require_passed(on_tensors.history)


# --- its input -----------------------------------------------------------------------------------


def test_features_may_be_mapped_read_only(prepare, make_table, tmp_path):
    features, labels = make_table(24)
    np.save(tmp_path / "x.npy", features)
    np.save(tmp_path / "y.npy", labels)
    mapped = tuple(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("x", "y"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_disk = train(prepare(HALVES, table=mapped))
    in_memory = train(prepare(HALVES, table=(features, labels)))
    assert from_disk[0] == in_memory[0]
    assert largest_difference(from_disk[1], in_memory[1]) == 0
