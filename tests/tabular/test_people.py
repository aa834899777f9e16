"""One row per person, and a split that follows the person."""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.errors import UserError
from stages.tabular.people import count_people, read_people
from stages.tabular.reader import read_batches
from stages.tabular.split import kept_rows, split_name
from tests.tabular.conftest import held_back, read_text, schema_of, write_table

AGE = {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 100}}


@pytest.fixture(params=["string", "integer"])
def schema(request, tmp_path):
    return schema_of(tmp_path, {"name": "who", "type": request.param, "role": "id"}, AGE)


def batch_of(schema, people, ages):
    who = pa.array([str(p) for p in people]) if schema.id.type == "string" else pa.array(people)
    return pa.RecordBatch.from_pydict(
        {
            "who": who,
            "age": pa.array(ages, pa.float64()),
            "y": pa.array(np.zeros(len(ages))),
        }
    )


def test_the_side_depends_on_the_person_alone(schema):
    people = list(range(2000))
    first = held_back(batch_of(schema, people, [1] * 2000), schema, 0.3, 7)
    later = held_back(batch_of(schema, people[::-1], list(range(2000))), schema, 0.3, 7)
    np.testing.assert_array_equal(first, later[::-1])
    # 2,000 coins of chance 0.3: 600 ± 20, six deviations.
    assert 480 < first.sum() < 720


def test_each_person_keeps_one_row_whatever_the_order_and_the_others(schema):
    source = np.random.default_rng(0)
    people, ages = source.integers(0, 300, 1000), source.integers(0, 100, 1000)

    def kept(order):
        whole = batch_of(schema, people[order].tolist(), ages[order].tolist())
        mask = kept_rows([whole.slice(0, 400), whole.slice(400)], schema, 3)
        return dict(zip(people[order][mask].tolist(), ages[order][mask].tolist(), strict=True))

    everybody = kept(np.arange(1000))
    assert sorted(everybody) == np.unique(people).tolist()
    assert kept(source.permutation(1000)) == everybody
    without = kept(np.flatnonzero(people != people[0]))
    assert without == {who: age for who, age in everybody.items() if who != people[0]}


