"""How accurate the default is: beside an oracle, its peers and models without privacy.

`make bench-utility`, or `QUICK=1` for a few small tables. Every cell is a table at an ε. Results go
to `benchmarks/utility.csv` as they come, and a run that was interrupted goes on where the file
ends; then `benchmarks/UTILITY.md` and its two pictures are written. A quick run starts anew
and writes to `benchmarks/quick/`. `WORKERS=2` uses two processes and changes no result.

Every figure is exact, over simulated runs (the noise has a known seed), so nothing here is private
and nothing of it may be published about real patients; the sample is no real person's.
"""

import csv
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from benchmarks import utility_report
from benchmarks.oracle import (
    Recipe,
    best,
    default_recipe,
    grid,
    plan_of,
    rough_plan,
    train,
)
from benchmarks.real import SMOKER
from benchmarks.rivals import NOT_PRIVATE, PRIVATE, Rival
from benchmarks.scores import Scores
from benchmarks.suite import TABLES
from benchmarks.table import Probabilities, Table, Task
from stages.training.plan import Plan

Fitted = TypeVar("Fitted")

QUICK = os.environ.get("QUICK") == "1"
WORKERS = int(os.environ.get("WORKERS", "1"))
FOLDER = Path("benchmarks/quick" if QUICK else "benchmarks")

QUICK_TABLES = ("sample", "breast cancer", "linear 500×5", "rings 1,200×6", "xor 4,000×10")
NAMES = QUICK_TABLES if QUICK else tuple(TABLES)
EPSILONS = (0.25, 1.0, 3.5)

REPEATS = 3 if QUICK else 8
# On the sample: the distance from a rule of one column is smaller than a few splits show.
SAMPLE_REPEATS = 6 if QUICK else 40
# Of other people's methods.
RIVAL_REPEATS = 2 if QUICK else 3
# On tables with more training rows: repeats of ours, of others; beyond the last, no oracle, whose
# search would take an hour.
LARGE, LARGE_REPEATS, LARGE_RIVAL_REPEATS = 50_000, 2, 1
HUGE = 500_000

# How the oracle is chosen: the best so many are scored so often. Where fewer than so many rows
# train, one split tells little, and all is scored twice as often.
HALVING = [(12, 1), (3, 2)] if QUICK else [(41, 1), (6, 2), (2, 2)]
LARGE_HALVING = [(21, 1), (3, 1)]
SMALL = 600
# Splits that nothing is reported on.
SCREENING_SEED = 1_000

NOISE_EPSILON = 1.0
# Log loss counts for the choice between settings of about equal accuracy.
WEIGHT_OF_LOG_LOSS = 0.01


@dataclass(frozen=True)
class Job:
    """What a process does at a time; its results reach the file together.

    Attributes:
        table: name of the table.
        epsilon: ε; infinite without privacy.
        group: which methods.
    """

    table: str
    epsilon: float
    group: str


@dataclass(frozen=True)
class Result(Job):
    """One fit, one line of the file.

    Attributes:
        rows: training rows.
        method: name of what was fitted.
        repeat: number of the split and of the seeds.
        accuracy, log_loss, best_log_loss, calibration_error, roc_auc: `Scores` on the test rows.
        majority: accuracy of always predicting the training side's most frequent class.
        seconds: of the fit and the predictions.
        setting: of the project's own training.
        chosen: activation and pieces of the network that it ended with.
    """

    rows: int
    method: str
    repeat: int
    accuracy: float
    log_loss: float
    best_log_loss: float
    calibration_error: float
    roc_auc: float
    majority: float
    seconds: float
    setting: str = ""
    chosen: str = ""


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / "utility.csv"
    if QUICK or not path.exists():
        path.write_text(",".join(field.name for field in fields(Result)) + "\n", "utf-8")
    done = _jobs_in(path)
    todo = [job for job in _jobs() if job not in done]
    for results in tqdm(_carried_out(todo), total=len(todo), disable=None, unit="job"):
        _append(path, results)
    utility_report.write(pd.read_csv(path), FOLDER)


def _jobs() -> Iterator[Job]:
    for table in reversed(NAMES):  # the largest come first, so that no process ends alone
        yield Job(table, math.inf, "ceilings")
        for epsilon in EPSILONS:
            yield Job(table, epsilon, "ours")
            yield Job(table, epsilon, "rivals")
    yield Job("sample", math.inf, "rule")
    yield Job("sample", NOISE_EPSILON, "noise")


def _jobs_in(path: Path) -> set[Job]:
    frame = pd.read_csv(path)
    return {Job(*key) for key in zip(frame.table, frame.epsilon, frame.group, strict=True)}


def _append(path: Path, results: Sequence[Result]) -> None:
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(asdict(result).values() for result in results)


def _carried_out(jobs: Sequence[Job]) -> Iterator[list[Result]]:
    """Yield each job's results, in the order in which they are ready."""
    if WORKERS == 1:
        _use_one_thread()
        yield from map(_carry_out, jobs)
        return
    with ProcessPoolExecutor(WORKERS, initializer=_use_one_thread) as pool:
        for future in as_completed([pool.submit(_carry_out, job) for job in jobs]):
            yield future.result()


def _use_one_thread() -> None:
    threadpool_limits(1)
    torch.set_num_threads(1)


