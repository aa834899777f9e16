"""A ledger knows what commits, experiments and the workspace tell of, whatever their history."""

import hashlib
import json
import os
import shutil
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import yaml

from stages.books.booking import Booking
from stages.books.listing import listing
from stages.books.lost import lost_runs
from stages.books.names import path_of
from stages.books.people import UNKNOWN, Entry, same_people
from stages.books.rebuild import open_ledger, strike
from stages.books.sqlite import append_reservation
from stages.books.store import Ledger
from stages.books.told import RUNS
from stages.cache import forget_run
from stages.errors import UserError
from stages.params import load_params
from stages.pricing import Price
from stages.privacy.events import Steps
from stages.privacy.history import Spend, total_epsilon
from stages.tabular.schema import Schema
from stages.tabular.split import split_name
from stages.versions.commits import WITHOUT_GIT, commit_of, hidden_past
from stages.versions.files import WORKSPACE
from stages.versions.locks import locked
from tests.conftest import ROOT, Project, commit_all

SCHEMA = "data/sample_medical_data.schema.json"
STEPS = {"steps": {"noise_multiplier": 6.0, "sample_rate": 1.0, "steps": 20}}
SPEND = {"side": "train", "events": [STEPS], "epsilon": 3.1, "delta": 1e-5}


def md5_of(text):
    return hashlib.md5(text.encode()).hexdigest()


class Repository(Project):
    """A repository whose runs are written by hand: only what the ledger reads of them."""

    def made(
        self,
        run,
        *,
        stage="train",
        data="patients.csv",
        md5="one",
        releases=(),
        trial=None,
        of_old=False,
        **lies,
    ):
        """Leave in the workspace what a run leaves; one `of_old` does not say what it read.

        dvc.lock does, unless it `lies`.
        """
        spend = SPEND | {"side": {"train": "train", "evaluate": "test"}[stage]}
        split = split_name(0.2, 0, Schema.load(self.folder / SCHEMA))
        read = {"data": data, "fingerprint": md5, "split": split}
        told = {} if of_old else {"read": read, "trial": trial}
        evidence: dict[str, Any] = {
            "ledger": [{"run": run, "spend": spend} | told],
            "releases": list(releases),
        }
        text = json.dumps({"evidence": [evidence]})
        schema = md5_of((self.folder / SCHEMA).read_text())
        lock = {"metrics": md5_of(text), "schema": schema, "prepared": "p", "consumed": "p"} | lies
        params = {"data": data, "schema": SCHEMA, "test_fraction": 0.2, "split_seed": 0}
        tables = [{"path": data, "md5": md5}, {"path": SCHEMA, "md5": lock["schema"]}]
        stages = {
            "preprocess": {
                "deps": tables,
                "params": {"params.yaml": params},
                "outs": [{"path": "data/prepared", "md5": lock["prepared"]}],
            },
            stage: {
                "deps": [{"path": "data/prepared", "md5": lock["consumed"]}],
                "outs": [{"path": f"metrics/{stage}.json", "md5": lock["metrics"]}],
            },
        }
        self.write(f"metrics/{stage}.json", text)
        self.write("dvc.lock", yaml.safe_dump({"stages": stages}))
        self.write("params.yaml", yaml.safe_dump(params))
        return self

    def keep(self, text):
        """Put a text into DVC's cache, and return its hash."""
        digest = md5_of(text)
        self.write(f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}", text)
        return digest

    def remember(self, stage="train"):
        """Let DVC's run-cache have the run that was made, and nothing else."""
        metrics = self.folder / f"metrics/{stage}.json"
        digest = self.keep(metrics.read_text())
        metrics.unlink()
        made = {"path": f"metrics/{stage}.json", "hash": "md5", "md5": digest}
        record = yaml.safe_dump({"outs": [made]}, sort_keys=False)
        self.write(".dvc/cache/runs/ab/abc/abcd", record)

    def lock_alone(self, run, identified_by=None, **lies):
        """Leave a run's model, in the workspace and DVC's cache, and the lock that names it."""
        model = json.dumps({"privacy": {"releases": [{"run": run, "spend": SPEND | lies}]}})
        column = {"name": identified_by or "age", "role": "id" if identified_by else "feature"}
        schema = json.dumps({"fields": [column]})
        parts = [
            {"md5": self.keep(text), "relpath": name}
            for name, text in (("model.json", model), ("schema.json", schema))
        ]
        self.write("models/classifier/model.json", model)
        self.write("models/classifier/schema.json", schema)
        folder = f"{self.keep(json.dumps(parts))}.dir"
        kept = self.folder / f".dvc/cache/files/md5/{folder[:2]}/{folder[2:]}"
        kept.write_text(json.dumps(parts))
        metrics = {"path": "metrics/train.json", "hash": "md5", "md5": md5_of(f"of {run}")}
        outs = [metrics, {"path": "models/classifier", "hash": "md5", "md5": folder}]
        self.write(
            "dvc.lock", yaml.safe_dump({"stages": {"train": {"outs": outs}}}, sort_keys=False)
        )

    def write(self, name, text):
        (self.folder / name).parent.mkdir(exist_ok=True, parents=True)
        (self.folder / name).write_text(text)

    def ledger(self, monkeypatch):
        monkeypatch.chdir(self.folder)
        (self.folder / "privacy-ledger.sqlite").unlink(missing_ok=True)
        return {entry.run: entry.spend for entry in open_ledger().entries()}


def begin(run):
    """Let the ledger of this repository reserve a run, as the stage does that makes it."""
    ledger = open_ledger()
    ledger.reserve_all({run: ledger.entries()[0].spend}, None)


def number_of(run):
    (number,) = [entry.number for entry in open_ledger().entries() if entry.run == run]
    return number


@pytest.fixture
def repository(tmp_path):
    made = Repository(tmp_path / "repository")
    (made.folder / "data").mkdir(parents=True)
    (made.folder / ".gitignore").write_text("privacy-ledger.sqlite*\n")
    shutil.copy(ROOT / SCHEMA, made.folder / SCHEMA)
    made.run("git", "init", "--quiet", "--initial-branch=main")
    made.made("first")
    commit_all(made, "first")
    return made


def test_a_run_of_the_workspace_is_known_before_it_is_committed(repository, monkeypatch):
    repository.made("second")
    assert set(repository.ledger(monkeypatch)) == {"first", "second"}


