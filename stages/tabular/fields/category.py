"""Texts of a known vocabulary: as a feature, and as a label whose values are the classes."""

from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pydantic
from pydantic import AfterValidator

from stages.explain import quoted
from stages.tabular.fields.base import POLICIES, Declared, Label, Misfit, Value
from stages.tabular.fields.levels import LevelFeature, Levelled, LevelText, different

# What a text beyond the vocabulary is called where it is a level of its own.
OTHER = "(other)"

# More different texts than this are no vocabulary.
MOST_VALUES = 50

Categories = Annotated[
    tuple[LevelText, ...], pydantic.Field(min_length=2), AfterValidator(different)
]


class Vocabulary(Declared):
    """The values of a text, in the order of their codes 0, 1, 2, …"""

    enum: Categories


class ClassVocabulary(Vocabulary):
    """The two to twenty values of a text label, in the order of the classes."""

    enum: Annotated[Categories, pydantic.Field(max_length=20)]


class _Category(Levelled):
    """A text, read as its position in a list of levels."""

    constraints: Vocabulary

    @property
    def spellings(self) -> tuple[tuple[str, ...], ...]:
        return tuple((text,) for text in self.constraints.enum)

    @property
    def levels(self) -> tuple[str, ...]:
        return self.constraints.enum

    @property
    def expected(self) -> str:
        return f"one of {quoted(self.constraints.enum)}"

    @property
    def unknown(self) -> Misfit:
        or_other = ", or set `other` there" if "other" in type(self).model_fields else ""
        return Misfit("Correct the cells", f"add the values to the `enum` in the schema{or_other}")


class CategoryFeature(LevelFeature, _Category):
    """A text of a known vocabulary.

    Attributes:
        other: whether a text beyond the vocabulary is a level of its own, or refused.
    """

    needs = (
        "A text feature needs `constraints` with an `enum` of two or more different texts, known "
        "without looking at the rows."
    )

    type: Literal["string"]
    other: bool = False

    @property
    def present(self) -> tuple[str, ...]:
        return (*self.constraints.enum, *((OTHER,) if self.other else ()))

    @property
    def beyond(self) -> int | None:
        return len(self.constraints.enum) if self.other else None

    def reading(self) -> list[object]:
        """With `other`, which texts are the others belongs to it."""
        return [*super().reading(), *([self.constraints.enum] if self.other else [])]

    def describe(self) -> str:
        other = ", or any other" if self.other else ""
        return f"{', '.join(self.constraints.enum)}{other}{POLICIES[self.policy]}"

    @classmethod
    def draft(cls, values: Collection[str]) -> dict[str, Any] | None:
        if not 2 <= len(values) <= MOST_VALUES:
            return None
        return {"confirm": ["enum"], "type": "string", "constraints": {"enum": sorted(values)}}


class CategoryLabel(Label, _Category):
    """A text to predict: each value is a class, or `category` is class 1 and the rest class 0."""

    needs = (
        "A text label needs `constraints` with an `enum` of two to twenty different texts, the "
        "classes; with a `category`, that text is class 1 and the others are class 0."
    )

    type: Literal["string"]
    constraints: ClassVocabulary
    category: LevelText | None = None
    missing: Literal["refuse", "drop"] = "refuse"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The values themselves, or such as `income ≠ >50K` and `income = >50K`."""
        if self.category is None:
            return self.constraints.enum
        return tuple(f"{self.name} {sign} {self.category}" for sign in ("≠", "="))

    @property
    def class_values(self) -> tuple[Value, ...]:
        """The texts; of several that are class 0 together, its name."""
        if self.category is None:
            return self.constraints.enum
        others = [text for text in self.constraints.enum if text != self.category]
        return (others[0] if len(others) == 1 else self.class_names[0], self.category)

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
