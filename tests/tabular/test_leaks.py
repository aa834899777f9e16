"""The search for private values: what it finds, and what it leaves alone."""

import pytest

from stages.tabular.leaks import leaks

TABLE = "age,bmi,smoker,charges\n33,22.705,no,21984.47061\n64,31.5,yes,1e9\n18,28,no,150000\n"


@pytest.fixture
def search(tmp_path):
    """Return a function that plants a text in a bundle and returns what is found in it."""
    (tmp_path / "table.csv").write_text(TABLE)
    (tmp_path / "schema.json").write_text('{"threshold": 1234.567}')
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
    assert search(content) == ["`charges` in line 2 is in plots/planted"]


def test_a_whole_row_is_found_even_if_its_cells_are_everybodys(search):
    assert search("x\n18,28,no,150000\n") == ["the row in line 4 is in plots/planted"]


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


def test_a_number_of_the_schema_is_public(search, tmp_path):
    (tmp_path / "schema.json").write_text('{"threshold": 21984.47061}')
    assert search("21984.47061") == []


def test_the_message_does_not_tell_the_value(search):
    assert "21984" not in " ".join(search("21984.47061"))
