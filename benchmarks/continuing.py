"""What privacy's extras cost in accuracy, on the sample: `python -m benchmarks.continuing`.

Every figure is exact, over simulated runs (the noise has a known seed), so nothing here is private
and nothing of it may be published about real patients; the sample is no real person's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from sklearn.metrics import accuracy_score, log_loss
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from stages.model.perceptron import predict_probabilities
from stages.params import Params, load_params
from stages.privacy.events import Steps
from stages.tabular.prepared import Prepared
from stages.training.auto import Settings
from stages.training.checkpoint import Checkpoint, state_of
from stages.training.dp_sgd import PrivateTraining
from stages.training.network import as_arrays, build_network
from stages.training.noise import random_source
from stages.training.past import Past
from stages.training.plan import Plan
from stages.training.setup import architecture, settle

RUNS = 20


def main() -> None:
    params, table = load_params(), Prepared.open()
    threadpool_limits(1)
    settings, whole = settle(params, table, params.train_size or 0)
    without_curves = replace(
        whole,
        noise_multiplier=whole.effective_noise_multiplier,
        metric_noise_multiplier=1e9,
    )
    plans = {
        "new run": [(settings, whole)],
        "new run that keeps its curves to itself": [(settings, without_curves)],
        "continued, ε = 1, 2, then the target": list(_continued(params, table)),
    }
    print(f"{RUNS} simulated runs each, mean ± standard error, at ε = {params.target_epsilon:g}")
    print(f"{'':42}{'accuracy':>18}{'log loss':>18}")
    for name, sequence in plans.items():
        figures = np.array(
            [_run(params, table, sequence, seed) for seed in tqdm(range(RUNS), disable=None)]
        )
        mean, error = figures.mean(axis=0), figures.std(axis=0, ddof=1) / RUNS**0.5
        cells = [f"{m:.4f} ± {e:.4f}" for m, e in zip(mean, error, strict=True)]
        print(f"{name:42}{cells[0]:>18}{cells[1]:>18}")


def _continued(params: Params, table: Prepared) -> Iterator[tuple[Settings, Plan]]:
    """Yield settings and plans of three runs of which each goes on from the one before."""
    past: list[Steps] = []
    for epsilon in (1.0, 2.0, params.target_epsilon):
        stage = params.model_copy(update={"target_epsilon": epsilon})
        settings, plan = settle(stage, table, params.train_size or 0, past)
        past.append(plan.planned)
        yield settings, plan


def _run(
    params: Params, table: Prepared, plans: Sequence[tuple[Settings, Plan]], seed: int
) -> tuple[float, float]:
    """Train by the plans one after the other; return exact test accuracy and log loss."""
    past = Past()
    for number, (settings, plan) in enumerate(plans):
        network = build_network(architecture(params, table, settings), params.init_seed)
        source = random_source(1000 * number + seed)
        training = PrivateTraining(network, table.train, plan, settings, source)
        past.restore_into(training)
        for _ in training.epochs():
            pass
        history = [*past.history, *training.history]
        past = Past(Checkpoint(None, history, [], {}, state_of(training)))
    features, labels = table.test
    probabilities = np.concatenate(
        list(predict_probabilities(as_arrays(training.average), features))
    )
    return (
        float(accuracy_score(labels, probabilities.argmax(axis=1))),
        float(log_loss(labels, probabilities)),
    )


if __name__ == "__main__":
    main()