def test_which_row_is_kept_is_no_preference_for_the_first(schema):
    mask = kept_rows([batch_of(schema, [n // 2 for n in range(2000)], range(2000))], schema, 0)
    # 1,000 fair coins: 500 ± 16, six deviations.
    assert 400 < mask[::2].sum() < 600


# --- the latest row --------------------------------------------------------------------------


LATEST = {"name": "who", "role": "id", "repeated": "keep latest", "latest": "seen"}
SEEN = {
    "name": "seen",
    "type": "date",
    "constraints": {"minimum": "2000-01-01", "maximum": "2029-12-31"},
}
REFERENCE = {"name": "seen", "type": "date", "role": "reference"}


def visits(count, seed=0):
    """Rows (who, seen, age) of a third as many people, no two at the same time."""
    source = np.random.default_rng(seed)
    days = source.permutation(count)
    return [
        (
            f"p{source.integers(count // 3)}",
            f"20{day // 336:02}-{day % 336 // 28 + 1:02}-{day % 28 + 1:02}",
            n,
        )
        for n, day in enumerate(days)
    ]


def used(folder, schema, rows):
    """Of each person the age of the row that is used, and the side."""
    path = folder / "visits.csv"
    path.write_text("who,seen,age,y\n" + "".join(f"{a},{b},{c},1\n" for a, b, c in rows))
    found = {}
    for batch in read_people(path, schema, 3):
        sides = held_back(batch, schema, 0.3, 3)
        for who, age, side in zip(*map(batch.column, ("who", "age")), sides, strict=True):
            found[who.as_py()] = (age.as_py(), bool(side))
    return found


@pytest.mark.parametrize("seen", [SEEN, REFERENCE], ids=["feature", "reference"])
def test_the_latest_row_of_each_person_is_kept_whatever_the_order(tmp_path, seen):
    schema = schema_of(tmp_path, LATEST, seen, {**AGE, "constraints": {"minimum": 0, "maximum": 9}})
    rows = visits(600)
    by_day = sorted(rows, key=lambda row: row[1])
    expected = {who: age for who, _, age in by_day}  # the last of each
    found = used(tmp_path, schema, rows)
    assert {who: age for who, (age, _) in found.items()} == expected
    assert used(tmp_path, schema, by_day) == found == used(tmp_path, schema, by_day[::-1])


def test_a_new_latest_row_moves_nobody_else(tmp_path):
    schema = schema_of(tmp_path, LATEST, SEEN, AGE)
    rows = visits(300)
    before = used(tmp_path, schema, rows)
    for who in ("p0", "p1", "p2"):
        after = used(tmp_path, schema, [*rows, (who, "2028-01-01", 77)])
        assert after[who] == (77, before[who][1]), "its row is another, its side the same"
        assert {name: told for name, told in after.items() if name != who} == {
            name: told for name, told in before.items() if name != who
        }
    # A new person moves nobody at all.
    assert used(tmp_path, schema, [*rows, ("new", "2028-01-01", 77)]).items() > before.items()


def test_a_split_by_the_latest_row_would_fail_the_test_above(tmp_path):
    without_id = schema_of(tmp_path, SEEN, AGE)
    ages = np.arange(300)
    batch = read_text(
        tmp_path, without_id, "seen,age,y\n" + "".join(f"2020-01-01,{age},1\n" for age in ages)
    )
    moved = read_text(
        tmp_path, without_id, "seen,age,y\n" + "".join(f"2028-01-01,{age},1\n" for age in ages)
    )
    assert (held_back(batch, without_id, 0.3, 3) != held_back(moved, without_id, 0.3, 3)).any()


def test_two_latest_rows_are_refused_and_equal_ones_are_one(tmp_path):
    schema = schema_of(tmp_path, LATEST, SEEN, AGE)
    rows = [("a", "2020-01-01", 1), ("a", "2020-01-01", 1), ("b", "2020-01-01", 5)]
    assert used(tmp_path, schema, rows) == used(tmp_path, schema, rows[1:])
    tied = [*rows, ("b", "2019-01-01", 6), ("a", "2020-01-01", 2)]
    with pytest.raises(UserError) as caught:
        used(tmp_path, schema, tied)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'visits.csv'}: expected one latest row of each `who`")
    assert "but 1 have several different ones with the same `seen`" in message
    assert " and 5 of those that are used" in message


def test_a_row_without_its_date_is_refused(tmp_path):
    schema = schema_of(tmp_path, LATEST, SEEN, AGE)
    with pytest.raises(UserError, match=r"column `seen`: expected a date .*\n  line 3: ''"):
        used(tmp_path, schema, [("a", "2020-01-01", 1), ("a", "", 2)])
    dropping = schema_of(tmp_path, LATEST, {**SEEN, "missing": "drop"}, AGE)
    found = used(tmp_path, dropping, [("a", "2020-01-01", 1), ("a", "", 2)])
    assert found["a"][0] == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"latest": "lost"}, "`latest` should name a date or a number that is read, but `lost` is"),
        ({"latest": "ward"}, "`latest` should name a date or a number that is read, but `ward` is"),
        ({"latest": "rough"}, "its `missing` should be refuse or drop, but is midpoint"),
        ({"latest": None}, "`latest`, the field that it goes by, but has `repeated` 'keep latest'"),
        ({"repeated": "keep one"}, "should have both or neither"),
    ],
)
def test_a_latest_by_nothing_is_refused(tmp_path, changes, says):
    ward = {"name": "ward", "type": "string", "constraints": {"enum": ["a", "b"]}}
    rough = {**SEEN, "name": "rough", "missing": "midpoint"}
    changed = {key: value for key, value in {**LATEST, **changes}.items() if value is not None}
    with pytest.raises(UserError, match=re.escape(says)):
        schema_of(tmp_path, changed, SEEN, ward, rough)


