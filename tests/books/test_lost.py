"""A run of which a dvc.lock tells and nothing else does makes every total unsure, and no other."""

import json
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

SPEND = Spend("data/patients.csv", "a hash", "a split", "test", (Gaussian(4.0),), 1.0, 1e-5)
RUN, PART = "ab12cd34ef56", "ab12cd34ef56-7890abcd"


class Repository(Project):
    """A repository with nothing but what a run leaves, written by hand."""

    def write(self, name, text):
        (self.folder / name).parent.mkdir(exist_ok=True, parents=True)
        (self.folder / name).write_text(text)

    def lock(self, train="trained", evaluate="measured", name="1\n", by="stages.", **ran):
        """Commit a dvc.lock whose metrics hold `train` and `evaluate`, and return the commit."""
        trained = {"params.yaml": {"simulation_seed": ran.get("simulation_seed")}}
        measured = {
            "params.yaml": {"simulation_seed": None, "exact_metrics": False} | ran,
            TRAIN: {"run": [RUN[:8]]},
        }
        stages = {
            "train": (trained, {TRAIN: train}),
            "evaluate": (measured, {EVALUATE: evaluate, EVALUATIONS: name}),
        }
        lock = {
            stage: {
                "cmd": f"python -m {by}{stage}",
                "params": ran,
                "outs": [
                    {"path": path, "hash": "md5", "md5": hash_of(text)}
                    for path, text in outs.items()
                ],
            }
            for stage, (ran, outs) in stages.items()
        }
        self.write("dvc.lock", yaml.safe_dump({"stages": lock}, sort_keys=False))
        commit_all(self, f"dvc.lock of {train} and {evaluate}")
        return self.run("git", "rev-parse", "HEAD")[:12]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    made = Repository(tmp_path)
    made.run("git", "init", "--quiet")
    made.run("dvc", "init", "--quiet")
    monkeypatch.chdir(tmp_path)
    return made


def test_a_lock_alone_makes_totals_unsure_and_no_budget_can_be_kept(repository, capsys):
    head = repository.lock()
    assert lost_runs([]) == [head]
    ledger = open_ledger()
    assert f"dvc.lock of {head} is of a run whose metrics are not here" in capsys.readouterr().err
    assert (ledger.at_least, ledger.total(SPEND)) == ("at least ", None)
    assert "ε ≥" in ledger.summary(SPEND, None)
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
    assert lost_runs([]) == []
    assert open_ledger().lacks is None


@pytest.mark.parametrize("there", [TRAIN, EVALUATE])
def test_one_of_two_is_as_good_as_lost(repository, there):
    repository.write(there, {TRAIN: "trained", EVALUATE: "measured"}[there])
    head = repository.lock()
    assert lost_runs([]) == [head]


@pytest.mark.parametrize(
    ("name", "known"),
    [("1\n", [RUN, PART]), (f"3 {PART}\n", [RUN, PART, f"{RUN}-0123abcd"])],
)
def test_what_another_ledger_told_of_is_not_lost(repository, name, known):
    head = repository.lock(name=name)
    assert lost_runs(known) == []
    # Each name is that of one run alone.
    assert lost_runs([run.replace("12", "21") for run in known]) == [head]
    # Of a measurement, that of its model says nothing.
    assert lost_runs([RUN]) == [head]


def test_an_evaluation_after_the_known_one_is_lost(repository):
    # `evaluation_epsilon` was changed, and `git commit -m` took dvc.lock alone.
    repository.write(TRAIN, "trained")
    repository.write(EVALUATE, "measured")
    repository.lock()
    head = repository.lock(evaluate="measured again", name=f"2 {RUN}-11112222\n")
    assert lost_runs([RUN, PART]) == [head]


def test_a_training_after_the_known_run_is_lost(repository):
    # `dvc repro train`, so that the measurement in the lock is still that of the run before.
    repository.write(TRAIN, "trained")
    repository.write(EVALUATE, "measured")
    repository.lock()
    head = repository.lock(train="trained again")
    assert lost_runs([RUN, PART]) == [head]


@pytest.mark.parametrize(
    "other", [{"by": "theirs."}, {"simulation_seed": 1}], ids=["theirs", "simulated"]
)
def test_what_draws_no_noise_that_counts_is_not_lost(repository, other):
    repository.lock(**other)
    assert lost_runs([]) == []


def test_exact_figures_draw_no_noise_but_their_model_did(repository):
    exact = {"exact_metrics": True, "name": "exact 12345678\n"}
    repository.write(TRAIN, "trained")
    repository.lock(**exact)
    assert lost_runs([]) == []
    head = repository.lock(train="trained again", **exact)
    assert lost_runs([]) == [head]


def test_a_run_is_known_again_once_a_commit_takes_the_ledger_along(repository):
    repository.lock()
    assert open_ledger().lacks
    spend = SPEND.public() | {"events": [{"gaussian": {"noise_multiplier": 4.0}}]}
    lines: list[dict[str, Any]] = [
        {"run": run, "spend": spend, "past": [], "struck": None} for run in (RUN, PART)
    ]
    repository.write(RUNS, "".join(f"{json.dumps(line)}\n" for line in lines))
    assert open_ledger().lacks is None
