"""Watch a training run from the inside: is what really happened what the plan says?

Each statistic has a known distribution if the mechanism works, so the rate of false alarms is
known: `FALSE_ALARM` a run. A failed monitor stops the stage before anything is written.

What may be published is that all monitors passed. They pass with probability at least
1 - `FALSE_ALARM` on every table, so their having passed says next to nothing about any row. The
realised values stay inside: noise and batch sizes are secrets of the mechanism, and the largest
norm and the number of gradients that were not finite are facts about single rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats
from scipy.special import logsumexp

from stages.errors import BrokenGuaranteeError
from stages.privacy.events import Steps
from stages.training.plan import Plan

FALSE_ALARM = 1e-6

# What a run has to have passed before anything of it may be published.
MONITORS = (
    "gradient noise: mean",
    "gradient noise: variance",
    "gradient noise: white within a step",
    "gradient noise: fresh in each step",
    "gradient noise: unlike the first step's",
    "metric noise: mean",
    "metric noise: variance",
    "noise of other answers: mean",
    "noise of other answers: variance",
    "batch sizes: total",
    "batch sizes: spread",
    "clipping: no row beyond the bound",
    "accounting: every step, once",
)

# Room for float32 rounding between a clipped norm and its bound.
CLIP_TOLERANCE = 1e-4

Noise = npt.NDArray[np.float64]


class _NoiseStatistics:
    """Sums over noise that should be independent standard normal; each statistic is exact.

    Given one of two independent standard normal vectors a and b, ⟨a, b⟩ / |a| is standard normal,
    whatever a is: that makes the correlations exact at any size.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._count = 0
        self._sum = self._squares = self._within = self._across = self._repeated = 0.0
        self._first = self._previous = np.empty(0)

    def add(self, noise: Noise) -> None:
        self.steps += 1
        self._count += len(noise)
        self._sum += float(noise.sum())
        self._squares += float(noise @ noise)
        half = len(noise) // 2
        even, odd = noise[0 : 2 * half : 2], noise[1 : 2 * half : 2]
        self._within += _correlation(even, odd)
        if self.steps == 1:
            self._first = noise
        else:
            self._across += _correlation(self._previous, noise)
            self._repeated += _correlation(self._first, noise)
        self._previous = noise

    @property
    def mean(self) -> float:
        """Standard normal."""
        return self._sum / math.sqrt(max(1, self._count))

    @property
    def variance(self) -> tuple[float, float]:
        """Lower and upper tail of the sum of squares, which is chi-square; certain of no noise."""
        if not self._count:
            return 1.0, 1.0
        return (
            float(stats.chi2.cdf(self._squares, self._count)),
            float(stats.chi2.sf(self._squares, self._count)),
        )

    @property
    def within(self) -> float:
        """Standard normal: even against odd places of the same step."""
        return self._within / math.sqrt(self.steps)

    @property
    def across(self) -> float:
        """Standard normal: each step against the one before."""
        return self._across / math.sqrt(max(1, self.steps - 1))

    @property
    def repeated(self) -> float:
        """Standard normal: each step against the first."""
        return self._repeated / math.sqrt(max(1, self.steps - 1))


