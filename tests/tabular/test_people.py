"""One row per person, and a split that follows the person."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.errors import UserError
from stages.tabular.reader import read_batches
from stages.tabular.split import in_test, kept_rows, split_name
from tests.tabular.conftest import read_text, schema_of, write_table

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
    first = in_test(batch_of(schema, people, [1] * 2000), schema, 0.3, 7)
    later = in_test(batch_of(schema, people[::-1], list(range(2000))), schema, 0.3, 7)
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
        named = [field.name for field in schema.fields]
        rows = zip(*(columns[name] for name in named), strict=True)
        text = "\n".join([",".join(named), *(",".join(map(str, row)) for row in rows)])
        names.append(split_name(0.3, 0, schema))
        sides.append(in_test(read_text(tmp_path, schema, text), schema, 0.3, 0).tolist())
    assert (sides[0] != sides[1]) == moves
    if moves:
        assert names[0] != names[1]
    elif change != "other texts":  # a name may change where no row does, which costs, not lies
        assert names[0] == names[1]
