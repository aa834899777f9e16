"""What is wrong with a table, and what to do about it: in its cells, and in their file."""

import json
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from stages.errors import UserError
from stages.tabular.fields import Misfit, ReadField
from stages.tabular.schema import Schema

# How much of a fault a message shows: lines, and characters of each.
SHOWN_LINES = 5
_SHOWN_CHARACTERS = 60
_SHOWN_FAULTS = 20

# How files begin that are no plain UTF-8 or no CSV: byte order marks, gzip, Parquet, Excel's zip.
OTHER_STARTS = (BOM_UTF8, BOM_UTF16_LE, BOM_UTF16_BE, b"\x1f\x8b", b"PAR", b"PK\x03")
# What people write into empty cells, in any case.
MISSING = ("", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "missing", "?", "-", ".")
# What a message takes for it: not `nan`, which is a number that is not finite.
LIKE_MISSING = {*MISSING, "unknown"} - {"nan"}
DELIMITERS = ",;\t|"
NO_ROWS = "expected a header line and then one line per row, but there are no rows: another file?"

# Where rows begin in a file: its first line is the header.
FIRST_LINE = 2

# The number of the first row, and the rows' cells as bytes.
Cells = tuple[int, pa.RecordBatch]


# --- in the cells ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Advice:
    """To whom a message speaks.

    Attributes:
        scoring: whether rows are to be predicted: then the schema is the model's and stays.
        rows: what a row of the table is called: a `line` of a file, or a `row` of a table.
    """

    scoring: bool = False
    rows: str = "line"

    @property
    def first_row(self) -> int:
        """The number of the first row."""
        return FIRST_LINE if self.rows == "line" else 0

    def about(self, cell: bytes | None, misfit: Exception, schema: Schema) -> str:
        """What to do about a cell."""
        try:
            text = (cell or b"").decode()
        except UnicodeDecodeError:
            return "Some bytes are not UTF-8: save the file as UTF-8 without byte order mark."
        unmarked = text.strip().lower() in LIKE_MISSING and text not in {"", *schema.missing_values}
        if unmarked and self.scoring:
            return f"If {text!r} is a missing value, leave the cell empty."
        if unmarked:
            return f"If {text!r} is a missing value, name it in the schema's `missingValues`."
        return misfit.cells if self.scoring and isinstance(misfit, Misfit) else str(misfit)


class BadCell(NamedTuple):
    """A cell that does not fit: its place in its batch, its bytes (None is a null), and why."""

    row: int
    cell: bytes | None
    misfit: Exception


class Problem:
    """What is wrong in a column, as text: the first bad cells, and what to do about them.

    Attributes:
        count: the number of bad cells.
    """

    def __init__(self, field: ReadField, advice: Advice, schema: Schema) -> None:
        self.count = 0
        self._advice, self._schema = advice, schema
        self._start = f"column `{field.name}`: expected {field.expected}, but found"
        self._lines: list[str] = []
        self._remedies: dict[str, None] = {}

    def extend(self, first: int, bad: Iterable[BadCell]) -> None:
        """Add cells that are bad, too, of a batch whose first row has that number."""
        for row, cell, misfit in bad:
            self.count += 1
            if self.count <= SHOWN_LINES:
                self._lines.append(f"  {self._advice.rows} {first + row}: {shown(cell)}")
                self._remedies[self._advice.about(cell, misfit, self._schema)] = None

    def __str__(self) -> str:
        more = self.count - len(self._lines)
        lines = [*self._lines, *([f"  and {more} more"] if more else [])]
        return "\n".join([self._start, *lines, *self._remedies])


def bad_cells(
    fields: Sequence[ReadField], batch: pa.RecordBatch, missing_values: Sequence[str]
) -> dict[str, list[BadCell]]:
    """Return the cells of a batch that do not fit, by field: first each alone, then in its row."""
    found = {
        field.name: list(_alone(field, batch.column(field.name), missing_values))
        for field in fields
    }
    bad = {row for cells in found.values() for row, _, _ in cells}
    good = np.array([row for row in range(batch.num_rows) if row not in bad], dtype=np.int64)
    typed = typed_batch(fields, batch.take(pa.array(good)), missing_values)
    for field in fields:
        if misfit := field.order:
            column = batch.column(field.name)
            rows = good[field.out_of_order(typed)].tolist()
            found[field.name] += [BadCell(row, column[row].as_py(), misfit) for row in rows]
    return {name: cells for name, cells in found.items() if cells}


