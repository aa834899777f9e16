"""Write a first schema from a table that its owner declares public; every guess is marked."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
from pyarrow import parquet

from stages.errors import UserError
from stages.tabular.reader import DELIMITERS, PARQUET

# More different texts than this are no vocabulary.
MOST_VALUES = 50
# What people write into empty cells.
MISSING_VALUES = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", "-", ".")


def draft_schema(path: str | Path) -> dict[str, Any]:
    """Return the content of a schema file that fits a public table, without a label.

    A field's `confirm` lists what was guessed from the rows; `Schema.load` refuses it until the
    owner has looked at each guess and removed the mark.

    Raises:
        UserError: the file cannot be read as a table.
    """
    delimiter, table = _read_texts(path)
    missing = [
        text
        for text in MISSING_VALUES
        if any(pc.any(pc.equal(column, text)).as_py() for column in table.columns)
    ]
    fields = [_field(name, table.column(name), missing) for name in table.column_names]
    schema: dict[str, Any] = {"fields": fields}
    if missing not in ([], [""]):
        schema["missingValues"] = missing
    if delimiter != ",":
        schema["dialect"] = {"delimiter": delimiter}
    return schema


def _read_texts(path: str | Path) -> tuple[str, pa.Table]:
    """Return the delimiter and all columns as text, an empty cell as an empty text."""
    try:
        if str(path).endswith(PARQUET):
            table = parquet.read_table(path)
            texts = {name: table.column(name).cast(pa.string()) for name in table.column_names}
            return ",", pa.table({name: pc.fill_null(text, "") for name, text in texts.items()})
        with pa.input_stream(path) as file:
            start = file.read(1 << 16).decode("utf-8", "replace")
        try:
            delimiter = csv.Sniffer().sniff(start, DELIMITERS).delimiter
        except csv.Error:  # a single column
            delimiter = ","
        parse = arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        names = arrow_csv.open_csv(path, parse_options=parse).schema.names
        types = dict.fromkeys(names, pa.string())
        convert = arrow_csv.ConvertOptions(column_types=types)
        return delimiter, arrow_csv.read_csv(path, parse_options=parse, convert_options=convert)
    except (OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path}: expected a CSV or Parquet table, but: {error}") from None


def _field(name: str, texts: pa.ChunkedArray, missing: list[str]) -> dict[str, Any]:
    present = texts.filter(pc.invert(pc.is_in(texts, value_set=pa.array(missing, pa.string()))))
    field = {"name": name, **_declaration(present)}
    if field.get("role") is None and len(present) < len(texts):
        field["missing"] = "category" if field["type"] == "string" else "midpoint"
        field["confirm"] = [*field["confirm"], "missing"]
    return field


def _declaration(texts: pa.ChunkedArray) -> Mapping[str, Any]:
    try:
        numbers = texts.cast(pa.float64())
        if len(texts) and pc.all(pc.is_finite(numbers)).as_py():
            return _number(numbers)
    except pa.ArrowInvalid:
        pass
    values = sorted(texts.unique().to_pylist())
    if 2 <= len(values) <= MOST_VALUES:
        return {"type": "string", "constraints": {"enum": values}, "confirm": ["enum"]}
    if len(values) > MOST_VALUES and len(values) == len(texts):
        return {"type": "string", "role": "id", "confirm": ["role"]}
    return {"type": "string", "role": "ignored"}


def _number(numbers: pa.ChunkedArray) -> Mapping[str, Any]:
    low, high = (pc.min_max(numbers)[end].as_py() for end in ("min", "max"))
    whole = pc.all(pc.equal(numbers, pc.round(numbers))).as_py()
    # Outwards to a round number, because the field's bounds are rounder than what its rows reach.
    step = 10.0 ** math.floor(math.log10((high - low) or 1))
    return {
        "type": "integer" if whole else "number",
        "constraints": {
            "minimum": round(math.floor(low / step) * step, 12),
            "maximum": round(math.floor(high / step + 1) * step, 12),
        },
        "confirm": ["minimum", "maximum"],
    }
