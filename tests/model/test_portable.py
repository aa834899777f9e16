"""The model as an ONNX file answers raw rows as `predict` does, in a runtime of other people."""

import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pytest

from stages.model.classifier import Classifier
from stages.model.inputs import Pieces
from stages.model.perceptron import ACTIVATIONS, Model
from stages.model.portable import ACTIVATIONS as WRITTEN
from stages.model.portable import differences, to_onnx
from stages.tabular.fields.date import DAY, EPOCH, DateFeature
from stages.tabular.schema import Schema
from tests.conftest import ROOT
from tests.examples import SCHEMAS
from tests.tabular.conftest import SAMPLE_SCHEMA, schema_of

ROWS = 10_000

TABLES = {
    "sample": SAMPLE_SCHEMA,
    "breast cancer": SCHEMAS / "breast_cancer.schema.json",
    "three classes": SCHEMAS / "clinic.schema.json",
    "bands": ROOT / "data/rand_health_insurance.schema.json",
    "truth values": SCHEMAS / "drafts/lymph_node.schema.json",
}


def random_model(schema, hidden=(16, 8), activation="relu", pieces=0, seed=0):
    """A network that is sure of what it says, here this and there that."""
    source = np.random.default_rng(seed)
    inputs = Pieces(tuple(schema.scaled), pieces)
    widths = [inputs.width(len(schema.feature_names)), *hidden, len(schema.class_names)]
    layers = [
        (
            source.normal(0, 1.5 / np.sqrt(inputs), (outputs, inputs)).astype(np.float32),
            source.normal(0, 0.1, outputs).astype(np.float32),
        )
        for inputs, outputs in pairwise(widths)
    ]
    return Model(layers, activation, inputs)


def columns_of(schema, source, rows):
    """Return two frames of the same rows, as the ONNX file takes them and as a table has them.

    There are cells of every sort: the domain, its edges, beyond them, missing, not allowed.
    """
    fed: dict[str, Any] = {}
    written: dict[str, Any] = {}
    fields = schema.inputs
    for field in sorted(fields, key=lambda field: len(getattr(field, "inputs", ()))):
        if field.levels:
            odd = ["unheard of", "(other)", " ", "", *schema.missing_values]
            cells = [*source.choice(field.vocabulary, rows)]
            pairs, odd = [(cell, cell) for cell in cells], [(cell, cell) for cell in odd]
        elif field.type in ("date", "datetime"):
            others = [fed[name] for name in getattr(field, "inputs", ())[1:]]
            days = days_of(field, others, source, rows)
            pairs = [(day, field.written(EPOCH + day * DAY)) for day in days]
            odd = [(np.nan, None), (0.3 if field.type == "date" else np.inf, "no day")]
        else:
            pairs, odd = (
                [(np.nan, None) if cell is None else (cell, str(cell)) for cell in cells]
                for cells in (field.spread(source.random(rows)).to_pylist(), odd_numbers(field))
            )
        for row in np.flatnonzero(source.random(rows) < 0.4 / len(fields)):
            pairs[row] = odd[source.integers(len(odd))]
        fed[field.name], written[field.name] = zip(*pairs, strict=True)
    return fed, {name: pa.array(cells, pa.string()) for name, cells in written.items()}


def days_of(field, others, source, rows):
    """Days within the bounds and beyond, also before the date that they are counted from."""
    days = source.integers(-15_000, 15_000, rows).astype(float)
    if isinstance(field, DateFeature):
        days = np.array(field.spread(source.uniform(-0.2, 1.2, rows)))
    for other in others:
        days += np.where(np.isfinite(other), other, 0)
    parts = 1 if field.type == "date" else 8  # which a float can hold
    return np.floor(days * parts) / parts


def odd_numbers(field):
    low, high = field.constraints.minimum, field.constraints.maximum
    edges = [low, high, np.nextafter(high, np.inf), low + 0.25, -1e300, 1e300, -1e-9]
    cutoffs = [near for cut in field.cutoffs or () for near in (cut, np.nextafter(cut, -np.inf))]
    return [*map(float, [*edges, *cutoffs, np.inf, -np.inf]), None]


def answers(file, columns):
    """What the ONNX file says of columns of Python objects."""
    session = onnxruntime.InferenceSession(file)
    cells = {
        entry.name: np.array(columns[entry.name], object if "string" in entry.type else float)
        for entry in session.get_inputs()
    }
    label, probabilities = session.run(
        None, {name: column[:, np.newaxis] for name, column in cells.items()}
    )
    return label, probabilities


def compared(model, schema, rows=ROWS):
    """Return how many rows the file and `predict` take, once they agree, and how many neither."""
    fed, written = columns_of(schema, np.random.default_rng(1), rows)
    label, probabilities = answers(to_onnx(model, schema), fed)
    predicted = pa.concat_tables(
        Classifier(model, schema).tables(pa.table(written), on_error="skip")
    )
    takes = np.array(predicted["error"].is_null())
    assert (label[~takes] == "").all()
    assert np.isnan(probabilities[~takes]).all()
    # Label, its probability, those of all classes, error.
    expected = np.stack([np.array(column) for column in predicted.columns[2:-1]], axis=1)[takes]
    np.testing.assert_allclose(probabilities[takes], expected, rtol=0, atol=1e-6)
    # As the command prints them.
    names = np.array(predicted["label"].cast(pa.string()).to_pylist())[takes]
    assert label[takes].tolist() == names.tolist()
    assert len({*names}) == len(schema.class_names)
    return takes.sum(), (~takes).sum()


