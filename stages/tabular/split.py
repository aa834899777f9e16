"""Which rows are held back for testing: each row decides for itself.

Adding or removing a row moves no other row, so one person is on one side only and the guarantees
of the two sides compose in parallel (McSherry 2009, "Privacy Integrated Queries"). Equal rows go to
the same side, so no duplicate leaks from training into testing.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.tabular.fields import Id, ReadField
from stages.tabular.prepared import Persons, Source
from stages.tabular.problems import readable
from stages.tabular.schema import Schema


class Tied(ValueError):  # noqa: N818 - of two rows, not of the program
    """Of a person's rows, several are the latest."""


def persons(batch: pa.RecordBatch, schema: Schema, split_seed: int) -> Persons:
    """Return a number for whose each row of a batch from `read_batches` is.

    It depends on `split_seed` and on the row alone: on its id if the schema declares one, so that a
    person's side is the same whatever becomes known of them, and else on the content of all columns
    that are read, in schema order, numbers by value as float64 (-0 is 0; clipping comes later),
    categories by text.

    Args:
        split_seed: key of the hash, in [0, 2³²).

    Returns:
        (rows,) uint64, uniform.
    """
    return _hashes(batch, split_fields(schema), split_seed)


def in_test(persons: Persons, test_fraction: float) -> npt.NDArray[np.bool_]:
    """Say which rows belong to the test side.

    Args:
        persons: (rows,) whose they are.
        test_fraction: chance of a person to be held back, in (0, 1).
    """
    return persons < np.uint64(test_fraction * 2**64)


def split_name(test_fraction: float, split_seed: int, schema: Schema) -> str:
    """Return a name that two splits share only if every row is on the same side in both.

    All that decides what a cell is read as belongs to it, because a row's side depends on that.
    """
    content = json.dumps(
        [[field.reading() for field in split_fields(schema)], schema.missing_values]
    )
    digest = blake2b(content.encode(), digest_size=8).hexdigest()
    return f"{test_fraction!r} by seed {split_seed} on columns {digest}"


def source_of(data: Path, schema: Schema, test_fraction: float, split_seed: int) -> Source:
    """Return which table is read, and how it is split; the file is read for its hash.

    Raises:
        UserError: it cannot be.
    """
    with readable(data), data.open("rb") as file:
        fingerprint = hashlib.file_digest(file, "md5").hexdigest()
    return Source(str(data), fingerprint, split_name(test_fraction, split_seed, schema))


def split_fields(schema: Schema) -> tuple[ReadField, ...]:
    """Return the fields that a row's side depends on."""
    return (schema.id,) if schema.id else schema.read_fields


def kept_rows(
    batches: Iterable[pa.RecordBatch], schema: Schema, split_seed: int
) -> npt.NDArray[np.bool_]:
    """Say which rows of a table with an id are kept, so that each person has one, or `at_most`.

    Of a person's rows the latest is kept if the schema says so, and among equally late ones those
    with the smallest hashes of their content, which depend on no other person. Holds five words of
    eight bytes for each row of the table, six where the latest are looked for.

    Returns:
        (rows,) bool.

    Raises:
        Tied: a person has several rows that are the latest, and they differ.
    """
    assert schema.id is not None
    columns = [*zip(*(_sorted_by(batch, schema, split_seed) for batch in batches), strict=True)]
    # Each part is let go of as soon as it is in the whole.
    ids, *keys = (np.concatenate(columns.pop(0)) for _ in range(len(columns)))
    order = np.lexsort((*keys[::-1], ids))
    people = ids[order]
    if schema.id.latest:
        first = np.append(True, people[1:] != people[:-1])
        ages, words = keys
        _refuse_ties(first, ages[order], words[order], order, schema.id)
    # A row counts where so many places before it is another person's.
    most = schema.id.rows
    counts = np.append(np.ones(min(most, len(ids)), bool), people[most:] != people[:-most])
    kept = np.zeros(len(ids), dtype=bool)
    kept[order[counts]] = True
    return kept


def _sorted_by(batch: pa.RecordBatch, schema: Schema, split_seed: int) -> list[npt.NDArray[Any]]:
    """Return (rows,) arrays by which rows are sorted: person, age if it matters, content."""
    assert schema.id is not None
    words = _hashes(batch, schema.read_fields, split_seed)
    ages = [-batch.column(schema.id.latest).to_numpy()] if schema.id.latest else []
    return [persons(batch, schema, split_seed), *ages, words]


def _refuse_ties(
    first: npt.NDArray[np.bool_],
    ages: npt.NDArray[np.float64],
    words: npt.NDArray[np.uint64],
    order: npt.NDArray[np.intp],
    field: Id,
) -> None:
    """Refuse ordered rows of which one is as late as a `first` one before it, and differs."""
    latest = np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))
    tied = np.flatnonzero((ages == ages[latest]) & (words != words[latest]))
    if tied.size:
        one, other = sorted(int(order[place]) + 1 for place in (latest[tied[0]], tied[0]))
        people = len(np.unique(latest[tied]))
        raise Tied(
            f"expected one latest row of each `{field.name}`, but {people} have several different "
            f"ones with the same `{field.latest}`, such as in the rows {one} and {other} "
            'of those that are used. Remove all but one, or put `"repeated": "keep one"` into the '
            "schema, without `latest`."
        )


def _hashes(batch: pa.RecordBatch, fields: Sequence[ReadField], key: int) -> npt.NDArray[np.uint64]:
    """(rows,) uint64, uniform: the columns' words absorbed one after the other."""
    state = _mix(np.full(batch.num_rows, key, np.uint64))
    for field in fields:
        state = _mix(state ^ _words(batch.column(field.name)))
    return state


def _words(column: pa.Array) -> npt.NDArray[np.uint64]:
    """(rows,) uint64: of a number its value's bits, of a text a hash, whatever its code."""
    if pa.types.is_dictionary(column.type):
        return _words(column.dictionary)[column.indices.to_numpy()]
    if pa.types.is_string(column.type):
        digests = (blake2b(text, digest_size=8) for text in column.cast(pa.binary()).to_pylist())
        return np.array([int.from_bytes(one.digest(), "little") for one in digests], np.uint64)
    # A missing number is NaN here, and -0.0 + 0 is 0.0.
    numbers: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False) + 0
    return numbers.view(np.uint64)


def _mix(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """One step of SplitMix64: a bijection in which every input bit moves every output bit.

    Steele, Lea & Flood 2014, "Fast Splittable Pseudorandom Number Generators"; Vigna's reference
    code is https://prng.di.unimi.it/splitmix64.c
    """
    # Our own lines because pandas.util.hash_array, a stable vectorised hash, takes no key for
    # numbers and would double this stage's start-up time.
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words
