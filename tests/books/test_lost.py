"""A run of which a dvc.lock tells and nothing else does makes every total unsure, and no other."""

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from stages.books.booking import book
from stages.books.lost import EVALUATE, EVALUATIONS, TRAIN, lost_runs
from stages.books.rebuild import open_ledger
from stages.books.told import RUNS, hash_of
from stages.errors import UserError
from stages.params import load_params
from stages.privacy.events import Gaussian
from stages.privacy.history import Spend
from tests.conftest import ROOT, Project, commit_all

SPEND = Spend("data/patients.csv", "ab12", "a split", "test", (Gaussian(4.0),), 1.0, 1e-5)
RUN, PART = "ab12cd34ef56", "ab12cd34ef56-7890abcd"


class Repository(Project):
    """A repository with nothing but what a run leaves, written by hand."""

    def write(self, name, text):
        (self.folder / name).parent.mkdir(exist_ok=True, parents=True)
        (self.folder / name).write_text(text)

    def lock(
        self,
        train="trained",
        evaluate="measured",
        *,
        name="1\n",
        by="stages.",
        read=(SPEND.data, SPEND.fingerprint),
        **asked,
    ):
        """Commit a dvc.lock whose metrics hold `train` and `evaluate`, and return the commit."""
        data, fingerprint = read
        seed = asked.get("simulation_seed")
        stages = {
            "preprocess": {
                "deps": [hashed(data, fingerprint)],
                "params": {"params.yaml": {"data": data}},
            },
            "train": {
                "cmd": f"python -m {by}launch 1 train",
                "params": {"params.yaml": {"simulation_seed": seed}},
                "outs": [hashed(TRAIN, hash_of(train))],
            },
            "evaluate": {
                "cmd": f"python -m {by}evaluate",
                "params": {"params.yaml": asked, TRAIN: {"run": [RUN[:8]]}},
                "outs": [hashed(EVALUATE, hash_of(evaluate)), hashed(EVALUATIONS, hash_of(name))],
            },
        }
        self.write("dvc.lock", yaml.safe_dump({"stages": stages}, sort_keys=False))
        commit_all(self, f"dvc.lock of {train} and {evaluate}")
        return self.run("git", "rev-parse", "HEAD")[:12]


def hashed(path, digest):
    """A file as dvc.lock names it."""
    return {"path": path, "hash": "md5", "md5": digest}


def lost(*known):
    """The commits that tell of lost runs, of a ledger that knows some."""
    return [one.commit for one in lost_runs(known)]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    made = Repository(tmp_path)
    made.run("git", "init", "--quiet")
    made.run("dvc", "init", "--quiet")
    monkeypatch.chdir(tmp_path)
    return made


def test_a_lock_alone_makes_totals_unsure_and_no_budget_can_be_kept(repository):
    head = repository.lock()
    assert lost() == [head]
    ledger = open_ledger()
    assert (ledger.at_least(SPEND), ledger.total(SPEND)) == ("at least ", None)
    line, below = ledger.summary(SPEND, None).splitlines()
    assert "ε ≥" in line
    assert f"dvc.lock of {head} is of a run whose metrics are not here" in below
    params = load_params(ROOT / "params.yaml", overrides={"privacy_budget": 100.0})
    with pytest.raises(UserError, match=r"cannot be kept: dvc\.lock of"):
        book(SPEND, params)
    assert not ledger.entries()


def test_what_has_its_metrics_somewhere_is_not_lost(repository):
    repository.write(TRAIN, "trained")
    repository.write(EVALUATE, "measured")
    repository.lock()
    repository.write(TRAIN, "another")
    repository.write(EVALUATE, "another")
    commit_all(repository, "other metrics, with the lock as it was")
    assert lost() == []
    assert open_ledger().lacks(SPEND) is None


@pytest.mark.parametrize(
    ("data", "fingerprint", "about"),
    [
        ("data/patients.csv", "edited", True),
        ("data/renamed.csv", "ab12", True),
        # As of the project that this one began as a copy of, without its metrics.
        ("data/sample.csv", "cd34", False),
    ],
)
def test_a_lost_run_is_about_the_people_of_its_table(repository, data, fingerprint, about):
    head = repository.lock(read=(data, fingerprint))
    assert lost() == [head]
    ledger = open_ledger()
    assert bool(ledger.lacks(SPEND)) == about
    assert ledger.at_least(replace(SPEND, data=data, fingerprint=fingerprint))


def test_a_lost_run_is_about_whoever_the_ledger_joins_with_its_table(repository):
    repository.lock(read=("data/renamed.csv", "edited"))
    ledger = open_ledger()
    assert not ledger.lacks(SPEND)
    ledger.reserve(replace(SPEND, data="data/renamed.csv"), None)
    assert ledger.lacks(SPEND)


@pytest.mark.parametrize("there", [TRAIN, EVALUATE])
def test_one_of_two_is_as_good_as_lost(repository, there):
    repository.write(there, {TRAIN: "trained", EVALUATE: "measured"}[there])
    head = repository.lock()
    assert lost() == [head]


@pytest.mark.parametrize(
    ("name", "known"),
    [("1\n", [RUN, PART]), (f"3 {PART}\n", [RUN, PART, f"{RUN}-0123abcd"])],
)
def test_what_another_ledger_told_of_is_not_lost(repository, name, known):
    head = repository.lock(name=name)
    assert lost(*known) == []
    # Each name is that of one run alone.
    assert lost(*(run.replace("12", "21") for run in known)) == [head]
    # Of a measurement, that of its model says nothing.
    assert lost(RUN) == [head]


def test_an_evaluation_after_the_known_one_is_lost(repository):
    # `evaluation_epsilon` was changed, and `git commit -m` took dvc.lock alone.
    repository.write(TRAIN, "trained")
    repository.write(EVALUATE, "measured")
    repository.lock()
    head = repository.lock(evaluate="measured again", name=f"2 {RUN}-11112222\n")
    assert lost(RUN, PART) == [head]


def test_a_training_after_the_known_run_is_lost(repository):
    # `dvc repro train`, so that the measurement in the lock is still that of the run before.
    repository.write(TRAIN, "trained")
    repository.write(EVALUATE, "measured")
    repository.lock()
    head = repository.lock(train="trained again")
    assert lost(RUN, PART) == [head]


@pytest.mark.parametrize(
    "other", [{"by": "theirs."}, {"simulation_seed": 1}], ids=["theirs", "simulated"]
)
def test_what_draws_no_noise_that_counts_is_not_lost(repository, other):
    repository.lock(**other)
    assert lost() == []


def test_exact_figures_draw_no_noise_but_their_model_did(repository):
    exact = {"exact_metrics": True, "name": "exact 12345678\n"}
    repository.write(TRAIN, "trained")
    repository.lock(**exact)
    assert lost() == []
    head = repository.lock(train="trained again", **exact)
    assert lost() == [head]


def test_a_run_is_known_again_once_a_commit_takes_the_ledger_along(repository):
    repository.lock()
    assert open_ledger().lacks(SPEND)
    spend = SPEND.public() | {"events": [{"gaussian": {"noise_multiplier": 4.0}}]}
    lines: list[dict[str, Any]] = [
        {"run": run, "spend": spend, "past": [], "struck": None} for run in (RUN, PART)
    ]
    repository.write(RUNS, "".join(f"{json.dumps(line)}\n" for line in lines))
    assert open_ledger().lacks(SPEND) is None
