"""Turn validated rows into the numbers a model reads. Each row alone: nothing is fitted on rows."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.tabular.schema import CategoryFeature, Feature, NumberLabel, Schema


def encode(batch: pa.RecordBatch, schema: Schema) -> npt.NDArray[np.float32]:
    """Encode the features of a batch from `read_batches`.

    Returns:
        (rows, features) float32, one column per `schema.feature_names`. A number, or its declared
        transform, is mapped linearly from its declared bounds to [-1, 1] and clipped to them; where
        it may be missing, an indicator follows, 0 or 1, and a missing one is in the middle. A
        category of two levels is -1 for the first and +1 for the second; of more it is one-hot, 0
        or 1. Declared interactions are products of these.
    """
    blocks = {
        feature.name: _encode(batch.column(feature.name), feature) for feature in schema.features
    }
    products = [
        (blocks[first][:, :, np.newaxis] * blocks[second][:, np.newaxis, :]).reshape(
            batch.num_rows, -1
        )
        for first, second in schema.interactions
    ]
    return np.hstack([*blocks.values(), *products], dtype=np.float32)


def labels(batch: pa.RecordBatch, schema: Schema) -> npt.NDArray[np.int64]:
    """Classes of a batch from `read_batches`.

    Returns:
        (rows,) int64, positions in `schema.class_names`.
    """
    label = schema.label
    column = batch.column(label.name)
    if isinstance(label, NumberLabel):
        values: npt.NDArray[np.float64] = column.to_numpy()
        return (values > label.threshold).astype(np.int64)
    codes: npt.NDArray[np.int64] = column.indices.to_numpy().astype(np.int64)
    if label.category is None:
        return codes
    return (codes == label.constraints.enum.index(label.category)).astype(np.int64)


def level_codes(
    features: npt.NDArray[np.float32], schema: Schema, name: str
) -> npt.NDArray[np.int64]:
    """Return (rows,) int64: which level of the category `name` each encoded row has."""
    _, where = schema.feature(name)
    columns = features[:, where]
    codes = columns[:, 0] > 0 if columns.shape[1] == 1 else columns.argmax(axis=1)
    return codes.astype(np.int64)


def _encode(column: pa.Array, feature: Feature) -> npt.NDArray[np.float32]:
    if isinstance(feature, CategoryFeature):
        codes: npt.NDArray[np.int32] = column.indices.to_numpy()
        return _code_table(len(feature.levels)).take(codes, axis=0)
    low, high = feature.constraints.minimum, feature.constraints.maximum
    numbers = np.clip(column.fill_null(low / 2 + high / 2).to_numpy(), low, high)
    share = (numbers - low) / (high - low)
    if feature.transform == "log":
        share = np.log1p(numbers - low) / np.log1p(high - low)
    number = (2 * share - 1).astype(np.float32)[:, np.newaxis]
    if feature.missing != "midpoint":
        return number
    missing = column.is_null().to_numpy(zero_copy_only=False)[:, np.newaxis]
    return np.hstack([np.where(missing, np.float32(0), number), missing], dtype=np.float32)


def _code_table(levels: int) -> npt.NDArray[np.float32]:
    """(levels, columns): row c holds the encoding of level c."""
    return np.array([[-1], [1]], np.float32) if levels == 2 else np.eye(levels, dtype=np.float32)
