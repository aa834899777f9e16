"""Whatever the file holds: rows as the schema says, or one message. Never a traceback or a hang.

An oracle reads the same bytes with Python's csv module, cell by cell, so that an accepted file has
the very values that its text says.
"""

import csv
import io
import json
import math
import re
from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stages.errors import UserError
from stages.tabular.encode import encode, labels
from stages.tabular.reader import read_batches
from stages.tabular.schema import Schema

NAMES = ["age", "dose", "ward", "sex", "fit", "born", "seen", "y"]
HEADER = ",".join(NAMES) + "\n"
DAYS = "01.01.2000,2000-01-03 12:00"
MISSING = ["", "NA"]
WARDS = ["a", "b,c", "ä", "=1+1"]
SCHEMA = {
    "fields": [
        {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 100}},
        {
            "name": "dose",
            "type": "number",
            "constraints": {"minimum": -1, "maximum": 1},
            "cutoffs": [-0.5, 0.25],
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
        {"name": "fit", "type": "boolean", "missing": "category"},
        {
            "name": "born",
            "type": "date",
            "format": "%d.%m.%Y",
            "constraints": {"minimum": "01.01.1900", "maximum": "31.12.2020"},
            "missing": "midpoint",
        },
        {
            "name": "seen",
            "type": "datetime",
            "since": {"field": "born", "unit": "days", "minimum": 0, "maximum": 1000},
            "parts": ["month", "weekday"],
            "missing": "midpoint",
        },
        {"name": "y", "type": "number", "role": "label", "thresholds": [-0.5, 0, 5]},
    ],
    "missingValues": MISSING,
}

TEXTS = [
    *("0", "7", "100", "-0", "1e309", "-1e309", "NaN", "nan", "inf", "1e-400", "0x10", "7.0"),
    *("7.5", " 7", "7 ", "+7", "1_0", "1,5", "1e3", "5e", ".", "-", "--1", "1.e2"),
    *("", "NA", " ", "na", "f", "m", "F", "f ", "a", "b,c", "ä", "a\u0308"),
    *("yes", "No", "1.0", "T", "truE", "2", "31.12.1999", "31.02.2000", "1.1.2000", "01.01.00"),
    *("2000-02-29", "2001-02-29", "2000-01-01 10:00", "2000-01-01T10:00:00.5", "2000-01-01Z"),
    *("1999-12-31T24:00", "2000-W01-1", "20000101", "0001-01-01", "9999-12-31", "01.01.0001"),
    *("\u0663", "\uff17", "\uff46", "\u0430"),  # digits and letters of other scripts
    *("=1+1", "=cmd|' /C calc'!A0", "@SUM(1)", "'", '"', '""', "\n", "\r\n", "\0", "x" * 5000),
]
cells = st.one_of(
    st.sampled_from(TEXTS),
    st.floats(allow_nan=False).map(repr),
    st.integers().map(str),
    st.dates().map(str),
    st.datetimes().map(lambda moment: moment.isoformat(" ")),
    st.text(max_size=8),
)
quoted = cells.map(lambda cell: '"' + cell.replace('"', '""') + '"')
headers = st.one_of(
    st.just(NAMES), st.permutations(NAMES), st.lists(st.sampled_from([*NAMES, "z"]), max_size=7)
)
# Most of these fit, so that the oracle has values to compare.
fitting = st.tuples(
    st.sampled_from(["0", "7", "100", "+7"]),
    st.sampled_from(["0.5", "", "NA", "-0", "1e3", "-0.5", "0.25"]),
    st.sampled_from(WARDS).map(lambda ward: f'"{ward}"') | quoted,
    st.sampled_from(["f", "m"]),
    st.sampled_from(["yes", "0", "", "False", "t", "1.0"]),
    st.dates(date(1800, 1, 1), date(2001, 1, 1)).map(lambda day: f"{day:%d.%m.%Y}") | st.just(""),
    st.one_of(
        st.datetimes(datetime(2000, 1, 1), datetime(2120, 1, 1)).map(str),
        st.dates(date(2000, 1, 1), date(2120, 1, 1)).map(str),
        st.just("NA"),
    ),
    st.sampled_from(["1", "-1", "1e300", "0.25"]),
).map(list)
rows = st.one_of(
    st.lists(st.one_of(cells, quoted), min_size=8, max_size=8), fitting, st.lists(cells, max_size=7)
)


def table_of(header, body, end):
    return end.join(",".join(row) for row in [header, *body])


ends = st.sampled_from(["\n", "\r\n"])
tables = st.one_of(
    st.builds(table_of, headers, st.lists(rows, max_size=4), ends),
    st.builds(table_of, st.just(NAMES), st.lists(fitting, min_size=1, max_size=4), ends),
)
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
files = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda text, name: text.encode(name, "replace"), tables, encodings),
    tables.map(str.encode),
    st.builds(lambda a, b: ",".join(NAMES).encode() + b"\n" + a + b, st.binary(), st.binary()),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    return folder


