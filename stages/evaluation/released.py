"""The counts of a release, and every figure that follows from them, each with its ±."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from stages.evaluation.estimate import ANYWHERE, Estimate, Measured, Range
from stages.evaluation.layout import Layout, Table
from stages.evaluation.metrics import (
    accuracy,
    all_metrics,
    group_metrics,
    ranges,
    shares_of_classes,
)
from stages.evaluation.scores import Values


class Released(NamedTuple):
    """Counts of the test rows as they are shown: with noise, or exact.

    Attributes:
        layout: where in a vector each count is.
        counts: the estimates of them.
    """

    layout: Layout
    counts: Estimate

    @property
    def table(self) -> Table:
        """The estimates as a table."""
        return self.layout.table(self.counts.values)

    def measure(self, figures: Callable[[Table], Values], within: Range = ANYWHERE) -> Measured:
        """Return figures of the table, which may have leading axes, each with its ±."""
        return self.counts.measure(
            lambda counts: figures(self.layout.table(counts)), self.layout.views, within
        )

    @property
    def is_noisy(self) -> bool:
        """Whether they are released, and not exact."""
        return self.counts.root is not None

    def figures(self, *, ordered: bool = False) -> dict[str, Measured]:
        """Return every metric, each of shape (); `ordered` says that the classes are bands."""
        names = all_metrics(self.table, ordered=ordered)

        def each(table: Table) -> Values:
            return np.stack([*all_metrics(table, ordered=ordered).values()], axis=-1)

        figures = _named(names, self.measure(each, ranges(names)))
        # Of nearly equal shares it is not known which is the greatest.
        base_rate = self._greatest(shares_of_classes)
        loss = self._greatest(lambda table: shares_of_classes(table) - accuracy(table)[..., None])
        return figures | {
            "base_rate": base_rate._replace(value=np.clip(base_rate.value, 0, 1)),
            "gain": loss._replace(value=np.clip(-loss.value, -1, 1)),
        }

    def _greatest(self, figures: Callable[[Table], Values]) -> Measured:
        return self.counts.measure_greatest(lambda counts: figures(self.layout.table(counts)))


def figures_of_everyone(counts: Released) -> dict[str, Measured]:
    """Return the figures that subgroups have of all test rows, each of shape (1,)."""
    figures = counts.figures()
    measured = {"rows": counts.measure(lambda table: table.confusion.sum(axis=(-1, -2)))}
    measured |= {name: figures[name] for name in ("accuracy", "recall")}
    return {name: Measured(*map(np.atleast_1d, one)) for name, one in measured.items()}


def figures_of_groups(counts: Estimate, classes: int) -> dict[str, Measured]:
    """Return each figure of the subgroups of a grouping, each of shape (levels,)."""

    def each(values: Values) -> Values:
        groups = values.reshape(*values.shape[:-1], -1, classes, 2)
        return np.stack([*group_metrics(groups).values()], axis=-1)

    names = group_metrics(np.zeros((1, classes, 2)))
    return _named(names, counts.measure(each, within=ranges(names)))


def _named(names: Iterable[str], measured: Measured) -> dict[str, Measured]:
    """Return figures, which are along the last axis, by name."""
    parts = (np.moveaxis(part, -1, 0) for part in measured)
    return {name: Measured(*one) for name, *one in zip(names, *parts, strict=True)}
