"""The kinds of field: what each says of itself, and that one more kind is one more class."""

from pathlib import Path

import pyarrow as pa
import pytest

from stages.tabular import fields
from stages.tabular.fields import KINDS, Field
from stages.tabular.schema import Schema
from tests.examples import SCHEMAS
from tests.tabular.conftest import ROOT, SAMPLE_SCHEMA, schema_of

CLINIC = {
    "patient": "whose row it is; not read by the model",
    "age": "18 to 90; if missing, the middle of these, marked as missing",
    "ward": f"{', '.join(f'ward {n}' for n in range(12))}, or any other; or missing",
    "dose": "0 to 1000, by its logarithm; if missing, the middle of these, marked as missing",
    "smoker": "no, yes",
    "notes": "not read",
    "outcome": "the label: home or ward or intensive; rows without it are left out",
}


def test_each_field_is_told_as_a_phrase():
    schema = Schema.load(SCHEMAS / "clinic.schema.json")
    assert {field.name: field.describe() for field in schema.fields} == CLINIC
    charges = Schema.load(SAMPLE_SCHEMA).label
    assert charges.describe() == "the label: charges ≤ 15000 or charges > 15000"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_kind_says_all_that_is_asked_of_it(kind):
    assert not kind.__abstractmethods__
    assert kind.needs.endswith(".")


def test_a_kind_that_leaves_a_question_open_cannot_be_used():
    class Speechless(Field):
        type: str
        role: str

    with pytest.raises(TypeError, match="describe"):
        Speechless(name="x", type="x", role="x")  # type: ignore[abstract]


def breaches(text):
    """Return the kinds that a module names."""
    return [name for name in KINDS if name != "Id" and name in text]


def test_no_module_beside_the_fields_knows_a_kind():
    folder = Path(fields.__file__).parent
    modules = [path for path in (ROOT / "stages").rglob("*.py") if folder not in path.parents]
    assert {path.name: breaches(path.read_text()) for path in modules} == {
        path.name: [] for path in modules
    }
    assert breaches("if isinstance(field, NumberLabel):") == ["NumberLabel"]


def test_bad_cells_of_an_id_are_told_what_an_id_may_be(tmp_path):
    schema = schema_of(
        tmp_path,
        {"name": "who", "type": "integer", "role": "id"},
        {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 9}},
    )
    assert schema.id is not None
    with pytest.raises(ValueError, match="`type` as `string`"):
        schema.id.read(pa.array([b"7", b"7b"]), ("",))
