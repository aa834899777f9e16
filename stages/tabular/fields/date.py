"""Dates and times: as a feature, and as what another date is counted from."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
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
    Misfit,
    Name,
    ReadField,
)
from stages.tabular.fields.levels import different
from stages.tabular.fields.number import Array, Bounds, scaled, write_scaled
from stages.tabular.graph import Graph

EPOCH = datetime(1970, 1, 1)
DAY = timedelta(days=1)
MICROSECONDS = 86_400_000_000  # of a day

# In days; a year as the Gregorian calendar has it in the mean.
UNITS = {"days": 1.0, "years": 365.2425}
THURSDAY = 3  # the place of 1970-01-01 among them
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# What each month and each weekday is encoded as.
TURNS = np.arange(12) * (2 * np.pi / 12)
PARTS = {"month": np.stack([np.sin(TURNS), np.cos(TURNS)], axis=1), "weekday": np.eye(7)}

# How public files write dates; where several fit, the first is proposed.
FORMATS = (
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y%m%d"),
    *("%d%b%Y", "%d-%b-%Y", "%d %b %Y", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"),
)
# Two days that no two formats write alike: of both centuries, and with a day above 12.
EXAMPLES = (datetime(1935, 12, 31), datetime(2024, 3, 14, 15, 30))


def _whole_day(form: str) -> str | None:
    """Refuse a format that leaves out a part of the date, or the century; `default` is ISO 8601."""
    if form == "default":
        return None
    try:
        same = all(
            datetime.strptime(one.strftime(form), form).date() == one.date() for one in EXAMPLES
        )
    except ValueError:
        same = False
    if not same or "%z" in form.lower():
        raise ValueError(
            "should write day, month and year in four digits, and no time zone, such as "
            f"`%d.%m.%Y` (Python's strptime), but is {form!r}"
        )
    return form


class DateBounds(Declared):
    """The range of a date, written as the field's cells are; what is beyond it is clipped."""

    minimum: Name
    maximum: Name


class Since(Bounds):
    """Time since another date of the row, in a unit, with bounds of its own."""

    field: Name
    unit: Literal["days", "years"] = "days"


class _Date(ReadField):
    """A date, or a time in it, read as float64: days since 1970-01-01.

    Attributes:
        format: how cells are written, in the directives of Python's strptime; ISO 8601 if left out.
    """

    format: Annotated[str, AfterValidator(_whole_day)] | None = None

    @property
    def expected(self) -> str:
        what = "a date" if self.type == "date" else "a date and time"
        example = self.written(EXAMPLES[1])
        return f"{what} written as {example}" + (f" ({self.format})" if self.format else "")

    @property
    def comparable(self) -> bool:
        return True

    def typed(self, cells: pa.Array) -> pa.Array:
        """Days since 1970-01-01, whole for a `date`."""
        try:
            texts = cells.cast(pa.string())
            return self._days_by_format(texts) if self.format else self._days(texts)
        except (ValueError, OverflowError):
            raise Misfit(
                "Correct the cells: there is no such day, or it is written otherwise",
                "give the field the `format` that they are written in",
            ) from None

    def _days(self, texts: pa.Array) -> pa.Array:
        if self.type == "date":
            return texts.cast(pa.date32()).cast(pa.int32()).cast(pa.float64())
        moments = texts.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64())
        return pc.divide(moments, float(MICROSECONDS))

    def _days_by_format(self, texts: pa.Array) -> pa.Array:
        # Each different text once: Python's strptime knows which days there are, Arrow's does not.
        coded = texts.dictionary_encode()
        days = [self._day(text) for text in coded.dictionary.to_pylist()]
        return pa.array(days, pa.float64()).take(coded.indices)

    def _day(self, text: str) -> float:
        """Days since 1970-01-01 of a text in the `format`."""
        if not text.isascii() or text != text.strip():
            raise ValueError
        moment = datetime.strptime(text, self.format or "")
        whole = datetime.combine(moment.date(), datetime.min.time())
        # Without separators "2020111" would be two dates.
        ambiguous = text.isdigit() and len(text) != len(self.written(moment))
        if ambiguous or (self.type == "date" and moment != whole):
            raise ValueError
        return (moment - EPOCH) / DAY

    def written(self, moment: datetime) -> str:
        """Return a moment as cells are written."""
        if self.format:
            return moment.strftime(self.format)
        return moment.date().isoformat() if self.type == "date" else moment.isoformat(" ")

    def as_text(self, column: pa.Array) -> pa.Array:
        """Dates and times of Parquet as the cells of a CSV file are written."""
        if not pa.types.is_temporal(column.type):
            return super().as_text(column)
        if getattr(column.type, "tz", None):
            raise ValueError(
                f"has the time zone {column.type.tz}. Convert it to local time without one, in "
                "which month and weekday are those of the place."
            )
        texts = column.cast(pa.string())
        if self.type == "date":  # pandas has no dates but midnights
            texts = pc.replace_substring_regex(texts, r"[ T]00:00:00(\.0+)?$", "")
        else:
            texts = pc.replace_substring_regex(texts, r"(\.\d{6})000$", r"\1")
        if not self.format:
            return texts
        written = [
            text if text is None else self.written(datetime.fromisoformat(text))
            for text in texts.to_pylist()
        ]
        return pa.array(written, pa.string())

    def write_refused(self, graph: Graph) -> str:
        """Write down whether a number of days, as `graph` takes it, is none that `read` gives."""
        days = graph.column(self.name, float)
        refused = graph.call("IsInf", days)
        if self.policy != "midpoint":
            refused = graph.call("Or", refused, graph.call("IsNaN", days))
        if self.type == "date":
            refused = graph.call("Or", refused, graph.has_parts(days))
        return refused

    def reading(self) -> list[object]:
        return [self.name, self.type, self.policy, self.format]


