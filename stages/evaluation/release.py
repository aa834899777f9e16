"""One private release of integer counts, from which every test metric follows."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.evaluation.metrics import possible_cells
from stages.params import Params
from stages.privacy.events import DiscreteLaplace, Event
from stages.privacy.history import Spend
from stages.tabular.prepared import Prepared, Source

# Share of the budget spent on the label × predicted totals; the rest goes to the score histogram.
# Half and half keeps the noise in accuracy below 0.015 on 268 rows at ε = 1.
TOTALS_SHARE = 0.5

# Share of the budget spent on subgroups, where there are any, in equal parts for each grouping.
GROUPS_SHARE = 0.5

Counts = npt.NDArray[np.int64]
Table = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CountRelease:
    """Noise for tables of counts of shape (labels, predictions, bins).

    Attributes:
        epsilon: ε of one release, pure (δ = 0).
        possible: (labels, predictions, bins) bool: cells that a row can be in at all.
        groupings: how many further tables there are, of label × predicted in subgroups.
    """

    epsilon: float
    possible: npt.NDArray[np.bool_]
    groupings: int = 0

    @classmethod
    def of(cls, params: Params, prepared: Prepared) -> "CountRelease":
        """Return the release that an evaluation with these parameters makes."""
        epsilon = params.evaluation_epsilon or params.target_epsilon
        return cls(epsilon, possible_cells(len(prepared.classes)), len(prepared.groups))

    def spend(self, source: Source, delta: float) -> Spend:
        """Return what it adds for the people of the test side."""
        return Spend(
            data=source.data,
            fingerprint=source.fingerprint,
            split=source.split,
            side="test",
            events=self.events,
            epsilon=self.epsilon,
            delta=delta,
        )

    @property
    def totals_scale(self) -> float:
        """Scale of the discrete Laplace noise on each label × predicted total."""
        return 1 / (self._table_epsilon * TOTALS_SHARE)

    @property
    def cells_scale(self) -> float:
        """Scale of the discrete Laplace noise on each cell of the histogram."""
        return 1 / (self._table_epsilon * (1 - TOTALS_SHARE))

    @property
    def groups_scale(self) -> float:
        """Scale of the discrete Laplace noise on each count of a subgroup."""
        return self.groupings / (self.epsilon * GROUPS_SHARE)

    @property
    def _table_epsilon(self) -> float:
        return self.epsilon * (1 - GROUPS_SHARE) if self.groupings else self.epsilon

    @property
    def events(self) -> tuple[Event, ...]:
        """What one release runs."""
        scales = [self.totals_scale, self.cells_scale] + [self.groups_scale] * self.groupings
        return tuple(DiscreteLaplace(1 / scale) for scale in scales)

    def release(self, counts: Counts, simulation_seed: int | None = None) -> Table:
        """Return a noisy, consistent copy of `counts`.

        With a `simulation_seed` the noise is repeatable, and there is no guarantee.

        Guarantee:
            ε-differentially private for tables that differ by one added or removed row: a row is in
            one total and in one cell, each is moved by at most 1, and OpenDP's discrete Laplace
            mechanism on both spends `epsilon` in all. What makes the result consistent sees noisy
            counts only. Assumes that OpenDP's generator is secret, which it takes from the system.
        """
        if simulation_seed is not None:
            source = np.random.default_rng(simulation_seed)
            return self.redraws(counts.astype(float), 1, source)[0]
        return self.consistent(
            _discrete_laplace(counts.sum(axis=2), self.totals_scale),
            _discrete_laplace(counts, self.cells_scale),
        )

    def release_groups(self, counts: Counts, simulation_seed: int | None = None) -> Table:
        """Return a noisy copy of one grouping's `counts` (levels, labels, predictions).

        Guarantee:
            ε-differentially private with ε = 1 / `groups_scale` for tables that differ by one added
            or removed row, which is in one count. Each grouping may be released once; `events`
            accounts for all of them.
        """
        if simulation_seed is not None:
            source = np.random.default_rng(simulation_seed)
            return self.redraw_groups(counts.astype(float), 1, source)[0]
        return np.maximum(_discrete_laplace(counts, self.groups_scale), 0).astype(np.float64)

    def redraw_groups(self, table: Table, draws: int, source: np.random.Generator) -> Table:
        """Return `draws` more noisy copies of a released table of subgroups."""
        noise = _simulated_laplace(self.groups_scale, (draws, *table.shape), source)
        return np.maximum(table + noise, 0.0)

    def redraws(self, table: Table, draws: int, source: np.random.Generator) -> Table:
        """Return `draws` more noisy copies of a released table: how far does noise move a metric?

        Post-processing: reads no private row, so `source` need not be secret.
        """
        shape = (draws, *table.shape)
        totals = table.sum(axis=2) + _simulated_laplace(self.totals_scale, shape[:-1], source)
        cells = table + _simulated_laplace(self.cells_scale, shape, source)
        return self.consistent(totals, cells)

    def consistent(self, totals: Table | Counts, cells: Table | Counts) -> Table:
        """Reconcile noisy totals (…, L, P) and cells (…, L, P, B) into one non-negative table.

        Each total is estimated twice, directly and by the sum of its cells; the mean weighted by
        inverse variance is the best linear combination (Hay et al. 2010, "Boosting the Accuracy of
        Differentially Private Histograms Through Consistency", §4). Cells then share the
        difference, lose what is below zero, and are scaled to the total again.
        """
        cells = np.where(self.possible, cells, 0.0)
        members = self.possible.sum(axis=2)
        direct = self.totals_scale**-2
        summed = self.cells_scale**-2 / members
        sums = cells.sum(axis=-1)
        totals = np.maximum((direct * totals + summed * sums) / (direct + summed), 0.0)
        cells = cells + ((totals - sums) / members)[..., None]
        cells = np.where(self.possible, np.maximum(cells, 0.0), 0.0)
        sums = cells.sum(axis=-1)
        scale = np.divide(totals, sums, out=np.zeros_like(totals), where=sums > 0)
        return cells * scale[..., None]


def _discrete_laplace(counts: Counts, scale: float) -> Counts:
    # Training prices a release without making one, and OpenDP takes a while to start.
    from opendp.domains import atom_domain, vector_domain  # noqa: PLC0415
    from opendp.measurements import make_laplace  # noqa: PLC0415
    from opendp.metrics import l1_distance  # noqa: PLC0415
    from opendp.mod import enable_features  # noqa: PLC0415

    enable_features("contrib")  # OpenDP's word for "reviewed, not formally proven"
    mechanism = make_laplace(vector_domain(atom_domain(T="i64")), l1_distance(T="i64"), scale=scale)
    return np.array(mechanism(counts.ravel().tolist()), dtype=np.int64).reshape(counts.shape)


def _simulated_laplace(scale: float, shape: tuple[int, ...], source: np.random.Generator) -> Counts:
    # The difference of two geometric variables is discrete Laplace.
    success = -np.expm1(-1 / scale)
    return source.geometric(success, shape) - source.geometric(success, shape)
