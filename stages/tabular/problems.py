"""What is wrong with a table, and what to do about it: in its cells, and in their file."""

import codecs
import csv
import difflib
import json
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice

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
LIKE_MISSING = {"na", "n/a", "null", "none", "missing", "unknown", "?", "-", "."}
DELIMITERS = ",;\t|"

# The line number of the first row, and the rows' cells as bytes.
Cells = tuple[int, pa.RecordBatch]
# Line number and cell; None is a null.
BadCell = tuple[int, bytes | None]


# --- in the cells ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """What is wrong in a column.

    Attributes:
        column: its name.
        expected: what its cells should be.
        cells: how many are not.
        examples: the first of them, as lines of text.
        remedies: what to do about these.
    """

    column: str
    expected: str
    cells: int
    examples: list[str]
    remedies: list[str]


def listing(problems: Sequence[Problem]) -> str:
    """Return the problems of all columns as a table."""
    width = max(len("column"), *(len(problem.column) for problem in problems))
    lines = [f"{'column':{width}}  {'cells':>8}  problem"]
    for problem in problems:
        lines.append(f"{problem.column:{width}}  {problem.cells:>8}  expected {problem.expected}")
        indent = " " * (width + 12)
        lines += [indent + line for line in (*problem.examples, *problem.remedies)]
    return "\n".join(lines)


def problem_of(
    field: ReadField, cells: int, first: Sequence[BadCell], missing_values: Sequence[str]
) -> Problem:
    """Return what is wrong in a column in which so many cells, the first of them given, are bad."""
    remedies = dict.fromkeys(_remedy(cell, field, missing_values) for _, cell in first)
    return Problem(field.name, field.expected, cells, [*map(_line, first)], [*remedies])


def bad_cells(
    field: ReadField, batches: Iterable[Cells], missing_values: Sequence[str]
) -> Iterator[BadCell]:
    """Yield the cells that do not fit the field."""

    def fits(cells: pa.Array) -> bool:
        with suppress(ValueError):
            field.read(cells, missing_values)
            return True
        return False

    for first_line, batch in batches:
        column = batch.column(field.name)
        if not fits(column):
            for row in range(len(column)):
                if not fits(column.slice(row, 1)):
                    yield first_line + row, column[row].as_py()


def bad_cells_message(
    path: object, field: ReadField, batches: Iterable[Cells], missing_values: Sequence[str]
) -> str:
    """Return the message about the first bad cells of a column."""
    first = list(islice(bad_cells(field, batches, missing_values), SHOWN_LINES))
    problem = problem_of(field, len(first), first, missing_values)
    start = f"{path}: column `{field.name}`: expected {problem.expected}, but found"
    return "\n".join([start, *problem.examples, *problem.remedies])


def _remedy(cell: bytes | None, field: ReadField, missing_values: Sequence[str]) -> str:
    try:
        text = (cell or b"").decode()
    except UnicodeDecodeError:
        return "Some bytes are not UTF-8: save the file as UTF-8 without byte order mark."
    if not text.strip() or text in missing_values:
        has_policy = "missing" in type(field).model_fields
        policy = ", or say in the schema what `missing` means" if has_policy else ""
        return (
            "Missing values are not accepted here: fill in the empty cells or leave out their rows"
            f"{policy}."
        )
    if text.strip().lower() in LIKE_MISSING:
        return f"If {text!r} is a missing value, name it in the schema's `missingValues`."
    return field.remedy(text)


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
    if len(found) == 1 and (advice := _other_delimiter(found[0])):
        problems = [f"{_shown(found[0])} looks like several: {advice}"]
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


def parse_message(
    path: object, error: pa.ArrowInvalid, delimiter: str, *, readable_again: bool
) -> str:
    """Return the message about CSV that cannot be parsed; a stream cannot be read again."""
    if "Empty CSV" in str(error):
        return no_rows_message(path)
    header, ragged = _ragged_lines(str(path), delimiter) if readable_again else ([], [])
    if not ragged:
        return (
            f"{path}: expected values separated by {delimiter!r}, but: {error}. Mend the place it "
            "names."
        )
    if len(header) == 1 and (advice := _other_delimiter(header[0])):
        return f"{path}: line 1 is {_shown(header[0])}: {advice}"
    return "\n".join(
        [
            f"{path}: expected {len(header)} cells in each line, as in the header, but found",
            *map(_line, ragged),
            f"Mend these lines; a cell that contains {delimiter!r} or a quote belongs in double "
            "quotes.",
        ]
    )


def _other_delimiter(header: str) -> str | None:
    """What to do about a header of one column, if there is another delimiter in it."""
    for delimiter in DELIMITERS:
        if delimiter in header:
            shown = json.dumps({"dialect": {"delimiter": delimiter}})[1:-1]
            return f"if the file is separated by {delimiter!r}, put {shown} into the schema."
    return None


def _near_miss(name: str, candidates: Sequence[str]) -> str:
    spellings = {candidate.strip().lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), spellings, n=1)
    return f" (is {_shown(spellings[near[0]])} meant?)" if near else ""


def _ragged_lines(path: str, delimiter: str) -> tuple[list[str], list[tuple[int, str]]]:
    """Return the header and the first (line, text) of other widths.

    A second, slower parser, for the message alone. (pyarrow's own handler of invalid rows prints a
    traceback if such a row is not UTF-8.)
    """
    # pyarrow unpacks a file with the name of a compressed one, so its bytes come from pyarrow here.
    with TextIOWrapper(
        pa.input_stream(path), encoding="utf-8", errors="backslashreplace", newline=""
    ) as file:
        records = (record for record in csv.reader(file, delimiter=delimiter) if record)
        try:
            header = next(records, [])
            ragged = (
                (line, delimiter.join(record))
                for line, record in enumerate(records, start=2)
                if len(record) != len(header)
            )
            return header, list(islice(ragged, SHOWN_LINES))
        except csv.Error:
            return [], []


def _line(numbered: tuple[int, str | bytes | None]) -> str:
    line, content = numbered
    return f"  line {line}: {_shown(content)}"


def _shown(content: str | bytes | None) -> str:
    """The content in quotes, as text if it is text, and cut if it is long."""
    if content is None:
        return "nothing"
    if isinstance(content, bytes):
        with suppress(UnicodeDecodeError):
            content = content.decode()
    dots = "…" if len(content) > _SHOWN_CHARACTERS else ""
    return f"{content[:_SHOWN_CHARACTERS]!r}{dots}"
