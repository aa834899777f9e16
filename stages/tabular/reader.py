"""Read the private table: every cell checked against the schema, in memory that does not grow.

Values beyond the declared bounds are no errors here: `encode` clips them.

Line numbers in messages count the header as line 1 and each row as one; blank lines are skipped and
not counted.
"""

import codecs
import csv
import difflib
import json
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader, TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
from pyarrow import parquet

from stages.errors import UserError
from stages.tabular.schema import (
    MISSING,
    OTHER,
    CategoryFeature,
    CategoryLabel,
    Feature,
    Field,
    Id,
    Label,
    ReadField,
    Schema,
)

# On 10 million rows, blocks four times as large took 10 % less time and twice the memory.
_BLOCK_BYTES = 1 << 20
_PARQUET_ROWS = 1 << 14
# How much of a fault a message shows: lines, and characters of each.
_SHOWN_LINES = 5
_SHOWN_CHARACTERS = 60
_SHOWN_PROBLEMS = 20

# How files begin that are no CSV whatever they are called, and what to do about them.
OTHER_KINDS = {
    b"\x1f\x8b": "a gzip file; give it a name that ends in .csv.gz",
    b"PAR": "a Parquet file; give it a name that ends in .parquet",
    b"PK\x03": "an Excel workbook or another zip file; export it as CSV",
}
# What people write into empty cells.
LIKE_MISSING = {"na", "n/a", "null", "none", "missing", "unknown", "?", "-", "."}

# The line number of the first row, and the rows' cells as bytes.
_Cells = tuple[int, pa.RecordBatch]

PARQUET = (".parquet", ".pq")
DELIMITERS = ",;\t|"

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
    fields = _fields_for_scoring(schema) if scoring else schema.read_fields
    yield from _ahead(_typed_batches(source, schema, fields, scoring))


def read_rows(path: Path, schema: Schema) -> Iterator[dict[str, str]]:
    """Yield the cells of each row as text, those of ignored columns included, nothing checked.

    Raises:
        UserError: a column cannot be read as text.
    """
    try:
        batches, _ = _open(path, path, schema, schema.fields)
        for batch in batches:
            for row in batch.to_pylist():
                yield {name: (cell or b"").decode(errors="replace") for name, cell in row.items()}
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be searched for private values: {error}") from None


def _fields_for_scoring(schema: Schema) -> tuple[ReadField, ...]:
    fields = (field for field in schema.read_fields if not isinstance(field, Label))
    return tuple(
        field.model_copy(update={"missing": "refuse"})
        if isinstance(field, Feature) and field.missing == "drop"
        else field
        for field in fields
    )


def _ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Make the next batch on a second core while the caller works on this one."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = reader.submit(next, batches, None)
            yield batch


def _typed_batches(
    source: Source, schema: Schema, fields: Sequence[ReadField], scoring: bool
) -> Iterator[pa.RecordBatch]:
    name = _name(source)
    cells = _read_cells(source, name, schema, optional=_optional(schema) if scoring else set())
    for first_line, batch in cells:
        present = [field for field in fields if field.name in batch.schema.names]
        try:
            typed = _typed_batch(batch, present, schema.missing_values)
        except _BadColumnError as bad:
            rest = chain([(first_line, batch)], cells)
            message = _bad_cells_message(name, bad.field, rest, schema)
            raise UserError(message + (_NOT_THE_SCHEMA if scoring else "")) from None
        yield typed


def _name(source: Source) -> object:
    if isinstance(source, pa.Table):
        return "the table"
    return source if isinstance(source, str | Path) else source.name


def _optional(schema: Schema) -> set[str]:
    return {field.name for field in schema.fields if not isinstance(field, Feature)}


def _read_cells(
    source: Source, name: object, schema: Schema, optional: set[str]
) -> Iterator[_Cells]:
    """Yield all columns that are read as bytes, a type in which no cell can fail."""
    try:
        batches, columns = _open(source, name, schema, schema.read_fields)
        _refuse_other_columns(name, columns, schema, optional)
        line = first_row = 2
        for batch in batches:
            yield line, batch
            line += batch.num_rows
        if line == first_row:
            raise UserError(_no_rows_message(name))
    except pa.ArrowInvalid as error:
        raise UserError(_parse_message(source, name, schema, error)) from None
    except FileNotFoundError:
        raise UserError(
            f"{name}: no such file. It should be the table, a CSV or Parquet file: correct the "
            "path (`data` in params.yaml is that of the training), or put the file there."
        ) from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{name}: expected a table, but it cannot be read: {error}") from None


