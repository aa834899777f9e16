"""Columns that never reach the model: the id, and what is ignored."""

from typing import Literal, Self

import pyarrow as pa
import pydantic

from stages.tabular.fields.base import Field, Misfit, Name, ReadField


class Id(ReadField):
    """Whose row it is: never a feature. The split follows it.

    Attributes:
        repeated: what a second row of the same person means: a mistake, or that one of the rows is
            kept, chosen by a hash of each or as the latest.
        latest: the field that says which is the latest.
    """

    needs = (
        "An id has a `name`, perhaps a `type`, and perhaps `repeated`; `keep latest` also names "
        "the field that it goes by in `latest`."
    )

    type: Literal["integer", "string"] = "string"
    role: Literal["id"]
    repeated: Literal["refuse", "keep one", "keep latest"] = "refuse"
    latest: Name | None = None

    @property
    def expected(self) -> str:
        return "an id in every row"

    def typed(self, cells: pa.Array) -> pa.Array:
        """Int64 or text."""
        try:
            return cells.cast(pa.int64() if self.type == "integer" else pa.string())
        except pa.ArrowInvalid:
            raise Misfit("Correct the cells", "declare the column's `type` as `string`") from None

    def reading(self) -> list[object]:
        return [self.name, self.type]

    def describe(self) -> str:
        return "whose row it is; not read by the model"

    @pydantic.model_validator(mode="after")
    def _latest_by_what(self) -> Self:
        if (self.repeated == "keep latest") != (self.latest is not None):
            raise ValueError(
                'should have both or neither of `"repeated": "keep latest"` and `latest`, the '
                f"field that it goes by, but has `repeated` {self.repeated!r} and `latest` "
                f"{self.latest!r}"
            )
        return self


class Ignored(Field):
    """A column that is there and not read."""

    needs = (
        "An ignored column has a `name`, which may be empty as in the file, and perhaps a `type`."
    )

    name: str
    type: str | None = None
    role: Literal["ignored"]

    def describe(self) -> str:
        return "not read"
