"""The encoding: golden values, bounds, and that no row depends on another."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.tabular.encode import encode, labels
from stages.tabular.schema import Schema
from stages.tabular.split import split_name
from tests.tabular.conftest import SAMPLE_SCHEMA, held_back, make_batch

NEVER_FITTED = Schema.load(SAMPLE_SCHEMA)


def test_encoding_of_a_row_is_as_derived_by_hand(read, schema):
    batch = read(
        "age,sex,bmi,children,smoker,region,charges\n"
        "18,female,35,5,yes,southeast,15000\n"
        "64,male,22.5,1,no,northwest,15000.01\n"
    )
    expected = [
        # age in [18, 64]: 18 → -1; sex: first value → -1; bmi in [10, 60]: 35 is the middle → 0;
        # children in [0, 5]: 5 → 1; smoker: second value → 1; region: third of four
        [-1, -1, 0, 1, 1, 0, 0, 1, 0],
        # 64 → 1; male → 1; (22.5 - 10) / 50 = 1/4 → -1/2; 1/5 → -3/5; no → -1; second of four
        [1, 1, -0.5, -0.6, -1, 0, 1, 0, 0],
    ]
    encoded = encode(batch, schema)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, np.array(expected, np.float32))
    # 15000 is not above the threshold 15000, 15000.01 is.
    assert labels(batch, schema).dtype == np.int64
    assert labels(batch, schema).tolist() == [0, 1]


def test_the_sample_is_encoded_as_ever(sample, schema):
    # SHA-256 of features, classes and sides at the commit before fields of further kinds: a schema
    # from then makes the same arrays, so that committed runs remain those of their tables.
    parts = (encode(sample, schema), labels(sample, schema), held_back(sample, schema, 0.2, 0))
    digest = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
    assert digest == "93b98a13035b415686a74984f041dafcda27918387e3696fc831c4619861d1db"
    assert split_name(0.2, 0, schema) == "0.2 by seed 0 on columns f748c24ee2998cd8"


def test_it_is_known_which_columns_are_numbers(schema):
    assert [schema.feature_names[place] for place in schema.scaled] == ["age", "bmi", "children"]


def test_numbers_beyond_their_bounds_are_clipped(read, schema):
    batch = read(
        "age,sex,bmi,children,smoker,region,charges\n"
        "17,female,-1e308,-1,no,northeast,0\n"
        "65,female,1e308,6,no,northeast,0\n"
    )
    np.testing.assert_array_equal(encode(batch, schema)[:, [0, 2, 3]], [[-1] * 3, [1] * 3])


@pytest.mark.parametrize(
    ("enum", "expected"),
    [
        (["a", "b"], [[-1], [1]]),
        (["b", "a"], [[1], [-1]]),
        (["a", "b", "c"], [[1, 0, 0], [0, 1, 0]]),
        (["c", "b", "a", "d"], [[0, 0, 1, 0], [0, 1, 0, 0]]),
    ],
)
def test_categories_follow_the_declared_order(tmp_path, enum, expected):
    path = tmp_path / "schema.json"
    fields = [
        {"name": "x", "type": "string", "constraints": {"enum": enum}},
        {"name": "y", "type": "number", "role": "label", "threshold": 0},
    ]
    path.write_text(json.dumps({"fields": fields}))
    schema = Schema.load(path)
    encoded = encode(make_batch(schema, {"x": ["a", "b"], "y": [0, 0]}), schema)
    np.testing.assert_array_equal(encoded, expected)
    assert encoded.shape == (2, len(schema.feature_names))


finite = st.floats(allow_nan=False, allow_infinity=False)
rows = st.fixed_dictionaries(
    {
        "age": finite,
        "sex": st.sampled_from(["female", "male"]),
        "bmi": finite,
        "children": finite,
        "smoker": st.sampled_from(["no", "yes"]),
        "region": st.sampled_from(["northeast", "northwest", "southeast", "southwest"]),
        "charges": finite,
    }
)


def batch_of(some_rows):
    return make_batch(
        NEVER_FITTED, {f.name: [row[f.name] for row in some_rows] for f in NEVER_FITTED.fields}
    )


@given(st.lists(rows, min_size=1, max_size=20))
def test_a_row_is_encoded_the_same_in_any_company(some_rows):
    together, alone = batch_of(some_rows), [batch_of([row]) for row in some_rows]
    np.testing.assert_array_equal(
        encode(together, NEVER_FITTED), np.vstack([encode(row, NEVER_FITTED) for row in alone])
    )
    np.testing.assert_array_equal(
        labels(together, NEVER_FITTED), np.hstack([labels(row, NEVER_FITTED) for row in alone])
    )


def test_a_scaler_fitted_on_rows_would_fail_the_test_above(sample, schema):
    from sklearn.preprocessing import StandardScaler

    ages = sample.column("age").to_numpy().reshape(-1, 1)
    assert not np.array_equal(
        StandardScaler().fit_transform(ages)[:10], StandardScaler().fit_transform(ages[:10])
    )


@given(low=finite, high=finite, value=finite)
def test_encoded_numbers_stay_within_minus_one_and_one(tmp_path_factory, low, high, value):
    if not (low < high and np.isfinite(high - low)):
        return
    path = tmp_path_factory.mktemp("schema") / "schema.json"
    fields = [
        {"name": "x", "type": "number", "constraints": {"minimum": low, "maximum": high}},
        {"name": "y", "type": "number", "role": "label", "threshold": 0},
    ]
    path.write_text(json.dumps({"fields": fields}))
    schema = Schema.load(path)
    encoded = encode(make_batch(schema, {"x": [low, value, high], "y": [0, 0, 0]}), schema)
    assert encoded[0] == -1
    assert -1 <= encoded[1] <= 1
    assert encoded[2] == 1