def _open(
    source: Source, name: object, schema: Schema, fields: Sequence[Field]
) -> tuple[Iterator[pa.RecordBatch], list[str]]:
    """Return the batches of the fields' cells and the names of the file's columns."""
    if isinstance(source, pa.Table):
        read = [field.name for field in fields if field.name in source.column_names]
        return _as_texts(source.select(read).to_batches(), schema), source.column_names
    if str(name).endswith(PARQUET):
        return _open_parquet(source, fields, schema)
    _refuse_other_encodings(source, name)
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
    return iter(reader), _header(name, reader)


def _open_parquet(
    source: Source, fields: Sequence[Field], schema: Schema
) -> tuple[Iterator[pa.RecordBatch], list[str]]:
    """Read a Parquet file's cells as the text that a CSV file would have in their place."""
    file = parquet.ParquetFile(source)
    columns = list(file.schema_arrow.names)
    read = [field.name for field in fields if field.name in columns]
    batches = file.iter_batches(batch_size=_PARQUET_ROWS, columns=read, use_threads=False)
    return _as_texts(batches, schema), columns


def _as_texts(batches: Iterable[pa.RecordBatch], schema: Schema) -> Iterator[pa.RecordBatch]:
    types = {field.name: getattr(field, "type", None) for field in schema.fields}
    for batch in batches:
        columns = {
            name: _as_text(name, column, types[name])
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
        yield pa.RecordBatch.from_pydict(columns)


def _as_text(name: str, column: pa.Array, declared: str | None) -> pa.Array:
    """Convert a column to the bytes that its cells would be in a CSV file."""
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


def find_problems(source: Source, schema: Schema) -> tuple[int, list[Problem]]:
    """Return the number of rows, and of each column whose cells do not fit what is wrong.

    Raises:
        UserError: the file cannot be read as a table with the declared columns.
    """
    rows = 0
    found: dict[str, list[tuple[int, bytes | None]]] = {}
    counts: Counter[str] = Counter()
    for first_line, batch in _read_cells(source, _name(source), schema, optional=set()):
        rows += batch.num_rows
        for field in schema.read_fields:
            bad = list(_bad_cells(field, [(first_line, batch)], schema.missing_values))
            counts[field.name] += len(bad)
            shown = found.setdefault(field.name, [])
            shown += bad[: _SHOWN_LINES - len(shown)]
    faulty = [field for field in schema.read_fields if counts[field.name]]
    return rows, [
        _problem(field, counts[field.name], found[field.name], schema) for field in faulty
    ]


def _problem(
    field: ReadField, cells: int, bad: Sequence[tuple[int, bytes | None]], schema: Schema
) -> Problem:
    remedies = dict.fromkeys(_remedy(cell, field, schema.missing_values) for _, cell in bad)
    return Problem(field.name, _expected(field), cells, _listing(bad).splitlines(), [*remedies])


# --- cells to columns ------------------------------------------------------------------------


class _BadColumnError(Exception):
    def __init__(self, field: ReadField) -> None:
        self.field = field


def _typed_batch(
    cells: pa.RecordBatch, fields: Sequence[ReadField], missing_values: Sequence[str]
) -> pa.RecordBatch:
    columns, dropped = {}, []
    for field in fields:
        try:
            column = _typed_column(cells.column(field.name), field, missing_values)
        except ValueError:
            raise _BadColumnError(field) from None
        columns[field.name] = column
        if _policy(field) == "drop" and column.null_count:
            dropped.append(column.is_null().to_numpy(zero_copy_only=False))
    batch = pa.RecordBatch.from_pydict(columns)
    return batch.filter(pa.array(~np.any(dropped, axis=0))) if dropped else batch


def _policy(field: ReadField) -> str:
    """What the schema says to do about a missing cell."""
    return "refuse" if isinstance(field, Id) else field.missing


def _typed_column(cells: pa.Array, field: ReadField, missing_values: Sequence[str]) -> pa.Array:
    """Convert the bytes of a column, or raise ValueError (as pyarrow does) if any cell is bad."""
    looked_for = cells.null_count or not _fails_by_itself(field, missing_values)
    missing = _missing(cells, missing_values) if looked_for else None
    if missing is not None:
        if _policy(field) == "refuse":
            raise ValueError("missing")
        cells = pc.if_else(missing, pa.scalar(None, pa.binary()), cells)
    if isinstance(field, CategoryFeature | CategoryLabel):
        return _codes(cells, field)
    if isinstance(field, Id) and field.type == "string":
        return cells.cast(pa.string())
    column = cells.cast(pa.int64() if isinstance(field, Id) else pa.float64())
    numbers: npt.NDArray[np.float64] = column.drop_null().to_numpy()
    if not np.isfinite(numbers).all():
        raise ValueError("not finite")
    if field.type == "integer" and (numbers != np.rint(numbers)).any():
        raise ValueError("not whole")
    return column


def _fails_by_itself(field: ReadField, missing_values: Sequence[str]) -> bool:
    """Whether a missing cell is refused without a look: blank is no number and no category."""
    takes_anything = isinstance(field, Id) or (isinstance(field, CategoryFeature) and field.other)
    return not takes_anything and _policy(field) == "refuse" and {*missing_values} <= {""}


def _missing(cells: pa.Array, missing_values: Sequence[str]) -> pa.Array | None:
    """Which cells stand for a missing value; None if none does."""
    values = pa.array([text.encode() for text in missing_values], pa.binary())
    missing = pc.is_in(cells, value_set=values) if missing_values else pc.is_null(cells)
    if cells.null_count:
        missing = pc.or_(missing, pc.is_null(cells))
    return missing if pc.any(missing).as_py() else None


def _codes(cells: pa.Array, field: CategoryFeature | CategoryLabel) -> pa.Array:
    enum = field.constraints.enum
    codes = pc.index_in(cells, value_set=pa.array([text.encode() for text in enum]))
    if isinstance(field, CategoryLabel):
        levels: Sequence[str] = enum
    else:
        levels = field.levels
        if field.other:
            cells.cast(pa.string())  # a text in another character set is a fault, not another text
            unknown = pc.and_(codes.is_null(), pc.invert(cells.is_null()))
            codes = pc.if_else(unknown, pa.scalar(levels.index(OTHER), pa.int32()), codes)
        if field.missing == "category":
            codes = pc.if_else(cells.is_null(), pa.scalar(levels.index(MISSING), pa.int32()), codes)
    if codes.null_count > cells.null_count:
        raise ValueError("unknown category")
    return pa.DictionaryArray.from_arrays(codes, pa.array(levels))


# --- what is wrong with the cells ------------------------------------------------------------


def _bad_cells_message(
    path: object, field: ReadField, batches: Iterable[_Cells], schema: Schema
) -> str:
    bad = list(islice(_bad_cells(field, batches, schema.missing_values), _SHOWN_LINES))
    problem = _problem(field, len(bad), bad, schema)
    return "\n".join(
        [
            f"{path}: column `{field.name}`: expected {problem.expected}, but found",
            *problem.examples,
            *problem.remedies,
        ]
    )


def _bad_cells(
    field: ReadField, batches: Iterable[_Cells], missing_values: Sequence[str]
) -> Iterator[tuple[int, bytes | None]]:
    """Yield (line, cell) of the cells that do not fit the field."""
    for first_line, batch in batches:
        column = batch.column(field.name)
        if _fits(column, field, missing_values):
            continue
        for row in range(len(column)):
            if not _fits(column.slice(row, 1), field, missing_values):
                yield first_line + row, column[row].as_py()


def _fits(cells: pa.Array, field: ReadField, missing_values: Sequence[str]) -> bool:
    try:
        _typed_column(cells, field, missing_values)
    except ValueError:
        return False
    return True


def _expected(field: ReadField) -> str:
    """What a cell of the field should be, in words."""
    if isinstance(field, CategoryFeature | CategoryLabel):
        return "one of " + ", ".join(f"`{text}`" for text in field.constraints.enum)
    if isinstance(field, Id):
        return "an id in every row"
    return "a whole number" if field.type == "integer" else "a number"


def _remedy(cell: bytes | None, field: ReadField, missing_values: Sequence[str]) -> str:
    """What to do about a cell that does not fit the field."""
    try:
        text = (cell or b"").decode()
    except UnicodeDecodeError:
        return "Some bytes are not UTF-8: save the file as UTF-8 without byte order mark."
    if not text.strip() or text in missing_values:
        policy = "" if isinstance(field, Id) else ", or say in the schema what `missing` means"
        return (
            "Missing values are not accepted here: fill in the empty cells or leave out their rows"
            f"{policy}."
        )
    if text.strip().lower() in LIKE_MISSING:
        return f"If {text!r} is a missing value, name it in the schema's `missingValues`."
    if isinstance(field, CategoryFeature | CategoryLabel):
        other = ", or set `other` there" if isinstance(field, CategoryFeature) else ""
        return f"Correct the cells, or add the values to the `enum` in the schema{other}."
    return _remedy_of_number(text)


def _remedy_of_number(text: str) -> str:
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


def _refuse_other_encodings(source: Source, path: object) -> None:
    if isinstance(source, str | Path):
        with pa.input_stream(source) as file:
            start: bytes = file.read(3)
    else:
        start = source.peek(3)[:3] if isinstance(source, BufferedReader) else b""
    for mark, kind in OTHER_KINDS.items():
        if start.startswith(mark):
            raise UserError(f"{path}: expected CSV, but this is {kind}.")
    marks = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if start.startswith(marks) or b"\0" in start:
        raise UserError(
            f"{path}: expected plain UTF-8, but the file begins with the bytes {start.hex(' ')}, a "
            "byte order mark or UTF-16. Save it as UTF-8 without byte order mark."
        )


def _header(path: object, reader: arrow_csv.CSVStreamingReader) -> list[str]:
    try:
        names: list[str] = reader.schema.names
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: line 1: expected column names in UTF-8, but found {error.object!r}. Save the "
            "file as UTF-8 without byte order mark."
        ) from None
    return names