@pytest.mark.parametrize("of_old", [True, False])
def test_a_run_that_only_dvcs_cache_remembers_is_known(repository, monkeypatch, of_old):
    # As where the ledger is lost, and DVC has removed metrics that nobody committed; or where
    # another clone shares the cache, whose runs DVC gives back here.
    repository.made("second", md5="two", of_old=of_old)
    repository.remember()
    repository.run("git", "restore", "dvc.lock", "metrics")
    spends = repository.ledger(monkeypatch)
    assert set(spends) == {"first", "second"}
    read = (spends["second"].data, spends["second"].fingerprint, spends["second"].unit)
    assert read == (
        (UNKNOWN, "unknown, of second", "row") if of_old else ("patients.csv", "two", "row")
    )


def test_what_others_remove_while_it_is_read_hides_no_run(repository, monkeypatch):
    # As where experiments run at the same time: DVC writes each record beside the others, by a
    # hidden name, and then moves it; and others forget a run, or end a merge.
    repository.made("second")
    repository.remember()
    repository.run("git", "restore", "dvc.lock", "metrics")
    records = repository.folder / ".dvc/cache/runs/ab/abc"
    for gone in (records / "gone", records / ".new.tmp", repository.folder / ".git/MERGE_HEAD"):
        gone.symlink_to("nowhere")  # named when the folder is read, and not there
    (records / ".half.tmp").write_text("outs:\n- path: metrics/train.json\n  md5: ab")
    (repository.folder / ".dvc/cache/files/md5/ab").mkdir(exist_ok=True)
    assert set(repository.ledger(monkeypatch)) == {"first", "second"}


def test_a_struck_run_is_not_brought_back_by_dvc_and_the_next_commit_says_so(
    repository, monkeypatch
):
    monkeypatch.chdir(repository.folder)
    begin("second")
    repository.made("second")
    repository.remember()
    record = repository.folder / ".dvc/cache/runs/ab/abc/abcd"
    forget_run("another", "metrics/train.json")
    assert record.exists()
    open_ledger()
    number = number_of("second")
    arguments = ("strike", str(number), "--reason", "nobody has seen it")
    environment = {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(repository.folder)}
    repository.run(sys.executable, "-m", "stages.ledger", *arguments, env=environment)
    assert not record.parent.exists()  # of which DVC would take for granted that a record is in it
    told = map(json.loads, (repository.folder / RUNS).read_text().splitlines())
    assert {one["run"]: one["struck"] for one in told} == {"first": None, "second": arguments[-1]}


def test_a_trial_that_dvc_alone_remembers_is_nobodys_to_count(repository, monkeypatch):
    # As where somebody tunes beside, with whom a cache is shared.
    other_side = {"run": "tune-a-test", "spend": SPEND | {"side": "test"}}
    repository.made("tune-a-train", trial="tune-a-1", releases=[other_side])
    repository.remember()
    repository.run("git", "restore", "dvc.lock", "metrics")
    assert set(repository.ledger(monkeypatch)) == {"first"}


def test_a_trial_of_a_tuning_that_died_counts_once_and_is_not_struck_while_it_is_seen(
    repository, monkeypatch
):
    monkeypatch.chdir(repository.folder)
    spend = open_ledger().entries()[0].spend
    ledger = Ledger()
    ledger.reserve_all({"tune-a-train": spend}, None)
    ledger.strike(number_of("tune-a-train"), "the tuning died; each of its trials counts instead")
    begin("tune-a-1-train")
    repository.made("tune-a-train", trial="tune-a-1")
    entries = open_ledger().entries()
    assert [one.run for one in entries] == ["first", "tune-a-train", "tune-a-1-train"]
    with pytest.raises(UserError, match="it can be seen in workspace"):
        strike(number_of("tune-a-1-train"), "it was killed")


@pytest.mark.parametrize("where", ["workspace", "commit", "experiment"])
def test_a_run_whose_metrics_can_be_seen_is_not_struck(repository, monkeypatch, where):
    monkeypatch.chdir(repository.folder)
    begin("second")
    repository.made("second")
    if where != "workspace":
        commit_all(repository, "second")
    if where == "experiment":
        repository.run("git", "update-ref", "refs/exps/ab/abc/second", "HEAD")
        repository.run("git", "reset", "--quiet", "--hard", "HEAD~1")
        repository.run("git", "reflog", "expire", "--expire=now", "--all")
    number = number_of("second")
    with pytest.raises(UserError, match="it can be seen in"):
        strike(number, "nobody looked")
    if where == "workspace":
        repository.run("git", "restore", "metrics", "dvc.lock")
    if where == "experiment":
        repository.run("git", "update-ref", "-d", "refs/exps/ab/abc/second")
    if where != "commit":
        strike(number, "nobody looked")
        assert [one.struck for one in open_ledger().entries()] == [None, "nobody looked"]


