"""A trained model that scores rows as the private table has them: read, checked and encoded."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.errors import UserError
from stages.model.conventions import TrainedClassifier
from stages.model.effects import Effects, find_effects
from stages.model.files import GET_ANOTHER, load_model
from stages.model.perceptron import Model, predict_probabilities
from stages.tabular.encode import encode, labels
from stages.tabular.reader import Source, read_batches, read_what_fits
from stages.tabular.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

# What becomes of rows that cannot be read.
OnError: TypeAlias = Literal["stop", "skip"]


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
    def classes_(self) -> npt.NDArray[Any]:
        """What `predict` calls the classes, in the order of the columns of `predict_proba`.

        They are the label's own values: texts, numbers or truth values as the table has them. Of a
        label that is cut into bands, or in one text and the others, they are the bands' names. The
        order is the schema's: of two, the second is the one that is looked for. scikit-learn's
        functions that see no classifier (`roc_auc_score`, `log_loss`) sort them instead, so give
        them `true_classes(frame) == classes_[1]`.
        """
        return np.array(self.schema.label.class_values)

    @property
    def feature_names_in_(self) -> npt.NDArray[np.str_]:
        """Names of the columns that a frame needs."""
        return np.array([feature.name for feature in self.schema.features])

    @property
    def n_features_in_(self) -> int:
        """How many these are."""
        return len(self.schema.features)

    def predict_proba(self, frame: Any) -> npt.NDArray[np.float64]:
        """Return the probabilities (rows, classes)."""
        return np.concatenate([scored for _, scored in self.stream(_table(frame))])

    def predict(self, frame: Any) -> npt.NDArray[Any]:
        """Return the most probable class (rows,) of each row, one of `classes_`."""
        return self.classes_[self.predict_proba(frame).argmax(axis=1)]

    def true_classes(self, frame: Any) -> npt.NDArray[Any]:
        """Return the class (rows,) that the label in the frame puts each row in, as `predict` does.

        That is the label's column itself, but for bands, and for a text against the others.

        Raises:
            UserError: there is no such column, or a row has no label.
        """
        label, table = self.schema.label, _table(frame)
        column = table.select([name for name in table.column_names if name == label.name])
        alone = self.schema.model_copy(update={"fields": (label,)})
        codes = np.concatenate([labels(batch, alone) for batch in read_batches(column, alone)])
        if len(codes) != table.num_rows:
            raise UserError(
                f"the table: {table.num_rows - len(codes)} of {table.num_rows} rows have no "
                f"`{label.name}`. Leave these out."
            )
        return self.classes_[codes]

    def predict_frame(self, frame: Any, *, on_error: OnError = "stop") -> pd.DataFrame:
        """Return what `tables` gives as one DataFrame, with the index of a pandas DataFrame."""
        predicted = pa.concat_tables(self.tables(_table(frame), on_error=on_error)).to_pandas()
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

    def tables(
        self, source: Source, *, threshold: float | None = None, on_error: OnError = "stop"
    ) -> Iterator[pa.Table]:
        """Yield, a batch at a time, the id if there is one, label, its probability, all of them.

        Args:
            source: the rows.
            threshold: with two classes, the probability above which a row's label is the second;
                without it, the label is the most probable one.
            on_error: `stop` raises a UserError if any row cannot be read; `skip` gives such a row
                no answer, and the reason in a last column, `error`.

        Raises:
            UserError: a threshold is no probability, or there are more than two classes.
        """
        if threshold is not None:
            _refuse_unusable(threshold, len(self.classes_))
        if on_error == "stop":
            for batch, probabilities in self.stream(source):
                yield self._answers(batch, probabilities, threshold)
            return
        for batch, places, reasons in read_what_fits(source, self.schema):
            answers = self._answers(batch, self._score(batch), threshold)
            yield _among(answers, places.tolist(), reasons)

    def stream(self, source: Source) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.float64]]]:
        """Yield the rows of a table, as read, and their probabilities, a batch at a time.

        A batch is scored on each core while further ones are read.
        """
        cores = os.cpu_count() or 1
        ahead: deque[tuple[pa.RecordBatch, Future[npt.NDArray[np.float64]]]] = deque()
        with ThreadPoolExecutor(cores) as others:
            for batch in read_batches(source, self.schema, scoring=True):
                ahead.append((batch, others.submit(self._score, batch)))
                if len(ahead) > cores:
                    first, scored = ahead.popleft()
                    yield first, scored.result()
            for first, scored in ahead:
                yield first, scored.result()

    @np.errstate(all="ignore")  # what overflows is refused in words
    def _score(self, batch: pa.RecordBatch) -> npt.NDArray[np.float64]:
        """(rows, classes) probabilities."""
        if not batch.num_rows:
            return np.zeros((0, len(self.schema.class_names)))
        features = encode(batch, self.schema)
        probabilities = np.concatenate(list(predict_probabilities(self.model, features)))
        if not np.isfinite(probabilities).all():
            raise UserError(
                "the model's answers are no numbers: its weights overflow. Use another model."
            )
        return probabilities

    def _answers(
        self,
        batch: pa.RecordBatch,
        probabilities: npt.NDArray[np.float64],
        threshold: float | None,
    ) -> pa.Table:
        predicted = probabilities.argmax(axis=1)
        if threshold is not None:
            predicted = (probabilities[:, 1] > threshold).astype(np.int64)
        columns: dict[str, Any] = {}
        if self.schema.id and self.schema.id.name in batch.schema.names:
            columns[self.schema.id.name] = batch.column(self.schema.id.name)
        columns["label"] = pa.array(self.classes_).take(pa.array(predicted))
        columns["probability"] = probabilities[np.arange(len(predicted)), predicted]
        columns |= dict(zip(map(str, self.classes_), probabilities.T, strict=True))
        return pa.table(columns)


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


def _refuse_unusable(threshold: float, classes: int) -> None:
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


def _among(answers: pa.Table, places: list[int], reasons: Mapping[int, str]) -> pa.Table:
    """Return the answers in the order of their places, and between them rows that have none."""
    answer_at = {place: number for number, place in enumerate(places)}
    everywhere = sorted([*places, *reasons])
    taken = answers.take(pa.array([answer_at.get(place) for place in everywhere], pa.int64()))
    why = pa.array([reasons.get(place) for place in everywhere], pa.string())
    return taken.append_column("error", why)


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
