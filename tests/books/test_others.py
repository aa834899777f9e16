"""Metrics tell of all other runs on the same people, so that who has them alone knows of all."""

import json
from dataclasses import replace

import pytest

from stages.books.booking import Booking
from stages.books.people import SEEN, Budget
from stages.books.rebuild import open_ledger, strike
from stages.books.sqlite import append, append_reservation
from stages.books.store import Ledger
from stages.books.tunings import begin_trial, opened
from stages.errors import UserError
from stages.privacy.events import BestOfMany, Steps
from stages.privacy.history import Side, Spend
from tests.conftest import Project, commit_all

STEPS = Steps(6.0, 1.0, 20)
TRAIN = Spend("patients.csv", "one", "0.2 by seed 0", "train", (STEPS,), 3.1, 1e-5)
RENAMED = replace(TRAIN, data="renamed.csv", fingerprint="two")
BEST = replace(TRAIN, events=(BestOfMany((STEPS,), mean=5.0, shape=1.0),))
OTHER_PEOPLE = replace(TRAIN, data="others.csv", fingerprint="three")


class Clone(Project):
    """A repository in which runs leave only what the ledger reads of them."""

    def run_on(self, spend, past=()):
        """Make a run: enter it, and write its metrics."""
        ledger = Ledger(self.folder / "privacy-ledger.sqlite")
        booking = Booking(spend, None, ledger, ledger.reserve(spend, None, past=past))
        ledger.settle(str(booking.run), spend.events)
        self.write_metrics(booking)
        return booking.run

    def write_metrics(self, booking):
        told = {"ledger": (booking.record(),), "others": booking.others()}
        evidence = {key: [one.model_dump(mode="json") for one in told[key]] for key in told}
        path = self.folder / "metrics/evaluate.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"evidence": [evidence]}))

    def forget(self, *names):
        for name in names:
            self.run("git", "branch", "--delete", "--force", name)
        self.run("git", "reflog", "expire", "--expire=now", "--all")
        self.run("git", "gc", "--quiet", "--prune=now")


def made(folder):
    clone = Clone(folder)
    folder.mkdir()
    clone.run("git", "init", "--quiet", "--initial-branch=main")
    (folder / ".gitignore").write_text("privacy-ledger.sqlite*\n")
    commit_all(clone, "begin")
    return clone


@pytest.fixture
def clone(tmp_path, monkeypatch):
    clone = made(tmp_path / "clone")
    monkeypatch.chdir(clone.folder)
    return clone


def test_who_has_the_last_metrics_alone_knows_of_all_runs_on_these_people(
    clone, tmp_path, monkeypatch
):
    first = clone.run_on(TRAIN)
    clone.run_on(RENAMED, past=[first])
    clone.run_on(OTHER_PEOPLE)
    clone.run_on(replace(TRAIN, split="0.2 by seed 1", side="test"))
    ledger = Ledger(clone.folder / "privacy-ledger.sqlite")
    ledger.settle(ledger.reserve(BEST, None), BEST.events)
    ledger.reserve(TRAIN, None)  # and whether it ended, nobody knows
    clone.run_on(TRAIN)
    elsewhere = made(tmp_path / "elsewhere")
    (elsewhere.folder / "metrics").mkdir()
    metrics = (clone.folder / "metrics/evaluate.json").read_text()
    (elsewhere.folder / "metrics/evaluate.json").write_text(metrics)
    monkeypatch.chdir(elsewhere.folder)
    known = open_ledger()
    for spend in (TRAIN, RENAMED):
        assert known.total(spend) == pytest.approx(ledger.total(spend))
        budget = Budget(100.0, 1e-5)
        assert known.used(spend, budget) == ledger.used(spend, budget)
    assert known.total(OTHER_PEOPLE) == 0
    assert open_ledger().entries() == known.entries()


def test_a_run_whose_commit_was_squashed_is_known(clone):
    runs = {clone.run_on(TRAIN)}
    commit_all(clone, "first")
    clone.run("git", "switch", "--quiet", "--create", "experiments")
    for number in range(2):
        runs.add(clone.run_on(TRAIN))
        commit_all(clone, f"experiment {number}")
    clone.run("git", "switch", "--quiet", "main")
    clone.run("git", "merge", "--quiet", "--squash", "experiments")
    commit_all(clone, "experiments, squashed")
    clone.forget("experiments")
    (clone.folder / "privacy-ledger.sqlite").unlink()
    assert {entry.run for entry in open_ledger().entries()} == runs


def test_what_does_not_count_is_not_told(clone):
    ledger = Ledger(clone.folder / "privacy-ledger.sqlite")
    first = clone.run_on(TRAIN)
    ledger.reserve(TRAIN, None)
    ledger.reserve(TRAIN, Budget(100.0, 1e-5), then=replace(TRAIN, side="test"))
    awaited = ledger.entries()[-1]
    last = Booking(TRAIN, None, ledger, ledger.reserve(TRAIN, None))
    told = {one.run for one in last.others()}
    assert first in told
    assert awaited.run not in told
    assert len(told) == 3
    struck = ledger.entries()[1]
    ledger.strike(struck.number, "never left the building")
    assert {one.run for one in last.others()} == told - {struck.run}


def test_of_a_tuning_that_goes_on_nothing_is_told_as_its_trials_may_count_one_by_one(clone):
    ledger = Ledger()
    sides: dict[Side, Spend] = {"train": BEST, "test": replace(BEST, side="test")}
    with opened(ledger, "tune-a", sides, None) as close:
        trial = Booking(BEST, None, ledger, "tune-a-train", trial="tune-a-1")
        begin_trial(ledger, "tune-a-1", TRAIN)
        beside = Booking(TRAIN, None, ledger, ledger.reserve(TRAIN, None))
        assert beside.others() == ()
        assert [one.run for one in trial.others()] == [beside.run]
        close()
    assert {one.run for one in beside.others()} == {"tune-a-train", "tune-a-test"}
    assert [one.run for one in trial.others()] == [beside.run]


def test_a_struck_run_that_was_seen_again_is_told_once_and_as_itself(clone):
    ledger = Ledger(clone.folder / "privacy-ledger.sqlite")
    run = ledger.reserve(TRAIN, None)
    with ledger.writing() as connection:
        append(connection, kind="strike", run=run, reason="never left the building")
        append_reservation(connection, TRAIN, f"{run}{SEEN}", None, None)
    last = Booking(TRAIN, None, ledger, ledger.reserve(TRAIN, None))
    assert [one.run for one in last.others()] == [run]


def test_what_later_runs_tell_of_a_run_is_no_metrics_of_its_own(clone):
    # So it can be struck where nobody has seen it, and stays struck.
    first = Ledger().reserve(TRAIN, None)
    second = clone.run_on(TRAIN)
    commit_all(clone, "of which the first was before")
    strike(1, "interrupted, and nobody has seen it")
    assert {entry.run: entry.struck is None for entry in open_ledger().entries()} == {
        first: False,
        second: True,
    }
    with pytest.raises(UserError, match="its metrics can be seen"):
        strike(2, "no")


def test_its_own_metrics_tell_of_a_run_rather_than_others(clone):
    clone.run_on(TRAIN)
    commit_all(clone, "first")
    commit = clone.run("git", "rev-parse", "HEAD").strip()
    clone.run_on(TRAIN)
    commit_all(clone, "second")
    (clone.folder / "privacy-ledger.sqlite").unlink()
    assert open_ledger().entries()[0].revision == commit
