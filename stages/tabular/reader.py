"""Read the private table: every cell checked against the schema, in memory that does not grow.

Values beyond the declared bounds are no errors here: `encode` clips them.

Line numbers in messages count the header as line 1 and each row as one; blank lines are skipped and
not counted. Rows of tables in memory and of Parquet files have no lines: they count from row 0.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as arrow_csv
from pyarrow import parquet

from stages.errors import UserError
from stages.tabular.fields import Field, ReadField
from stages.tabular.problems import (
    FIRST_LINE,
    NO_ROWS,
    Advice,
    Cells,
    Problem,
    bad_cells,
    parse_message,
    readable,
    refuse_other_columns,
    refuse_other_encodings,
    shown,
    typed_batch,
)
from stages.tabular.schema import Schema

# On 10 million rows, blocks four times as large took 10 % less time and twice the memory.
_BLOCK_BYTES = 1 << 20
_PARQUET_ROWS = 1 << 14

PARQUET = (".parquet", ".pq")

# How many columns a refusal tells of.
SHOWN_COLUMNS = 10

# Path of a file, a binary stream of CSV, or a table in memory.
Source: TypeAlias = "str | Path | BinaryIO | pa.Table"

# (rows,) positions in a whole table, from 0 on.
Places = npt.NDArray[np.int64]


def read_batches(
    source: Source, schema: Schema, *, scoring: bool = False
) -> Iterator[pa.RecordBatch]:
    """Stream the rows of a table as typed batches, in the file's order.

    Args:
        source: path of a CSV file (plain, or compressed if it is called .gz) or of a Parquet file,
            a binary stream of CSV, or a table in memory.
        scoring: the rows are to be predicted: only what features are encoded from has to be there
            and is read, with the id if there is one, and a row that training would leave out is
            refused, because each has to have an answer.

    Yields:
        Batches of about a megabyte of text, with one column per field that is read, in schema
        order: float64 for numbers (finite; whole if declared `integer`; null if missing) and for
        dates (days since 1970), for categories and truth values a dictionary array whose codes are
        positions in the field's levels, for a text label in its `enum`, and for ids int64 or text.
        Rows that the schema says to drop are left out.

    Raises:
        UserError: the file cannot be read, is no UTF-8 CSV or Parquet with exactly the declared
            columns, has no rows, or has cells that the schema does not allow. The message shows
            the first bad cells of each column.
    """
    with ThreadPoolExecutor(1) as reader:  # the next batch, on a second core
        batches = _typed_batches(source, schema, scoring=scoring)
        following = reader.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = reader.submit(next, batches, None)
            yield _without_dropped(batch, schema)


def read_everything(source: Source, schema: Schema) -> Iterator[pa.RecordBatch]:
    """Stream a table as `read_batches` does, with the rows that the schema says to drop."""
    yield from _typed_batches(source, schema, scoring=False)


def read_what_fits(
    source: Source, schema: Schema
) -> Iterator[tuple[pa.RecordBatch, Places, dict[int, str]]]:
    """Stream rows that are to be predicted, past those that cannot be read.

    Yields:
        Batches of the rows that can be read, as `read_batches` gives them when scoring; (rows,)
        their places in the whole table, from 0 on; and, by its place, why a row of this part of the
        table cannot be read.

    Raises:
        UserError: as `read_batches`, but for cells that do not fit and rows of another length.
    """
    advice = _advice(source, scoring=True)
    fields = _fields_for_scoring(schema)
    ragged: dict[int, str] = {}
    end = 0
    for _, batch in _read_cells(source, schema, advice, ragged):
        present = [field for field in fields if field.name in batch.schema.names]
        places = _places(end, batch.num_rows, ragged)
        reasons: dict[int, list[str]] = {}
        for name, cells in bad_cells(present, batch, schema.missing_values).items():
            for row, cell, misfit in cells:
                told = f"`{name}` is {shown(cell)}. {advice.about(cell, misfit, schema)}"
                reasons.setdefault(row, []).append(told)
        good = np.setdiff1d(np.arange(batch.num_rows), [*reasons]).astype(np.int64)
        why = {int(places[row]): " ".join(told) for row, told in reasons.items()}
        end = int(places[-1]) + 1 if batch.num_rows else end
        # The file is parsed ahead, so that some of the ragged rows may belong to later batches.
        why |= {place: ragged.pop(place) for place in sorted(ragged) if place < end}
        typed = typed_batch(present, batch.take(pa.array(good)), schema.missing_values)
        yield typed, places[good], why
    if ragged:  # after the last row of the usual length
        yield typed.slice(0, 0), places[:0], ragged


def _places(start: int, rows: int, ragged: Collection[int]) -> Places:
    """(rows,) int64, the first places from `start` on that are not those of `ragged` rows."""
    places = np.arange(start, start + rows + len(ragged))
    return np.setdiff1d(places, [*ragged]).astype(np.int64)[:rows]


def find_problems(source: Source, schema: Schema) -> tuple[int, list[Problem]]:
    """Return the number of rows, and of each column whose cells do not fit what is wrong.

    Raises:
        UserError: the file cannot be read as a table with the declared columns.
    """
    advice = _advice(source, scoring=False)
    return _problems(_read_cells(source, schema, advice), schema.read_fields, schema, advice)


def read_rows(path: Path, schema: Schema) -> Iterator[dict[str, str]]:
    """Yield the cells of each row as text, those of ignored columns included, nothing checked.

    Raises:
        UserError: a column cannot be read as text.
    """
    try:
        batches, _ = _open(path, schema, schema.fields)
        for batch in batches:
            for row in batch.to_pylist():
                yield {name: (cell or b"").decode(errors="replace") for name, cell in row.items()}
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be searched for private values: {error}") from None


# --- cells to columns ------------------------------------------------------------------------


def _typed_batches(source: Source, schema: Schema, *, scoring: bool) -> Iterator[pa.RecordBatch]:
    advice = _advice(source, scoring=scoring)
    fields = _fields_for_scoring(schema) if scoring else schema.read_fields
    cells = _read_cells(source, schema, advice)
    for first, batch in cells:
        present = [field for field in fields if field.name in batch.schema.names]
        try:
            typed = typed_batch(present, batch, schema.missing_values)
            for field in present:
                if (misfit := field.order) and field.out_of_order(typed).any():
                    raise misfit
        except ValueError:
            rest = chain([(first, batch)], cells)
            _, problems = _problems(rest, present, schema, advice)
            shown = [str(problem) for problem in problems[:SHOWN_COLUMNS]]
            if more := len(problems) - len(shown):
                shown.append(f"and {more} more columns")
            raise UserError("\n".join([f"{_name(source)}: {shown[0]}", *shown[1:]])) from None
        yield typed


def _without_dropped(batch: pa.RecordBatch, schema: Schema) -> pa.RecordBatch:
    for field in schema.read_fields:
        if field.policy == "drop" and field.name in batch.schema.names:
            batch = batch.filter(batch.column(field.name).is_valid())
    return batch


def _problems(
    cells: Iterable[Cells], fields: Sequence[ReadField], schema: Schema, advice: Advice
) -> tuple[int, list[Problem]]:
    """Return the number of rows, and what is wrong with the cells of each field."""
    rows = 0
    problems = {field.name: Problem(field, advice, schema) for field in fields}
    for first, batch in cells:
        rows += batch.num_rows
        for name, bad in bad_cells(fields, batch, schema.missing_values).items():
            problems[name].extend(first, bad)
    return rows, [problem for problem in problems.values() if problem.count]


def _fields_for_scoring(schema: Schema) -> list[ReadField]:
    """The fields that features are encoded from, none of which may drop a row, and the id."""
    return [
        field.model_copy(update={"missing": "refuse"}) if field.policy == "drop" else field
        for field in schema.read_fields
        if field in schema.inputs or field is schema.id
    ]


# --- file to cells ---------------------------------------------------------------------------


def _name(source: Source) -> object:
    if isinstance(source, pa.Table):
        return "the table"
    return source if isinstance(source, str | Path) else source.name


def _advice(source: Source, *, scoring: bool) -> Advice:
    has_lines = not (isinstance(source, pa.Table) or str(_name(source)).endswith(PARQUET))
    return Advice(scoring, "line" if has_lines else "row")


def _read_cells(
    source: Source, schema: Schema, advice: Advice, ragged: dict[int, str] | None = None
) -> Iterator[Cells]:
    """Yield all columns that are read as bytes, a type in which no cell can fail.

    Args:
        ragged: takes up, by its place, what is wrong with a row of another length; None if such a
            row is a fault.
    """
    name = _name(source)
    optional = {field.name for field in schema.fields} if advice.scoring else set()
    with readable(name):
        try:
            batches, columns = _open(source, schema, schema.read_fields, ragged)
            refuse_other_columns(
                name, columns, schema, optional - {field.name for field in schema.inputs}, advice
            )
            number = first_row = advice.first_row
            for batch in batches:
                yield number, batch
                number += batch.num_rows
        except pa.ArrowInvalid as error:
            if str(name).endswith(PARQUET):
                raise UserError(f"{name}: expected a Parquet file, but: {error}.") from None
            message = parse_message(error, schema.dialect.delimiter, advice)
            raise UserError(f"{name}: {message}") from None
        if number == first_row:
            raise UserError(f"{name}: {NO_ROWS}")


def _open(
    source: Source,
    schema: Schema,
    fields: Sequence[Field],
    ragged: dict[int, str] | None = None,
) -> tuple[Iterator[pa.RecordBatch], list[str]]:
    """Return the batches of the fields' cells and the names of the file's columns."""
    names = [field.name for field in fields]
    if isinstance(source, pa.Table):
        read = [name for name in names if name in source.column_names]
        return _as_texts(source.select(read).to_batches(), schema), source.column_names
    if str(_name(source)).endswith(PARQUET):
        file = parquet.ParquetFile(source)
        columns = list(file.schema_arrow.names)
        read = [name for name in names if name in columns]
        batches = file.iter_batches(batch_size=_PARQUET_ROWS, columns=read, use_threads=False)
        return _as_texts(batches, schema), columns
    return _open_csv(source, schema, ragged)


def _open_csv(
    source: str | Path | BinaryIO, schema: Schema, ragged: dict[int, str] | None
) -> tuple[Iterator[pa.RecordBatch], list[str]]:
    refuse_other_encodings(_name(source), _start(source))
    reader = arrow_csv.open_csv(
        source,
        # One thread: the reader is serial anyway, and results must not depend on the machine.
        read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
        parse_options=arrow_csv.ParseOptions(
            delimiter=schema.dialect.delimiter,
            newlines_in_values=True,
            invalid_row_handler=None if ragged is None else _setting_aside(ragged),
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types={field.name: pa.binary() for field in schema.fields}
        ),
    )
    try:
        return iter(reader), reader.schema.names
    except UnicodeDecodeError as error:
        raise UserError(
            f"{_name(source)}: line 1: expected column names in UTF-8, but found {error.object!r}. "
            "Save the file as UTF-8 without byte order mark."
        ) from None


def _setting_aside(ragged: dict[int, str]) -> Callable[[arrow_csv.InvalidRow], str]:
    """Return a handler that takes up rows of another length and lets the rest be read."""

    def set_aside(row: arrow_csv.InvalidRow) -> str:
        expected, found = row.expected_columns, row.actual_columns
        ragged[row.number - FIRST_LINE] = f"The row has {found} cells instead of {expected}."
        return "skip"

    return set_aside


def _start(source: str | Path | BinaryIO) -> bytes:
    """The first bytes of a file or of a stream that can be looked into."""
    if isinstance(source, str | Path):
        with pa.input_stream(source) as file:
            return file.read(3)
    return source.peek(3)[:3] if isinstance(source, BufferedReader) else b""


def _as_texts(batches: Iterable[pa.RecordBatch], schema: Schema) -> Iterator[pa.RecordBatch]:
    """Yield the cells of typed columns as the bytes that a CSV file would have in their place."""
    fields = {field.name: field for field in schema.fields}
    for batch in batches:
        columns = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                columns[name] = fields[name].as_text(column).cast(pa.binary())
            except ValueError as error:
                raise pa.ArrowException(f"column `{name}` {error}") from None
        yield pa.RecordBatch.from_pydict(columns)