def _refuse_other_columns(
    path: object, found: list[str], schema: Schema, optional: Container[str]
) -> None:
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
    if len(found) == 1 and (others := [d for d in DELIMITERS if d in found[0]]):
        problems = [f"{_shown(found[0])} looks like several: {_declare(others[0])}"]
    problems += [
        f"`{name}` occurs {count} times: keep one of the columns."
        for name, count in Counter(found).items()
        if count > 1 and name in declared
    ]
    if problems:
        raise UserError(
            f"{path}: line 1: expected the columns that the schema declares, in any order, but\n"
            + "\n".join(f"  column {problem}" for problem in problems[:_SHOWN_PROBLEMS])
            + (f"\n  and {more} more" if (more := len(problems) - _SHOWN_PROBLEMS) > 0 else "")
        )


def _declare(delimiter: str) -> str:
    shown = json.dumps({"dialect": {"delimiter": delimiter}})[1:-1]
    return f"if the file is separated by {delimiter!r}, put {shown} into the schema."


def _near_miss(name: str, candidates: Sequence[str]) -> str:
    spellings = {candidate.strip().lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), spellings, n=1)
    return f" (is {_shown(spellings[near[0]])} meant?)" if near else ""


def _no_rows_message(path: object) -> str:
    return (
        f"{path}: expected a header line and then one line per row, but there are no rows. Is this "
        "the right file?"
    )


