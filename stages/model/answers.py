"""Predictions as a file or on standard output, a batch at a time."""

import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
from pyarrow import parquet

from stages.errors import UserError
from stages.files import whole_file
from stages.tabular.reader import PARQUET


def refuse_to_replace(table: str, output: str | None) -> None:
    """Make sure that answers are written elsewhere than into the table that they are about.

    Raises:
        UserError: the file is the same, be it by another name.
    """
    if output and Path(table).exists() and Path(output).exists() and Path(output).samefile(table):
        raise UserError(
            f"--output {output}: that is the table itself, which would be lost. Name another file."
        )


def write_answers(tables: Iterator[pa.Table], output: str | None) -> tuple[int, int]:
    """Write `Classifier.tables`; return how many rows there are, and how many have an answer.

    Args:
        tables: at least one.
        output: name of a CSV or Parquet file, written whole or not at all; None prints CSV.

    Raises:
        UserError: the name is that of another kind of file.
    """
    if not output:
        return _write(tables, sys.stdout.buffer, arrow_csv.CSVWriter)
    if output.endswith(".gz"):
        raise UserError("--output: compressed files are not written. Name a .csv or .parquet.")
    writer = parquet.ParquetWriter if output.endswith(PARQUET) else arrow_csv.CSVWriter
    with whole_file(output) as scratch:
        return _write(tables, str(scratch), writer)


def _write(tables: Iterator[pa.Table], sink: Any, open_writer: Any) -> tuple[int, int]:
    first = next(tables)  # a table without rows has been refused by now
    rows = answered = 0
    with open_writer(sink, first.schema) as writer:
        for table in chain([first], tables):
            writer.write(table)
            rows += table.num_rows
            answered += table.num_rows - table.column("label").null_count
    return rows, answered