def test_a_run_of_which_plots_may_be_left_is_not_struck(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    begin("second")
    repository.write("plots/training.csv", "its curves, where metrics/ is put back")
    with pytest.raises(UserError, match="something may be left of"):
        strike(number_of("second"), "nobody looked")
    repository.made("third")  # whose plots they are then
    strike(number_of("second"), "nobody looked")


def test_a_run_whose_metrics_lie_in_another_worktree_is_known_and_not_struck(
    repository, tmp_path, monkeypatch
):
    monkeypatch.chdir(repository.folder)
    begin("second")
    other = Repository(tmp_path / "other worktree")
    repository.run("git", "worktree", "add", "--quiet", "--detach", str(other.folder))
    shutil.copytree(repository.folder / "data", other.folder / "data", dirs_exist_ok=True)
    other.made("second")
    other.made("third", stage="evaluate")
    assert {one.run for one in open_ledger().entries()} == {"first", "second", "third"}
    with pytest.raises(UserError, match=f"it can be seen in {other.folder}"):
        strike(number_of("second"), "nobody looked")
    other.run("git", "restore", ".")
    strike(number_of("second"), "nobody looked")


def test_a_run_that_another_clone_made_is_not_struck_though_nothing_of_it_is_left_here(
    repository, monkeypatch
):
    # As an experiment that was pulled, looked at and removed.
    monkeypatch.chdir(repository.folder)
    repository.made("second")
    open_ledger()
    repository.run("git", "restore", ".")
    with pytest.raises(UserError, match="Strike a run where it was made"):
        strike(number_of("second"), "superseded")


def test_a_ledger_that_git_put_away_is_not_made_anew(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    Ledger().enter_past(open_ledger().entries()[0].spend, "second", "of an experiment now removed")
    repository.write("README.md", "as somebody is at")
    repository.run("git", "stash", "--quiet", "--all")
    with pytest.raises(UserError, match="as `git stash --all` puts it away") as refusal:
        open_ledger()
    way = str(refusal.value).rpartition("with: ")[2]
    repository.run("bash", "-c", way)
    assert {one.run for one in open_ledger().entries()} == {"first", "second"}
    (repository.folder / "privacy-ledger.sqlite").unlink()
    with pytest.raises(UserError, match="git stash pop"):
        open_ledger()
    repository.run("git", "stash", "pop", "--quiet")
    assert {one.run for one in open_ledger().entries()} == {"first", "second"}


@pytest.mark.parametrize("where", ["workspace", "cache"])
def test_a_run_of_which_a_commit_has_the_lock_alone_is_known_by_its_model(
    repository, monkeypatch, where
):
    # `dvc repro` stages dvc.lock, and `git commit -m` takes what is staged.
    monkeypatch.chdir(repository.folder)
    repository.lock_alone("second")
    if where == "workspace":
        shutil.rmtree(repository.folder / ".dvc")
    else:
        commit_all(repository, "and the next has another model in its workspace")
        repository.write("models/classifier/model.json", "[]")
        assert not lost_runs([])
    spends = repository.ledger(monkeypatch)
    assert set(spends) == {"first", "second"}
    assert Ledger().total(spends["first"]) == total_epsilon([*spends.values()], 1e-5)


@pytest.mark.parametrize("where", ["workspace", "cache"])
def test_a_run_that_its_model_tells_of_is_known_to_protect_people(repository, monkeypatch, where):
    monkeypatch.chdir(repository.folder)
    repository.lock_alone("second", identified_by="patient")
    if where == "workspace":
        shutil.rmtree(repository.folder / ".dvc")
    else:
        commit_all(repository, "the lock alone")
        shutil.rmtree(repository.folder / "models")
    spends = repository.ledger(monkeypatch)
    assert {run: spend.unit for run, spend in spends.items()} == {
        "first": "row",
        "second": "person by patient",
    }


def test_a_run_that_a_model_told_of_has_its_table_once_its_metrics_are_here(
    repository, monkeypatch
):
    monkeypatch.chdir(repository.folder)
    repository.lock_alone("second")
    by_model = {entry.run: entry for entry in open_ledger().entries()}["second"]
    assert by_model.spend.data == UNKNOWN
    repository.made("second", data="patients.csv")
    for _ in range(2):  # once and for all
        (by_metrics,) = [entry for entry in open_ledger().entries() if entry.run == "second"]
        assert by_metrics.spend.data == "patients.csv"
        assert by_metrics.settled
    assert len(Ledger().entries()) == 2


def test_a_tuning_that_a_model_told_of_is_not_taken_for_one_that_died(
    repository, monkeypatch, capsys
):
    monkeypatch.chdir(repository.folder)
    best = {"best_of_many": {"mean": 5.0, "shape": 1.0, "events": [STEPS]}}
    repository.lock_alone("tune-a-train", events=[best])
    for _ in range(2):
        assert {one.run for one in open_ledger().entries()} == {"first", "tune-a-train"}
        assert "died" not in capsys.readouterr().out


def test_without_git_nothing_is_told_as_if_it_were_all(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="Install Git"):
        open_ledger()


def test_what_a_run_was_made_from_protects_the_same_as_the_run(repository, monkeypatch):
    # As a release that metrics tell of, of which nothing else is left, such as in a squash merge.
    before = {"run": "before", "spend": SPEND | {"deal": 2}}
    repository.made("second", releases=[before])
    path = repository.folder / "metrics/train.json"
    told = json.loads(path.read_text())
    told["evidence"][0]["ledger"][0]["read"]["unit"] = "person by patient"
    path.write_text(json.dumps(told))
    units = {run: spend.unit for run, spend in repository.ledger(monkeypatch).items()}
    assert units["before"] == units["second"] == "person by patient"


def test_a_model_of_another_project_that_is_a_file_tells_of_no_run(repository, monkeypatch):
    model = repository.keep("weights, and no list of files")
    outs = [{"path": "models/classifier", "hash": "md5", "md5": model}]
    lock = yaml.safe_dump({"stages": {"fit": {"outs": outs}}}, sort_keys=False)
    repository.write("other/dvc.lock", lock)
    commit_all(repository, "another project beside this one")
    assert set(repository.ledger(monkeypatch)) == {"first"}


def test_a_run_whose_model_is_here_is_not_struck(repository, monkeypatch):
    # `git restore .` leaves the model, and the staged dvc.lock.
    monkeypatch.chdir(repository.folder)
    begin("second")
    repository.lock_alone("second")
    with pytest.raises(UserError, match="it can be seen in workspace"):
        strike(number_of("second"), "nobody looked")
    repository.run("git", "restore", ".")
    shutil.rmtree(repository.folder / "models")
    strike(number_of("second"), "nobody looked")


def test_what_an_earlier_version_entered_is_not_struck(repository, monkeypatch):
    # It did not say whether it reserved a run or was told of it.
    monkeypatch.chdir(repository.folder)
    ledger = open_ledger()
    spend = ledger.entries()[0].spend
    with ledger.writing() as connection:
        append_reservation(connection, spend, "second", "HEAD", None, reason=None)
    with pytest.raises(UserError, match="this one with an earlier version"):
        strike(number_of("second"), "superseded")


def test_a_struck_run_whose_metrics_are_seen_again_counts_once(repository, monkeypatch):
    # As DVC's cache has its files, and a lock that lies somewhere brings them back.
    monkeypatch.chdir(repository.folder)
    begin("second")
    repository.made("second")
    spend = {one.run: one.spend for one in open_ledger().entries()}["second"]
    whole = Ledger().total(spend)
    metrics = (repository.folder / "metrics/train.json").read_text()
    repository.run("git", "restore", "metrics", "dvc.lock")
    strike(number_of("second"), "nobody looked")
    assert open_ledger().total(spend) != whole
    repository.write("metrics/train.json", metrics)
    assert open_ledger().total(spend) == whole
    entries = open_ledger().entries()
    with pytest.raises(UserError, match="so it counts for good"):
        strike(number_of("second, seen"), "I struck it already")
    # Nor twice where something is found that was made from it.
    Ledger().enter_past(spend, "third", "elsewhere", ["second"])
    spends = [one.spend for one in entries if one.struck is None]
    assert open_ledger().total(spend) == total_epsilon([*spends, spend], 1e-5)


def test_what_a_run_read_it_says_itself_whatever_a_lock_says_of_it(repository, monkeypatch):
    # `dvc commit -f` after an edit: the lock says that the edited table was prepared.
    repository.made("second")
    lie = {"deps": [{"path": "patients.csv", "md5": "edited"}], "outs": [{"path": "data/prepared"}]}
    repository.write("dvc.lock", yaml.safe_dump({"stages": {"preprocess": lie}}))
    commit_all(repository, "second")
    assert repository.ledger(monkeypatch)["second"].fingerprint == "one"


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


def is_unsure(spend):
    """Whether totals are said to be of what is known, in every place or in none."""
    ledger, params = open_ledger(), load_params(ROOT / "params.yaml")
    booking = Booking(spend, None, ledger, None)
    of_table = "\n".join(listing(ledger.entries(), params, ledger))
    price = str(Price(1.0, None, ledger.at_least(spend)))
    told = ["≥" in booking.summary(), "total at least" in of_table, "at least" in price]
    assert {*told} == {booking.total(1e-5) is None}
    return told[0]


def test_a_shallow_clone_says_that_it_cannot_know(repository, tmp_path, monkeypatch, capsys):
    repository.made("second")
    commit_all(repository, "second")
    assert set(repository.ledger(monkeypatch)) == {"first", "second"}
    assert "shallow" not in capsys.readouterr().err
    source = f"file://{repository.folder}"
    repository.run("git", "clone", "--quiet", "--depth=1", source, str(tmp_path / "shallow"))
    clone = Repository(tmp_path / "shallow")
    spends = clone.ledger(monkeypatch)
    assert set(spends) == {"second"}
    assert "git fetch --unshallow" in capsys.readouterr().err
    assert is_unsure(spends["second"])
    clone.run("git", "fetch", "--quiet", "--unshallow")
    assert not is_unsure(spends["second"])
    assert set(clone.ledger(monkeypatch)) == {"first", "second"}


def test_a_copy_without_git_says_that_it_cannot_know(repository, monkeypatch, capsys):
    # As a ZIP has no commits, and the runs of these are not in its ledger.
    repository.made("second")
    shutil.rmtree(repository.folder / ".git")
    spends = repository.ledger(monkeypatch)
    assert "no repository of Git has this folder" in capsys.readouterr().err
    assert is_unsure(spends["second"])


def test_a_copy_in_a_repository_that_knows_nothing_of_it_cannot_know(repository, tmp_path):
    notes = Project(tmp_path / "notes")
    shutil.copytree(repository.folder, notes.folder / "copy")
    shutil.rmtree(notes.folder / "copy/.git")
    notes.run("git", "init", "--quiet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(notes.folder / "copy")
        assert hidden_past() == WITHOUT_GIT
        notes.run("git", "add", ".")
        assert hidden_past() is None


def keep_encrypted(repository):
    """Let Git keep metrics in a way that only its filter can read."""
    for name, command in (("clean", "gzip --no-name"), ("smudge", "gunzip")):
        repository.run("git", "config", f"filter.crypt.{name}", command)
    repository.write(".gitattributes", "metrics/*.json filter=crypt\n")
    repository.made("second")
    commit_all(repository, "second")


def test_runs_whose_metrics_git_keeps_encrypted_are_known(repository, monkeypatch):
    keep_encrypted(repository)
    kept = int(repository.run("git", "cat-file", "-s", "HEAD:metrics/train.json"))
    assert kept < (repository.folder / "metrics/train.json").stat().st_size
    repository.made("third")
    assert set(repository.ledger(monkeypatch)) == {"first", "second", "third"}


def test_metrics_that_cannot_be_read_are_not_taken_for_none(repository, monkeypatch):
    keep_encrypted(repository)
    repository.made("third")
    repository.run("git", "config", "--remove-section", "filter.crypt")
    with pytest.raises(UserError, match="should be JSON, but Git keeps it encrypted"):
        repository.ledger(monkeypatch)


def test_metrics_of_commits_are_read_by_a_filter_that_is_named_for_them_since(
    repository, monkeypatch
):
    keep_encrypted(repository)
    repository.run("git", "rm", "--quiet", ".gitattributes")
    repository.run("git", "add", "--renormalize", ".")
    commit_all(repository, "in plain text from now on")
    with pytest.raises(UserError, match=r"name it in \.git/info/attributes"):
        repository.ledger(monkeypatch)
    # Which lets pass what is in plain text, as those of Git LFS and git-crypt do.
    smudge = "sh -c 'cat > text; gunzip < text 2> /dev/null || cat text'"
    repository.run("git", "config", "filter.crypt.smudge", smudge)
    repository.write(".git/info/attributes", "**/metrics/*.json filter=crypt\n")
    assert set(repository.ledger(monkeypatch)) == {"first", "second"}


def test_metrics_that_git_lfs_keeps_are_not_taken_for_none(repository, monkeypatch):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n"
    repository.write("metrics/train.json", pointer)
    commit_all(repository, "where LFS is not installed")
    with pytest.raises(UserError, match="should be JSON, but Git keeps it encrypted"):
        repository.ledger(monkeypatch)


def test_the_past_is_known_however_whoever_calls_reads_paths(repository, monkeypatch):
    # As editors tell Git, and Git its hooks.
    repository.made("second")
    commit_all(repository, "second")
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    assert set(repository.ledger(monkeypatch)) == {"first", "second"}


def test_a_run_committed_with_another_path_in_the_parameters_is_of_the_table_it_read(
    repository, monkeypatch
):
    repository.made("second")
    params = yaml.safe_load((repository.folder / "params.yaml").read_text())
    repository.write("params.yaml", yaml.safe_dump({**params, "data": "other.csv"}))
    commit_all(repository, "second, and what is next")
    spend = repository.ledger(monkeypatch)["second"]
    assert (spend.data, spend.fingerprint) == ("patients.csv", "one")


def assert_nobody_knows_whose(spend, first):
    """What may be about anybody is not in parallel with anything, and counts for every table."""
    assert spend.data == UNKNOWN
    assert total_epsilon([first, spend], 1e-5) >= total_epsilon([first, first], 1e-5) * 0.99
    both = [first, replace(first, data="others.csv", fingerprint="other"), spend]
    entries = [Entry(n, "", str(n), one, True, None, None, None) for n, one in enumerate(both)]
    for one in both[:2]:
        found = {entry.spend for entry in same_people(entries, (one.data, one.fingerprint))}
        assert found == {one, spend}


@pytest.mark.parametrize(
    "lies",
    [{"prepared": "anew"}, {"metrics": "of another run"}, {"schema": "edited"}],
    ids=lambda lies: next(iter(lies)),
)
def test_of_a_run_that_does_not_say_what_it_read_dvcs_lock_does_or_it_may_be_anybodys(
    repository, monkeypatch, lies
):
    # As those of earlier versions do not.
    first = repository.ledger(monkeypatch)["first"]
    repository.made("second", md5="two", of_old=True)
    commit_all(repository, "by an earlier version")
    second = repository.ledger(monkeypatch)["second"]
    assert second == replace(first, fingerprint="two")
    repository.made("third", md5="two", of_old=True, **lies)
    commit_all(repository, "something ran again, train did not")
    assert_nobody_knows_whose(repository.ledger(monkeypatch)["third"], first)


def test_a_model_measured_on_another_split_than_it_was_trained_on_adds_up(repository, monkeypatch):
    # `split_seed: 1`, then preprocess and evaluate without train, and all committed at once.
    repository.made("second")
    repository.made("second-1", stage="evaluate", md5="two")
    commit_all(repository, "both")
    spends = repository.ledger(monkeypatch)
    assert spends["second-1"].fingerprint == "two"
    alone = [spends["second"], spends["second-1"]]
    assert total_epsilon(alone, 1e-5) > 1.2 * total_epsilon(alone[:1], 1e-5)


def test_an_experiment_that_was_made_here_is_entered_once(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    monkeypatch.setenv("DVC_EXP_NAME", "fuzzy-name")
    run = Ledger().reserve(replace(_spend_of(SPEND), data="patients.csv"), None)
    monkeypatch.delenv("DVC_EXP_NAME")
    repository.made(run)
    entries = open_ledger().entries()
    assert [(entry.run, entry.experiment) for entry in entries if entry.run != "first"] == [
        (run, "fuzzy-name")
    ]


def test_the_trials_of_a_tuning_that_was_made_here_are_its_own_to_count(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    Ledger().reserve_all({"tune-a-train": replace(_spend_of(SPEND), data="patients.csv")}, None)
    for trial in ("tune-a-1", "tune-a-2"):
        repository.made("tune-a-train", trial=trial)
        commit_all(repository, trial)
    assert {entry.run for entry in open_ledger().entries()} == {"first", "tune-a-train"}


def test_where_more_than_one_trial_of_a_tuning_is_left_each_counts(repository, monkeypatch):
    # A tuning was killed, and its experiments reached a clone that has no other record of them:
    # one by one, and all at once.
    monkeypatch.chdir(repository.folder)
    runs = {"first", "tune-a-train", "tune-a-train, tune-a-2"}
    for number, trial in enumerate(("tune-a-1", "tune-a-2", "tune-a-1")):
        repository.made("tune-a-train", trial=trial)
        repository.write("README.md", f"again {number}")
        commit_all(repository, trial)
        open_ledger()
    assert {entry.run for entry in Ledger().entries()} == runs
    assert set(repository.ledger(monkeypatch)) == runs


def test_what_a_model_was_made_from_is_entered_where_its_own_commit_is_missing(
    repository, monkeypatch
):
    deals = {"tune-a-train": 1, "second": 2}
    earlier = [{"run": run, "spend": SPEND | {"deal": deals[run]}} for run in deals]
    repository.made("second", releases=earlier)
    commit_all(repository, "a run that continues what another clone tuned on another table")
    spends = repository.ledger(monkeypatch)
    assert set(spends) == {"first", "tune-a-train", "second"}
    assert_nobody_knows_whose(spends["tune-a-train"], spends["first"])
    # Where its commit tells whose rows it read, that counts.
    repository.made("tune-a-train")
    commit_all(repository, "the other clone's")
    assert repository.ledger(monkeypatch)["tune-a-train"].fingerprint == "one"


@pytest.mark.parametrize(
    "spelt",
    ["data/patients.csv", "./data//patients.csv", "data/../data/patients.csv", "full", "link"],
)
def test_a_table_is_the_same_however_its_path_is_spelt(repository, monkeypatch, spelt):
    table = repository.folder / "data/patients.csv"
    table.write_text("somebody\n")
    (repository.folder / "link").symlink_to(table)
    repository.made("second", data="data/patients.csv", md5="two")
    commit_all(repository, "second")
    repository.made("third", data=str(table) if spelt == "full" else spelt, md5="3")
    spends = repository.ledger(monkeypatch)
    found = same_people(Ledger().entries(), ("data/patients.csv", "yet another"))
    assert {entry.run for entry in found} == {"second", "third"}
    assert spends["third"].fingerprint == "3"


@pytest.mark.parametrize("is_lost", [False, True])
def test_what_a_link_led_to_and_what_it_leads_to_by_now_are_the_same_people(
    repository, monkeypatch, is_lost
):
    link = repository.folder / "data/latest.csv"
    for year in (2025, 2026):
        link.unlink(missing_ok=True)
        link.symlink_to(f"{year}.csv")
        monkeypatch.chdir(repository.folder)
        named = path_of("data/latest.csv")
        assert named == f"data/latest.csv → data/{year}.csv"
        repository.made(f"of {year}", data=named, md5=f"{year}")
        commit_all(repository, f"of {year}")
        open_ledger()
    if is_lost:
        repository.ledger(monkeypatch)
    for name in ("data/latest.csv", "data/2025.csv", "data/2026.csv"):
        found = same_people(Ledger().entries(), (name, "edited"))
        assert {entry.run for entry in found} == {"of 2025", "of 2026"}


def test_two_processes_that_meet_a_new_ledger_enter_each_run_once(repository, monkeypatch):
    repository.ledger(monkeypatch)
    (repository.folder / "privacy-ledger.sqlite").unlink()
    with ThreadPoolExecutor(8) as crowd:
        [*crowd.map(lambda _: open_ledger(), range(8))]
    assert [entry.run for entry in Ledger().entries()] == ["first"]


def test_a_helper_commit_without_a_schema_hides_nothing_and_stops_nothing(repository, monkeypatch):
    repository.made("second")
    (repository.folder / SCHEMA).rename(repository.folder / "away")
    commit_all(repository, "as DVC stashes what an experiment was applied over")
    repository.run("git", "update-ref", "refs/exps/apply/stash", "HEAD")
    repository.run("git", "reset", "--quiet", "--hard", "HEAD~1")
    assert repository.ledger(monkeypatch)["second"].fingerprint == "one"


def test_metrics_that_are_not_ours_stop_nothing(repository, monkeypatch):
    for text in (
        *("", "no JSON", "<<<<<<< ours", "[1, 2]", "null", "0.93", '"text"', "NaN"),
        *('{"ledger": [{"run": 3}]}', '{"ledger": {"run": 3}}', '{"ledger": null, "releases": 3}'),
        *('{"evidence": []}', '{"evidence": 5}', '{"evidence": [1]}', '{"evidence": "tables"}'),
    ):
        repository.write("metrics/evaluate.json", text)
        commit_all(repository, f"metrics {text!r}")
    assert set(repository.ledger(monkeypatch)) == {"first"}


def test_a_run_is_entered_once(repository, monkeypatch):
    repository.ledger(monkeypatch)
    open_ledger()
    assert [entry.run for entry in Ledger().entries()] == ["first"]


# --- what only a hostile reader thinks of --------------------------------------------------------


def test_a_table_in_full_is_known_in_every_clone_by_its_content(repository, monkeypatch):
    repository.made("second", data="/elsewhere/data/inner.csv", md5="two")
    commit_all(repository, "on another machine")
    repository.ledger(monkeypatch)
    same = same_people(Ledger().entries(), ("data/inner.csv", "two"))
    assert [entry.run for entry in same] == ["second"]


def test_tables_of_one_model_are_of_the_same_people_in_a_new_ledger_too(repository, monkeypatch):
    spend = SPEND | {"deal": 1}
    repository.made(
        "continued",
        data="renamed.csv",
        md5="edited",
        releases=[
            {"run": "first", "spend": spend},
            {"run": "continued", "spend": spend | {"deal": 2}},
        ],
    )
    commit_all(repository, "continued")
    repository.made("later", data="renamed.csv", md5="edited")
    spends = repository.ledger(monkeypatch)
    assert Ledger().total(spends["later"]) == total_epsilon([*spends.values()], 1e-5)


def test_a_ledger_of_an_earlier_version_learns_what_its_runs_build_on(repository, monkeypatch):
    # It has all runs, but not that tables of two names are the same people's.
    spend = SPEND | {"deal": 1}
    releases = [{"run": run, "spend": spend} for run in ("first", "second")]
    repository.made("second", data="renamed.csv", md5="two", releases=releases)
    whole = repository.ledger(monkeypatch)
    right = Ledger().total(whole["second"])
    with sqlite3.connect("privacy-ledger.sqlite") as connection:
        connection.execute("DROP TABLE built_on")
        connection.execute("ALTER TABLE entries DROP COLUMN unit")
        connection.execute("PRAGMA user_version = 0")
    connection.close()
    lacking = Ledger().total(whole["second"])
    assert right is not None
    assert lacking is not None
    assert lacking < 0.8 * right
    assert open_ledger().total(whole["second"]) == right
    assert not Ledger().is_old


def test_a_newer_versions_runs_are_not_passed_over(repository, monkeypatch):
    newer = {"ledger": [{"run": "x", "spend": SPEND, "of tomorrow": 1}]}
    repository.write("metrics/train.json", json.dumps(newer))
    commit_all(repository, "newer")
    with pytest.raises(UserError, match="a newer version: update"):
        repository.ledger(monkeypatch)


def test_a_git_that_fails_is_no_empty_past(repository, monkeypatch):
    assert set(repository.ledger(monkeypatch)) == {"first"}
    shutil.rmtree(repository.folder / ".git/objects")  # as in a partial clone without its remote
    (repository.folder / ".git/objects").mkdir()
    with pytest.raises(UserError, match="Git does not tell what earlier commits hold"):
        repository.ledger(monkeypatch)


def test_what_a_partial_clone_lacks_is_no_empty_past(repository, monkeypatch, tmp_path):
    repository.made("second")
    commit_all(repository, "second")
    repository.run("git", "config", "uploadpack.allowFilter", "true")
    source, clone = f"file://{repository.folder}", Repository(tmp_path / "partial")
    repository.run("git", "clone", "--quiet", "--filter=blob:none", source, str(clone.folder))
    clone.run("git", "remote", "remove", "origin")
    with pytest.raises(UserError, match="Git"):
        clone.ledger(monkeypatch)


def test_a_repository_of_somebody_else_is_no_empty_past(repository, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    with pytest.raises(UserError, match="Git does not tell"):
        repository.ledger(monkeypatch)


def test_a_project_in_a_folder_of_a_repository_knows_its_runs(repository, monkeypatch):
    outer = Repository(repository.folder / "outer")
    shutil.copytree(repository.folder / "data", outer.folder / "inner/data")
    inner = Repository(outer.folder / "inner")
    inner.made("inside")
    outer.run("git", "init", "--quiet", "--initial-branch=main")
    commit_all(outer, "inside")
    inner.made("later")
    assert set(inner.ledger(monkeypatch)) == {"inside", "later"}


def moved(repository):
    """Move the whole project into a folder of its repository, and return it there."""
    (repository.folder / "moved").mkdir()
    for name in ("data", "metrics", "dvc.lock", "params.yaml"):
        repository.run("git", "mv", name, f"moved/{name}")
    return Repository(repository.folder / "moved")


@pytest.mark.parametrize("commits", [True, False])
def test_a_project_that_was_moved_into_a_folder_took_its_runs_along(
    repository, monkeypatch, commits
):
    project = moved(repository)
    if commits:
        commit_all(repository, "moved")
        repository.run("git", "checkout", "--quiet", "-b", "before", "HEAD~1")
        repository.made("side")
        commit_all(repository, "and another run where it was")
        repository.run("git", "checkout", "--quiet", "main")
    project.made("second", md5="edited")
    spends = project.ledger(monkeypatch)
    assert set(spends) == {"first", "second", *(["side"] if commits else [])}
    assert spends["first"] == replace(spends["second"], fingerprint="one")
    assert Ledger().total(spends["second"]) == total_epsilon([*spends.values()], 1e-5)


def test_a_ledger_that_was_left_behind_is_not_forgotten(repository, monkeypatch):
    # Runs that were killed are in it alone.
    repository.ledger(monkeypatch)
    (repository.folder / ".gitignore").write_text("*.sqlite*\n")
    project = moved(repository)
    commit_all(repository, "moved")
    with pytest.raises(UserError, match=r"which was moved. Move it along"):
        project.ledger(monkeypatch)
    for file in repository.folder.glob("privacy-ledger.sqlite*"):
        file.rename(project.folder / file.name)
    assert [entry.run for entry in open_ledger().entries()] == ["first"]


def test_a_ledger_that_was_left_behind_is_not_forgotten_by_rebuilding_either(
    repository, monkeypatch
):
    repository.ledger(monkeypatch)
    (repository.folder / ".gitignore").write_text("*.sqlite*\n")
    project = moved(repository)
    commit_all(repository, "moved")
    arguments = (sys.executable, "-m", "stages.ledger", "rebuild")
    told = project.run(*arguments, env={"PYTHONPATH": str(ROOT)}, expect=1)
    assert "Move it along" in told


def test_a_table_beside_a_project_is_the_same_when_the_project_is_moved(
    repository, monkeypatch, tmp_path
):
    # Named from the project's folder, it has another name in each, and its content was edited.
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/p.csv").write_text("somebody")
    repository.made("second", data="../shared/p.csv", md5="two")
    commit_all(repository, "second")
    repository.ledger(monkeypatch)
    at_first = Ledger().entries()
    project = moved(repository)
    (repository.folder / "privacy-ledger.sqlite").rename(project.folder / "privacy-ledger.sqlite")
    project.made("third", data="../../shared/p.csv", md5="three")
    monkeypatch.chdir(project.folder)
    assert "third" in {entry.run for entry in open_ledger().entries()}
    for entries in (Ledger().entries(), project.ledger(monkeypatch) and Ledger().entries()):
        same = same_people(entries, ("../../shared/p.csv", "four"))
        assert {entry.run for entry in same} == {"second", "third"}
    # As params.yaml has it, and where that is.
    name = f"../shared/p.csv → {tmp_path / 'shared/p.csv'}"
    assert at_first[1].spend.data == name
    assert {entry.spend.data for entry in Ledger().entries() if entry.run == "second"} == {name}


@pytest.mark.parametrize(("content", "counts"), [("another", False), ("one", True)])
def test_another_project_of_a_repository_has_other_people_unless_its_table_is_the_same(
    repository, monkeypatch, content, counts
):
    other = Repository(repository.folder / "other")
    shutil.copytree(repository.folder / "data", other.folder / "data")
    other.made("others", md5=content)
    commit_all(repository, "another project, whose table has the same name")
    other.write("privacy-ledger.sqlite", "of theirs")
    other.run("git", "add", "--force", "privacy-ledger.sqlite")
    commit_all(repository, "and whose ledger was committed")
    spends = repository.ledger(monkeypatch)
    theirs = [spends["others"]] if counts else []
    assert Ledger().total(spends["first"]) == total_epsilon([spends["first"], *theirs], 1e-5)


def test_worktrees_share_a_ledger(repository, monkeypatch):
    assert set(repository.ledger(monkeypatch)) == {"first"}
    Ledger().reserve(replace(_spend_of(SPEND), data="patients.csv"), None)
    repository.run("git", "worktree", "add", "--quiet", "../worktree")
    monkeypatch.chdir(repository.folder.parent / "worktree")
    assert len(Ledger().entries()) == 2


def test_worktrees_of_a_bare_repository_share_a_ledger(repository, monkeypatch, tmp_path):
    repository.run("git", "clone", "--quiet", "--bare", ".", str(tmp_path / "bare"))
    bare = Project(tmp_path / "bare")
    for name in ("one", "two"):
        bare.run("git", "worktree", "add", "--quiet", "-b", name, str(tmp_path / name), "main")
    monkeypatch.chdir(tmp_path / "one")
    Ledger().reserve(replace(_spend_of(SPEND), data="patients.csv"), None)
    monkeypatch.chdir(tmp_path / "two")
    assert len(Ledger().entries()) == 1


@pytest.mark.parametrize("is_back", [True, False])
def test_worktrees_that_have_the_project_in_different_folders_share_a_ledger_by_a_link(
    repository, monkeypatch, tmp_path, is_back
):
    repository.run("git", "branch", "before")
    project = moved(repository)
    commit_all(repository, "moved")
    if not is_back:  # the main worktree has it where it was, and the linked one where it is now
        repository.run("git", "branch", "after")
        repository.run("git", "checkout", "--quiet", "before")
    monkeypatch.chdir(project.folder if is_back else repository.folder)
    path = open_ledger().path
    there = tmp_path / "worktree"
    branch = "before" if is_back else "after"
    repository.run("git", "worktree", "add", "--quiet", str(there), branch)
    monkeypatch.chdir(there if is_back else there / "moved")
    with pytest.raises(UserError, match="so link to it: ") as refused:
        open_ledger()
    Project(there).run("bash", "-c", str(refused.value).rpartition("link to it: ")[2])
    assert open_ledger().path.resolve() == path.resolve()


def test_a_submodule_keeps_its_ledger_wherever_its_git_is(repository, monkeypatch, tmp_path):
    monkeypatch.chdir(repository.folder)
    path = Ledger().path
    above = Project(tmp_path)
    above.run("git", "init", "--quiet")
    above.run("git", "submodule", "--quiet", "add", "./repository")
    above.run("git", "submodule", "--quiet", "absorbgitdirs")
    assert not (repository.folder / ".git").is_dir()
    assert Ledger().path == path
    repository.run("git", "worktree", "add", "--quiet", str(tmp_path / "worktree"))
    monkeypatch.chdir(tmp_path / "worktree")
    assert Ledger().path == path


def test_in_a_hook_a_project_has_the_ledger_that_it_has_by_hand(repository, monkeypatch, tmp_path):
    project = moved(repository)
    commit_all(repository, "moved")
    repository.run("git", "worktree", "add", "--quiet", str(tmp_path / "worktree"))
    monkeypatch.chdir(tmp_path / "worktree/moved")
    by_hand = Ledger().path
    assert by_hand.parent == project.folder
    git = (repository.folder / ".git/worktrees/worktree").as_posix()
    monkeypatch.setenv("GIT_DIR", git)
    assert Ledger().path == by_hand
    # Where only Git's own word tells of a repository it is taken.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "worktree"))
    assert commit_of("HEAD") == repository.run("git", "rev-parse", "main").strip()


def test_a_worktree_that_cannot_know_where_its_ledger_is_refuses(repository, monkeypatch, tmp_path):
    elsewhere = str(tmp_path / "git")
    repository.run("git", "clone", "--quiet", "--separate-git-dir", elsewhere, ".", "../clone")
    clone = Project(repository.folder.parent / "clone")
    clone.run("git", "worktree", "add", "--quiet", str(tmp_path / "worktree"))
    monkeypatch.chdir(clone.folder)
    assert Ledger().path.parent == clone.folder
    monkeypatch.chdir(tmp_path / "worktree")
    with pytest.raises(UserError, match="does not tell where the main one is"):
        Ledger()


def test_a_project_below_dvcs_folder_has_one_ledger_for_stages_and_commands(
    repository, monkeypatch
):
    # DVC names its root to stages, and one of another project that runs DVC here hands its own on.
    monkeypatch.chdir(moved(repository).folder)
    by_hand = Ledger().path
    assert by_hand.parent.name == "moved"
    monkeypatch.setenv("DVC_ROOT", str(repository.folder))
    assert Ledger().path == by_hand


def test_in_a_copy_that_dvc_makes_a_project_has_the_ledger_of_the_real_one(repository, monkeypatch):
    project = moved(repository)
    commit_all(repository, "moved")
    monkeypatch.chdir(project.folder)
    path = Ledger().path
    copy = repository.folder / ".dvc/tmp/exps/standalone/tmp1"
    repository.run("git", "clone", "--quiet", ".", str(copy))
    monkeypatch.setenv("DVC_ROOT", str(repository.folder))
    monkeypatch.chdir(copy / "moved")
    assert Ledger().path == path


def test_a_run_whose_commit_was_amended_is_known(repository, monkeypatch):
    repository.made("second")
    commit_all(repository, "second")
    repository.made("third")
    repository.run("git", "commit", "--quiet", "--all", "--amend", "-m", "third")
    assert set(repository.ledger(monkeypatch)) == {"first", "second", "third"}


@pytest.mark.parametrize("head", ["FETCH_HEAD", "MERGE_HEAD"])
def test_a_run_that_was_pulled_by_a_path_is_known_before_its_merge_is_done(
    repository, tmp_path, monkeypatch, head
):
    colleague = Project(tmp_path / "colleague")
    repository.run("git", "clone", "--quiet", ".", str(colleague.folder))
    theirs = Repository(colleague.folder).made("theirs")
    commit_all(theirs, "theirs")
    commit_all(repository.made("ours"), "ours")
    repository.run("git", "pull", "--no-rebase", str(colleague.folder), "main", expect=1)
    with (repository.folder / ".git/FETCH_HEAD").open("ab") as file:  # of a name in Latin-1
        file.write(b"not an id\t\tbranch 'm\xfcller'\n")
    for file in (repository.folder / ".git").glob("*_HEAD"):
        if file.name != head:
            file.unlink()
    repository.run("git", "checkout", "--ours", "metrics", "dvc.lock")
    assert set(repository.ledger(monkeypatch)) == {"first", "ours", "theirs"}


def test_git_is_understood_whatever_language_it_speaks_to_the_user(tmp_path, monkeypatch):
    # One that speaks German to whoever does not ask for English.
    real, speaker = shutil.which("git"), tmp_path / "bin/git"
    speaker.parent.mkdir()
    speaker.write_text(
        f"""#!/bin/sh
        [ "$LC_ALL" = C ] && exec {real} "$@"
        {real} "$@" 2>/dev/null || {{ echo "Schwerwiegend: kein Git-Repository" >&2; exit 128; }}
        """
    )
    speaker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{speaker.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.chdir(tmp_path)
    open_ledger()
    assert hidden_past() == WITHOUT_GIT


def test_a_run_is_known_by_its_own_metrics_before_what_was_made_of_it(repository, monkeypatch):
    # Which tell of it what it came to be worth, and of a bundle it is asked what it was asked for.
    spend = SPEND | {"epsilon": 3.0, "deal": 1}
    repository.made("second")
    releases = [{"run": run, "spend": spend} for run in ("second", "measured")]
    repository.made("measured", stage="evaluate", releases=releases)
    commit_all(repository, "both at once")
    assert repository.ledger(monkeypatch)["second"].epsilon == SPEND["epsilon"]


def test_the_total_is_drawn_over_no_file_of_another_kind(repository):
    before = (repository.folder / SCHEMA).read_bytes()
    arguments = (sys.executable, "-m", "stages.ledger", "figure", SCHEMA)
    told = repository.run(*arguments, env={"PYTHONPATH": str(ROOT)}, expect=1)
    assert f"figure {SCHEMA}: expected the name of a file that ends in .png" in told
    assert (repository.folder / SCHEMA).read_bytes() == before


def test_what_dvc_fetched_from_a_copy_of_its_own_hides_not_that_it_was_removed(
    repository, monkeypatch
):
    # As `dvc exp run --temp` does; `dvc exp remove` takes the reference that DVC gives it.
    copy = Project(repository.folder / ".dvc/tmp/exps/standalone/tmp1")
    repository.run("git", "clone", "--quiet", ".", str(copy.folder))
    theirs = Repository(copy.folder).made("removed since")
    commit_all(theirs, "an experiment")
    repository.run("git", "fetch", "--quiet", str(copy.folder), "main")
    assert set(repository.ledger(monkeypatch)) == {"first"}


def _spend_of(told):
    return Spend("", "one", "s", told["side"], (Steps(6.0, 1.0, 20),), 3.1, 1e-5)


def test_a_lock_in_the_middle_of_a_merge_is_said_to_be_one(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    lock = repository.folder / "dvc.lock"
    lock.write_text(f"<<<<<<< ours\n{lock.read_text()}=======\n>>>>>>> theirs\n")
    with pytest.raises(UserError, match="If a merge left both versions"):
        locked(WORKSPACE)
