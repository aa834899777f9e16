"""The schema file: what it declares, and every mistake in it."""

import json
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import UserError
from stages.tabular.schema import Schema
from tests.tabular.conftest import SAMPLE_SCHEMA, change_schema
from tests.tabular.conftest import refusal as refused_by_stage


def test_encoded_columns_are_named_after_fields_and_values(schema):
    assert schema.feature_names == [
        "age",
        "sex=male",
        "bmi",
        "children",
        "smoker=yes",
        "region=northeast",
        "region=northwest",
        "region=southeast",
        "region=southwest",
    ]


def test_classes_are_named_after_label_and_threshold(schema):
    assert schema.class_names == ["charges ≤ 15000", "charges > 15000"]
    assert schema.label.name == "charges"
    assert "charges" not in [feature.name for feature in schema.features]


# --- round trip ------------------------------------------------------------------------------

texts = st.text(min_size=1).filter(str.strip)
finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
bounds = st.tuples(finite, finite).filter(lambda pair: pair[0] != pair[1]).map(sorted)
number = st.builds(
    lambda kind, pair: {"type": kind, "constraints": {"minimum": pair[0], "maximum": pair[1]}},
    st.sampled_from(["integer", "number"]),
    bounds,
)
category = st.builds(
    lambda enum: {"type": "string", "constraints": {"enum": enum}},
    st.lists(texts, min_size=2, max_size=5, unique=True),
)
label = st.builds(lambda at: {"type": "number", "role": "label", "threshold": at}, finite)


@st.composite
def schema_files(draw):
    fields = [*draw(st.lists(number | category, min_size=1, max_size=5)), draw(label)]
    names = draw(st.lists(texts, min_size=len(fields), max_size=len(fields), unique=True))
    named = [{"name": name, **field} for name, field in zip(names, fields, strict=True)]
    return {"fields": draw(st.permutations(named))}


@given(schema_files())
def test_a_schema_survives_being_written_and_read(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("schema") / "schema.json"
    path.write_text(json.dumps(content), "utf-8")
    schema = Schema.load(path)
    path.write_text(schema.to_json(), "utf-8")
    again = Schema.load(path)
    assert again == schema
    assert again.to_json() == schema.to_json()
    assert again.feature_names == schema.feature_names


def test_what_is_written_is_what_the_file_says(schema):
    assert json.loads(schema.to_json()) == json.loads(SAMPLE_SCHEMA.read_text())


# --- mistakes --------------------------------------------------------------------------------


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        Schema.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


FIELDS = {field["name"]: field for field in json.loads(SAMPLE_SCHEMA.read_text())["fields"]}


def refusal_of_fields(tmp_path, fields) -> str:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps({"fields": fields}))
    return refusal(path)


