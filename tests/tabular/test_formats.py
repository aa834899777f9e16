"""The same rows, however they are written: delimiters, quotes, gzip, Parquet, memory."""

import gzip
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pytest
from pyarrow import parquet

from stages.errors import UserError
from stages.tabular.encode import encode, labels
from stages.tabular.reader import read_batches
from stages.tabular.schema import Schema
from tests.tabular.conftest import SAMPLE, SAMPLE_SCHEMA, held_back, read_text, schema_of

AGE = {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 100}}


def outcome(path, schema):
    """All that the stage makes of a file."""
    batches = list(read_batches(path, schema))
    return tuple(
        np.concatenate([part(batch) for batch in batches]).tobytes()
        for part in (
            lambda batch: encode(batch, schema),
            lambda batch: labels(batch, schema),
            lambda batch: held_back(batch, schema, 0.2, 0),
        )
    )


def write_as(form, folder):
    """Write the sample in another form; return its path."""
    text, table = SAMPLE.read_text(), arrow_csv.read_csv(SAMPLE)
    path = folder / f"table.{'parquet' if 'parquet' in form else 'csv'}"
    match form:
        case "quoted":
            arrow_csv.write_csv(table, path, arrow_csv.WriteOptions(quoting_style="all_valid"))
        case "gzip":
            path = folder / "table.csv.gz"
            path.write_bytes(gzip.compress(text.encode()))
        case "Windows line ends":
            path.write_text(text.replace("\n", "\r\n"), newline="")
        case "parquet":
            parquet.write_table(table, path)
        case "parquet with dictionaries":
            sex = table.column("sex").dictionary_encode()
            parquet.write_table(table.set_column(1, "sex", sex), path)
        case "columns in another order":
            arrow_csv.write_csv(table.select(table.column_names[::-1]), path)
    return path


@pytest.mark.parametrize(
    "form",
    [
        "quoted",
        "gzip",
        "Windows line ends",
        "parquet",
        "parquet with dictionaries",
        "columns in another order",
    ],
)
def test_the_form_changes_nothing(tmp_path, schema, form):
    assert outcome(write_as(form, tmp_path), schema) == outcome(SAMPLE, schema)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_are_declared(tmp_path, schema, delimiter):
    other = tmp_path / "schema.json"
    dialect = f'{{"dialect": {{"delimiter": "{delimiter!r}"}},'.replace("'", "")
    other.write_text(SAMPLE_SCHEMA.read_text().replace("{", dialect, 1))
    table = tmp_path / "table.csv"
    table.write_text(SAMPLE.read_text().replace(",", delimiter))
    assert outcome(table, Schema.load(other)) == outcome(SAMPLE, schema)
    with pytest.raises(UserError, match="expected the columns that the schema declares"):
        outcome(table, schema)


def test_quoted_cells_may_hold_delimiters_quotes_and_line_breaks(tmp_path):
    wards = ["a,b", 'say "a"', "first\nsecond", " a"]
    ward = {"name": "ward", "type": "string", "constraints": {"enum": wards}}
    cells = "".join('"' + ward.replace('"', '""') + '",1\n' for ward in wards)
    batch = read_text(tmp_path, schema_of(tmp_path, ward), f"ward,y\n{cells}")
    assert batch.column("ward").to_pylist() == wards


def test_parquet_nulls_are_missing_and_its_whole_numbers_are_texts(tmp_path):
    code = {"name": "code", "type": "string", "constraints": {"enum": ["1", "2"]}}
    schema = schema_of(tmp_path, {**AGE, "missing": "midpoint"}, {**code, "missing": "category"})
    path = tmp_path / "table.parquet"
    columns = {"age": [None, 50], "code": [2, None], "y": [0.5, -1.0]}
    parquet.write_table(pa.table(columns), path)
    (batch,) = read_batches(path, schema)
    assert encode(batch, schema).tolist() == [[0, 1, 0, 1, 0], [0, 0, 0, 0, 1]]
    # A table in memory reads the same.
    (batch,) = read_batches(pa.table(columns), schema)
    assert encode(batch, schema).tolist() == [[0, 1, 0, 1, 0], [0, 0, 0, 0, 1]]


@pytest.mark.parametrize("values", [[1.0, 2.0], [True, False]])
@pytest.mark.parametrize("other", [False, True])
def test_a_column_whose_texts_could_be_several_is_refused(tmp_path, values, other):
    # "1", "1.0"; "true", "True": with `other` each wrong guess would pass in silence.
    enum = ["1.0", "2.0", "True", "False", "true"]
    field = {"name": "x", "type": "string", "constraints": {"enum": enum}, "other": other}
    with pytest.raises(UserError, match="`x` is declared as text, but is of type"):
        list(read_batches(pa.table({"x": values, "y": [1.0, 2.0]}), schema_of(tmp_path, field)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("table.parquet", b"PAR1 not really", id="no Parquet"),
        pytest.param("table.csv.gz", b"age,y\n1,1\n", id="no gzip"),
        # Without `mtime` gzip writes the second of the day, and two workers of
        # one test run would hold two different tests.
        pytest.param(
            "table.csv.gz",
            gzip.compress(b"age,y\n1,1\n" * 1000, mtime=0)[:-20],
            id="gzip cut short",
        ),
        pytest.param("table.parquet", b"", id="empty"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)):
        list(read_batches(path, schema_of(tmp_path, AGE)))


def test_parquet_columns_of_no_plain_type_are_refused(tmp_path):
    path = tmp_path / "table.parquet"
    parquet.write_table(pa.table({"age": [[1]], "y": [1.0]}), path)
    with pytest.raises(UserError, match="`age` is of type list"):
        list(read_batches(path, schema_of(tmp_path, AGE)))


def test_numbers_that_are_not_finite_in_parquet_are_refused(tmp_path):
    path = tmp_path / "table.parquet"
    parquet.write_table(pa.table({"age": [float("nan"), 1.0], "y": [1.0, 1.0]}), path)
    with pytest.raises(UserError, match="Only finite numbers"):
        list(read_batches(path, schema_of(tmp_path, AGE)))


@pytest.mark.parametrize("name", ["age", "ward"])
def test_a_null_in_parquet_is_refused_where_nothing_is_said_of_missing_values(tmp_path, name):
    ward = {"name": "ward", "type": "string", "constraints": {"enum": ["a", "b"]}}
    path = tmp_path / "table.parquet"
    columns: dict[str, list[Any]] = {"age": [50, 60], "ward": ["a", "b"], "y": [0.5, 1.0]}
    columns[name][1] = None
    parquet.write_table(pa.table(columns), path)
    with pytest.raises(UserError, match=f"column `{name}`.*\n  row 1: nothing"):
        list(read_batches(path, schema_of(tmp_path, AGE, ward)))
