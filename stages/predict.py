"""Predict new rows with a trained model: from the command line, or from Python.

    from stages.predict import load
    probabilities = load("models/classifier").predict_proba(frame)  # (rows, classes)

Rows are checked and encoded as in training, by the schema that is stored with the model; they need
no label, and what they hold is never stored.
"""

import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any, get_args

import pyarrow as pa
import pyarrow.csv as arrow_csv
from pyarrow import parquet
from threadpoolctl import threadpool_limits

from stages.commands import new_parser, run
from stages.errors import UserError
from stages.files import whole_file
from stages.model.classifier import Classifier, OnError, load
from stages.tabular.reader import PARQUET, Source

__all__ = ["Classifier", "load"]

SOME_UNANSWERED = 3


def main() -> None:
    parser = new_parser(__doc__, "python -m stages.predict patients.csv > predictions.csv")
    parser.add_argument("table", help="CSV or Parquet file of rows to predict; - reads CSV")
    parser.add_argument(
        "--model", default="models/classifier", help="folder of it (default: %(default)s)"
    )
    parser.add_argument("--output", help="CSV or Parquet file to write; without it, CSV is printed")
    parser.add_argument(
        "--on-error",
        choices=get_args(OnError),
        default="stop",
        help="what to do about rows that cannot be read: stop, or skip them, which gives the "
        "reason in the column `error` instead of an answer and ends with status 3",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        help="with two classes, call a row the second if its probability is above this; the report "
        "says what follows from some thresholds (without it: the most probable class)",
    )
    arguments = parser.parse_args()
    threadpool_limits(1)  # more threads hurt on a busy machine
    source: Source = sys.stdin.buffer if arguments.table == "-" else arguments.table
    classifier = load(arguments.model)
    if arguments.threshold is not None:
        _check(arguments.threshold, len(classifier.classes_))
    tables = classifier.tables(source, threshold=arguments.threshold, on_error=arguments.on_error)
    output: str | None = arguments.output
    if not output:
        rows, answered = _write(tables, sys.stdout.buffer, arrow_csv.CSVWriter)
    elif output.endswith(".gz"):
        raise UserError("--output: compressed files are not written. Name a .csv or .parquet.")
    else:
        writer = parquet.ParquetWriter if output.endswith(PARQUET) else arrow_csv.CSVWriter
        with whole_file(output) as scratch:
            rows, answered = _write(tables, str(scratch), writer)
    if answered < rows:
        sys.stdout.flush()
        told = f"{rows - answered} of {rows} rows could not be read and have no answer; why not,"
        print(told, "their column `error` says.", file=sys.stderr)
        raise SystemExit(SOME_UNANSWERED)


def _check(threshold: float, classes: int) -> None:
    if classes > 2:
        raise UserError(
            f"--threshold: goes with two classes, and this model tells {classes} apart. Leave it "
            "out, and choose by the probabilities of each class."
        )
    if not 0 <= threshold <= 1:
        raise UserError(
            f"--threshold: expected a probability from 0 to 1, but is {threshold:g}. "
            "plots/report.md has a table of what some of them do."
        )


def _write(tables: Iterator[pa.Table], sink: Any, open_writer: Any) -> tuple[int, int]:
    """Write tables and return how many rows there are, and how many have an answer."""
    first = next(tables)  # a table without rows has been refused by now
    rows = answered = 0
    with open_writer(sink, first.schema) as writer:
        for table in chain([first], tables):
            writer.write(table)
            rows += table.num_rows
            answered += table.num_rows - table.column("label").null_count
    return rows, answered


if __name__ == "__main__":
    run(main)
