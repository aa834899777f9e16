"""Where sampling and noise come from: secret by default, repeatable only in a simulation."""

import secrets

import numpy as np
import numpy.typing as npt
from randomgen import AESCounter


def random_source(simulation_seed: int | None, process: int = 0) -> np.random.Generator:
    """Return the generator that draws batches and noise.

    Args:
        simulation_seed: None for the real thing. A number makes the run repeatable, and whoever
            knows the number can replay the noise and subtract it.
        process: number of the process, of which each is to have a stream of its own.

    Guarantee:
        With None: AES-128 in counter mode, a cryptographically secure generator (FIPS 197, SP
        800-38A), under a key from the operating system that is never stored or printed. With a
        number: none.
    """
    if simulation_seed is None:
        return np.random.Generator(AESCounter(key=secrets.randbits(128)))
    return np.random.Generator(np.random.PCG64(simulation_seed).jumped(process))


def poisson_batch(
    source: np.random.Generator, rows: int, sample_rate: float
) -> npt.NDArray[np.int64]:
    """Return the sorted indices of a Poisson sample: each of `rows` with chance `sample_rate`.

    A Binomial(rows, sample_rate) count and then a uniform subset of that size has the same
    distribution as one coin per row, in time proportional to the batch instead of the table, and
    without the rounding of a float32 coin. The batch may be empty. Sorting keeps reads of a
    memory-mapped table in order; it does not change which rows were drawn.
    """
    count = source.binomial(rows, sample_rate)
    if count == rows:
        return np.arange(rows)
    batch: npt.NDArray[np.int64] = source.choice(rows, size=count, replace=False, shuffle=False)
    batch.sort()
    return batch
