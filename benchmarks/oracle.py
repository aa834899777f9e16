"""The default's settings, and the best of a grid, and how to train by either.

The oracle ignores what tuning costs in privacy. It is chosen by successive halving, on splits and
noise of its own, and is then run anew, so that its figures do not profit from having been chosen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from benchmarks.scores import tempered
from benchmarks.table import Probabilities, Task
from stages.model.perceptron import Model, count_weights, predict_probabilities
from stages.tabular.prepared import Features
from stages.training import auto
from stages.training.dp_sgd import PrivateTraining
from stages.training.network import as_arrays
from stages.training.noise import random_source
from stages.training.plan import Plan, make_plan
from stages.training.schedule import Schedule

METRIC_NOISE_RATIO = 4.0  # as in params.yaml

# The grid: how far clipped gradients can carry the weights (see stages/training/auto.py), and more.
PATHS = (3.0, 8.0, 20.0, 50.0, 120.0, 280.0, 650.0, 1_500.0, 3_500.0, 8_000.0, 20_000.0, 50_000.0)
NEAREST_PATHS = 5
CLIPS = (3.0, 5.0)
ACTIVATIONS = ("relu", "tanh")
PIECES = (0, 8)
LARGEST_LEARNING_RATE = 0.5
# Momentum, of which long paths have more, so that they need so many steps at most.
MOMENTA = {0.5: 150, 0.8: 1_000, 0.9: math.inf}
FEWEST_STEPS = 150
SMALLEST_BATCH = 1_024

# On tables that train on more rows than this, only the larger clip is tried.
LARGE = 50_000

# Rows of a batch while candidates are compared, at most so many or this share of the table; larger
# ones would cost time and hardly change who wins.
SCREENING_BATCH, SCREENING_SHARE = 512, 1 / 160


@dataclass(frozen=True)
class Recipe:
    """A way to train.

    Attributes:
        candidates: of several settings, a pilot chooses.
        steps: of the plan.
        is_default: whether `auto` chose them.
    """

    candidates: tuple[auto.Settings, ...]
    steps: int
    is_default: bool = False

    @property
    def path(self) -> float:
        """How far clipped gradients can carry the weights."""
        settings = self.candidates[0]
        rates = settings.learning_rate * Schedule.of(self.steps, len(self.candidates)).full_steps
        return rates / (1 - settings.momentum) * settings.max_grad_norm

    def __str__(self) -> str:
        first = self.candidates[0]
        networks = " or ".join(f"{each.activation}/{each.pieces}" for each in self.candidates)
        return (
            f"{networks}, path {self.path:.3g}, clip {first.max_grad_norm:.2g}, {self.steps} × "
            f"{first.batch_size}, momentum {first.momentum:g}"
        )


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        probabilities: of the released model, (test rows, classes).
        beta: the inverse temperature that it learned.
        chosen: activation and pieces of its network.
    """

    probabilities: Probabilities
    beta: float
    chosen: str

    @property
    def uncalibrated(self) -> Probabilities:
        """The probabilities at temperature 1."""
        return tempered(self.probabilities, 1 / self.beta)


def default_recipe(task: Task) -> Recipe:
    """Return what `auto` chooses for a task's public numbers."""
    candidates = auto.choose(_public(task)).candidates
    rate = candidates[0].batch_size / task.side.people
    return Recipe(candidates, auto.steps_of(candidates[0].epochs, rate), is_default=True)


def _public(task: Task) -> auto.PublicNumbers:
    return auto.PublicNumbers(
        train_size=task.side.people,
        features=task.x.shape[1],
        numbers=len(task.numbers),
        weights=count_weights(task.widths),
        target_epsilon=task.epsilon,
        target_delta=task.delta,
    )


def grid(default: Recipe, task: Task) -> list[Recipe]:
    """Return what the default competes with."""
    rows = len(task.y)
    paths = sorted(PATHS, key=lambda path: abs(math.log(path / default.path)))[:NEAREST_PATHS]
    clips = CLIPS[-1:] if rows > LARGE else CLIPS
    pieces = PIECES if task.numbers else PIECES[:1]
    return [
        _recipe(default, rows, *choice) for choice in product(paths, clips, ACTIVATIONS, pieces)
    ]


