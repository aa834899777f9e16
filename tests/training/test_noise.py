"""Where sampling and noise come from: secret, and a batch as if every row had tossed a coin.

Each statistical test here draws from a fixed simulation seed, so that it repeats, and would reject
a right sampler at one seed in ten million.
"""

import itertools
import random

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from randomgen import AESCounter
from scipy import stats

from stages.training.noise import poisson_batch, random_source

FALSE_ALARM = 1e-7

# Small enough to count every subset that a batch can be.
FEW_ROWS, FEW_RATE, FEW_DRAWS = 5, 0.3, 40_000

# Two tables above the 10,000 rows from which numpy draws subsets in other ways: by Floyd's
# algorithm where the batch is small, by shuffling a tail where it is larger.
LARGE_TABLES = [(20_000, 0.01), (20_000, 0.1)]
LARGE_DRAWS, BLOCKS = 300, 20


def draws(sampler, times, rows, rate):
    source = random_source(simulation_seed=0)
    return [sampler(source, rows, rate) for _ in range(times)]


def subsets_match_coins(batches):
    """Chi-square of every subset's frequency against that of one coin per row."""
    code = 1 << np.arange(FEW_ROWS)
    seen = np.bincount([code[batch].sum() for batch in batches], minlength=2**FEW_ROWS)
    sizes = np.array([sum(bits) for bits in itertools.product((0, 1), repeat=FEW_ROWS)])
    chances = FEW_RATE**sizes * (1 - FEW_RATE) ** (FEW_ROWS - sizes)
    # product() counts the first bit as the highest; the size of a subset is the same either way.
    return stats.chisquare(seen, len(batches) * chances).pvalue > FALSE_ALARM


def blocks_match_coins(batches, rows, rate):
    """Chi-square of how often each twentieth of the rows was drawn; the total is free to vary."""
    counts = np.bincount(np.concatenate(batches) * BLOCKS // rows, minlength=BLOCKS)
    tosses = len(batches) * rows / BLOCKS
    statistic = ((counts - tosses * rate) ** 2 / (tosses * rate * (1 - rate))).sum()
    return stats.chi2.sf(statistic, BLOCKS) > FALSE_ALARM


def sizes_match_coins(batches, rows, rate):
    """Chi-square of the batch sizes' spread against that of Binomial(rows, rate)."""
    sizes = np.array([len(batch) for batch in batches])
    statistic = ((sizes - rows * rate) ** 2 / (rows * rate * (1 - rate))).sum()
    tail = stats.chi2(len(sizes))
    return 2 * min(tail.cdf(statistic), tail.sf(statistic)) > FALSE_ALARM


def rate_five_percent_high(source, rows, rate):
    return poisson_batch(source, rows, 1.05 * rate)


def fixed_size(source, rows, rate):
    return np.sort(source.choice(rows, round(rows * rate), replace=False))


def first_rows(source, rows, rate):
    return np.arange(source.binomial(rows, rate))


def test_two_secret_sources_differ():
    first, second = random_source(None), random_source(None)
    assert not np.array_equal(first.standard_normal(4), second.standard_normal(4))


def test_a_secret_source_ignores_every_public_seed():
    def draw():
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 - the very seed that must not matter
        return random_source(None).standard_normal(4)

    assert not np.array_equal(draw(), draw())


def aes_in_counter_mode(key, blocks):
    """The oracle: AES-128 of the counters 0, 1, 2, …, as another library computes it."""
    aes = Cipher(algorithms.AES(key.to_bytes(16, "little")), modes.ECB()).encryptor()
    counters = b"".join(counter.to_bytes(16, "little") for counter in range(blocks))
    return aes.update(counters)


def key_of(generator):
    """The first two of the 22 words of AES' key schedule, which are the key itself."""
    return generator.state["s"]["seed"][:2]


@pytest.mark.parametrize("hardware", [True, False])
def test_its_bits_are_aes_128_in_counter_mode(hardware):
    key = 0x0F0E0D0C0B0A09080706050403020100
    generator = AESCounter(key=key)
    generator.use_aesni = hardware and generator.use_aesni
    bits = generator.random_raw(200).tobytes()
    assert bits == aes_in_counter_mode(key, 100)
    assert bits != aes_in_counter_mode(key + 1, 100)


def test_a_secret_source_gives_these_bits_under_its_own_key():
    generator = random_source(None).bit_generator
    assert isinstance(generator, AESCounter)
    key = int.from_bytes(key_of(generator).tobytes(), "little")
    assert generator.random_raw(200).tobytes() == aes_in_counter_mode(key, 100)


def test_secret_keys_use_all_128_bits():
    # Sixty random bits are all equal with chance 2^-59, one of 128 such sets with chance 2e-16.
    keys = np.array([key_of(random_source(None).bit_generator) for _ in range(60)])
    assert np.bitwise_or.reduce(keys).tolist() == [0xFFFFFFFFFFFFFFFF] * 2
    assert np.bitwise_and.reduce(keys).tolist() == [0] * 2


def test_a_simulation_repeats_and_another_seed_differs():
    first, again, other = (random_source(seed).standard_normal(4) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("rows", "rate"), [(1, 0.5), (100, 0.05), (100, 0.99), *LARGE_TABLES])
def test_a_batch_is_sorted_unique_and_in_range(rows, rate):
    for batch in draws(poisson_batch, 20, rows, rate):
        assert batch.dtype == np.int64
        assert (np.diff(batch) > 0).all()
        assert len(batch) == 0 or (batch[0] >= 0 and batch[-1] < rows)


def test_sample_rate_1_draws_every_row():
    (batch,) = draws(poisson_batch, 1, 50, 1.0)
    assert batch.tolist() == list(range(50))


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_an_empty_table_gives_an_empty_batch(rate):
    (batch,) = draws(poisson_batch, 1, 0, rate)
    assert batch.shape == (0,)


def test_every_subset_is_as_likely_as_with_coins():
    assert subsets_match_coins(draws(poisson_batch, FEW_DRAWS, FEW_ROWS, FEW_RATE))


@pytest.mark.parametrize("fault", [rate_five_percent_high, fixed_size, first_rows])
def test_subsets_of_a_wrong_sampler_are_rejected(fault):
    assert not subsets_match_coins(draws(fault, FEW_DRAWS, FEW_ROWS, FEW_RATE))


@pytest.mark.parametrize(("rows", "rate"), LARGE_TABLES)
def test_rows_and_sizes_of_large_batches_are_as_with_coins(rows, rate):
    batches = draws(poisson_batch, LARGE_DRAWS, rows, rate)
    assert blocks_match_coins(batches, rows, rate)
    assert sizes_match_coins(batches, rows, rate)


@pytest.mark.parametrize(("rows", "rate"), LARGE_TABLES)
def test_a_wrong_sampler_of_large_batches_is_rejected(rows, rate):
    high = draws(rate_five_percent_high, LARGE_DRAWS, rows, rate)
    assert not blocks_match_coins(high, rows, rate)
    assert not sizes_match_coins(draws(fixed_size, LARGE_DRAWS, rows, rate), rows, rate)
    assert not blocks_match_coins(draws(first_rows, LARGE_DRAWS, rows, rate), rows, rate)
