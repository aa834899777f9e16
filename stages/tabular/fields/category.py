"""Texts of a known vocabulary: as a feature, and as a label whose values are the classes."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pydantic
from pydantic import AfterValidator

from stages.explain import quoted, repeated
from stages.tabular.fields.base import (
    MISSING,
    POLICIES,
    Declared,
    Feature,
    Label,
    ReadField,
)
from stages.tabular.graph import Graph

# What a text beyond the vocabulary is called where it is a level of its own.
OTHER = "(other)"


def _not_blank(text: str) -> str:
    # A blank cell is a missing value to the reader of the table, never a category.
    if not text.strip():
        raise ValueError("should not be blank")
    return text


def _different(values: tuple[str, ...]) -> tuple[str, ...]:
    if twice := repeated(values):
        raise ValueError(f"should list each value once, but repeats {quoted(twice)}")
    return values


Category = Annotated[str, AfterValidator(_not_blank)]
Categories = Annotated[
    tuple[Category, ...], pydantic.Field(min_length=2), AfterValidator(_different)
]


class Vocabulary(Declared):
    """The values of a text, in the order of their codes 0, 1, 2, …"""

    enum: Categories


class ClassVocabulary(Vocabulary):
    """The two to twenty values of a text label, in the order of the classes."""

    enum: Annotated[Categories, pydantic.Field(max_length=20)]


class _Category(ReadField):
    """A text, read as its position in a list of levels."""

    constraints: Vocabulary

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self.constraints.enum

    @property
    def expected(self) -> str:
        return f"one of {quoted(self.constraints.enum)}"

    def typed(self, cells: pa.Array) -> pa.Array:
        """A dictionary array of the levels."""
        codes = self._codes(cells)
        if codes.null_count > cells.null_count:
            or_other = ", or set `other` there" if "other" in type(self).model_fields else ""
            raise ValueError(
                f"Correct the cells, or add the values to the `enum` in the schema{or_other}."
            )
        return pa.DictionaryArray.from_arrays(codes, pa.array(self.levels))

    def _codes(self, cells: pa.Array) -> pa.Array:
        return pc.index_in(
            cells, value_set=pa.array([text.encode() for text in self.constraints.enum])
        )


class CategoryFeature(Feature, _Category):
    """A text of a known vocabulary, encoded as one ±1 column (two levels) or one-hot (more).

    Attributes:
        missing: `category` makes a missing text a level of its own; `drop` leaves out the row.
        other: whether a text beyond the vocabulary is a level of its own, or refused.
    """

    needs = (
        "A text feature needs `constraints` with an `enum` of two or more different texts, known "
        "without looking at the rows."
    )

    type: Literal["string"]
    missing: Literal["refuse", "drop", "category"] = "refuse"
    other: bool = False

    @property
    def levels(self) -> tuple[str, ...]:
        other = (OTHER,) if self.other else ()
        missing = (MISSING,) if self.missing == "category" else ()
        return (*self.constraints.enum, *other, *missing)

    @property
    def columns(self) -> tuple[str, ...]:
        """A ±1 column bears the name of the level that is +1."""
        named = self.levels[1:] if len(self.levels) == 2 else self.levels
        return tuple(f"{self.name}={level}" for level in named)

    def _codes(self, cells: pa.Array) -> pa.Array:
        codes = super()._codes(cells)
        if self.other:
            cells.cast(pa.string())  # a text in another character set is a fault, not another text
            codes = codes.fill_null(len(self.constraints.enum))
        missing = len(self.levels) - 1 if self.missing == "category" else None
        return pc.if_else(cells.is_null(), pa.scalar(missing, pa.int32()), codes)

    def encode(self, column: pa.Array) -> npt.NDArray[np.float32]:
        return self._encoded_levels().take(column.indices.to_numpy(), axis=0)

    def _encoded_levels(self) -> npt.NDArray[np.float32]:
        if len(self.levels) == 2:
            return np.array([[-1], [1]], np.float32)
        return np.eye(len(self.levels), dtype=np.float32)

    def write_down(self, graph: Graph, missing_values: Sequence[str]) -> str:
        """Look up the row of a table, of which the last is of what is refused."""
        texts, rows = self.vocabulary, self._encoded_levels()
        refused = len(rows)
        missing = len(self.levels) - 1 if self.missing == "category" else refused
        absent = [*dict.fromkeys(["", *missing_values])]
        row = graph.call(
            "LabelEncoder",
            graph.column(self.name, str),
            domain="ai.onnx.ml",
            keys_strings=[*texts, *absent],
            values_int64s=[*range(len(texts)), *[missing] * len(absent)],
            default_int64=len(texts) if self.other else refused,
        )
        table = np.vstack([rows, np.full_like(rows[:1], np.nan)])
        encoded = graph.call(
            "Gather", graph.constant(f"{self.name}: levels", table, np.float32), row
        )
        return graph.call("Squeeze", encoded, graph.constant("axis 1", [1], np.int64))

    def spread(self, shares: npt.NDArray[np.float64]) -> pa.Array:
        """Each text of the vocabulary has an equal part of the way."""
        texts = len(self.vocabulary)
        return self._cells(np.minimum(shares * texts, texts - 1))

    def grid(self, most: int) -> pa.Array:
        return self._cells(np.arange(len(self.levels)))

    def _cells(self, codes: npt.NDArray[Any]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(codes.astype(np.int32), pa.array(self.levels))

    def reading(self) -> list[object]:
        """With `other`, which texts are the others belongs to it."""
        return [*super().reading(), *([self.constraints.enum] if self.other else [])]

    def describe(self) -> str:
        other = ", or any other" if self.other else ""
        return f"{', '.join(self.constraints.enum)}{other}{POLICIES[self.policy]}"

    @pydantic.model_validator(mode="after")
    def _levels_differ(self) -> Self:
        if twice := repeated(self.levels):
            raise ValueError(f"needs {quoted(twice)} for itself: rename it in the `enum`")
        return self


class CategoryLabel(Label, _Category):
    """A text to predict: each value is a class, or `category` is class 1 and the rest class 0."""

    needs = (
        "A text label needs `constraints` with an `enum` of two to twenty different texts, the "
        "classes; with a `category`, that text is class 1 and the others are class 0."
    )

    type: Literal["string"]
    constraints: ClassVocabulary
    category: Category | None = None
    missing: Literal["refuse", "drop"] = "refuse"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The values themselves, or such as `income ≠ >50K` and `income = >50K`."""
        if self.category is None:
            return self.constraints.enum
        return tuple(f"{self.name} {sign} {self.category}" for sign in ("≠", "="))

    def classes_of(self, column: pa.Array) -> npt.NDArray[np.int64]:
        codes: npt.NDArray[np.int64] = column.indices.to_numpy().astype(np.int64)
        if self.category is None:
            return codes
        return (codes == self.constraints.enum.index(self.category)).astype(np.int64)

    @pydantic.model_validator(mode="after")
    def _category_is_a_value(self) -> Self:
        if self.category is not None and self.category not in self.constraints.enum:
            raise ValueError(
                f"has the `category` {self.category!r}, which should be one of its `enum`"
            )
        return self
