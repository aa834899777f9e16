"""The temperature: learned from released sums, and near the one that fits best."""

import math

import numpy as np
import pytest

from stages.model.perceptron import Model, predict_probabilities
from stages.training.temperature import PRIOR_MEAN, Temperature


def rows_of(beta, rows=20_000, seed=0):
    """Features whose labels follow from logits that are `beta` times what the model says."""
    source = np.random.default_rng(seed)
    features = source.normal(0, 2, (rows, 1)).astype(np.float32)
    labels = (source.random(rows) < 1 / (1 + np.exp(-beta * features[:, 0]))).astype(np.int64)
    return features, labels


MODEL = Model([(np.array([[0.0], [1.0]], np.float32), np.zeros(2, np.float32))], "tanh")


def learned(beta, noise, steps=12, rows=20_000):
    features, labels = rows_of(beta, rows)
    temperature, source = Temperature(MODEL), np.random.default_rng(1)
    for _ in range(steps):
        excess = temperature.excess(features, labels) + noise * source.standard_normal()
        temperature.learn(excess, rows, noise)
    return temperature.beta


@pytest.mark.parametrize("beta", [0.4, 0.8, 1.5, 2.5])
def test_it_finds_the_temperature_of_an_over_or_underconfident_model(beta):
    # The best one for these 20,000 rows is within 2 % of the truth; the noise is 0.1 % of a row.
    assert learned(beta, noise=20.0) == pytest.approx(beta, rel=0.1)


def test_noise_that_says_nothing_leaves_what_was_known_before():
    assert learned(2.5, noise=1e9) == pytest.approx(math.exp(PRIOR_MEAN), rel=1e-3)


def test_it_is_zero_where_confidence_equals_accuracy_and_grows_with_it():
    # Of 20,000 rows the mean excess errs by at most √(¼/20,000) = 0.0035; 4 of these.
    features, labels = rows_of(1.0)
    temperature = Temperature(MODEL)
    found = []
    for beta in (0.5, 1.0, 2.0):
        temperature._mean = math.log(beta)
        found.append(temperature.excess(features, labels) / len(labels))
    assert abs(found[1]) < 0.014
    assert found[0] < -0.03 < 0.03 < found[2]


def test_by_hand():
    # Logits 0 and 1 at β = 0.8: the larger probability is 1 / (1 + e^-0.8) = 0.68997. Right and
    # wrong: 0.68997 - 1 and 0.68997.
    temperature = Temperature(MODEL)
    one = np.ones((1, 1), np.float32)
    assert temperature.beta == pytest.approx(0.8)
    assert temperature.excess(one, np.array([1])) == pytest.approx(0.68997 - 1, abs=1e-5)
    assert temperature.excess(one, np.array([0])) == pytest.approx(0.68997, abs=1e-5)
    # A sum of 50 over 100 rows without noise: variance 0.1/100 = 0.001, gain
    # 0.25·0.1 / (0.01·0.25 + 0.001) = 7.1429, so log β falls by 7.1429·0.5.
    temperature.learn(50.0, rows=100, noise=0.0)
    assert math.log(temperature.beta) == pytest.approx(math.log(0.8) - 7.1429 * 0.5, rel=1e-4)


def test_the_released_model_is_as_sure_as_its_temperature_says():
    features, _ = rows_of(1.0, rows=50)
    (plain,), (sharper,) = (
        list(predict_probabilities(model, features)) for model in (MODEL, MODEL.sharpened(3.0))
    )
    odds = plain[:, 1] / plain[:, 0]
    assert sharper[:, 1] / sharper[:, 0] == pytest.approx(odds**3, rel=1e-4)
    assert (sharper.argmax(axis=1) == plain.argmax(axis=1)).all()
