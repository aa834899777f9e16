"""Train the classifier with differential privacy: the `train` stage."""

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from stages.books.store import Booking, book
from stages.errors import run
from stages.files import read_json, whole_folder, write_csv, write_json
from stages.model.files import save_model
from stages.model.perceptron import Architecture, count_weights
from stages.params import Params, load_params
from stages.privacy.attack import curve_rows, told
from stages.privacy.events import Steps, to_json
from stages.privacy.history import Spend
from stages.privacy.renyi import epsilon_of_curve, epsilon_renyi, renyi_curve
from stages.tabular.prepared import Features, Labels, Prepared, load_schema, load_side
from stages.training.accounting import Spent, account, epsilon_curve, privacy_profile
from stages.training.auto import Settings, choose
from stages.training.checkpoint import Checkpoint, restore, state_of
from stages.training.curves import Epochs, ending
from stages.training.dp_sgd import Epoch, PrivateTraining
from stages.training.network import as_arrays, build_network
from stages.training.noise import random_source
from stages.training.past import Parent, load_parent
from stages.training.plan import Plan, make_plan, public_train_size
from stages.training.processes import Processes

PREPARED = Path("data/prepared")
MODELS = Path("models")

# What the mechanism and its accounting are made of.
LIBRARIES = ("torch", "opacus", "dp-accounting", "opendp", "numpy", "randomgen")


def main() -> None:
    params = load_params()
    threadpool_limits(1)  # more threads help nothing at this size, and hurt on a busy machine
    processes = Processes.join()
    features, labels = load_side(PREPARED, "train")
    source = read_json(PREPARED / "source.json")
    about = _about(params, source)
    parent = None
    if params.mode == "continue" and params.continue_from:
        parent = load_parent(params.continue_from, about, source["fingerprint"])
    training = _prepare(params, features, labels, parent, processes)

    if processes.is_first:
        _train_and_write(params, training, source, about, parent)
    else:
        for _ in training.epochs():
            pass
        training.monitors.require_passed(training.history)
        processes.wait_for_all()


def _train_and_write(
    params: Params,
    training: PrivateTraining,
    source: Mapping[str, Any],
    about: Mapping[str, Any],
    parent: Parent | None,
) -> None:
    past = parent.checkpoint.history if parent else ()
    booking = book(
        spend_for(training.plan, source, params.target_epsilon, past),
        params.privacy_budget,
        after=parent.checkpoint.run if parent else None,
        simulated=about["simulated"],
        trial=params.tuning_trial,
    )
    epochs = _train_with_progress(training, past)
    monitors = training.monitors.require_passed(training.history)
    history = [*past, *training.history]
    spent = account(history, training.plan.delta, params.target_epsilon, planned=not past)
    training.processes.wait_for_all()  # one whose monitors failed never comes
    booking.settle(training.history)

    attack = privacy_profile(
        booking.spend.events if booking.is_trial else history, planned=not past
    )
    curve = epsilon_curve(past, training.history, training.plan.epoch_ends, spent)
    rows = [*(parent.checkpoint.epochs if parent else ()), *_rows(epochs, curve)]
    promise = _promise(spent, booking)
    with whole_folder(MODELS / "classifier") as folder:
        stated = {**promise, "table_changed": _table_changed(parent), "run": booking.run}
        average = as_arrays(training.average.cpu())
        prepared = Prepared.open(PREPARED)
        save_model(
            folder,
            average,
            features=prepared.features,
            classes=prepared.classes,
            schema_text=prepared.schema_text,
            privacy=stated,
        )
    with whole_folder(MODELS / "checkpoint") as folder:
        lineage = {
            **about,
            "activation": average.activation,
            "table_changed": _table_changed(parent),
        }
        Checkpoint(booking.run, history, rows, lineage, state_of(training)).save(folder)
    write_csv("plots/training.csv", rows)
    write_csv("plots/attack.csv", curve_rows(attack))
    metrics = {
        **_metrics(rows, training, promise),
        "attack": None if promise["epsilon"] is None else told(attack),
        "monitors_passed": monitors,
        "not_covered": _not_covered(params, parent),
        "parent": _named(parent),
        "versions": [f"python {platform.python_version()}", *_versions()],
        "history": to_json(history),
        "ledger": [{"run": booking.run, "spend": booking.spend.public()}],
    }
    write_json("metrics/train.json", metrics)
    _tell(metrics, training, booking)


