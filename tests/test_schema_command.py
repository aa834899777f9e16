"""Drafting a schema from a public file, and checking a table against one."""

import json

import pyarrow.csv as arrow_csv
import pytest
from pyarrow import parquet

from stages.errors import UserError
from stages.tabular.draft import draft_schema
from stages.tabular.reader import find_problems, read_batches
from stages.tabular.schema import Schema
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
    assert fields["age"]["constraints"] == {"minimum": 10, "maximum": 70}
    assert fields["bmi"]["type"] == "number"
    assert fields["smoker"]["constraints"] == {"enum": ["no", "yes"]}
    for field in content["fields"]:
        del field["confirm"]
    fields["charges"] |= LABEL
    del fields["charges"]["constraints"]
    path = tmp_path / "drafted.json"
    path.write_text(json.dumps(content))
    assert sum(batch.num_rows for batch in read_batches(public, Schema.load(path))) == 1338


def test_every_guess_is_marked_and_a_marked_schema_is_refused(public, tmp_path):
    content = draft_schema(public)
    assert all(field["confirm"] for field in content["fields"])
    fields = by_name(content)
    assert fields["age"]["confirm"] == ["minimum", "maximum"]
    assert fields["sex"]["confirm"] == ["enum"]
    fields["charges"] |= {**LABEL, "confirm": []}
    del fields["charges"]["constraints"]
    path = tmp_path / "drafted.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"field `age`: .*`minimum`, `maximum` is a guess"):
        Schema.load(path)


def test_bounds_are_rounded_outwards(tmp_path):
    path = tmp_path / "public.csv"
    path.write_text("a,b,c,d\n18,0.013,5,-3\n64,0.9,5,1000\n")
    constraints = {name: f["constraints"] for name, f in by_name(draft_schema(path)).items()}
    assert constraints == {
        "a": {"minimum": 10, "maximum": 70},
        "b": {"minimum": 0, "maximum": 1},
        "c": {"minimum": 5, "maximum": 6},
        "d": {"minimum": -1000, "maximum": 2000},
    }


def test_missing_values_ids_and_free_texts_are_recognized(tmp_path):
    path = tmp_path / "public.csv"
    rows = [
        f"p{n},{'NA' if n == 3 else n},{'' if n == 4 else 'ab'[n % 2]},{n // 2} notes"
        for n in range(200)
    ]
    path.write_text("\n".join(["who,age,ward,notes", *rows]))
    content = draft_schema(path)
    fields = by_name(content)
    assert content["missingValues"] == ["", "NA"]
    assert (fields["who"]["role"], fields["notes"]["role"]) == ("id", "ignored")
    assert (fields["age"]["missing"], fields["ward"]["missing"]) == ("midpoint", "category")
    assert "missing" in fields["age"]["confirm"]


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


def test_check_says_that_a_table_fits(project):
    output = project.run("python", "-m", "stages.schema", "check")
    assert "all 1338 rows fit the schema, and 1338 of them are used" in output
    assert (
        "For the owner's eyes only: about 1070 are for training; `train_size` is 0% off" in output
    )


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