def _carry_out(job: Job) -> list[Result]:
    methods = {
        "ours": _default_and_oracle,
        "rivals": _rivals,
        "ceilings": _ceilings,
        "rule": _rule,
        "noise": _noise,
    }
    return list(methods[job.group](job))


# --- the groups of methods -----------------------------------------------------------------------


def _default_and_oracle(job: Job) -> Iterator[Result]:
    task = _task(job, 0)
    default = default_recipe(task)
    plan = plan_of(default, task)
    results = list(_trained(job, "default", default, plan))
    yield from results
    if plan.train_size > HUGE:
        return
    winner = _oracle(job, default, plan)
    if winner.is_default:
        yield from (
            replace(result, method="oracle") for result in results if result.method == "default"
        )
    else:
        yield from _trained(job, "oracle", winner, plan_of(winner, task))


def _trained(job: Job, method: str, recipe: Recipe, plan: Plan) -> Iterator[Result]:
    """Yield the results of the recipe and, of the default, what it would be at temperature 1."""
    for repeat in range(_repeats(job)):
        task = _task(job, repeat)
        trained, seconds = _timed(partial(train, task, recipe, plan))
        result = _result(job, method, repeat, trained.probabilities, seconds)
        yield replace(result, setting=str(recipe), chosen=trained.chosen)
        if method == "default":
            yield _result(job, "temperature 1", repeat, trained.uncalibrated, seconds)


def _oracle(job: Job, default: Recipe, plan: Plan) -> Recipe:
    """Return the best recipe of the grid, found on splits of its own."""
    rows = plan.train_size

    def score(recipe: Recipe, repeat: int) -> float:
        task = _task(job, SCREENING_SEED + repeat)
        trained = train(task, recipe, rough_plan(recipe, plan))
        result = _result(job, "screening", SCREENING_SEED + repeat, trained.probabilities, 0.0)
        return result.accuracy - WEIGHT_OF_LOG_LOSS * result.log_loss

    others = grid(default, _task(job, 0))
    halving = LARGE_HALVING if rows > LARGE else HALVING
    if QUICK:
        others = random.Random(0).sample(others, halving[0][0] - 1)
    times = 2 if rows < SMALL else 1
    return best([default, *others], score, [(stay, times * repeats) for stay, repeats in halving])


def _rivals(job: Job) -> Iterator[Result]:
    for method, rival in PRIVATE.items():
        if method == "DP-EBM" and _table(job.table).classes > 2:
            continue
        yield from _measured(job, method, rival, _rival_repeats(job))


def _ceilings(job: Job) -> Iterator[Result]:
    for method, rival in NOT_PRIVATE.items():
        yield from _measured(job, method, rival, _rival_repeats(job))


def _rule(job: Job) -> Iterator[Result]:
    """Whoever smokes costs much: the sample's one-column rule."""

    def smokes(task: Task) -> Probabilities:
        return np.eye(2)[(task.x_test[:, SMOKER] > 0).astype(int)]

    yield from _measured(job, "smoker", smokes, SAMPLE_REPEATS)


def _noise(job: Job) -> Iterator[Result]:
    """The default on one split and from one start, with other noise each time."""
    task = _task(job, 0)
    recipe = default_recipe(task)
    plan = plan_of(recipe, task)
    for seed in range(2 * REPEATS):
        trained, seconds = _timed(partial(train, task, recipe, plan, noise=seed))
        result = _result(job, "noise alone", 0, trained.probabilities, seconds)
        yield replace(result, repeat=seed, setting=str(recipe), chosen=trained.chosen)


def _measured(job: Job, method: str, rival: Rival, repeats: int) -> Iterator[Result]:
    for repeat in range(repeats):
        probabilities, seconds = _timed(partial(rival, _task(job, repeat)))
        yield _result(job, method, repeat, probabilities, seconds)


def _repeats(job: Job) -> int:
    if _table(job.table).train_size > LARGE:
        return LARGE_REPEATS
    return SAMPLE_REPEATS if job.table == "sample" else REPEATS


def _rival_repeats(job: Job) -> int:
    return LARGE_RIVAL_REPEATS if _table(job.table).train_size > LARGE else RIVAL_REPEATS


# --- one fit -------------------------------------------------------------------------------------


@cache
def _table(name: str) -> Table:
    return TABLES[name]()


def _task(job: Job, seed: int) -> Task:
    table = _table(job.table)
    x, y, x_test, _ = table.split(seed)
    delta = min(1e-5, 0.1 / len(y))
    return Task(x, y, x_test, table.classes, table.numbers, job.epsilon, delta, seed)


def _timed(fit: Callable[[], Fitted]) -> tuple[Fitted, float]:
    start = time.perf_counter()
    fitted = fit()
    return fitted, time.perf_counter() - start


def _result(
    job: Job, method: str, repeat: int, probabilities: Probabilities, seconds: float
) -> Result:
    _, y, _, truth = _table(job.table).split(repeat)
    return Result(
        **asdict(job),
        **asdict(Scores.of(truth, probabilities)),
        rows=len(y),
        method=method,
        repeat=repeat,
        majority=float(np.mean(truth == np.bincount(y).argmax())),
        seconds=round(seconds, 3),
    )


if __name__ == "__main__":
    main()
