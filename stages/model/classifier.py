"""A trained model that scores rows as the private table has them: read, checked and encoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.errors import UserError
from stages.model.conventions import TrainedClassifier
from stages.model.effects import Effects, find_effects
from stages.model.files import GET_ANOTHER, load_model
from stages.model.perceptron import Model, predict_probabilities
from stages.tabular.encode import encode, labels
from stages.tabular.reader import Source, read_batches
from stages.tabular.schema import Schema

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Classifier(TrainedClassifier):
    """A trained model, which scikit-learn takes for a classifier of its own.

    A frame is a pandas or polars DataFrame, a pyarrow Table, or a dictionary of columns. What
    takes one raises a UserError if a column is missing or unknown, or a cell does not fit.

    Attributes:
        model: the network.
        schema: how a row is checked and encoded.
    """

    model: Model
    schema: Schema

    @property
    def classes_(self) -> npt.NDArray[np.str_]:
        """Names of the classes, in the order of the columns of `predict_proba`.

        That is the schema's order: of two, the second is the one that is looked for. scikit-learn's
        functions that see no classifier (`roc_auc_score`, `log_loss`) sort names instead, so give
        them `labels == classes_[1]`.
        """
        return np.array(self.schema.class_names)

    @property
    def feature_names_in_(self) -> npt.NDArray[np.str_]:
        """Names of the columns that a frame needs."""
        return np.array([feature.name for feature in self.schema.features])

    @property
    def n_features_in_(self) -> int:
        """How many these are."""
        return len(self.schema.features)

    def labels(self, frame: Any) -> npt.NDArray[np.str_]:
        """Return the true class (rows,) of each row, for a frame that has the label's column.

        Raises:
            UserError: a row has no label, or one without which training leaves it out.
        """
        table = _table(frame)
        codes = [labels(batch, self.schema) for batch in read_batches(table, self.schema)]
        known = sum(map(len, codes))
        if known != table.num_rows:
            raise UserError(
                f"the table: {table.num_rows - known} of {table.num_rows} rows miss what the "
                "schema says to drop rows without. Leave these out."
            )
        return self.classes_[np.concatenate(codes)]

    def predict_proba(self, frame: Any) -> npt.NDArray[np.float64]:
        """Return the probabilities (rows, classes)."""
        return np.concatenate([scored for _, scored in self.stream(_table(frame))])

    def predict(self, frame: Any) -> npt.NDArray[np.str_]:
        """Return the most probable class (rows,) of each row."""
        return self.classes_[self.predict_proba(frame).argmax(axis=1)]

    def predict_frame(self, frame: Any) -> pd.DataFrame:
        """Return what `tables` gives as one DataFrame, with the index of a pandas DataFrame."""
        predicted = pa.concat_tables(self.tables(_table(frame))).to_pandas()
        return predicted.set_index(frame.index) if _is_pandas(frame) else predicted

    @cached_property
    def learned(self) -> Effects:
        """What the model has learned, by public inputs alone."""
        return find_effects(self.model, self.schema)

    def effects(self) -> pd.DataFrame:
        """Return how the probabilities move with each feature, the strongest feature first.

        Returns:
            A row per feature, value it can have, and class (of two classes, the second): its mean
            `probability` over made-up rows that are spread over the declared domain; `low` and
            `high`, between which nine tenths of these rows are; and of the feature the `strength`,
            how far it moves a row's probability. No private row is read.
        """
        import pandas as pd  # noqa: PLC0415 - half a second, which the command does without

        return pd.DataFrame(self.learned.rows(self.schema.class_names))

    def tables(self, source: Source) -> Iterator[pa.Table]:
        """Yield, a batch at a time, the id if there is one, label, its probability, all of them."""
        names = self.classes_
        for batch, probabilities in self.stream(source):
            columns: dict[str, Any] = {}
            if self.schema.id and self.schema.id.name in batch.schema.names:
                columns[self.schema.id.name] = batch.column(self.schema.id.name)
            columns["label"] = pa.array(names[probabilities.argmax(axis=1)].tolist())
            columns["probability"] = probabilities.max(axis=1)
            columns |= dict(zip(names.tolist(), probabilities.T, strict=True))
            yield pa.table(columns)

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
    model, told = load_model(Path(folder))
    schema = Schema.load(Path(folder) / "schema.json")
    if (told["features"], told["classes"]) != (schema.feature_names, schema.class_names):
        raise UserError(
            f"{folder}: model.json and schema.json are not of one model: their columns or classes "
            f"differ. {GET_ANOTHER}"
        )
    return Classifier(model, schema)


def _is_pandas(frame: Any) -> bool:
    return hasattr(frame, "reset_index")  # asks nobody without pandas to import it


def _table(frame: Any) -> pa.Table:
    if _is_pandas(frame):
        frame = frame.reset_index(drop=True)  # the index would arrive as one more column
    try:
        return pa.table(frame)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise UserError(
            f"the table: expected columns of one type each and of equal length, but: {error}. "
            "Convert the columns."
        ) from None
