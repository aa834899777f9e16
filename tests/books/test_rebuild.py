"""A ledger knows what commits, experiments and the workspace tell of, whatever their history."""

import json
import shutil

import pytest
import yaml

from stages.books.rebuild import UNKNOWN, open_ledger
from stages.books.store import Ledger
from stages.privacy.history import total_epsilon
from tests.conftest import ROOT, Project, commit_all

SCHEMA = "data/sample_medical_data.schema.json"
STEPS = {"steps": {"noise_multiplier": 6.0, "sample_rate": 1.0, "steps": 20}}
SPEND = {"side": "train", "events": [STEPS], "epsilon": 3.1, "delta": 1e-5}


class Repository(Project):
    """A repository whose runs are written by hand: only what the ledger reads of them."""

    def made(self, run, *, data="patients.csv", md5="one", prepared="p1", consumed="p1"):
        """Leave in the workspace what a run leaves."""
        evidence = {"ledger": [{"run": run, "spend": SPEND}]}
        self.write("metrics/train.json", json.dumps({"evidence": [evidence]}))
        params = {"data": data, "schema": SCHEMA, "test_fraction": 0.2, "split_seed": 0}
        preprocess = {
            "deps": [{"path": data, "md5": md5}, {"path": SCHEMA, "md5": "schema"}],
            "params": {"params.yaml": params},
            "outs": [{"path": "data/prepared", "md5": prepared}],
        }
        train = {"deps": [{"path": "data/prepared", "md5": consumed}]}
        lock = {"stages": {"preprocess": preprocess, "train": train}}
        self.write("dvc.lock", yaml.safe_dump(lock))
        self.write("params.yaml", yaml.safe_dump(params))
        return self

    def write(self, name, text):
        (self.folder / name).parent.mkdir(exist_ok=True, parents=True)
        (self.folder / name).write_text(text)

    def ledger(self, monkeypatch):
        monkeypatch.chdir(self.folder)
        (self.folder / "privacy-ledger.sqlite").unlink(missing_ok=True)
        return {entry.run: entry.spend for entry in open_ledger().entries()}


@pytest.fixture
def repository(tmp_path):
    made = Repository(tmp_path / "repository")
    (made.folder / "data").mkdir(parents=True)
    shutil.copy(ROOT / SCHEMA, made.folder / SCHEMA)
    made.run("git", "init", "--quiet", "--initial-branch=main")
    made.made("first")
    commit_all(made, "first")
    return made


def test_a_run_of_the_workspace_is_known_before_it_is_committed(repository, monkeypatch):
    repository.made("second")
    assert set(repository.ledger(monkeypatch)) == {"first", "second"}


def test_a_run_that_a_merge_hides_is_known(repository, monkeypatch):
    # The merge keeps one side's files, so Git finds nothing of the other's on its shortest way.
    repository.run("git", "checkout", "--quiet", "-b", "side")
    repository.made("second")
    commit_all(repository, "second")
    repository.run("git", "checkout", "--quiet", "main")
    repository.write("README.md", "another change")
    commit_all(repository, "main goes on")
    repository.run("git", "merge", "--quiet", "--strategy=ours", "-m", "merged", "side")
    repository.run("git", "branch", "-D", "side")
    assert repository.run("git", "rev-list", "--all", "--", "metrics").count("\n") == 1
    assert set(repository.ledger(monkeypatch)) == {"first", "second"}


def test_a_shallow_clone_says_that_it_cannot_know(repository, tmp_path, monkeypatch, capsys):
    repository.made("second")
    commit_all(repository, "second")
    assert set(repository.ledger(monkeypatch)) == {"first", "second"}
    assert "shallow" not in capsys.readouterr().err
    source = f"file://{repository.folder}"
    repository.run("git", "clone", "--quiet", "--depth=1", source, str(tmp_path / "shallow"))
    clone = Repository(tmp_path / "shallow")
    assert set(clone.ledger(monkeypatch)) == {"second"}
    assert "git fetch --unshallow" in capsys.readouterr().err
    clone.run("git", "fetch", "--quiet", "--unshallow")
    assert set(clone.ledger(monkeypatch)) == {"first", "second"}


def test_a_run_committed_with_another_path_in_the_parameters_is_of_the_table_it_read(
    repository, monkeypatch
):
    repository.made("second")
    params = yaml.safe_load((repository.folder / "params.yaml").read_text())
    repository.write("params.yaml", yaml.safe_dump({**params, "data": "other.csv"}))
    commit_all(repository, "second, and what is next")
    spend = repository.ledger(monkeypatch)["second"]
    assert (spend.data, spend.fingerprint) == ("patients.csv", "one")


def test_a_table_prepared_anew_after_the_run_is_not_taken_for_the_one_it_read(
    repository, monkeypatch
):
    first = repository.ledger(monkeypatch)["first"]
    repository.made("second", md5="two", prepared="p2", consumed="p1")
    commit_all(repository, "preprocess ran again, train did not")
    second = repository.ledger(monkeypatch)["second"]
    assert second.fingerprint not in {first.fingerprint, "two"}
    # What cannot be told apart from other rows adds up.
    assert total_epsilon([first, second], 1e-5) > total_epsilon([first, first], 1e-5) * 0.99


def test_a_helper_commit_without_a_schema_hides_nothing_and_stops_nothing(repository, monkeypatch):
    repository.made("second")
    (repository.folder / SCHEMA).rename(repository.folder / "away")
    commit_all(repository, "as DVC stashes what an experiment was applied over")
    repository.run("git", "update-ref", "refs/exps/apply/stash", "HEAD")
    repository.run("git", "reset", "--quiet", "--hard", "HEAD~1")
    assert repository.ledger(monkeypatch)["second"].split == UNKNOWN
    # Where a whole commit tells of the same run, that one counts.
    repository.made("second")
    commit_all(repository, "second")
    assert repository.ledger(monkeypatch)["second"].fingerprint == "one"


def test_metrics_that_are_not_ours_stop_nothing(repository, monkeypatch):
    for text in ("", "no JSON", '{"ledger": [{"run": 3}]}', '{"evidence": []}'):
        repository.write("metrics/evaluate.json", text)
        commit_all(repository, f"metrics {text!r}")
    assert set(repository.ledger(monkeypatch)) == {"first"}


def test_a_run_is_entered_once(repository, monkeypatch):
    repository.ledger(monkeypatch)
    open_ledger()
    assert [entry.run for entry in Ledger().entries()] == ["first"]
