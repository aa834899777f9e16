"""Numbers: as a feature, and as a label that is cut into bands or has few values."""

import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pydantic
from pydantic import AfterValidator

from stages.explain import quoted
from stages.tabular.fields.base import (
    ABOVE,
    BELOW,
    MISSING,
    POLICIES,
    Declared,
    Feature,
    Label,
    Misfit,
    Name,
    Number,
    ReadField,
    Value,
)
from stages.tabular.fields.levels import different
from stages.tabular.graph import Graph

Array = npt.NDArray[np.float64]


class Bounds(Declared):
    """The range of a numeric feature, in the feature's own unit; values beyond it are clipped."""

    minimum: Number
    maximum: Number

    def share(self, numbers: Array) -> Array:
        """How far between the bounds, in [0, 1], numbers are once they are clipped."""
        clipped = np.clip(numbers, self.minimum, self.maximum)
        share: Array = (clipped - self.minimum) / (self.maximum - self.minimum)
        return share

    def write_share(self, graph: Graph, numbers: str, name: str) -> str:
        """Write down `share`, with the bounds as constants of the field's name."""
        low = graph.constant(f"{name}: minimum", self.minimum)
        high = graph.constant(f"{name}: maximum", self.maximum)
        way = graph.call("Sub", graph.call("Clip", numbers, low, high), low)
        return graph.call("Div", way, graph.call("Sub", high, low))

    def beyond(self, numbers: Array) -> dict[str, npt.NDArray[np.bool_]]:
        """Return masks of the numbers below and above; NaN is neither."""
        return {
            f"{BELOW}{self.minimum:.15g}": numbers < self.minimum,
            f"{ABOVE}{self.maximum:.15g}": numbers > self.maximum,
        }

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.maximum - self.minimum < math.inf:
            raise ValueError(
                "should have its `minimum` below its `maximum` by what a float can hold, but they "
                f"are {self.minimum:.15g} and {self.maximum:.15g}"
            )
        return self


def _increasing(numbers: Sequence[float]) -> Sequence[float]:
    if any(low >= high for low, high in pairwise(numbers)):
        shown = ", ".join(f"{number:.15g}" for number in numbers)
        raise ValueError(f"should increase from each to the next, but are {shown}")
    return numbers


Increasing = Annotated[
    tuple[Number, ...], pydantic.Field(min_length=1), AfterValidator(_increasing)
]


def scaled(share: Array, missing: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.float32]:
    """Return (rows, 1 or 2) float32: a share of the way as -1 to 1; 0 and an indicator if missing.

    Args:
        share: (rows,) in [0, 1].
        missing: (rows,), or None if none can be.
    """
    number = (2 * share - 1).astype(np.float32)[:, np.newaxis]
    if missing is None:
        return number
    indicator = missing[:, np.newaxis]
    return np.hstack([np.where(indicator, np.float32(0), number), indicator], dtype=np.float32)


def write_scaled(graph: Graph, share: str, missing: str | None) -> str:
    """Write down `scaled`, in double precision as numpy does it."""
    one, two = graph.constant("one", 1.0), graph.constant("two", 2.0)
    number = graph.call("Sub", graph.call("Mul", two, share), one)
    if missing is None:
        return graph.call("Cast", number, to="float")
    there = graph.call("Where", missing, graph.constant("zero", 0.0), number)
    columns = [graph.call("Cast", column, to="float") for column in (there, missing)]
    return graph.call("Concat", *columns, axis=1)


class _Number(ReadField):
    """A number, read as a finite float64."""

    @property
    def expected(self) -> str:
        return "a whole number" if self.type == "integer" else "a number"

    @property
    def comparable(self) -> bool:
        return True

    def typed(self, cells: pa.Array) -> pa.Array:
        try:
            column = cells.cast(pa.float64())
        except pa.ArrowInvalid:
            raise Misfit(
                "Write numbers with a decimal point and without units, spaces or separators"
            ) from None
        numbers: Array = column.drop_null().to_numpy()
        if not np.isfinite(numbers).all():
            raise Misfit("Only finite numbers fit: correct the cells or leave out their rows")
        if self.type == "integer" and (numbers != np.rint(numbers)).any():
            raise Misfit("Correct the cells", "declare the column's `type` as `number`")
        return column

    def reading(self) -> list[object]:
        return [self.name, "number", self.policy]


