"""Drafting a schema from a public file, and checking a table against one."""

import csv
import json
import os
import pty
import shutil
import subprocess
import sys
from datetime import datetime
from difflib import SequenceMatcher

import pyarrow.csv as arrow_csv
import pytest
from pyarrow import parquet

from stages.errors import UserError
from stages.tabular.draft import as_text, draft_schema
from stages.tabular.look import owners_look
from stages.tabular.people import count_people
from stages.tabular.reader import find_problems, read_batches
from stages.tabular.schema import Schema
from tests.conftest import ROOT
from tests.examples import SCHEMAS, write_breast_cancer, write_clinic, write_diabetes
from tests.tabular.conftest import SAMPLE, change_schema, schema_of, write_table

LABEL = {"name": "charges", "type": "number", "role": "label", "threshold": 15000}


def by_name(content):
    return {field["name"]: field for field in content["fields"]}


@pytest.fixture(params=["csv", "semicolons", "parquet"])
def public(request, tmp_path):
    """The sample, declared public, in several forms."""
    path = tmp_path / f"public.{'parquet' if request.param == 'parquet' else 'csv'}"
    table = arrow_csv.read_csv(SAMPLE)
    if request.param == "parquet":
        parquet.write_table(table, path)
    else:
        delimiter = ";" if request.param == "semicolons" else ","
        arrow_csv.write_csv(table, path, arrow_csv.WriteOptions(delimiter=delimiter))
    return path


def test_a_draft_fits_its_table_once_it_is_confirmed(public, tmp_path):
    content = draft_schema(public)
    fields = by_name(content)
    assert fields["age"]["type"] == "integer"
    assert fields["age"]["constraints"] == {"minimum": 15, "maximum": 65}
    assert fields["bmi"]["type"] == "number"
    assert fields["region"]["constraints"]["enum"][0] == "northeast"
    assert (fields["smoker"]["type"], fields["smoker"]["trueValues"]) == ("boolean", ["yes"])
    fields["charges"] |= LABEL
    del fields["charges"]["constraints"]
    # Each guess is named in one line of the file, which is simply left out.
    text = "\n".join(line for line in as_text(content).splitlines() if '"confirm"' not in line)
    path = tmp_path / "drafted.json"
    path.write_text(text)
    assert sum(batch.num_rows for batch in read_batches(public, Schema.load(path))) == 1338


def test_every_guess_is_marked_and_a_marked_schema_is_refused(public, tmp_path):
    content = draft_schema(public)
    assert all(field["confirm"] for field in content["fields"])
    fields = by_name(content)
    assert fields["age"]["confirm"] == ["minimum", "maximum"]
    assert fields["region"]["confirm"] == ["enum"]
    fields["charges"] |= {**LABEL, "confirm": []}
    del fields["charges"]["constraints"]
    path = tmp_path / "drafted.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"field `age`: .*`minimum`, `maximum` is a guess"):
        Schema.load(path)


def drafted(folder, **columns):
    """The drafted fields, by name, of a public file of these columns."""
    path = folder / "public.csv"
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join(",".join(map(str, row)) for row in [columns, *rows]))
    return by_name(draft_schema(path))


def test_bounds_are_round_and_outside_of_what_was_seen(tmp_path):
    found = drafted(tmp_path, a=[18, 64], b=[0.013, 0.9], c=[5, 5], d=[-3, 1000], e=[1, 3])
    assert {name: tuple(field["constraints"].values()) for name, field in found.items()} == {
        "a": (15, 65),
        "b": (0, 1),
        "c": (5, 6),
        "d": (-200, 1200),
        "e": (1, 4),
    }


