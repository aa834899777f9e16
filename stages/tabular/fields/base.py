"""What all kinds of field have in common; each kind is a class in a module beside this one."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from stages.explain import quoted
from stages.tabular.graph import Graph

# What a missing cell is called where it is a level or a column of its own.
MISSING = "(missing)"

# What becomes of a missing cell, as the report tells it.
POLICIES = {
    "refuse": "",
    "drop": "; rows without it are left out",
    "midpoint": "; if missing, the middle of these, marked as missing",
    "category": "; or missing",
}


class Declared(BaseModel):
    """A part of the schema file: no unknown keys, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _none_left(guesses: tuple[str, ...]) -> tuple[str, ...]:
    # A guess from rows, once used, would publish them; so `draft` marks its guesses.
    if guesses:
        raise ValueError(
            f"says that {quoted(guesses)} is a guess: correct it from what you know of the field, "
            "not from the rows, and remove `confirm`"
        )
    return guesses


Number = Annotated[float, pydantic.Field(strict=True, allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(min_length=1)]
Confirm = Annotated[tuple[str, ...], AfterValidator(_none_left)]


class Field(Declared):
    """A column of the table.

    Attributes:
        needs: what the declaration of such a field needs, for whoever got it wrong.
    """

    needs: ClassVar[str]

    name: Name
    title: str | None = None
    description: str | None = None
    confirm: Confirm = ()
    type: str | None
    role: str

    @abstractmethod
    def describe(self) -> str:
        """Tell in the report what the column may hold, and what is made of the rest."""


class ReadField(Field):
    """A column whose cells are read."""

    @property
    def policy(self) -> str:
        """What becomes of a missing cell; a kind without the key `missing` refuses it."""
        return getattr(self, "missing", "refuse")

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The texts that a cell can be, if only certain ones are allowed."""
        return ()

    @property
    def levels(self) -> tuple[str, ...]:
        """What a cell can be, in the order of the codes 0, 1, 2, … that are read; () of numbers."""
        return self.vocabulary

    @property
    @abstractmethod
    def expected(self) -> str:
        """What a cell should be, in words."""

    def read(self, cells: pa.Array, missing_values: Sequence[str]) -> pa.Array:
        """Convert the bytes of a column to the kind's own type.

        Returns:
            An array that is null only where a cell is missing and the policy is `drop`, or the kind
            has a number for it.

        Raises:
            ValueError: a cell is not as expected; the message says what to do about it.
        """
        missing = pc.is_in(
            cells, value_set=pa.array([*map(str.encode, missing_values), None], pa.binary())
        )
        if pc.any(missing).as_py():
            if self.policy == "refuse":
                accepts = "missing" in type(self).model_fields
                raise ValueError(
                    "Missing values are not accepted here: fill in the empty cells or leave out "
                    f"their rows{', or say in the schema what `missing` means' * accepts}."
                )
            cells = pc.if_else(missing, pa.scalar(None, pa.binary()), cells)
        return self.typed(cells)

    @abstractmethod
    def typed(self, cells: pa.Array) -> pa.Array:
        """Do the part of `read` that is the kind's own; a missing cell is null by now."""

    def reading(self) -> list[object]:
        """Return what decides what a cell is read as; bounds do not, as clipping comes later."""
        return [self.name, self.type, self.policy]


class Feature(ReadField):
    """A column that the model reads."""

    role: Literal["feature"] = "feature"

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of the encoded columns."""

    @abstractmethod
    def encode(self, column: pa.Array) -> npt.NDArray[np.float32]:
        """Return (rows, columns) float32 of a column from `read`, each row by itself."""

    @abstractmethod
    def write_down(self, graph: Graph, missing_values: Sequence[str]) -> str:
        """Write down what `read` and `encode` do of a column, which `graph` takes as an input.

        A cell of a numeric column is missing where it is NaN, of a text where it is one of the
        missing values or empty.

        Returns:
            Name of the encoded columns (rows, columns) float32; NaN where `read` refuses the cell.
        """

    @abstractmethod
    def spread(self, shares: npt.NDArray[np.float64]) -> pa.Array:
        """Return cells, as from `read`, at `shares` (0 to 1) of the way through the domain."""

    @abstractmethod
    def grid(self, most: int) -> pa.Array:
        """Return every cell there can be, or `most` of a range, in order and what misses last."""


class Label(ReadField):
    """The column that the model predicts."""

    role: Literal["label"]

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Names of class 0, class 1, …"""

    @abstractmethod
    def classes_of(self, column: pa.Array) -> npt.NDArray[np.int64]:
        """Return (rows,) int64, positions in `class_names`, of a column from `read`."""

    def describe(self) -> str:
        return f"the label: {' or '.join(self.class_names)}{POLICIES[self.policy]}"
