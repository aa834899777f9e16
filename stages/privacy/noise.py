"""Where sampling and noise come from: secret by default, repeatable only in a simulation."""

import secrets

import numpy as np
import numpy.typing as npt
from randomgen import ChaCha


def random_source(simulation_seed: int | None) -> np.random.Generator:
    """Return the generator that draws batches and noise.

    Args:
        simulation_seed: None for the real thing. A number makes the run repeatable, and whoever
            knows the number can replay the noise and subtract it.

    Guarantee:
        With None: ChaCha with 20 rounds, a cryptographically secure generator, under a 256-bit key
        from the operating system that is never stored or printed (Bernstein 2008, "ChaCha, a
        variant of Salsa20"). With a number: none.
    """
    if simulation_seed is None:
        return np.random.Generator(ChaCha(key=secrets.randbits(256)))
    return np.random.Generator(np.random.PCG64(simulation_seed))


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
    return np.sort(source.choice(rows, size=count, replace=False, shuffle=False))
