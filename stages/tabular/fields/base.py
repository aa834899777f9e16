"""What all kinds of field have in common; each kind is a class in a module beside this one."""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

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
# How the names of shares start whose rows are clipped.
BELOW, ABOVE = "below ", "above "

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


class Misfit(ValueError):  # noqa: N818 - what is wrong with a cell, which is data, not a program
    """A cell does not fit its field; the message says what to do about it.

    Attributes:
        cells: what to do about the cell.
    """

    def __init__(self, cells: str, declare: str = "") -> None:
        """Say what to do about the cell, and what the schema could declare instead.

        Args:
            cells: a sentence without its full stop.
            declare: how the sentence goes on, after "or".
        """
        super().__init__(f"{cells}, or {declare}." if declare else f"{cells}.")
        self.cells = f"{cells}."


# A value of the label, as a table has it.
Value: TypeAlias = str | int | float | bool
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

    @classmethod
    def draft(cls, values: Collection[str]) -> dict[str, Any] | None:
        """Return what a public column of these different texts could be declared as.

        Returns:
            A declaration without `name`, its guesses in `confirm`; None if it is of another kind.
        """
        return None

    @abstractmethod
    def describe(self) -> str:
        """Tell in the report what the column may hold, and what is made of the rest."""

    def as_text(self, column: pa.Array) -> pa.Array:
        """Return the cells of a typed column as the text that a CSV file would have in their place.

        Raises:
            ValueError: a cell could be written in more than one way, or in none.
        """
        # 1.0 and true may stand for "1", "1.0", "True" …: which of them, only the owner knows.
        ambiguous = pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
        if self.type == "string" and ambiguous:
            raise ValueError(
                f"is declared as text, but is of type {column.type}. Convert it to the texts that "
                "the schema declares."
            )
        try:
            return column.cast(pa.string())
        except pa.ArrowNotImplementedError:
            raise ValueError(
                f"is of type {column.type}, which is no number, text, boolean or date. Convert the "
                "column."
            ) from None


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
        return ()

    @property
    def comparable(self) -> bool:
        """Whether cells are read as numbers of which one is the latest."""
        return False

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
            Misfit: a cell is not as expected.
        """
        missing = pc.is_in(
            cells, value_set=pa.array([*map(str.encode, missing_values), None], pa.binary())
        )
        if pc.any(missing).as_py():
            if self.policy == "refuse":
                accepts = "missing" in type(self).model_fields
                raise Misfit(
                    "Missing values are not accepted here: fill in the empty cells or leave out "
                    "their rows",
                    "say in the schema what `missing` means" * accepts,
                )
            cells = pc.if_else(missing, pa.scalar(None, pa.binary()), cells)
        return self.typed(cells)

    @abstractmethod
    def typed(self, cells: pa.Array) -> pa.Array:
        """Do the part of `read` that is the kind's own; a missing cell is null by now."""

    @property
    def order(self) -> Misfit | None:
        """What to do about a cell that contradicts another of its row; None if none can."""
        return None

    def out_of_order(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Return (rows,) bool: whose cell, as from `read`, contradicts another of its row."""
        return np.zeros(batch.num_rows, dtype=bool)

    def notable(self, batch: pa.RecordBatch) -> dict[str, npt.NDArray[np.bool_]]:
        """Return masks (rows,) of columns from `read`: what an owner wants to know the share of.

        Those whose names start with `BELOW` or `ABOVE` are clipped.
        """
        if self.policy == "refuse":
            return {}
        return {MISSING: batch.column(self.name).is_null().to_numpy(zero_copy_only=False)}

    def write_refused(self, graph: Graph) -> str:
        """Write down, (rows, 1) bool, whether `read` refuses a cell as `graph` takes it.

        Only kinds need it from which the features of others are encoded.
        """
        raise NotImplementedError

    def reading(self) -> list[object]:
        """Return what decides what a cell is read as; bounds do not, as clipping comes later."""
        return [self.name, self.type, self.policy]


class Feature(ReadField):
    """A column that the model reads."""

    role: Literal["feature"] = "feature"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the fields that it is encoded from, itself first."""
        return (self.name,)

    @property
    def bases(self) -> tuple[str, ...]:
        """The types of which those others may be."""
        return ()

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of the encoded columns."""

    @property
    def scaled(self) -> tuple[int, ...]:
        """Positions in `columns` of what is a number, mapped from its bounds to [-1, 1]."""
        return ()

    @abstractmethod
    def encode(self, *columns: pa.Array) -> npt.NDArray[np.float32]:
        """Return (rows, columns) float32 of its `inputs` as from `read`, each row by itself."""

    @abstractmethod
    def write_down(self, graph: Graph, missing_values: Sequence[str]) -> str:
        """Write down what `read` and `encode` do of `inputs`, which `graph` takes as its own.

        A cell of a numeric column is missing where it is NaN, of a text where it is one of the
        missing values or empty. A date is the number of days since 1970-01-01.

        Returns:
            Name of the encoded columns (rows, columns) float32; NaN where `read` refuses the cell.
        """

    @abstractmethod
    def spread(self, shares: npt.NDArray[np.float64]) -> pa.Array:
        """Return cells, as from `read`, at `shares` (0 to 1) of the way through the domain.

        Where the kind has further `inputs`, it is for a 0 in these.
        """

    @abstractmethod
    def grid(self, most: int) -> pa.Array:
        """Return every cell there can be, or `most` of a range, in order and what misses last."""

    def shown(self, cell: Any) -> Any:
        """Return a cell of `spread` or `grid`, which is not missing, as its declaration puts it."""
        return cell


class Label(ReadField):
    """The column that the model predicts."""

    role: Literal["label"]

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Names of class 0, class 1, …"""

    @property
    def class_values(self) -> tuple[Value, ...]:
        """What a prediction of each class is called: the table's own values, where it has them."""
        return self.class_names

    @property
    def ordered(self) -> bool:
        """Whether the classes are bands of one number, so that a class has neighbours."""
        return False

    @abstractmethod
    def classes_of(self, column: pa.Array) -> npt.NDArray[np.int64]:
        """Return (rows,) int64, positions in `class_names`, of a column from `read`."""

    def describe(self) -> str:
        return f"the label: {' or '.join(self.class_names)}{POLICIES[self.policy]}"
