"""Dates: as a number, by their parts, as time since another, and every way to write them wrong."""

import math
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from stages.errors import UserError
from stages.tabular.encode import encode
from stages.tabular.reader import find_problems, read_batches
from stages.tabular.schema import Schema
from tests.tabular.conftest import read_text, schema_of

# From 2020-01-01 to 2020-12-31 are 365 days.
SEEN = {
    "name": "seen",
    "type": "date",
    "constraints": {"minimum": "2020-01-01", "maximum": "2020-12-31"},
}
BORN = {"name": "born", "type": "date", "role": "reference"}
SINCE = {"field": "born", "unit": "years", "minimum": 0, "maximum": 100}
AGE = {"name": "seen", "type": "date", "since": SINCE}


def encoded(folder, schema, text):
    return encode(read_text(folder, schema, text), schema)


def test_a_date_is_a_number_between_its_bounds(tmp_path):
    schema = schema_of(tmp_path, SEEN)
    assert (schema.feature_names, schema.scaled) == (["seen"], [0])
    cells = ["2020-01-01", "2020-12-31", "2020-03-14", "1999-01-01", "2030-01-01"]
    found = encoded(tmp_path, schema, "seen,y\n" + "".join(f"{cell},1\n" for cell in cells))
    # 14 March is 31 + 29 + 13 = 73 days after the first, a fifth of the way; others are clipped.
    np.testing.assert_allclose(found[:, 0], [-1, 1, -0.6, -1, 1], rtol=1e-6)


def test_the_time_of_day_is_a_part_of_the_day(tmp_path):
    field = {**SEEN, "type": "datetime"}
    schema = schema_of(tmp_path, field)
    found = encoded(tmp_path, schema, "seen,y\n2020-03-14T12:00:00,1\n2020-03-14 12:00,1\n")
    np.testing.assert_allclose(found[:, 0], 2 * 73.5 / 365 - 1, rtol=1e-6)


def test_months_are_a_cycle_and_weekdays_are_columns(tmp_path):
    schema = schema_of(tmp_path, {**SEEN, "parts": ["month", "weekday"]})
    assert schema.feature_names[:4] == [
        *("seen", "seen month (sine)", "seen month (cosine)", "seen weekday=Monday")
    ]
    cells = ["2020-01-06", "2020-04-11", "1969-12-31", "2020-07-05"]
    found = encoded(tmp_path, schema, "seen,y\n" + "".join(f"{cell},1\n" for cell in cells))
    # January is at 12 o'clock, April at 3, December before January, July at 6.
    december = [math.sin(-math.pi / 6), math.cos(-math.pi / 6)]
    at = np.array([[0, 1], [1, 0], december, [0, -1]])
    np.testing.assert_allclose(found[:, 1:3], at, atol=1e-6)
    assert found[:, 3:].argmax(axis=1).tolist() == [date.fromisoformat(c).weekday() for c in cells]
    assert found[:, 3:].sum(axis=1).tolist() == [1] * 4


@pytest.mark.parametrize("kind", ["date", "datetime"])
def test_time_since_another_date_has_bounds_of_its_own(tmp_path, kind):
    schema = schema_of(tmp_path, {**BORN, "type": kind}, AGE)
    assert schema.feature_names == ["seen since born"]
    text = (
        "born,seen,y\n1970-01-01,2020-01-01,1\n2020-01-01,2020-01-01,1\n1800-01-01,2020-01-01,1\n"
    )
    found = encoded(tmp_path, schema, text)
    # 50 years have 18262 days, of which 365.2425 are a year; then none, and more than there can be.
    assert found[:, 0].tolist() == pytest.approx([2 * 18262 / 36524.25 - 1, -1, 1])


def test_a_missing_date_is_in_the_middle_and_says_so(tmp_path):
    schema = schema_of(tmp_path, {**SEEN, "parts": ["month", "weekday"], "missing": "midpoint"})
    assert schema.feature_names[1] == "seen=(missing)"
    (row,) = encoded(tmp_path, schema, 'seen,y\n"",1\n').tolist()
    assert row == [0, 1, *[0] * 9]


def test_time_since_a_missing_date_is_missing(tmp_path):
    born = {**SEEN, "name": "born", "missing": "midpoint"}
    schema = schema_of(tmp_path, born, {**AGE, "missing": "midpoint", "parts": ["month"]})
    rows = encoded(tmp_path, schema, "born,seen,y\n,2020-01-01,1\n2020-01-01,,1\n").tolist()
    assert rows == [[0, 1, 0, 1, 0, 1], [-1, 0, 0, 1, 0, 0]]


FORMATS = {
    "%d.%m.%Y": "14.03.2020",
    "%m/%d/%Y": "3/14/2020",
    "%d%b%Y": "14mar2020",
    "%Y%m%d": "20200314",
    "%d %B %Y": "14 March 2020",
}


