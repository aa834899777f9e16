"""A random number of trials, of which nobody is shown any but the best."""

import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stages.books.booking import budget_of
from stages.books.rebuild import open_ledger
from stages.books.tunings import opened
from stages.cache import forget_outputs
from stages.errors import UserError
from stages.evaluation.result import EvaluateResult
from stages.files import texts_in
from stages.params import Params, load_params
from stages.pricing import prepared_for, spends_of
from stages.privacy.events import BestOfMany
from stages.privacy.history import Spend
from stages.privacy.renyi import epsilon_renyi
from stages.tabular.prepared import Prepared
from stages.training.noise import random_source
from stages.training.setup import settle
from stages.versions.commits import commit_of, remove_experiments, resolve
from stages.versions.files import WORKSPACE, file_at
from stages.versions.locks import dvc_folder

# What may be tuned: settings that leave the price of a trial as it is, given its number of steps.
TUNABLE = {
    "learning_rate",
    "momentum",
    "max_grad_norm",
    "hidden_sizes",
    "activation",
    "pieces",
    "init_seed",
}

# Truncated negative binomial with shape 1: the geometric distribution.
SHAPE = 1.0

# More on average than anybody has the time for.
MOST_TRIALS = 10_000


def refuse_untunable(grid: Sequence[Mapping[str, Any]], params: Params) -> None:
    """Make sure that every choice of the grid can be a trial.

    Raises:
        UserError: it cannot.
    """
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


def price(trials: float, params: Params) -> list[Spend]:
    """Return what the best of a random number of runs costs on each side.

    Args:
        trials: expected number, above 1, at most MOST_TRIALS.
        params: of one run.

    Raises:
        UserError: the number is another.
    """
    if not 1 < trials <= MOST_TRIALS:
        raise UserError(
            f"--trials should be above 1 and at most {MOST_TRIALS:g}, on average, but is "
            f"{trials:g}. Name a number such as 5."
        )
    return [_best_of(trials, spend) for spend in spends_of(params, prepared_for(params))]


def _best_of(trials: float, spend: Spend) -> Spend:
    event = BestOfMany(spend.events, trials, SHAPE)
    return replace(spend, events=(event,), epsilon=epsilon_renyi([event], spend.delta))


def run_trials(
    grid: Sequence[Mapping[str, Any]], trials: float, params: Params, spends: Sequence[Spend]
) -> str:
    """Run the trials and return the name of the experiment that is the best of them.

    Guarantee:
        What is left, the best trial, is as private as the events of `spends` say (Papernot &
        Steinke 2022, Theorem 2), if the number of trials and the others stay secret.
    """
    tuning, ledger = f"tune-{secrets.token_hex(6)}", open_ledger()
    reserved = {spend.side: spend for spend in spends}
    source = random_source(None)
    names = [f"{tuning}-{secrets.token_hex(3)}" for _ in range(source.geometric(1 / trials))]
    steps = _steps_of(params)
    best = ""
    with opened(ledger, tuning, reserved, budget_of(params)) as close:
        try:
            for name in names:
                _run_trial(name, {**steps, **grid[int(source.integers(len(grid)))]})
            best = min(names, key=_badness)
        finally:  # also where it is interrupted
            _forget([name for name in names if name != best], best)
            close()
    return best


def _forget(losers: Sequence[str], best: str) -> None:
    """Leave nothing of the losers: no experiment, no output in DVC's cache, no copy or note."""
    made = [commit for name in losers if (commit := commit_of(name))]
    if made:  # else nothing is there to forget, whatever state the workspace is in
        forget_outputs(made, but=[commit_of(best) or "HEAD", "HEAD", WORKSPACE])
    for name in losers:
        remove_experiments(name)
    kept = dvc_folder() / "tmp/exps"
    # Notes of DVC that there was one.
    for note, text in [*texts_in(kept, "run/*/*.run"), *texts_in(kept, "standalone/run/*/*.run")]:
        if any(name in text for name in losers):
            shutil.rmtree(note.parent)
    for copy in (kept / "standalone").glob("*"):
        asked = "".join(text for _, text in texts_in(copy, "**/params.yaml"))
        if any(name in asked for name in losers):
            shutil.rmtree(copy)


def _steps_of(params: Params) -> dict[str, Any]:
    """Return batch size and epochs as numbers; as `auto` they would follow what is tuned."""
    choice, _ = settle(params, Prepared.open(), params.train_size or 0)
    settings = choice.candidates[0]
    return {"batch_size": settings.batch_size, "epochs": settings.epochs}


def _run_trial(name: str, choice: Mapping[str, Any]) -> None:
    # `tuning_trial` is new for each trial, so the run-cache never passes one off as another. And
    # whoever edits params.yaml meanwhile has no trial whose figures are worth more than it paid.
    private = {"exact_metrics": False, "simulation_seed": None}
    settings = {**choice, **private, "tuning_trial": name}
    overrides = [f"-S={key}={json.dumps(value)}" for key, value in settings.items()]
    _dvc("exp", "run", "--temp", "--name", name, *overrides)


# DVC would push each trial as soon as it has ended where its `exp.auto_push` is on, and tell DVC
# Studio of it where that is set up.
TO_NOBODY = {"DVC_EXP_AUTO_PUSH": "false", "DVC_STUDIO_OFFLINE": "true"}


def _dvc(*arguments: str) -> None:
    """Run DVC without showing what it prints: the figures of trials are nobody's to see."""
    # In a session of its own, so that what DVC starts is interrupted with it, and cleans up.
    with subprocess.Popen(
        ["dvc", *arguments],
        env={**os.environ, **TO_NOBODY},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _, told = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGINT)
            process.communicate()
            raise
    if process.returncode:
        errors = [line for line in told.splitlines() if line.lower().startswith("error")]
        raise UserError(f"`dvc {' '.join(arguments[:2])}` failed: {' '.join(errors)}")


def _badness(name: str) -> float:
    """Return the log loss of a trial, or minus its accuracy if scores are not counted in any."""
    text = file_at(resolve(name), EvaluateResult.path.as_posix())
    result = EvaluateResult.of(json.loads(text or "{}"))
    return -result.accuracy if result.loss is None else result.loss