TRUE = {"true", "True", "TRUE", "1", "1.0", "yes", "Yes", "YES", "y", "Y", "t", "T"}
FALSE = {"false", "False", "FALSE", "0", "0.0", "no", "No", "NO", "n", "N", "f", "F"}


def scale(value, low, high):
    return 2 * (min(max(value, low), high) - low) / (high - low) - 1


def expected_dose(cell):
    """The number, whether it is missing, and its two cut-offs."""
    if cell in MISSING:
        return [0.0, 1.0, 0.0, 0.0]
    dose = min(max(float(cell), -1), 1)
    return [dose, 0.0, *(1.0 if float(cell) >= cut else -1.0 for cut in (-0.5, 0.25))]


def expected_dates(born, seen):
    """The birth, whether it is missing; the time since, whether it is, month and weekday."""
    birth = None if born in MISSING else datetime.strptime(born, "%d.%m.%Y")
    moment = None if seen in MISSING else datetime.fromisoformat(seen)
    first = [0.0, 1.0]
    if birth is not None:
        ends = (date(1900, 1, 1), date(2020, 12, 31))
        first = [scale(birth.toordinal(), *(end.toordinal() for end in ends)), 0.0]
    since = [0.0, 1.0]
    if birth is not None and moment is not None:
        assert birth <= moment, "out of order, and accepted"
        since = [scale((moment - birth).total_seconds() / 86400, 0, 1000), 0.0]
    parts = [0.0] * 9
    if moment is not None:
        turn = 2 * math.pi * (moment.month - 1) / 12
        days = [float(moment.weekday() == day) for day in range(7)]
        parts = [math.sin(turn), math.cos(turn), *days]
    return [*first, *since, *parts]


def expected_rows(content):
    """What an accepted file means, by Python's csv, float and datetime alone."""
    header, *body = [row for row in csv.reader(io.StringIO(content.decode(), newline="")) if row]
    for cells in body:
        row = dict(zip(header, cells, strict=True))
        ward = [float(row["ward"] == value) for value in WARDS]
        is_missing = float(row["ward"] in MISSING)
        fit = [row["fit"] in FALSE, row["fit"] in TRUE, row["fit"] in MISSING]
        assert sum(fit) == 1, "neither true nor false, and accepted"
        yield [
            2 * min(max(float(row["age"]), 0), 100) / 100 - 1,
            *expected_dose(row["dose"]),
            *ward,
            1 - sum(ward) - is_missing,
            is_missing,
            {"f": -1.0, "m": 1.0}[row["sex"]],
            *map(float, fit),
            *expected_dates(row["born"], row["seen"]),
        ]


def expected_classes(content):
    """The band of each row of an accepted file."""
    for row in csv.DictReader(io.StringIO(content.decode(), newline="")):
        yield sum(float(row["y"]) > threshold for threshold in (-0.5, 0, 5))


@settings(max_examples=2200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files)
@example(b"")
@example(",".join(NAMES).encode())
@example(f"{HEADER}7,0.5,a,f,1,{DAYS},1\n\0,0.5,a,f,1,{DAYS},1\n".encode())
@example(f"{HEADER}7,0.5,ä,f,yes,{DAYS},1\n".encode())
@example(f'{HEADER}7,0.5,"b,c",f,1,{DAYS},1\n7,,"x\ny",m,,,NA,-1\n'.encode())
@example(f"{HEADER}7,0.5,a,f,1,02.01.2000,2000-01-01,1\n".encode())
@example(f"{HEADER}7,0.5,a,f,,{DAYS},1\n7,0.5,a,f,maybe,{DAYS},1\n".encode())
def test_a_file_is_accepted_as_it_says_or_refused_in_a_message(folder, content):
    path, schema = folder / "table.csv", Schema.load(folder / "schema.json")
    path.write_bytes(content)
    try:
        batches = list(read_batches(path, schema))
    except UserError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert re.search(r"expected|should be", message)
        assert len(message) < 6000
        return
    found = np.concatenate([encode(batch, schema) for batch in batches])
    np.testing.assert_allclose(found, list(expected_rows(content)), atol=1e-6)
    classes = np.concatenate([labels(batch, schema) for batch in batches])
    assert classes.tolist() == list(expected_classes(content))


@given(st.lists(st.tuples(st.floats(), st.text(max_size=3) | st.none()), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_a_table_in_memory_is_accepted_or_refused_too(folder, table):
    schema = Schema.load(folder / "schema.json")
    numbers, texts = zip(*table, strict=True)
    columns = {"age": [7] * len(table), "dose": numbers, "ward": texts, "sex": ["f"] * len(table)}
    columns |= {"fit": [True] * len(table), "born": [date(2000, 1, 1)] * len(table)}
    columns["seen"] = [datetime(2000, 1, 3, 12)] * len(table)
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
        "one cell of 5 MB": f"{HEADER}7,0,{'x' * 5_000_000},f,1,{DAYS},1\n".encode(),
        "a date of 5 MB": f"{HEADER}7,0,a,f,1,{'1' * 5_000_000},,1\n".encode(),
        "an open quote": HEADER.encode() + b'7,0,"a,f,1\n' + b"7,0,a,f,1,,,1\n" * 300_000,
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