# --- by the stage ----------------------------------------------------------------------------


@pytest.fixture
def with_ids(project):
    path = project.folder / "data/people.schema.json"
    text = (project.folder / "data/sample_medical_data.schema.json").read_text()
    field = '{"name": "who", "type": "integer", "role": "id"},\n'
    path.write_text(text.replace('"fields": [', f'"fields": [{field}', 1))
    project.set(schema="data/people.schema.json")
    lines = (project.folder / "data/sample_medical_data.csv").read_text().splitlines()
    return project, path, lines


def test_a_second_row_of_a_person_is_refused(with_ids):
    project, _, (header, *rows) = with_ids
    table = [f"who,{header}", *(f"{n % 1300},{row}" for n, row in enumerate(rows))]
    write_table(project, "\n".join(table))
    message = project.refused("preprocess")
    assert "expected one row for each `who`, but 38 of the rows are further ones" in message


def test_or_one_of_them_is_kept_if_the_schema_says_so(with_ids):
    project, schema, (header, *rows) = with_ids
    schema.write_text(
        schema.read_text().replace('"role": "id"', '"role": "id", "repeated": "keep one"')
    )
    table = [f"who,{header}", *(f"{n % 1300},{row}" for n, row in enumerate(rows))]
    write_table(project, "\n".join(table))
    project.stage("preprocess")
    prepared = project.folder / "data/prepared"
    sizes = [len(np.load(prepared / f"{side}_labels.npy")) for side in ("train", "test")]
    assert sum(sizes) == 1300


def test_an_id_is_needed_in_every_row(tmp_path, schema):
    path = tmp_path / "table.csv"
    path.write_text('who,age,y\n"",1,1\n')
    with pytest.raises(UserError, match="column `who`: expected an id in every row"):
        list(read_batches(path, schema))


WHO = {"name": "who", "type": "integer", "role": "id"}
WARD = {"name": "ward", "type": "string", "constraints": {"enum": ["1", "2"]}}

DAY = {**SEEN, "name": "day"}
CODES = {"trueValues": ["1"], "falseValues": ["2"]}
LABEL = {"name": "y", "type": "number", "role": "label"}

