"""What the schema says to do about missing, unknown and heavy-tailed values."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.errors import UserError
from stages.tabular.encode import encode, groups, labels
from stages.tabular.reader import read_batches
from tests.tabular.conftest import read_text, schema_of

AGE = {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 100}}
WARD = {"name": "ward", "type": "string", "constraints": {"enum": ["a", "b"]}}


def encoded(folder, schema, text):
    return encode(read_text(folder, schema, text), schema).tolist()


def test_a_missing_number_is_in_the_middle_and_says_so(tmp_path):
    schema = schema_of(tmp_path, {**AGE, "missing": "midpoint"})
    assert schema.feature_names == ["age", "age=(missing)"]
    assert encoded(tmp_path, schema, "age,y\n100,1\n,1\n50,1\n") == [[1, 0], [0, 1], [0, 0]]


def test_a_missing_category_is_a_level_of_its_own(tmp_path):
    schema = schema_of(tmp_path, {**WARD, "missing": "category"})
    assert schema.feature_names == ["ward=a", "ward=b", "ward=(missing)"]
    assert encoded(tmp_path, schema, "ward,y\nb,1\n,1\n") == [[0, 1, 0], [0, 0, 1]]


def test_an_unknown_category_goes_to_the_other_level_and_nowhere_else(tmp_path):
    schema = schema_of(tmp_path, {**WARD, "other": True, "missing": "category"})
    assert schema.feature_names == ["ward=a", "ward=b", "ward=(other)", "ward=(missing)"]
    rows = encoded(tmp_path, schema, "ward,y\nc,1\nа,1\n,1\na,1\n")  # the second а is Cyrillic
    assert [row.index(1) for row in rows] == [2, 2, 3, 0]


@pytest.mark.parametrize("field", [AGE, WARD])
def test_dropping_leaves_out_the_rows_without_a_value_and_no_other(tmp_path, field):
    schema = schema_of(tmp_path, {**field, "missing": "drop"})
    value = {"age": "7", "ward": "b"}[field["name"]]
    batch = read_text(tmp_path, schema, f"{field['name']},y\n{value},1\n,2\n{value},3\n")
    assert batch.column("y").to_pylist() == [1, 3]


def test_a_row_without_label_can_be_dropped(tmp_path):
    label = {"name": "y", "type": "number", "role": "label", "threshold": 0, "missing": "drop"}
    batch = read_text(tmp_path, schema_of(tmp_path, AGE, label), "age,y\n1,\n2,5\n")
    assert batch.column("age").to_pylist() == [2]


@pytest.mark.parametrize("field", [AGE, WARD])
def test_what_training_drops_is_refused_where_each_row_needs_an_answer(tmp_path, field):
    schema = schema_of(tmp_path, {**field, "missing": "drop"})
    path = tmp_path / "new.csv"
    path.write_text(field["name"] + '\n""\n')
    with pytest.raises(UserError, match="Missing values are not accepted here"):
        list(read_batches(path, schema, scoring=True))


@pytest.mark.parametrize("field", [AGE, WARD, {**WARD, "other": True}])
def test_without_a_policy_a_missing_value_is_refused(tmp_path, field):
    schema = schema_of(tmp_path, field, missingValues=["", "NA", "-99"])
    for cell in ('""', "NA", "-99"):
        with pytest.raises(UserError, match="or say in the schema what `missing` means"):
            read_text(tmp_path, schema, f"{field['name']},y\n{cell},1\n")


def test_declared_marks_of_missing_values_are_no_numbers(tmp_path):
    schema = schema_of(tmp_path, {**AGE, "missing": "midpoint"}, missingValues=["", "-99"])
    assert encoded(tmp_path, schema, "age,y\n-99,1\n-98,1\n") == [[0, 1], [-1, 0]]


def test_the_logarithm_spreads_out_the_low_end(tmp_path):
    field = {**AGE, "constraints": {"minimum": 1, "maximum": 8}, "transform": "log"}
    schema = schema_of(tmp_path, field)
    # log(1 + x - 1) = log x on [1, 8]: 2 is a third of the way to 8 = 2³, 1 and 8 are the ends,
    # what is beyond is clipped.
    rows = encoded(tmp_path, schema, "age,y\n1,1\n2,1\n8,1\n0,1\n99,1\n")
    np.testing.assert_allclose(np.ravel(rows), [-1, -1 / 3, 1, -1, 1], rtol=1e-6)


def test_cutoffs_add_columns_that_say_which_are_reached(tmp_path):
    field = {**AGE, "cutoffs": [18, 65], "missing": "midpoint"}
    schema = schema_of(tmp_path, field)
    assert schema.feature_names == ["age", "age=(missing)", "age ≥ 18", "age ≥ 65"]
    rows = encoded(tmp_path, schema, "age,y\n50,1\n18,1\n17,1\n65,1\n,1\n200,1\n")
    assert [row[1:] for row in rows] == [
        *([0, 1, -1], [0, 1, -1], [0, -1, -1]),
        *([0, 1, 1], [1, 0, 0], [0, 1, 1]),
    ]
    # The number itself is what it was without them, and alone is one.
    plain = schema_of(tmp_path, {**AGE, "missing": "midpoint"})
    assert [row[:2] for row in rows] == encoded(
        tmp_path, plain, "age,y\n50,1\n18,1\n17,1\n65,1\n,1\n200,1\n"
    )
    assert (plain.scaled, schema.scaled) == ([0], [0])


def test_truth_values_are_read_however_they_are_spelt(tmp_path):
    schema = schema_of(tmp_path, {"name": "fit", "type": "boolean"})
    assert schema.feature_names == ["fit=true"]
    true = ["1", "1.0", "true", "True", "TRUE", "yes", "Yes", "YES", "y", "Y", "t", "T"]
    false = ["0", "0.0", "false", "False", "FALSE", "no", "No", "NO", "n", "N", "f", "F"]
    text = "fit,y\n" + "".join(f"{cell},1\n" for cell in [*true, *false])
    assert np.ravel(encoded(tmp_path, schema, text)).tolist() == [1] * 12 + [-1] * 12


def test_declared_spellings_of_truth_are_the_only_ones(tmp_path):
    field = {"name": "fit", "type": "boolean", "trueValues": ["2", "ja"], "falseValues": ["1"]}
    schema = schema_of(tmp_path, field)
    assert encoded(tmp_path, schema, "fit,y\n2,1\n1,1\nja,1\n") == [[1], [-1], [1]]
    with pytest.raises(UserError, match="written 2/ja or 1, but found\n  line 2: '0'\nCorrect the"):
        encoded(tmp_path, schema, "fit,y\n0,1\n")


def test_a_truth_value_with_three_values_is_refused(tmp_path):
    schema = schema_of(tmp_path, {"name": "fit", "type": "boolean"})
    with pytest.raises(
        UserError, match=r"column `fit`: expected a truth value.*\n  line 4: 'maybe'"
    ):
        encoded(tmp_path, schema, "fit,y\nyes,1\nno,1\nmaybe,1\n")


@pytest.mark.parametrize("field", [WARD, {"name": "ward", "type": "boolean"}])
def test_an_unknown_text_beside_a_missing_one_is_refused(tmp_path, field):
    # Once the numbers of nulls were compared, which are equal here.
    schema = schema_of(tmp_path, {**field, "missing": "category"})
    with pytest.raises(UserError, match="line 3: 'maybe'"):
        read_text(tmp_path, schema, "ward,y\n,1\nmaybe,1\n")


def test_a_missing_truth_value_is_a_level_of_its_own(tmp_path):
    schema = schema_of(tmp_path, {"name": "fit", "type": "boolean", "missing": "category"})
    assert schema.feature_names == ["fit=false", "fit=true", "fit=(missing)"]
    rows = encoded(tmp_path, schema, "fit,y\n1,1\n0,1\n,1\n")
    assert rows == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_truth_values_of_parquet_are_those_of_text(tmp_path):
    for extra in ({}, {"trueValues": ["ja"], "falseValues": ["nein"]}):
        schema = schema_of(tmp_path, {"name": "fit", "type": "boolean", **extra})
        (batch,) = read_batches(pa.table({"fit": [True, False], "y": [1.0, 1.0]}), schema)
        assert encode(batch, schema).tolist() == [[1], [-1]]


def test_interactions_are_products_of_the_encoded_columns(tmp_path):
    three = {"name": "ward", "type": "string", "constraints": {"enum": ["a", "b", "c"]}}
    schema = schema_of(tmp_path, AGE, three, interactions=[["age", "ward"]])
    assert schema.feature_names[4:] == ["age × ward=a", "age × ward=b", "age × ward=c"]
    assert encoded(tmp_path, schema, "age,ward,y\n0,b,1\n") == [[-1, 0, 1, 0, 0, -1, 0]]


def test_text_labels_are_classes_in_the_declared_order(tmp_path):
    label = {"name": "y", "type": "string", "role": "label"}
    values = {"constraints": {"enum": ["low", "mid", "high"]}}
    text = "age,y\n1,mid\n1,high\n1,low\n"
    schema = schema_of(tmp_path, AGE, {**label, **values})
    assert schema.class_names == ["low", "mid", "high"]
    assert labels(read_text(tmp_path, schema, text), schema).tolist() == [1, 2, 0]

    schema = schema_of(tmp_path, AGE, {**label, **values, "category": "mid"})
    assert schema.class_names == ["y ≠ mid", "y = mid"]
    assert labels(read_text(tmp_path, schema, text), schema).tolist() == [1, 0, 0]


def test_a_numeric_label_falls_into_bands(tmp_path):
    label = {"name": "y", "type": "number", "role": "label", "thresholds": [5, 15, 30]}
    schema = schema_of(tmp_path, AGE, label)
    assert schema.class_names == ["y ≤ 5", "5 < y ≤ 15", "15 < y ≤ 30", "y > 30"]
    assert schema.label.ordered
    text = "age,y\n" + "".join(f"1,{y}\n" for y in (5, 5.01, 15, 30, 30.5, -9))
    # A band ends at its threshold, as class 0 ends at a single one.
    assert labels(read_text(tmp_path, schema, text), schema).tolist() == [0, 1, 1, 2, 3, 0]
    named = schema_of(tmp_path, AGE, {**label, "bands": ["none", "low", "some", "high"]})
    assert named.class_names == ["none", "low", "some", "high"]
    assert labels(read_text(tmp_path, named, text), named).tolist() == [0, 1, 1, 2, 3, 0]


def test_a_label_of_few_numbers_needs_no_threshold(tmp_path):
    label = {"name": "y", "type": "integer", "role": "label"}
    schema = schema_of(tmp_path, AGE, label)
    assert schema.class_names == ["y = 0", "y = 1"]
    assert labels(read_text(tmp_path, schema, "age,y\n1,1\n1,0\n1,1.0\n"), schema).tolist() == [
        *(1, 0, 1)
    ]
    stages = schema_of(tmp_path, AGE, {**label, "constraints": {"enum": [1, 2, 4]}})
    assert stages.class_names == ["y = 1", "y = 2", "y = 4"]
    assert labels(read_text(tmp_path, stages, "age,y\n1,4\n1,1\n"), stages).tolist() == [2, 0]
    with pytest.raises(
        UserError, match=r"`y`: expected 1, 2 or 4, but found\n  line 2: '3'\nCorr.*thr"
    ):
        read_text(tmp_path, stages, "age,y\n1,3\n")


def test_a_label_of_truth_values_needs_no_threshold(tmp_path):
    label = {"name": "y", "type": "boolean", "role": "label"}
    schema = schema_of(tmp_path, AGE, label)
    assert schema.class_names == ["y = false", "y = true"]
    assert labels(read_text(tmp_path, schema, "age,y\n1,1\n1,false\n"), schema).tolist() == [1, 0]
    # In other spellings it has to be told them, to give them back.
    with pytest.raises(UserError, match=r"line 2: 'yes'\nCorrect .* name other spellings"):
        read_text(tmp_path, schema, "age,y\n1,yes\n")
    told = {**label, "trueValues": ["yes"], "falseValues": ["no"]}
    schema = schema_of(tmp_path, AGE, told)
    assert schema.class_names == ["y = no", "y = yes"]
    assert labels(read_text(tmp_path, schema, "age,y\n1,yes\n1,no\n"), schema).tolist() == [1, 0]


def test_a_label_that_is_no_declared_class_is_refused(tmp_path):
    label = {"name": "y", "type": "string", "role": "label", "constraints": {"enum": ["a", "b"]}}
    for category in ({}, {"category": "a"}):
        with pytest.raises(UserError, match="expected one of `a`, `b`, but found"):
            read_text(tmp_path, schema_of(tmp_path, AGE, {**label, **category}), "age,y\n1,c\n")


@pytest.mark.parametrize("extra", [{}, {"other": True}, {"other": True, "missing": "category"}])
def test_the_groups_of_rows_are_positions_in_the_levels(tmp_path, extra):
    schema = schema_of(tmp_path, AGE, {**WARD, **extra}, report_by=["ward"])
    cells = [
        "a",
        "b",
        *(["zzz"] if "other" in extra else []),
        *([""] if "missing" in extra else []),
    ]
    batch = read_text(tmp_path, schema, "age,ward,y\n" + "".join(f"1,{c},1\n" for c in cells))
    codes = groups(batch, schema)
    assert codes.tolist() == [[level] for level in range(len(schema.groups["ward"]))]


def test_ignored_columns_are_not_read(tmp_path):
    schema = schema_of(tmp_path, AGE, {"name": "notes", "role": "ignored"})
    path = tmp_path / "table.csv"
    path.write_bytes(b"age,notes,y\n1,\xff\xfe,1\n")
    (batch,) = read_batches(path, schema)
    assert batch.schema.names == ["age", "y"]
    assert schema.feature_names == ["age"]


MISTAKES: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "guess left": ([{**AGE, "confirm": ["minimum"]}], {}, "`minimum` is a guess"),
    "two ids": (
        [AGE, *({"name": n, "type": "string", "role": "id"} for n in "ab")],
        {},
        "one field at most",
    ),
    "interaction with itself": ([AGE], {"interactions": [["age", "age"]]}, "pairs of two features"),
    "interaction with the label": (
        [AGE],
        {"interactions": [["age", "y"]]},
        "pairs of two features",
    ),
    "report by a number": ([AGE], {"report_by": ["age"]}, "features with an `enum`"),
    "report twice": ([WARD], {"report_by": ["ward", "ward"]}, "repeats `ward`"),
    "missing and a value": ([WARD], {"missingValues": ["a"]}, "a cell cannot be both"),
    "level taken": (
        [{**WARD, "constraints": {"enum": ["a", "(other)"]}, "other": True}],
        {},
        "needs `\\(other\\)` for itself",
    ),
    "one class of none": (
        [
            AGE,
            {
                "name": "y",
                "type": "string",
                "role": "label",
                "constraints": {"enum": ["a", "b"]},
                "category": "c",
            },
        ],
        {},
        "should be one of its `enum`",
    ),
    "twenty-one classes": (
        [
            AGE,
            {
                "name": "y",
                "type": "string",
                "role": "label",
                "constraints": {"enum": [str(n) for n in range(21)]},
            },
        ],
        {},
        "two to twenty",
    ),
    "long delimiter": ([AGE], {"dialect": {"delimiter": "::"}}, "`dialect.delimiter`"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_contradiction_is_refused(tmp_path, mistake):
    fields, rest, says = MISTAKES[mistake]
    with pytest.raises(UserError, match=says):
        schema_of(tmp_path, *fields, **rest)
