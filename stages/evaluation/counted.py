"""Exact counts of test rows, which nobody but the owner may see."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.evaluation.layout import scored_classes
from stages.evaluation.scores import CELLS, MIDDLE, cells_of
from stages.tabular.prepared import Labels

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counted:
    """Exact counts, which nobody but the owner may see.

    Attributes:
        confusion: (classes, classes) rows by label and prediction.
        scores: (scored classes, 2, CELLS): for each scored class rows of the others and rows of it,
            by the cell of the probability that the model gives to it.
        groups: for each grouping (levels, classes, 2): rows by level, label, and whether the
            prediction is right.
    """

    confusion: Counts
    scores: Counts
    groups: Mapping[str, Counts]


def nothing(classes: int, levels: Mapping[str, int]) -> Counted:
    """Return the counts of no rows, by the number of levels of each grouping."""
    return Counted(
        confusion=np.zeros((classes, classes), dtype=np.int64),
        scores=np.zeros((len(scored_classes(classes)), 2, CELLS), dtype=np.int64),
        groups={name: np.zeros((own, classes, 2), dtype=np.int64) for name, own in levels.items()},
    )


def add_rows(
    counted: Counted, labels: Labels, probabilities: npt.NDArray[np.float64], groups: Counts
) -> None:
    """Count further rows.

    Args:
        counted: what they are added to.
        labels: (rows,) in [0, classes).
        probabilities: (rows, classes), each row adding up to 1. Ties go to the lower class, and
            what is no number is as wrong as can be.
        groups: (rows, groupings) which level of each a row has.
    """
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    np.add.at(counted.confusion, (labels, predicted), 1)
    unknown = np.isnan(probabilities).any(axis=1)
    for place, of in enumerate(scored_classes(classes)):
        own = labels == of
        cells = np.where(unknown, np.where(own, 0, CELLS - 1), cells_of(probabilities, of))
        if classes == 2:  # rounding must not put a score on another side of 1/2 than the prediction
            cells = np.where(
                predicted == of, np.maximum(cells, MIDDLE + 1), np.minimum(cells, MIDDLE)
            )
        np.add.at(counted.scores[place], (own.astype(np.int64), cells), 1)
    for level, counts in zip(groups.T, counted.groups.values(), strict=True):
        np.add.at(counts, (level, labels, (predicted == labels).astype(np.int64)), 1)