def write_weekday(graph: Graph, days: str) -> str:
    """Write down the place of whole days since 1970-01-01 in WEEKDAYS."""
    shifted = graph.call("Add", days, graph.constant("Thursday", float(THURSDAY)))
    return graph.remainder(shifted, 7)


def write_month(graph: Graph, days: str) -> str:
    """Write down the month, January being 0, of whole days since 1970-01-01.

    Years begin in March, so that they end with the odd day (Hinnant 2013, "chrono-Compatible
    Low-Level Date Algorithms", `civil_from_days`).
    """
    add, times = (partial(graph.with_number, operator) for operator in ("Add", "Mul"))
    day = graph.remainder(add(days, 719_468), 146_097)  # of 400 years, the first 0000-03-01
    leaps = graph.call("Sub", graph.parts_of(day, 36_524), graph.parts_of(day, 1_460))
    leaps = graph.call("Sub", leaps, graph.parts_of(day, 146_096))
    year = graph.parts_of(graph.call("Add", day, leaps), 365)
    leaps = graph.call("Sub", graph.parts_of(year, 4), graph.parts_of(year, 100))
    before = graph.call("Add", times(year, 365), leaps)
    of_year = graph.call("Sub", day, before)
    from_march = graph.parts_of(add(times(of_year, 5), 2), 153)
    return graph.remainder(add(from_march, 2), 12)


class DateReference(_Date):
    """A date that is read for the sake of others, and no feature by itself."""

    needs = (
        "A reference is a date that another one is counted `since`, or by which the `latest` row "
        "of a person is known: it needs a `type`, and perhaps a `format`."
    )

    type: Literal["date", "datetime"]
    role: Literal["reference"]
    missing: Literal["refuse", "drop"] = "refuse"

    def describe(self) -> str:
        return f"a date that others refer to; not read by the model{POLICIES[self.policy]}"


