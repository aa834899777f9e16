"""What all rows of a person are worth beside one: `python -m benchmarks.people`.

On a generated clinic of people with 1 to 20 visits, five on average, whose label depends on visit
and person. Every figure is exact, over simulated runs, on people who were not trained on, each of
whom weighs the same; both ways train on the same people, from the default's settings.
"""

import math
from itertools import product
from typing import NamedTuple

import numpy as np
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from benchmarks.oracle import Recipe, default_recipe, plan_of, train
from benchmarks.table import Task
from stages.tabular.prepared import Side, by_person
from stages.training.plan import Plan

EPSILONS = (1.0, 3.5, 8.0)
# How many people, and how many runs; one of the large ones takes a minute.
RUNS = {2_000: 20, 20_000: 5}
TEST_PEOPLE = 5_000

FEATURES, MOST_VISITS, MEAN_VISITS = 20, 20, 5

# Share of a feature's variance that is the person's and the same in all their visits, and how much
# of a person's inclination no feature tells.
ALIKE, UNTOLD = 0.5, 0.5


class Ran(NamedTuple):
    """Exact test figures of one run, means over people."""

    accuracy: float
    log_loss: float


def main() -> None:
    threadpool_limits(1)
    print("simulated runs; all rows less one row, mean ± standard error")
    head = ("one row", "all rows", "accuracy", "log loss")
    print(f"{'people':>8}{'runs':>6}{'ε':>6}" + "".join(f"{name:>20}" for name in head))
    for (people, times), epsilon in product(RUNS.items(), EPSILONS):
        # Both ways and all runs have one plan, since their public numbers are the same.
        recipe = default_recipe(_task(people, epsilon, 0))
        plan = plan_of(recipe, _task(people, epsilon, 0))
        runs = [
            [_run(people, epsilon, seed, recipe, plan, one=one) for one in (True, False)]
            for seed in tqdm(range(times), disable=None)
        ]
        figures = np.array(runs)  # (runs, ways, figures)
        one, every = figures.mean(axis=0)
        gained = figures[:, 1] - figures[:, 0]
        error = gained.std(axis=0, ddof=1) / math.sqrt(times)
        told = [f"{accuracy:.4f} / {loss:.4f}" for accuracy, loss in (one, every)]
        told += [f"{g:+.4f} ± {e:.4f}" for g, e in zip(gained.mean(axis=0), error, strict=True)]
        cells = "".join(f"{cell:>20}" for cell in told)
        print(f"{people:>8,}{times:>6}{epsilon:>6g}{cells}", flush=True)


def clinic(people: int, seed: int) -> Side:
    """Return visits of so many people: (rows, FEATURES) in [-1, 1], labels, and whose they are."""
    source = np.random.default_rng(seed)
    rule = np.random.default_rng(0).normal(size=FEATURES) / math.sqrt(FEATURES)
    visits = np.minimum(source.geometric(1 / MEAN_VISITS, people), MOST_VISITS)
    persons = np.repeat(np.arange(people), visits)
    same, own = source.normal(size=(people, FEATURES)), source.normal(size=(len(persons), FEATURES))
    x = (math.sqrt(ALIKE) * same[persons] + math.sqrt(1 - ALIKE) * own).clip(-3, 3)
    inclined = UNTOLD * source.logistic(size=people)[persons]
    y = x @ rule + 0.25 * inclined + 0.25 * source.logistic(size=len(persons)) > 0
    shuffled = source.permutation(len(persons))
    return Side(
        (x / 3).astype(np.float32)[shuffled],
        y.astype(np.int64)[shuffled],
        persons.astype(np.uint64)[shuffled],
    )


def _task(people: int, epsilon: float, seed: int, *, one: bool = False) -> Task:
    table, test = clinic(people, 2 * seed), clinic(TEST_PEOPLE, 2 * seed + 1)
    assert table.persons is not None
    if one:
        rows, starts = by_person(table.persons)  # shuffled, so the first of a person is any
        table = Side(table.features[rows[starts]], table.labels[rows[starts]])
    numbers, delta = tuple(range(FEATURES)), min(1e-5, 0.1 / people)
    x, y, persons = table
    return Task(x, y, test.features, 2, numbers, epsilon, delta, seed, persons)


def _run(people: int, epsilon: float, seed: int, recipe: Recipe, plan: Plan, *, one: bool) -> Ran:
    probabilities = train(_task(people, epsilon, seed, one=one), recipe, plan).probabilities
    test = clinic(TEST_PEOPLE, 2 * seed + 1)
    parts = test.parts_of_a_person(2**20)
    right = probabilities.argmax(axis=1) == test.labels
    return Ran(
        float(np.average(right, weights=parts)),
        float(log_loss(test.labels, probabilities, sample_weight=parts)),
    )


if __name__ == "__main__":
    main()
