"""The prepared table on disk, which describes itself: later stages need neither table nor schema.

A folder holds, for `train` and for `test`, `…_features.npy` (rows, features) float32 and
`…_labels.npy` (rows,) int64; `test_groups.npy` (rows, groupings) int64; where a person may have
several rows `…_persons.npy` (rows,) uint64; what these are (about.json) and whose rows
(source.json); and the schema that encoded them (schema.json).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from stages.errors import UserError
from stages.files import made_earlier, write_json, write_text

PREPARED = Path("data/prepared")

SideName = Literal["train", "test"]
SIDES: tuple[SideName, ...] = ("train", "test")

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Groups = npt.NDArray[np.int64]
Persons = npt.NDArray[np.uint64]

Append = Callable[[SideName, Features, Labels, Groups, Persons], None]


class Side(NamedTuple):
    """The rows of one side.

    Attributes:
        features: (rows, features) float32.
        labels: (rows,) int64.
        persons: (rows,) uint64, a number for whose row it is; None where everybody has one row.
    """

    features: Features
    labels: Labels
    persons: Persons | None = None

    @property
    def people(self) -> int:
        """How many people there are."""
        return len(self.labels) if self.persons is None else len(np.unique(self.persons))

    def parts_of_a_person(self, whole: int) -> npt.NDArray[np.int64]:
        """Return (rows,) what each row is of a person who is `whole`, in parts as equal as can be.

        The parts of each person add up to the whole, and depend on nobody else's rows.
        """
        if self.persons is None:
            return np.full(len(self.labels), whole)
        rows, starts = by_person(self.persons)
        sizes = np.diff(starts, append=len(rows))
        place = np.arange(len(rows)) - np.repeat(starts, sizes)
        size = np.repeat(sizes, sizes)
        parts = np.empty(len(rows), np.int64)
        parts[rows] = whole // size + (place < whole % size)
        return parts


def by_person(persons: Persons) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (rows,) the rows person by person, each one's in order, and where each one's start."""
    rows = np.argsort(persons, kind="stable")
    ordered = persons[rows]
    return rows, np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))


@dataclass(frozen=True)
class Source:
    """Whose rows these are, for the privacy ledger.

    Attributes:
        data: path of the table.
        fingerprint: the table's MD5, by which DVC knows the file.
        split: name of the split, which two tables share only if their rows fall on the same sides.
    """

    data: str
    fingerprint: str
    split: str


@dataclass(frozen=True)
class About:
    """What the arrays hold.

    Attributes:
        features: names of the features' columns.
        classes: names of the classes 0, 1, 2, …
        groups: by the name of each grouping, which has a column in the test groups, its levels.
        unit: what the promise is for: each row, or each person with all their rows.
        at_most: how many rows of a person are used, at most.
        scaled: positions in `features` of numbers mapped from their bounds to [-1, 1].
        ordered: whether the classes are bands of one number, from the lowest to the highest.
    """

    features: tuple[str, ...]
    classes: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    unit: Literal["row", "person"]
    at_most: int
    scaled: tuple[int, ...]
    ordered: bool


@dataclass(frozen=True)
class Prepared(About):
    """A prepared table; its arrays are mapped, so that pages are read when they are touched.

    Attributes:
        folder: where it is.
        source: whose rows these are.
        schema_text: the schema that encoded them, as JSON, which the model takes along.
    """

    folder: Path
    source: Source
    schema_text: str

    @classmethod
    @made_earlier()
    def open(cls, folder: str | Path = PREPARED) -> Self:
        """Read all but the arrays.

        Raises:
            UserError: the folder is no prepared table, or one that an older version wrote.
        """
        folder = Path(folder)
        about = TypeAdapter(About).validate_json((folder / "about.json").read_bytes())
        source = TypeAdapter(Source).validate_json((folder / "source.json").read_bytes())
        schema_text = (folder / "schema.json").read_text("utf-8")
        return cls(**vars(about), folder=folder, source=source, schema_text=schema_text)

    def require_encoding(self, schema_text: str) -> None:
        """Make sure that a model's schema, as JSON, encodes rows and labels as they are here.

        Raises:
            UserError: it does not.
        """
        if _encoding_of(schema_text) != _encoding_of(self.schema_text):
            raise UserError(
                f"{self.folder}: by the schema, features or label are others than those that the "
                "model was trained on, so its test figures would tell nothing. No noise was drawn. "
                "Train anew with: dvc repro; or set the schema back and run: dvc repro preprocess"
            )

    @property
    def train(self) -> Side:
        """The rows to train on."""
        return self._side("train")

    @property
    def test(self) -> Side:
        """The rows held back for testing."""
        return self._side("test")

    @property
    def test_groups(self) -> Groups:
        """(rows, groupings) int64: which level of each grouping a test row has."""
        return self._mapped("test_groups")

    def _side(self, side: SideName) -> Side:
        persons = self._mapped(f"{side}_persons") if self.at_most > 1 else None
        return Side(self._mapped(f"{side}_features"), self._mapped(f"{side}_labels"), persons)

    @made_earlier()
    def _mapped(self, name: str) -> npt.NDArray[Any]:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")


def unit_of(schema_text: str) -> str:
    """Return whom a promise is for by a schema of any version, as JSON: rows, or whose they are."""
    ids = [one["name"] for one in json.loads(schema_text)["fields"] if one.get("role") == "id"]
    return f"person by {ids[0]}" if ids else "row"


def _encoding_of(schema_text: str) -> dict[str, Any]:
    """Return what a schema says of features and label, and not of how people are told apart."""
    schema = json.loads(schema_text)
    fields = [one for one in schema["fields"] if one.get("role") not in ("id", "ignored")]
    others = {"report_by", "dialect", "public"}
    return {key: schema[key] for key in schema if key not in others} | {"fields": fields}


@contextmanager
def prepared_writer(folder: Path, about: About, schema_text: str) -> Iterator[Append]:
    """Yield `append(side, features, labels, groups, persons)`, which adds rows to one side.

    The groups of training rows are not kept, nor whose row it is where everybody has one. The
    arrays are valid once the block has ended, and the same whatever the size of the batches.
    """
    write_text(folder / "schema.json", schema_text)
    write_json(folder / "about.json", asdict(about))
    parts = {
        "features": ("<f4", (len(about.features),)),
        "labels": ("<i8", ()),
        "groups": ("<i8", (len(about.groups),)),
        "persons": ("<u8", ()),
    }
    left_out = {("train", "groups")}
    if about.at_most == 1:
        left_out |= {(side, "persons") for side in SIDES}
    with ExitStack() as files:
        arrays = {
            (side, part): files.enter_context(
                closing(_GrowingArray(folder / f"{side}_{part}.npy", dtype, columns))
            )
            for side in SIDES
            for part, (dtype, columns) in parts.items()
            if (side, part) not in left_out
        }

        def append(side: SideName, *rows: npt.NDArray[Any]) -> None:
            for part, added in zip(parts, rows, strict=True):
                if (side, part) in arrays:
                    arrays[side, part].append(added)

        yield append


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
