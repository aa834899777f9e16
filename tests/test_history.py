"""Whatever is done in whatever order, no stated ε is below what really touched some person.

Random sequences of run, continue, tune, measure again, edit a row and change the split go through
the code that prices, books and tells; only training itself is left out. What was released, about
whom, is written down beside it, and ε is computed again person by person.
"""

import itertools
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from dp_accounting import ComposedDpEvent, get_epsilon_gaussian
from dp_accounting.dp_event import RepeatAndSelectDpEvent
from dp_accounting.privacy_accountant import NeighboringRelation
from dp_accounting.rdp import RdpAccountant, compute_epsilon

from stages import pricing
from stages.books.booking import book, budget_of
from stages.books.rebuild import open_ledger
from stages.books.store import Ledger
from stages.books.tunings import opened
from stages.errors import UserError
from stages.evaluation.output import made_from, promise_of
from stages.evaluation.release import CountRelease
from stages.params import load_params
from stages.privacy.events import BestOfMany, Event, Gaussian, Steps
from stages.privacy.renyi import ORDERS, dp_event
from stages.tabular.prepared import Source
from stages.training import accounting, calibration
from stages.training.checkpoint import Checkpoint
from stages.training.output import Trained
from stages.training.past import Past, _refuse_spent, past_of
from stages.training.setup import settle, training_spend
from stages.tuning.trials import _best_of
from tests.conftest import ROOT, Project
from tests.faults.replay import remembering
from tests.test_tune import SAMPLE_TABLE

DELTA = 1e-5
TARGETS = (0.8, 1.5, 2.5)

NETWORK = {"activation": "tanh", "pieces": 0}

# What really happened: (deal, side, what was released).
Truth = tuple[tuple[tuple[int, int], str, Event], ...]


@dataclass(frozen=True)
class Model:
    """A model as its files tell it, and what it was really made from."""

    checkpoint: Checkpoint
    stated: dict[str, Any]
    truth: Truth
    deal: tuple[int, int]


def epsilon_of_person(touched):
    """ε at DELTA of these mechanisms, by Google's code: exact if all are Gaussian, else Rényi's."""
    if all(isinstance(event, Steps | Gaussian) for event in touched):  # all are full batches
        squares = sum(getattr(event, "steps", 1) / event.noise_multiplier**2 for event in touched)
        return get_epsilon_gaussian(squares**-0.5, DELTA) if squares else 0.0
    curve = sum((google_curve(event) for event in touched), np.zeros(len(ORDERS)))
    return compute_epsilon(ORDERS, curve, DELTA)[0]


def google_curve(event):
    parts = event.events if isinstance(event, BestOfMany) else (event,)
    once = ComposedDpEvent([dp_event(part) for part in parts])
    relation = NeighboringRelation.ADD_OR_REMOVE_ONE
    many = isinstance(event, BestOfMany)
    known = RepeatAndSelectDpEvent(once, event.mean, event.shape) if many else once
    return np.array(RdpAccountant(ORDERS, relation).compose(known).rdp)


google_curve = remembering(google_curve)


def people(truth):
    """What touched each kind of person: a row may be on either side of each deal, by edits."""
    deals = sorted({deal for deal, *_ in truth})
    for sides in itertools.product(("train", "test"), repeat=len(deals)):
        person = dict(zip(deals, sides, strict=True))
        yield [event for deal, side, event in truth if person[deal] == side]


def worst_person(truth):
    """The largest ε of anybody."""
    return max(epsilon_of_person(touched) for touched in people(truth))


def worst_attacked(truth):
    """The largest advantage of an attack on anybody, by the profiles of the accountants."""
    profiles = (privacy_profile(touched, planned=False) for touched in people(truth) if touched)
    return max(profile.advantage for profile in profiles)


privacy_profile = remembering(accounting.privacy_profile)