def test_months_days_and_hours_end_where_they_end(tmp_path):
    found = drafted(tmp_path, month=[1, 12, 7], weekday=[0, 6, 3], day=[1, 31, 5], hour=[0, 23, 5])
    assert {name: tuple(field["constraints"].values()) for name, field in found.items()} == {
        **{"month": (1, 12), "weekday": (0, 6)},
        **{"day": (1, 31), "hour": (0, 23)},
    }


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ((0, 1, 1), {}),
        ((1.0, 0.0, 1.0), {}),
        (("True", "False", "True"), {}),
        (("yes", "no", "no"), {"trueValues": ["yes"], "falseValues": ["no"]}),
        (("t", "f", "f"), {"trueValues": ["t"], "falseValues": ["f"]}),
        (("Y", "N", "y"), {"trueValues": ["Y", "y"], "falseValues": ["N"]}),
    ],
)
def test_truth_values_are_recognized(tmp_path, cells, told):
    assert drafted(tmp_path, x=cells)["x"] == {
        **{"name": "x", "confirm": ["type"], "type": "boolean"},
        **told,
    }


def test_two_codes_are_a_category_and_codes_with_leading_zeros_are_text(tmp_path):
    found = drafted(tmp_path, sex=[1, 2, 1], ward=["01", "02", "10"])
    assert found["sex"]["constraints"] == {"enum": ["1", "2"]}
    assert found["ward"]["constraints"] == {"enum": ["01", "02", "10"]}


@pytest.mark.parametrize(
    ("cells", "form"),
    [
        (("2019-02-03", "2021-12-31"), None),
        (("03.02.2019", "31.12.2021"), "%d.%m.%Y"),
        (("02/03/2019", "12/31/2021"), "%m/%d/%Y"),
        (("20190203", "20211231"), "%Y%m%d"),
        (("03feb2019", "31dec2021"), "%d%b%Y"),
    ],
)
def test_dates_are_recognized(tmp_path, cells, form):
    field = drafted(tmp_path, seen=cells)["seen"]
    assert (field["type"], field.get("format")) == ("date", form)
    low, high = (datetime(*day) for day in ((2019, 1, 1), (2021, 12, 31)))
    assert field["constraints"] == {
        "minimum": low.strftime(form or "%Y-%m-%d"),
        "maximum": high.strftime(form or "%Y-%m-%d"),
    }


def test_times_are_recognized_and_other_numbers_are_no_dates(tmp_path):
    found = drafted(
        tmp_path, at=["2019-02-03 10:30", "2021-12-31T11:00:01"], number=[125024, 632167]
    )
    assert found["at"]["type"] == "datetime"
    assert found["number"]["type"] == "integer"


def test_every_spelling_of_missing_is_kept_with_the_empty_cell(tmp_path):
    path = tmp_path / "public.csv"
    path.write_text("age,ward,fit\n1,a,yes\nn/a,NULL,no\n50,b,-\n?,a,yes\n")
    content = draft_schema(path)
    assert content["missingValues"] == ["", "-", "?", "NULL", "n/a"]
    fields = by_name(content)
    assert [fields[name]["missing"] for name in fields] == ["midpoint", "category", "category"]
    assert all("missing" in field["confirm"] for field in content["fields"])


