"""The test rows, counted exactly: what the release of them adds noise to."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.evaluation.metrics import count_rows, possible_cells
from stages.model.perceptron import Model, predict_probabilities
from stages.tabular.prepared import Prepared

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counted:
    """Exact counts, which nobody but the owner may see.

    Attributes:
        table: (classes, classes, BINS) rows by label, prediction and bin.
        groups: for each grouping (levels, classes, classes) rows by level, label and prediction.
    """

    table: Counts
    groups: Mapping[str, Counts]


def count(model: Model, prepared: Prepared) -> Counted:
    """Count all test rows, of which a chunk is held at a time."""
    classes = len(prepared.classes)
    table = np.zeros(possible_cells(classes).shape, dtype=np.int64)
    groups = {
        name: np.zeros((len(levels), classes, classes), dtype=np.int64)
        for name, levels in prepared.groups.items()
    }
    features, labels = prepared.test
    start = 0
    for probabilities in predict_probabilities(model, features):
        rows = slice(start, start := start + len(probabilities))
        table += count_rows(labels[rows], probabilities)
        predicted = probabilities.argmax(axis=1)
        for level, counts in zip(prepared.test_groups[rows].T, groups.values(), strict=True):
            np.add.at(counts, (level, labels[rows], predicted), 1)
    return Counted(table, groups)