class NumberFeature(Feature, _Number):
    """A number, encoded as one column in [-1, 1], clipped to its bounds.

    Attributes:
        transform: `log` spreads out the low end of a heavy-tailed number: log(1 + x - minimum).
        cutoffs: numbers that are known to matter; for each, a further column says whether the
            number is at or above it (+1) or below it (-1).
        missing: `midpoint` puts a missing number in the middle of its bounds, its cut-off columns
            at 0, and says so in a column of its own; `drop` leaves out the row.
    """

    needs = (
        'A numeric feature (a field without `"role": "label"`) needs `constraints` with a '
        "`minimum` below a `maximum`, both known without looking at the rows."
    )

    type: Literal["integer", "number"]
    constraints: Bounds
    transform: Literal["log"] | None = None
    cutoffs: Increasing | None = None
    missing: Literal["refuse", "drop", "midpoint"] = "refuse"

    @property
    def columns(self) -> tuple[str, ...]:
        indicator = (f"{self.name}={MISSING}",) if self.missing == "midpoint" else ()
        reached = (f"{self.name} ≥ {cutoff:.15g}" for cutoff in self.cutoffs or ())
        return (self.name, *indicator, *reached)

    @property
    def scaled(self) -> tuple[int, ...]:
        return (0,)

    def encode(self, *columns: pa.Array) -> npt.NDArray[np.float32]:
        """The share of the way between the bounds, 1 where it is missing, and the cut-offs."""
        (column,) = columns
        low, high = self.constraints.minimum, self.constraints.maximum
        numbers = np.clip(column.fill_null(low / 2 + high / 2).to_numpy(), low, high)
        share = self.constraints.share(numbers)
        if self.transform == "log":
            share = np.log1p(numbers - low) / np.log1p(high - low)
        missing = pc.is_null(column).to_numpy(zero_copy_only=False)
        blocks = [scaled(share, missing if self.missing == "midpoint" else None)]
        for cutoff in self.cutoffs or ():
            reached = np.where(numbers >= cutoff, np.float32(1), np.float32(-1))
            blocks.append(np.where(missing, np.float32(0), reached)[:, np.newaxis])
        return np.hstack(blocks)

    def notable(self, batch: pa.RecordBatch) -> dict[str, npt.NDArray[np.bool_]]:
        numbers = batch.column(self.name).to_numpy(zero_copy_only=False)
        return self.constraints.beyond(numbers) | super().notable(batch)

    def write_down(self, graph: Graph, missing_values: Sequence[str]) -> str:
        cells = graph.column(self.name, float)
        missing, refused = graph.call("IsNaN", cells), graph.call("IsInf", cells)
        if self.type == "integer":
            refused = graph.call("Or", refused, graph.has_parts(cells))
        if self.missing != "midpoint":
            refused = graph.call("Or", refused, missing)
        share = self.constraints.write_share(graph, cells, self.name)
        if self.transform == "log":
            share = self._write_logarithm(graph, share)
        blocks = [write_scaled(graph, share, missing if self.missing == "midpoint" else None)]
        if self.cutoffs:
            cutoffs = graph.constant(f"{self.name}: cut-offs", [self.cutoffs])
            reached = graph.call("GreaterOrEqual", cells, cutoffs)
            sign = graph.where(reached, 1.0, -1.0)
            blocks.append(graph.where(missing, 0.0, sign))
        return graph.refuse(graph.call("Concat", *blocks, axis=1), refused)

    def _write_logarithm(self, graph: Graph, share: str) -> str:
        """Write down the share on the scale of the logarithm, of the share as it is."""
        whole = self.constraints.maximum - self.constraints.minimum
        one, range_ = graph.constant("one", 1.0), graph.constant(f"{self.name}: range", whole)
        # Both logarithms by who runs it: of a number worked out here the last bit would depend on
        # the machine, and the file would not be the same on each.
        way, all_the_way = (
            graph.call("Log", graph.call("Add", one, part))
            for part in (graph.call("Mul", share, range_), range_)
        )
        return graph.call("Div", way, all_the_way)

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
        reached = ", ".join(f"{cutoff:.15g}" for cutoff in self.cutoffs or ())
        cut = f", and whether it reaches {reached}" if reached else ""
        return f"{limits}{scale}{cut}{POLICIES[self.policy]}"

    @pydantic.model_validator(mode="after")
    def _cutoffs_within_bounds(self) -> Self:
        low, high = self.constraints.minimum, self.constraints.maximum
        if outside := [f"{one:.15g}" for one in self.cutoffs or () if not low < one < high]:
            raise ValueError(
                f"should have its `cutoffs` between its bounds {low:.15g} and {high:.15g}, where "
                f"they tell rows apart, but has {', '.join(outside)}"
            )
        return self

    @classmethod
    def draft(cls, values: Collection[str]) -> dict[str, Any] | None:
        try:
            numbers = pa.array(values, pa.string()).cast(pa.float64()).to_numpy()
        except pa.ArrowInvalid:
            return None
        codes = any(len(text) > 1 and text.startswith("0") and text.isdigit() for text in values)
        if codes or not numbers.size or not np.isfinite(numbers).all():
            return None
        whole = bool((numbers == np.rint(numbers)).all())
        if whole and len(numbers) == 2 and np.ptp(numbers) == 1:
            return None  # such as 1 and 2, which are codes of two categories
        minimum, maximum = _round_bounds(float(numbers.min()), float(numbers.max()), whole=whole)
        return {
            "confirm": ["minimum", "maximum"],
            "type": "integer" if whole else "number",
            "constraints": {"minimum": minimum, "maximum": maximum},
        }


