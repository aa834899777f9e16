"""The default's settings, and the best of a grid, and how to train by either.

The oracle ignores what tuning costs in privacy. It is chosen by successive halving, on splits and
noise of its own, and is then run anew, so that its figures do not profit from having been chosen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from torch import nn

from benchmarks.suite import HIDDEN_SIZES, Probabilities, Task
from stages.model.perceptron import count_weights, predict_probabilities
from stages.tabular.prepared import Features, Side
from stages.training import auto
from stages.training.dp_sgd import PrivateTraining
from stages.training.network import as_arrays
from stages.training.noise import random_source
from stages.training.plan import Plan, make_plan

METRIC_NOISE_RATIO = 4.0  # as in params.yaml

# The grid: how far clipped gradients can carry the weights (see stages/training/auto.py), and more.
PATHS = (3.0, 8.0, 20.0, 50.0, 120.0, 280.0, 650.0, 1_500.0)
CLIPS = (1.5, 3.0, 5.0)
ACTIVATIONS = ("relu", "tanh")
FEWEST_STEPS = 100
# The furthest that one step may carry: clip 5 at learning rate 0.5.
LONGEST_STEP = 2.5
# Momentum, of which long paths have more, so that they need not more steps.
MOMENTUM, LONG_MOMENTUM, LONG_PATH = 0.5, 0.8, 200.0

# On tables that train on more rows than this, only so many paths, those nearest to the default's,
# are tried, and small clips are not.
LARGE, PATHS_IF_LARGE = 20_000, 4

# Rows of a batch while candidates are compared, at most so many or this share of the table; larger
# ones would cost time and hardly change who wins.
SCREENING_BATCH, SCREENING_SHARE = 1_024, 1 / 80


@dataclass(frozen=True)
class Recipe:
    """A way to train.

    Attributes:
        batch_size, steps, learning_rate, momentum, clip, average_decay, activation: as params.yaml
            has them.
        is_default: whether `auto` chose them.
    """

    batch_size: int
    steps: int
    learning_rate: float
    momentum: float
    clip: float
    average_decay: float
    activation: str
    is_default: bool = False

    @property
    def path(self) -> float:
        """How far clipped gradients can carry the weights."""
        return self.learning_rate * self.steps / (1 - self.momentum) / 2 * self.clip

    def __str__(self) -> str:
        name = "default: " if self.is_default else ""
        return (
            f"{name}path {self.path:.3g}, clip {self.clip:.2g}, {self.steps} × {self.batch_size}, "
            f"momentum {self.momentum:g}, {self.activation}"
        )


def default_recipe(task: Task) -> Recipe:
    """Return what `auto` chooses for a task's public numbers."""
    rows = len(task.y)
    chosen = auto.choose(_public(task))
    return Recipe(
        chosen.batch_size,
        max(1, round(chosen.epochs * rows / chosen.batch_size)),
        chosen.learning_rate,
        chosen.momentum,
        chosen.max_grad_norm,
        chosen.average_decay,
        chosen.activation,
        is_default=True,
    )


def _public(task: Task) -> auto.PublicNumbers:
    features = task.x.shape[1]
    return auto.PublicNumbers(
        train_size=len(task.y),
        features=features,
        weights=count_weights([features, *HIDDEN_SIZES, task.classes]),
        target_epsilon=task.epsilon,
        target_delta=task.delta,
    )


def grid(default: Recipe, rows: int) -> list[Recipe]:
    """Return what the default competes with on a table of so many training rows."""
    near = sorted(PATHS, key=lambda path: abs(math.log(path / default.path)))
    if rows > LARGE:
        choices = product(near[:PATHS_IF_LARGE], CLIPS[1:], ACTIVATIONS)
    else:
        choices = product(PATHS, CLIPS, ACTIVATIONS)
    return [_recipe(default, rows, *choice) for choice in choices]


def _recipe(default: Recipe, rows: int, path: float, clip: float, activation: str) -> Recipe:
    momentum = LONG_MOMENTUM if path > LONG_PATH else MOMENTUM
    reach = 2 * (1 - momentum) * path  # clip times learning rate times steps
    steps = max(FEWEST_STEPS, math.ceil(reach / LONGEST_STEP))
    # Fewer steps need larger batches for the sampling to add little noise.
    batch = default.batch_size * max(1.0, math.sqrt(default.steps / steps))
    return replace(
        default,
        batch_size=rows if batch > rows / 2 else round(batch),
        steps=steps,
        learning_rate=reach / clip / steps,
        momentum=momentum,
        clip=clip,
        activation=activation,
        is_default=False,
    )


def plan_of(recipe: Recipe, task: Task) -> Plan:
    """Return the plan whose noise is just enough for the task's ε."""
    return make_plan(_public(task), _settings(recipe, len(task.y)), METRIC_NOISE_RATIO)


def _settings(recipe: Recipe, rows: int) -> auto.Settings:
    return auto.Settings(
        batch_size=recipe.batch_size,
        epochs=recipe.steps * recipe.batch_size / rows,
        learning_rate=recipe.learning_rate,
        momentum=recipe.momentum,
        max_grad_norm=recipe.clip,
        average_decay=recipe.average_decay,
        activation=recipe.activation,
    )


def rough_plan(recipe: Recipe, known: Plan) -> Plan:
    """Return a plan for comparing candidates, from one that is calibrated.

    Noise follows from the known plan's by σ ∝ share · √steps, which is exact for full batches. A
    large batch is replaced by a smaller one with the same noise in an averaged step.
    """
    share = recipe.batch_size / known.train_size
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
        max_grad_norm=recipe.clip,
    )


def train(task: Task, recipe: Recipe, plan: Plan, noise: int | None = None) -> Probabilities:
    """Train as the pipeline does; return the test rows' class probabilities.

    `noise` is the noise's seed where it is not to be the task's.
    """
    training = PrivateTraining(
        task.network(recipe.activation),
        Side(task.x, task.y),
        plan,
        _settings(recipe, len(task.y)),
        random_source(task.seed if noise is None else noise),
    )
    for _ in training.epochs():
        pass
    return predict(training.average, task.x_test)


def predict(network: nn.Sequential, features: Features) -> Probabilities:
    """Return a network's class probabilities."""
    return np.concatenate(list(predict_probabilities(as_arrays(network), features)))


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
