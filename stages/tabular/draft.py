"""Write a first schema from a table that its owner declares public; every guess is marked."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.errors import UserError
from stages.tabular.problems import DELIMITERS
from stages.tabular.reader import PARQUET

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
    try:
        delimiter, texts = _read_texts(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path}: expected a CSV or Parquet table, but: {error}") from None
    missing = [text for text in MISSING_VALUES if (texts == text).any(axis=None)]
    schema: dict[str, Any] = {"fields": [_field(texts[name], missing) for name in texts]}
    if missing not in ([], [""]):
        schema["missingValues"] = missing
    if delimiter != ",":
        schema["dialect"] = {"delimiter": delimiter}
    return schema


def _read_texts(path: str | Path) -> tuple[str, pd.DataFrame]:
    """Return the delimiter and all columns as text, an empty cell as an empty text."""
    if str(path).endswith(PARQUET):
        frame = pd.read_parquet(path, dtype_backend="pyarrow")
        return ",", frame.astype("string").fillna("")
    with pa.input_stream(path) as file:
        start = file.read(1 << 16).decode("utf-8", "replace")
    try:
        delimiter = csv.Sniffer().sniff(start, DELIMITERS).delimiter
    except csv.Error:  # a single column
        delimiter = ","
    return delimiter, pd.read_csv(path, sep=delimiter, dtype="string", keep_default_na=False)


def _field(texts: "pd.Series[str]", missing: list[str]) -> dict[str, Any]:
    present = texts[~texts.isin(missing)]
    field = {"name": texts.name, **_declaration(present)}
    if field.get("role") is None and len(present) < len(texts):
        field["missing"] = "category" if field["type"] == "string" else "midpoint"
        field["confirm"] = [*field["confirm"], "missing"]
    return field


def _declaration(texts: "pd.Series[str]") -> dict[str, Any]:
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if numbers.size and np.isfinite(numbers).all():
        return _number(numbers)
    values = sorted(texts.unique())
    if 2 <= len(values) <= MOST_VALUES:
        return {"type": "string", "constraints": {"enum": values}, "confirm": ["enum"]}
    if len(values) > MOST_VALUES and len(values) == len(texts):
        return {"type": "string", "role": "id", "confirm": ["role"]}
    return {"type": "string", "role": "ignored"}


def _number(numbers: np.ndarray) -> dict[str, Any]:
    low, high = float(numbers.min()), float(numbers.max())
    # Outwards to a round number, because the field's bounds are rounder than what its rows reach.
    step = 10.0 ** math.floor(math.log10((high - low) or 1))
    return {
        "type": "integer" if (numbers == np.rint(numbers)).all() else "number",
        "constraints": {
            "minimum": round(math.floor(low / step) * step, 12),
            "maximum": round(math.floor(high / step + 1) * step, 12),
        },
        "confirm": ["minimum", "maximum"],
    }
