"""What fields of a few levels share: a cell is read as the position of its level."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pydantic
from pydantic import AfterValidator

from stages.explain import quoted, repeated
from stages.tabular.fields.base import MISSING, POLICIES, Feature, Misfit, ReadField
from stages.tabular.graph import Graph


def _not_blank(text: str) -> str:
    # A blank cell is a missing value to the reader of the table, never a level.
    if not text.strip():
        raise ValueError("should not be blank")
    return text


def different(values: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse values of which one is given twice."""
    if twice := repeated(values):
        raise ValueError(f"should list each value once, but repeats {quoted(twice)}")
    return values


LevelText = Annotated[str, AfterValidator(_not_blank)]


class Levelled(ReadField):
    """A field whose cells are read as a dictionary array of its levels."""

    @property
    @abstractmethod
    def spellings(self) -> tuple[tuple[str, ...], ...]:
        """The texts that stand for each level, in the order of the codes 0, 1, 2, …"""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return tuple(text for texts in self.spellings for text in texts)

    @property
    def level_of(self) -> list[int]:
        """The level that each text of the vocabulary stands for."""
        return [level for level, texts in enumerate(self.spellings) for _ in texts]

    @property
    @abstractmethod
    def unknown(self) -> Misfit:
        """What to do about a text that stands for no level."""

    @property
    def beyond(self) -> int | None:
        """The code of a text that stands for no level; None if it is refused."""
        return None

    def typed(self, cells: pa.Array) -> pa.Array:
        """A dictionary array of the levels."""
        codes = self.codes(cells)
        if pc.any(pc.and_(codes.is_null(), cells.is_valid())).as_py():
            raise self.unknown
        return pa.DictionaryArray.from_arrays(codes, pa.array(self.levels))

    def codes(self, cells: pa.Array) -> pa.Array:
        """(rows,) int32, null where a cell is missing or stands for no level."""
        texts = pa.array([text.encode() for text in self.vocabulary])
        codes = pa.array(self.level_of, pa.int32()).take(pc.index_in(cells, value_set=texts))
        if self.beyond is None:
            return codes
        cells.cast(pa.string())  # a text in another character set is a fault, not another text
        return pc.if_else(cells.is_null(), codes, codes.fill_null(self.beyond))


class LevelFeature(Feature, Levelled):
    """Encoded as one ±1 column (two levels) or one-hot (more).

    Attributes:
        missing: `category` makes a missing cell a level of its own; `drop` leaves out the row.
    """

    missing: Literal["refuse", "drop", "category"] = "refuse"

    @property
    @abstractmethod
    def present(self) -> tuple[str, ...]:
        """The levels of a cell that is not missing."""

    @property
    def levels(self) -> tuple[str, ...]:
        return (*self.present, *((MISSING,) if self.missing == "category" else ()))

    @property
    def columns(self) -> tuple[str, ...]:
        """A ±1 column bears the name of the level that is +1."""
        named = self.levels[1:] if len(self.levels) == 2 else self.levels
        return tuple(f"{self.name}={level}" for level in named)

    def codes(self, cells: pa.Array) -> pa.Array:
        missing = len(self.levels) - 1 if self.missing == "category" else None
        return pc.if_else(cells.is_null(), pa.scalar(missing, pa.int32()), super().codes(cells))

    def encode(self, *columns: pa.Array) -> npt.NDArray[np.float32]:
        (column,) = columns
        return self._encoded_levels().take(column.indices.to_numpy(), axis=0)

    def _encoded_levels(self) -> npt.NDArray[np.float32]:
        if len(self.levels) == 2:
            return np.array([[-1], [1]], np.float32)
        return np.eye(len(self.levels), dtype=np.float32)

    def write_down(self, graph: Graph, missing_values: Sequence[str]) -> str:
        """Look up the row of a table, of which the last is of what is refused."""
        rows = self._encoded_levels()
        refused = len(rows)
        missing = refused - 1 if self.missing == "category" else refused
        absent = [*dict.fromkeys(["", *missing_values])]
        row = graph.call(
            "LabelEncoder",
            graph.column(self.name, str),
            domain="ai.onnx.ml",
            keys_strings=[*self.vocabulary, *absent],
            values_int64s=[*self.level_of, *[missing] * len(absent)],
            default_int64=refused if self.beyond is None else self.beyond,
        )
        table = np.vstack([rows, np.full_like(rows[:1], np.nan)])
        encoded = graph.call(
            "Gather", graph.constant(f"{self.name}: levels", table, np.float32), row
        )
        return graph.call("Squeeze", encoded, graph.constant("axis 1", [1], np.int64))

    def spread(self, shares: npt.NDArray[np.float64]) -> pa.Array:
        """Each declared level has an equal part of the way."""
        declared = len(self.spellings)
        return self._cells(np.minimum(shares * declared, declared - 1))

    def grid(self, most: int) -> pa.Array:
        return self._cells(np.arange(len(self.levels)))

    def _cells(self, codes: npt.NDArray[Any]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(codes.astype(np.int32), pa.array(self.levels))

    def notable(self, batch: pa.RecordBatch) -> dict[str, npt.NDArray[np.bool_]]:
        """Missing cells, and those that no declared text stands for."""
        codes = batch.column(self.name).indices.fill_null(-1).to_numpy()
        declared = len(self.spellings)
        special = {level: codes == code for code, level in enumerate(self.levels)}
        return super().notable(batch) | dict([*special.items()][declared:])

    def describe(self) -> str:
        return f"{', '.join(self.present)}{POLICIES[self.policy]}"

    @pydantic.model_validator(mode="after")
    def _levels_differ(self) -> Self:
        if twice := [level for level, count in Counter(self.levels).items() if count > 1]:
            raise ValueError(f"needs {quoted(twice)} for itself: rename it in the `enum`")
        return self
