"""A run of which a dvc.lock tells and nothing else does makes every total unsure, and no other."""

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from stages.books.booking import book
from stages.books.lost import EVALUATE, EVALUATIONS, TRAIN, lost_runs
from stages.books.people import Entry
from stages.books.rebuild import open_ledger
from stages.books.told import RUNS, hash_of
from stages.errors import UserError
from stages.params import load_params
from stages.privacy.events import Gaussian
from stages.privacy.history import Spend
from tests.conftest import ROOT, Project, commit_all

SPEND = Spend("data/patients.csv", "ab12", "a split", "test", (Gaussian(4.0),), 1.0, 1e-5)
RUN, PART = "ab12cd34ef56", "ab12cd34ef56-7890abcd"


def entry(run):
    """The ledger's entry of a run, which is a measurement if its id is that of a part."""
    spend = replace(SPEND, side="test" if "-" in run else "train")
    return Entry(1, "", run, spend, settled=True, struck=None, revision=None, experiment=None)


def metrics(run):
    """What metrics tell of a run, of which nothing is read but whose they are."""
    spend = entry(run).spend.public() | {"events": [{"gaussian": {"noise_multiplier": 4.0}}]}
    return json.dumps({"evidence": [{"ledger": [{"run": run, "spend": spend}]}]})


TRAINED, MEASURED = metrics(RUN), metrics(PART)


class Repository(Project):
    """A repository with nothing but what a run leaves, written by hand."""

    def write(self, name, text):
        (self.folder / name).parent.mkdir(exist_ok=True, parents=True)
        (self.folder / name).write_text(text)

    def lock(
        self,
        train=TRAINED,
        evaluate=MEASURED,
        *,
        name="1\n",
        of=RUN,
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
                "params": {"params.yaml": asked, TRAIN: {"run": [of[:8]]}},
                "outs": [hashed(EVALUATE, hash_of(evaluate)), hashed(EVALUATIONS, hash_of(name))],
            },
        }
        self.write("dvc.lock", yaml.safe_dump({"stages": stages}, sort_keys=False))
        commit_all(self, "with dvc.lock")
        return self.run("git", "rev-parse", "HEAD")[:12]


def hashed(path, digest):
    """A file as dvc.lock names it."""
    return {"path": path, "hash": "md5", "md5": digest}


def lost(*known):
    """The commits that tell of lost runs, of a ledger that knows some."""
    return [one.commit for one in lost_runs([entry(run) for run in known])]


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
    repository.write(TRAIN, TRAINED)
    repository.write(EVALUATE, MEASURED)
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
    repository.write(there, {TRAIN: TRAINED, EVALUATE: MEASURED}[there])
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
    repository.write(TRAIN, TRAINED)
    repository.write(EVALUATE, MEASURED)
    repository.lock()
    head = repository.lock(evaluate="measured again", name=f"2 {RUN}-11112222\n")
    assert lost(RUN, PART) == [head]


def test_a_training_after_the_known_run_is_lost(repository):
    # `dvc repro train`, so that the measurement in the lock is still that of the run before.
    repository.write(TRAIN, TRAINED)
    repository.write(EVALUATE, MEASURED)
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
    repository.write(TRAIN, TRAINED)
    repository.lock(**exact)
    assert lost() == []
    head = repository.lock(train="trained again", **exact)
    assert lost() == [head]


def test_a_run_is_known_again_once_a_commit_takes_the_ledger_along(repository):
    repository.lock()
    assert open_ledger().lacks(SPEND)
    lines: list[str] = []
    rest: dict[str, Any] = {"past": [], "struck": None}
    for run in (RUN, PART):
        (told,) = json.loads(metrics(run))["evidence"][0]["ledger"]
        lines.append(json.dumps(told | rest))
    repository.write(RUNS, "\n".join(lines))
    assert open_ledger().lacks(SPEND) is None


def test_a_first_evaluation_is_lost_though_another_clone_has_made_its_own_first(repository):
    repository.write(TRAIN, TRAINED)
    head = repository.lock(evaluate=metrics(f"{RUN}-11112222"))
    repository.write(EVALUATE, MEASURED)
    commit_all(repository, "evaluated here, too")
    assert lost(RUN, PART) == [head]
    # Each that the ledger has, and whose metrics are not here, explains one.
    assert lost(RUN, PART, f"{RUN}-11112222") == []
    other = repository.lock(evaluate=metrics(f"{RUN}-33334444"))
    assert {*lost(RUN, PART, f"{RUN}-11112222")} == {head, other}


def test_a_tuned_model_measured_again_is_lost(repository):
    of, both = "tune-ab12", [f"tune-ab12cd34-{side}" for side in ("train", "test")]
    repository.write(TRAIN, metrics(both[0]))
    repository.write(EVALUATE, metrics(both[1]))
    repository.lock(metrics(both[0]), metrics(both[1]), of=of, name=f"2 {both[1]}\n")
    assert lost(*both) == []
    head = repository.lock(metrics(both[0]), metrics(f"{both[0]}-11112222"), of=of)
    assert lost(*both) == [head]


def test_a_training_is_not_explained_by_an_older_one_that_was_measured(repository):
    # The lock of "another" was never committed.
    repository.write(TRAIN, metrics("0123456789ab"))
    repository.write(EVALUATE, metrics("0123456789ab-11112222"))
    head = repository.lock(of="01234567", evaluate=metrics("0123456789ab-11112222"))
    assert lost("0123456789ab", "0123456789ab-11112222") == [head]


def test_a_training_is_explained_by_any_lock_in_which_it_was_measured(repository):
    repository.lock(of="01234567", evaluate=metrics("0123456789ab-11112222"))
    repository.write(EVALUATE, metrics("0123456789ab-11112222"))
    commit_all(repository, "metrics of the one before, of a training that another clone told of")
    head = repository.run("git", "rev-parse", "HEAD~1")[:12]
    assert lost(RUN, PART) == [head]
    repository.lock()
    assert lost(RUN, PART) == []
    # A run explains one training, and not what was trained again before it was measured.
    again = repository.lock(train="trained again")
    assert len(lost(RUN, PART)) == 1
    assert {*lost(RUN, PART)} <= {head, again}


def test_a_lock_that_cannot_be_read_is_none(repository):
    # A merge was committed with its markers, and mended later.
    (repository.folder / "dvc.lock").write_text("<<<<<<< HEAD\n")
    head = repository.lock()
    lock = (repository.folder / "dvc.lock").read_text()
    repository.write("dvc.lock", f"<<<<<<< HEAD\n{lock}=======\n>>>>>>> other\n")
    commit_all(repository, "markers left")
    for text in ("[]", "stages:\n", lock.replace("- ab12cd34", "")):
        repository.write("dvc.lock", text)
        commit_all(repository, "by hand")
    assert lost() == [head]
