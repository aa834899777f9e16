"""Whatever the file holds: rows as the schema says, or one message. Never a traceback or a hang.

An oracle reads the same bytes with Python's csv module, cell by cell, so that an accepted file has
the very values that its text says.
"""

import csv
import io
import json
import math
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stages.errors import UserError
from stages.tabular.encode import encode
from stages.tabular.reader import read_batches
from stages.tabular.schema import Schema

NAMES = ["age", "dose", "ward", "sex", "y"]
MISSING = ["", "NA"]
WARDS = ["a", "b,c", "ä", "=1+1"]
SCHEMA = {
    "fields": [
        {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 100}},
        {
            "name": "dose",
            "type": "number",
            "constraints": {"minimum": -1, "maximum": 1},
            "missing": "midpoint",
        },
        {
            "name": "ward",
            "type": "string",
            "constraints": {"enum": WARDS},
            "missing": "category",
            "other": True,
        },
        {"name": "sex", "type": "string", "constraints": {"enum": ["f", "m"]}},
        {"name": "y", "type": "number", "role": "label", "threshold": 0},
    ],
    "missingValues": MISSING,
}

TEXTS = [
    *("0", "7", "100", "-0", "1e309", "-1e309", "NaN", "nan", "inf", "1e-400", "0x10", "7.0"),
    *("7.5", " 7", "7 ", "+7", "1_0", "1,5", "1e3", "5e", ".", "-", "--1", "1.e2"),
    *("", "NA", " ", "na", "f", "m", "F", "f ", "a", "b,c", "ä", "a\u0308"),
    *("\u0663", "\uff17", "\uff46", "\u0430"),  # digits and letters of other scripts
    *("=1+1", "=cmd|' /C calc'!A0", "@SUM(1)", "'", '"', '""', "\n", "\r\n", "\0", "x" * 5000),
]
cells = st.one_of(
    st.sampled_from(TEXTS),
    st.floats(allow_nan=False).map(repr),
    st.integers().map(str),
    st.text(max_size=8),
)
quoted = cells.map(lambda cell: '"' + cell.replace('"', '""') + '"')
headers = st.one_of(
    st.just(NAMES), st.permutations(NAMES), st.lists(st.sampled_from([*NAMES, "z"]), max_size=7)
)
rows = st.one_of(
    st.lists(st.one_of(cells, quoted), min_size=5, max_size=5),
    st.tuples(
        st.sampled_from(["0", "7", "100", "+7"]),
        st.sampled_from(["0.5", "", "NA", "-0", "1e3"]),
        quoted,
        st.sampled_from(["f", "m"]),
        st.sampled_from(["1", "-1", "1e300"]),
    ).map(list),
    st.lists(cells, max_size=7),
)
tables = st.builds(
    lambda header, body, end: end.join(",".join(row) for row in [header, *body]),
    headers,
    st.lists(rows, max_size=4),
    st.sampled_from(["\n", "\r\n"]),
)
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
files = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda text, name: text.encode(name, "replace"), tables, encodings),
    st.builds(lambda a, b: ",".join(NAMES).encode() + b"\n" + a + b, st.binary(), st.binary()),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    return folder


def expected_rows(content):
    """What an accepted file means, by Python's csv and float alone."""
    header, *body = [row for row in csv.reader(io.StringIO(content.decode(), newline="")) if row]
    for cells in body:
        row = dict(zip(header, cells, strict=True))
        dose = row["dose"]
        missing = dose in MISSING
        ward = [float(row["ward"] == value) for value in WARDS]
        is_missing = float(row["ward"] in MISSING)
        yield [
            2 * min(max(float(row["age"]), 0), 100) / 100 - 1,
            0.0 if missing else min(max(float(dose), -1), 1),
            float(missing),
            *ward,
            1 - sum(ward) - is_missing,
            is_missing,
            {"f": -1.0, "m": 1.0}[row["sex"]],
        ]


@settings(max_examples=2200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files)
@example(b"")
@example(",".join(NAMES).encode())
@example(b"age,dose,ward,sex,y\n7,0.5,a,f,1\n\0,0.5,a,f,1\n")
@example("age,dose,ward,sex,y\n7,0.5,ä,f,1\n".encode())
@example(b'age,dose,ward,sex,y\n7,0.5,"b,c",f,1\n7,,"x\ny",m,-1\n')
def test_a_file_is_accepted_as_it_says_or_refused_in_a_message(folder, content):
    path, schema = folder / "table.csv", Schema.load(folder / "schema.json")
    path.write_bytes(content)
    try:
        batches = list(read_batches(path, schema))
    except UserError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert re.search(r"expected|should be", message)
        assert len(message) < 3000
        return
    found = np.concatenate([encode(batch, schema) for batch in batches])
    np.testing.assert_allclose(found, list(expected_rows(content)), atol=1e-6)


@given(st.lists(st.tuples(st.floats(), st.text(max_size=3) | st.none()), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_a_table_in_memory_is_accepted_or_refused_too(folder, table):
    schema = Schema.load(folder / "schema.json")
    numbers, texts = zip(*table, strict=True)
    columns = {"age": [7] * len(table), "dose": numbers, "ward": texts, "sex": ["f"] * len(table)}
    types = {"ward": pa.string()}
    arrays = {name: pa.array(values, types.get(name)) for name, values in columns.items()}
    if not all(map(math.isfinite, numbers)):
        with pytest.raises(UserError, match="Only finite numbers"):
            list(read_batches(pa.table(arrays), schema, scoring=True))
        return
    (batch,) = read_batches(pa.table(arrays), schema, scoring=True)
    np.testing.assert_allclose(encode(batch, schema)[:, 1], np.clip(numbers, -1, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "100,000 columns": b",".join(b"c%d" % n for n in range(100_000)) + b"\n" + b"," * 99_999,
        "one cell of 5 MB": b"age,dose,ward,sex,y\n7,0,a,f,1\n7,0," + b"x" * 5_000_000 + b",f,1\n",
        "an open quote": b'age,dose,ward,sex,y\n7,0,"a,f,1\n' + b"7,0,a,f,1\n" * 300_000,
        "5 MB of line ends": b"\n" * 5_000_000,
        "5 MB of quotes": b'"' * 5_000_001,
        "5 MB of NUL": b"\0" * 5_000_000,
    }.items(),
)
def test_a_monstrous_file_is_refused_in_a_short_message(folder, name, content):
    path = folder / "monster.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(read_batches(path, Schema.load(folder / "schema.json")))
    assert len(str(caught.value)) < 3000, name
