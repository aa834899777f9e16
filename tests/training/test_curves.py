"""Training curves: ratios of noisy sums that are right whatever was declared, and their means."""

import math
from itertools import pairwise

import numpy as np
import pytest

from stages.training.curves import Curve, ending, smoothed, with_means
from stages.training.plan import Plan

STEPS = 48

FULL = Plan(
    train_size=1000,
    sample_rate=1.0,
    steps=STEPS,
    expected_batch_size=1000.0,
    noise_multiplier=10.0,
    metric_noise_multiplier=60.0,
    max_grad_norm=1.0,
    delta=1e-5,
)


def curve(values, noise, shared=0.0):
    return [{"loss": value, "loss_noise": noise, "loss_noise_shared": shared} for value in values]


# --- one epoch -----------------------------------------------------------------------------------


def test_an_epoch_by_hand():
    # Two full batches of 800 rows each, of which 1,440 were right, and no noise to speak of. Sums
    # of ½ less: loss 320 - 800 = -480, correct 1440 - 800 = 640, rows 800. Of the rows a share
    # 320/1600 = 0.2 of the bound is lost, and 0.9 are right.
    epoch = Curve(FULL, loss_bound=3.0).epoch(7, 0, 2, np.array([-480.0, 640.0, 800.0]))
    assert (epoch.epoch, epoch.steps) == (7, 2)
    assert epoch.loss == pytest.approx(0.6)
    assert epoch.accuracy == pytest.approx(0.9)
    # Noise of two steps is 60·√2 = 84.85 in the numerator. The number of rows is twice its sum, so
    # it errs by 169.7; times 0.9 - ½ = 0.4 that is 67.88, all of it shared by later epochs.
    # √(84.85² + 67.88²) / 1600 = 0.067915 and 67.88 / 1600 = 0.042426.
    assert epoch.accuracy_noise == pytest.approx(0.067915, rel=1e-4)
    assert epoch.accuracy_noise_shared == pytest.approx(0.042426, rel=1e-4)
    # For the loss: 0.2 - ½ = 0.3 times 169.7 is 50.91; 3·√(84.85² + 50.91²) / 1600.
    assert epoch.loss_noise == pytest.approx(0.185540, rel=1e-4)
    assert epoch.loss_noise_shared == pytest.approx(3 * 50.91 / 1600, rel=1e-3)


def test_released_figures_stay_in_their_range():
    least, most = (
        Curve(FULL, loss_bound=3.0).epoch(1, 0, 1, np.array(sums))
        for sums in ([-900.0, -900.0, 400.0], [900.0, 900.0, 400.0])
    )
    assert (least.loss, least.accuracy) == (0.0, 0.0)
    assert (most.loss, most.accuracy) == (3.0, 1.0)


def test_no_row_at_all_is_a_figure_that_says_nothing_and_no_error():
    epoch = Curve(FULL, loss_bound=3.0).epoch(1, 0, 1, np.array([0.0, 0.0, -30.0]))
    assert epoch.accuracy_noise > 1


# --- against the truth ---------------------------------------------------------------------------

RUNS = 2_000
LOSS, CORRECT = 0.13, 0.92  # of the rows, the loss as a share of its bound


