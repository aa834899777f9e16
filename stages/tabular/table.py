"""Read the private table: every cell checked against the schema, in memory that does not grow.

Values beyond the declared bounds are no errors here: `encode` clips them.

Line numbers in messages count the header as line 1; blank lines are skipped and not counted.
"""

import codecs
import csv
import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from stages.errors import UserError
from stages.tabular.schema import CategoryFeature, Field, Schema

# On 10 million rows, blocks four times as large took 10 % less time and twice the memory.
_BLOCK_BYTES = 1 << 20
# How much of a fault a message shows: lines, and characters of each.
_SHOWN_LINES = 5
_SHOWN_CHARACTERS = 60

# The line number of the first row, and the rows' cells as bytes.
_Cells = tuple[int, pa.RecordBatch]


def read_batches(path: str | Path, schema: Schema) -> Iterator[pa.RecordBatch]:
    """Stream the rows of a CSV file as typed batches, in the file's order.

    Yields:
        Batches of about a megabyte of text, with one column per schema field, in schema order:
        float64 for numbers (finite; whole if declared `integer`), and for categories a dictionary
        array whose codes are positions in the declared `enum`.

    Raises:
        UserError: the file cannot be read, is no UTF-8 CSV with exactly the declared columns, has
            no rows, or has a cell that the schema does not allow. The message shows the first bad
            lines.
    """
    yield from _ahead(_typed_batches(path, schema))


def _ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Make the next batch on a second core while the caller works on this one."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = reader.submit(next, batches, None)
            yield batch


def _typed_batches(path: str | Path, schema: Schema) -> Iterator[pa.RecordBatch]:
    cells = _read_cells(path, schema)
    for first_line, batch in cells:
        try:
            typed = _typed_batch(batch, schema)
        except _BadColumnError as bad:
            rest = chain([(first_line, batch)], cells)
            raise UserError(_bad_cells_message(path, bad.field, rest)) from None
        yield typed


def _read_cells(path: str | Path, schema: Schema) -> Iterator[_Cells]:
    """Yield all columns as bytes, a type in which no cell can fail."""
    try:
        _refuse_other_encodings(path)
        reader = arrow_csv.open_csv(
            path,
            # One thread: the reader is serial anyway, and results must not depend on the machine.
            read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
            convert_options=arrow_csv.ConvertOptions(
                column_types={field.name: pa.binary() for field in schema.fields}
            ),
        )
        _refuse_other_columns(path, _header(path, reader), schema)
        line = first_row = 2
        for batch in reader:
            yield line, batch
            line += batch.num_rows
        if line == first_row:
            raise UserError(_no_rows_message(path))
    except pa.ArrowInvalid as error:
        raise UserError(_parse_message(path, error)) from None
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file. `data` in params.yaml should name the table, a CSV file: "
            "correct it, or put the file there."
        ) from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: expected a CSV file, but it cannot be read: {error}") from None


# --- cells to columns ------------------------------------------------------------------------


class _BadColumnError(Exception):
    def __init__(self, field: Field) -> None:
        self.field = field


def _typed_batch(cells: pa.RecordBatch, schema: Schema) -> pa.RecordBatch:
    columns = {}
    for field in schema.fields:
        try:
            columns[field.name] = _typed_column(cells.column(field.name), field)
        except ValueError:
            raise _BadColumnError(field) from None
    return pa.RecordBatch.from_pydict(columns)


def _typed_column(cells: pa.Array, field: Field) -> pa.Array:
    """Convert the bytes of a column, or raise ValueError (as pyarrow does) if any cell is bad."""
    if isinstance(field, CategoryFeature):
        enum = field.constraints.enum
        codes = pc.index_in(cells, value_set=pa.array([text.encode() for text in enum]))
        if codes.null_count:
            raise ValueError("unknown category")
        return pa.DictionaryArray.from_arrays(codes, pa.array(enum))
    column = cells.cast(pa.float64())
    numbers: npt.NDArray[np.float64] = column.to_numpy()
    if not np.isfinite(numbers).all():
        raise ValueError("not finite")
    if field.type == "integer" and (numbers != np.rint(numbers)).any():
        raise ValueError("not whole")
    return column


# --- what is wrong with the cells ------------------------------------------------------------


def _bad_cells_message(path: str | Path, field: Field, batches: Iterable[_Cells]) -> str:
    bad = list(islice(_bad_cells(field, batches), _SHOWN_LINES))
    remedies = dict.fromkeys(_remedy(cell, field) for _, cell in bad)
    return (
        f"{path}: column `{field.name}`: expected {_expected(field)}, but found\n"
        + _listing(bad)
        + "\n"
        + "\n".join(remedies)
    )


def _bad_cells(field: Field, batches: Iterable[_Cells]) -> Iterator[tuple[int, bytes]]:
    """Yield (line, cell) of the cells that do not fit the field."""
    for first_line, batch in batches:
        column = batch.column(field.name)
        if _fits(column, field):
            continue
        for row in range(len(column)):
            if not _fits(column.slice(row, 1), field):
                yield first_line + row, column[row].as_py()


