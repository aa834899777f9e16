"""Hyperparameters from public numbers alone, so that nothing need be tuned on private rows.

What binds is how far the weights may travel before the noise they gather on the way outweighs what
they learn. With n rows, P weights and μ the Gaussian privacy parameter of (ε, δ) (Dong, Roth & Su
2019), a full-batch run of T steps has noise σ = √T / μ. The noise in an averaged step then has the
norm σ·C·√P / n, a clipped gradient has C at most, and over T steps signal to noise is

    s = n·μ / √P.

The path is the sum of learning rates over the steps, divided by 1 - momentum, times the clip: the
furthest that clipped gradients can carry the weights. It is 20·s; the number of steps only says how
finely it is cut. (That the best path grows with ε and depends on little else: Panda et al. 2024, "A
New Linear Scaling Rule for Private Adaptive Hyperparameter Optimization".)

Of d features, about d²/2 pairs could matter together: where s is above d²/55, there is room to
learn of them, and ReLU does so soonest; below, tanh, which is nearly linear at first. Numbers told
in pieces (model/inputs.py) let the network learn of their curves and thresholds, which helps most
tables where s is four times that or more, and where it is less many are better off without. So
which is the likelier follows from s, and a pilot within the plan tries both, wherever its noise is
small enough to tell them apart.

The constants were fitted to simulations on tables of 142 to 160,000 rows, 4 to 100 features and 2
to 10 classes: benchmarks/UTILITY.md says which, and how the rule does on tables that it never saw.
"""

import math
from dataclasses import dataclass, fields, replace

import dp_accounting
from scipy import optimize

from stages.params import Params
from stages.training.schedule import SCORING_SHARE, Schedule

# Bounded units pass on less noise than rectified ones (Papernot et al. 2021, "Tempered Sigmoid
# Activations for Deep Learning with Differential Privacy"), which learn of pairs sooner.
SQUARED_FEATURES_PER_SIGNAL = 55.0

PATH_PER_SIGNAL = 20.0
# Beyond it, more steps took time and added nothing, on tables of up to a million rows.
LONGEST_PATH = 50_000.0

CLIP = 5.0
AVERAGE_DECAY = 0.9
FEWEST_STEPS = 150
LARGEST_LEARNING_RATE = 0.5
# Long paths have more momentum, so that they need fewer steps: the least with which so many do.
MOMENTA = {0.5: FEWEST_STEPS, 0.8: 1_000, 0.9: math.inf}

# Into how many pieces each number is cut, if it is; with so many times the room that pairs need,
# there is room for them as well.
PIECES = 8
ROOM_FOR_PIECES = 4.0

# A pilot whose noise, in the share of rows that one candidate gets right and the other does not, is
# above this would often choose wrongly; where one is likelier to be right, it has to tell more.
PILOT_NOISE, PILOT_NOISE_IF_AMPLE = 0.025, 0.0008
FEWEST_STEPS_OF_A_PILOT = 50

# Sampling rows instead of reading all of them makes more noise: by this factor it may always, and
# by more while the noise in a step is below this share of what the clip lets through.
SAMPLING_NOISE = 1.05
UNNOTICED_NOISE = 0.04
SMALLEST_BATCH = 1_024


def steps_of(epochs: float, sample_rate: float) -> int:
    """Return how many steps so many passes over the rows are."""
    return max(1, round(epochs / sample_rate))


@dataclass(frozen=True)
class PublicNumbers:
    """All that the rule may look at.

    Attributes:
        train_size: rows on the training side, or people where they may have several, as declared.
        features: columns that the network sees.
        numbers: how many of them are numbers, which may be told in pieces.
        weights: number of the network's weights and biases, without pieces.
        target_epsilon, target_delta: what the run and its past may spend.
        spent_epsilon: what the past has spent.
        sampled: what `train_size` is a number of.
    """

    train_size: int
    features: int
    numbers: int
    weights: int
    target_epsilon: float
    target_delta: float
    spent_epsilon: float = 0.0
    sampled: str = "rows"


@dataclass(frozen=True)
class Pinned:
    """What is set by hand; None is `auto`. The meaning is that of `Settings`."""

    batch_size: int | None = None
    epochs: float | None = None
    learning_rate: float | None = None
    momentum: float | None = None
    max_grad_norm: float | None = None
    average_decay: float | None = None
    activation: str | None = None
    pieces: int | None = None

    @classmethod
    def of(cls, params: Params) -> "Pinned":
        """Return what params.yaml sets by hand."""
        return cls(**{field.name: getattr(params, field.name) for field in fields(cls)})

    def like(self, activation: str, pieces: int) -> "Pinned":
        """Return the same with the network of a run to continue, which needs no pilot."""
        return replace(self, activation=activation, pieces=pieces)


@dataclass(frozen=True)
class Settings:
    """What a training needs to be told, none of it `auto` any more.

    Attributes:
        batch_size: expected rows per step.
        epochs: passes over the training rows, of all steps of the plan.
        learning_rate: at the first step; it falls linearly to 0.
        momentum: of SGD, in [0, 1).
        max_grad_norm: C.
        average_decay: most that the average of the weights keeps of itself in a step; 0 keeps
            nothing, so that the average is the last weights.
        activation: relu or tanh.
        pieces: into how many each number is cut; 0 where it is told as it is.
    """

    batch_size: int
    epochs: float
    learning_rate: float
    momentum: float
    max_grad_norm: float
    average_decay: float
    activation: str
    pieces: int

    @property
    def network(self) -> str:
        """What tells a pilot's candidates apart, in words."""
        told = f"numbers in {self.pieces} pieces" if self.pieces else "numbers as they are"
        return f"{self.activation}, {told}"


