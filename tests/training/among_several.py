"""One of several processes that train together; run by torchrun from test_processes."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from stages.model.perceptron import Architecture
from stages.tabular.prepared import Side
from stages.training import people
from stages.training.dp_sgd import PrivateTraining
from stages.training.network import build_network
from stages.training.noise import random_source
from stages.training.plan import Plan
from stages.training.processes import Processes
from tests.runs import settings, training_of

ROWS = 30
STEPS = 40
# One row a step on average, so that most steps find one of two shards empty, and many both.
PLAN = Plan(
    train_size=ROWS,
    sample_rate=1 / ROWS,
    steps=STEPS,
    expected_batch_size=1.0,
    noise_multiplier=1.3,
    metric_noise_multiplier=6.5,
    max_grad_norm=0.7,
    delta=1e-5,
)
# The whole table in each step, and no noise worth mentioning.
EXACT = replace(PLAN, sample_rate=1.0, steps=3, noise_multiplier=1e-9)


def train(plan, rows, processes, seed=None):
    """Return a finished training, and after each step the weights and the gradient applied."""
    source = np.random.default_rng(0)
    features = source.uniform(-1, 1, (rows, 6)).astype(np.float32)
    training = training_of(
        build_network(Architecture(6, 3, (8, 5), "relu"), init_seed=1),
        (features, source.integers(0, 3, rows)),
        plan,
        random_source(seed, processes.rank),
        processes,
    )
    weights: list = []
    gradients: list = []
    (vector,) = training.learner.optimizer.params

    def remember():
        weights.append(vector.detach().numpy().copy())
        gradients.append(vector.grad.numpy().copy())

    step = training.learner.step
    training.learner.step = lambda share: (step(share), remember())  # type: ignore[assignment]
    for _ in training.epochs():
        pass
    return training, np.array(weights), np.array(gradients)


def choose(processes):
    """Return a finished training that chose between two networks and learned a temperature."""
    source = np.random.default_rng(0)
    features = source.uniform(-1, 1, (ROWS, 6)).astype(np.float32)
    candidates = [
        (build_network(Architecture(6, 3, (8,), activation), init_seed=1), settings())
        for activation in ("relu", "tanh")
    ]
    training = PrivateTraining(
        candidates,
        Side(features, source.integers(0, 3, ROWS)),
        replace(PLAN, steps=60, candidates=2),
        random_source(None, processes.rank),
        processes,
    )
    training.follow()
    return training


def main():
    folder = Path(sys.argv[1])
    processes = Processes.join()
    threadpool_limits(1)
    training, weights, _ = train(PLAN, ROWS, processes)
    training.monitors.require_passed(training.history)
    _, _, noise = train(PLAN, 0, processes)
    chosen = choose(processes)
    people.CHUNK_ROWS = 7
    _, exact, _ = train(EXACT, ROWS, processes, seed=5)
    np.savez(
        folder / f"{processes.rank}.npz",
        weights=weights,
        own_people=training.monitors.own_people,
        batch_sizes=training.monitors.batch_sizes,
        history=[vars(steps) for steps in training.history],
        noise=noise * PLAN.expected_batch_size / (PLAN.noise_multiplier * PLAN.max_grad_norm),
        exact=exact,
        scores=[score.accuracy for score in chosen.scores],
        beta=chosen.temperature.beta,
        released=chosen.learner.average_weights.detach().numpy(),
    )


if __name__ == "__main__":
    main()
