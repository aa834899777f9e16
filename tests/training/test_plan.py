"""The plan: every number of the mechanism from one place, and what it refuses."""

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.errors import UserError
from stages.params import load_params
from stages.privacy.events import Steps
from stages.tabular.prepared import Prepared, Side, Source
from stages.training.calibration import calibrate
from stages.training.past import Past
from stages.training.plan import Plan
from stages.training.schedule import Schedule
from stages.training.setup import set_up
from tests.runs import plan_of

ASKED: dict[str, Any] = {
    "train_size": 1000,
    "batch_size": 300,
    "epochs": 2.5,
    "max_grad_norm": 0.7,
    "target_epsilon": 3.0,
    "target_delta": 1e-5,
    "metric_noise_ratio": 5.0,
}


@pytest.fixture(scope="module")
def plan():
    return plan_of(**ASKED)


def shaped(sample_rate, steps):
    """Return a plan of which only sample rate and steps matter."""
    return Plan(
        train_size=1000,
        sample_rate=sample_rate,
        steps=steps,
        expected_batch_size=1000 * sample_rate,
        noise_multiplier=1.0,
        metric_noise_multiplier=5.0,
        max_grad_norm=1.0,
        delta=1e-5,
    )


def test_sampling_and_steps_follow_from_the_declared_size(plan):
    assert plan.train_size == 1000
    assert plan.sample_rate == 0.3
    assert plan.expected_batch_size == 300
    # 2.5 epochs / 0.3 = 8.33 steps
    assert plan.steps == 8
    assert isinstance(plan.steps, int)
    assert (plan.max_grad_norm, plan.delta) == (0.7, 1e-5)


def test_a_part_of_a_step_is_one_step():
    # 0.1 epochs of full batches
    assert plan_of(**ASKED | {"batch_size": 1000, "epochs": 0.1}).steps == 1


def test_the_metrics_have_the_asked_noise_ratio(plan):
    assert plan.metric_noise_multiplier == pytest.approx(5 * plan.noise_multiplier)


def test_gradients_pay_for_the_metrics_with_more_noise(plan):
    # σ_eff⁻² = σ⁻² + ¾·(5σ)⁻² = 1.03·σ⁻², so σ = √1.03·σ_eff = 1.014889·σ_eff.
    effective = calibrate(3.0, delta=1e-5, sample_rate=0.3, steps=8)
    assert plan.noise_multiplier == pytest.approx(1.0148891 * effective)
    assert plan.effective_noise_multiplier == pytest.approx(effective)


def test_the_accountants_are_told_what_the_plan_says(plan):
    assert plan.planned == Steps(plan.effective_noise_multiplier, 0.3, 8)


def test_a_plan_cannot_be_changed(plan):
    with pytest.raises(FrozenInstanceError):
        plan.noise_multiplier = 0.1


@pytest.mark.parametrize(
    ("sample_rate", "steps", "ends"),
    [
        (1.0, 3, [1, 2, 3]),
        # 8 steps of 0.3 are 2.4 epochs: two of four steps each
        (0.3, 8, [4, 8]),
        # 1 / 0.06 = 16.67 steps to the epoch; of 53 steps, 5 % do not learn
        (0.06, 53, [17, 33, 50]),
        # less than one epoch is one
        (0.1, 3, [3]),
    ],
)
def test_epochs_end_after_about_one_pass_each(sample_rate, steps, ends):
    assert shaped(sample_rate, steps).epoch_ends == ends


@settings(deadline=None)
@given(sample_rate=st.floats(1e-3, 1), steps=st.integers(1, 5000))
def test_every_epoch_has_a_step_and_the_last_ends_what_learns(sample_rate, steps):
    plan = shaped(sample_rate, steps)
    starts = [0, *plan.epoch_ends[:-1]]
    assert all(start < end for start, end in zip(starts, plan.epoch_ends, strict=True))
    assert plan.epoch_ends[-1] == plan.schedule.training
    # As many epochs as passes over the table, rounded.
    passes = plan.schedule.training * sample_rate
    assert len(plan.epoch_ends) == pytest.approx(max(1, passes), abs=0.5 + 1e-9)


@given(steps=st.integers(50, 10_000), candidates=st.integers(1, 3))
def test_every_step_is_spent_on_one_thing(steps, candidates):
    schedule = Schedule.of(steps, candidates)
    assert schedule.steps == steps
    assert schedule.training > steps / 4
    assert (schedule.pilot > 0) == (schedule.scoring > 0) == (candidates > 1)
    shares = [schedule.share_of_rate(step) for step in range(schedule.pilot + schedule.training)]
    assert sum(shares) == pytest.approx(schedule.full_steps)


def refusal(**changes):
    with pytest.raises(UserError) as refused:
        plan_of(**ASKED | changes)
    return str(refused.value)


def test_a_batch_larger_than_the_table_is_refused():
    assert refusal(batch_size=1001) == (
        "params.yaml: `batch_size` should be at most `train_size` (1000), but is 1001. "
        "Lower `batch_size`; equal to `train_size` is full batch."
    )
    assert plan_of(**ASKED | {"batch_size": 1000}).sample_rate == 1


@pytest.mark.parametrize("delta", [8e-4, 1e-3, 0.5])
def test_a_delta_that_would_allow_publishing_a_row_is_refused(delta):
    message = refusal(target_delta=delta)
    assert "`target_delta` should be below 0.8 / `train_size` = 0.0008" in message
    assert f"but is {delta:g}" in message
    assert "Set it to `auto`, or lower" in message


@pytest.mark.parametrize("declared", [100, 893, 1070, 5000])
def test_whether_a_run_can_be_made_does_not_depend_on_the_number_of_rows(declared):
    # The neighbours of a table on the edge of some tolerance would tell one row.
    features = np.zeros((1000, 3), np.float32)
    for rows in (1, 892, 891, 1000):
        table = table_of(features[:rows])
        params = load_params(overrides={"train_size": declared, "hidden_sizes": []})
        training, _ = set_up(params, table, Past())
        assert training.plan.train_size == declared


def table_of(features):
    """A prepared table of which only the training side is looked at."""
    side = Side(features, np.zeros(len(features), np.int64))
    about = {
        "features": ("a", "b", "c"),
        "classes": ("no", "yes"),
        "groups": {},
        "unit": "row",
        "at_most": 1,
    }
    source = Source("patients.csv", "abc", "a split")
    known = {"train": property(lambda _: side)}
    of_memory = type("OfMemory", (Prepared,), known)
    return of_memory(
        **about, scaled=(), ordered=False, folder=Path(), source=source, schema_text=""
    )


def test_a_target_too_small_for_its_steps_is_refused():
    message = refusal(target_epsilon=1e-4, epochs=100, batch_size=10)
    assert "`target_epsilon` of 0.0001 is too small for 10000 steps" in message
