"""The split: each row's side depends on that row alone, and is fair."""

import json
import struct
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stages.tabular.schema import Schema
from stages.tabular.split import _mix
from tests.tabular.conftest import (
    HEADER,
    SAMPLE_SCHEMA,
    held_back,
    make_batch,
    read_text,
    schema_of,
)

ROW = "30,male,25.5,1,no,southwest,4000.25"
# The statistical tests draw nothing: they judge a fixed table by a fixed hash, so they pass or fail
# for good. An honest hash would have failed one of them with this chance.
FALSE_ALARM = 1e-6


# --- record-stable ---------------------------------------------------------------------------


def most_moved_by_a_removal(split, rows):
    """How many of the other rows change sides, at worst, when one row is removed."""
    sides = split(rows)
    return max(
        np.count_nonzero(split(rows.take(kept)) != sides[kept])
        for removed in range(rows.num_rows)
        for kept in [np.delete(np.arange(rows.num_rows), removed)]
    )


def test_removing_any_row_moves_no_other(sample, schema):
    assert most_moved_by_a_removal(lambda rows: held_back(rows, schema, 0.2, 0), sample) == 0


def test_train_test_split_fails_the_test_above(sample):
    from sklearn.model_selection import train_test_split

    def split(rows):
        sides = np.zeros(rows.num_rows, bool)
        sides[train_test_split(np.arange(rows.num_rows), test_size=0.2, random_state=0)[1]] = True
        return sides

    assert most_moved_by_a_removal(split, sample.slice(0, 200)) > 20


@given(st.lists(st.integers(0, 1337), min_size=1))
def test_a_row_has_the_same_side_in_any_company(sample, schema, company):
    sides = held_back(sample, schema, 0.2, 0)
    np.testing.assert_array_equal(held_back(sample.take(company), schema, 0.2, 0), sides[company])


def test_equal_rows_are_on_the_same_side(sample, schema):
    # The sample holds one row twice.
    rows = [tuple(row.values()) for row in sample.to_pylist()]
    (twin,) = {row for row in rows if rows.count(row) > 1}
    sides = held_back(sample, schema, 0.2, 0)
    assert len({bool(sides[at]) for at, row in enumerate(rows) if row == twin}) == 1
    doubled = pa.Table.from_batches([sample, sample]).combine_chunks().to_batches()[0]
    np.testing.assert_array_equal(held_back(doubled, schema, 0.2, 0), np.tile(sides, 2))


def test_removing_a_row_of_any_kind_of_field_moves_no_other(tmp_path):
    schema = schema_of(
        tmp_path,
        {"name": "fit", "type": "boolean", "missing": "category"},
        {"name": "born", "type": "date", "role": "reference"},
        {
            **{"name": "seen", "type": "datetime", "parts": ["month"]},
            "since": {"field": "born", "minimum": 0, "maximum": 9000},
        },
        {
            **{"name": "bmi", "type": "number", "cutoffs": [18.5, 25]},
            "constraints": {"minimum": 10, "maximum": 60},
        },
        {"name": "y", "type": "number", "role": "label", "thresholds": [0, 1]},
    )
    source = np.random.default_rng(0)
    rows = [
        f"{source.choice(['yes', 'no', ''])},1990-{source.integers(1, 13):02}-01,"
        f"2000-01-{source.integers(1, 29):02} 10:{source.integers(60):02},"
        f"{source.uniform(10, 60):.1f},{source.normal():.2f}\n"
        for _ in range(150)
    ]
    batch = read_text(tmp_path, schema, "fit,born,seen,bmi,y\n" + "".join(rows))
    assert 10 < held_back(batch, schema, 0.2, 0).sum() < 60
    assert most_moved_by_a_removal(lambda some: held_back(some, schema, 0.2, 0), batch) == 0


FINE = np.linspace(0.001, 0.999, 999)


def position(batch, schema):
    """Where between 0 and 1 the first row's hash lies, to within 0.001."""
    return sum(not held_back(batch, schema, fraction, 0)[0] for fraction in FINE) / 1000


