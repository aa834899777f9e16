"""Predict new rows with a trained model: from the command line, or from Python.

    from stages.predict import load
    probabilities = load("models/classifier").predict_proba(frame)  # (rows, classes)

Rows are checked and encoded as in training, by the schema that is stored with the model; they need
no label, and what they hold is never stored.
"""

import sys
from typing import get_args

from threadpoolctl import threadpool_limits

from stages.commands import new_parser, run
from stages.model.answers import refuse_to_replace, write_answers
from stages.model.classifier import Classifier, OnError, load
from stages.tabular.reader import Source

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
    refuse_to_replace(arguments.table, arguments.output)
    threadpool_limits(1)  # more threads hurt on a busy machine
    source: Source = sys.stdin.buffer if arguments.table == "-" else arguments.table
    tables = load(arguments.model).tables(
        source, threshold=arguments.threshold, on_error=arguments.on_error
    )
    rows, answered = write_answers(tables, arguments.output)
    if answered < rows:
        sys.stdout.flush()
        told = f"{rows - answered} of {rows} rows could not be read and have no answer; why not,"
        print(told, "their column `error` says.", file=sys.stderr)
        raise SystemExit(SOME_UNANSWERED)


if __name__ == "__main__":
    run(main)