@pytest.mark.parametrize("form", FORMATS)
def test_other_formats_are_declared(tmp_path, form):
    bounds = {
        "minimum": date(2020, 1, 1).strftime(form),
        "maximum": date(2020, 12, 31).strftime(form),
    }
    schema = schema_of(tmp_path, {**SEEN, "format": form, "constraints": bounds})
    found = encoded(tmp_path, schema, f"seen,y\n{FORMATS[form]},1\n")
    np.testing.assert_allclose(found, [[-0.6]], rtol=1e-6)
    with pytest.raises(UserError, match="line 2: '2020-03-14'\nCorrect the cells"):
        encoded(tmp_path, schema, "seen,y\n2020-03-14,1\n")


def test_the_default_of_table_schema_is_iso(tmp_path):
    text = "seen,y\n2020-03-14,1\n"
    named = encoded(tmp_path, schema_of(tmp_path, {**SEEN, "format": "default"}), text)
    assert named.tolist() == encoded(tmp_path, schema_of(tmp_path, SEEN), text).tolist()


days = st.dates(date(1900, 1, 1), date(2100, 12, 31))


@given(st.lists(days, min_size=1, max_size=5))
def test_the_format_changes_no_value(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("formats")
    found = []
    for form in ("%Y-%m-%d", "%d.%m.%Y", "%d%b%Y"):
        low, high = (date(year, 1, 1).strftime(form) for year in (1900, 2101))
        extra = {} if form == "%Y-%m-%d" else {"format": form}
        field = {**SEEN, **extra, "constraints": {"minimum": low, "maximum": high}}
        text = "seen,y\n" + "".join(f"{value.strftime(form)},1\n" for value in values)
        found.append(encoded(folder, schema_of(folder, field), text).tolist())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        *(("date", cell) for cell in ("2020-02-30", "2021-02-29", "14.03.2020", "2020-3-14")),
        *(("date", cell) for cell in ("20200314", "2020-03-14 10:00", " 2020-03-14", "yesterday")),
        *(("date", cell) for cell in ("٢٠٢٠-03-14", "2020-03", "0", "1e5", "-2020-03-14")),
        *(("datetime", cell) for cell in ("2020-02-30 10:00", "2020-03-14T25:00", "2020-W11-6")),
        *(("datetime", cell) for cell in ("2020-03-14T10:00Z", "2020-03-14T10:00+01:00")),
    ],
)
def test_what_is_no_such_date_is_refused(tmp_path, kind, cell):
    schema = schema_of(tmp_path, {**SEEN, "type": kind})
    with pytest.raises(UserError) as caught:
        encoded(tmp_path, schema, f"seen,y\n2020-01-01,1\n{cell},1\n")
    assert "column `seen`: expected a date" in str(caught.value)
    assert f"  line 3: '{cell}'\nCorrect the cells: there is no such day" in str(caught.value)


def test_a_date_without_separators_has_all_its_digits(tmp_path):
    bounds = {"minimum": "20200101", "maximum": "20201231"}
    schema = schema_of(tmp_path, {**SEEN, "format": "%Y%m%d", "constraints": bounds})
    with pytest.raises(UserError, match="line 2: '2020111'\nCorrect the cells"):
        encoded(tmp_path, schema, "seen,y\n2020111,1\n")


@pytest.mark.parametrize("cell", ["31.02.2020", "1.1.20", "٣.03.2020", "14.03.2020 ", "2020-03-14"])
def test_what_is_no_such_date_in_another_format_is_refused(tmp_path, cell):
    bounds = {"minimum": "01.01.2020", "maximum": "31.12.2020"}
    schema = schema_of(tmp_path, {**SEEN, "format": "%d.%m.%Y", "constraints": bounds})
    with pytest.raises(
        UserError, match=r"written as 14\.03\.2024 \(%d\.%m\.%Y\), but found\n  line 3"
    ):
        encoded(tmp_path, schema, f"seen,y\n01.01.2020,1\n{cell},1\n")


def test_dates_out_of_order_are_refused_with_their_lines(tmp_path):
    schema = schema_of(tmp_path, BORN, AGE)
    text = "born,seen,y\n2020-01-01,2020-01-02,1\n2020-01-02,2020-01-01,1\nx,2020-01-01,1\n"
    with pytest.raises(UserError) as caught:
        encoded(tmp_path, schema, text)
    message = str(caught.value)
    assert (
        "column `seen`: expected a date written as 2024-03-14, but found\n  line 3: '2020-01-01"
        in (message)
    )
    assert (
        "It is before `born`: correct one of the two, or give `since` a `minimum` below" in message
    )
    assert (
        "column `born`: expected a date written as 2024-03-14, but found\n  line 4: 'x'" in message
    )
    rows, problems = find_problems(tmp_path / "table.csv", schema)
    assert (rows, [problem.count for problem in problems]) == (3, [1, 1])
    free = schema_of(tmp_path, BORN, {**AGE, "since": {**SINCE, "minimum": -1}})
    assert encoded(tmp_path, free, text.replace("x", "2020-01-01")).shape == (3, 1)