# What may change in a schema: two lists of fields, and whether rows change sides.
CHANGES: dict[str, tuple[list[Any], list[Any], bool]] = {
    "bounds": ([AGE], [{**AGE, "constraints": {"minimum": 0, "maximum": 50}}], False),
    "a description": ([AGE], [{**AGE, "description": "in years"}], False),
    "whole or not": ([AGE], [{**AGE, "type": "number"}], False),
    "one more value": ([WARD], [{**WARD, "constraints": {"enum": ["1", "2", "3"]}}], False),
    "other texts": ([WARD], [{**WARD, "other": True}], False),
    "a value that was another": (
        [AGE, {**WARD, "other": True}],
        [AGE, {**WARD, "constraints": {"enum": ["1", "2", "3"]}, "other": True}],
        True,
    ),
    "a column": ([AGE], [AGE, WARD], True),
    "an id": ([AGE, WARD], [WHO, AGE, WARD], True),
    "a cut-off": ([AGE], [{**AGE, "cutoffs": [18]}], False),
    "other bounds of a date": ([AGE, DAY], [AGE, {**DAY, "parts": ["month"]}], False),
    "truth values": ([AGE, {"name": "ward", "type": "boolean", **CODES}], [AGE, WARD], True),
    "bands": ([AGE], [AGE, {**LABEL, "thresholds": [0, 1]}], False),
    "an id of text": ([WHO, AGE], [{**WHO, "type": "string"}, AGE], True),
    "a number as text": (
        [AGE, {**WARD, "type": "integer", "constraints": {"minimum": 1, "maximum": 3}}],
        [AGE, WARD],
        True,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_name_of_a_split_is_one_deal(tmp_path, change):
    before, after, moves = CHANGES[change]
    source = np.random.default_rng(0)
    age, ward = source.integers(0, 100, 400), source.integers(1, 3, 400)
    if change == "a value that was another":
        ward[::2] = 3
    names, sides = [], []
    for fields in (before, after):
        schema = schema_of(tmp_path, *fields)
        columns = {"who": range(400), "age": age, "ward": ward, "y": [1] * 400}
        columns["day"] = [f"2020-01-{number % 28 + 1:02}" for number in age]
        named = [field.name for field in schema.fields]
        rows = zip(*(columns[name] for name in named), strict=True)
        text = "\n".join([",".join(named), *(",".join(map(str, row)) for row in rows)])
        names.append(split_name(0.3, 0, schema))
        sides.append(held_back(read_text(tmp_path, schema, text), schema, 0.3, 0).tolist())
    assert (sides[0] != sides[1]) == moves
    if moves:
        assert names[0] != names[1]
    elif change != "other texts":  # a name may change where no row does, which costs, not lies
        assert names[0] == names[1]


# --- all rows of a person ------------------------------------------------------------------------

ALL = {"name": "who", "role": "id", "repeated": "use all", "at_most": 3}


def rows_used(folder, schema, rows):
    """Of each person the ages in the rows that are used, in order."""
    path = folder / "visits.csv"
    path.write_text("who,age,y\n" + "".join(f"{who},{age},1\n" for who, age in rows))
    found: dict[str, list[float]] = {}
    for batch in read_people(path, schema, 3):
        for who, age in zip(*map(batch.column, ("who", "age")), strict=True):
            found.setdefault(who.as_py(), []).append(age.as_py())
    return {who: sorted(ages) for who, ages in found.items()}


def visits_of_many(people=200):
    source = np.random.default_rng(5)
    times = source.integers(1, 8, people)
    rows = [(f"p{who}", int(age)) for who, n in enumerate(times) for age in source.choice(99, n)]
    return [rows[place] for place in source.permutation(len(rows))]


def test_all_rows_of_a_person_are_used_up_to_the_most(tmp_path):
    schema, rows = schema_of(tmp_path, ALL, AGE), visits_of_many()
    used_rows = rows_used(tmp_path, schema, rows)
    for who, ages in used_rows.items():
        own = sorted(age for name, age in rows if name == who)
        assert len(ages) == min(3, len(own))
        assert ages == own if len(own) <= 3 else set(ages) <= set(own)
    # Whatever the order of the file.
    assert rows_used(tmp_path, schema, rows[::-1]) == used_rows


def test_which_rows_of_a_person_are_used_is_decided_by_their_rows_alone(tmp_path):
    schema, rows = schema_of(tmp_path, ALL, AGE), visits_of_many()
    whole = rows_used(tmp_path, schema, rows)
    for gone in ("p0", "p1", "p2", "p3"):
        rest = rows_used(tmp_path, schema, [row for row in rows if row[0] != gone])
        assert rest == {who: ages for who, ages in whole.items() if who != gone}


def test_people_are_counted_and_not_rows(tmp_path):
    path = tmp_path / "visits.csv"
    path.write_text("who,age,y\na,1,1\na,2,1\nb,3,0\na,4,1\na,5,1\n")
    assert count_people(path, schema_of(tmp_path, ALL, AGE), 0) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"at_most": None}, r"`repeated` 'use all' and `at_most` None"),
        ({"repeated": "keep one"}, r"`repeated` 'keep one' and `at_most` 3"),
        ({"at_most": 1}, r"at_most.*greater than or equal to 2"),
        ({"at_most": 1001}, r"at_most.*less than or equal to 1000"),
        ({"at_most": 2.5}, r"at_most"),
    ],
)
def test_the_most_rows_are_declared_where_all_are_used_and_nowhere_else(tmp_path, change, says):
    with pytest.raises(UserError, match=says):
        schema_of(tmp_path, {k: v for k, v in (ALL | change).items() if v is not None}, AGE)
