"""The benchmark of accuracy: its tables are as they say, its oracle finds what is best."""

import numpy as np
import pytest

from benchmarks.oracle import best, default_recipe, grid, plan_of, rough_plan
from benchmarks.scores import Scores, best_beta, expected_calibration_error, tempered
from benchmarks.suite import TABLES
from benchmarks.table import Task


@pytest.mark.parametrize(
    "name", ["sample", "digits", "moons 1,500×5", "spirals 3,000×4, 3 classes", "experts 10,000×16"]
)
def test_a_table_is_scaled_and_split_into_all_its_rows(name):
    table = TABLES[name]()
    assert np.abs(table.features).max() <= 1
    x, y, x_test, y_test = table.split(1)
    assert len(x) == len(y) == table.train_size
    assert len(x) + len(x_test) == len(table.features)
    assert set(y) | set(y_test) == set(range(table.classes))


@pytest.mark.parametrize(("name", "numbers"), [("survey 9,000×48", 0), ("experts 10,000×16", 12)])
def test_levels_of_categories_are_no_numbers(name, numbers):
    table = TABLES[name]()
    told = np.delete(table.features, table.numbers, axis=1)
    assert len(table.numbers) == numbers
    assert set(np.unique(told)) == {-1.0, 1.0}


@pytest.fixture
def task():
    table = TABLES["breast cancer"]()
    x, y, x_test, _ = table.split(0)
    return Task(x, y, x_test, table.classes, table.numbers, epsilon=1.0, delta=1e-5, seed=0)


def test_the_oracle_is_the_best_of_the_grid(task):
    default = default_recipe(task)
    recipes = [default, *grid(default, task)]
    asked = []

    def score(recipe, repeat):
        asked.append((recipe, repeat))
        settings = recipe.candidates[0]
        return (
            -abs(np.log(recipe.path / 20))
            - settings.max_grad_norm / 100
            - 0.001 * (settings.activation == "tanh")
            - 0.001 * settings.pieces
        )

    found = best(recipes, score, [(50, 1), (8, 3), (2, 4)])
    assert found.path == pytest.approx(20)
    (settings,) = found.candidates
    assert (settings.max_grad_norm, settings.activation, settings.pieces) == (3.0, "relu", 0)
    assert len(asked) == len(set(asked)) == len(recipes) + 8 * 3 + 2 * 4


def test_the_grid_lies_around_the_default(task):
    default = default_recipe(task)
    paths = {round(recipe.path, 6) for recipe in grid(default, task)}
    assert len(paths) == 5
    assert min(paths) < default.path < max(paths)


def test_a_rough_plan_of_full_batches_is_the_calibrated_one(task):
    default = default_recipe(task)
    known = plan_of(default, task)
    for recipe in grid(default, task)[:3]:
        exact = plan_of(recipe, task)
        assert rough_plan(recipe, known).noise_multiplier == pytest.approx(
            exact.noise_multiplier, rel=0.01
        )


# --- scores --------------------------------------------------------------------------------------


@pytest.fixture
def honest():
    """Labels that are drawn from the probabilities, which are therefore calibrated."""
    source = np.random.default_rng(1)
    probabilities = source.dirichlet([1.0, 1.0, 1.0], 20_000)
    drawn = source.random((20_000, 1)) > probabilities.cumsum(axis=1)
    return drawn[:, :2].sum(axis=1), probabilities


def test_the_best_temperature_undoes_another(honest):
    truth, probabilities = honest
    sharp = tempered(probabilities, 2.5)
    assert np.allclose(tempered(sharp, 1 / 2.5), probabilities)
    # Of 20,000 rows the estimate of log β has a standard error below 0.015.
    assert best_beta(truth, sharp) == pytest.approx(1 / 2.5, rel=0.06)
    scores = Scores.of(truth, sharp)
    assert scores.best_log_loss == pytest.approx(Scores.of(truth, probabilities).log_loss, abs=1e-3)
    assert scores.log_loss > scores.best_log_loss + 0.05


def test_calibration_error_is_small_if_honest_and_large_if_not(honest):
    truth, probabilities = honest
    assert expected_calibration_error(truth, probabilities) < 0.012
    assert expected_calibration_error(truth, tempered(probabilities, 2.5)) > 0.1


def test_calibration_error_by_hand():
    # Confidence 0.9 twice, one right: gap 0.4 of 2 rows; 0.6 once, right: gap 0.4 of 1 row.
    truth, probabilities = np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.1, 0.9], [0.4, 0.6]])
    assert expected_calibration_error(truth, probabilities) == pytest.approx(0.4)
