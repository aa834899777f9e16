"""Numbers: as a feature, and as a label that a threshold cuts in two."""

import math
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from stages.tabular.fields.base import (
    MISSING,
    POLICIES,
    Declared,
    Feature,
    Label,
    Number,
    ReadField,
)
from stages.tabular.graph import Graph


class Bounds(Declared):
    """The range of a numeric feature, in the feature's own unit; values beyond it are clipped."""

    minimum: Number
    maximum: Number

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.maximum - self.minimum < math.inf:
            raise ValueError(
                "should have its `minimum` below its `maximum` by what a float can hold, but they "
                f"are {self.minimum:.15g} and {self.maximum:.15g}"
            )
        return self


class _Number(ReadField):
    """A number, read as a finite float64."""

    @property
    def expected(self) -> str:
        return "a whole number" if self.type == "integer" else "a number"

    def typed(self, cells: pa.Array) -> pa.Array:
        try:
            column = cells.cast(pa.float64())
        except pa.ArrowInvalid:
            raise ValueError(
                "Write numbers with a decimal point and without units, spaces or separators."
            ) from None
        numbers: npt.NDArray[np.float64] = column.drop_null().to_numpy()
        if not np.isfinite(numbers).all():
            raise ValueError("Only finite numbers fit: correct the cells or leave out their rows.")
        if self.type == "integer" and (numbers != np.rint(numbers)).any():
            raise ValueError("Correct the cells, or declare the column's `type` as `number`.")
        return column

    def reading(self) -> list[object]:
        return [self.name, "number", self.policy]


class NumberFeature(Feature, _Number):
    """A number, encoded as one column in [-1, 1], clipped to its bounds.

    Attributes:
        transform: `log` spreads out the low end of a heavy-tailed number: log(1 + x - minimum).
        missing: `midpoint` puts a missing number in the middle of its bounds and says so in a
            column of its own; `drop` leaves out the row.
    """

    needs = (
        'A numeric feature (a field without `"role": "label"`) needs `constraints` with a '
        "`minimum` below a `maximum`, both known without looking at the rows."
    )

    type: Literal["integer", "number"]
    constraints: Bounds
    transform: Literal["log"] | None = None
    missing: Literal["refuse", "drop", "midpoint"] = "refuse"

    @property
    def columns(self) -> tuple[str, ...]:
        indicator = (f"{self.name}={MISSING}",) if self.missing == "midpoint" else ()
        return (self.name, *indicator)

    def encode(self, column: pa.Array) -> npt.NDArray[np.float32]:
        """The share of the way between the bounds, and 1 where it is missing."""
        low, high = self.constraints.minimum, self.constraints.maximum
        numbers = np.clip(column.fill_null(low / 2 + high / 2).to_numpy(), low, high)
        share = (numbers - low) / (high - low)
        if self.transform == "log":
            share = np.log1p(numbers - low) / np.log1p(high - low)
        number = (2 * share - 1).astype(np.float32)[:, np.newaxis]
        if self.missing != "midpoint":
            return number
        missing = pc.is_null(column).to_numpy(zero_copy_only=False)[:, np.newaxis]
        return np.hstack([np.where(missing, np.float32(0), number), missing], dtype=np.float32)

    def write_down(self, graph: Graph, missing_values: Sequence[str]) -> str:
        """In double precision, as numpy does it."""
        cells = graph.column(self.name, float)
        low = graph.constant(f"{self.name}: minimum", self.constraints.minimum)
        high = graph.constant(f"{self.name}: maximum", self.constraints.maximum)
        one, two = graph.constant("one", 1.0), graph.constant("two", 2.0)
        way, whole = (
            graph.call("Sub", end, low) for end in (graph.call("Clip", cells, low, high), high)
        )
        if self.transform == "log":
            way, whole = (graph.call("Log", graph.call("Add", one, x)) for x in (way, whole))
        share = graph.call("Div", way, whole)
        number = graph.call("Sub", graph.call("Mul", two, share), one)

        missing, refused = graph.call("IsNaN", cells), graph.call("IsInf", cells)
        if self.type == "integer":
            parts = graph.call("Not", graph.call("Equal", cells, graph.call("Round", cells)))
            refused = graph.call("Or", refused, parts)  # a missing one also has parts
        if self.missing == "midpoint":
            middle = graph.constant("zero", 0.0)
            there = graph.call("Where", refused, graph.constant("NaN", np.nan), number)
            number = graph.call("Where", missing, middle, there)
            columns = [graph.call("Cast", column, to="float") for column in (number, missing)]
            return graph.call("Concat", *columns, axis=1)
        refused = graph.call("Or", refused, missing)
        number = graph.call("Where", refused, graph.constant("NaN", np.nan), number)
        return graph.call("Cast", number, to="float")

    def spread(self, shares: npt.NDArray[np.float64]) -> pa.Array:
        """Evenly on the scale on which the model sees the number."""
        low, high = self.constraints.minimum, self.constraints.maximum
        numbers = low + shares * (high - low)
        if self.transform == "log":
            numbers = low + np.expm1(shares * np.log1p(high - low))
        return pa.array(np.rint(numbers) if self.type == "integer" else numbers)

    def grid(self, most: int) -> pa.Array:
        numbers = pc.unique(self.spread(np.linspace(0, 1, most)))
        missing = pa.nulls(1 if self.missing == "midpoint" else 0, pa.float64())
        return pa.concat_arrays([numbers, missing])

    def describe(self) -> str:
        scale = ", by its logarithm" if self.transform else ""
        limits = f"{self.constraints.minimum:g} to {self.constraints.maximum:g}"
        return f"{limits}{scale}{POLICIES[self.policy]}"


class NumberLabel(Label, _Number):
    """A number to classify: class 1 is a value above the threshold, class 0 one at or below it."""

    needs = (
        "A numeric label needs a `threshold`, class 1 being a value above it, and no `constraints`."
    )

    type: Literal["integer", "number"]
    threshold: Number
    missing: Literal["refuse", "drop"] = "refuse"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Such as `charges ≤ 15000` and `charges > 15000`."""
        return tuple(f"{self.name} {sign} {self.threshold:.15g}" for sign in ("≤", ">"))

    def classes_of(self, column: pa.Array) -> npt.NDArray[np.int64]:
        values: npt.NDArray[np.float64] = column.to_numpy()
        return (values > self.threshold).astype(np.int64)