def typed_batch(
    fields: Sequence[ReadField], batch: pa.RecordBatch, missing_values: Sequence[str]
) -> pa.RecordBatch:
    """Convert each column to its kind's own type.

    Raises:
        Misfit: a cell does not fit.
    """
    return pa.RecordBatch.from_arrays(
        [field.read(batch.column(field.name), missing_values) for field in fields],
        names=[field.name for field in fields],
    )


def _alone(
    field: ReadField, column: pa.Array, missing_values: Sequence[str], start: int = 0
) -> Iterator[BadCell]:
    """Yield the bad cells of a column, in halves, because few are bad among many."""
    try:
        field.read(column, missing_values)
    except ValueError as misfit:
        if len(column) == 1:
            yield BadCell(start, column[0].as_py(), misfit)
            return
        half = len(column) // 2
        yield from _alone(field, column.slice(0, half), missing_values, start)
        yield from _alone(field, column.slice(half), missing_values, start + half)


# --- in the file -----------------------------------------------------------------------------


@contextmanager
def readable(name: object) -> Iterator[None]:
    """Read the file of a table in the block.

    Raises:
        UserError: it is not there, or cannot be read.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(
            f"{name}: no such file. It should be the table, a CSV or Parquet file: correct the "
            "path (for training, `data` in params.yaml), or put the file there."
        ) from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{name}: expected a table, but it cannot be read: {error}") from None


def refuse_other_encodings(path: object, start: bytes) -> None:
    """Refuse a file whose first bytes are not those of CSV in UTF-8."""
    if start.startswith(OTHER_STARTS) or b"\0" in start:
        raise UserError(
            f"{path}: expected CSV in plain UTF-8, but the file begins with the bytes "
            f"{start.hex(' ')}, a byte order mark, UTF-16 or another kind of file. Save it as "
            "UTF-8 without byte order mark, or name it by its kind: .csv.gz or .parquet."
        )


def refuse_other_columns(
    path: object, found: Sequence[str], schema: Schema, optional: Container[str], advice: Advice
) -> None:
    """Refuse a file whose columns are not those that the schema declares."""
    counts, declared = Counter(found), [field.name for field in schema.fields]
    faults = [
        *(f"`{name}` is missing" for name in declared if not (counts[name] or name in optional)),
        *(f"{shown(name)} is not in the schema" for name in counts if name not in declared),
        *(f"`{name}` is there {counts[name]} times" for name in declared if counts[name] > 1),
    ]
    if not faults:
        return
    remedy = "Rename, add or remove columns" + ", or correct the schema" * (not advice.scoring)
    if len(found) == 1 and (others := [one for one in DELIMITERS if one in found[0]]):
        dialect = json.dumps({"dialect": {"delimiter": others[0]}})[1:-1]
        remedy = f"If the columns are separated by {others[0]!r}, put {dialect} into the schema"
        if advice.scoring:
            remedy = f"Separate the columns by {schema.dialect.delimiter!r}"
    listed = [f"  column {fault}" for fault in faults[:_SHOWN_FAULTS]]
    if more := len(faults) - len(listed):
        listed.append(f"  and {more} more")
    where = f"{path}: line 1" if advice.rows == "line" else path
    start = f"{where}: expected the columns that the schema declares, in any order, but"
    raise UserError("\n".join([start, *listed, f"{remedy}."]))


def parse_message(error: pa.ArrowInvalid, delimiter: str, advice: Advice) -> str:
    """Return what is wrong with CSV that cannot be parsed."""
    if "Empty CSV" in str(error):
        return NO_ROWS
    declare = ", or put another `delimiter` into the schema's `dialect`"
    return (
        f"expected values separated by {delimiter!r}, but: {error}. Mend the row (a cell that "
        f"contains {delimiter!r} or a quote belongs in double quotes)"
        f"{declare * (not advice.scoring)}."
    )


def shown(content: str | bytes | None) -> str:
    """The content in quotes, as text if it is text, and cut if it is long."""
    if content is None:
        return "nothing"
    if isinstance(content, bytes):
        with suppress(UnicodeDecodeError):
            content = content.decode()
    dots = "…" if len(content) > _SHOWN_CHARACTERS else ""
    return f"{content[:_SHOWN_CHARACTERS]!r}{dots}"
