"""Read the private table: every cell checked against the schema, in memory that does not grow.

Values beyond the declared bounds are no errors here: `encode` clips them.

Line numbers in messages count the header as line 1 and each row as one; blank lines are skipped and
not counted.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, TypeAlias

import pyarrow as pa
import pyarrow.csv as arrow_csv
from pyarrow import parquet

from stages.errors import UserError
from stages.tabular.fields import Feature, Field, Label, ReadField
from stages.tabular.problems import (
    NO_ROWS,
    SHOWN_LINES,
    Cells,
    Problem,
    bad_cells,
    parse_message,
    refuse_other_columns,
    refuse_other_encodings,
)
from stages.tabular.schema import Schema

# On 10 million rows, blocks four times as large took 10 % less time and twice the memory.
_BLOCK_BYTES = 1 << 20
_PARQUET_ROWS = 1 << 14

PARQUET = (".parquet", ".pq")

# What to make of advice about the schema where a model is used.
_NOT_THE_SCHEMA = "\nThe schema is the model's and stays as it is: correct the rows."

# Path of a file, a binary stream of CSV, or a table in memory.
Source: TypeAlias = "str | Path | BinaryIO | pa.Table"


def read_batches(
    source: Source, schema: Schema, *, scoring: bool = False
) -> Iterator[pa.RecordBatch]:
    """Stream the rows of a table as typed batches, in the file's order.

    Args:
        source: path of a CSV file (plain, or compressed if it is called .gz) or of a Parquet file,
            a binary stream of CSV, or a table in memory.
        scoring: the rows are to be predicted: label and id may be absent and a label is not read,
            and a row that training would leave out is refused, because each has to have an answer.

    Yields:
        Batches of about a megabyte of text, with one column per field that is read, in schema
        order: float64 for numbers (finite; whole if declared `integer`; null if missing), for
        categories a dictionary array whose codes are positions in the field's levels, for a text
        label in its `enum`, and for ids int64 or text. Rows that the schema says to drop are left
        out.

    Raises:
        UserError: the file cannot be read, is no UTF-8 CSV or Parquet with exactly the declared
            columns, has no rows, or has a cell that the schema does not allow. The message shows
            the first bad lines.
    """
    with ThreadPoolExecutor(1) as reader:  # the next batch, on a second core
        batches = _typed_batches(source, schema, scoring=scoring)
        following = reader.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = reader.submit(next, batches, None)
            yield batch


def find_problems(source: Source, schema: Schema) -> tuple[int, list[Problem]]:
    """Return the number of rows, and of each column whose cells do not fit what is wrong.

    Raises:
        UserError: the file cannot be read as a table with the declared columns.
    """
    rows, problems = 0, [Problem(field) for field in schema.read_fields]
    for line, batch in _read_cells(source, schema):
        rows += batch.num_rows
        for field, problem in zip(schema.read_fields, problems, strict=True):
            problem.extend(bad_cells(field, [(line, batch)], schema.missing_values))
    return rows, [problem for problem in problems if problem.count]


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
    fields = _fields_for_scoring(schema) if scoring else schema.read_fields
    optional = {f.name for f in schema.fields if not isinstance(f, Feature)} if scoring else ()
    cells = _read_cells(source, schema, optional)
    for line, batch in cells:
        present = [field for field in fields if field.name in batch.schema.names]
        columns = {}
        for field in present:
            try:
                columns[field.name] = field.read(batch.column(field.name), schema.missing_values)
            except ValueError:
                rest = chain([(line, batch)], cells)
                first = islice(bad_cells(field, rest, schema.missing_values), SHOWN_LINES)
                message = f"{_name(source)}: {Problem(field, first)}"
                raise UserError(message + (_NOT_THE_SCHEMA if scoring else "")) from None
        typed = pa.RecordBatch.from_pydict(columns)
        for field in present:
            if field.policy == "drop":
                typed = typed.filter(typed.column(field.name).is_valid())
        yield typed


def _fields_for_scoring(schema: Schema) -> list[ReadField]:
    return [
        field.model_copy(update={"missing": "refuse"}) if field.policy == "drop" else field
        for field in schema.read_fields
        if not isinstance(field, Label)
    ]


# --- file to cells ---------------------------------------------------------------------------


def _name(source: Source) -> object:
    if isinstance(source, pa.Table):
        return "the table"
    return source if isinstance(source, str | Path) else source.name


def _read_cells(source: Source, schema: Schema, optional: Collection[str] = ()) -> Iterator[Cells]:
    """Yield all columns that are read as bytes, a type in which no cell can fail."""
    name = _name(source)
    try:
        batches, columns = _open(source, schema, schema.read_fields)
        refuse_other_columns(name, columns, schema, optional)
        line = first_row = 2
        for batch in batches:
            yield line, batch
            line += batch.num_rows
        if line == first_row:
            raise UserError(f"{name}: {NO_ROWS}")
    except pa.ArrowInvalid as error:
        if str(name).endswith(PARQUET):
            raise UserError(f"{name}: expected a Parquet file, but: {error}.") from None
        message = parse_message(error, schema.dialect.delimiter)
        raise UserError(f"{name}: {message}") from None
    except FileNotFoundError:
        raise UserError(
            f"{name}: no such file. It should be the table, a CSV or Parquet file: correct the "
            "path (for training, `data` in params.yaml), or put the file there."
        ) from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{name}: expected a table, but it cannot be read: {error}") from None


def _open(
    source: Source, schema: Schema, fields: Sequence[Field]
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
    return _open_csv(source, schema)


def _open_csv(
    source: str | Path | BinaryIO, schema: Schema
) -> tuple[Iterator[pa.RecordBatch], list[str]]:
    refuse_other_encodings(_name(source), _start(source))
    reader = arrow_csv.open_csv(
        source,
        # One thread: the reader is serial anyway, and results must not depend on the machine.
        read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
        parse_options=arrow_csv.ParseOptions(
            delimiter=schema.dialect.delimiter, newlines_in_values=True
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


def _start(source: str | Path | BinaryIO) -> bytes:
    """The first bytes of a file or of a stream that can be looked into."""
    if isinstance(source, str | Path):
        with pa.input_stream(source) as file:
            return file.read(3)
    return source.peek(3)[:3] if isinstance(source, BufferedReader) else b""


def _as_texts(batches: Iterable[pa.RecordBatch], schema: Schema) -> Iterator[pa.RecordBatch]:
    """Yield the cells of typed columns as the text that a CSV file would have in their place."""
    types = {field.name: field.type for field in schema.fields}
    for batch in batches:
        columns = zip(batch.schema.names, batch.columns, strict=True)
        yield pa.RecordBatch.from_pydict(
            {name: _as_text(name, column, types[name]) for name, column in columns}
        )


def _as_text(name: str, column: pa.Array, declared: str | None) -> pa.Array:
    # 1.0 and true may stand for "1", "1.0", "True" …: which of them, only the owner knows.
    ambiguous = pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
    if declared == "string" and ambiguous:
        raise pa.ArrowException(
            f"column `{name}` is declared as text, but is of type {column.type}. Convert it to the "
            "texts that the schema declares."
        )
    try:
        return column.cast(pa.string()).cast(pa.binary())
    except pa.ArrowNotImplementedError:
        raise pa.ArrowException(
            f"column `{name}` is of type {column.type}, which is no number, text or boolean. "
            "Convert the column."
        ) from None