def architecture_for(params: Params, activation: str) -> Architecture:
    """Return the shape of the network that fits the prepared table."""
    features, *_, classes = _widths(params)
    return Architecture(features, classes, params.hidden_sizes, activation)


def _about(params: Params, source: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be the same in a run that continues this one; None goes with anything."""
    return {
        "architecture": _widths(params),
        "activation": params.activation,
        "schema": load_schema(PREPARED).to_json(),
        "split": source["split"],
        "simulated": params.simulation_seed is not None,
    }


def _prepare(
    params: Params,
    features: Features,
    labels: Labels,
    parent: Parent | None,
    processes: Processes,
) -> PrivateTraining:
    """Return the run that is to be carried out, where its parent ended if it has one."""
    past = parent.checkpoint.history if parent else ()
    inherited = parent.checkpoint.about["activation"] if parent else None
    settings = settings_for(params, len(labels), past, inherited)
    shape = architecture_for(params, settings.activation)
    training = PrivateTraining(
        build_network(shape, params.init_seed).to(processes.device),
        features,
        labels,
        plan_for(params, len(labels), past),
        random_source(params.simulation_seed, processes.rank),
        classes=shape.classes,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        average_decay=settings.average_decay,
        processes=processes,
    )
    if parent:
        restore(training, parent.checkpoint)
    if processes.is_first:
        print(settings.why)
    return training


def settings_for(
    params: Params, rows: int, past: Sequence[Steps] = (), activation: str | None = None
) -> Settings:
    """Return the settings of a run, of which those that are `auto` follow from public numbers.

    Args:
        rows: on the training side.
        past: what an earlier run did that this one continues.
        activation: that run's.
    """
    widths = _widths(params)
    return choose(
        train_size=public_train_size(params.train_size, rows),
        features=widths[0],
        weights=count_weights(widths),
        target_epsilon=params.target_epsilon,
        target_delta=params.target_delta,
        spent_epsilon=epsilon_renyi(past, params.target_delta),
        batch_size=params.batch_size,
        epochs=params.epochs,
        learning_rate=params.learning_rate,
        momentum=params.momentum,
        max_grad_norm=params.max_grad_norm,
        average_decay=params.average_decay,
        activation=activation or params.activation,
    )


def _widths(params: Params) -> list[int]:
    """Return the widths of the network's layers, from the features to the classes."""
    schema = load_schema(PREPARED)
    return [len(schema.feature_names), *params.hidden_sizes, len(schema.class_names)]


def plan_for(params: Params, rows: int, past: Sequence[Steps] = ()) -> Plan:
    """Return what a run with these parameters does on `rows` training rows, after `past` steps."""
    settings = settings_for(params, rows, past)
    return make_plan(
        train_size=public_train_size(params.train_size, rows),
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        max_grad_norm=settings.max_grad_norm,
        target_epsilon=params.target_epsilon,
        target_delta=params.target_delta,
        metric_noise_ratio=params.metric_noise_ratio,
        past=past,
    )


def spend_for(
    plan: Plan, source: Mapping[str, Any], target_epsilon: float, past: Sequence[Steps] = ()
) -> Spend:
    """Return what a run adds for the people of the training side."""
    alone = epsilon_renyi([plan.planned], plan.delta) if past else target_epsilon
    return Spend(
        data=source["data"],
        fingerprint=source["fingerprint"],
        split=source["split"],
        side="train",
        events=(plan.planned,),
        epsilon=alone,
        delta=plan.delta,
    )


def _train_with_progress(training: PrivateTraining, past: Sequence[Steps]) -> list[Epoch]:
    plan = training.plan
    before, each = renyi_curve(past), renyi_curve([replace(plan.planned, steps=1)])
    epochs = []
    # disable=None: a bar on a terminal, none in a log file
    with tqdm(total=plan.steps, unit="step", desc="train", disable=None) as bar:
        for epoch in training.epochs():
            epochs.append(epoch)
            bar.update(epoch.steps - bar.n)
            epsilon = epsilon_of_curve(before + epoch.steps * each, plan.delta)
            bar.set_postfix(epoch=epoch.epoch, loss=f"{epoch.loss:.3f}", ε=f"≤{epsilon:.2f}")
    return epochs


def _promise(spent: Spent, booking: Booking) -> dict[str, Any]:
    """What the model promises; goes into the metrics and into the model's own file."""
    if booking.ledger is None:
        return {"epsilon": None, "delta": None, "no_guarantee": "simulation_seed is set"}
    return {
        # The best of many trials costs more than a trial.
        "epsilon": booking.spend.epsilon if booking.is_trial else spent.epsilon,
        "delta": spent.delta,
        "epsilon_prv": spent.prv,
        "epsilon_pld": spent.pld,
        "epsilon_renyi": spent.renyi,
        "epsilon_replace_one": spent.replace_one,
    }


def _metrics(
    epochs: Epochs, training: PrivateTraining, promise: Mapping[str, Any]
) -> dict[str, Any]:
    plan = training.plan
    accuracy, accuracy_noise = ending(epochs, "accuracy")
    loss, loss_noise = ending(epochs, "loss")
    return {
        "accuracy": accuracy,
        "accuracy_noise": accuracy_noise,
        "loss": loss,
        "loss_noise": loss_noise,
        **promise,
        "noise_multiplier": plan.noise_multiplier,
        "metric_noise_multiplier": plan.metric_noise_multiplier,
        "max_grad_norm": plan.max_grad_norm,
        "sample_rate": plan.sample_rate,
        "steps": plan.steps,
        "learning_rate": training.learning_rate,
        "momentum": training.momentum,
        "average_decay": training.average_decay,
        "activation": as_arrays(training.average).activation,
    }


def _not_covered(params: Params, parent: Parent | None) -> list[str]:
    """What is published about the rows all the same, exactly."""
    left_out = []
    if params.train_size is None:
        left_out.append("the number of training rows (declare `train_size`)")
    if parent:
        left_out.append("whether the table changed since the run that was continued")
    return left_out


def _versions() -> list[str]:
    return [f"{name} {version(name)}" for name in LIBRARIES]


def _table_changed(parent: Parent | None) -> bool:
    """Whether the table changed somewhere between the runs that led to this one."""
    return parent is not None and (
        parent.data_changed or bool(parent.checkpoint.about["table_changed"])
    )


def _named(parent: Parent | None) -> dict[str, Any] | None:
    if parent is None:
        return None
    return {
        "commit": parent.commit,
        "checkpoint": parent.checkpoint_hash,
        "data_changed": parent.data_changed,
        "table_changed": _table_changed(parent),
    }


def _tell(metrics: Mapping[str, Any], training: PrivateTraining, booking: Booking) -> None:
    privacy = (
        f"ε = {metrics['epsilon']:.3f} at δ = {metrics['delta']:g}"
        if metrics["epsilon"] is not None
        else f"no privacy guarantee: {metrics['no_guarantee']}"
    )
    accuracy = f"{metrics['accuracy']:.3f} ± {2 * metrics['accuracy_noise']:.3f}"
    print(f"trained {metrics['steps']} steps: accuracy {accuracy} on the training rows, {privacy}")
    print(booking.summary())
    # Only to a person at a terminal: logs are kept, and this count is exact.
    if training.monitors.not_finite and sys.stderr.isatty():
        print(
            f"for the owner's eyes only: {training.monitors.not_finite} gradients were not finite "
            "and counted as zero. Lower `learning_rate`.",
            file=sys.stderr,
        )


def _rows(epochs: Sequence[Epoch], curve: Sequence[float]) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch.epoch,
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
