"""Tuning: what may be tuned, and that a trial needs an open reservation. The README runs it."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages import tune
from stages.books.store import Ledger
from stages.errors import UserError
from stages.params import load_params
from stages.privacy.events import BestOfMany, Steps
from stages.privacy.history import Spend
from stages.tabular.prepared import Prepared, Source
from stages.tabular.schema import Schema
from stages.training.setup import settle
from stages.tuning import trials
from tests.tabular.conftest import SAMPLE_SCHEMA

TRIAL = Spend("patients.csv", "abc", "a split", "train", (Steps(6.0, 1.0, 20),), 3.1, 1e-5)

SAMPLE_SCHEMA_READ = Schema.load(SAMPLE_SCHEMA)
SAMPLE_TABLE = Prepared(
    folder=Path(),
    features=tuple(SAMPLE_SCHEMA_READ.feature_names),
    classes=tuple(SAMPLE_SCHEMA_READ.class_names),
    groups={},
    unit="row",
    scaled=tuple(SAMPLE_SCHEMA_READ.scaled),
    ordered=False,
    source=Source("patients.csv", "abc", "a split"),
    schema_text=SAMPLE_SCHEMA_READ.to_json(),
)


def planned(params):
    _, plan = settle(params, SAMPLE_TABLE, 1070)
    return plan.planned


@pytest.mark.parametrize("name", ["target_epsilon", "epochs", "batch_size", "split_seed"])
def test_a_setting_that_changes_the_price_of_a_trial_is_not_tuned(name):
    with pytest.raises(UserError, match=f"-S {name}: only settings that leave the price"):
        trials.refuse_untunable([{name: 1}], load_params())


def test_settings_that_leave_the_price_alone_are_tuned():
    trials.refuse_untunable([{"learning_rate": 0.1, "hidden_sizes": []}], load_params())


@pytest.mark.parametrize(
    "choice", [{"momentum": 0.0}, {"max_grad_norm": 1.0}, {"hidden_sizes": []}]
)
def test_whatever_is_tuned_a_trial_is_the_mechanism_that_was_reserved(monkeypatch, choice):
    monkeypatch.setattr(Prepared, "open", lambda: SAMPLE_TABLE)
    params = load_params()
    reserved = planned(params)
    # By itself `auto` would take another number of steps.
    assert planned(load_params(overrides=choice)) != reserved
    trial = load_params(overrides=trials._steps_of(params) | choice)
    assert planned(trial) == reserved


def test_every_trial_is_told_that_number_of_steps(monkeypatch, tmp_path):
    monkeypatch.setattr(Prepared, "open", lambda: SAMPLE_TABLE)
    monkeypatch.setattr(sys, "argv", ["tune", "-S", "momentum=0.5,0.8", "--trials", "4"])
    monkeypatch.setattr(trials, "open_ledger", lambda: Ledger(tmp_path / "ledger.sqlite"))
    monkeypatch.setattr(trials, "spends_of", lambda *_: [TRIAL])
    monkeypatch.setattr(trials, "_loss", lambda _: 1.0)
    monkeypatch.setattr(trials, "_dvc", lambda *_: None)
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(trials, "_run_trial", lambda _, settings: told.append(settings))
    tune.main()
    steps = trials._steps_of(load_params())
    assert told
    for settings in told:
        assert settings == steps | {"momentum": settings["momentum"]}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit(143), UserError("it failed")])
def test_an_interrupted_tuning_leaves_no_trial_and_no_room_for_one(monkeypatch, tmp_path, stop):
    monkeypatch.setattr(Prepared, "open", lambda: SAMPLE_TABLE)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    monkeypatch.setattr(trials, "open_ledger", lambda: ledger)
    made: list[str] = []
    removed: list[str] = []

    def run_one(name, _):
        made.append(name)
        raise stop

    monkeypatch.setattr(trials, "_run_trial", run_one)
    monkeypatch.setattr(trials, "commit_of", lambda name: name if name in made else None)
    monkeypatch.setattr(trials, "_dvc", lambda *words: removed.extend(words[2:]))
    best = trials._best_of(5.0, TRIAL)
    with pytest.raises(type(stop) if isinstance(stop, BaseException) else stop):
        trials.run_trials([{"momentum": 0.5}], 5.0, load_params(), [best])
    assert removed == made != []
    (entry,) = ledger.entries()
    assert entry.settled
    assert entry.spend.events == best.events
    with pytest.raises(UserError, match="which is over"):
        ledger.trial_of(entry.run.rpartition("-")[0], TRIAL)


def test_a_simulation_is_not_tuned():
    params = load_params(overrides={"simulation_seed": 1})
    with pytest.raises(UserError, match="an empty `simulation_seed`"):
        trials.refuse_untunable([{"momentum": 0.5}], params)


@pytest.mark.parametrize("number", [1.0, 0.0, float("nan")])
def test_one_trial_or_fewer_is_no_tuning(number):
    with pytest.raises(UserError, match="--trials should be above 1"):
        trials.price(number, load_params())


def test_the_best_of_many_is_priced_above_a_trial():
    best = trials._best_of(5.0, TRIAL)
    assert best.events == (BestOfMany(TRIAL.events, 5.0, 1.0),)
    assert best.epsilon > TRIAL.epsilon


def test_a_trial_needs_an_open_reservation_for_its_own_mechanism(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with pytest.raises(UserError, match="which is over or was reserved for other settings"):
        ledger.trial_of("tune-a", TRIAL)
    best = trials._best_of(5.0, TRIAL)
    ledger.reserve(best, None, run="tune-a-train")
    assert ledger.trial_of("tune-a", TRIAL).spend == best
    with pytest.raises(UserError, match="reserved for other settings"):
        ledger.trial_of("tune-a", replace(TRIAL, events=(Steps(3.0, 1.0, 20),)))
    ledger.settle("tune-a-train", best.events)
    with pytest.raises(UserError, match="which is over"):
        ledger.trial_of("tune-a", TRIAL)