# (field, its changes (None removes the key), what the message says)
MISTAKES = {
    "one bound missing": (
        "age",
        {"constraints": {"maximum": 64}},
        ["field `age`", "`constraints.minimum` is missing", "known without looking at the rows"],
    ),
    "both bounds missing": ("age", {"constraints": None}, ["field `age`", "`constraints` is miss"]),
    "equal bounds": (
        "age",
        {"constraints": {"minimum": 64, "maximum": 64}},
        ["field `age`", "`minimum` below its `maximum`", "but they are 64 and 64"],
    ),
    "swapped bounds": (
        "bmi",
        {"constraints": {"minimum": 60, "maximum": 10}},
        ["field `bmi`", "`minimum` below its `maximum`", "but they are 60 and 10"],
    ),
    "bound as text": (
        "age",
        {"constraints": {"minimum": "18", "maximum": 64}},
        ["field `age`", "`constraints.minimum` should be a number, but is '18'"],
    ),
    "bound as boolean": (
        "age",
        {"constraints": {"minimum": False, "maximum": 64}},
        ["`constraints.minimum` should be a number, but is False"],
    ),
    "infinite bound": (
        "age",
        {"constraints": {"minimum": 18, "maximum": float("inf")}},
        ["`constraints.maximum` should be a finite number, but is inf"],
    ),
    "bounds too far apart": (
        "age",
        {"constraints": {"minimum": -1.7e308, "maximum": 1.7e308}},
        ["field `age`", "by what a float can hold", "but they are -1.7e+308 and 1.7e+308"],
    ),
    "vocabulary of numbers": (
        "age",
        {"constraints": {"minimum": 1, "maximum": 2, "enum": [1, 2]}},
        ["field `age`", "`constraints.enum` is not understood here"],
    ),
    "vocabulary missing": (
        "sex",
        {"constraints": {}},
        ["field `sex`", "`constraints.enum` is missing"],
    ),
    "vocabulary of one": (
        "sex",
        {"constraints": {"enum": ["male"]}},
        ["field `sex`", "`constraints.enum` should have at least 2 items after validation, not 1"],
    ),
    "repeated value": (
        "sex",
        {"constraints": {"enum": ["male", "female", "male"]}},
        ["field `sex`", "repeats `male`"],
    ),
    "blank value": (
        "sex",
        {"constraints": {"enum": ["male", " "]}},
        ["field `sex`", "`constraints.enum.1` should not be blank"],
    ),
    "number as value": (
        "sex",
        {"constraints": {"enum": ["male", 1]}},
        ["field `sex`", "`constraints.enum.1` should be a text in quotes, but is 1"],
    ),
    "vocabulary no list": (
        "sex",
        {"constraints": {"enum": "male"}},
        ["field `sex`", "`constraints.enum` should be a list, but is 'male'"],
    ),
    "two ways to cut": (
        "charges",
        {"thresholds": [1, 2]},
        ["field `charges`", "one at most of `threshold`, `thresholds`, `constraints`, but has"],
    ),
    "bands that do not increase": (
        "charges",
        {"threshold": None, "thresholds": [5000, 15000, 15000]},
        ["field `charges`: `thresholds` should increase", "but are 5000, 15000, 15000"],
    ),
    "bands of which one has no name": (
        "charges",
        {"threshold": None, "thresholds": [5000, 15000], "bands": ["low", "high"]},
        ["field `charges`", "one of `bands` more than `thresholds`, but has 2 and 2"],
    ),
    "two bands of one name": (
        "charges",
        {"threshold": None, "thresholds": [5000, 15000], "bands": ["low", "high", "low"]},
        ["field `charges`: `bands` should list each value once, but repeats `low`"],
    ),
    "a cut-off outside the bounds": (
        "bmi",
        {"cutoffs": [10, 18.5, 61]},
        ["field `bmi`", "`cutoffs` between its bounds 10 and 60", "but has 10, 61"],
    ),
    "cut-offs out of order": (
        "bmi",
        {"cutoffs": [30, 25]},
        ["field `bmi`: `cutoffs` should increase", "but are 30, 25"],
    ),
    "a truth value with bounds": (
        "age",
        {"type": "boolean"},
        ["field `age`", "`constraints` is not understood here", "needs no `constraints`"],
    ),
    "a spelling of true and of false": (
        "sex",
        {"type": "boolean", "constraints": None, "trueValues": ["m", "x"], "falseValues": ["x"]},
        ["field `sex`", "should not have `x` in `trueValues` and `falseValues`"],
    ),
    "threshold as text": (
        "charges",
        {"threshold": "high"},
        ["field `charges`", "`threshold` should be a number, but is 'high'"],
    ),
    "label with bounds": (
        "charges",
        {"constraints": {"minimum": 0, "maximum": 1}},
        ["field `charges`", "`constraints.enum` is missing", "`constraints.minimum` is not under"],
    ),
    "label as text without classes": (
        "charges",
        {"type": "string", "threshold": None},
        ["field `charges`", "`constraints` is missing", "the classes"],
    ),
    "label as a date": (
        "charges",
        {"type": "date"},
        ["field `charges`", "found `role` label with `type` date"],
    ),
    "threshold of a feature": (
        "age",
        {"threshold": 30},
        ["field `age`", "`threshold` is not understood here", "A numeric feature (a field without"],
    ),
    "unknown type": (
        "age",
        {"type": "geopoint"},
        [
            "field `age`",
            "`role` feature with `type` integer or number, `role` feature with `type` string",
            "found `role` feature with `type` geopoint",
        ],
    ),
    "type missing": ("age", {"type": None}, ["field `age`", "with `type` missing"]),
    "type no text": ("age", {"type": ["integer"]}, ["field `age`", "with `type` ['integer']"]),
    "unknown role": ("age", {"role": "target"}, ["field `age`", "found `role` target"]),
    "unknown key": ("age", {"unit": "year"}, ["field `age`", "`unit` is not understood here"]),
    "misspelt key": (
        "age",
        {"titel": "Age"},
        ["field `age`", "`titel` is not understood here: perhaps `title` is meant"],
    ),
    "name missing": ("bmi", {"name": None}, ["field number 3", "`name` is missing"]),
    "name empty": ("bmi", {"name": ""}, ["field number 3", "`name` should be a text of one char"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistaken_field_is_refused(tmp_path, mistake):
    name, changes, says = MISTAKES[mistake]
    fields = deepcopy(FIELDS)
    fields[name] |= changes
    fields[name] = {key: value for key, value in fields[name].items() if value is not None}
    message = refusal_of_fields(tmp_path, list(fields.values()))
    for words in says:
        assert words in message


def test_every_mistake_is_reported_at_once(tmp_path):
    message = refusal_of_fields(tmp_path, [{"name": "a"}, {"name": "b"}, FIELDS["charges"]])
    assert "field `a`" in message
    assert "field `b`" in message


def test_all_that_is_wrong_between_fields_is_reported_at_once(tmp_path):
    message = refusal_of_fields(tmp_path, [FIELDS["age"], FIELDS["age"]])
    assert "declared once, but `age` is declared again; one field should have" in message


def test_a_schema_without_label_is_refused(tmp_path):
    message = refusal_of_fields(tmp_path, [FIELDS["age"], FIELDS["bmi"]])
    assert (
        'one field should have `"role": "label"`, the one to be predicted, but none has it'
        in message
    )


def test_a_schema_with_two_labels_is_refused(tmp_path):
    second = {**FIELDS["charges"], "name": "costs"}
    message = refusal_of_fields(tmp_path, [FIELDS["age"], FIELDS["charges"], second])
    assert "but `charges`, `costs` have it" in message


def test_a_schema_without_feature_is_refused(tmp_path):
    assert "at least one feature" in refusal_of_fields(tmp_path, [FIELDS["charges"]])


def test_a_column_declared_twice_is_refused(tmp_path):
    message = refusal_of_fields(tmp_path, [FIELDS["age"], FIELDS["age"], FIELDS["charges"]])
    assert "declared once, but `age` is declared again" in message


def test_a_field_that_is_no_object_is_refused(tmp_path):
    message = refusal_of_fields(tmp_path, ["age", FIELDS["charges"]])
    assert "field number 1" in message
    assert "found 'age'" in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "expected JSON in UTF-8"),
        (b'{"fields": [', "expected JSON in UTF-8"),
        (b'{"fields": [\xff]}', "expected JSON in UTF-8"),
        (b'\xef\xbb\xbf{"fields": []}', "expected JSON in UTF-8"),
        (b'{"fields": [], "fields": []}', "`fields` is given twice"),
        (b"[]", "should be an object in braces, but is []"),
        (b"{}", "`fields` is missing"),
        (b'{"fields": {}}', "`fields` should be a list, but is {}"),
        (b'{"fields": [], "filds": []}', "`filds` is not understood here: perhaps `fields`"),
    ],
)
def test_a_file_that_is_no_schema_is_refused(tmp_path, content, says):
    path = tmp_path / "schema.json"
    path.write_bytes(content)
    assert says in refusal(path)


def test_a_missing_file_is_refused(tmp_path):
    assert "readable file that declares the table's columns, but: No such file" in refusal(
        tmp_path / "schema.json"
    )


def test_a_folder_is_refused(tmp_path):
    assert "expected a readable file" in refusal(tmp_path)


def test_the_stage_refuses_a_mistaken_schema(project):
    change_schema(project, lambda fields: fields["age"]["constraints"].pop("minimum"))
    message = refused_by_stage(project)
    assert "data/sample_medical_data.schema.json: field `age`" in message
    assert "`constraints.minimum` is missing" in message
