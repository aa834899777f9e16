"""Turn validated rows into the numbers a model reads. Each row alone: nothing is fitted on rows."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.tabular.schema import CategoryFeature, Feature, Schema


def encode(batch: pa.RecordBatch, schema: Schema) -> npt.NDArray[np.float32]:
    """Encode the features of a batch from `read_batches`.

    Returns:
        (rows, features) float32, one column per `schema.feature_names`. A number is mapped linearly
        from its declared bounds to [-1, 1] and clipped to them; a category of two values is -1 for
        the first and +1 for the second; a larger vocabulary is one-hot, 0 or 1.
    """
    encoded = np.empty((batch.num_rows, len(schema.feature_names)), np.float32)
    ends = np.cumsum([len(feature.columns) for feature in schema.features])
    for feature, block in zip(schema.features, np.split(encoded, ends[:-1], axis=1), strict=True):
        block[:] = _encode(batch.column(feature.name), feature)
    return encoded


def labels(batch: pa.RecordBatch, schema: Schema) -> npt.NDArray[np.int64]:
    """Classes of a batch from `read_batches`.

    Returns:
        (rows,) int64, 1 where the label is above its declared threshold, 0 elsewhere.
    """
    values: npt.NDArray[np.float64] = batch.column(schema.label.name).to_numpy()
    return (values > schema.label.threshold).astype(np.int64)


def _encode(column: pa.Array, feature: Feature) -> npt.NDArray[np.float32]:
    if isinstance(feature, CategoryFeature):
        codes: npt.NDArray[np.int32] = column.indices.to_numpy()
        table = _code_table(len(feature.constraints.enum))
        return table.take(codes, axis=0)
    low, high = feature.constraints.minimum, feature.constraints.maximum
    share = (np.clip(column.to_numpy(), low, high) - low) / (high - low)
    return (2 * share - 1).astype(np.float32)[:, np.newaxis]


def _code_table(values: int) -> npt.NDArray[np.float32]:
    """(values, columns): row c holds the encoding of category c."""
    return np.array([[-1], [1]], np.float32) if values == 2 else np.eye(values, dtype=np.float32)
