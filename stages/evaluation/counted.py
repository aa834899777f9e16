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
        confusion: (classes, classes) people by label and prediction.
        scores: (scored classes, 2, CELLS): for each scored class those of the others and those of
            it, by the cell of the probability that the model gives to it.
        groups: for each grouping (levels, classes, 2): people by level, label, and whether the
            prediction is right.
        person: what everybody adds in all, to each of these; a row of someone with several its
            part of that.
    """

    confusion: Counts
    scores: Counts
    groups: Mapping[str, Counts]
    person: int = 1


def nothing(classes: int, levels: Mapping[str, int], person: int = 1) -> Counted:
    """Return the counts of no rows, by the number of levels of each grouping."""
    return Counted(
        confusion=np.zeros((classes, classes), dtype=np.int64),
        scores=np.zeros((len(scored_classes(classes)), 2, CELLS), dtype=np.int64),
        groups={name: np.zeros((own, classes, 2), dtype=np.int64) for name, own in levels.items()},
        person=person,
    )


def add_rows(
    counted: Counted,
    labels: Labels,
    probabilities: npt.NDArray[np.float64],
    groups: Counts,
    parts: Counts | int = 1,
) -> None:
    """Count further rows.

    Args:
        counted: what they are added to.
        labels: (rows,) in [0, classes).
        probabilities: (rows, classes), each row adding up to 1. Ties go to the lower class, and
            what is no number is as wrong as can be.
        groups: (rows, groupings) which level of each a row has.
        parts: (rows,) what a row is of its person.
    """
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    np.add.at(counted.confusion, (labels, predicted), parts)
    unknown = np.isnan(probabilities).any(axis=1)
    for place, of in enumerate(scored_classes(classes)):
        own = labels == of
        cells = np.where(unknown, np.where(own, 0, CELLS - 1), cells_of(probabilities, of))
        if classes == 2:  # rounding must not put a score on another side of 1/2 than the prediction
            cells = np.where(
                predicted == of, np.maximum(cells, MIDDLE + 1), np.minimum(cells, MIDDLE)
            )
        np.add.at(counted.scores[place], (own.astype(np.int64), cells), parts)
    for level, counts in zip(groups.T, counted.groups.values(), strict=True):
        np.add.at(counts, (level, labels, (predicted == labels).astype(np.int64)), parts)