class World:
    """A repository whose stages book and tell as they do, and train nothing."""

    def __init__(self):
        self.version = self.split = 0
        self.models: list[Model] = []
        self.truth: Truth = ()
        self.checked = 0

    @property
    def deal(self):
        return self.version, self.split

    @property
    def table(self):
        source = Source("patients.csv", f"version {self.version}", f"split {self.split}")
        return replace(SAMPLE_TABLE, source=source)

    def params(self, **changes):
        return load_params(ROOT / "params.yaml", changes)

    def train(self, params, past, known: Truth):
        """As the `train` stage, from its parameters to its files."""
        table = self.table
        choice, plan = settle(params, table, params.train_size, past)
        spend = training_spend(plan, params, table, past.events)
        then = pricing.testing_spend(params, table)
        booking = book(spend, params, after=past.run, then=then, past=past.releases)
        booking.settle([plan.planned])
        spent = accounting.account(
            [*past.events, plan.planned], plan.delta, params.target_epsilon, planned=not past.events
        )
        learner = SimpleNamespace(settings=choice.candidates[0])
        told = {"plan": plan, "learner": learner, "history": [plan.planned], "scores": []}
        temperature = SimpleNamespace(beta=1.0)
        training: Any = SimpleNamespace(**told, temperature=temperature, monitors_passed=[])
        trained = Trained(params, table, past, training, [], spent, booking)
        row = dict.fromkeys(("accuracy", "loss"), 0.5)
        noise = {f"{name}_noise{more}": 0.1 for name in row for more in ("", "_shared")}
        result = trained._result([row | noise], trained.promise, trained._profile())
        own: Truth = ((self.deal, "train", plan.planned),)
        stated = {
            "run": booking.run,
            "releases": [one.model_dump(mode="json") for one in result.releases],
            "epsilon": result.epsilon,
            "delta": result.delta,
            "attack": result.attack,
        }
        checkpoint = Checkpoint(
            booking.run, trained.history, [], NETWORK, {"weights": torch.zeros(1)}, result.releases
        )
        return Model(checkpoint, stated, (*known, *own), self.deal)

    def measure(self, model, params):
        """As the `evaluate` stage; return what it states of the model and the figures together."""
        mechanism = CountRelease.of(params, self.table)
        spend = mechanism.spend(self.table, params.target_delta)
        past = made_from(model.stated)
        booking = book(spend, params, of=model.stated["run"], past=past)
        booking.settle(mechanism.events)
        own: Truth = tuple((self.deal, "test", event) for event in mechanism.events)
        return promise_of(booking, model.stated, past), own

    def state(self, model, own, told):
        """Hold what is stated against the truth."""
        assert model.stated["epsilon"] >= (1 - 1e-6) * worst_person(model.truth)
        assert model.stated["attack"]["advantage"] >= 0.99 * worst_attacked(model.truth)
        assert told["epsilon_overall"] >= (1 - 1e-6) * worst_person((*model.truth, *own))
        assert told["epsilon_total"] >= (1 - 1e-6) * worst_person(self.truth)
        # Nor more than who takes the larger side of each deal, at each order, comes to: no waste.
        assert told["epsilon_overall"] <= 1.02 * loosely((*model.truth, *own))
        assert model.stated["epsilon"] <= 1.02 * loosely(model.truth)
        self.checked += 1

    # --- what may happen ---

    def run(self, source):
        params = self.params(target_epsilon=float(source.choice(TARGETS)))
        self._made(self.train(params, Past(), ()), params)

    def carry_on(self, source):
        model = self.models[source.integers(len(self.models))]
        if model.deal[1] != self.split:
            return  # another split is refused
        target = round(max(2.5, 1.8 * model.stated["epsilon"]), 1)
        params = self.params(target_epsilon=target, mode="continue", continue_from="a")
        past = past_of(model.checkpoint, "0" * 40, "0" * 32, self.table)
        try:
            _refuse_spent(past, params)
            model = self.train(params, past, model.truth)
        except UserError as error:  # the past leaves nothing
            assert "Raise `target_epsilon`" in str(error)  # noqa: PT017
            return
        # Whoever is in it: also who was tested on, and on whom it was trained since an edit.
        assert model.stated["epsilon"] <= target
        self._made(model, params)

    def tune(self, source):
        either = {"target_epsilon": 1.5, "evaluation_epsilon": float(source.choice([0.3, 2.0]))}
        params = self.params(**either)
        spends = {one.side: _best_of(2.0, one) for one in pricing.spends_of(params, self.table)}
        name = f"tune-{source.integers(2**60):x}"
        with opened(open_ledger(), name, spends, budget_of(params)) as close:
            for number in range(source.geometric(0.5)):
                trial = params.model_copy(update={"tuning_trial": f"{name}-{number}"})
                model = self.train(trial, Past(), ())
                told, _ = self.measure(model, trial)
            close()
        truth: Truth = tuple((self.deal, one.side, one.events[0]) for one in spends.values())
        model = replace(model, truth=truth)
        self.truth += truth
        self.models.append(model)
        self.state(model, (), told)

    def measure_again(self, source):
        model = self.models[source.integers(len(self.models))]
        delta = float(source.choice([DELTA, 1e-3]))
        asked = {"evaluation_epsilon": float(source.choice(TARGETS)), "target_delta": delta}
        told, own = self.measure(model, self.params(**asked))
        self.truth += own
        if delta != DELTA:  # the total is told at the δ asked for, and the whole at the model's
            told["epsilon_total"] = open_ledger().total(self._anything())
        self.state(model, own, told)

    def _anything(self):
        (entry, *_) = open_ledger().entries()
        return replace(entry.spend, delta=DELTA)

    def edit(self, _):
        self.version += 1

    def deal_out_anew(self, source):
        self.split = int(source.integers(2))

    def _made(self, model, params):
        self.truth += model.truth[-1:]
        self.models.append(model)
        told, own = self.measure(model, params)
        self.truth += own
        self.state(model, own, told)


