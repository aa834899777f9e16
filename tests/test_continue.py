"""Continuing a run: its past counts, in the workspace, in a copy and in the queue."""

import csv
import json
import re

import pytest

from stages.books.store import Ledger
from stages.errors import UserError
from stages.privacy.events import from_json
from stages.privacy.history import adaptive_epsilon, budgeted_epsilon, total_epsilon
from tests.conftest import commit_all, copy_project, told


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A repository with a committed run at ε = 1, made with few steps and weights."""
    project = copy_project(tmp_path_factory.mktemp("clone") / "project")
    project.set(target_epsilon=1, epochs=3, hidden_sizes="[8]")
    commit_all(project, "before any run")
    project.run("dvc", "repro")
    commit_all(project, "a run")
    project.run("git", "tag", "first")
    return project


@pytest.fixture
def fresh(clone):
    """The clone as it was committed."""
    clone.run("git", "checkout", "--force", "--quiet", ".")
    clone.run("dvc", "checkout", "--force")
    return clone


def head(project, revision="HEAD"):
    return project.run("git", "rev-parse", revision).strip()


def continue_to(project, epsilon, parent, *options):
    settings = (f"target_epsilon={epsilon}", "mode=continue", f"continue_from={parent}")
    return project.run("dvc", "exp", "run", *options, *(f"-S={setting}" for setting in settings))


def assert_within(metrics, target):
    assert 0.99 * target < metrics["epsilon"] <= target
    # Full batches are Gaussian mechanisms, whose ε is that of a plan made in advance.
    assert metrics["epsilon_pld"] <= metrics["epsilon"] < metrics["epsilon_renyi"]


def test_each_way_to_run_counts_the_past_and_goes_on_where_it_ended(fresh):
    continue_to(fresh, 2, "first", "--name=second")
    metrics = told(fresh, "train")
    assert_within(metrics, 2)
    assert metrics["parent"]["commit"] == head(fresh, "first")
    assert metrics["parent"]["checkpoint"].endswith(".dir")
    assert metrics["parent"]["data_changed"] is False
    first = json.loads(fresh.run("git", "show", "first:metrics/train.json"))["evidence"][0]
    assert metrics["activation"] == first["activation"]
    with (fresh.folder / "plots/training.csv").open() as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == [1, 2, 3, 4, 5, 6]

    continue_to(fresh, 3.5, "second", "--temp", "--name=third")
    continue_to(fresh, 5, "third", "--queue", "--name=fourth")
    fresh.run("dvc", "queue", "start")
    fresh.finish_queue()
    for name, target in (("third", 3.5), ("fourth", 5)):
        fresh.run("dvc", "exp", "apply", name)
        assert_within(told(fresh, "train"), target)


def test_a_second_identical_run_restores_and_spends_nothing(fresh):
    continue_to(fresh, 1.5, "first")
    entries = len(Ledger(fresh.folder / "privacy-ledger.sqlite").entries())
    fresh.run("git", "checkout", "--force", "--quiet", ".")
    assert "Stage 'train' is cached" in continue_to(fresh, 1.5, "first")
    assert len(Ledger(fresh.folder / "privacy-ledger.sqlite").entries()) == entries


@pytest.fixture
def refusal(fresh, monkeypatch):
    """Return a function that sets parameters and returns why `train` refuses to continue.

    In this process, because every start of the stage takes seconds to import.
    """
    from stages import train

    def refuse(**params):
        fresh.set(**{"target_epsilon": 2, "mode": "continue", "continue_from": "first", **params})
        with pytest.raises(UserError) as error:
            train.main()
        return str(error.value)

    monkeypatch.chdir(fresh.folder)
    return refuse


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"continue_from": ""}, "`mode: continue`, and only it, needs `continue_from`"),
        ({"continue_from": "nobody"}, "there is no 'nobody' here"),
        ({"continue_from": "main"}, "a name that moves"),
        ({"continue_from": "HEAD"}, "a name that moves"),
        ({"continue_from": "first~1"}, "a name that moves"),
        ({"continue_from": "first", "hidden_sizes": "[9]"}, "another architecture"),
        ({"continue_from": "first", "activation": "tanh"}, "another activation"),
    ],
)
def test_a_parent_that_will_not_do_is_refused(refusal, changes, told):
    assert told in refusal(**changes)


def test_a_name_that_moves_is_told_as_the_commit_it_means(fresh, refusal):
    assert f"Use what it means today: {head(fresh)}" in refusal(continue_from="main")


def test_a_commit_before_any_run_has_no_checkpoint(fresh, refusal):
    assert "has no checkpoint" in refusal(continue_from=head(fresh, "HEAD~1"))


def test_a_parent_that_used_the_target_up_leaves_nothing(refusal):
    assert "has used 0.99" in refusal(target_epsilon=1)


def test_a_parent_of_another_split_is_refused(fresh, refusal):
    fresh.set(split_seed=1)
    fresh.stage("preprocess")
    assert "another split" in refusal()


def test_a_simulation_is_no_parent(fresh, refusal):
    fresh.run("dvc", "exp", "run", "--name=simulated", "-S=simulation_seed=1")
    fresh.run("git", "checkout", "--force", "--quiet", ".")
    fresh.run("dvc", "checkout", "--force")
    assert "was a simulation" in refusal(continue_from="simulated")


@pytest.mark.parametrize("name", ["sample_medical_data.csv", "renamed.csv"])
def test_changed_data_is_allowed_said_and_booked_on_the_same_people(fresh, name):
    table = fresh.folder / "data/sample_medical_data.csv"
    rows = table.read_text().splitlines()[:-1]
    (fresh.folder / f"data/{name}").write_text("\n".join(rows) + "\n")
    fresh.set(data=f"data/{name}", mode="continue", continue_from="first", target_epsilon=2)
    fresh.stage("preprocess")
    (told_before,) = re.findall(
        r"The total after another run .*: *([\d.]+)", fresh.run("python", "-m", "stages.ledger")
    )
    fresh.run("git", "restore", "params.yaml")
    continue_to(fresh, 2, "first", f"-S=data=data/{name}")
    metrics = told(fresh, "train")
    assert metrics["parent"]["data_changed"] is True
    # An edited row may have been in training before and be in testing now: both count for it.
    tested = told(fresh, "evaluate")
    sides = [(one["spend"]["side"], one["spend"]["deal"]) for one in tested["releases"]]
    assert sides == [("train", 1), ("train", 2), ("test", 2)]
    first = json.loads(fresh.run("git", "show", "first:metrics/train.json"))["evidence"][0]
    events = [*first["ledger"][0]["spend"]["events"], *tested["ledger"][0]["spend"]["events"]]
    assert tested["epsilon_overall"] >= adaptive_epsilon(from_json(events), 1e-5) - 1e-9
    assert tested["epsilon_overall"] > max(metrics["epsilon"], tested["epsilon"]) + 0.2
    entries = Ledger(fresh.folder / "privacy-ledger.sqlite").entries()
    contents = {entry.spend.fingerprint for entry in entries}
    assert len(contents) == 2
    # By path, by content or, where both are new, because one model read both tables.
    trained = next(entry for entry in entries if entry.run == metrics["ledger"][0]["run"])
    assert {one["run"] for one in metrics["releases"]} == {trained.run} | trained.past
    assert len(trained.past) == 1
    total = total_epsilon([entry.spend for entry in entries], 1e-5)
    assert float(told_before) == pytest.approx(total, rel=0.01)
    assert f"ε = {total:.3f}" in Ledger(fresh.folder / "privacy-ledger.sqlite").summary(
        entries[-1].spend, None
    )


def test_the_ledger_is_rebuilt_from_commits_and_experiments(fresh):
    path = fresh.folder / "privacy-ledger.sqlite"
    continue_to(fresh, 1.75, "first", "--name=kept")
    original = {entry.run: entry.spend for entry in Ledger(path).entries()}
    path.unlink()
    assert "runs that were missing" in fresh.run("python", "-m", "stages.ledger", "rebuild")
    rebuilt = {entry.run: entry.spend for entry in Ledger(path).entries()}
    assert rebuilt == {run: original[run] for run in rebuilt}
    kept = json.loads(fresh.run("git", "show", "HEAD:metrics/train.json"))["evidence"][0]
    assert kept["ledger"][0]["run"] in rebuilt
    assert "entered 0 runs" in fresh.run("python", "-m", "stages.ledger", "rebuild")


def test_a_checkpoint_that_is_not_in_the_cache_is_told_how_to_get(fresh, refusal):
    cache = fresh.folder / ".dvc/cache/files"
    cache.rename(cache.with_name("away"))
    try:
        assert "dvc pull" in refusal()
    finally:
        cache.with_name("away").rename(cache)


def test_a_ledger_that_is_away_is_brought_back_before_a_run_is_continued(fresh):
    path = fresh.folder / "privacy-ledger.sqlite"
    path.rename(path.with_name("away"))
    try:
        continue_to(fresh, 1.6, "first", "--name=without-a-ledger")
        parent = fresh.run("git", "show", "first:metrics/train.json")
        (record,) = json.loads(parent)["evidence"][0]["ledger"]
        assert record["run"] in {entry.run for entry in Ledger(path).entries()}
    finally:
        path.unlink()
        path.with_name("away").rename(path)


def test_queue_workers_in_parallel_stay_within_the_budget(tmp_path):
    project = copy_project(tmp_path / "project")
    project.set(target_epsilon=1, epochs=1, hidden_sizes="[]", evaluation_epsilon=0.05)
    commit_all(project, "before any run")
    project.run("dvc", "repro")
    path = project.folder / "privacy-ledger.sqlite"
    (train,) = [entry.spend for entry in Ledger(path).entries() if entry.spend.side == "train"]
    path.unlink()
    budget = budgeted_epsilon([train] * 6, train.delta) + 1e-9
    project.set(privacy_budget=budget)
    commit_all(project, "a run, and a budget for five more")
    for seed in range(1, 9):
        project.run("dvc", "exp", "run", "--queue", f"--name=run-{seed}", f"-S=init_seed={seed}")
    project.run("dvc", "queue", "start", "--jobs", "8")
    logs = project.finish_queue(failures=3)
    entries = Ledger(path).entries()
    trained = [entry.spend for entry in entries if entry.spend.side == "train"]
    assert len(trained) == 6
    assert budgeted_epsilon([entry.spend for entry in entries], train.delta) <= budget
    for log in logs:
        assert "`privacy_budget` is" in log