@dataclass(frozen=True)
class Choice:
    """What the rule chose.

    Attributes:
        candidates: settings, alike in all that the plan is made of; of several, a pilot chooses.
        why: one line that says what was chosen and from which public numbers.
    """

    candidates: tuple[Settings, ...]
    why: str


def choose(public: PublicNumbers, pinned: Pinned = Pinned()) -> Choice:
    """Return settings in which whatever is not pinned follows from the public numbers."""
    signal_of_mu = public.train_size / math.sqrt(public.weights)
    mu = _mu(public.target_epsilon, public.target_delta)
    signal = signal_of_mu * mu
    # A run that continues goes the rest of the way; the limit is on what one run goes, since a past
    # that has reached it must not leave the next run without a way to go.
    left = signal - signal_of_mu * _mu(public.spent_epsilon, public.target_delta)
    path = min(LONGEST_PATH, max(0.0, PATH_PER_SIGNAL * left))
    networks = _networks(public, pinned, signal, mu)

    clip = _or(pinned.max_grad_norm, CLIP)
    reach = path / clip
    momentum = _or(pinned.momentum, _momentum(reach, len(networks)))
    reach *= 1 - momentum  # the sum of learning rates
    fewest = _fewest_steps(reach, len(networks))
    batch_size = pinned.batch_size or _batch_size(public.train_size, mu, signal, fewest)
    epochs = _or(pinned.epochs, fewest * batch_size / public.train_size)
    steps = steps_of(epochs, batch_size / public.train_size)
    networks = networks if steps >= FEWEST_STEPS_OF_A_PILOT else networks[:1]
    schedule = Schedule.of(steps, len(networks))
    # Epochs set by hand may be too few for the path: then it is cut short, not taken in leaps.
    rate = min(LARGEST_LEARNING_RATE, reach / schedule.full_steps)
    rate = _or(pinned.learning_rate, rate)
    decay = _or(pinned.average_decay, AVERAGE_DECAY)
    candidates = tuple(
        Settings(batch_size, epochs, rate, momentum, clip, decay, activation, pieces)
        for activation, pieces in networks
    )
    why = (
        f"signal to noise {signal:.3g} (from {public.train_size} {public.sampled}, "
        f"{public.features} features, {public.weights} weights, ε = {public.target_epsilon:g}, "
        f"δ = {public.target_delta:g}): "
        f"{schedule.steps} steps of {batch_size} {public.sampled}, learning rate {rate:.3g}, "
        f"momentum {momentum:g}, clip {clip:.3g}, "
        + ("a pilot of " if len(candidates) > 1 else "")
        + " and ".join(settings.network for settings in candidates)
    )
    return Choice(candidates, why)


def _or(pinned: float | None, rule: float) -> float:
    return rule if pinned is None else pinned


def _networks(
    public: PublicNumbers, pinned: Pinned, signal: float, mu: float
) -> list[tuple[str, int]]:
    """Return activation and pieces of each candidate, the one for want of evidence first."""
    room = signal * SQUARED_FEATURES_PER_SIGNAL / public.features**2
    activation = pinned.activation or ("relu" if room >= 1 else "tanh")
    if pinned.pieces is not None or not public.numbers:
        return [(activation, pinned.pieces or 0)]
    ample = room >= ROOM_FOR_PIECES
    # The count of what one gets right and the other not has noise σ, over the steps that score.
    noise = 1 / (mu * math.sqrt(SCORING_SHARE) * public.train_size)
    pilot = noise <= (PILOT_NOISE_IF_AMPLE if ample else PILOT_NOISE) and not public.spent_epsilon
    likelier = (PIECES, 0) if ample else (0, PIECES)
    return [(activation, pieces) for pieces in (likelier if pilot else likelier[:1])]


def _momentum(reach: float, candidates: int) -> float:
    """Return the momentum for a path of so many clips."""
    rates = {momentum: reach * (1 - momentum) for momentum in MOMENTA}
    return min(m for m, most in MOMENTA.items() if _fewest_steps(rates[m], candidates) <= most)


def _fewest_steps(rates: float, candidates: int) -> int:
    """Return how many steps of a plan it takes for learning rates to add up to so much."""
    share = Schedule.of(1_000, candidates).full_steps / 1_000
    return max(FEWEST_STEPS, math.ceil(rates / (LARGEST_LEARNING_RATE * share)))


def _batch_size(train_size: int, mu: float, signal: float, steps: int) -> int:
    """Return how many rows a step should see, so that sampling adds as little noise as it may.

    By the central limit theorem of Bu et al. 2020, "Deep Learning with Gaussian Differential
    Privacy", μ = q·√T·(e^(1/σ²) - 1)^½, where all rows in each step would need σ = √T / μ: sampling
    makes the noise in an averaged step f = σ·(e^(1/σ²) - 1)^½ times what it is without.
    """
    factor = max(SAMPLING_NOISE, UNNOTICED_NOISE * signal / math.sqrt(steps))
    # In z = 1 / σ², which grows with f; the bracket holds factors up to 10^12.
    z = optimize.brentq(lambda z: math.log(math.expm1(z) / z) - 2 * math.log(factor), 1e-9, 60)
    share = max(mu / math.sqrt(steps * math.expm1(z)), SMALLEST_BATCH / train_size)
    # A batch of nearly all rows is as dear as one of all, and noisier.
    return train_size if share > 0.5 else round(share * train_size)


def _mu(epsilon: float, delta: float) -> float:
    """Return the precision 1 / σ of the Gaussian mechanism that is (ε, δ)-private."""
    return 1 / float(dp_accounting.get_sigma_gaussian(epsilon, delta)) if epsilon else 0.0
