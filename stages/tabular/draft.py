"""Write a first schema from a table that its owner declares public; every guess is marked."""

import csv
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from stages.errors import UserError
from stages.explain import quoted
from stages.tabular.fields import KINDS, Feature, choices
from stages.tabular.problems import DELIMITERS, MISSING
from stages.tabular.reader import PARQUET

# Fewer different values than this name no rows.
FEWEST_NAMES = 50
# The names of columns that number rows, and the last words of those that name them.
NUMBERS_ROWS = re.compile(r"|unnamed: 0|rownames?|row|index", re.IGNORECASE)
NAMES_ROWS = re.compile(r"(.*[\W_])?(id|pid|mrn|nr|key|patient|subject|person|case)", re.IGNORECASE)
# Whole numbers of so many digits, all of one length, are those of people or cases.
DIGITS_OF_A_NUMBER = 5

IGNORED = {"confirm": ["role"], "role": "ignored"}


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
    every = {text for name in texts for text in texts[name].unique()}
    missing = sorted({"", *(text for text in every if text.strip().lower() in MISSING)})
    declared = {name: _declaration(texts[name], missing) for name in texts}
    _keep_one_id(declared, texts)
    schema: dict[str, Any] = {"fields": [{"name": name} | declared[name] for name in texts]}
    if missing != [""]:
        schema["missingValues"] = missing
    if delimiter != ",":
        schema["dialect"] = {"delimiter": delimiter}
    return schema


def as_text(schema: Mapping[str, Any]) -> str:
    """Return a schema as JSON with one key of a field on a line, so that a guess is one line."""
    fields = ",\n".join(
        "    {\n" + ",\n".join(f"      {line}" for line in _lines(field)) + "\n    }"
        for field in schema["fields"]
    )
    rest = {key: value for key, value in schema.items() if key != "fields"}
    return (
        ",\n".join([f'{{\n  "fields": [\n{fields}\n  ]', *(f"  {x}" for x in _lines(rest))]) + "\n}"
    )


def _lines(content: Mapping[str, Any]) -> list[str]:
    return [
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in content.items()
    ]


def _read_texts(path: str | Path) -> tuple[str, pd.DataFrame]:
    """Return the delimiter and all columns as text, an empty cell as an empty text."""
    if str(path).endswith(PARQUET):
        texts = pd.read_parquet(path, dtype_backend="pyarrow").astype("string").fillna("")
        return ",", texts.replace(r"[ T]00:00:00(\.0+)?$", "", regex=True)  # of dates
    with pa.input_stream(path) as file:
        start = file.read(1 << 16).decode("utf-8", "replace")
    try:
        delimiter = csv.Sniffer().sniff(start, DELIMITERS).delimiter
    except csv.Error:  # a single column
        delimiter = ","
    # Without a header, because pandas would give unnamed and repeated columns other names.
    cells = pd.read_csv(path, sep=delimiter, header=None, dtype="string", keep_default_na=False)
    texts = cells[1:].set_axis(cells.iloc[0].tolist(), axis=1)
    if twice := texts.columns[texts.columns.duplicated()].tolist():
        raise ValueError(f"{quoted(twice)} is the name of more than one column. Rename them")
    return delimiter, texts


def _keep_one_id(declared: dict[str, dict[str, Any]], texts: pd.DataFrame) -> None:
    """Ignore all ids but that of which there are fewest: of visits and people, the people."""
    ids = [name for name, field in declared.items() if field.get("role") == "id"]
    for name in sorted(ids, key=lambda name: texts[name].nunique())[1:]:
        declared[name] = IGNORED


def _declaration(texts: "pd.Series[str]", missing: Collection[str]) -> dict[str, Any]:
    present = texts[~texts.isin(missing)]
    values = present.unique().tolist()
    drafts = (
        (kind, declared)
        for kind in KINDS.values()
        if issubclass(kind, Feature) and values and (declared := kind.draft(values))
    )
    free_text: dict[str, Any] = {"type": "string"}
    kind, declared = next(drafts, (None, free_text))
    name = str(texts.name)
    names_rows = declared["type"] in ("integer", "string") and _names_rows(name, present, values)
    if kind is None or names_rows:
        is_id = names_rows and len(present) == len(texts) and not NUMBERS_ROWS.fullmatch(name)
        return _id(repeated=len(values) < len(texts)) if is_id else IGNORED
    if len(present) < len(texts):
        declared["missing"] = choices(kind, "missing")[-1]
        declared["confirm"] = [*declared["confirm"], "missing"]
    return declared


def _names_rows(name: str, present: "pd.Series[str]", values: Collection[str]) -> bool:
    """Whether a column's values seem to be of rows or people, and not of anything about them."""
    lengths = {len(value) if value.isdigit() else 0 for value in values}
    numbered = len(lengths) == 1 and min(lengths) >= DIGITS_OF_A_NUMBER
    named = NAMES_ROWS.fullmatch(name) or numbered or len(values) == len(present)
    return bool(named) and len(values) >= FEWEST_NAMES


def _id(*, repeated: bool) -> dict[str, Any]:
    if repeated:
        return {"confirm": ["role", "repeated"], "role": "id", "repeated": "keep one"}
    return {"confirm": ["role"], "role": "id"}
