"""Tuning: what may be tuned, and that a trial needs an open reservation. The README runs it."""

import csv
import json
import os
import shutil
import signal
import sqlite3
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages import tune
from stages.books.people import Budget, counting
from stages.books.rebuild import open_ledger
from stages.books.store import Ledger
from stages.books.tunings import begin_trial, close_dead, opened, tuning_of
from stages.errors import UserError
from stages.params import load_params
from stages.pricing import prices_after
from stages.privacy.events import BestOfMany, DiscreteLaplace, Steps
from stages.privacy.history import Side, Spend
from stages.tabular.prepared import Prepared, Source
from stages.tabular.schema import Schema
from stages.training.setup import settle
from stages.tuning import trials
from tests.conftest import ENVIRONMENT, ROOT, Project, commit_all, copy_project, told
from tests.tabular.conftest import SAMPLE_SCHEMA

TRIAL = Spend("patients.csv", "abc", "a split", "train", (Steps(6.0, 1.0, 20),), 3.1, 1e-5)

TEST = replace(TRIAL, side="test", events=(DiscreteLaplace(1.0),), epsilon=1.0)

SAMPLE_SCHEMA_READ = Schema.load(SAMPLE_SCHEMA)
SAMPLE_TABLE = Prepared(
    folder=Path(),
    features=tuple(SAMPLE_SCHEMA_READ.feature_names),
    classes=tuple(SAMPLE_SCHEMA_READ.class_names),
    groups={},
    unit="row",
    at_most=1,
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
    monkeypatch.setattr(trials, "prepared_for", lambda _: SAMPLE_TABLE)
    monkeypatch.setattr(trials, "spends_of", lambda *_: [TRIAL])
    monkeypatch.setattr(trials, "_badness", lambda _: 1.0)
    monkeypatch.setattr(trials, "_forget", lambda *_: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the process is the tests'
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(trials, "_run_trial", lambda _, settings: told.append(settings))
    tune.main()
    steps = trials._steps_of(load_params())
    assert told
    for settings in told:
        assert settings == steps | {"momentum": settings["momentum"]}


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.sqlite")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository without a run, for experiments that are made by hand."""
    made = Project(tmp_path)
    made.run("git", "init", "--quiet")
    made.run("git", "commit", "--quiet", "--allow-empty", "--message=empty")
    monkeypatch.chdir(tmp_path)
    return made


def make_experiment(repository, name):
    repository.run("git", "update-ref", f"refs/exps/ab/cdef/{name}", "HEAD")


def leave_another_of_dvc(repository):
    """Let DVC run another experiment, whose notes it removes while they are read."""
    note = repository.folder / ".dvc/tmp/exps/run/another/another.run"
    note.parent.mkdir(parents=True)
    note.symlink_to("nowhere")


def experiments(repository):
    return repository.run(
        "git", "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps"
    ).split()


BEST = trials._best_of(5.0, TRIAL)
TUNING: dict[Side, Spend] = {"train": BEST, "test": trials._best_of(5.0, TEST)}


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143), UserError("it failed")])
def test_an_interrupted_tuning_leaves_no_trial_and_no_room_for_one(
    monkeypatch, repository, ledger, stop
):
    monkeypatch.setattr(Prepared, "open", lambda: SAMPLE_TABLE)
    monkeypatch.setattr(trials, "open_ledger", lambda: ledger)
    monkeypatch.setattr(trials, "forget_outputs", lambda *_, **__: None)  # the run of DVC has them
    made: list[str] = []

    def run_one(name, _):
        begin_trial(ledger, name, TRIAL)
        make_experiment(repository, name)
        made.append(name)
        leave_another_of_dvc(repository)
        raise stop

    monkeypatch.setattr(trials, "_run_trial", run_one)
    with pytest.raises(type(stop)):
        trials.run_trials([{"momentum": 0.5}], 5.0, load_params(ROOT / "params.yaml"), [BEST])
    assert made
    assert experiments(repository) == []
    (entry,) = ledger.entries()
    assert entry.settled
    assert entry.spend == BEST
    with pytest.raises(UserError, match="which is over"):
        begin_trial(ledger, f"{tuning_of(made[0])}-again", TRIAL)


