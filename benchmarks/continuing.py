"""What privacy's extras cost in accuracy, on the sample: `python -m benchmarks.continuing`.

Every figure is exact, over simulated runs (the noise has a known seed), so nothing here is private
and nothing of it may be published about real patients; the sample is no real person's.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from sklearn.metrics import accuracy_score, log_loss
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from stages.model.perceptron import predict_probabilities
from stages.params import Params, load_params
from stages.tabular.prepared import Prepared
from stages.training.checkpoint import Checkpoint, state_of
from stages.training.dp_sgd import PrivateTraining
from stages.training.network import as_arrays, build_network
from stages.training.noise import random_source
from stages.training.past import NO_PAST, Past
from stages.training.plan import Plan
from stages.training.setup import architecture, settle

RUNS = 20


def main() -> None:
    params, table = load_params(), Prepared.open()
    threadpool_limits(1)
    target = params.target_epsilon
    ways = {
        "new run": partial(_run, [target]),
        "new run that keeps its curves to itself": partial(_run, [target], curves=False),
        "continued, ε = 1, 2, then the target": partial(_run, [1.0, 2.0, target]),
    }
    print(f"{RUNS} simulated runs each, mean ± standard error, at ε = {target:g}")
    print(f"{'':42}{'accuracy':>18}{'log loss':>18}")
    for name, run in ways.items():
        figures = np.array(
            [run(params=params, table=table, seed=seed) for seed in tqdm(range(RUNS), disable=None)]
        )
        mean, error = figures.mean(axis=0), figures.std(axis=0, ddof=1) / RUNS**0.5
        cells = [f"{m:.4f} ± {e:.4f}" for m, e in zip(mean, error, strict=True)]
        print(f"{name:42}{cells[0]:>18}{cells[1]:>18}")


def _run(
    epsilons: Sequence[float], *, params: Params, table: Prepared, seed: int, curves: bool = True
) -> tuple[float, float]:
    """Train, each run going on from the one before; return exact test accuracy and log loss."""
    past = NO_PAST
    for number, epsilon in enumerate(epsilons):
        stage = params.model_copy(update={"target_epsilon": epsilon})
        choice, plan = settle(stage, table, params.train_size or 0, past)
        training = PrivateTraining(
            [
                (build_network(architecture(params, table, settings), params.init_seed), settings)
                for settings in choice.candidates
            ],
            table.train,
            plan if curves else _without_curves(plan),
            random_source(1000 * number + seed),
        )
        past.restore_into(training)
        for _ in training.epochs():
            pass
        settings = training.learner.settings
        about = {"activation": settings.activation, "pieces": settings.pieces}
        history = [*past.history, *training.history]
        past = Past(Checkpoint(None, history, [], about, state_of(training)))
    model = as_arrays(training.average).sharpened(training.temperature.beta)
    features, labels, _ = table.test
    probabilities = np.concatenate(list(predict_probabilities(model, features)))
    return (
        float(accuracy_score(labels, probabilities.argmax(axis=1))),
        float(log_loss(labels, probabilities)),
    )


def _without_curves(plan: Plan) -> Plan:
    return replace(
        plan,
        noise_multiplier=plan.effective_noise_multiplier,
        metric_noise_multiplier=1e9,
    )


if __name__ == "__main__":
    main()
