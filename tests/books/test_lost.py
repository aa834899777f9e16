"""A run of which a dvc.lock tells and nothing else does makes every total unsure, and no other."""

import json
from dataclasses import replace

import pytest
import yaml

from stages.books.booking import book
from stages.books.lost import lost_runs
from stages.books.rebuild import open_ledger
from stages.books.runs import write_runs
from stages.books.told import METRICS, RUNS, hash_of
from stages.errors import UserError
from stages.params import load_params
from stages.privacy.events import Gaussian
from stages.privacy.history import Spend
from tests.conftest import ROOT, Project, commit_all

TRAIN, EVALUATE = METRICS
SPEND = Spend("data/patients.csv", "ab12", "a split", "test", (Gaussian(4.0),), 1.0, 1e-5)


def metrics(run, **rest):
    """What metrics tell of a run, of which nothing is read but whose they are."""
    spend = SPEND.public() | {"events": [{"gaussian": {"noise_multiplier": 4.0}}]}
    return json.dumps({"evidence": [{"ledger": [{"run": run, "spend": spend} | rest]}]})


TRAINED, MEASURED = metrics("a run"), metrics("its measurement")


def hashed(path, digest):
    """A file as dvc.lock names it."""
    return {"path": path, "hash": "md5", "md5": digest}


class Repository(Project):
    """A repository with nothing but what a run leaves, written by hand."""

    def write(self, name, text):
        (self.folder / name).parent.mkdir(exist_ok=True, parents=True)
        (self.folder / name).write_text(text)

    def keep(self, text, kind=""):
        """Put a text into DVC's cache, and return its hash."""
        digest = f"{hash_of(text)}{kind}"
        self.write(f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}", text)
        return digest

    def commit(self):
        commit_all(self, "by hand")
        return self.run("git", "rev-parse", "HEAD")[:12]

    def lock(
        self,
        train=TRAINED,
        evaluate=MEASURED,
        *,
        by="stages.",
        read=(SPEND.data, SPEND.fingerprint),
        consumed="prepared",
        trained_on=None,
        model="none",
        **asked,
    ):
        """Commit a dvc.lock whose metrics hold `train` and `evaluate`, and return the commit."""
        data, fingerprint = read
        of_training = {name: value for name, value in asked.items() if name != "exact_metrics"}
        deps = [hashed("data/prepared", consumed)]
        stages = {
            "preprocess": {
                "deps": [hashed(data, fingerprint)],
                "params": {"params.yaml": {"data": data}},
                "outs": [hashed("data/prepared", "prepared")],
            },
            "train": {
                "cmd": f"python -m {by}launch 1 train",
                "deps": [hashed("data/prepared", trained_on or consumed)],
                "params": {"params.yaml": of_training},
                "outs": [hashed(TRAIN, hash_of(train)), hashed("models/classifier", model)],
            },
            "evaluate": {
                "cmd": f"python -m {by}evaluate",
                "deps": deps,
                "params": {"params.yaml": asked},
                "outs": [hashed(EVALUATE, hash_of(evaluate))],
            },
        }
        self.write("dvc.lock", yaml.safe_dump({"stages": stages}, sort_keys=False))
        return self.commit()


def lost(*noted):
    """The commits that tell of lost runs, where a ledger has noted some metrics."""
    return [one.commit for one in lost_runs([hash_of(text) for text in noted])]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    made = Repository(tmp_path)
    made.run("git", "init", "--quiet")
    made.run("dvc", "init", "--quiet")
    made.write(".gitignore", "privacy-ledger.sqlite*\n")
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


@pytest.mark.parametrize("there", METRICS)
def test_one_of_two_is_as_good_as_lost(repository, there):
    both = {TRAIN: TRAINED, EVALUATE: MEASURED}
    repository.write(there, both.pop(there))
    head = repository.lock()
    assert lost() == [head]
    assert lost(*both.values()) == []


def test_what_follows_a_run_that_is_known_is_lost(repository):
    # As `evaluation_epsilon` was changed, or it was trained again, and `git commit -m` took
    # dvc.lock alone.
    repository.write(TRAIN, TRAINED)
    repository.write(EVALUATE, MEASURED)
    repository.lock()
    of_both = [repository.lock(evaluate="measured again"), repository.lock(train="trained again")]
    assert lost() == of_both
    assert lost("measured again") == of_both[1:]
    assert lost("trained again") == of_both[:1]


