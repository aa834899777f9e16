"""One private release of counts, from which every test metric follows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stages.evaluation.counted import Counted
from stages.evaluation.estimate import Estimate
from stages.evaluation.layout import Groups, Layout
from stages.evaluation.released import Released
from stages.evaluation.scores import (
    MIDDLE,
    Values,
    choose_thresholds,
    others_of,
    with_middle,
)
from stages.params import Params
from stages.privacy.events import Event, Gaussian
from stages.privacy.gaussian import epsilon_gaussian, gaussian_noise
from stages.privacy.history import Spend
from stages.tabular.prepared import Prepared, unit_of

# How the precision 1 / σ² of the release is shared out. Accuracy comes first: the rows predicted
# right and wrong, and those by label and prediction, have most of it.
OUTCOMES, CONFUSION, BINS, WHERE = 0.35, 0.25, 0.35, 0.05

# Share of the whole that is spent on subgroups, where there are any, in equal parts for each
# grouping; the parts above share what is left.
GROUPS = 0.25

# ε stays below what was asked for by this share. The training's calibration leaves nearly as much,
# so that with full batches no attack finds more in the test figures than in the model.
MARGIN = 0.005

# As many bins as leave 24 σ rows to each, but neither fewer nor more than this; none at all where
# the fewest would have fewer rows each than one deviation of their noise.
ROWS_PER_BIN, FEWEST_BINS, MOST_BINS = 24.0, 6, 64

# Adds noise of a deviation to a vector of counts.
Noise = Callable[[Values, float], Values]


@dataclass(frozen=True)
class CountRelease:
    """Gaussian noise for the counts of the test rows.

    Attributes:
        noise_multiplier: σ of the whole, which is one Gaussian mechanism.
        classes: how many there are.
        groupings: by how many columns subgroups are made.
    """

    noise_multiplier: float
    classes: int
    groupings: int = 0

    @classmethod
    def of(cls, params: Params, prepared: Prepared) -> "CountRelease":
        """Return the release that an evaluation with these parameters makes."""
        epsilon = params.evaluation_epsilon or params.target_epsilon
        return cls(
            noise_for(epsilon, params.target_delta), len(prepared.classes), len(prepared.groups)
        )

    def spend(self, prepared: Prepared, delta: float) -> Spend:
        """Return what it adds for the people of the test side."""
        return Spend(
            data=prepared.source.data,
            fingerprint=prepared.source.fingerprint,
            split=prepared.source.split,
            side="test",
            events=self.events,
            epsilon=epsilon_gaussian(self.noise_multiplier**-2, delta),
            delta=delta,
            unit=unit_of(prepared.schema_text),
        )

    @property
    def events(self) -> tuple[Event, ...]:
        """What one release runs."""
        return (Gaussian(self.noise_multiplier),)

    def deviation(self, share: float, times: int = 1) -> float:
        """Return σ of a part: what a row moves in it are `times` counts, by 1 each."""
        left = 1 - GROUPS if self.groupings else 1.0
        return self.noise_multiplier * math.sqrt(times / (share * left))

    @property
    def groups_deviation(self) -> float:
        """σ of each count of a subgroup."""
        return self.noise_multiplier * math.sqrt(self.groupings / GROUPS)

    def bins(self, rows: float) -> int:
        """Return into how many bins scores are counted, by the declared number of test rows."""
        if rows / FEWEST_BINS < self._deviation_of_bins(Layout(self.classes, np.array([MIDDLE]))):
            return 0
        enough = rows / (ROWS_PER_BIN * self.noise_multiplier)
        return int(np.clip(enough, FEWEST_BINS, MOST_BINS))

    def release(
        self, counted: Counted, rows: float, simulation_seed: int | None = None
    ) -> tuple[Released, dict[str, Estimate]]:
        """Release the counts once; return those of the table, and those of each grouping.

        Args:
            counted: exact counts.
            rows: about how many they are, declared in public.
            simulation_seed: makes the noise repeatable, without any guarantee.

        Guarantee:
            A Gaussian mechanism of `noise_multiplier`, and so as private as `events` says, for
            tables that differ by one added or removed row, or person with all their rows. In each
            part a row is in one count, or in one for each class whose scores are counted, which it
            moves by 1. A person with several rows is in as many counts, with shares that are not
            negative and add up to 1, whose squares add up to 1 at most; exactly, as they are whole
            numbers of `Counted.person`-ths. The squares over the squared deviations of the noise
            add up to 1 / `noise_multiplier`². The parts
            follow each other, and in which bins the last counts scores is chosen in sight of an
            earlier one; its noise is fixed in advance, and Gaussian mechanisms so chosen are as
            private as if they were not (Smith & Thakurta 2022). What estimates the counts sees
            noisy ones only. Assumes that OpenDP's generator, which it seeds by the system, is
            secret.
        """
        noise = _private if simulation_seed is None else _simulated(simulation_seed)
        layout = self._settle(counted, self.bins(rows), noise)
        exact = layout.counts(counted.confusion, counted.scores) / counted.person
        noisy = [noise(_sums(exact, of), deviation) for of, deviation in self.parts(layout)]
        groups = {
            name: self.estimate_groups(noise(own.ravel() / counted.person, self.groups_deviation))
            for name, own in counted.groups.items()
        }
        found = self.estimate(layout, noisy)
        # As they are told, so that whoever reads them comes to the same figures: where there is
        # little but noise these hang on every digit.
        told = replace(found, values=found.values.round(3))
        return Released(layout, told), groups

    def _settle(self, counted: Counted, bins: int, noise: Noise) -> Layout:
        """Find out where scores are, and choose the bins, if there are to be any."""
        if not bins:
            return Layout(self.classes, np.array([], dtype=np.int64))
        # With two classes the scores of class 1; with more those of rows' own classes, and where
        # those of the others are likely to be.
        deviation, two = self.deviation(WHERE), self.classes == 2
        seen = counted.scores[0].sum(axis=0) if two else counted.scores[:, 1].sum(axis=0)
        noisy = noise(seen / counted.person, deviation)
        where = noisy if two else noisy + others_of(noisy, self.classes)
        places = choose_thresholds(where, deviation, bins)
        return Layout(self.classes, with_middle(places) if two else places)

    def parts(self, layout: Layout) -> list[tuple[Groups, float]]:
        """Return the sums of counts that are released, part by part, and σ of each."""
        # What scores do not need goes to the predictions.
        whole = 1.0 if layout.scored else OUTCOMES + CONFUSION
        parts = [
            (layout.outcomes(), self.deviation(OUTCOMES / whole)),
            (layout.confusion(), self.deviation(CONFUSION / whole)),
        ]
        if layout.scored:
            bins = self._deviation_of_bins(layout)
            parts += [(layout.bins(width), bins) for width in layout.widths]
        if own := layout.own():
            parts += [(own, self.deviation(BINS / 2))]
        return parts

    def _deviation_of_bins(self, layout: Layout) -> float:
        """σ of each count of scores; of several classes half is for those of rows' own classes."""
        share = BINS if layout.scored == 1 else BINS / 2
        return self.deviation(share / len(layout.widths), layout.scored)

    def estimate(self, layout: Layout, noisy: Sequence[Values]) -> Estimate:
        """Return the counts that agree best with noisy sums of them, part by part.

        By least squares, weighted by inverse variance, among counts that scores and predictions of
        one people can have, below zero or not: of all linear estimates without bias the one with
        the least variance (Hay et al. 2010, "Boosting the Accuracy of Differentially Private
        Histograms Through Consistency").
        """
        sums, precisions = self._seen(layout)
        root = self._root(layout)
        return Estimate(root @ (root.T @ (sums.T @ (precisions * np.concatenate(noisy)))), root)

    def again(self, layout: Layout, values: Values) -> Estimate:
        """Return counts that such a release estimated, with the noise that is in them."""
        return Estimate(values, self._root(layout))

    def _root(self, layout: Layout) -> Values:
        sums, precisions = self._seen(layout)
        seen = sums @ layout.basis
        inverse = np.linalg.inv(np.linalg.cholesky(seen.T @ (precisions[:, None] * seen)))
        root: Values = layout.basis @ inverse.T
        return root

    def _seen(self, layout: Layout) -> tuple[Values, Values]:
        """Return which counts (sums, size) are added up and released, and precisions (sums,)."""
        parts = self.parts(layout)
        sums = np.concatenate([_matrix(of, layout.size) for of, _ in parts])
        return sums, np.concatenate([np.full(len(of), sd**-2) for of, sd in parts])

    def estimate_groups(self, noisy: Values) -> Estimate:
        """Return the counts of a grouping, each estimated by itself."""
        return Estimate(noisy, self.groups_deviation * np.eye(len(noisy)))


