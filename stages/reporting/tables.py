"""What the released tables look like as rows of CSV, for DVC's plots and for the plot stage."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.reporting.metrics import BIN_EDGES, BINS, Table, roc_curve

Rows = list[dict[str, Any]]

# As many made-up people as Git and a browser take with ease.
MOST_ROWS = 10_000


def cell_rows(table: Table, classes: Sequence[str]) -> Rows:
    """Return a row per cell of a (classes, classes, BINS) table."""
    return [
        {
            "label": classes[label],
            "predicted": classes[predicted],
            "label_probability_from": BIN_EDGES[cell],
            "label_probability_to": BIN_EDGES[cell + 1],
            "rows": round(float(rows), 3),
        }
        for (label, predicted, cell), rows in np.ndenumerate(table)
    ]


def table_of(cells: Sequence[dict[str, str]]) -> tuple[Table, list[str]]:
    """Return the table and the class names that `cell_rows` wrote."""
    classes = list(dict.fromkeys(cell["label"] for cell in cells))
    rows = np.array([float(cell["rows"]) for cell in cells])
    return rows.reshape(len(classes), len(classes), BINS), classes


def confusion_rows(table: Table, classes: Sequence[str]) -> Rows:
    """Return one row per counted person, as DVC's `confusion` template wants it.

    They are made up from the released counts, rounded: no row stands for a real one. Of more than
    `MOST_ROWS` they are the proportions.
    """
    counts = table.sum(axis=2)
    shown = counts * min(1.0, MOST_ROWS / max(1.0, float(counts.sum())))
    confusion: npt.NDArray[np.int64] = shown.round().astype(np.int64)
    return [
        {"actual": classes[label], "predicted": classes[predicted]}
        for (label, predicted), rows in np.ndenumerate(confusion)
        for _ in range(rows)
    ]


def roc_rows(table: Table) -> Rows:
    """Return the points of the ROC curve of class 1, for two classes."""
    false_positives, true_positives = roc_curve(table)
    return [
        {"false_positive_rate": round(float(x), 4), "true_positive_rate": round(float(y), 4)}
        for x, y in zip(false_positives, true_positives, strict=True)
    ]
