"""The prepared table on disk: plain .npy arrays, which every reader maps instead of loading.

A folder holds `train_features.npy` (rows, features) float32, `train_labels.npy` (rows,) int64, the
same two for `test`, and `schema.json`, the schema that encoded them.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stages.errors import UserError
from stages.tabular.schema import Schema

Side = Literal["train", "test"]
SIDES: tuple[Side, ...] = ("train", "test")

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@contextmanager
def side_writer(folder: Path, schema: Schema) -> Iterator[Callable[[Side, Features, Labels], None]]:
    """Yield `append(side, features, labels)`, which adds rows to one side of a prepared table.

    The arrays are valid once the block has ended, and the same whatever the size of the batches.
    """
    (folder / "schema.json").write_text(schema.to_json(), "utf-8")
    with ExitStack() as files:

        def grow(name: str, dtype: str, *columns: int) -> _GrowingArray:
            return files.enter_context(closing(_GrowingArray(folder / name, dtype, columns)))

        width = len(schema.feature_names)
        arrays = {
            side: (grow(f"{side}_features.npy", "<f4", width), grow(f"{side}_labels.npy", "<i8"))
            for side in SIDES
        }

        def append(side: Side, features: Features, labels: Labels) -> None:
            features_file, labels_file = arrays[side]
            features_file.append(features)
            labels_file.append(labels)

        yield append


def load_schema(folder: str | Path) -> Schema:
    """Read the schema that encoded a prepared table.

    Raises:
        UserError: the folder is no prepared table.
    """
    path = Path(folder) / "schema.json"
    if not path.exists():
        raise UserError(_not_prepared(path))
    return Schema.load(path)


def load_side(folder: str | Path, side: Side) -> tuple[Features, Labels]:
    """Map one side of a prepared table, read-only: pages are read when they are touched.

    Returns:
        features (rows, features) float32, labels (rows,) int64.

    Raises:
        UserError: the folder is no prepared table.
    """
    try:
        features = np.load(Path(folder) / f"{side}_features.npy", mmap_mode="r")
        labels = np.load(Path(folder) / f"{side}_labels.npy", mmap_mode="r")
    except FileNotFoundError as error:
        raise UserError(_not_prepared(error.filename)) from None
    return features, labels


def _not_prepared(path: str | Path) -> str:
    return f"{path}: no such file. Make the prepared table with: dvc repro preprocess"


class _GrowingArray:
    """A .npy file that grows at its end, along the first axis."""

    def __init__(self, path: Path, dtype: str, columns: tuple[int, ...]) -> None:
        self._dtype, self._columns, self._rows = dtype, columns, 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, rows: npt.NDArray[Any]) -> None:
        if rows.dtype != self._dtype or rows.shape[1:] != self._columns:
            raise ValueError(
                f"expected rows of {self._columns} {self._dtype}, got {rows.shape[1:]} {rows.dtype}"
            )
        rows.tofile(self._file)
        self._rows += len(rows)

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        # numpy pads the header so that it keeps its length when the first axis grows.
        shape = (self._rows, *self._columns)
        header = {"descr": self._dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
