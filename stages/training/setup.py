"""From parameters and a prepared table to a run that is ready to start."""

from collections.abc import Sequence

from stages.model.perceptron import Architecture, count_weights
from stages.params import Params
from stages.privacy.events import Event
from stages.privacy.history import Spend, adaptive_epsilon
from stages.tabular.prepared import Prepared
from stages.training.auto import Pinned, PublicNumbers, Settings, choose
from stages.training.dp_sgd import PrivateTraining
from stages.training.network import build_network
from stages.training.noise import random_source
from stages.training.past import Past, layer_widths
from stages.training.plan import Plan, make_plan
from stages.training.processes import ALONE, Processes


def set_up(
    params: Params, table: Prepared, past: Past, processes: Processes = ALONE
) -> PrivateTraining:
    """Return the run that the parameters ask for, where its past ended. Nothing is drawn yet.

    Raises:
        UserError: the parameters allow no plan.
    """
    # Whether a declared size is near the true one is not for the run to tell: that it was refused,
    # or was not, would say something of a single row.
    rows = params.train_size or len(table.train.labels)
    activation = past.checkpoint.about.get("activation")
    settings, plan = settle(params, table, rows, past.events, activation)
    shape = architecture(params, table, settings)
    training = PrivateTraining(
        build_network(shape, params.init_seed).to(processes.device),
        table.train,
        plan,
        settings,
        random_source(params.simulation_seed, processes.rank),
        processes,
    )
    past.restore_into(training)
    return training


def architecture(params: Params, table: Prepared, settings: Settings) -> Architecture:
    """Return the shape of the network that fits the table."""
    features, *hidden, classes = layer_widths(params, table)
    return Architecture(features, classes, hidden, settings.activation)


def settle(
    params: Params,
    table: Prepared,
    train_size: int,
    past: Sequence[Event] = (),
    activation: str | None = None,
) -> tuple[Settings, Plan]:
    """Return what a run is told and what it does, both from public numbers.

    Args:
        params, table: what is asked for; no row of the table is read.
        train_size: rows on the training side, as declared.
        past: what an earlier run did that this one continues.
        activation: that run's.
    """
    widths = layer_widths(params, table)
    public = PublicNumbers(
        train_size=train_size,
        features=widths[0],
        weights=count_weights(widths),
        target_epsilon=params.target_epsilon,
        target_delta=params.target_delta,
        spent_epsilon=adaptive_epsilon(past, params.target_delta),
    )
    settings = choose(public, Pinned.of(params, activation))
    return settings, make_plan(public, settings, params.metric_noise_ratio, past)


def training_spend(
    plan: Plan, params: Params, table: Prepared, past: Sequence[Event] = ()
) -> Spend:
    """Return what a run adds for the people of the training side."""
    alone = adaptive_epsilon([plan.planned], plan.delta) if past else params.target_epsilon
    return Spend(
        data=table.source.data,
        fingerprint=table.source.fingerprint,
        split=table.source.split,
        side="train",
        events=(plan.planned,),
        epsilon=alone,
        delta=plan.delta,
    )