def test_a_tuning_of_which_no_trial_began_costs_nothing(monkeypatch, repository, ledger):
    # As where DVC's copy of the repository, in which trials run, has no table, or amid a merge,
    # with both versions in dvc.lock.
    monkeypatch.setattr(Prepared, "open", lambda: SAMPLE_TABLE)
    monkeypatch.setattr(trials, "open_ledger", lambda: ledger)
    (repository.folder / "dvc.lock").write_text("<<<<<<< HEAD\n=======\n")

    def fail(*_):
        raise UserError("no table")

    monkeypatch.setattr(trials, "_run_trial", fail)
    grid, params = [{"momentum": 0.5}], load_params(ROOT / "params.yaml")
    with pytest.raises(UserError, match="no table"):
        trials.run_trials(grid, 5.0, params, [*TUNING.values()])
    assert [entry.struck for entry in ledger.entries()] == ["no trial began"] * 2


def test_a_tuning_beyond_the_budget_reserves_neither_side(ledger):
    enough_for_training = Budget(BEST.epsilon + 0.1, TRIAL.delta)
    costly: dict[Side, Spend] = {
        "train": BEST,
        "test": replace(BEST, side="test", epsilon=BEST.epsilon + 1),
    }
    with (
        pytest.raises(UserError, match="`privacy_budget` is"),
        opened(ledger, "tune-a", costly, enough_for_training),
    ):
        raise AssertionError
    assert ledger.entries() == []
    assert [*ledger.path.parent.glob("*.lock")] == []


def test_a_tuning_under_a_budget_reserves_nothing_where_runs_may_be_missing(ledger):
    ledger.hidden = "commits are missing"
    with (
        pytest.raises(UserError, match="cannot be kept: commits are missing"),
        opened(ledger, "tune-a", TUNING, Budget(100.0, TRIAL.delta)),
    ):
        raise AssertionError
    assert ledger.entries() == []
    with opened(ledger, "tune-a", TUNING, None) as close:
        close()


def test_each_token_works_once_on_each_side(ledger):
    with opened(ledger, "tune-a", TUNING, None):
        for spend in (TRIAL, TEST):
            assert begin_trial(ledger, "tune-a-1", spend).spend == TUNING[spend.side]
            with pytest.raises(UserError, match="was run before"):
                begin_trial(ledger, "tune-a-1", spend)
        begin_trial(ledger, "tune-a-2", TRIAL)


def test_a_trial_on_a_table_elsewhere_is_of_the_table_that_was_reserved(ledger):
    # It has two names there: as params.yaml has it, and where that is.
    spends = {side: replace(one, data="../elsewhere.csv") for side, one in TUNING.items()}
    with opened(ledger, "tune-a", spends, None):
        entry = begin_trial(ledger, "tune-a-1", replace(TRIAL, data="../elsewhere.csv"))
        assert entry.spend.data.startswith("../elsewhere.csv → /")
        with pytest.raises(UserError, match="another table"):
            begin_trial(ledger, "tune-a-2", replace(TRIAL, data="../others.csv"))


def test_the_sides_of_a_tuning_are_struck_together(ledger):
    # The best was chosen by its test figures: neither side is what it is without the other.
    with opened(ledger, "tune-a", TUNING, None) as close:
        begin_trial(ledger, "tune-a-1", TRIAL)
        close()
    assert len(counting(ledger.entries())) == 2
    assert sorted(ledger.strike(2, "nobody has seen it")) == ["tune-a-test", "tune-a-train"]
    assert counting(ledger.entries()) == []


