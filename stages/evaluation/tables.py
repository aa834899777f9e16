"""What the released tables look like as rows of CSV, for DVC's plots and for the plot stage."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.evaluation.metrics import (
    BIN_EDGES,
    BINS,
    Table,
    group_metrics,
    one_against_rest,
    roc_curve,
)

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
    """Return the points of the ROC curve, with more than two classes of the mean class."""
    if len(table) == 2:
        false_positives, true_positives = roc_curve(table)
    else:
        each = one_against_rest(table)
        false_positives, true_positives = np.array([[0, 0], each.mean(axis=0), [1, 1]]).T
    return [
        {"false_positive_rate": round(float(x), 4), "true_positive_rate": round(float(y), 4)}
        for x, y in zip(false_positives, true_positives, strict=True)
    ]


def group_rows(
    column: str, levels: Sequence[str], groups: Table, redraws: Table | None = None
) -> Rows:
    """Return a row of test figures per subgroup, each with its ± if there is noise.

    Args:
        column: what the rows are grouped by.
        levels: names of the groups.
        groups: (levels, classes, classes) rows by group, label and prediction.
        redraws: (draws, levels, classes, classes) copies with noise added once more.
    """
    figures = group_metrics(groups)
    moved = {} if redraws is None else group_metrics(redraws)
    off = {
        name: np.quantile(np.abs(values - figures[name]), 0.95, axis=0)
        for name, values in moved.items()
    }
    return [
        {"column": column, "group": level, "name": f"{column}: {level}" if level else column}
        | {
            key: round(float(value[number]), 4)
            for name in figures
            for key, value in (
                (name, figures[name]),
                (f"{name}_interval", off.get(name, np.zeros(len(levels)))),
            )
        }
        for number, level in enumerate(levels)
    ]
