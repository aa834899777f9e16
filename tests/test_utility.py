"""The benchmark of accuracy: its tables are as they say, its oracle finds what is best."""

import numpy as np
import pytest

from benchmarks.oracle import best, default_recipe, grid, plan_of, rough_plan
from benchmarks.suite import TABLES, Task


@pytest.mark.parametrize("name", ["sample", "wine", "moons 1,500×5", "shells 3,000×5, 3 classes"])
def test_a_table_is_scaled_and_split_into_all_its_rows(name):
    table = TABLES[name]()
    assert np.abs(table.features).max() <= 1
    x, y, x_test, y_test = table.split(1)
    assert len(x) == len(y) == table.train_size
    assert len(x) + len(x_test) == len(table.features)
    assert set(y) | set(y_test) == set(range(table.classes))


@pytest.fixture
def task():
    table = TABLES["wine"]()
    x, y, x_test, _ = table.split(0)
    return Task(x, y, x_test, table.classes, epsilon=1.0, delta=1e-5, seed=0)


def test_the_oracle_is_the_best_of_the_grid(task):
    default = default_recipe(task)
    recipes = [default, *grid(default, len(task.y))]
    asked = []

    def score(recipe, repeat):
        asked.append((recipe, repeat))
        return (
            -abs(np.log(recipe.path / 20))
            - recipe.clip / 100
            - 0.001 * (recipe.activation == "tanh")
        )

    found = best(recipes, score, [(50, 1), (8, 3), (2, 4)])
    assert found.path == pytest.approx(20)
    assert (found.clip, found.activation) == (1.5, "relu")
    assert len(asked) == len(set(asked)) == len(recipes) + 8 * 3 + 2 * 4


def test_a_rough_plan_of_full_batches_is_the_calibrated_one(task):
    default = default_recipe(task)
    known = plan_of(default, task)
    for recipe in grid(default, len(task.y))[:3]:
        exact = plan_of(recipe, task)
        assert rough_plan(recipe, known).noise_multiplier == pytest.approx(
            exact.noise_multiplier, rel=0.01
        )