def _recipe(
    default: Recipe, rows: int, path: float, clip: float, activation: str, pieces: int
) -> Recipe:
    momentum, steps = _pace(path / clip)
    # Fewer steps need larger batches for the sampling to add little noise.
    batch = default.candidates[0].batch_size * math.sqrt(default.steps / steps)
    batch_size = rows if batch > rows / 2 else max(round(batch), min(SMALLEST_BATCH, rows))
    settings = replace(
        default.candidates[0],
        batch_size=batch_size,
        epochs=steps * batch_size / rows,
        learning_rate=path / clip * (1 - momentum) / Schedule.of(steps).full_steps,
        momentum=momentum,
        max_grad_norm=clip,
        activation=activation,
        pieces=pieces,
    )
    return Recipe((settings,), steps)


def _pace(reach: float) -> tuple[float, int]:
    """Return the least momentum with which a path of so many clips takes few steps, and these."""
    for momentum, most in MOMENTA.items():
        rates = reach * (1 - momentum) / LARGEST_LEARNING_RATE
        steps = max(FEWEST_STEPS, math.ceil(rates / (Schedule.of(1_000).full_steps / 1_000)))
        if steps <= most:
            break
    return momentum, steps


def plan_of(recipe: Recipe, task: Task) -> Plan:
    """Return the plan whose noise is just enough for the task's ε."""
    return make_plan(
        _public(task),
        recipe.candidates[0],
        METRIC_NOISE_RATIO,
        candidates=len(recipe.candidates),
    )


def rough_plan(recipe: Recipe, known: Plan) -> Plan:
    """Return a plan for comparing candidates, from one that is calibrated.

    Noise follows from the known plan's by σ ∝ share · √steps, which is exact for full batches. A
    large batch is replaced by a smaller one with the same noise in an averaged step.
    """
    settings = recipe.candidates[0]
    share = settings.batch_size / known.train_size
    smaller = min(share, max(SCREENING_BATCH / known.train_size, SCREENING_SHARE))
    noise = known.noise_multiplier * math.sqrt(recipe.steps / known.steps)
    noise *= smaller / known.sample_rate
    return replace(
        known,
        sample_rate=smaller,
        steps=recipe.steps,
        expected_batch_size=smaller * known.train_size,
        noise_multiplier=noise,
        metric_noise_multiplier=noise * METRIC_NOISE_RATIO,
        max_grad_norm=settings.max_grad_norm,
        candidates=len(recipe.candidates),
    )


def train(task: Task, recipe: Recipe, plan: Plan, noise: int | None = None) -> Trained:
    """Train as the pipeline does.

    `noise` is the noise's seed where it is not to be the task's.
    """
    training = PrivateTraining(
        [
            (task.network(settings.activation, settings.pieces), settings)
            for settings in recipe.candidates
        ],
        task.side,
        plan,
        random_source(task.seed if noise is None else noise),
    )
    for _ in training.epochs():
        pass
    beta = training.temperature.beta
    settings = training.learner.settings
    return Trained(
        predict(as_arrays(training.average).sharpened(beta), task.x_test),
        beta,
        f"{settings.activation}/{settings.pieces}",
    )


def predict(model: Model, features: Features) -> Probabilities:
    """Return a model's class probabilities."""
    return np.concatenate(list(predict_probabilities(model, features)))


def best(
    candidates: Sequence[Recipe],
    score: Callable[[Recipe, int], float],
    rounds: Sequence[tuple[int, int]],
) -> Recipe:
    """Return the candidate with the highest mean score, by successive halving.

    Args:
        candidates: what to choose from.
        score: of a candidate in a repeat of that number.
        rounds: for each, how many of the best candidates stay and how often each is scored.
    """
    scores: dict[Recipe, list[float]] = {recipe: [] for recipe in candidates}
    for stay, repeats in rounds:
        ranked = sorted(scores, key=lambda recipe: -np.mean(scores[recipe] or [0.0]))
        for recipe in ranked[:stay]:
            so_far = len(scores[recipe])
            scores[recipe] += [score(recipe, so_far + repeat) for repeat in range(repeats)]
        scores = {recipe: scores[recipe] for recipe in ranked[:stay]}
    return max(scores, key=lambda recipe: float(np.mean(scores[recipe])))
