"""The counts of a release as one vector, in which every sum of them is a row of a matrix."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from stages.evaluation.scores import MIDDLE, THRESHOLDS, Places, Values

# Scores are also counted in bins as wide as so many, where there are enough of them: figures that
# hang on all scores, such as the ROC area, then have less noise (Qardaji, Yang & Li 2013,
# "Understanding Hierarchical Methods for Differentially Private Histograms").
WIDE = 4
ENOUGH = 4 * WIDE

Groups = Sequence[Places]
Number = TypeVar("Number", np.int64, np.float64)


class Table(NamedTuple):
    """Test rows, counted; leading axes hold alternative tables, whose figures come out at once.

    Attributes:
        confusion: (…, classes, classes) by label and prediction.
        scores: (…, scored classes, 2, bins): for each class whose scores are counted rows of the
            others and rows of it, by bin of the probability that the model gives to it. Of no
            class where they would hold nothing but noise.
        thresholds: (bins - 1,) between the bins.
    """

    confusion: Values
    scores: Values
    thresholds: Values

    @property
    def has_scores(self) -> bool:
        """Whether scores were counted."""
        return len(self.thresholds) > 0


@dataclass(frozen=True)
class Layout:
    """Where in a vector each count of a table is.

    Attributes:
        classes: how many there are.
        places: of the thresholds in THRESHOLDS; with two classes 1/2 is among them. None, if
            scores are not counted.
    """

    classes: int
    places: Places

    @property
    def scored(self) -> int:
        """The number of classes whose scores are counted."""
        return len(scored_classes(self.classes)) if len(self.places) else 0

    @property
    def size(self) -> int:
        """The number of counts."""
        return self.classes**2 + 2 * self.scored * (len(self.places) + 1)

    def table(self, counts: Values) -> Table:
        """Return a vector of counts (…, size) as tables."""
        return Table(*self._split(counts), THRESHOLDS[self.places])

    def _split(
        self, vector: npt.NDArray[Number]
    ) -> tuple[npt.NDArray[Number], npt.NDArray[Number]]:
        """Return a vector (…, size) as `confusion` and `scores` of tables."""
        confusion, scores = np.split(vector, [self.classes**2], axis=-1)
        axes = vector.shape[:-1]
        return (
            confusion.reshape(*axes, self.classes, self.classes),
            scores.reshape(*axes, self.scored, 2, len(self.places) + 1),
        )

    def counts(self, confusion: Places, scores: Places) -> Values:
        """Return exact counts as a vector.

        Args:
            confusion: (classes, classes).
            scores: (scored classes, 2, CELLS) by cell, of which bins are made.
        """
        binned = np.add.reduceat(scores[: self.scored], [0, *(self.places + 1)], axis=-1)
        return np.append(confusion, binned).astype(np.float64)

    @cached_property
    def _cells(self) -> tuple[Places, Places]:
        """The place in a vector of each count of `confusion` and of `scores`."""
        confusion, scores = self._split(np.arange(self.size))
        return confusion, scores

    def outcomes(self) -> Groups:
        """Which counts add up to the rows predicted wrong, and right."""
        right = np.eye(self.classes, dtype=bool)
        return [self._cells[0][~right], self._cells[0][right]]

    def confusion(self) -> Groups:
        """Each count of label and prediction, by itself."""
        return [*self._cells[0].reshape(-1, 1)]

    def bins(self, width: int) -> Groups:
        """Which counts add up to the bins of each class's scores, or to `width` neighbours."""
        return [
            row[start : start + width]
            for row in self._cells[1].reshape(2 * self.scored, -1)
            for start in range(0, len(row), width)
        ]

    def own(self) -> Groups:
        """Which counts add up to the rows in each bin of the probability of their own class.

        With more than two classes only, as with two the other's bins may be others.
        """
        return [*self._cells[1][:, 1].T] if self.scored > 1 else []

    @property
    def views(self) -> list[Places]:
        """Which counts count the same people: each has those in which anybody is counted once.

        Or, of scores of several classes, in each class that is not his own.
        """
        confusion, scores = self._cells
        of_scores = [scores] if self.scored == 1 else [scores[:, 0], scores[:, 1]]
        return [cells.ravel() for cells in (confusion, *of_scores)]

    @property
    def widths(self) -> tuple[int, ...]:
        """In bins of which widths scores are counted."""
        return (1, WIDE) if len(self.places) + 1 >= ENOUGH else (1,)

    @cached_property
    def basis(self) -> Values:
        """(size, free counts): what follows from what, as scores and predictions are of one people.

        The last count of each group that has to add up to others follows from these.
        """
        equal = [*self._equal()]
        followers = [scored[-1] for scored, _ in equal]
        basis = np.eye(self.size)
        for scored, labelled in equal:
            basis[scored[-1]] = 0
            basis[scored[-1], scored[:-1]] = -1
            basis[scored[-1], labelled] = 1
        return np.delete(basis, followers, axis=1)

    def _equal(self) -> Iterator[tuple[Places, Places]]:
        """Yield groups of counts of scores, and those of predictions with the same sum."""
        confusion = self._cells[0]
        if self.classes == 2 and self.scored:
            middle = int(np.searchsorted(self.places, MIDDLE)) + 1
            for label, row in enumerate(self._cells[1][0]):
                yield row[:middle], confusion[label, :1]
                yield row[middle:], confusion[label, 1:]
            return
        for label, (others, own) in enumerate(self._cells[1]):
            yield others, np.delete(confusion, label, axis=0).ravel()
            yield own, confusion[label]


def scored_classes(classes: int) -> range:
    """Return the classes whose scores are counted: of two the second, which tells the other's."""
    return range(1, 2) if classes == 2 else range(classes)