def test_dates_of_parquet_and_memory_are_those_of_text(tmp_path):
    schema = schema_of(tmp_path, SEEN)
    expected = encoded(tmp_path, schema, "seen,y\n2020-03-14,1\n")
    path = tmp_path / "table.parquet"
    for value in (date(2020, 3, 14), datetime(2020, 3, 14), pd.Timestamp("2020-03-14")):
        table = pa.Table.from_pandas(pd.DataFrame({"seen": [value], "y": [1.0]}))
        parquet.write_table(table, path)
        (batch,) = read_batches(path, schema)
        assert encode(batch, schema).tolist() == expected.tolist()
    german = {
        **SEEN,
        "format": "%d.%m.%Y",
        "constraints": {"minimum": "01.01.2020", "maximum": "31.12.2020"},
    }
    (batch,) = read_batches(path, schema_of(tmp_path, german))
    assert encode(batch, schema_of(tmp_path, german)).tolist() == expected.tolist()
    late = pa.table({"seen": [datetime(2020, 3, 14, 1)], "y": [1.0]})
    with pytest.raises(UserError, match=r"row 0: '2020-03-14 01:00:00\.000000'"):
        list(read_batches(late, schema))
    zoned = pa.table({"seen": pa.array([0], pa.timestamp("us", "UTC")), "y": [1.0]})
    with pytest.raises(
        UserError, match=r"column `seen` has the time zone UTC\. Convert it to local"
    ):
        list(read_batches(zoned, schema))


def test_only_what_features_need_is_asked_for_when_scoring(tmp_path):
    seen = {**BORN, "name": "entered"}
    who = {"name": "who", "role": "id", "repeated": "keep latest", "latest": "entered"}
    schema = schema_of(tmp_path, who, seen, BORN, AGE)
    row = {"born": ["2000-01-01"], "seen": ["2020-01-01"]}
    (batch,) = read_batches(pa.table(row), schema, scoring=True)
    assert encode(batch, schema).shape == (1, 1)
    with pytest.raises(UserError, match="column `born` is missing"):
        list(read_batches(pa.table({"seen": ["2020-01-01"]}), schema, scoring=True))


# fields and what the message says
MISTAKES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no bounds": (
        [{"name": "seen", "type": "date"}],
        "should have one of `constraints` and `since",
    ),
    "both": ([BORN, {**SEEN, **AGE}], "should have one of `constraints` and `since`"),
    "swapped bounds": (
        [{**SEEN, "constraints": {"minimum": "2020-12-31", "maximum": "2020-01-01"}}],
        "a `minimum` before its `maximum`, each a date written as 2024-03-14, but has `2020-12-31`",
    ),
    "no such bound": (
        [{**SEEN, "constraints": {"minimum": "2020-02-30", "maximum": "2021-01-01"}}],
        "but has `2020-02-30`, `2021-01-01`",
    ),
    "bounds in another format": (
        [{**SEEN, "format": "%d.%m.%Y"}],
        "each a date written as 14.03.2024 (%d.%m.%Y), but has `2020-01-01`",
    ),
    "a year of two digits": ([{**SEEN, "format": "%d.%m.%y"}], "year in four digits"),
    "a format without a day": ([{**SEEN, "format": "%m/%Y"}], "should write day, month and year"),
    "any format": ([{**SEEN, "format": "any"}], "but is 'any'"),
    "a format of another language": ([{**SEEN, "format": "dd.mm.yyyy"}], "such as `%d.%m.%Y`"),
    "an unknown part": ([{**SEEN, "parts": ["hour"]}], "`parts.0` should be 'month' or 'weekday'"),
    "a part twice": (
        [{**SEEN, "parts": ["month", "month"]}],
        "`parts` should list each value once",
    ),
    "since nothing": (
        [AGE],
        "`seen` is counted from `born`, which should be a field of `type` date",
    ),
    "since a number": (
        [AGE, {"name": "born", "type": "number", "constraints": {"minimum": 0, "maximum": 1}}],
        "counted from `born`, which should be a field of `type` date or datetime",
    ),
    "since what may be missing": (
        [AGE, {**SEEN, "name": "born", "missing": "midpoint"}],
        'give `seen` `"missing": "midpoint"` too',
    ),
    "bounds of since swapped": (
        [BORN, {**AGE, "since": {**SINCE, "minimum": 200}}],
        "`minimum` below its `maximum`",
    ),
    "a reference with bounds": ([{**SEEN, "role": "reference"}], "`constraints` is not understood"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistaken_date_is_refused(tmp_path, mistake):
    fields, says = MISTAKES[mistake]
    with pytest.raises(UserError) as caught:
        schema_of(tmp_path, *fields)
    assert says in str(caught.value)


def test_a_date_survives_being_written_and_read(tmp_path):
    schema = schema_of(tmp_path, BORN, {**AGE, "parts": ["month"]})
    path = tmp_path / "again.json"
    path.write_text(schema.to_json())
    assert Schema.load(path) == schema


def test_dates_are_told_as_a_phrase(tmp_path):
    schema = schema_of(
        tmp_path, BORN, {**AGE, "parts": ["month", "weekday"]}, {**SEEN, "name": "x"}
    )
    assert [field.describe() for field in schema.fields[:3]] == [
        "a date that others refer to; not read by the model",
        "0 to 100 years since born, and by month and weekday",
        "2020-01-01 to 2020-12-31",
    ]