@pytest.mark.parametrize(
    "other",
    [
        f"{HEADER}\n30.0,male,25.50,1.,no,southwest,4.00025e3\n",
        f'{HEADER}\n+30,"male",2.55e1,01,no,"southwest",4000.250\n',
        "charges,region,smoker,children,bmi,sex,age\n4000.25,southwest,no,1,25.5,male,30\n",
    ],
)
def test_formatting_and_column_order_do_not_matter(read, schema, other):
    assert position(read(other), schema) == position(read(f"{HEADER}\n{ROW}\n"), schema)


def test_minus_zero_is_zero(read, schema):
    zero, minus_zero = (read(f"{HEADER}\n30,male,25.5,{n},no,southwest,1\n") for n in ("0", "-0"))
    assert position(zero, schema) == position(minus_zero, schema)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("30", "31"),
        ("male", "female"),
        ("25.5", "25.500000000000004"),  # the next float64
        (",1,", ",2,"),
        ("no", "yes"),
        ("southwest", "southeast"),
        ("4000.25", "4000.26"),
        ("25.5", "60"),  # and values that encode the same: clipping comes later
        ("25.5", "61"),
    ],
)
def test_every_column_takes_part(read, schema, old, new):
    changed = read(f"{HEADER}\n{ROW.replace(old, new)}\n")
    assert position(changed, schema) != position(read(f"{HEADER}\n{ROW}\n"), schema)


def test_the_order_of_a_vocabulary_does_not_matter(tmp_path, sample, schema):
    content = json.loads(SAMPLE_SCHEMA.read_text())
    for field in content["fields"]:
        if field["type"] == "string":
            field["constraints"]["enum"].reverse()
    (tmp_path / "schema.json").write_text(json.dumps(content))
    reversed_schema = Schema.load(tmp_path / "schema.json")
    same_rows = make_batch(reversed_schema, sample.to_pydict())
    np.testing.assert_array_equal(
        held_back(same_rows, reversed_schema, 0.2, 0), held_back(sample, schema, 0.2, 0)
    )


# --- the hash --------------------------------------------------------------------------------

GAMMA = 0x9E3779B97F4A7C15


def test_mixing_is_splitmix64():
    # Outputs of the reference implementation seeded with 1234567, as published at
    # https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64; its state grows by GAMMA.
    states = [(1234567 + step * GAMMA) % 2**64 for step in range(5)]
    assert _mix(np.array(states, np.uint64)).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def hash_by_plain_integers(row, schema, key):
    """The row's hash, by Python integers of any size."""

    def mix(word):
        word = (word + GAMMA) % 2**64
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
        return word ^ word >> 31

    state = mix(key)
    for field in schema.fields:
        value = row[field.name]
        if field.type == "string":
            word = blake2b(value.encode(), digest_size=8).digest()
        else:
            word = struct.pack("<d", value)
        state = mix(state ^ int.from_bytes(word, "little"))
    return state


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_a_row_is_held_back_if_its_hash_is_below_the_fraction(sample, schema, seed):
    hashes = [hash_by_plain_integers(row, schema, seed) for row in sample.to_pylist()]
    for fraction in (0.01, 0.2, 0.5, 0.99):
        expected = [value < int(fraction * 2**64) for value in hashes]
        assert held_back(sample, schema, fraction, seed).tolist() == expected


def test_the_sides_of_the_sample_stay_as_they_are(sample, schema):
    """Whoever changes the hash moves the rows of every data set in use, and should know it."""
    assert np.flatnonzero(held_back(sample, schema, 0.2, 0))[:6].tolist() == [4, 5, 15, 17, 19, 20]


# --- fair ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(schema):
    """200,000 different rows, most of whose columns have few values."""
    source = np.random.default_rng(0)
    count = 200_000
    columns = {
        "age": source.integers(18, 65, count),
        "sex": source.choice(["female", "male"], count),
        "bmi": np.round(source.uniform(15, 50, count), 3),
        "children": source.integers(0, 6, count),
        "smoker": source.choice(["no", "yes"], count),
        "region": source.choice(["northeast", "northwest", "southeast", "southwest"], count),
        "charges": np.arange(count),  # no two rows are equal
    }
    return make_batch(schema, columns)


