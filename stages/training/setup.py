"""From parameters and a prepared table to a run that is ready to start."""

from collections.abc import Sequence

from stages.model.inputs import AS_THEY_ARE, Pieces
from stages.model.perceptron import Architecture, count_weights
from stages.params import Params
from stages.privacy.events import Event
from stages.privacy.history import Spend, adaptive_epsilon
from stages.tabular.prepared import Prepared, unit_of
from stages.training.auto import Choice, Pinned, PublicNumbers, Settings, choose
from stages.training.dp_sgd import PrivateTraining
from stages.training.network import build_network
from stages.training.noise import random_source
from stages.training.past import NO_PAST, Past, layer_widths
from stages.training.plan import Plan, make_plan
from stages.training.processes import ALONE, Processes


def set_up(
    params: Params, table: Prepared, past: Past, processes: Processes = ALONE
) -> tuple[PrivateTraining, str]:
    """Return the run that the parameters ask for, where its past ended, and why it is as it is.

    Nothing is drawn yet.

    Raises:
        UserError: the parameters allow no plan.
    """
    # Whether a declared size is near the true one is not for the run to tell: that it was refused,
    # or was not, would say something of a single row.
    rows = params.train_size or table.train.people
    choice, plan = settle(params, table, rows, past)
    networks = [
        build_network(architecture(params, table, settings), params.init_seed).to(processes.device)
        for settings in choice.candidates
    ]
    training = PrivateTraining(
        list(zip(networks, choice.candidates, strict=True)),
        table.train,
        plan,
        random_source(params.simulation_seed, processes.rank),
        processes,
    )
    past.restore_into(training)
    return training, choice.why


def architecture(params: Params, table: Prepared, settings: Settings) -> Architecture:
    """Return the shape of the network that fits the table."""
    inputs = Pieces(table.scaled, settings.pieces) if settings.pieces else AS_THEY_ARE
    return Architecture(
        len(table.features), len(table.classes), params.hidden_sizes, settings.activation, inputs
    )


def settle(
    params: Params, table: Prepared, train_size: int, past: Past = NO_PAST
) -> tuple[Choice, Plan]:
    """Return what a run is told and what it does, both from public numbers.

    Args:
        params, table: what is asked for; no row of the table is read.
        train_size: rows on the training side, or people where they may have several, as declared.
        past: the run that this one continues.
    """
    public = PublicNumbers(
        train_size=train_size,
        features=len(table.features),
        numbers=len(table.scaled),
        weights=count_weights(layer_widths(params, table)),
        target_epsilon=params.target_epsilon,
        target_delta=params.target_delta,
        spent_epsilon=adaptive_epsilon(past.events, params.target_delta),
        sampled="people" if table.at_most > 1 else "rows",
    )
    pinned = Pinned.of(params)
    choice = choose(public, pinned if past.is_empty else pinned.like(*past.network))
    plan = make_plan(
        public,
        choice.candidates[0],
        params.metric_noise_ratio,
        past.events,
        candidates=len(choice.candidates),
    )
    return choice, plan


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
        unit=unit_of(table.schema_text),
    )
