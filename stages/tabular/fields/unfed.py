"""Columns that never reach the model: the id, and what is ignored."""

from typing import Literal

import pyarrow as pa

from stages.tabular.fields.base import Field, ReadField


class Id(ReadField):
    """Whose row it is: never a feature. The split follows it.

    Attributes:
        repeated: what a second row of the same person means: a mistake, or that one of the rows is
            kept, chosen by a hash of each.
    """

    needs = "An id has a `name`, a `type` and perhaps `repeated`."

    type: Literal["integer", "string"]
    role: Literal["id"]
    repeated: Literal["refuse", "keep one"] = "refuse"

    @property
    def expected(self) -> str:
        return "an id in every row"

    def typed(self, cells: pa.Array) -> pa.Array:
        """Int64 or text."""
        try:
            return cells.cast(pa.int64() if self.type == "integer" else pa.string())
        except pa.ArrowInvalid:
            raise ValueError(
                "Correct the cells, or declare the column's `type` as `string`."
            ) from None

    def reading(self) -> list[object]:
        return [self.name, self.type]

    def describe(self) -> str:
        return "whose row it is; not read by the model"


class Ignored(Field):
    """A column that is there and not read."""

    needs = "An ignored column has a `name` and perhaps a `type`."

    type: str | None = None
    role: Literal["ignored"]

    def describe(self) -> str:
        return "not read"
