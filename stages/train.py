"""Train the classifier with differential privacy: the `train` stage."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from stages.errors import run
from stages.files import whole_folder, write_csv, write_json
from stages.model import Architecture, build_model, save_model
from stages.params import load_params
from stages.privacy.accounting import Spent, account, epsilon_curve, epsilon_rdp
from stages.privacy.checkpoint import save_checkpoint
from stages.privacy.dp_sgd import Epoch, PrivateTraining
from stages.privacy.noise import random_source
from stages.privacy.plan import Plan, make_plan, public_train_size
from stages.tabular.schema import Schema
from stages.tabular.store import load_side

PREPARED = Path("data/prepared")
MODELS = Path("models")


def main() -> None:
    params = load_params()
    torch.set_num_threads(1)  # more help nothing at this size, and hurt on a busy machine
    features, labels = load_side(PREPARED, "train")
    schema = Schema.load(PREPARED / "schema.json")

    plan = make_plan(
        train_size=public_train_size(params.train_size, len(labels)),
        batch_size=params.batch_size,
        epochs=params.epochs,
        max_grad_norm=params.max_grad_norm,
        target_epsilon=params.target_epsilon,
        target_delta=params.target_delta,
        metric_noise_ratio=params.metric_noise_ratio,
    )
    shape = Architecture(
        features=len(schema.feature_names),
        classes=len(schema.class_names),
        hidden_sizes=params.hidden_sizes,
        activation=params.activation,
    )
    training = PrivateTraining(
        build_model(shape, params.init_seed),
        features,
        labels,
        plan,
        random_source(params.simulation_seed),
        classes=shape.classes,
        learning_rate=params.learning_rate,
        momentum=params.momentum,
    )
    epochs = _train_with_progress(training)
    spent = account(training.history, plan.delta, params.target_epsilon)
    monitors = training.monitors.require_passed(sum(run.steps for run in training.history))
    curve = epsilon_curve(training.history, plan.epoch_ends, spent)
    promise = _promise(spent, monitors, simulated=params.simulation_seed is not None)

    with whole_folder(MODELS / "classifier") as folder:
        save_model(folder, training.average.module, shape, schema, promise)
    with whole_folder(MODELS / "checkpoint") as folder:
        save_checkpoint(folder, training)
    write_csv("plots/training.csv", _table(epochs, curve))
    write_json("metrics/train.json", _metrics(epochs[-1], plan, promise))
    print(_summary(epochs[-1], promise))


def _train_with_progress(training: PrivateTraining) -> list[Epoch]:
    plan = training.plan
    epochs = []
    # disable=None: a bar on a terminal, none in a log file
    with tqdm(total=plan.steps, unit="step", desc="train", disable=None) as bar:
        for epoch in training.epochs():
            epochs.append(epoch)
            bar.update(epoch.steps - bar.n)
            epsilon = epsilon_rdp(training.history, plan.delta)
            bar.set_postfix(epoch=epoch.epoch, loss=f"{epoch.loss:.3f}", ε=f"≤{epsilon:.2f}")
    return epochs


def _promise(spent: Spent, monitors: list[str], *, simulated: bool) -> dict[str, Any]:
    """What the model promises; goes into the metrics and into the model's own file."""
    if simulated:
        return {"epsilon": None, "delta": None, "no_guarantee": "simulation_seed is set"}
    return {
        "epsilon": spent.epsilon,
        "delta": spent.delta,
        "epsilon_prv": spent.prv,
        "epsilon_pld": spent.pld,
        "epsilon_replace_one": spent.replace_one,
        "monitors_passed": monitors,
    }


def _metrics(last: Epoch, plan: Plan, promise: dict[str, Any]) -> dict[str, Any]:
    return {
        "accuracy": last.accuracy,
        "accuracy_noise": last.accuracy_deviation,
        "loss": last.loss,
        "loss_noise": last.loss_deviation,
        **promise,
        "noise_multiplier": plan.noise_multiplier,
        "metric_noise_multiplier": plan.metric_noise_multiplier,
        "max_grad_norm": plan.max_grad_norm,
        "sample_rate": plan.sample_rate,
        "steps": plan.steps,
    }


def _summary(last: Epoch, promise: dict[str, Any]) -> str:
    privacy = (
        f"ε = {promise['epsilon']:.3f} at δ = {promise['delta']:g}"
        if promise["epsilon"] is not None
        else f"no privacy guarantee: {promise['no_guarantee']}"
    )
    accuracy = f"{last.accuracy:.3f} ± {2 * last.accuracy_deviation:.3f}"
    return f"trained {last.epoch} epochs: accuracy {accuracy} on the training rows, {privacy}"


def _table(epochs: Sequence[Epoch], curve: Sequence[float]) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch.epoch,
            "steps": epoch.steps,
            "loss": epoch.loss,
            "loss_noise": epoch.loss_deviation,
            "accuracy": epoch.accuracy,
            "accuracy_noise": epoch.accuracy_deviation,
            "epsilon": epsilon,
        }
        for epoch, epsilon in zip(epochs, curve, strict=True)
    ]


if __name__ == "__main__":
    run(main)
