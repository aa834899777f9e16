"""Try several settings and keep only the best, at a price known in advance.

    python -m stages.tune -S learning_rate=0.1,0.28,0.6 -S momentum=0.5,0.8 --trials 5

A random number of trials is run, each with settings drawn from the grid; only the best by its
private test metric is kept, and nobody is shown the others. That costs much less than publishing
them all (Papernot & Steinke 2022, "Hyperparameter Tuning with Renyi Differential Privacy").
"""

import argparse
import json
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stages import evaluate, train
from stages.books.store import Ledger
from stages.errors import UserError, run
from stages.files import read_json
from stages.params import Params, load_params, sweep
from stages.privacy.events import BestOfMany
from stages.privacy.history import Spend
from stages.privacy.renyi import epsilon_renyi
from stages.tabular.prepared import load_schema
from stages.training.noise import random_source
from stages.versions import file_at, resolve

# What may be tuned: settings that leave the price of a trial as it is, given its number of steps.
TUNABLE = {"learning_rate", "momentum", "max_grad_norm", "hidden_sizes", "activation", "init_seed"}

# Truncated negative binomial with shape 1: the geometric distribution.
SHAPE = 1.0


def main() -> None:
    arguments = _arguments()
    params = load_params()
    grid = list(sweep(arguments.sweeps))
    _refuse_untunable(grid, params)
    spends = [_best_of(arguments.trials, spend) for spend in _trial_spends(params)]
    tuning = f"tune-{secrets.token_hex(6)}"
    ledger = Ledger()
    for spend in spends:
        ledger.reserve(spend, params.privacy_budget, run=f"{tuning}-{spend.side}")

    print(f"running trials; how many is secret, {arguments.trials:g} on average")
    source = random_source(None)
    names = [
        f"{tuning}-{secrets.token_hex(3)}" for _ in range(source.geometric(1 / arguments.trials))
    ]
    steps = _steps_of(params)
    for name in names:
        _run_trial(name, steps | grid[source.integers(len(grid))])
    for spend in spends:
        ledger.settle(f"{tuning}-{spend.side}", spend.events)
    best = min(names, key=_loss)
    if others := [name for name in names if name != best]:
        _dvc("exp", "remove", *others)
    print(_summary(best, spends))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-S", action="append", required=True, metavar="NAME=VALUE,…", dest="sweeps")
    parser.add_argument("--trials", type=float, default=5, help="how many on average, above 1")
    return parser.parse_args()


def _refuse_untunable(grid: Sequence[Mapping[str, Any]], params: Params) -> None:
    for name in grid[0]:
        if name not in TUNABLE:
            raise UserError(
                f"-S {name}: only settings that leave the price of a trial alone can be tuned: "
                f"{', '.join(sorted(TUNABLE))}. Others: python -m stages.ledger plan -S {name}=…"
            )
    if params.mode != "new" or params.simulation_seed is not None or params.exact_metrics:
        raise UserError(
            "params.yaml: tuning needs `mode: new`, an empty `simulation_seed` and "
            "`exact_metrics: false`. Set them so."
        )
    if params.train_size is None:
        raise UserError("params.yaml: tuning needs a declared `train_size`.")
    for choice in grid:
        load_params(overrides=choice)


def _steps_of(params: Params) -> dict[str, Any]:
    """Return batch size and epochs as numbers; as `auto` they would follow what is tuned."""
    settings = train.settings_for(params, params.train_size or 0)
    return {"batch_size": settings.batch_size, "epochs": settings.epochs}


def _trial_spends(params: Params) -> list[Spend]:
    """Return what one trial spends on the training and on the test side."""
    source = read_json(train.PREPARED / "source.json")
    schema = load_schema(train.PREPARED)
    plan = train.plan_for(params, params.train_size or 0)
    release = evaluate.release_for(params, len(schema.class_names), len(schema.report_by))
    return [
        train.spend_for(plan, source, params.target_epsilon),
        evaluate.spend_for(release, source, params.target_delta),
    ]


def _best_of(trials: float, spend: Spend) -> Spend:
    """Return what the best of a random number of such spends costs."""
    if not trials > 1:
        raise UserError(f"--trials should be above 1 on average, but is {trials:g}.")
    event = BestOfMany(spend.events, trials, SHAPE)
    return replace(spend, events=(event,), epsilon=epsilon_renyi([event], spend.delta))


def _run_trial(name: str, choice: Mapping[str, Any]) -> None:
    # `tuning_trial` is new for each trial, so the run-cache never passes one off as another.
    settings = {**choice, "tuning_trial": name}
    overrides = [f"-S={key}={json.dumps(value)}" for key, value in settings.items()]
    _dvc("exp", "run", "--temp", "--name", name, *overrides)


def _dvc(*arguments: str) -> None:
    """Run DVC without showing what it prints: the figures of trials are nobody's to see."""
    done = subprocess.run(["dvc", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.lower().startswith("error")]
        raise UserError(f"`dvc {' '.join(arguments[:2])}` failed: {' '.join(errors)}")


def _loss(name: str) -> float:
    metrics = json.loads(file_at(resolve(name), "metrics/evaluate.json") or "{}")
    return float(metrics["loss"])


def _summary(best: str, spends: Sequence[Spend]) -> str:
    costs = ", ".join(f"ε = {spend.epsilon:.3f} on the {spend.side} side" for spend in spends)
    return f"the best trial is experiment {best}: {costs}. Keep it with: dvc exp apply {best}"


if __name__ == "__main__":
    run(main, outputs_hint=False)