def test_how_many_trials_there_were_is_forgotten_at_the_end(ledger):
    with opened(ledger, "tune-a", TUNING, None) as close:
        for number in range(3):
            begin_trial(ledger, f"tune-a-{number}", TRIAL)
        assert [*close_dead(ledger)] == []  # it lives
        link = ledger.path.with_name("of-another-clone.sqlite")
        link.symlink_to(ledger.path)
        assert [*close_dead(Ledger(link))] == []
        close()
    assert [entry.spend for entry in ledger.entries()] == [*TUNING.values()]
    assert all(entry.settled for entry in ledger.entries())
    with sqlite3.connect(ledger.path) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (0,)
    assert [*close_dead(ledger)] == []


KILLED = """
import os, signal
from stages.books.rebuild import open_ledger
from stages.books.people import Budget
from stages.books.store import Ledger
from stages.books.tunings import begin_trial, close_dead, opened, tuning_of
from stages.books.tunings import begin_trial, opened
from tests.test_tune import TEST, TRIAL, TUNING
with opened(Ledger(), "tune-a", TUNING, None):
    for number in range({trials}):
        begin_trial(Ledger(), f"tune-a-{{number}}", TRIAL)
        begin_trial(Ledger(), f"tune-a-{{number}}", TEST)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_tuning(repository, trials):
    environment = {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(repository.folder)}
    code = KILLED.format(trials=trials)
    repository.run(sys.executable, "-c", code, expect=-signal.SIGKILL, env=environment)
    return Ledger(repository.folder / "privacy-ledger.sqlite")


def test_the_next_command_closes_a_tuning_that_was_killed_and_books_each_trial_in_full(
    repository, capsys
):
    ledger = kill_a_tuning(repository, trials=2)
    assert [entry.settled for entry in ledger.entries()] == [False, False]
    for name in ("tune-a-0", "tune-b-0"):
        make_experiment(repository, name)
    open_ledger()
    assert "tune-a died" in capsys.readouterr().out
    counted = [entry.spend for entry in ledger.entries() if entry.struck is None]
    assert sorted(counted, key=lambda spend: spend.side) == [TEST, TEST, TRIAL, TRIAL]
    assert experiments(repository) == ["tune-b-0"]
    with pytest.raises(UserError, match="which is over"):
        begin_trial(ledger, "tune-a-2", TRIAL)
    entries = ledger.entries()
    open_ledger()
    assert ledger.entries() == entries


def test_a_tuning_that_was_killed_and_left_no_note_counts_as_reserved(repository):
    ledger = kill_a_tuning(repository, trials=0)
    open_ledger()
    assert [entry.spend for entry in ledger.entries()] == [*TUNING.values()]
    assert all(entry.settled and entry.struck is None for entry in ledger.entries())


def test_a_simulation_is_not_tuned():
    params = load_params(overrides={"simulation_seed": 1})
    with pytest.raises(UserError, match="an empty `simulation_seed`"):
        trials.refuse_untunable([{"momentum": 0.5}], params)


@pytest.mark.parametrize("number", [1.0, 0.0, float("nan"), float("inf"), 1e300])
def test_no_more_than_one_trial_is_no_tuning_and_more_than_anybody_can_run_neither(number):
    with pytest.raises(UserError, match="--trials should be above 1"):
        trials.price(number, load_params())


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"accuracy": 0.7, "loss": 0.3}, {"accuracy": 0.9, "loss": 0.4}),
        ({"accuracy": 0.9}, {"accuracy": 0.7}),  # where scores are not counted
    ],
)
def test_the_best_trial_has_the_least_loss_or_the_most_accuracy_if_there_is_none(
    monkeypatch, better, worse
):
    def told(name, _):
        return json.dumps({"evidence": [evidence_of({"good": better, "bad": worse}[name])]})

    monkeypatch.setattr(trials, "resolve", lambda name: name)
    monkeypatch.setattr(trials, "file_at", told)
    assert min(["bad", "good"], key=trials._badness) == "good"


def evidence_of(figures):
    rest = {"plus_minus": {}, "confusion_matrix": [[1.0]], "epsilon": 1.0, "epsilon_overall": 1.0}
    return {"figures": figures, **rest}


def test_the_best_of_many_is_priced_above_a_trial():
    best = trials._best_of(5.0, TRIAL)
    assert best.events == (BestOfMany(TRIAL.events, 5.0, 1.0),)
    assert best.epsilon > TRIAL.epsilon


def test_a_trial_needs_an_open_reservation_for_its_own_mechanism(ledger):
    with pytest.raises(UserError, match="which is over or was reserved for other settings"):
        begin_trial(ledger, "tune-a-1", TRIAL)
    with (
        opened(ledger, "tune-a", TUNING, None),
        pytest.raises(UserError, match="reserved for other settings"),
    ):
        begin_trial(ledger, "tune-a-1", replace(TRIAL, events=(Steps(3.0, 1.0, 20),)))


@pytest.mark.parametrize(
    "read", [{"data": "others.csv"}, {"fingerprint": "edited"}, {"split": "another"}]
)
def test_a_trial_on_another_table_than_was_reserved_for_is_refused(repository, ledger, read):
    with opened(ledger, "tune-a", TUNING, None):
        begin_trial(ledger, "tune-a-1", TRIAL)
        with pytest.raises(UserError, match="another table"):
            begin_trial(ledger, "tune-a-2", replace(TRIAL, **read))


def test_neither_tuning_nor_a_plan_is_priced_for_a_table_that_is_not_prepared(
    copied_run, monkeypatch
):
    project = copied_run
    monkeypatch.chdir(project.folder)
    shutil.copy(ROOT / "data/sample_medical_data.csv", "data/others.csv")
    for change, why in (
        ({"split_seed": 1}, "another table, schema or split is prepared"),
        ({"data": "data/others.csv"}, "another table, schema or split is prepared"),
        ({"data": "data/nowhere.csv"}, "no such file"),
        ({"data": "data"}, "cannot be read"),
    ):
        with pytest.raises(UserError, match=why):
            next(prices_after([load_params(overrides=change)]))
    project.set(data="data/nowhere.csv")
    tune = ["stages.tune", "-S", "momentum=0.5", "--trials", "1.1"]
    for command, status in ((tune, 1), (["stages.ledger", "plan"], 1), (["stages.ledger"], 0)):
        told = project.run(sys.executable, "-m", *command, expect=status)
        assert "no such file" in told
        assert "Traceback" not in told
    assert "total" in told  # what is on record is shown all the same


def test_how_many_trials_there_are_is_drawn_anew_each_time(monkeypatch, ledger):
    # The price is of a geometric number: of a fixed one, it would be another.
    monkeypatch.setattr(Prepared, "open", lambda: SAMPLE_TABLE)
    monkeypatch.setattr(trials, "open_ledger", lambda: ledger)
    ran: list[str] = []
    monkeypatch.setattr(trials, "_run_trial", lambda name, _: ran.append(name))
    monkeypatch.setattr(trials, "_badness", lambda _: 1.0)
    monkeypatch.setattr(trials, "_forget", lambda *_: None)
    steps = trials._steps_of(load_params())
    monkeypatch.setattr(trials, "_steps_of", lambda _: steps)
    tunings = 200
    for _ in range(tunings):
        trials.run_trials([{"momentum": 0.5}], 2.0, load_params(), [BEST])
    numbers = np.unique([name.rpartition("-")[0] for name in ran], return_counts=True)[1]
    assert len(numbers) == tunings
    # One with chance ½, two with ¼: five deviations of 200 draws either way, once in a million.
    assert pytest.approx((numbers == 1).mean(), abs=0.18) == 0.5
    assert pytest.approx((numbers == 2).mean(), abs=0.16) == 0.25


# --- a real one ----------------------------------------------------------------------------------


@pytest.fixture
def studio():
    """The address of a server such as DVC tells of experiments, and all that it was told."""
    told: list[bytes] = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", told
        server.shutdown()


@pytest.fixture
def tuned(tmp_path, monkeypatch, studio):
    """A repository in which a tuning of three trials has been run, and the names of the trials.

    DVC is set up there to share what is run.
    """
    project = copy_project(tmp_path / "project")
    project.set(target_epsilon=1, epochs=2, hidden_sizes="[]")
    project.run("git", "init", "--quiet", "--bare", str(tmp_path / "shared.git"))
    project.run("git", "remote", "add", "origin", str(tmp_path / "shared.git"))
    project.run("dvc", "remote", "add", "--default", "shared", str(tmp_path / "shared"))
    settings = {"exp.auto_push": "true", "studio.url": studio[0], "studio.token": "a-token"}
    for name, value in settings.items():
        project.run("dvc", "config", name, value)
    commit_all(project, "before any run")
    project.run("dvc", "repro", "preprocess")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(project.folder)
    drawn = SimpleNamespace(geometric=lambda _: 3, integers=lambda _: 0)
    monkeypatch.setattr(trials, "random_source", lambda _: drawn)
    names: list[str] = []
    run_one = trials._run_trial

    def run_trial(name, choice):
        names.append(name)
        project.set(exact_metrics="true")  # by whoever edits it meanwhile
        run_one(name, choice)

    monkeypatch.setattr(trials, "_run_trial", run_trial)
    params = load_params()
    spends = trials.price(2.0, params)
    best = trials.run_trials([{"momentum": 0.5}], 2.0, params, spends)
    project.set(exact_metrics="false")
    return project, names, best, spends


def test_of_a_real_tuning_nothing_is_left_but_the_best_at_the_price_of_all(tuned, studio):
    project, names, best, spends = tuned
    assert len(names) == 3
    # DVC's own notes tell no number of trials.
    notes = (project.folder / ".dvc/tmp/exps").glob("**/*.run")
    assert [note for note in notes if best not in note.read_text()] == []
    # Nor has DVC shown a trial to others, which it does by itself where it is set up so.
    assert not project.run("git", "ls-remote", "origin")
    assert not (project.folder.parent / "shared").exists()
    assert studio[1] == []
    assert experiments(project) == [best]
    cached = [path.read_text(errors="replace") for path in cache_of(project)]
    for name in names:
        assert any(name in text for text in cached) == (name == best), name
    # Of each there is one: the best's model, checkpoint and metrics.
    assert sum('"training_rows"' in text or '"learning_rate"' in text for text in cached) == 1
    assert sum("momentum" in text and "weights" in text for text in cached) == 1
    entries = Ledger(project.folder / "privacy-ledger.sqlite").entries()
    assert [entry.spend for entry in entries] == [*spends]
    assert all(entry.settled for entry in entries)
    # It can be kept, and says what it cost: the larger side's price, also the model by itself.
    project.run("dvc", "exp", "apply", best)
    price = max(spend.epsilon for spend in spends)
    for stage, name in (("train", "epsilon"), ("evaluate", "epsilon_overall")):
        assert told(project, stage)[name] == pytest.approx(price)
    assert told(project, "train")["epsilon_replace_one"] is None
    with (project.folder / "plots/training.csv").open() as table:
        curve = [float(row["epsilon"]) for row in csv.DictReader(table)]
    assert curve == sorted(curve)
    assert curve[-1] == pytest.approx(price)
    assert curve[0] > 1.1  # of a trial alone it ends at 1
    # Another trial under its token is refused, and what is refused spends nothing.
    assert "which is over" in project.stage("train", expect=1)
    assert Ledger(project.folder / "privacy-ledger.sqlite").entries() == entries


def cache_of(project):
    return [path for path in (project.folder / ".dvc/cache").rglob("*") if path.is_file()]