def _parse_message(source: Source, path: object, schema: Schema, error: pa.ArrowInvalid) -> str:
    if "Empty CSV" in str(error):
        return _no_rows_message(path)
    if str(path).endswith(PARQUET):
        return f"{path}: expected a Parquet file, but: {error}."
    delimiter = schema.dialect.delimiter
    # A stream cannot be read again.
    width, ragged = _ragged_lines(source, delimiter) if isinstance(source, str | Path) else (0, [])
    if not ragged:
        return (
            f"{path}: expected values separated by {delimiter!r}, but: {error}. Mend the place it "
            "names."
        )
    header = _first_line(str(source))
    if width == 1 and (others := [d for d in DELIMITERS if d in header]):
        return f"{path}: line 1 is {_shown(header)}: {_declare(others[0])}"
    return (
        f"{path}: expected {width} cells in each line, as in the header, but found\n"
        + _listing(ragged)
        + f"\nMend these lines; a cell that contains {delimiter!r} or a quote belongs in double "
        "quotes."
    )


def _first_line(path: str) -> str:
    with pa.input_stream(path) as file:
        start: bytes = file.read(_SHOWN_CHARACTERS * 4)
    return start.decode("utf-8", "replace").splitlines()[0]


def _ragged_lines(path: str | Path, delimiter: str) -> tuple[int, list[tuple[int, str]]]:
    """Return the header's width and the first (line, text) of other widths.

    A second, slower parser, for the message alone. (pyarrow's own handler of invalid rows prints a
    traceback if such a row is not UTF-8.)
    """
    # pyarrow unpacks a file with the name of a compressed one, so its bytes come from pyarrow here.
    with TextIOWrapper(
        pa.input_stream(path), encoding="utf-8", errors="backslashreplace", newline=""
    ) as file:
        records = (record for record in csv.reader(file, delimiter=delimiter) if record)
        try:
            width = len(next(records, []))
            ragged = (
                (line, delimiter.join(record))
                for line, record in enumerate(records, start=2)
                if len(record) != width
            )
            return width, list(islice(ragged, _SHOWN_LINES))
        except csv.Error:
            return 0, []


def _listing(lines: Iterable[tuple[int, str | bytes | None]]) -> str:
    return "\n".join(f"  line {line}: {_shown(content)}" for line, content in lines)


def _shown(content: str | bytes | None) -> str:
    """The content in quotes, as text if it is text, and cut if it is long."""
    if content is None:
        return "nothing"
    if isinstance(content, bytes):
        with suppress(UnicodeDecodeError):
            content = content.decode()
    dots = "…" if len(content) > _SHOWN_CHARACTERS else ""
    return f"{content[:_SHOWN_CHARACTERS]!r}{dots}"