def test_what_names_rows_is_an_id_or_ignored(tmp_path):
    found = drafted(
        tmp_path,
        **{"": range(100)},
        who=[f"p{n}" for n in range(100)],
        number=[n // 2 + 125024 for n in range(100)],
        notes=[f"{n % 70} notes" for n in range(100)],
        patient_id=[n // 2 for n in range(100)],
        cost=[n + 0.5 for n in range(100)],
    )
    assert {name: field.get("role") for name, field in found.items()} == {
        "": "ignored",  # numbers of rows
        # There is one id: that of which there are fewest, as a visit's would promise to visits.
        **{"who": "ignored", "number": "id", "notes": "ignored", "patient_id": "ignored"},
        "cost": None,
    }
    assert "type" not in found["who"]
    visits = drafted(tmp_path, zper=[n // 2 + 125024 for n in range(102)], age=[9] * 102)
    assert visits["zper"] == {
        **{"name": "zper", "confirm": ["role", "repeated"], "role": "id"},
        "repeated": "keep one",
    }


def test_a_column_without_a_name_can_be_ignored(tmp_path):
    age = {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 9}}
    path = tmp_path / "table.csv"
    path.write_text(",age,y\n1,5,1\n")
    schema = schema_of(tmp_path, {"name": "", "role": "ignored"}, age)
    assert [batch.num_rows for batch in read_batches(path, schema)] == [1]


def test_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "public.csv"
    path.write_text("a,a\n1,2\n")
    with pytest.raises(UserError, match="`a` is the name of more than one column"):
        draft_schema(path)


def as_it_is(table):
    """What writes a table that is there already."""
    return lambda path: shutil.copy(table, path)


# Drafts and what their owners made of them, in tests/examples/drafts, by the table.
TABLES = {
    "sample_medical_data.csv": as_it_is(SAMPLE),
    "rand_health_insurance.csv.gz": as_it_is(ROOT / "data/rand_health_insurance.csv.gz"),
    "lymph_node.csv.gz": as_it_is(SCHEMAS / "tables/lymph_node.csv.gz"),
    "actg175.csv.gz": as_it_is(SCHEMAS / "tables/actg175.csv.gz"),
    "breast_cancer.csv": write_breast_cancer,
    "diabetes.csv": write_diabetes,
}


@pytest.mark.parametrize("name", TABLES)
def test_a_draft_needs_at_most_three_edited_lines(tmp_path, name):
    table = tmp_path / name
    TABLES[name](table)
    drafted = [
        line.rstrip(",")
        for line in as_text(draft_schema(table)).splitlines()
        if '"confirm"' not in line
    ]
    finished = SCHEMAS / f"drafts/{name.partition('.')[0]}.schema.json"
    made = [line.rstrip(",") for line in finished.read_text().splitlines()]
    edits = 0
    for kind, start, end, at, to in SequenceMatcher(None, drafted, made).get_opcodes():
        if kind != "equal":
            edits += max(end - start, to - at)
    assert edits <= 3
    schema = Schema.load(finished)
    assert find_problems(table, schema)[1] == []
    assert count_people(table, schema, split_seed=0) > 400


def test_check_tells_the_owner_at_a_terminal_and_nobody_else(project):
    change_schema(project, lambda fields: fields["age"]["constraints"].update(maximum=30))
    output = project.run("python", "-m", "stages.schema", "check")
    assert output == (
        "data/sample_medical_data.csv: all rows fit the schema.\n"
        "What they hold is told at a terminal only, for the owner's eyes.\n"
    )
    shown = on_a_terminal(project, "check")
    for words in (
        "For the owner's eyes only: exact figures of private rows. Publish none of them.",
        "rows: 1338\n  age: 0.0% below 18, 66.8% above 30\n  warning: 66.8% of `age` is clipped",
        "  bmi: 0.0% below 10, 0.0% above 60\n",
        "classes:\n  charges ≤ 15000: 73.2%\n  charges > 15000: 26.8%\n",
        "training: about 1070 rows; `train_size` is 0% off. It is published",
    ):
        assert words in shown
    assert shown.count("warning") == 1


def on_a_terminal(project, *arguments):
    """What the command shows at a terminal."""
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "stages.schema", *arguments]
    subprocess.run(command, cwd=project.folder, stdout=terminal, check=True)
    os.set_blocking(screen, False)
    shown = os.read(screen, 10_000).decode().replace("\r\n", "\n")
    os.close(terminal)
    os.close(screen)
    return shown


def test_the_owner_sees_what_is_missing_other_and_repeated(tmp_path):
    table = tmp_path / "clinic.csv"
    write_clinic(table)
    schema = Schema.load(SCHEMAS / "clinic.schema.json")
    shown = owners_look(table, schema, training=1130, train_size=None)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    ages = sum(row["age"] == "NA" for row in rows) / len(rows)
    others = sum(row["ward"] == "ward of tomorrow" for row in rows) / len(rows)
    outcomes = sum(row["outcome"] == "NA" for row in rows) / len(rows)
    for words in (
        f"  age: 0.0% below 18, 0.0% above 90, {ages:.1%} (missing)\n",
        f"{others:.1%} (other)",
        f"  outcome: {outcomes:.1%} (missing)\n",
        "by `patient`: ",
        "  with 2 rows: ",
        "`train_size` is not declared",
    ):
        assert words in shown


def test_the_owner_sees_how_many_dates_are_clipped(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("born,seen,y\n1990-01-01,2020-05-01,1\n1890-01-01,2021-05-01,-1\n")
    bounds = {"minimum": "2020-01-01", "maximum": "2020-12-31"}
    schema = schema_of(
        tmp_path,
        {"name": "born", "type": "date", "constraints": bounds},
        {
            **{"name": "seen", "type": "date"},
            "since": {"field": "born", "unit": "years", "minimum": 0, "maximum": 100},
        },
    )
    shown = owners_look(path, schema, training=1, train_size=1)
    assert "  born: 100.0% below 2020-01-01, 0.0% above 2020-12-31\n" in shown
    assert "  seen: 0.0% below 0.0, 50.0% above 100.0\n" in shown


def test_without_the_word_no_file_is_read(project):
    output = project.run("python", "-m", "stages.schema", "draft", str(SAMPLE), expect=1)
    assert "say so with --public; never the private table" in output
    assert "enum" not in output
    output = project.run("python", "-m", "stages.schema", "draft", str(SAMPLE), "--public")
    assert '"enum"' in output
    assert "7 fields drafted" in output


def test_a_draft_of_no_table_is_refused(project):
    for name in ("data", "nothing.csv", "params.yaml"):
        output = project.run("python", "-m", "stages.schema", "draft", name, "--public", expect=1)
        assert output.startswith(f"error: {name}: expected a CSV or Parquet table")


def test_check_finds_what_only_all_rows_together_show(project):
    schema = project.folder / "data/sample_medical_data.schema.json"
    whole = schema.read_text()
    schema.write_text(whole.replace("15000", "1e9"))
    output = project.run("python", "-m", "stages.schema", "check", expect=1)
    assert "expected rows of two classes or more" in output
    one = '{"name": "age", "type": "integer", "role": "id"}'
    content = json.loads(whole)
    content["fields"][0] = json.loads(one)
    schema.write_text(json.dumps(content))
    output = project.run("python", "-m", "stages.schema", "check", expect=1)
    assert "expected one row for each `age`" in output


def test_check_lists_the_problems_of_all_columns(project):
    lines = SAMPLE.read_text().replace(",yes,", ",maybe,").splitlines()
    lines[1] = "old" + lines[1][2:]
    write_table(project, "\n".join(lines))
    output = project.run("python", "-m", "stages.schema", "check", expect=1)
    assert "Traceback" not in output
    assert "column `age`: expected a whole number, but found\n  line 2: 'old'\nWrite" in output
    assert "column `smoker`: expected one of `no`, `yes`, but found\n" in output
    assert "  and 269 more\n" in output, "of 274, five are shown"


def test_problems_are_counted_over_the_whole_file(tmp_path):
    age = {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 9}}
    path = tmp_path / "table.csv"
    path.write_text("age,y\n" + "1,1\n" * 300_000 + "x,1\n" * 7)
    rows, (problem,) = find_problems(path, schema_of(tmp_path, age))
    assert (rows, problem.count) == (300_007, 7)
    assert str(problem).startswith("column `age`: expected")
    assert "found\n  line 300002: 'x'\n" in str(problem)


def test_check_refuses_a_faulty_schema_first(project):
    change_schema(project, lambda fields: fields["age"].pop("constraints"))
    output = project.run("python", "-m", "stages.schema", "check", expect=1)
    assert "`constraints` is missing" in output
