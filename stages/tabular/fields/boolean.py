"""Truth values, however a file spells them: as a feature, and as a label."""

from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pydantic
from pydantic import AfterValidator

from stages.explain import quoted
from stages.tabular.fields.base import Label, Misfit, Value
from stages.tabular.fields.levels import LevelFeature, Levelled, LevelText, different

# Table Schema's own spellings, which pandas reads as numbers or truth values, and other usual ones.
PLAIN_FALSE = ("false", "False", "FALSE", "0", "0.0")
PLAIN_TRUE = ("true", "True", "TRUE", "1", "1.0")
FALSE = (*PLAIN_FALSE, "no", "No", "NO", "n", "N", "f", "F")
TRUE = (*PLAIN_TRUE, "yes", "Yes", "YES", "y", "Y", "t", "T")

LEVELS = ("false", "true")

Spellings = Annotated[
    tuple[LevelText, ...], pydantic.Field(min_length=1), AfterValidator(different)
]


class _Boolean(Levelled):
    """A truth value, read as the level `false` or `true`.

    Attributes:
        false_values, true_values: the texts that stand for it.
    """

    false_values: Spellings = pydantic.Field(FALSE, alias="falseValues")
    true_values: Spellings = pydantic.Field(TRUE, alias="trueValues")

    @property
    def spellings(self) -> tuple[tuple[str, ...], ...]:
        return (self.false_values, self.true_values)

    @property
    def levels(self) -> tuple[str, ...]:
        return LEVELS

    @property
    def expected(self) -> str:
        false, true = ("/".join(texts) for texts in self.spellings)
        return f"a truth value, written {true} or {false}"

    @property
    def unknown(self) -> Misfit:
        return Misfit("Correct the cells", "name other spellings in `trueValues` and `falseValues`")

    def as_text(self, column: pa.Array) -> pa.Array:
        if pa.types.is_boolean(column.type):
            return pc.if_else(column, self.true_values[0], self.false_values[0])
        return super().as_text(column)

    def reading(self) -> list[object]:
        return [self.name, "boolean", self.policy, self.spellings]

    @pydantic.model_validator(mode="after")
    def _no_text_is_both(self) -> Self:
        if both := [text for text in self.true_values if text in self.false_values]:
            raise ValueError(f"should not have {quoted(both)} in `trueValues` and `falseValues`")
        return self


class BooleanFeature(LevelFeature, _Boolean):
    """A truth value, encoded as -1 (false) and +1 (true), or one-hot where it may be missing."""

    needs = (
        "A feature of truth values needs no `constraints`; `trueValues` and `falseValues` list "
        "spellings other than true/false, 1/0, yes/no, y/n and t/f."
    )

    type: Literal["boolean"]

    @property
    def present(self) -> tuple[str, ...]:
        return LEVELS

    @classmethod
    def draft(cls, values: Collection[str]) -> dict[str, Any] | None:
        if not (set(values) & {*TRUE} and set(values) & {*FALSE} and {*values} <= {*TRUE, *FALSE}):
            return None
        if {*values} <= {*PLAIN_TRUE, *PLAIN_FALSE}:
            return {"confirm": ["type"], "type": "boolean"}
        true, false = (sorted({*values} & {*texts}) for texts in (TRUE, FALSE))
        return {
            "confirm": ["type"],
            "type": "boolean",
            "trueValues": true,
            "falseValues": false,
        }


class BooleanLabel(Label, _Boolean):
    """A truth value to predict: class 1 is true.

    Its spellings are the plain ones unless declared, because a prediction is spelt as the table
    spells it, and from true/false and 1/0 alone that can be known without looking at the rows.
    """

    needs = (
        "A label of truth values needs no `threshold` and no `constraints`; where the table spells "
        'them otherwise than 1/0 or true/false, such as `"trueValues": ["yes"], "falseValues": '
        '["no"]`.'
    )

    type: Literal["boolean"]
    false_values: Spellings = pydantic.Field(PLAIN_FALSE, alias="falseValues")
    true_values: Spellings = pydantic.Field(PLAIN_TRUE, alias="trueValues")
    missing: Literal["refuse", "drop"] = "refuse"

    @property
    def class_values(self) -> tuple[Value, ...]:
        """The declared spellings, and without any False and True, which equal 0 and 1."""
        declared = {"false_values", "true_values"} & self.model_fields_set
        texts = (self.false_values[0], self.true_values[0])
        if not declared or {*texts} <= {*PLAIN_FALSE, *PLAIN_TRUE}:
            return (False, True)
        return tuple(map(int, texts)) if all(text.isdecimal() for text in texts) else texts

    @property
    def class_names(self) -> tuple[str, ...]:
        """Such as `died = false` and `died = true`."""
        if self.class_values == (False, True):
            return tuple(f"{self.name} = {level}" for level in LEVELS)
        return tuple(f"{self.name} = {value}" for value in self.class_values)

    def classes_of(self, column: pa.Array) -> npt.NDArray[np.int64]:
        codes: npt.NDArray[np.int64] = column.indices.to_numpy().astype(np.int64)
        return codes