def is_share(sides, fraction):
    """Whether the count of held back rows is plausible for coins of this chance."""
    count = int(np.count_nonzero(sides))
    return stats.binomtest(count, len(sides), fraction).pvalue > FALSE_ALARM


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_the_share_held_back_is_the_fraction(many, schema, fraction, seed):
    sides = held_back(many, schema, fraction, seed)
    assert is_share(sides, fraction)
    # A share that is 12 standard deviations off is told apart; that is 2.7 % of the share 0.5.
    assert not is_share(sides, fraction + 12 * np.sqrt(fraction * (1 - fraction) / len(sides)))


def independence(sides, column):
    """p-value of the χ² test that a column of few values says nothing about the side."""
    values, codes = np.unique(column, return_inverse=True)
    counts = np.bincount(2 * codes + sides, minlength=2 * len(values)).reshape(-1, 2)
    return stats.chi2_contingency(counts).pvalue


@pytest.mark.parametrize("column", ["age", "sex", "children", "smoker", "region"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_column_of_few_values_says_anything_about_the_side(many, schema, column, seed):
    sides = held_back(many, schema, 0.2, seed)
    values = np.array(many.column(column).to_pylist())
    assert independence(sides, values) > FALSE_ALARM
    # A split of the same share that looks at this column one time in five is found out.
    biased = np.where(np.arange(len(sides)) % 5 == 0, values == values[0], sides)
    assert independence(biased, values) < FALSE_ALARM


def test_rows_of_few_values_only_are_split_fairly(schema):
    """All 22,560 combinations of small numbers, the kind that exposes weak hashes."""
    grid = np.meshgrid(
        np.arange(18, 65), [0, 1], np.arange(20, 40), np.arange(6), [0, 1], indexing="ij"
    )
    age, sex, bmi, children, smoker = (axis.ravel() for axis in grid)
    columns = {
        "age": age,
        "sex": np.array(["female", "male"])[sex],
        "bmi": bmi,
        "children": children,
        "smoker": np.array(["no", "yes"])[smoker],
        "region": np.full(age.size, "northeast"),
        "charges": np.zeros(age.size),
    }
    batch = make_batch(schema, columns)
    bins = sum(held_back(batch, schema, k / 16, 0).astype(int) for k in range(1, 16))
    assert stats.chisquare(np.bincount(bins, minlength=16)).pvalue > FALSE_ALARM
    for pair in ((age, sex), (children, smoker), (bmi, children), (age, bmi)):
        assert independence(bins < 8, pair[0] * 100 + pair[1]) > FALSE_ALARM


def test_other_seeds_split_independently(many, schema):
    first, second = (held_back(many, schema, 0.5, seed) for seed in (0, 1))
    assert is_share(first == second, 0.5)
    assert not is_share(first == held_back(many, schema, 0.5, 0), 0.5)


def test_a_larger_fraction_only_adds_to_the_test_side(many, schema):
    small, large = (held_back(many, schema, fraction, 0) for fraction in (0.2, 0.3))
    assert not (small & ~large).any()


def test_a_million_more_rows_move_no_old_row(sample, schema):
    """Old rows stay where they are, whatever is added before and behind them."""
    source = np.random.default_rng(0)
    old = held_back(sample, schema, 0.2, 0)
    new = sample.take(pa.array(source.integers(0, sample.num_rows, 1_000_000)))
    new = new.set_column(0, "age", pa.array(source.uniform(18, 64, new.num_rows)))
    grown = pa.concat_batches([new.slice(0, 400_000), sample, new.slice(400_000)])
    sides = held_back(grown, schema, 0.2, 0)
    place = np.s_[400_000 : 400_000 + sample.num_rows]
    np.testing.assert_array_equal(sides[place], old)
    # The new ones are dealt by the same coin: 200,000 ± 400, six deviations.
    assert abs(np.delete(sides, place).sum() - 200_000) < 2_400
