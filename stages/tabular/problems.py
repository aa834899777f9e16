"""What is wrong with a table, and what to do about it: in its cells, and in their file."""

import codecs
import difflib
import json
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress

import pyarrow as pa

from stages.errors import UserError
from stages.tabular.fields import ReadField
from stages.tabular.schema import Schema

# How much of a fault a message shows: lines, and characters of each.
SHOWN_LINES = 5
_SHOWN_CHARACTERS = 60
_SHOWN_PROBLEMS = 20

# How files begin that are no CSV whatever they are called, and what to do about them.
OTHER_KINDS = {
    b"\x1f\x8b": "a gzip file; give it a name that ends in .csv.gz",
    b"PAR": "a Parquet file; give it a name that ends in .parquet",
    b"PK\x03": "an Excel workbook or another zip file; export it as CSV",
}
BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# What people write into empty cells.
LIKE_MISSING = {"", "na", "n/a", "null", "none", "missing", "unknown", "?", "-", "."}
DELIMITERS = ",;\t|"

# The line number of the first row, and the rows' cells as bytes.
Cells = tuple[int, pa.RecordBatch]
# Line number, cell (None is a null), and what to do about it.
BadCell = tuple[int, bytes | None, str]


# --- in the cells ----------------------------------------------------------------------------


class Problem:
    """What is wrong in a column, as text: the first bad cells, and what to do about them.

    Attributes:
        count: the number of bad cells.
    """

    def __init__(self, field: ReadField, bad: Iterable[BadCell] = ()) -> None:
        self.count = 0
        self._start = f"column `{field.name}`: expected {field.expected}, but found"
        self._lines: list[str] = []
        self._remedies: dict[str, None] = {}
        self.extend(bad)

    def extend(self, bad: Iterable[BadCell]) -> None:
        """Add cells that are bad, too."""
        for line, cell, remedy in bad:
            self.count += 1
            if self.count <= SHOWN_LINES:
                self._lines.append(f"  line {line}: {_shown(cell)}")
                self._remedies[remedy] = None

    def __str__(self) -> str:
        more = self.count - len(self._lines)
        lines = [*self._lines, *([f"  and {more} more"] if more else [])]
        return "\n".join([self._start, *lines, *self._remedies])


def bad_cells(
    field: ReadField, batches: Iterable[Cells], missing_values: Sequence[str]
) -> Iterator[BadCell]:
    """Yield the cells that do not fit the field."""

    def fault(cells: pa.Array) -> str | None:
        try:
            field.read(cells, missing_values)
        except ValueError as error:
            return str(error)
        return None

    for first_line, batch in batches:
        column = batch.column(field.name)
        if fault(column):
            for row, cell in enumerate(column.to_pylist()):
                if remedy := fault(column.slice(row, 1)):
                    yield first_line + row, cell, _remedy(cell, missing_values) or remedy


def _remedy(cell: bytes | None, missing_values: Sequence[str]) -> str | None:
    """What to do about a cell, whatever its field."""
    try:
        text = (cell or b"").decode()
    except UnicodeDecodeError:
        return "Some bytes are not UTF-8: save the file as UTF-8 without byte order mark."
    if text.strip().lower() in LIKE_MISSING and text not in {"", *missing_values}:
        return f"If {text!r} is a missing value, name it in the schema's `missingValues`."
    return None


# --- in the file -----------------------------------------------------------------------------


def refuse_other_encodings(path: object, start: bytes) -> None:
    """Refuse a file whose first bytes are not those of CSV in UTF-8."""
    for mark, kind in OTHER_KINDS.items():
        if start.startswith(mark):
            raise UserError(f"{path}: expected CSV, but this is {kind}.")
    if start.startswith(BYTE_ORDER_MARKS) or b"\0" in start:
        raise UserError(
            f"{path}: expected plain UTF-8, but the file begins with the bytes {start.hex(' ')}, a "
            "byte order mark or UTF-16. Save it as UTF-8 without byte order mark."
        )


def refuse_other_columns(
    path: object, found: Sequence[str], schema: Schema, optional: Container[str]
) -> None:
    """Refuse a file whose columns are not those that the schema declares."""
    declared = [field.name for field in schema.fields]
    extra = [name for name in dict.fromkeys(found) if name not in declared]
    problems = [
        f"`{name}` is missing{_near_miss(name, extra)}: add the column, or remove it from the "
        "schema."
        for name in declared
        if name not in found and name not in optional
    ]
    problems += [
        f"{_shown(name)} is not in the schema: remove the column, or declare it there."
        for name in extra
    ]
    if len(found) == 1 and (others := [one for one in DELIMITERS if one in found[0]]):
        dialect = json.dumps({"dialect": {"delimiter": others[0]}})[1:-1]
        problems = [
            f"{_shown(found[0])} looks like several: perhaps put {dialect} into the schema."
        ]
    problems += [
        f"`{name}` occurs {count} times: keep one of the columns."
        for name, count in Counter(found).items()
        if count > 1 and name in declared
    ]
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        raise UserError(
            f"{path}: line 1: expected the columns that the schema declares, in any order, but\n"
            + "\n".join(f"  column {problem}" for problem in problems[:_SHOWN_PROBLEMS])
            + (f"\n  and {more} more" if more > 0 else "")
        )


def no_rows_message(path: object) -> str:
    """Return the message about a table without rows."""
    return (
        f"{path}: expected a header line and then one line per row, but there are no rows. Is this "
        "the right file?"
    )


def parse_message(path: object, error: pa.ArrowInvalid, delimiter: str) -> str:
    """Return the message about CSV that cannot be parsed."""
    if "Empty CSV" in str(error):
        return no_rows_message(path)
    return (
        f"{path}: expected values separated by {delimiter!r}, but: {error}. Mend the row (a cell "
        f"that contains {delimiter!r} or a quote belongs in double quotes), or put another "
        "`delimiter` into the schema's `dialect`."
    )


def _near_miss(name: str, candidates: Sequence[str]) -> str:
    spellings = {candidate.strip().lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), spellings, n=1)
    return f" (is {_shown(spellings[near[0]])} meant?)" if near else ""


def _shown(content: str | bytes | None) -> str:
    """The content in quotes, as text if it is text, and cut if it is long."""
    if content is None:
        return "nothing"
    if isinstance(content, bytes):
        with suppress(UnicodeDecodeError):
            content = content.decode()
    dots = "…" if len(content) > _SHOWN_CHARACTERS else ""
    return f"{content[:_SHOWN_CHARACTERS]!r}{dots}"