def _fits(cells: pa.Array, field: Field) -> bool:
    try:
        _typed_column(cells, field)
    except ValueError:
        return False
    return True


def _expected(field: Field) -> str:
    if isinstance(field, CategoryFeature):
        return "one of " + ", ".join(f"`{text}`" for text in field.constraints.enum)
    return "a whole number" if field.type == "integer" else "a number"


def _remedy(cell: bytes, field: Field) -> str:
    """What to do about a cell that does not fit the field."""
    try:
        text = cell.decode()
    except UnicodeDecodeError:
        return "Some bytes are not UTF-8: save the file as UTF-8 without byte order mark."
    if not text.strip():
        return "Missing values are not accepted: fill in the empty cells or leave out their rows."
    if isinstance(field, CategoryFeature):
        return "Correct the cells, or add the values to the `enum` in the schema."
    try:
        number = pa.scalar(text).cast(pa.float64()).as_py()
    except pa.ArrowInvalid:
        return (
            "Write numbers with a decimal point and without units, spaces or thousands separators."
        )
    if not np.isfinite(number):
        return (
            "Only finite numbers have a place between bounds: correct the cells or leave out "
            "their rows."
        )
    return "Correct the cells, or declare the column's `type` as `number` in the schema."


# --- what is wrong with the file -------------------------------------------------------------


def _refuse_other_encodings(path: str | Path) -> None:
    with pa.input_stream(path) as file:
        start: bytes = file.read(3)
    marks = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if start.startswith(marks) or b"\0" in start:
        raise UserError(
            f"{path}: expected plain UTF-8, but the file begins with the bytes {start.hex(' ')}, a "
            "byte order mark or UTF-16. Save it as UTF-8 without byte order mark."
        )


def _header(path: str | Path, reader: arrow_csv.CSVStreamingReader) -> list[str]:
    try:
        names: list[str] = reader.schema.names
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: line 1: expected column names in UTF-8, but found {error.object!r}. Save the "
            "file as UTF-8 without byte order mark."
        ) from None
    return names


def _refuse_other_columns(path: str | Path, found: list[str], schema: Schema) -> None:
    declared = [field.name for field in schema.fields]
    extra = [name for name in dict.fromkeys(found) if name not in declared]
    problems = [
        f"`{name}` is missing{_near_miss(name, extra)}: add the column, or remove it from the "
        "schema."
        for name in declared
        if name not in found
    ]
    problems += [
        f"{_shown(name)} is not in the schema: remove the column, or declare it there."
        for name in extra
    ]
    problems += [
        f"`{name}` occurs {count} times: keep one of the columns."
        for name, count in Counter(found).items()
        if count > 1 and name in declared
    ]
    if problems:
        raise UserError(
            f"{path}: line 1: expected the columns that the schema declares, in any order, but\n"
            + "\n".join(f"  column {problem}" for problem in problems)
        )


def _near_miss(name: str, candidates: Sequence[str]) -> str:
    spellings = {candidate.strip().lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), spellings, n=1)
    return f" (is {_shown(spellings[near[0]])} meant?)" if near else ""


def _no_rows_message(path: str | Path) -> str:
    return (
        f"{path}: expected a header line and then one line per row, but there are no rows. Is this "
        "the right file?"
    )


def _parse_message(path: str | Path, error: pa.ArrowInvalid) -> str:
    if "Empty CSV" in str(error):
        return _no_rows_message(path)
    width, ragged = _ragged_lines(path)
    if not ragged:
        return f"{path}: expected comma-separated values, but: {error}. Mend the place it names."
    return (
        f"{path}: expected {width} cells in each line, as in the header, but found\n"
        + _listing(ragged)
        + "\nMend these lines; a cell that contains a comma or a quote belongs in double quotes."
    )


def _ragged_lines(path: str | Path) -> tuple[int, list[tuple[int, str]]]:
    """Return the header's width and the first (line, text) of other widths.

    A second, slower parser, for the message alone. (pyarrow's own handler of invalid rows prints a
    traceback if such a row is not UTF-8.)
    """
    # pyarrow unpacks a file with the name of a compressed one, so its bytes come from pyarrow here.
    with TextIOWrapper(
        pa.input_stream(path), encoding="utf-8", errors="backslashreplace", newline=""
    ) as file:
        records = (record for record in csv.reader(file) if record)
        try:
            width = len(next(records, []))
            ragged = (
                (line, ",".join(record))
                for line, record in enumerate(records, start=2)
                if len(record) != width
            )
            return width, list(islice(ragged, _SHOWN_LINES))
        except csv.Error:
            return 0, []


def _listing(lines: Iterable[tuple[int, str | bytes]]) -> str:
    return "\n".join(f"  line {line}: {_shown(content)}" for line, content in lines)


def _shown(content: str | bytes) -> str:
    """The content in quotes, as text if it is text, and cut if it is long."""
    if isinstance(content, bytes):
        with suppress(UnicodeDecodeError):
            content = content.decode()
    dots = "…" if len(content) > _SHOWN_CHARACTERS else ""
    return f"{content[:_SHOWN_CHARACTERS]!r}{dots}"