def _round_bounds(low: float, high: float, *, whole: bool) -> tuple[float, float]:
    """Return round numbers outside of what was seen, because a field's bounds are rounder."""
    if whole and (low, high) in {(1, 12), (1, 7), (0, 6), (1, 31), (0, 23)}:
        return low, high  # months, days, hours: there are no others
    tenth = (high - low) / 10 or 1
    unit = 10.0 ** math.floor(math.log10(tenth))
    step = unit * next(one for one in (1, 2, 5, 10) if one * unit >= tenth * 0.999)
    step = max(step, 1.0) if whole else step
    bounds = math.floor(low / step) * step, math.floor(high / step + 1) * step
    minimum, maximum = (round(float(bound), 12) for bound in bounds)
    if high in (1, 100) and 0 <= low < high:
        maximum = high  # a share or a percentage
    as_written = [int(bound) if bound.is_integer() else bound for bound in (minimum, maximum)]
    return as_written[0], as_written[1]


class NumberValues(Declared):
    """The two to twenty values of a numeric label, in the order of the classes."""

    enum: Annotated[Increasing, pydantic.Field(min_length=2, max_length=20)]


class NumberLabel(Label, _Number):
    """A number to classify: by a threshold, by several into bands, or each of few values a class.

    Attributes:
        threshold: class 1 is a value above it, class 0 one at or below it.
        thresholds: class k is a value above the first k of them.
        bands: names of the classes that `thresholds` make.
        constraints: its `enum` are the classes where there is no threshold; 0 and 1 if left out.
    """

    needs = (
        "A numeric label needs a `threshold`, class 1 being a value above it, or increasing "
        "`thresholds` between classes, perhaps with their names in `bands`; without any, "
        "`constraints` may give an `enum` of its values, which are 0 and 1 if left out."
    )

    type: Literal["integer", "number"]
    threshold: Number | None = None
    thresholds: Annotated[Increasing, pydantic.Field(max_length=19)] | None = None
    bands: Annotated[tuple[Name, ...], AfterValidator(different)] | None = None
    constraints: NumberValues | None = None
    missing: Literal["refuse", "drop"] = "refuse"

    @property
    def cuts(self) -> tuple[float, ...]:
        """What parts the classes; () if each value is one."""
        if self.threshold is not None:
            return (self.threshold,)
        return self.thresholds or ()

    @property
    def values(self) -> tuple[float, ...]:
        """The values that are a class each, where no threshold parts them."""
        return self.constraints.enum if self.constraints else (0, 1)

    @property
    def expected(self) -> str:
        if self.cuts:
            return super().expected
        *others, last = (f"{value:.15g}" for value in self.values)
        return f"{', '.join(others)} or {last}"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Such as `charges ≤ 15000` and `charges > 15000`, and `5000 < charges ≤ 15000` between."""
        if self.bands:
            return self.bands
        if not self.cuts:
            return tuple(f"{self.name} = {value:.15g}" for value in self.values)
        cuts = [f"{cut:.15g}" for cut in self.cuts]
        between = (f"{low} < {self.name} ≤ {high}" for low, high in pairwise(cuts))
        return (f"{self.name} ≤ {cuts[0]}", *between, f"{self.name} > {cuts[-1]}")

    @property
    def class_values(self) -> tuple[Value, ...]:
        """The names of what thresholds make, and else the values themselves."""
        if self.cuts:
            return self.class_names
        whole = all(value == int(value) for value in self.values)
        return tuple(int(value) if whole else float(value) for value in self.values)

    @property
    def ordered(self) -> bool:
        return len(self.cuts) > 1

    def typed(self, cells: pa.Array) -> pa.Array:
        column = super().typed(cells)
        if not self.cuts and not np.isin(column.drop_null().to_numpy(), self.values).all():
            raise Misfit(
                "Correct the cells", "give the label a `threshold` or an `enum` in `constraints`"
            )
        return column

    def classes_of(self, column: pa.Array) -> npt.NDArray[np.int64]:
        values: Array = column.to_numpy()
        if self.cuts:  # how many of them are below
            return np.searchsorted(self.cuts, values).astype(np.int64)
        return np.argmax(values[:, np.newaxis] == np.array(self.values), axis=1).astype(np.int64)

    @pydantic.model_validator(mode="after")
    def _one_way_to_cut(self) -> Self:
        ways = ("threshold", "thresholds", "constraints")
        given = [way for way in ways if getattr(self, way) is not None]
        if len(given) > 1:
            raise ValueError(f"should have one at most of {quoted(ways)}, but has {quoted(given)}")
        if self.bands and len(self.bands) != len(self.thresholds or ()) + 1:
            raise ValueError(
                f"should have one of `bands` more than `thresholds`, but has {len(self.bands)} and "
                f"{len(self.thresholds or ())}"
            )
        return self