@pytest.mark.parametrize(
    "other", [{"by": "theirs."}, {"simulation_seed": 1}], ids=["theirs", "simulated"]
)
def test_what_draws_no_noise_that_counts_is_not_lost(repository, other):
    repository.lock(**other)
    assert lost() == []


def test_exact_figures_draw_no_noise_but_their_model_did(repository):
    repository.write(TRAIN, TRAINED)
    repository.lock(exact_metrics=True)
    assert lost() == []
    head = repository.lock(train="trained again", exact_metrics=True)
    assert lost() == [head]


def test_a_model_tells_of_its_training_and_not_of_its_measurement(repository):
    parts = [{"md5": repository.keep("{}"), "relpath": "model.json"}]
    head = repository.lock(model=repository.keep(json.dumps(parts), ".dir"))
    assert lost() == [head]
    assert lost(MEASURED) == []
    assert lost(TRAINED) == [head]


# --- whose ---------------------------------------------------------------------------------------


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
    repository.lock(read=(data, fingerprint))
    ledger = open_ledger()
    assert bool(ledger.lacks(SPEND)) == about
    assert ledger.at_least(replace(SPEND, data=data, fingerprint=fingerprint))


def test_a_lost_run_is_about_whoever_the_ledger_joins_with_its_table(repository):
    repository.lock(read=("data/renamed.csv", "edited"))
    ledger = open_ledger()
    assert not ledger.lacks(SPEND)
    ledger.reserve(replace(SPEND, data="data/renamed.csv"), None)
    assert ledger.lacks(SPEND)


@pytest.mark.parametrize("how", [{"consumed": "of another table"}, {"mode": "continue"}])
def test_a_lost_run_may_be_about_anybody_where_the_lock_does_not_say(repository, how):
    # Another table was prepared since; or it was made from a run on one, which it joins.
    repository.lock(read=("data/sample.csv", "cd34"), **how)
    assert open_ledger().lacks(SPEND)


def test_a_lost_measurement_is_about_those_that_the_model_was_trained_on_too(repository):
    # Which dvc.lock names no more, once what they are measured on is prepared.
    repository.write(TRAIN, TRAINED)
    lock = repository.lock(
        read=("data/followup.csv", "cd34"), trained_on="what was prepared before"
    )
    assert lost() == [lock]
    assert open_ledger().lacks(SPEND)


# --- how it is found again -----------------------------------------------------------------------


def test_a_run_is_known_again_once_a_commit_takes_the_ledger_along(
    repository, tmp_path_factory, monkeypatch
):
    repository.write(TRAIN, TRAINED)
    repository.write(EVALUATE, MEASURED)
    open_ledger()
    write_runs()  # as each stage does that has written its metrics
    ledger = (repository.folder / RUNS).read_text()
    for name in (*METRICS, RUNS):
        (repository.folder / name).unlink()
    repository.lock()
    assert open_ledger().lacks(SPEND) is None  # whose own it is
    clone = Repository(tmp_path_factory.mktemp("clone"))
    repository.run("git", "clone", "--quiet", ".", str(clone.folder))
    monkeypatch.chdir(clone.folder)
    assert open_ledger().lacks(SPEND)
    clone.write(RUNS, ledger)
    assert open_ledger().lacks(SPEND) is None
    write_runs()  # which passes it on
    assert {hash_of(TRAINED), hash_of(MEASURED)} == {
        digest for line in (clone.folder / RUNS).read_text().splitlines() for digest in noted(line)
    }


def noted(line):
    return json.loads(line)["metrics"]


def test_how_many_trials_there_were_is_not_noted(repository):
    repository.write(TRAIN, metrics("tune-ab-train", trial="tune-ab-01"))
    write_runs()
    assert open_ledger().metrics() == set()


def test_a_lock_that_cannot_be_read_is_none(repository):
    # A merge was committed with its markers, and mended later.
    head = repository.lock()
    lock = (repository.folder / "dvc.lock").read_text()
    for text in (f"<<<<<<< HEAD\n{lock}=======\n>>>>>>> other\n", "[]", "stages:\n"):
        repository.write("dvc.lock", text)
        commit_all(repository, "by hand")
    assert lost() == [head]
