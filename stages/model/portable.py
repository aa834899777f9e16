"""The model as one ONNX file, which predicts raw rows without this code.

Its inputs are the raw columns, each (rows, 1): numbers as doubles, NaN where one is missing; texts
and truth values as texts, empty where one is missing; and dates as doubles, days since 1970-01-01,
because ONNX has no operators that read dates as people write them. Its outputs are `label` (rows,),
spelt as the command `predict` spells it, and `probabilities` (rows, classes). All between is
inside: bounds, logarithms, cut-offs, parts of dates, categories, what is missing or unknown, and
the network. A row that `predict` would refuse has the label "" and probabilities of NaN.

Nothing but the declared schema and the released weights is in it, and it is the same, to the bit,
whenever it is made of the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.model.inputs import BEND_SCALE, Pieces, lines
from stages.model.perceptron import Model
from stages.tabular.encode import write_down
from stages.tabular.graph import Graph, Node
from stages.tabular.schema import Schema

if TYPE_CHECKING:
    import onnx

# Of 2024, so that runtimes of today and of some time ago know them.
OPERATORS, ML_OPERATORS, FORMAT = 21, 3, 10

# What follows a layer, in ONNX's words.
ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh"}

NOTE = (
    "Inputs: raw columns, each (rows, 1); a missing number is NaN, a missing text is empty, and "
    "a date is the number of days since 1970-01-01. A row that the "
    "schema does not allow has an empty label and NaN as probabilities."
)


def to_onnx(model: Model, schema: Schema) -> bytes:
    """Return the content of the file."""
    graph = Graph([field.name for field in schema.inputs])
    classes = pa.array(schema.label.class_values).cast(pa.string()).to_pylist()
    label, probabilities = _network(graph, model, write_down(graph, schema), classes)
    return _serialized(graph, label, probabilities)


def differences(file: bytes, model: Model, schema: Schema) -> Iterator[str]:
    """Yield what in an ONNX file is not what follows from the model and its schema.

    Raises:
        Exception: it is no ONNX file.
    """
    import onnx  # noqa: PLC0415 - half a second, which few need

    found, due = (onnx.load_model_from_string(each) for each in (file, to_onnx(model, schema)))
    if found == due:
        return
    ours, theirs = (_parts(each.graph) for each in (found, due))
    names = [name for name in {**theirs, **ours} if ours.get(name) != theirs.get(name)]
    yield from names or ["what is around its graph"]


def _parts(graph: onnx.GraphProto) -> dict[str, Any]:
    """Constants, inputs, outputs and operators of a graph, by the name of each."""
    parts = {part.name: part for part in (*graph.initializer, *graph.input, *graph.output)}
    return parts | {", ".join(node.output): node for node in graph.node}


def _network(graph: Graph, model: Model, features: str, classes: list[str]) -> tuple[str, str]:
    """Write down label and probabilities of encoded rows; return their names.

    Sums are in double precision, so that they are nearer to the exact ones than those of `predict`.
    """
    axis = graph.constant("axis 1", [1], np.int64)
    unknown = graph.call("Cast", graph.call("IsNaN", features), to="float")
    refused = graph.call("Cast", graph.call("ReduceMax", unknown, axis), to="bool")
    h = _inputs(graph, model.inputs, graph.call("Cast", features, to="double"))
    for number, layer in enumerate(model.layers):
        if number:
            h = graph.call(ACTIVATIONS[model.activation], h)
        parts = [
            graph.constant(f"layer{number}.{name}", part, np.float32)
            for name, part in zip(("weight", "bias"), layer, strict=True)
        ]
        weight, bias = (graph.call("Cast", part, to="double") for part in parts)
        h = graph.call("Gemm", h, weight, bias, transB=1)
    scored = graph.call("Softmax", h, axis=1)
    best = graph.call("ArgMax", scored, axis=1, keepdims=0)
    name = graph.call("Gather", graph.constant("classes", classes, np.str_), best)
    nothing = graph.constant("no label", "", np.str_)
    label = graph.call("Where", graph.call("Squeeze", refused, axis), nothing, name)
    return label, graph.call("Where", refused, graph.constant("NaN", np.nan), scored)


def _inputs(graph: Graph, pieces: Pieces, features: str) -> str:
    """Write down what `Pieces.apply` does."""
    if not pieces.count or not pieces.numbers:
        return features
    means, slopes = lines(pieces.count)
    given: dict[str, npt.NDArray[Any]] = {
        "zero": np.array(0, np.float64),
        "one": np.array(1, np.float64),
        "two": np.array(2, np.float64),
        "places": np.arange(pieces.count, dtype=np.float64),
        "means": means,
        "slopes": slopes,
        "numbers": np.array(pieces.numbers, np.int64),
        "half of them": np.array(pieces.count / 2, np.float64),
        "root": np.array(math.sqrt(pieces.count), np.float64),
        "scale": np.array(BEND_SCALE, np.float64),
        "axis": np.array([2]),
        "columns": np.array([-1, pieces.count * len(pieces.numbers)]),
    }
    its = {name: graph.constant(f"pieces: {name}", of, of.dtype) for name, of in given.items()}
    numbers = graph.call("Gather", features, its["numbers"], axis=1)
    numbers = graph.call("Unsqueeze", numbers, its["axis"])
    way = graph.call("Mul", graph.call("Add", numbers, its["one"]), its["half of them"])
    ramps = graph.call("Clip", graph.call("Sub", way, its["places"]), its["zero"], its["one"])
    bends = graph.call("Sub", graph.call("Mul", its["two"], ramps), its["one"])
    line = graph.call("Add", its["means"], graph.call("Mul", its["slopes"], numbers))
    told = graph.call("Sub", graph.call("Div", bends, its["root"]), line)
    flat = graph.call("Reshape", graph.call("Mul", its["scale"], told), its["columns"])
    return graph.call("Concat", features, flat, axis=1)


def _serialized(graph: Graph, label: str, probabilities: str) -> bytes:
    from onnx import TensorProto, helper  # noqa: PLC0415 - half a second, which few need

    types = {float: TensorProto.DOUBLE, str: TensorProto.STRING}
    casts = {"float": TensorProto.FLOAT, "double": TensorProto.DOUBLE, "bool": TensorProto.BOOL}
    casts["int64"] = TensorProto.INT64

    def node(written: Node) -> onnx.NodeProto:
        operator, domain, inputs, output, attributes = written
        if "to" in attributes:
            attributes = {"to": casts[attributes["to"]]}
        return helper.make_node(operator, inputs, [output], domain=domain, **attributes)

    columns = [
        helper.make_tensor_value_info(name, types[kind], ["rows", 1])
        for name, kind in graph.inputs.items()
    ]
    nodes = [*map(node, graph.nodes)]
    outputs = []
    for wanted, inner, kind, shape in (
        ("label", label, TensorProto.STRING, ["rows"]),
        ("probabilities", probabilities, TensorProto.DOUBLE, ["rows", "classes"]),
    ):
        name = graph.free(wanted)
        nodes.append(helper.make_node("Identity", [inner], [name]))
        outputs.append(helper.make_tensor_value_info(name, kind, shape))
    content = helper.make_graph(
        nodes,
        "classifier",
        columns,
        outputs,
        [_tensor(name, value) for name, value in graph.constants.items()],
        doc_string=NOTE,
    )
    sets = [helper.make_opsetid("", OPERATORS), helper.make_opsetid("ai.onnx.ml", ML_OPERATORS)]
    made = helper.make_model(content, opset_imports=sets, ir_version=FORMAT)
    return bytes(made.SerializeToString(deterministic=True))


def _tensor(name: str, value: npt.NDArray[Any]) -> onnx.TensorProto:
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    if value.dtype.kind == "U":
        texts = [text.encode() for text in value.ravel().tolist()]
        return helper.make_tensor(name, TensorProto.STRING, value.shape, texts)
    return numpy_helper.from_array(value, name)
