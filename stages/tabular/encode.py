"""Turn validated rows into the numbers a model reads. Each row alone: nothing is fitted on rows."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.tabular.graph import Graph
from stages.tabular.prepared import About
from stages.tabular.schema import Schema


def encode(batch: pa.RecordBatch, schema: Schema) -> npt.NDArray[np.float32]:
    """Encode the features of a batch from `read_batches`.

    Returns:
        (rows, features) float32, one column per `schema.feature_names`. A number, or its declared
        transform, is mapped linearly from its declared bounds to [-1, 1] and clipped to them; where
        it may be missing, an indicator follows, 0 or 1, and a missing one is in the middle. A
        category of two levels is -1 for the first and +1 for the second; of more it is one-hot, 0
        or 1. A cut-off is +1 where it is reached, and -1 below. Declared interactions are products
        of these.
    """
    return join(
        {
            feature.name: feature.encode(*map(batch.column, feature.inputs))
            for feature in schema.features
        },
        schema,
    )


def join(blocks: Mapping[str, npt.NDArray[np.float32]], schema: Schema) -> npt.NDArray[np.float32]:
    """Return (rows, features) of the encoded columns of each feature, by its name."""
    products = [
        (blocks[first][:, :, np.newaxis] * blocks[second][:, np.newaxis, :]).reshape(
            len(blocks[first]), -1
        )
        for first, second in schema.interactions
    ]
    own = [blocks[feature.name] for feature in schema.features]
    return np.hstack([*own, *products], dtype=np.float32)


def write_down(graph: Graph, schema: Schema) -> str:
    """Write down what `encode` does of the raw columns, which become the inputs of `graph`.

    Returns:
        Name of the encoded columns (rows, features) float32; a row with a cell that the schema does
        not allow has NaN in it.
    """
    blocks = {
        feature.name: feature.write_down(graph, schema.missing_values)
        for feature in schema.features
    }
    widths = {feature.name: len(feature.columns) for feature in schema.features}
    products = []
    for first, second in schema.interactions:
        down = graph.call("Unsqueeze", blocks[first], graph.constant("axis 2", [2], np.int64))
        across = graph.call("Unsqueeze", blocks[second], graph.constant("axis 1", [1], np.int64))
        size = widths[first] * widths[second]
        shape = graph.constant(f"{size} columns", [-1, size], np.int64)
        products.append(graph.call("Reshape", graph.call("Mul", down, across), shape))
    encoded = graph.call("Concat", *blocks.values(), *products, axis=1)
    for field in schema.references:  # refused even where the feature has a number for it
        encoded = graph.refuse(encoded, field.write_refused(graph))
    return encoded


def labels(batch: pa.RecordBatch, schema: Schema) -> npt.NDArray[np.int64]:
    """Classes of a batch from `read_batches`.

    Returns:
        (rows,) int64, positions in `schema.class_names`.
    """
    return schema.label.classes_of(batch.column(schema.label.name))


def groups(batch: pa.RecordBatch, schema: Schema) -> npt.NDArray[np.int64]:
    """Subgroups of a batch from `read_batches`.

    Returns:
        (rows, groupings) int64, one column per `schema.groups`, positions in its levels.
    """
    codes = [batch.column(name).indices.to_numpy() for name in schema.groups]
    return np.array(codes, np.int64).reshape(len(codes), batch.num_rows).T


def about(schema: Schema) -> About:
    """Describe what `encode`, `labels` and `groups` make of a table."""
    return About(
        features=tuple(schema.feature_names),
        classes=tuple(schema.class_names),
        groups=schema.groups,
        unit="person" if schema.id else "row",
        at_most=schema.at_most,
        scaled=tuple(schema.scaled),
        ordered=schema.label.ordered,
    )
