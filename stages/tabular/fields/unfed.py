"""Columns that never reach the model: the id, and what is ignored."""

from typing import Annotated, Literal, Self

import pyarrow as pa
import pydantic

from stages.tabular.fields.base import Field, Misfit, Name, ReadField

# A person's rows are held against each other, pair by pair.
MOST_ROWS = 1_000


class Id(ReadField):
    """Whose row it is: never a feature. The split follows it.

    Attributes:
        repeated: what a second row of the same person means: a mistake; or that one of the rows is
            kept, chosen by a hash of each or as the latest; or that all are used.
        latest: the field that says which is the latest.
        at_most: how many rows of a person are used where all are; of a person with more, those
            whose hashes are smallest.
    """

    needs = (
        "An id has a `name`, perhaps a `type`, and perhaps `repeated`; `keep latest` also names "
        "the field that it goes by in `latest`, `use all` the most rows of a person in `at_most`."
    )

    type: Literal["integer", "string"] = "string"
    role: Literal["id"]
    repeated: Literal["refuse", "keep one", "keep latest", "use all"] = "refuse"
    latest: Name | None = None
    at_most: Annotated[int, pydantic.Field(strict=True, ge=2, le=MOST_ROWS)] | None = None

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
        if (self.repeated == "use all") != (self.at_most is not None):
            raise ValueError(
                'should have both or neither of `"repeated": "use all"` and `at_most`, the most '
                f"rows of a person that are used (2 to {MOST_ROWS:,}), but has `repeated` "
                f"{self.repeated!r} and `at_most` {self.at_most!r}"
            )
        return self

    @property
    def rows(self) -> int:
        """The most rows of a person that are used."""
        return self.at_most or 1


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