class DateFeature(Feature, _Date):
    """A date, encoded as one column in [-1, 1], clipped to its bounds; and perhaps its parts.

    Attributes:
        constraints: the bounds of the date as a number.
        since: another date; then the time since it is the number, with bounds of its own.
        parts: `month` is two columns, sine and cosine of a cycle of twelve months; `weekday` is
            seven, of which the day's own is 1.
        missing: `midpoint` puts a missing date in the middle of its bounds, its parts at 0, and
            says so in a column of its own; `drop` leaves out the row.
    """

    needs = (
        "A date needs either `constraints` with a `minimum` before a `maximum`, both written as "
        "its cells are, or `since` with a `field`, and a `minimum` below a `maximum` in its `unit` "
        "(days or years); all known without looking at the rows."
    )

    type: Literal["date", "datetime"]
    constraints: DateBounds | None = None
    since: Since | None = None
    parts: Annotated[tuple[Literal["month", "weekday"], ...], AfterValidator(different)] = ()
    missing: Literal["refuse", "drop", "midpoint"] = "refuse"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.name, *((self.since.field,) if self.since else ()))

    @property
    def bases(self) -> tuple[str, ...]:
        return ("date", "datetime")

    @property
    def columns(self) -> tuple[str, ...]:
        of_part = {
            "month": ("month (sine)", "month (cosine)"),
            "weekday": tuple(f"weekday={day}" for day in WEEKDAYS),
        }
        number = f"{self.name} since {self.since.field}" if self.since else self.name
        indicator = (f"{self.name}={MISSING}",) if self.missing == "midpoint" else ()
        parts = (f"{self.name} {column}" for part in self.parts for column in of_part[part])
        return (number, *indicator, *parts)

    @property
    def scaled(self) -> tuple[int, ...]:
        return (0,)

    @property
    def bounds(self) -> Bounds:
        """Of what is encoded as a number: the date in days, or the time since another."""
        if self.since:
            return self.since
        assert self.constraints is not None
        low, high = self.constraints.minimum, self.constraints.maximum
        days = self.typed(pa.array([low.encode(), high.encode()])).to_pylist()
        return Bounds(minimum=days[0], maximum=days[1])

    def encode(self, *columns: pa.Array) -> npt.NDArray[np.float32]:
        """The share of the way between the bounds, 1 where it is missing, and the parts."""
        days, *bases = (column.to_numpy(zero_copy_only=False) for column in columns)
        numbers = self._time_since(days, bases[0]) if self.since else days
        missing = np.isnan(numbers)
        share = self.bounds.share(np.where(missing, self.bounds.minimum, numbers))
        blocks = [scaled(share, missing if self.missing == "midpoint" else None)]
        blocks += [self._part(part, days) for part in self.parts]
        return np.hstack(blocks, dtype=np.float32)

    def _part(self, part: str, days: Array) -> npt.NDArray[np.float32]:
        """(rows, columns) of a part, 0 where the date is missing."""
        there = ~np.isnan(days)
        whole = np.floor(np.where(there, days, 0)).astype("datetime64[D]")
        if part == "month":
            places = whole.astype("datetime64[M]").astype(np.int64) % 12
        else:
            places = (whole.astype(np.int64) + THURSDAY) % 7
        return (PARTS[part][places] * there[:, np.newaxis]).astype(np.float32)

    def _time_since(self, days: Array, base: Array) -> Array:
        assert self.since is not None
        return (days - base) / UNITS[self.since.unit]

    def write_down(self, graph: Graph, missing_values: Sequence[str]) -> str:
        days, *bases = (graph.column(name, float) for name in self.inputs)
        numbers = days
        if self.since:
            unit = graph.constant(self.since.unit, UNITS[self.since.unit])
            numbers = graph.call("Div", graph.call("Sub", days, bases[0]), unit)
        missing, refused = graph.call("IsNaN", numbers), self.write_refused(graph)
        if self.order is not None:
            refused = graph.call("Or", refused, graph.call("Less", days, bases[0]))
        share = self.bounds.write_share(graph, numbers, self.name)
        blocks = [write_scaled(graph, share, missing if self.missing == "midpoint" else None)]
        blocks += [self._write_part(graph, part, days) for part in self.parts]
        return graph.refuse(graph.call("Concat", *blocks, axis=1), refused)

    def _write_part(self, graph: Graph, part: str, days: str) -> str:
        """Write down what `_part` does."""
        missing = graph.call("IsNaN", days)
        zero = graph.constant("zero", 0.0)
        whole = graph.call("Floor", graph.call("Where", missing, zero, days))
        places = {"month": write_month, "weekday": write_weekday}[part](graph, whole)
        table = graph.constant(f"each {part}", PARTS[part], np.float32)
        row = graph.call("Gather", table, graph.call("Cast", places, to="int64"))
        axis = graph.constant("axis 1", [1], np.int64)
        return graph.where(missing, 0.0, graph.call("Squeeze", row, axis))

    def spread(self, shares: npt.NDArray[np.float64]) -> pa.Array:
        numbers = self.bounds.minimum + shares * (self.bounds.maximum - self.bounds.minimum)
        days = numbers * UNITS[self.since.unit] if self.since else numbers
        return pa.array(np.rint(days) if self.type == "date" else days)

    def grid(self, most: int) -> pa.Array:
        days = pc.unique(self.spread(np.linspace(0, 1, most)))
        return pa.concat_arrays([days, pa.nulls(int(self.missing == "midpoint"), pa.float64())])

    def shown(self, cell: Any) -> Any:
        """The number of units since the other date, or the date in ISO 8601."""
        if self.since:
            return float(cell) / UNITS[self.since.unit]
        moment = EPOCH + cell * DAY
        return (moment.date() if self.type == "date" else moment).isoformat()

    @property
    def order(self) -> Misfit | None:
        if self.since is None or self.since.minimum < 0:
            return None
        return Misfit(
            f"It is before `{self.since.field}`: correct one of the two",
            "give `since` a `minimum` below 0 if that can be",
        )

    def out_of_order(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        if self.order is None:
            return super().out_of_order(batch)
        days, base = (batch.column(name).to_numpy(zero_copy_only=False) for name in self.inputs)
        before: npt.NDArray[np.bool_] = days < base
        return before

    def notable(self, batch: pa.RecordBatch) -> dict[str, npt.NDArray[np.bool_]]:
        days, *bases = (batch.column(name).to_numpy(zero_copy_only=False) for name in self.inputs)
        numbers = self._time_since(days, bases[0]) if self.since else days
        below, above = self.bounds.beyond(numbers).values()
        ends = self.since or self.constraints
        assert ends is not None
        beyond = {f"{BELOW}{ends.minimum}": below, f"{ABOVE}{ends.maximum}": above}
        return beyond | super().notable(batch)

    def describe(self) -> str:
        if self.since:
            number = f"{self.since.minimum:g} to {self.since.maximum:g} {self.since.unit}"
            limits = f"{number} since {self.since.field}"
        elif self.constraints:
            limits = f"{self.constraints.minimum} to {self.constraints.maximum}"
        parts = f", and by {' and '.join(self.parts)}" if self.parts else ""
        return f"{limits}{parts}{POLICIES[self.policy]}"

    @pydantic.model_validator(mode="after")
    def _bounded_once(self) -> Self:
        if (self.constraints is None) == (self.since is None):
            raise ValueError("should have one of `constraints` and `since`")
        if self.constraints is not None:
            try:
                self.bounds  # noqa: B018 - reads them
            except ValueError:
                both = [self.constraints.minimum, self.constraints.maximum]
                raise ValueError(
                    f"should have a `minimum` before its `maximum`, each {self.expected}, but has "
                    f"{quoted(both)}"
                ) from None
        return self

    @classmethod
    def draft(cls, values: Collection[str]) -> dict[str, Any] | None:
        ways = ((kind, form) for kind in ("date", "datetime") for form in (None, *FORMATS))
        cells = pa.array([text.encode() for text in values])
        for kind, form in ways:
            field = DateReference(name="x", type=kind, role="reference", format=form)
            try:
                days = field.typed(cells).to_pylist()
            except ValueError:
                continue
            first, last = (EPOCH + day * DAY for day in (min(days), max(days)))
            digits = all(text.isdigit() for text in values)
            if first.year < 1850 or last.year > 2150 or (digits and {*map(len, values)} != {8}):
                continue  # numbers that could be read as dates
            bounds = {
                "minimum": field.written(datetime(first.year, 1, 1)),
                "maximum": field.written(datetime(last.year, 12, 31)),
            }
            guessed = ["format", *bounds] if form else [*bounds]
            declared = {"type": kind} | ({"format": form} if form else {})
            return {"confirm": guessed, **declared, "constraints": bounds}
        return None