def loosely(truth):
    """ε where of each deal the larger divergence counts at each order."""
    deals = {deal for deal, *_ in truth}

    def curve(deal, side):
        events = [event for where, on, event in truth if (where, on) == (deal, side)]
        return sum((google_curve(event) for event in events), np.zeros(len(ORDERS)))

    total = sum(np.maximum(curve(deal, "train"), curve(deal, "test")) for deal in deals)
    return compute_epsilon(ORDERS, total, DELTA)[0]


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """Compute each accounting once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.training.plan.calibrate", remembering(calibration.calibrate))
        patch.setattr(accounting, "account", remembering(accounting.account))
        yield


SEQUENCES, LENGTH = 8, 7


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_no_sequence_states_less_than_what_touched_somebody(tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    Project(tmp_path).run("git", "init", "--quiet")
    world, source = World(), np.random.default_rng([14, seed])
    first = (world.tune, world.run)[seed % 2]
    first(source)
    actions = (
        *(world.run, world.carry_on, world.carry_on, world.tune),
        *(world.measure_again, world.edit, world.deal_out_anew),
    )
    for _ in range(LENGTH):
        actions[source.integers(len(actions))](source)
    world.measure_again(source)
    assert world.checked >= 2
    entries = [entry for entry in Ledger().entries() if "awaited" not in entry.run]
    assert len(entries) >= len(world.models)


def test_a_model_chosen_by_test_figures_and_continued_on_an_edited_table_keeps_its_target(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Project(tmp_path).run("git", "init", "--quiet")
    world, source = World(), np.random.default_rng(2)
    for action in (world.tune, world.edit, world.carry_on, world.edit, world.carry_on):
        action(source)
    assert [deal for deal, *_ in world.models[1].truth] == [(0, 0), (0, 0), (1, 0)]
