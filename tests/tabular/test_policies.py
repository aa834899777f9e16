"""What the schema says to do about missing, unknown and heavy-tailed values."""

from typing import Any

import numpy as np
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
