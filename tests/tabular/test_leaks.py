"""The search for private values: what it finds, and what it leaves alone."""

import json

import pyarrow.csv as arrow_csv
import pytest
from pyarrow import parquet

from stages.tabular.leaks import leaks

TABLE = """age,bmi,smoker,charges,notes
33,22.705,no,21984.47061,"said, it hurt"
64,31.5,yes,1e9,mrs-jones
18,28,no,150000,
"""
SCHEMA = {
    "fields": [
        {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 99}},
        {"name": "bmi", "type": "number", "constraints": {"minimum": 0, "maximum": 99}},
        {"name": "smoker", "type": "string", "constraints": {"enum": ["no", "yes"]}},
        {"name": "charges", "type": "number", "role": "label", "threshold": 1234.567},
        {"name": "notes", "role": "ignored"},
    ]
}


@pytest.fixture
def search(tmp_path):
    """Return a function that plants a text in a bundle and returns what is found in it."""
    (tmp_path / "table.csv").write_text(TABLE)
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    bundle = tmp_path / "bundle/plots"
    bundle.mkdir(parents=True)

    def planted(content):
        (bundle / "planted").write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
        return leaks(tmp_path / "bundle", tmp_path / "table.csv", tmp_path / "schema.json")

    return planted


@pytest.mark.parametrize(
    "content",
    [
        "charges of 21984.47061.",
        '{"x": [1, 21984.47061]}',
        "2.198447061e4",
        b"\x89PNG\0 21984.47061",
    ],
)
def test_a_private_number_is_found_however_it_is_written(search, content):
    assert search(content) == ["`charges` in row 1 is in plots/planted"]


def test_a_whole_row_is_found_even_if_its_cells_are_everybodys(search):
    assert search("x\n18,28,no,150000,\n") == ["the whole row in row 3 is in plots/planted"]


@pytest.mark.parametrize(
    "content",
    [
        "nothing",
        "aged 33, bmi 22.705, no smoker, 64",
        "121984.470610",
        "21984.470612",
        "v1.21984.47061",
        "150000 is a round number",
    ],
)
def test_what_many_have_or_what_only_looks_alike_is_left_alone(search, content):
    assert search(content) == []


@pytest.mark.parametrize(
    "content",
    [
        "for mrs-jones.",
        '{"who": "mrs-jones"}',
        "<td>mrs-jones</td>",
        "a;mrs-jones;b",
        "who: mrs-jones",
    ],
)
def test_a_private_text_is_found_however_it_is_written(search, content):
    assert search(content) == ["`notes` in row 2 is in plots/planted"]


def test_words_of_free_text_are_everybodys_unless_they_have_a_digit(search, tmp_path):
    # Else no table with notes could be published: reports are made of words.
    (tmp_path / "table.csv").write_text(
        "age,bmi,smoker,charges,notes\n33,22.7,no,1,hurt by dragons; case 55-A712\n"
    )
    assert search("here be dragons") == []
    assert search("see 55-A712") == ["`notes` in row 1 is in plots/planted"]
    assert search('"hurt by dragons; case 55-A712"') == ["`notes` in row 1 is in plots/planted"]


def test_the_reports_own_words_are_nobodys(search, tmp_path):
    (tmp_path / "table.csv").write_text("age,bmi,smoker,charges,notes\n33,22.7,no,1,training\n")
    assert search("the training rows") == []


def test_what_the_schema_says_is_public(search, tmp_path):
    text = json.dumps(SCHEMA | {"missingValues": ["", "mrs-jones"]})
    (tmp_path / "schema.json").write_text(text.replace("1234.567", "21984.47061"))
    assert search("21984.47061 and mrs-jones") == []


def test_a_table_of_another_format_is_searched_too(search, tmp_path):
    table = arrow_csv.read_csv(tmp_path / "table.csv")
    parquet.write_table(table, tmp_path / "table.parquet")
    search("")
    (tmp_path / "bundle/plots/planted").write_text("of mrs-jones")
    found = leaks(tmp_path / "bundle", tmp_path / "table.parquet", tmp_path / "schema.json")
    assert found == ["`notes` in row 2 is in plots/planted"]


def test_the_message_does_not_tell_the_value(search):
    found = " ".join(search("21984.47061 and mrs-jones"))
    assert "`charges`" in found
    assert "21984" not in found
    assert "jones" not in found