def simulated(rate, declared_share, source, rows=2_000, noise=25.0):
    """Return the errors of a run's curve end and of one epoch, in stated deviations."""
    size = round(declared_share * rows)
    plan = Plan(size, rate, STEPS, rate * size, 5.0, noise, 1.0, 1e-5)
    batches = source.binomial(rows, rate, STEPS)
    correct = source.binomial(batches, CORRECT)
    exact = np.array([LOSS * batches - batches / 2, correct - batches / 2, batches / 2]).T
    sums = exact + noise * source.standard_normal(exact.shape)
    told, released = Curve(plan, loss_bound=1.0), []
    for number, (start, end) in enumerate(pairwise([0, *plan.epoch_ends])):
        epoch = told.epoch(number, start, end, sums[start:end].sum(0))
        truth = correct[start:end].sum() / batches[start:end].sum()
        released.append(vars(epoch) | {"error": (epoch.accuracy - truth) / epoch.accuracy_noise})
    value, deviation = ending(released, "loss")
    return (value - LOSS) / deviation, released[len(released) // 2]["error"]


@pytest.mark.parametrize("declared_share", [0.85, 1.0, 1.15])
@pytest.mark.parametrize("rate", [1.0, 0.25], ids=["full batches", "a quarter"])
def test_exact_figures_lie_within_two_deviations_as_often_as_they_should(rate, declared_share):
    source = np.random.default_rng(7)
    errors = np.array([simulated(rate, declared_share, source) for _ in range(RUNS)])
    within = (np.abs(errors) <= 2).mean(axis=0)
    # 95.4 % of normal errors; the share of 2,000 is uncertain by 0.5 %, so that it is beyond 93 or
    # 97 % once in a thousand of the twelve.
    assert (within > 0.93).all()
    assert (within < 0.97).all()
    # Deviations that are a fifth too small would be told apart.
    assert ((np.abs(errors) <= 1.6).mean(axis=0) < 0.92).all()


# --- many epochs ---------------------------------------------------------------------------------


def test_few_epochs_are_as_released():
    epochs = curve([0.7, 0.5, 0.4], 0.1)
    mean, noise = smoothed(epochs, "loss")
    assert mean.tolist() == [0.7, 0.5, 0.4]
    assert noise.tolist() == pytest.approx([0.1] * 3)


def test_the_ending_of_many_epochs_by_hand():
    # Of 32 epochs, 32 // 16 = 2 on either side count; at the end there are none on one side:
    # (29 + 30 + 31) / 3 = 30, with the noise of a mean of three.
    value, noise = ending(curve(range(32), 0.3), "loss")
    assert value == pytest.approx(30)
    assert noise == pytest.approx(0.3 / math.sqrt(3))
    # Of noise 0.5, of which they have 0.4 in common, that stays and 0.3 is averaged.
    _, noise = ending(curve(range(32), 0.5, shared=0.4), "loss")
    assert noise == pytest.approx(math.hypot(0.4, 0.3 / math.sqrt(3)))


def test_the_band_is_two_deviations_around_the_mean_as_far_as_a_curve_can_be():
    losses, shares = curve([0.05, 0.5], 0.1), [0.95, 0.5]
    parts = {"accuracy_noise": 0.1, "accuracy_noise_shared": 0.0}
    epochs = [row | parts | {"accuracy": a} for row, a in zip(losses, shares, strict=True)]
    first, second = with_means(epochs)
    assert second.items() >= epochs[1].items()
    told = [f"{name}_{end}" for name in ("loss", "accuracy") for end in ("smoothed", "low", "high")]
    assert [first[name] for name in told] == pytest.approx([0.05, 0, 0.25, 0.95, 0.75, 1])
    assert [second[name] for name in told] == pytest.approx([0.5, 0.3, 0.7, 0.5, 0.3, 0.7])


def test_the_noise_told_is_the_noise_there_is():
    source = np.random.default_rng(0)
    drawn = 0.2 * source.standard_normal((4_000, 48))
    told = smoothed(curve([0.0] * 48, 0.2), "loss")[1]
    seen = np.array([smoothed(curve(values, 0.2), "loss")[0] for values in drawn]).std(axis=0)
    # The sd of 4,000 draws is itself uncertain by 1.1 %: at 48 places, a false alarm in 1e-5.
    assert np.abs(seen / told - 1).max() < 0.058
    # Noise as if all 48 epochs were averaged, or none, is told apart.
    assert np.abs(seen / (0.2 / math.sqrt(48)) - 1).min() > 0.5
    assert np.abs(seen / 0.2 - 1).min() > 0.2
