"""Hyperparameters from public numbers alone, so that nothing need be tuned on private rows.

What binds is how far the weights may travel before the noise they gather on the way outweighs what
they learn. With n rows, P weights and μ the Gaussian privacy parameter of (ε, δ) (Dong, Roth & Su
2019), a full-batch run of T steps has noise σ = √T / μ. The noise in an averaged step then has the
norm σ·C·√P / n, a clipped gradient has C at most, and over T steps signal to noise is

    s = n·μ / √P.

The path is learning rate × steps / (1 - momentum) / 2 × clip, the furthest that clipped gradients
can carry the weights while the learning rate falls to zero; the number of steps only says how
finely it is cut. With d features, of which about d²/2 pairs could matter together, the rule is:

    s < d²/55   no room to learn of pairs: tanh, which is nearly linear at first,
                path 20·s^0.85, clip growing from 3 to 5 with s;
    s ≥ d²/55   room: ReLU, which bends at once, path 20·s, clip 5.

No path is longer than 800. (That the best path grows with ε and depends on little else: Panda et
al. 2024, "A New Linear Scaling Rule for Private Adaptive Hyperparameter Optimization". The
constants were fitted to simulations on tables of 142 to 160,000 rows, 4 to 100 features and 2 to 10
classes, at ε 0.1 to 8: benchmarks/UTILITY.md.)
"""

import math
from dataclasses import dataclass, fields

import dp_accounting

from stages.params import Params

# Bounded units pass on less noise than rectified ones (Papernot et al. 2021, "Tempered Sigmoid
# Activations for Deep Learning with Differential Privacy"), which learn of pairs sooner.
SQUARED_FEATURES_PER_SIGNAL = 55.0

PATH_SCALE = 20.0
PATH_EXPONENT, PATH_EXPONENT_WITH_ROOM = 0.85, 1.0
LONGEST_PATH = 800.0

# With more signal, less of a gradient need be clipped, which is what keeps probabilities honest.
SMALLEST_CLIP, LARGEST_CLIP = 3.0, 5.0
CLIP_EXPONENT = 0.3
SIGNAL_AT_SMALLEST_CLIP = 1.5

MOMENTUM = 0.5
AVERAGE_DECAY = 0.9
FEWEST_STEPS = 100
LARGEST_LEARNING_RATE = 0.5

# Sampling a share q of the rows adds little noise while q·√steps is well above μ (the subsampled
# noise is close to that of full batches there), and a batch has at least so many rows.
SAMPLED_ENOUGH = 4.0
SMALLEST_BATCH = 1_024


@dataclass(frozen=True)
class PublicNumbers:
    """All that the rule may look at.

    Attributes:
        train_size: rows on the training side, as declared.
        features: columns that the network sees.
        weights: number of the network's weights and biases.
        target_epsilon, target_delta: what the run and its past may spend.
        spent_epsilon: what the past has spent.
    """

    train_size: int
    features: int
    weights: int
    target_epsilon: float
    target_delta: float
    spent_epsilon: float = 0.0


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

    @classmethod
    def of(cls, params: Params, activation: str | None = None) -> "Pinned":
        """Return what params.yaml sets by hand; `activation` is that of a run to continue."""
        by_hand = {field.name: getattr(params, field.name) for field in fields(cls)}
        return cls(**by_hand | ({"activation": activation} if activation else {}))


@dataclass(frozen=True)
class Settings:
    """What a training needs to be told, none of it `auto` any more.

    Attributes:
        batch_size: expected rows per step.
        epochs: passes over the training rows.
        learning_rate: at the first step; it falls linearly to 0.
        momentum: of SGD, in [0, 1).
        max_grad_norm: C.
        average_decay: most that the average of the weights keeps of itself in a step; 0 keeps
            nothing, so that the average is the last weights.
        activation: relu or tanh.
        why: one line that says what was chosen and from which public numbers.
    """

    batch_size: int
    epochs: float
    learning_rate: float
    momentum: float
    max_grad_norm: float
    average_decay: float
    activation: str
    why: str = ""


def choose(public: PublicNumbers, pinned: Pinned = Pinned()) -> Settings:
    """Return settings in which whatever is not pinned follows from the public numbers."""
    signal_of_mu = public.train_size / math.sqrt(public.weights)
    mu = _mu(public.target_epsilon, public.target_delta)
    signal = signal_of_mu * mu
    room = signal >= public.features**2 / SQUARED_FEATURES_PER_SIGNAL
    # A run that continues goes the rest of the way; the limit is on what one run goes, since a past
    # that has reached it must not leave the next run without a way to go.
    walked = _path(signal_of_mu * _mu(public.spent_epsilon, public.target_delta), room)
    path = min(LONGEST_PATH, max(0.0, _path(signal, room) - walked))

    clip = _or(pinned.max_grad_norm, _clip(signal, room))
    momentum = _or(pinned.momentum, MOMENTUM)
    reach = 2 * (1 - momentum) * path / clip  # learning rate times steps
    fewest = max(FEWEST_STEPS, math.ceil(reach / LARGEST_LEARNING_RATE))
    batch_size = pinned.batch_size or _batch_size(public.train_size, mu, fewest)
    epochs = _or(pinned.epochs, fewest * batch_size / public.train_size)
    steps = max(1, round(epochs * public.train_size / batch_size))
    # Epochs set by hand may be too few for the path: then it is cut short, not taken in leaps.
    rate = _or(pinned.learning_rate, min(LARGEST_LEARNING_RATE, reach / steps))
    activation = pinned.activation or ("relu" if room else "tanh")
    why = (
        f"signal to noise {signal:.3g} (from {public.train_size} rows, {public.features} features, "
        f"{public.weights} weights, ε = {public.target_epsilon:g}, δ = {public.target_delta:g}): "
        f"{steps} steps of {batch_size} rows, "
        f"learning rate {rate:.3g}, momentum {momentum:g}, clip {clip:.3g}, {activation}"
    )
    decay = _or(pinned.average_decay, AVERAGE_DECAY)
    return Settings(batch_size, epochs, rate, momentum, clip, decay, activation, why)


def _or(pinned: float | None, rule: float) -> float:
    return rule if pinned is None else pinned


def _batch_size(train_size: int, mu: float, steps: int) -> int:
    enough = SAMPLED_ENOUGH * mu / math.sqrt(steps)
    share = min(1.0, max(enough, SMALLEST_BATCH / train_size))
    # A batch of nearly all rows is as dear as one of all, and noisier.
    return train_size if share > 0.5 else round(share * train_size)


def _path(signal: float, room: bool) -> float:
    return PATH_SCALE * signal ** (PATH_EXPONENT_WITH_ROOM if room else PATH_EXPONENT)


def _clip(signal: float, room: bool) -> float:
    if room:
        return LARGEST_CLIP
    grown = SMALLEST_CLIP * (signal / SIGNAL_AT_SMALLEST_CLIP) ** CLIP_EXPONENT
    return min(LARGEST_CLIP, max(SMALLEST_CLIP, grown))


def _mu(epsilon: float, delta: float) -> float:
    """Return the precision 1 / σ of the Gaussian mechanism that is (ε, δ)-private."""
    return 1 / float(dp_accounting.get_sigma_gaussian(epsilon, delta)) if epsilon else 0.0
