"""The model as an ONNX file answers raw rows as `predict` does, in a runtime of other people."""

import subprocess
import sys
from itertools import pairwise

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
from stages.tabular.schema import Schema
from tests.conftest import ROOT
from tests.examples import SCHEMAS
from tests.tabular.conftest import SAMPLE_SCHEMA, schema_of

ROWS = 10_000

TABLES = {
    "sample": SAMPLE_SCHEMA,
    "breast cancer": SCHEMAS / "breast_cancer.schema.json",
    "three classes": SCHEMAS / "clinic.schema.json",
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


def cells_of(feature, schema, source, rows):
    """Cells of every sort: the domain, its edges, beyond them, missing, unknown, not allowed.

    Returns:
        These, and whether `predict` takes each.
    """
    cells = feature.spread(source.random(rows)).to_pylist()
    if feature.levels:
        odd = ["unheard of", "(other)", " ", *schema.missing_values, feature.vocabulary[0]]
    else:
        low, high = feature.grid(2).to_pylist()[:2]
        odd = [low, high, np.nextafter(high, np.inf), low + 0.25, -1e300, 1e300, -0.0]
        odd += [None, np.inf, -np.inf]
    takes, takes_odd = np.ones(rows, bool), [allowed(feature, schema, cell) for cell in odd]
    for row in np.flatnonzero(source.random(rows) < 0.4 / len(schema.features)):
        pick = source.integers(len(odd))
        cells[row], takes[row] = odd[pick], takes_odd[pick]
    return cells, takes


def allowed(feature, schema, cell):
    """Whether `predict` takes a cell; what training leaves out is refused there."""
    if feature.policy == "drop":
        feature = feature.model_copy(update={"missing": "refuse"})
    try:
        text = None if cell is None else str(cell).encode()
        feature.read(pa.array([text], pa.binary()), schema.missing_values)
    except ValueError:
        return False
    return True


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
    """Return what the file and `predict` say, and how many rows they take and refuse."""
    source = np.random.default_rng(1)
    made = {f.name: cells_of(f, schema, source, rows) for f in schema.features}
    columns = {name: cells for name, (cells, _) in made.items()}
    takes = np.all([taken for _, taken in made.values()], axis=0)
    label, probabilities = answers(to_onnx(model, schema), columns)
    assert (label[~takes] == "").all()
    assert np.isnan(probabilities[~takes]).all()
    kept = {
        name: [cell for cell, take in zip(column, takes, strict=True) if take]
        for name, column in columns.items()
    }
    classifier = Classifier(model, schema)
    np.testing.assert_allclose(
        probabilities[takes], classifier.predict_proba(kept), rtol=0, atol=1e-6
    )
    assert label[takes].tolist() == classifier.predict(kept).tolist()
    assert set(label[takes]) == {*schema.class_names}
    return takes.sum(), (~takes).sum()


@pytest.mark.parametrize(
    ("table", "activation", "pieces"),
    [
        ("sample", "tanh", 0),
        ("sample", "relu", 8),
        ("breast cancer", "relu", 0),
        ("three classes", "tanh", 5),
    ],
)
def test_it_answers_rows_of_every_sort_as_predict_does(table, activation, pieces):
    schema = Schema.load(TABLES[table])
    takes, refuses = compared(random_model(schema, activation=activation, pieces=pieces), schema)
    assert takes > 0.6 * ROWS
    assert refuses > 100


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
