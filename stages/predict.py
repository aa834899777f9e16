"""Predict new rows with a trained model: from the command line, or from Python.

    python -m stages.predict --model models/classifier patients.csv > predictions.csv

    from stages.predict import load
    probabilities = load("models/classifier").predict_proba(frame)  # (rows, classes)

Rows are checked and encoded as in training, by the schema that is stored with the model; they need
no label, and what they hold is never stored.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as arrow_csv
from pyarrow import parquet
from threadpoolctl import threadpool_limits

from stages.commands import run
from stages.errors import UserError
from stages.files import whole_file
from stages.model.files import load_model
from stages.model.perceptron import Model, predict_probabilities
from stages.tabular.encode import encode
from stages.tabular.reader import PARQUET, Source, read_batches
from stages.tabular.schema import Schema


@dataclass(frozen=True)
class Classifier:
    """A trained model, in scikit-learn's shape.

    Attributes:
        model: the network.
        schema: how a row is checked and encoded.
    """

    model: Model
    schema: Schema

    @property
    def classes_(self) -> npt.NDArray[np.str_]:
        """Names of the classes, in the order of the columns of `predict_proba`."""
        return np.array(self.schema.class_names)

    def predict_proba(self, frame: Any) -> npt.NDArray[np.float64]:
        """Return the probabilities (rows, classes) of a table held in memory.

        Args:
            frame: a pandas or polars DataFrame, a pyarrow Table, or a dictionary of columns.

        Raises:
            UserError: a column is missing or unknown, or a cell does not fit the schema.
        """
        if hasattr(frame, "reset_index"):
            frame = frame.reset_index(drop=True)  # pandas' index would arrive as one more column
        scored = [probabilities for _, probabilities in self.stream(pa.table(frame))]
        return np.concatenate(scored)

    def predict(self, frame: Any) -> npt.NDArray[np.str_]:
        """Return the most probable class (rows,) of each row; see `predict_proba`."""
        return self.classes_[self.predict_proba(frame).argmax(axis=1)]

    def stream(self, source: Source) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.float64]]]:
        """Yield the rows of a table, as read, and their probabilities, a batch at a time."""
        for batch in read_batches(source, self.schema, scoring=True):
            features = encode(batch, self.schema)
            probabilities = np.concatenate(list(predict_probabilities(self.model, features)))
            if not np.isfinite(probabilities).all():
                raise UserError(
                    "the model's answers are no numbers: its weights overflow. Use another model."
                )
            yield batch, probabilities


def load(folder: str | Path) -> Classifier:
    """Read a trained model. Its files are weights and JSON: no code of theirs is ever run.

    Raises:
        UserError: the folder is no model, or not as training wrote it.
    """
    model, _ = load_model(Path(folder))
    return Classifier(model, Schema.load(Path(folder) / "schema.json"))


def main() -> None:
    arguments = _arguments()
    threadpool_limits(1)  # more threads hurt on a busy machine
    classifier = load(arguments.model)
    source: Source = sys.stdin.buffer if arguments.table == "-" else arguments.table
    if arguments.output:
        if arguments.output.endswith(".gz"):
            raise UserError("--output: compressed files are not written. Name a .csv or .parquet.")
        with whole_file(arguments.output) as scratch:
            is_parquet = arguments.output.endswith(PARQUET)
            writer = parquet.ParquetWriter if is_parquet else arrow_csv.CSVWriter
            _write(classifier, source, str(scratch), writer)
        return
    _write(classifier, source, sys.stdout.buffer, arrow_csv.CSVWriter)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", help="CSV or Parquet file of rows to predict; - reads CSV")
    parser.add_argument("--model", default="models/classifier", help="(default: %(default)s)")
    parser.add_argument("--output", help="CSV or Parquet file to write; without it, CSV is printed")
    return parser.parse_args()


def _write(
    classifier: Classifier, source: Source, sink: Any, open_writer: Callable[..., Any]
) -> None:
    writer = None
    for batch, probabilities in classifier.stream(source):
        predictions = _predictions(classifier, batch, probabilities)
        writer = writer or open_writer(sink, predictions.schema)
        writer.write(predictions)
    if writer:
        writer.close()


def _predictions(
    classifier: Classifier, batch: pa.RecordBatch, probabilities: npt.NDArray[np.float64]
) -> pa.Table:
    """What is written of a batch: the id if there is one, label, its probability, all of them."""
    names = classifier.classes_
    schema = classifier.schema
    ids = [schema.id.name] if schema.id and schema.id.name in batch.schema.names else []
    columns: dict[str, Any] = {name: batch.column(name) for name in ids}
    columns["label"] = pa.array(names[probabilities.argmax(axis=1)].tolist())
    columns["probability"] = probabilities.max(axis=1)
    columns |= {str(name): probabilities[:, number] for number, name in enumerate(names)}
    return pa.table(columns)


if __name__ == "__main__":
    run(main)
