"""The prepared table on disk: plain .npy arrays, which every reader maps instead of loading.

A folder holds `train_features.npy` (rows, features) float32, `train_labels.npy` (rows,) int64, the
same two for `test`, and `schema.json`, the schema that encoded them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.errors import UserError
from stages.tabular.schema import Schema

SideName = Literal["train", "test"]
SIDES: tuple[SideName, ...] = ("train", "test")

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@contextmanager
def side_writer(
    folder: Path, schema: Schema
) -> Iterator[Callable[[SideName, Features, Labels], None]]:
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

        def append(side: SideName, features: Features, labels: Labels) -> None:
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


def load_side(folder: str | Path, side: SideName) -> tuple[Features, Labels]:
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


PREPARED = Path("data/prepared")


@dataclass(frozen=True)
class Source:
    """Whose rows these are, for the privacy ledger.

    Attributes:
        data: path of the private table, as params.yaml names it.
        fingerprint: hash of its content.
        split: name of what decides who is on which side.
    """

    data: str
    fingerprint: str
    split: str


class Side(NamedTuple):
    features: Features
    labels: Labels


@dataclass(frozen=True)
class Prepared:
    folder: Path
    features: tuple[str, ...]
    classes: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    source: Source
    schema_text: str

    @classmethod
    def open(cls, folder: Path = PREPARED) -> "Prepared":
        schema = load_schema(folder)
        from stages.files import read_json

        return cls(
            folder,
            tuple(schema.feature_names),
            tuple(schema.class_names),
            {n: schema.levels(n) for n in schema.report_by},
            Source(**read_json(folder / "source.json")),
            schema.to_json(),
        )

    @property
    def train(self) -> Side:
        return Side(*load_side(self.folder, "train"))

    @property
    def test(self) -> Side:
        return Side(*load_side(self.folder, "test"))

    @property
    def test_groups(self) -> Labels:
        from stages.tabular.encode import level_codes

        schema = load_schema(self.folder)
        f = self.test.features
        return np.stack(
            [level_codes(f, schema, n) for n in self.groups] or [np.zeros(len(f), np.int64)], axis=1
        )[:, : len(self.groups)]
