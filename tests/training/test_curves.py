"""Smoothed training curves: means of neighbouring epochs, with the noise that is left in them."""

import math

import numpy as np
import pytest

from stages.training.curves import ending, smoothed


def curve(values, noise):
    return [{"loss": value, "loss_noise": noise} for value in values]


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
