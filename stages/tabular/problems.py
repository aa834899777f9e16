"""What is wrong with a table, and what to do about it: in its cells, and in their file."""

import json
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
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
_SHOWN_FAULTS = 20

# How files begin that are no plain UTF-8 or no CSV: byte order marks, gzip, Parquet, Excel's zip.
OTHER_STARTS = (BOM_UTF8, BOM_UTF16_LE, BOM_UTF16_BE, b"\x1f\x8b", b"PAR", b"PK\x03")
# What people write into empty cells.
LIKE_MISSING = {"", "na", "n/a", "null", "none", "missing", "unknown", "?", "-", "."}
DELIMITERS = ",;\t|"
NO_ROWS = "expected a header line and then one line per row, but there are no rows: another file?"

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
    if start.startswith(OTHER_STARTS) or b"\0" in start:
        raise UserError(
            f"{path}: expected CSV in plain UTF-8, but the file begins with the bytes "
            f"{start.hex(' ')}, a byte order mark, UTF-16 or another kind of file. Save it as "
            "UTF-8 without byte order mark, or name it by its kind: .csv.gz or .parquet."
        )


def refuse_other_columns(
    path: object, found: Sequence[str], schema: Schema, optional: Container[str]
) -> None:
    """Refuse a file whose columns are not those that the schema declares."""
    counts, declared = Counter(found), [field.name for field in schema.fields]
    faults = [
        *(f"`{name}` is missing" for name in declared if not (counts[name] or name in optional)),
        *(f"{_shown(name)} is not in the schema" for name in counts if name not in declared),
        *(f"`{name}` is there {counts[name]} times" for name in declared if counts[name] > 1),
    ]
    if not faults:
        return
    advice = "Rename, add or remove columns, or correct the schema."
    if len(found) == 1 and (others := [one for one in DELIMITERS if one in found[0]]):
        dialect = json.dumps({"dialect": {"delimiter": others[0]}})[1:-1]
        advice = f"If the columns are separated by {others[0]!r}, put {dialect} into the schema."
    shown = [f"  column {fault}" for fault in faults[:_SHOWN_FAULTS]]
    if more := len(faults) - len(shown):
        shown.append(f"  and {more} more")
    start = f"{path}: line 1: expected the columns that the schema declares, in any order, but"
    raise UserError("\n".join([start, *shown, advice]))


def parse_message(error: pa.ArrowInvalid, delimiter: str) -> str:
    """Return what is wrong with CSV that cannot be parsed."""
    if "Empty CSV" in str(error):
        return NO_ROWS
    return (
        f"expected values separated by {delimiter!r}, but: {error}. Mend the row (a cell that "
        f"contains {delimiter!r} or a quote belongs in double quotes), or put another `delimiter` "
        "into the schema's `dialect`."
    )


def _shown(content: str | bytes | None) -> str:
    """The content in quotes, as text if it is text, and cut if it is long."""
    if content is None:
        return "nothing"
    if isinstance(content, bytes):
        with suppress(UnicodeDecodeError):
            content = content.decode()
    dots = "…" if len(content) > _SHOWN_CHARACTERS else ""
    return f"{content[:_SHOWN_CHARACTERS]!r}{dots}"