@dataclass
class Monitors:
    """Collect what a run does, step by step; `verdicts` judges it at the end.

    Attributes:
        plan: what should have happened.
        people: true number of people on the training side: rows, where each has one.
    """

    plan: Plan
    people: int
    batch_sizes: list[int] = field(default_factory=list)
    clipped_norms: list[float] = field(default_factory=list)
    not_finite: int = 0
    own_people: int = 0
    _gradient: _NoiseStatistics = field(default_factory=_NoiseStatistics)
    _metrics: list[Noise] = field(default_factory=list)
    _answers: list[Noise] = field(default_factory=list)

    def watch_noise(self, gradient: Noise, metrics: Noise) -> None:
        """Take in one step's realised noise, each divided by its planned standard deviation."""
        self._gradient.add(gradient)
        self._metrics.append(metrics)

    def watch_answers(self, noise: Noise) -> None:
        """Take in the same of a step that released no gradient: of its answers."""
        self._answers.append(noise)

    def verdicts(self, history: Sequence[Steps]) -> dict[str, bool]:
        """Return whether each monitor passed.

        Args:
            history: what the accountant has heard of.
        """
        level = FALSE_ALARM / 12  # eleven of the monitors below are statistical
        gradient, metrics, answers = self._gradient, _of(self._metrics), _of(self._answers)
        return {
            "gradient noise: mean": _normal(gradient.mean) > level,
            "gradient noise: variance": _two_sided(gradient.variance) > level,
            "gradient noise: white within a step": _normal(gradient.within) > level,
            "gradient noise: fresh in each step": _normal(gradient.across) > level,
            "gradient noise: unlike the first step's": _normal(gradient.repeated) > level,
            "metric noise: mean": _normal(metrics.mean) > level,
            "metric noise: variance": _two_sided(metrics.variance) > level,
            "noise of other answers: mean": _normal(answers.mean) > level,
            "noise of other answers: variance": _two_sided(answers.variance) > level,
            "batch sizes: total": _two_sided(self._total_of_batches()) > level,
            "batch sizes: spread": _two_sided(self._spread_of_batches()) > level,
            "clipping: no row beyond the bound": self._clipping_was_seen_to_work(),
            "accounting: every step, once": (
                list(history) == [self.plan.planned]
                and gradient.steps + len(self._answers) == len(self.batch_sizes) == self.plan.steps
            ),
        }

    def require_passed(self, history: Sequence[Steps]) -> list[str]:
        """Return the names of the monitors, all of which passed.

        Raises:
            BrokenGuaranteeError: one did not. The message names it and no realised value.
        """
        verdicts = self.verdicts(history)
        failed = [name for name, passed in verdicts.items() if not passed]
        if failed:
            raise BrokenGuaranteeError(
                f"the training mechanism did not do what its plan says ({'; '.join(failed)}). "
                "Nothing was written. If the code was changed, mend the change; if not, this "
                f"happens by chance once in {1 / FALSE_ALARM:,.0f} runs: run again."
            )
        return list(verdicts)

    def _total_of_batches(self) -> tuple[float, float]:
        trials = self.people * len(self.batch_sizes)
        total, rate = sum(self.batch_sizes), self.plan.sample_rate
        return (
            float(stats.binom.cdf(total, trials, rate)),
            float(stats.binom.sf(total - 1, trials, rate)),
        )

    def _spread_of_batches(self) -> tuple[float, float]:
        """Return upper bounds on both tails of the sum of squared standardised batch sizes.

        Chernoff's bound with the exact binomial: P(S ≥ s) ≤ min over t > 0 of M(t)^steps · e^(-ts),
        and with t < 0 for P(S ≤ s). It never exceeds its level, however small the batches.
        """
        rate = self.plan.sample_rate
        mean, variance = self.people * rate, self.people * rate * (1 - rate)
        if variance == 0:
            return 1.0, 1.0  # full batches do not spread, and their total says everything
        reach = 40 * math.sqrt(variance) + 40  # sizes beyond it have no chance worth counting
        sizes = np.arange(max(0, int(mean - reach)), min(self.people, int(mean + reach)) + 1)
        squares = (sizes - mean) ** 2 / variance
        log_chances = stats.binom.logpmf(sizes, self.people, rate)
        steps = len(self.batch_sizes)
        spread = float(((np.array(self.batch_sizes) - mean) ** 2).sum()) / variance

        def log_bound(t: float) -> float:
            return float(steps * logsumexp(log_chances + t * squares) - t * spread)

        lower, upper = (
            optimize.minimize_scalar(log_bound, bounds=bounds, method="bounded").fun
            for bounds in ((-400.0, 0.0), (0.0, 0.4))
        )
        return math.exp(min(0.0, lower)), math.exp(min(0.0, upper))

    def _clipping_was_seen_to_work(self) -> bool:
        """Whether a probed person kept to the bound in every probe, and there was one."""
        bound = self.plan.max_grad_norm * (1 + CLIP_TOLERANCE)
        probed = bool(self.clipped_norms) or not self.own_people
        return probed and all(norm <= bound for norm in self.clipped_norms)


def _correlation(known: Noise, other: Noise) -> float:
    """Standard normal. No noise at all is for the variance to find.

    The networks of a pilot differ in their number of weights; the first ones are compared.
    """
    known = known[: len(other)]
    squares = float(known @ known)
    return float(known @ other[: len(known)]) / math.sqrt(squares) if squares else 0.0


def _of(noise: Sequence[Noise]) -> _NoiseStatistics:
    """Return the statistics of all noise in released numbers; of none, they are as expected."""
    found = _NoiseStatistics()
    found.add(np.concatenate([*noise, np.empty(0)]))
    return found


def _normal(value: float) -> float:
    return float(2 * stats.norm.sf(abs(value)))


def _two_sided(tails: tuple[float, float]) -> float:
    return float(2 * np.min(tails))  # NaN if either is, which is above no level
