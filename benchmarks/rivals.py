"""What the project's default is measured beside: private peers, and models without privacy.

Each takes a task and returns the test rows' class probabilities.
"""

import copy
import math
import pickle
import subprocess
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from interpret.privacy import DPExplainableBoostingClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from benchmarks.oracle import predict
from benchmarks.table import Probabilities, Task
from stages.training.calibration import calibrate
from stages.training.gradients import ClippedSumFunction
from stages.training.learner import as_vector
from stages.training.network import as_arrays
from stages.training.noise import poisson_batch, random_source

# The usual notebook's settings (benchmarks/notebook.py).
NOTEBOOK_EPOCHS = 25
NOTEBOOK_BATCH = 64
NOTEBOOK_RATE = 1e-3
NOTEBOOK_CLIP = 1.0
# On large tables its batches grow, since 64 rows at a time would take an hour.
NOTEBOOK_STEPS_AN_EPOCH = 80

# Of the network without privacy: steps, of which large tables have more, up to ten epochs of them.
PLAIN_STEPS, MOST_PLAIN_STEPS, PLAIN_EPOCHS = 1_500, 10_000, 10
PLAIN_STEPS_A_LOOK = 25
PLAIN_BATCH = 256
HELD_OUT, MOST_HELD_OUT = 0.2, 20_000

# Of the environment that the Makefile makes for diffprivlib.
DIFFPRIVLIB_PYTHON = Path(".venv-diffprivlib/bin/python")


Rival = Callable[[Task], Probabilities]


# --- private -------------------------------------------------------------------------------------


def notebook(task: Task) -> Probabilities:
    """Opacus as the usual notebook sets it, by this project's faster sum of clipped gradients."""
    rows = len(task.y)
    batch = min(rows, max(NOTEBOOK_BATCH, rows // NOTEBOOK_STEPS_AN_EPOCH))
    steps = round(NOTEBOOK_EPOCHS * rows / batch)
    noise = _noise_multiplier(task.epsilon, task.delta, batch / rows, steps) * NOTEBOOK_CLIP
    network, source = task.network(), random_source(task.seed)
    weights = as_vector(network)
    clipped_sum = ClippedSumFunction(as_arrays(network))
    optimizer = torch.optim.Adam([weights], lr=NOTEBOOK_RATE)
    for _ in range(steps):
        chosen = poisson_batch(source, rows, batch / rows)
        gradient = clipped_sum(task.x[chosen], task.y[chosen], NOTEBOOK_CLIP).gradient
        noisy = (gradient + noise * source.standard_normal(len(weights))) / batch
        weights.grad = torch.from_numpy(noisy.astype(np.float32))
        optimizer.step()
    return predict(as_arrays(network), task.x_test)


@cache
def _noise_multiplier(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    return calibrate(epsilon, delta=delta, sample_rate=sample_rate, steps=steps)


def dp_ebm(task: Task) -> Probabilities:
    """Explainable boosting (Nori et al. 2021), for two classes; it can do no more."""
    features = task.x.shape[1]
    model = DPExplainableBoostingClassifier(
        epsilon=task.epsilon,
        delta=task.delta,
        feature_types=["continuous"] * features,
        privacy_bounds=dict.fromkeys(range(features), (-1, 1)),
        n_jobs=1,
        random_state=task.seed,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Privacy violation: using a fixed random_state")
        model.fit(task.x.astype(float), task.y)
    probabilities: Probabilities = model.predict_proba(task.x_test.astype(float))
    return probabilities


def diffprivlib(task: Task, kind: str) -> Probabilities:
    """`logistic` regression (Chaudhuri et al. 2011) or random `forest`; δ = 0, they need none."""
    request = {
        "kind": kind,
        "epsilon": task.epsilon,
        "classes": task.classes,
        "seed": task.seed,
        "x": task.x.astype(float),
        "y": task.y,
        "x_test": task.x_test.astype(float),
    }
    server = _diffprivlib_server()
    assert server.stdin
    assert server.stdout
    pickle.dump(request, server.stdin)
    server.stdin.flush()
    probabilities: Probabilities = pickle.load(server.stdout)
    return probabilities


@cache
def _diffprivlib_server() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [DIFFPRIVLIB_PYTHON, "-m", "benchmarks.diffprivlib_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


# --- without privacy -----------------------------------------------------------------------------


def logistic(task: Task) -> Probabilities:
    """Logistic regression."""
    model = LogisticRegression(max_iter=1_000).fit(task.x.astype(float), task.y)
    return _of_all_classes(model, task)


def boosting(task: Task) -> Probabilities:
    """Gradient-boosted trees."""
    model = HistGradientBoostingClassifier(early_stopping=True, random_state=task.seed)
    return _of_all_classes(model.fit(task.x, task.y), task)


def _of_all_classes(model: LogisticRegression, task: Task) -> Probabilities:
    """Return a scikit-learn model's probabilities, 0 for classes that it never saw."""
    probabilities = np.zeros((len(task.x_test), task.classes))
    probabilities[:, model.classes_] = model.predict_proba(task.x_test.astype(float))
    return probabilities


def perceptron(task: Task) -> Probabilities:
    """The project's network by plain PyTorch: Adam, stopped where held-out rows like it best."""
    network, source = task.network(), np.random.default_rng(task.seed)
    rows = len(task.y)
    held = torch.from_numpy(source.random(rows) < min(HELD_OUT, MOST_HELD_OUT / rows))
    x, y = torch.from_numpy(task.x), torch.from_numpy(task.y)
    (x, y), (x_held, y_held) = (x[~held], y[~held]), (x[held], y[held])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    least, kept = math.inf, network
    steps = max(PLAIN_STEPS, min(MOST_PLAIN_STEPS, PLAIN_EPOCHS * rows // PLAIN_BATCH))
    for step in range(steps):
        if step % PLAIN_STEPS_A_LOOK == 0:
            with torch.no_grad():
                loss = float(functional.cross_entropy(network(x_held), y_held))
            if loss < least:
                least, kept = loss, copy.deepcopy(network)
        batch = torch.from_numpy(source.integers(len(y), size=min(len(y), PLAIN_BATCH)))
        optimizer.zero_grad()
        functional.cross_entropy(network(x[batch]), y[batch]).backward()
        optimizer.step()
    return predict(as_arrays(kept), task.x_test)


PRIVATE: dict[str, Rival] = {
    "notebook": notebook,
    "diffprivlib LR": partial(diffprivlib, kind="logistic"),
    "diffprivlib RF": partial(diffprivlib, kind="forest"),
    "DP-EBM": dp_ebm,
}
NOT_PRIVATE: dict[str, Rival] = {
    "LR, no privacy": logistic,
    "MLP, no privacy": perceptron,
    "boosting, no privacy": boosting,
}
