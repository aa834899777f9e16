"""How long private training takes to be as accurate as any: beside plain PyTorch, on 10^6 rows.

Plain PyTorch has the same network and the best of some batch sizes and learning rates, and stops
as soon as it is there, which nobody can know beforehand. Private training takes all the steps of
its plan, from settings that nobody chose.
"""

import statistics
from collections.abc import Iterator
from itertools import product

import torch
from torch.nn import functional

from benchmarks import generated
from benchmarks.oracle import default_recipe, plan_of, train
from benchmarks.table import Task
from benchmarks.timing import QUICK, seconds

ROWS, FEATURES = 100_000 if QUICK else 1_000_000, 10
EPSILON = 3.5
NEAR = 0.005

BATCHES, RATES = (256, 1_024, 4_096), (1e-3, 3e-3, 1e-2)
EPOCHS, LOOKS = 2 if QUICK else 5, 4  # looks at the accuracy in each epoch
REPEATS = 1 if QUICK else 3

# (seconds so far, accuracy on the test rows)
Course = list[tuple[float, float]]


def results() -> Iterator[str]:
    """Yield lines of Markdown."""
    table = generated.smooth(ROWS, FEATURES)
    x, y, x_test, truth = table.split(0)
    delta = min(1e-5, 0.1 / len(y))
    task = Task(x, y, x_test, table.classes, table.numbers, EPSILON, delta, 0)
    recipe = default_recipe(task)
    plan = plan_of(recipe, task)
    held = []
    private = [seconds(lambda: held.append(train(task, recipe, plan))) for _ in range(REPEATS)]
    accuracy = float((held[0].probabilities.argmax(axis=1) == truth).mean())
    courses = {pair: _plain(task, truth, *pair) for pair in product(BATCHES, RATES)}
    best = max(accuracy, *(value for course in courses.values() for _, value in course))
    times = {pair: _until(course, best - NEAR) for pair, course in courses.items()}
    (batch, rate), soonest = min(times.items(), key=lambda item: item[1])
    ours = statistics.median(private)
    yield "## Time to accuracy\n"
    yield (
        f"{ROWS:,} rows, ε = {EPSILON:g}, network {FEATURES}–128–64–2: seconds to within {NEAR} of "
        f"the best accuracy that any way reached, which is {best:.4f}.\n"
    )
    yield "| | seconds | accuracy |\n| --- | --- | --- |"
    yield f"| this project, all of its plan | {ours:.1f} | {accuracy:.4f} |"
    yield (
        f"| plain PyTorch at its best (Adam, batches of {batch:,}, learning rate {rate:g}), until "
        f"it is there | {soonest:.1f} | {best - NEAR:.4f} |"
    )
    there = "" if accuracy >= best - NEAR else ", which it does not reach"
    yield f"\nPrivate ÷ plain: **{ours / soonest:.2f}**{there} (target ≤ 1.0).\n"


def _plain(task: Task, truth: object, batch: int, rate: float) -> Course:
    """Train without privacy, and look at the test rows now and then, which takes no time here."""
    torch.manual_seed(0)
    model = task.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    x, y, x_test, labels = map(torch.as_tensor, (task.x, task.y, task.x_test, truth))

    def some_steps() -> None:
        for _ in range(len(y) // batch // LOOKS):
            rows = torch.randint(len(y), (batch,))
            loss = functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    course: Course = []
    taken = 0.0
    for _ in range(EPOCHS * LOOKS):
        taken += seconds(some_steps)
        with torch.no_grad():
            right = float((model(x_test).argmax(dim=1) == labels).double().mean())
        course.append((taken, right))
    return course


def _until(course: Course, enough: float) -> float:
    return min((taken for taken, value in course if value >= enough), default=float("inf"))
