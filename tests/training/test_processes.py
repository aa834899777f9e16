"""Several processes that train together are one mechanism: one sum, one noise, the same weights."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from stages.training.processes import ALONE, Processes
from tests.training.among_several import EXACT, PLAN, ROWS, STEPS, train

ROOT = Path(__file__).parent.parent.parent

# A right mechanism would be rejected at one in ten million.
FALSE_ALARM = 1e-7


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes that torchrun started has seen."""
    folder = tmp_path_factory.mktemp("two")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node=2", "-m", "tests.training.among_several", folder]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [np.load(folder / f"{rank}.npz", allow_pickle=True) for rank in (0, 1)]


def test_weights_are_the_same_in_every_process_after_every_step(two):
    first, second = (process["weights"] for process in two)
    assert len(first) == PLAN.schedule.training < STEPS  # the others calibrate
    assert np.array_equal(first, second)
    assert all(not np.array_equal(*steps) for steps in pairwise(first))


def test_processes_choose_the_same_network_and_the_same_temperature(two):
    first, second = two
    for name in ("scores", "beta", "released"):
        assert np.array_equal(first[name], second[name])
    assert len(first["scores"]) == 2


def test_processes_whose_own_batch_is_empty_take_the_step_all_the_same(two):
    sizes = two[0]["batch_sizes"]
    assert np.array_equal(sizes, two[1]["batch_sizes"])
    # Both drew rows, at their own time: each of them stood by in some step.
    assert sum(int(process["own_people"]) for process in two) == sizes.sum()
    assert len(sizes) == STEPS
    assert (sizes == 0).any()


def noise_fits(noise, deviation=1.0):
    """Whether numbers are normal with a deviation: their sum of squares is chi-square."""
    squares = float((noise.astype(np.float64) ** 2).sum()) / deviation**2
    tails = stats.chi2.cdf(squares, noise.size), stats.chi2.sf(squares, noise.size)
    return 2 * min(tails) > FALSE_ALARM


def test_noise_of_two_processes_is_that_of_one(two):
    # Without rows the gradient is nothing but noise. If each process added its own, its deviation
    # would be √2; if each had added half of one's variance and one was lost, 1/√2.
    noise = two[0]["noise"]
    assert np.array_equal(noise, two[1]["noise"])
    assert noise_fits(noise)
    for wrong in (2**0.5, 2**-0.5, 1.1, 0.9):
        assert not noise_fits(noise, wrong)


def test_noise_is_not_repeated_between_steps(two):
    # The product of independent standard normal vectors is normal with their length as variance.
    noise = two[0]["noise"].astype(np.float64)
    products = [float(a @ b) / len(a) ** 0.5 for a, b in pairwise(noise)]
    assert max(map(abs, products)) < stats.norm.isf(FALSE_ALARM / 2 / len(products))


def test_epsilon_is_that_of_one_process(two):
    training, _, _ = train(PLAN, ROWS, ALONE)
    for process in two:
        assert [steps["steps"] for steps in process["history"]] == [STEPS]
        assert list(process["history"]) == [vars(steps) for steps in training.history]


def test_the_sum_over_shards_and_chunks_is_the_sum_over_the_table(two):
    _, weights, _ = train(EXACT, ROWS, ALONE, seed=5)
    np.testing.assert_allclose(two[0]["exact"], weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("rows", "size"), [(10, 3), (2, 4), (0, 2), (7, 1)])
def test_shards_are_the_table_without_overlap(rows, size):
    shards = [Processes(rank, size, ALONE.device).shard(rows) for rank in range(size)]
    held = [row for shard in shards for row in range(rows)[shard]]
    assert held == list(range(rows))
    assert max(len(range(rows)[shard]) for shard in shards) <= -(-rows // size)
