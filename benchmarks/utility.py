"""How accurate the default is: beside an oracle, its peers and models without privacy.

`make bench-utility`, or `QUICK=1` for a few small tables. Every cell is a table at an ε. Results go
to `benchmarks/utility.csv` as they come, and a run that was interrupted goes on where the file
ends; then `benchmarks/UTILITY.md` and `benchmarks/utility.png` are written. A quick run starts anew
and writes to `benchmarks/quick/`. `WORKERS=2` uses two processes and changes no result.

Every figure is exact, over simulated runs (the noise has a known seed), so nothing here is private
and nothing of it may be published about real patients; the sample is no real person's.
"""

import csv
import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import log_loss, roc_auc_score
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
from benchmarks.rivals import NOT_PRIVATE, PRIVATE, Rival
from benchmarks.suite import SMOKER, TABLES, Probabilities, Table, Task
from stages.tabular.prepared import Labels
from stages.training.plan import Plan

QUICK = os.environ.get("QUICK") == "1"
WORKERS = int(os.environ.get("WORKERS", "1"))
FOLDER = Path("benchmarks/quick" if QUICK else "benchmarks")

QUICK_TABLES = ("sample", "wine", "linear 500×5", "rings 1,200×6", "blobs 1,000×16, 8 classes")
NAMES = QUICK_TABLES if QUICK else tuple(TABLES)
EPSILONS = (0.25, 1.0, 3.5) if QUICK else (0.1, 0.25, 0.5, 1.0, 2.0, 3.5, 8.0)

REPEATS = 4 if QUICK else 20
# On the sample: the distance from a rule of one column is smaller than a few splits show.
SAMPLE_REPEATS = 8 if QUICK else 40
# Of what takes long: everything on a table of so many rows, and these methods on every table.
HUGE, HUGE_REPEATS = 100_000, 5
SLOW, SLOW_REPEATS = {"notebook", "DP-EBM", *NOT_PRIVATE}, 3

# How the oracle is chosen: the best so many are scored so often. Where fewer than so many rows
# train, one split tells little, and all is scored twice as often.
HALVING = [(20, 1), (4, 2), (2, 2)] if QUICK else [(49, 1), (8, 2), (2, 3)]
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
        method: name of what was fitted.
        repeat: number of the split and of the seeds.
        accuracy, log_loss, roc_auc: on the test rows; AUC is NaN for more than two classes.
        majority: accuracy of always predicting the training side's most frequent class.
        seconds: of the fit and the predictions.
        setting: of the project's own training.
    """

    method: str
    repeat: int
    accuracy: float
    log_loss: float
    roc_auc: float
    majority: float
    seconds: float
    setting: str = ""


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
    for table in NAMES:
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
    default = default_recipe(_task(job, 0))
    plan = plan_of(default, _task(job, 0))
    results = list(_trained(job, "default", default, plan, _repeats(job, "default")))
    yield from results
    winner = _oracle(job, default, plan)
    if winner.is_default:
        yield from (
            replace(result, method="oracle") for result in results[: _repeats(job, "oracle")]
        )
    else:
        plan = plan_of(winner, _task(job, 0))
        yield from _trained(job, "oracle", winner, plan, _repeats(job, "oracle"))


def _trained(job: Job, method: str, recipe: Recipe, plan: Plan, repeats: int) -> Iterator[Result]:
    for repeat in range(repeats):
        result = _fitted(job, method, repeat, partial(train, recipe=recipe, plan=plan))
        yield replace(result, setting=str(recipe))


def _oracle(job: Job, default: Recipe, plan: Plan) -> Recipe:
    """Return the best recipe of the grid, found on splits of its own."""
    rows = plan.train_size

    def score(recipe: Recipe, repeat: int) -> float:
        rough = partial(train, recipe=recipe, plan=rough_plan(recipe, plan))
        result = _fitted(job, "screening", SCREENING_SEED + repeat, rough)
        return result.accuracy - WEIGHT_OF_LOG_LOSS * result.log_loss

    others = grid(default, rows)
    if QUICK:
        others = random.Random(0).sample(others, HALVING[0][0] - 1)
    times = 2 if rows < SMALL else 1
    return best([default, *others], score, [(stay, times * repeats) for stay, repeats in HALVING])


def _rivals(job: Job) -> Iterator[Result]:
    for method, rival in PRIVATE.items():
        if method == "DP-EBM" and _table(job.table).classes > 2:
            continue
        yield from _measured(job, method, rival)


def _ceilings(job: Job) -> Iterator[Result]:
    for method, rival in NOT_PRIVATE.items():
        yield from _measured(job, method, rival)


def _rule(job: Job) -> Iterator[Result]:
    """Whoever smokes costs much: the sample's one-column rule."""

    def smokes(task: Task) -> Probabilities:
        return np.eye(2)[(task.x_test[:, SMOKER] > 0).astype(int)]

    for repeat in range(SAMPLE_REPEATS):
        yield _fitted(job, "smoker", repeat, smokes)


def _noise(job: Job) -> Iterator[Result]:
    """The default on one split and from one start, with other noise each time."""
    task = _task(job, 0)
    recipe = default_recipe(task)
    plan = plan_of(recipe, task)
    for seed in range(REPEATS):
        result = _fitted(
            job, "noise alone", 0, partial(train, recipe=recipe, plan=plan, noise=seed)
        )
        yield replace(result, repeat=seed, setting=str(recipe))


def _measured(job: Job, method: str, rival: Rival) -> Iterator[Result]:
    for repeat in range(_repeats(job, method)):
        yield _fitted(job, method, repeat, rival)


def _repeats(job: Job, method: str) -> int:
    if method in SLOW:
        return SLOW_REPEATS
    if len(_table(job.table).labels) > HUGE:
        return min(HUGE_REPEATS, REPEATS)
    return SAMPLE_REPEATS if job.table == "sample" else REPEATS


# --- one fit -------------------------------------------------------------------------------------


@cache
def _table(name: str) -> Table:
    return TABLES[name]()


def _task(job: Job, seed: int) -> Task:
    table = _table(job.table)
    x, y, x_test, _ = table.split(seed)
    return Task(x, y, x_test, table.classes, job.epsilon, min(1e-5, 0.1 / len(y)), seed)


def _fitted(job: Job, method: str, repeat: int, rival: Rival) -> Result:
    table = _table(job.table)
    task, truth = _task(job, repeat), table.split(repeat)[3]
    start = time.perf_counter()
    probabilities = rival(task)
    seconds = time.perf_counter() - start
    every = np.arange(table.classes)
    return Result(
        **asdict(job),
        method=method,
        repeat=repeat,
        accuracy=float(np.mean(probabilities.argmax(axis=1) == truth)),
        log_loss=float(log_loss(truth, probabilities, labels=every)),
        roc_auc=_roc_auc(truth, probabilities),
        majority=float(np.mean(truth == np.bincount(task.y).argmax())),
        seconds=round(seconds, 3),
    )


def _roc_auc(truth: Labels, probabilities: Probabilities) -> float:
    if probabilities.shape[1] > 2:
        return math.nan
    return float(roc_auc_score(truth, probabilities[:, 1]))


if __name__ == "__main__":
    main()