def declared_rows(params: Params, prepared: Prepared) -> float:
    """Return about how many test rows there are, by what is declared of the training rows.

    Where their number is not declared ε does not cover it, and the true one is used.
    """
    train = params.train_size or prepared.train.people
    return train * params.test_fraction / (1 - params.test_fraction)


def noise_for(epsilon: float, delta: float) -> float:
    """Return σ of a release that is asked to be (ε, δ) private."""
    return gaussian_noise(epsilon * (1 - MARGIN), delta)


def _matrix(groups: Groups, size: int) -> Values:
    matrix = np.zeros((len(groups), size))
    for row, group in zip(matrix, groups, strict=True):
        row[group] = 1
    return matrix


def _sums(counts: Values, groups: Groups) -> Values:
    return np.array([counts[group].sum() for group in groups])


def _private(counts: Values, deviation: float) -> Values:
    # Training prices a release without making one, and OpenDP takes a while to start.
    from opendp.domains import atom_domain, vector_domain  # noqa: PLC0415
    from opendp.measurements import make_gaussian  # noqa: PLC0415
    from opendp.metrics import l2_distance  # noqa: PLC0415
    from opendp.mod import enable_features  # noqa: PLC0415

    enable_features("contrib")  # OpenDP's word for "reviewed, not formally proven"
    # Its noise is discrete, on a grid of 2^-1074, which no δ that we accept can tell from
    # continuous; it is added exactly, and the sum rounded.
    space = vector_domain(atom_domain(T=float, nan=False)), l2_distance(T=float)
    return np.array(make_gaussian(*space, scale=deviation)(counts.tolist()))


def _simulated(seed: int) -> Noise:
    source = np.random.default_rng(seed)
    return lambda counts, deviation: counts + source.normal(0, deviation, counts.shape)
