"""People are sampled, not rows: what a person adds to a sum is the mean over their rows.

So a person with many rows moves a sum no further than one with a single row does.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from stages.model.inputs import Array
from stages.tabular.prepared import Features, Labels, Side, by_person

# Rows whose activations are held at once, which fit into a core's cache; larger batches are summed
# in chunks.
CHUNK_ROWS = 1_024

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Whose:
    """Whose the rows of a chunk are: a person's stand together, and who has few comes first.

    Attributes:
        groups: how many people have so many rows, and how many that is, ascending; empty where
            each has one.
    """

    groups: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, sizes: Numbers) -> Self:
        """Return it for people with so many rows each, ascending."""
        rows, people = np.unique(sizes, return_counts=True)
        if rows.max(initial=1) == 1:
            return cls()
        return cls(tuple(zip(people.tolist(), rows.tolist(), strict=True)))

    @property
    def has_one_row_each(self) -> bool:
        """Whether rows and people are the same."""
        return not self.groups

    def grouped(self, values: Array) -> Iterator[Array]:
        """Yield values (rows, …) as (people, rows of each, …), group by group."""
        xp = array_namespace(values)
        start = 0
        for people, rows in self.groups:
            part = values[start : start + people * rows]
            yield xp.reshape(part, (people, rows, *values.shape[1:]))
            start += people * rows

    def mean(self, values: Array) -> Array:
        """Return the mean (people,) of values (rows,) over each person's rows."""
        if self.has_one_row_each:
            return values
        xp = array_namespace(values)
        return xp.concat([xp.mean(part * 1.0, axis=1) for part in self.grouped(values)])

    def share(self, values: Array) -> Array:
        """Return values (rows, …), each divided by the number of its person's rows."""
        if self.has_one_row_each:
            return values
        xp = array_namespace(values)
        parts = [part / part.shape[1] for part in self.grouped(values)]
        return xp.concat([xp.reshape(part, (-1, *values.shape[1:])) for part in parts])

    def spread(self, values: Array) -> Array:
        """Return values (people,) at each of their rows."""
        if self.has_one_row_each:
            return values
        xp = array_namespace(values)
        parts, start = [], 0
        for people, rows in self.groups:
            parts.append(xp.repeat(values[start : start + people], rows))
            start += people
        return xp.concat(parts)


ONE_ROW_EACH = Whose()


class Several(NamedTuple):
    """Where the rows of people are who may have several.

    Attributes:
        order: (rows,) the rows, person by person.
        starts: (people + 1,) where in `order` each person's rows start.
    """

    order: Numbers
    starts: Numbers

    def sizes(self, people: Numbers) -> Numbers:
        """Return how many rows each has."""
        return self.starts[people + 1] - self.starts[people]


@dataclass(frozen=True)
class People:
    """The people of a training side, by their numbers, and their rows.

    Attributes:
        features, labels: of all rows, which may be memory-mapped.
        several: whose these are; None where each person has one row, the one of their number.
    """

    features: Features
    labels: Labels
    several: Several | None = None

    @classmethod
    def of(cls, side: Side) -> Self:
        """Return the people of a side, numbered as they first appear."""
        features, labels = np.asarray(side.features), np.asarray(side.labels)
        if side.persons is None:
            return cls(features, labels)
        rows, starts = by_person(side.persons)
        appeared = np.argsort(rows[starts])
        sizes = np.diff(starts, append=len(rows))[appeared]
        order = rows[_ranges(starts[appeared], sizes)]
        return cls(features, labels, Several(order, np.append(0, np.cumsum(sizes))))

    def __len__(self) -> int:
        return len(self.labels) if self.several is None else len(self.several.starts) - 1

    def part(self, some: slice) -> Self:
        """Return some of the people."""
        if self.several is None:
            return replace(self, features=self.features[some], labels=self.labels[some])
        starts = self.several.starts[some.start : some.stop + 1]
        return replace(self, several=self.several._replace(starts=starts))

    def chunks(self, people: Numbers) -> list[Numbers]:
        """Return people in parts of about `CHUNK_ROWS` rows, at least one, which may be empty.

        Those with few rows come first.
        """
        if self.several is None:
            return np.split(people, range(CHUNK_ROWS, len(people), CHUNK_ROWS))
        sizes = self.several.sizes(people)
        by_size = np.argsort(sizes, kind="stable")
        ends = np.cumsum(sizes[by_size])
        cuts = range(CHUNK_ROWS, int(sizes.sum()), CHUNK_ROWS)
        return np.split(people[by_size], np.searchsorted(ends, cuts, "right"))

    def rows(self, people: Numbers) -> tuple[Features, Labels, Whose]:
        """Return features and labels of people as in a chunk, and whose they are."""
        if self.several is None:
            return self.features[people], self.labels[people], ONE_ROW_EACH
        sizes = self.several.sizes(people)
        rows = self.several.order[_ranges(self.several.starts[people], sizes)]
        return self.features[rows], self.labels[rows], Whose.of(sizes)


def _ranges(starts: Numbers, sizes: Numbers) -> Numbers:
    """Return the numbers from each start on, so many of each."""
    ends = np.cumsum(sizes)
    return np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1] if len(ends) else 0)