@pytest.mark.parametrize(
    ("table", "activation", "pieces"),
    [
        ("sample", "tanh", 0),
        ("sample", "relu", 8),
        ("breast cancer", "relu", 0),
        ("three classes", "tanh", 5),
        ("bands", "relu", 3),
        ("truth values", "tanh", 0),
    ],
)
def test_it_answers_rows_of_every_sort_as_predict_does(table, activation, pieces):
    schema = Schema.load(TABLES[table])
    takes, refuses = compared(random_model(schema, activation=activation, pieces=pieces), schema)
    assert takes > 0.6 * ROWS
    assert refuses > 100


def test_it_answers_dates_by_every_part_and_since_others(tmp_path):
    within = {"minimum": "1890-01-01", "maximum": "2110-12-31"}
    since = {"unit": "years", "minimum": 0, "maximum": 60}
    schema = schema_of(
        tmp_path,
        {
            **{"name": "seen", "type": "date", "constraints": within, "missing": "midpoint"},
            **{"parts": ["month", "weekday"]},
        },
        {"name": "left", "type": "datetime", "since": since | {"field": "born"}},
        {"name": "born", "type": "date", "role": "reference", "format": "%d.%m.%Y"},
        {
            **{"name": "again", "type": "date", "missing": "midpoint", "parts": ["weekday"]},
            "since": {"field": "seen", "unit": "days", "minimum": -30, "maximum": 400},
        },
        {"name": "cut", "type": "integer", "cutoffs": [3, 4.5], "missing": "midpoint"}
        | {"constraints": {"minimum": 0, "maximum": 9}},
        {"name": "told", "type": "boolean", "missing": "category"},
        {"name": "y", "type": "integer", "role": "label", "constraints": {"enum": [1, 2, 4]}},
        interactions=[["cut", "told"]],
    )
    takes, refuses = compared(random_model(schema, pieces=4, seed=1), schema)
    assert takes > 0.5 * ROWS
    # A sixth or so of the times since birth are below 0.
    assert refuses > 0.15 * ROWS


def test_it_answers_a_linear_model_and_products_of_all_kinds(tmp_path):
    bounds = {"minimum": 0, "maximum": 9}
    schema = schema_of(
        tmp_path,
        {"name": "a", "type": "number", "constraints": bounds, "missing": "midpoint"},
        {"name": "b", "type": "string", "constraints": {"enum": ["x", "y", "z"]}, "other": True},
        {"name": "c", "type": "integer", "constraints": bounds, "missing": "drop"},
        interactions=[["a", "b"], ["b", "c"]],
    )
    compared(random_model(schema, hidden=()), schema, 1000)


def test_names_of_columns_may_be_those_of_anything_inside(tmp_path):
    bounds = {"minimum": 0, "maximum": 9}
    names = ("label", "probabilities", "one", "Sub_1", "classes", "a b: “c”")
    fields = [{"name": name, "type": "number", "constraints": bounds} for name in names]
    schema = schema_of(tmp_path, *fields)
    compared(random_model(schema), schema, 1000)


def test_it_is_a_valid_file_and_the_same_whenever_it_is_made():
    schema = Schema.load(TABLES["three classes"])
    model = random_model(schema)
    file = to_onnx(model, schema)
    onnx.checker.check_model(onnx.load_model_from_string(file), full_check=True)
    assert to_onnx(model, schema) == file
    assert [*differences(file, model, schema)] == []


def test_every_activation_has_its_operator():
    assert WRITTEN.keys() == ACTIVATIONS.keys()


def changed_weight(content):
    (tensor,) = [t for t in content.graph.initializer if t.name == "layer1.weight"]
    array = onnx.numpy_helper.to_array(tensor).copy()
    array[0, 0] = np.nextafter(array[0, 0], np.float32(9))
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def changed_bound(content):
    (tensor,) = [t for t in content.graph.initializer if t.name == "dose: maximum"]
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(1001.0), tensor.name))


def changed_category(content):
    (node, *_) = [node for node in content.graph.node if node.op_type == "LabelEncoder"]
    (keys,) = [a for a in node.attribute if a.name == "keys_strings"]
    keys.strings[0], keys.strings[1] = keys.strings[1], keys.strings[0]


FORGERIES = {
    "a weight": (changed_weight, "layer1.weight"),
    "a bound": (changed_bound, "dose: maximum"),
    "a category": (changed_category, "LabelEncoder_"),
    "an operator": (lambda c: setattr(c.graph.node[-3], "op_type", "Min"), "_"),
    "a further output": (lambda c: c.graph.output.add(name="more"), "more"),
    "another set of operators": (lambda c: setattr(c.opset_import[0], "version", 20), "around"),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_whatever_is_changed_in_it_is_seen(what):
    forge, told = FORGERIES[what]
    schema = Schema.load(TABLES["three classes"])
    model = random_model(schema)
    content = onnx.load_model_from_string(to_onnx(model, schema))
    forge(content)
    found = [*differences(content.SerializeToString(), model, schema)]
    assert len(found) == 1
    assert told in found[0]


def test_predicting_does_not_import_onnx():
    code = "import sys, stages.predict; print('onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"False\n"
