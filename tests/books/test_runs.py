"""metrics/runs.jsonl takes the ledger along, so that who has a commit knows of all runs before."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from stages.books.booking import Booking
from stages.books.people import SEEN, Budget
from stages.books.rebuild import open_ledger, strike
from stages.books.records import PublicSpend, Record
from stages.books.runs import untold, write_runs
from stages.books.sqlite import append, append_reservation
from stages.books.store import Ledger
from stages.books.told import FORMER_RUNS, RUNS
from stages.books.tunings import begin_trial, opened
from stages.errors import UserError
from stages.privacy.events import BestOfMany, Steps
from stages.privacy.history import Side, Spend
from tests.conftest import ROOT, Project, commit_all

STEPS = Steps(6.0, 1.0, 20)
TRAIN = Spend("patients.csv", "one", "0.2 by seed 0", "train", (STEPS,), 3.1, 1e-5)
TEST = replace(TRAIN, side="test")
RENAMED = replace(TRAIN, data="renamed.csv", fingerprint="two")
BEST = replace(TRAIN, events=(BestOfMany((STEPS,), mean=5.0, shape=1.0),))
OTHER_PEOPLE = replace(TRAIN, data="others.csv", fingerprint="three")
BUDGET = Budget(100.0, 1e-5)


class Clone(Project):
    """A repository in which runs leave only what the ledger reads of them."""

    def run_on(self, spend, past=()):
        """Make a run: enter it, and write its metrics as the stages do."""
        ledger = open_ledger()
        booking = Booking(spend, None, ledger, ledger.reserve(spend, None, past=past))
        ledger.settle(str(booking.run), spend.events)
        self.write({"ledger": (booking.record(),)})
        write_runs()
        return booking.run

    def write(self, told):
        evidence = {key: [one.model_dump(mode="json") for one in told[key]] for key in told}
        path = self.folder / "metrics/train.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"evidence": [evidence]}))

    def forget(self, *branches):
        """Lose the ledger, and branches as if they had never been."""
        (self.folder / "privacy-ledger.sqlite").unlink()
        for name in branches:
            self.run("git", "branch", "--delete", "--force", name)
        self.run("git", "reflog", "expire", "--expire=now", "--all")
        self.run("git", "gc", "--quiet", "--prune=now")


def made(folder):
    clone = Clone(folder)
    folder.mkdir()
    clone.run("git", "init", "--quiet", "--initial-branch=main")
    (folder / ".gitignore").write_text("privacy-ledger.sqlite*\n")
    shutil.copy(ROOT / ".gitattributes", folder)
    commit_all(clone, "begin")
    return clone


@pytest.fixture
def clone(tmp_path, monkeypatch):
    clone = made(tmp_path / "clone")
    monkeypatch.chdir(clone.folder)
    return clone


@pytest.fixture
def elsewhere(tmp_path):
    return made(tmp_path / "elsewhere")


@pytest.fixture
def with_dvc(clone):
    """The same, where DVC lets the next commit take along what it writes."""
    clone.run("dvc", "init", "--quiet")
    clone.run("dvc", "config", "core.autostage", "true")
    commit_all(clone, "with DVC")
    return clone


def lines():
    return [json.loads(line) for line in Path(RUNS).read_text().splitlines()]


def write_lines(content):
    Path(RUNS).write_text("".join(f"{json.dumps(one)}\n" for one in content))


def told():
    return {one["run"]: one["struck"] for one in lines()}


def state(ledger):
    return {entry.run: (entry.spend, entry.struck, entry.past) for entry in ledger.entries()}


def test_whatever_is_committed_next_tells_of_the_run(with_dvc, elsewhere, monkeypatch):
    run = with_dvc.run_on(TRAIN)
    Path("plots").mkdir()
    Path("plots/roc.png").write_text("of the run")
    with_dvc.run("git", "add", "plots")
    with_dvc.run("git", "commit", "--quiet", "-m", "for slides")
    elsewhere.run("git", "pull", "--quiet", "--rebase", str(with_dvc.folder), "main")
    monkeypatch.chdir(elsewhere.folder)
    assert state(open_ledger())[run][0] == TRAIN


def test_nothing_is_staged_where_dvc_stages_nothing(with_dvc):
    with_dvc.run("dvc", "config", "core.autostage", "false")
    commit_all(with_dvc, "by hand from now on")
    with_dvc.run_on(TRAIN)
    assert with_dvc.run("git", "diff", "--cached", "--name-only") == ""


def test_who_has_the_last_commit_alone_knows_of_all_runs(clone, elsewhere, monkeypatch):
    first = clone.run_on(TRAIN)
    clone.run_on(RENAMED, past=[first])
    clone.run_on(OTHER_PEOPLE)
    clone.run_on(replace(TEST, split="0.2 by seed 1"))
    ledger = Ledger()
    ledger.settle(ledger.reserve(BEST, None), BEST.events)
    ledger.reserve(TRAIN, None)  # and whether it ended, nobody knows
    struck = ledger.reserve(TRAIN, None)
    ledger.strike(ledger.entries()[-1].number, "never left the building")
    clone.run_on(TRAIN)
    shutil.copytree("metrics", elsewhere.folder / "metrics")
    here = state(ledger)
    monkeypatch.chdir(elsewhere.folder)
    known = open_ledger()
    assert state(known) == here
    assert here[struck][1] == "never left the building"
    for spend in (TRAIN, RENAMED, OTHER_PEOPLE):
        assert known.total(spend) == pytest.approx(ledger.total(spend))
        assert known.used(spend, BUDGET) == pytest.approx(ledger.used(spend, BUDGET))
    assert state(open_ledger()) == here


def test_a_run_whose_commit_was_squashed_is_known(clone):
    runs = {clone.run_on(TRAIN)}
    commit_all(clone, "first")
    clone.run("git", "switch", "--quiet", "--create", "experiments")
    for number in range(2):
        runs.add(clone.run_on(TRAIN))
        commit_all(clone, f"experiment {number}")
    # And then somebody goes back to the first, whose metrics come from DVC's cache.
    clone.run("git", "checkout", "main", "--", "metrics/train.json")
    write_runs()
    commit_all(clone, "the first was best")
    clone.run("git", "switch", "--quiet", "main")
    clone.run("git", "merge", "--quiet", "--squash", "experiments")
    commit_all(clone, "experiments, squashed")
    clone.forget("experiments")
    assert {entry.run for entry in open_ledger().entries()} == runs


def test_what_the_file_lacks_is_told_before_it_is_pushed(clone):
    ledger = Ledger()
    clone.run_on(TRAIN)
    before = Path(RUNS).read_text()
    assert not untold(ledger.entries())
    run = ledger.reserve(TRAIN, BUDGET, then=TEST)  # the latter is still to come
    assert "lacks 1 of these entries" in untold(ledger.entries())
    ledger.reserve(TEST, None, of=run)
    write_runs()
    assert not untold(ledger.entries())
    Path(RUNS).write_text(before)  # as `dvc exp apply` brings an older one
    assert "lacks 2 of these entries" in untold(ledger.entries())
    Path(RUNS).unlink()
    assert "lacks 3 of these entries" in untold(ledger.entries())
    # Nor is it told of a run that another builds on it.
    (first, *_) = ledger.entries()
    clone.run_on(TRAIN, past=[first.run])
    write_lines([one for one in lines() if one["run"] != first.run])
    assert "lacks 1 of these entries" in untold(ledger.entries())


def test_what_is_to_come_is_not_told(clone):
    ledger = Ledger()
    run = ledger.reserve(TRAIN, BUDGET, then=TEST)
    write_runs()
    assert set(told()) == {run}
    # Of a tuning that dies, trials count one by one.
    sides: dict[Side, Spend] = {"train": BEST, "test": replace(BEST, side="test")}
    with opened(ledger, "tune-a", sides, None) as close:
        begin_trial(ledger, "tune-a-1", TRAIN)
        write_runs()
        assert set(told()) == {run}
        close()
    write_runs()
    assert set(told()) == {run, "tune-a-train", "tune-a-test"}


def test_a_struck_run_that_was_seen_again_counts_once_elsewhere_too(clone, elsewhere, monkeypatch):
    ledger = Ledger()
    run = ledger.reserve(TRAIN, None)
    with ledger.writing() as connection:
        append(connection, kind="strike", run=run, reason="never left the building")
        append_reservation(connection, TRAIN, f"{run}{SEEN}", None, None)
    write_runs()
    shutil.copytree("metrics", elsewhere.folder / "metrics")
    monkeypatch.chdir(elsewhere.folder)
    assert open_ledger().total(TRAIN) == pytest.approx(ledger.total(TRAIN))
    elsewhere.write({"ledger": (Booking(TRAIN, None, ledger, run).record(),)})
    assert open_ledger().total(TRAIN) == pytest.approx(ledger.total(TRAIN))


def test_a_struck_run_that_is_seen_again_counts_for_whoever_entered_the_strike(
    clone, elsewhere, tmp_path, monkeypatch
):
    ledger = Ledger()
    run = ledger.reserve(TRAIN, None)
    ledger.strike(1, "nobody looked")
    last = clone.run_on(TRAIN)
    commit_all(clone, "after the strike")
    elsewhere.run("git", "pull", "--quiet", "--no-rebase", "--allow-unrelated-histories",
                  str(clone.folder), "main")  # fmt: skip
    monkeypatch.chdir(elsewhere.folder)
    assert {one.run: one.struck for one in open_ledger().entries()} == {
        run: "nobody looked",
        last: None,
    }
    # Somebody has kept it all the same, and is found out where it was struck.
    monkeypatch.chdir(clone.folder)
    clone.write({"ledger": (Booking(TRAIN, None, ledger, run).record(),)})
    total = open_ledger().total(TRAIN)
    write_runs()
    clone.run("git", "restore", "metrics/train.json")
    commit_all(clone, "seen, which no metrics tell")
    elsewhere.run("git", "pull", "--quiet", "--no-rebase", str(clone.folder), "main")
    later = made(tmp_path / "later")
    shutil.copytree("metrics", later.folder / "metrics")
    monkeypatch.chdir(later.folder)
    afresh = state(open_ledger())
    monkeypatch.chdir(elsewhere.folder)
    assert state(open_ledger()) == afresh == state(ledger)
    assert open_ledger().total(TRAIN) == pytest.approx(total)
    assert total is not None
    assert total > 1.2 * TRAIN.epsilon


@pytest.mark.parametrize("how", ["pick", "rebase", "squash"])
def test_a_merge_loses_no_line_of_either_side(clone, tmp_path, monkeypatch, how):
    runs = {clone.run_on(TRAIN)}
    commit_all(clone, "first")
    theirs = Clone(tmp_path / "theirs")
    clone.run("git", "clone", "--quiet", ".", str(theirs.folder))
    runs.add(clone.run_on(OTHER_PEOPLE))
    commit_all(clone, "meanwhile")
    monkeypatch.chdir(theirs.folder)
    theirs.run("git", "switch", "--quiet", "--create", "experiment")
    for number in range(2):
        runs.add(theirs.run_on(TRAIN))
        commit_all(theirs, f"experiment {number}")
    theirs.run("git", "fetch", "--quiet", "origin", "main:main")
    # Either way the first of the two has no commit afterwards.
    match how:
        case "rebase":
            theirs.run("git", "rebase", "main", expect=1)
            theirs.run("git", "rebase", "--skip", expect=1)
        case "pick":
            theirs.run("git", "switch", "--quiet", "main")
            theirs.run("git", "cherry-pick", "experiment", expect=1)
        case "squash":
            theirs.run("git", "switch", "--quiet", "main")
            theirs.run("git", "merge", "--squash", "experiment", expect=1)
    assert theirs.run("git", "diff", "--name-only", "--diff-filter=U") == "metrics/train.json\n"
    theirs.run("git", "checkout", "--theirs", "metrics/train.json")
    commit_all(theirs, "the last experiment")
    clone.run("git", "fetch", "--quiet", str(theirs.folder), "HEAD")
    clone.run("git", "reset", "--quiet", "--hard", "FETCH_HEAD")
    monkeypatch.chdir(clone.folder)
    clone.forget()
    assert {entry.run for entry in open_ledger().entries()} == runs


def test_a_commit_that_is_picked_brings_along_all_runs_that_it_knew(clone):
    # Between the lines of what it has in common with the others lie those that only it has.
    first = clone.run_on(TRAIN)
    commit_all(clone, "first")
    clone.run("git", "switch", "--quiet", "--create", "experiment")
    runs = {first, "of a colleague", clone.run_on(TRAIN)}
    commit_all(clone, "not picked")
    clone.run("git", "switch", "--quiet", "main")
    theirs = Path(RUNS).read_text()
    Path(RUNS).write_text(theirs + theirs.replace(first, "of a colleague"))
    commit_all(clone, "what a colleague pushed")
    clone.run("git", "switch", "--quiet", "experiment")
    clone.run("git", "merge", "--quiet", "main")
    open_ledger()
    write_runs()
    commit_all(clone, "written anew")
    runs.add(clone.run_on(TRAIN))
    commit_all(clone, "picked")
    clone.run("git", "switch", "--quiet", "main")
    clone.run("git", "cherry-pick", "experiment", expect=1)
    assert clone.run("git", "diff", "--name-only", "--diff-filter=U") == "metrics/train.json\n"
    clone.run("git", "checkout", "--theirs", "metrics/train.json")
    commit_all(clone, "the last experiment")
    clone.forget("experiment")
    assert {entry.run for entry in open_ledger().entries()} == runs


def test_an_edition_of_the_file_is_the_same_as_long_as_the_ledger_is(clone):
    clone.run_on(TRAIN)
    before = Path(RUNS).read_text()
    write_runs()
    assert Path(RUNS).read_text() == before
    clone.run_on(TRAIN)
    assert not {*before.splitlines()} & {*Path(RUNS).read_text().splitlines()}


def test_what_a_merge_left_between_runs_hides_none(clone):
    runs = {clone.run_on(TRAIN), clone.run_on(TRAIN)}
    first, second = Path(RUNS).read_text().splitlines()
    unresolved = ("<<<<<<< HEAD", first, "=======", second, ">>>>>>> experiment", "")
    Path(RUNS).write_text("\n".join(unresolved))
    Path("metrics/train.json").unlink()
    commit_all(clone, "accepted both")
    clone.forget()
    assert {entry.run for entry in open_ledger().entries()} == runs


def test_a_run_is_whole_whatever_is_in_its_names(clone):
    run = clone.run_on(replace(TRAIN, unit="person by patient\u2028id"))
    Path("metrics/train.json").unlink()
    commit_all(clone, "with what Unicode takes for the end of a line")
    clone.forget()
    assert {entry.run for entry in open_ledger().entries()} == {run}


def test_runs_as_a_version_before_told_them_are_known(clone):
    run = clone.run_on(TRAIN)
    Path(FORMER_RUNS).write_text(json.dumps({"runs": lines()}, indent=2))
    Path(RUNS).unlink()
    Path("metrics/train.json").unlink()
    commit_all(clone, "as before")
    clone.forget()
    assert {entry.run for entry in open_ledger().entries()} == {run}


def test_runs_that_git_keeps_elsewhere_are_asked_for(clone):
    Path("metrics").mkdir()
    Path(RUNS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    commit_all(clone, "by LFS")
    with pytest.raises(UserError, match="git lfs install"):
        open_ledger()


def test_a_run_that_counts_here_counts_once_though_it_was_struck_and_seen_elsewhere(
    clone, elsewhere, monkeypatch
):
    run = clone.run_on(TRAIN)
    shutil.copytree("metrics", elsewhere.folder / "metrics")
    monkeypatch.chdir(elsewhere.folder)
    total = open_ledger().total(TRAIN)
    monkeypatch.chdir(clone.folder)
    with Ledger().writing() as connection:
        append(connection, kind="strike", run=run, reason="wrongly")
    write_runs()
    assert set(told()) == {run, f"{run}{SEEN}"}
    shutil.copy(RUNS, elsewhere.folder / RUNS)
    monkeypatch.chdir(elsewhere.folder)
    assert open_ledger().total(TRAIN) == total


def test_what_a_ledger_knew_of_a_run_is_no_metrics_of_its_own(clone):
    # So it can be struck where nobody has seen it, stays struck, and is struck for who comes later.
    first = open_ledger().reserve(TRAIN, None)
    second = clone.run_on(TRAIN)
    commit_all(clone, "of which the first was before")
    strike(1, "interrupted, and nobody has seen it")
    open_ledger()
    with pytest.raises(UserError, match="it can be seen"):
        strike(open_ledger().entries()[1].number, "no")
    third = clone.run_on(TRAIN)
    commit_all(clone, "after it")
    clone.forget()
    now = {entry.run: entry.struck for entry in open_ledger().entries()}
    assert now == {first: "interrupted, and nobody has seen it", second: None, third: None}


def test_a_run_that_one_side_of_a_merge_struck_counts_as_long_as_the_other_counts_it(
    clone, tmp_path, monkeypatch
):
    # As where a folder was copied with its ledger, and a bundle of the run made in the copy.
    run = open_ledger().reserve(TRAIN, None)
    write_runs()
    commit_all(clone, "before the copy")
    copy = Clone(tmp_path / "copy")
    shutil.copytree(clone.folder, copy.folder)
    strike(open_ledger().entries()[-1].number, "nobody saw it")
    write_runs()
    commit_all(clone, "struck")
    later = Clone(tmp_path / "later")
    clone.run("git", "clone", "--quiet", ".", str(later.folder))
    monkeypatch.chdir(copy.folder)
    open_ledger().reserve(OTHER_PEOPLE, None)
    write_runs()
    commit_all(copy, "counted")
    monkeypatch.chdir(later.folder)
    assert {one.run: one.struck for one in open_ledger().entries()} == {run: "nobody saw it"}
    (later.folder / "privacy-ledger.sqlite").unlink()
    later.run("git", "pull", "--quiet", "--no-rebase", str(copy.folder), "main")
    struck = {one.run: one.struck for one in open_ledger().entries()}
    assert struck[run] is None


def test_only_who_made_a_run_strikes_it(clone, elsewhere, monkeypatch):
    # As where a colleague has an experiment of it, which nobody pushed.
    theirs = clone.run_on(TRAIN)
    runs = Path(RUNS).read_text()
    monkeypatch.chdir(elsewhere.folder)
    Path(RUNS).parent.mkdir()
    Path(RUNS).write_text(runs)
    commit_all(elsewhere, "what was pulled of them")
    (entry,) = open_ledger().entries()
    with pytest.raises(UserError, match="Strike a run where it was made"):
        strike(entry.number, "no such experiment here")
    own = open_ledger().reserve(TRAIN, None)
    write_runs()
    commit_all(elsewhere, "and what was interrupted here")
    strike(open_ledger().entries()[-1].number, "interrupted")
    assert {one.run: one.struck for one in open_ledger().entries()} == {
        theirs: None,
        own: "interrupted",
    }


def test_what_can_be_seen_counts_whoever_struck_it(clone):
    run = clone.run_on(TRAIN)
    commit_all(clone, "seen")
    with Ledger().writing() as connection:
        append(connection, kind="strike", run=run, reason="wrongly")
    (one,) = lines()
    write_lines([one | {"struck": "wrongly"}])
    commit_all(clone, "and struck")
    write_runs()
    assert told() == {run: "wrongly", f"{run}{SEEN}": None}
    commit_all(clone, "and seen since")
    clone.forget()
    assert {entry.run: entry.struck for entry in open_ledger().entries()} == {run: None}


def test_by_all_the_names_that_a_table_had_its_people_are_known_elsewhere(clone):
    # The old name is a link by now, which Git does not have.
    first = clone.run_on(TRAIN)
    commit_all(clone, "first")
    Path("2026.csv").write_text("")
    Path("patients.csv").symlink_to("2026.csv")
    second = clone.run_on(replace(RENAMED, data="2026.csv"))
    total = Ledger().total(replace(TRAIN, data="2026.csv"))
    Path("patients.csv").unlink()
    commit_all(clone, "second")
    clone.forget()
    ledger = open_ledger()
    assert {entry.run for entry in ledger.entries()} == {first, second}
    assert ledger.total(replace(TRAIN, data="2026.csv")) == pytest.approx(total)


def test_a_name_of_another_machine_takes_nothing_from_the_names_that_a_run_told_itself(clone):
    first = clone.run_on(TRAIN)
    (one,) = lines()
    write_lines([one | {"read": one["read"] | {"data": "/home/theirs/project/patients.csv"}}])
    commit_all(clone, "as where that is another folder of Git's repository")
    clone.forget()
    ledger = open_ledger()
    assert [entry.run for entry in ledger.entries()] == [first]
    for name in ("patients.csv", "/home/theirs/project/patients.csv"):
        assert ledger.total(replace(TRAIN, data=name, fingerprint="edited since")) == 3.1


def test_a_table_beside_the_project_has_a_name_that_another_clone_can_read(clone, monkeypatch):
    (clone.folder / "project").mkdir()
    monkeypatch.chdir(clone.folder / "project")
    ledger = open_ledger()
    for place in (clone.folder / "beside/table.csv", "/elsewhere/table.csv"):
        ledger.reserve(replace(TRAIN, data=str(place)), None)
    write_runs()
    names = [one["read"]["data"] for one in lines()]
    assert names == ["../beside/table.csv", "/elsewhere/table.csv"]


def test_a_trial_that_was_committed_from_a_tuning_that_died_counts_once_elsewhere(clone):
    ledger = open_ledger()
    trial = Booking(BEST, None, ledger, "tune-a-train", trial="tune-a-1")
    with ledger.writing() as connection:  # as closing it leaves it
        append_reservation(connection, BEST, "tune-a-train", None, None)
        append_reservation(connection, TRAIN, "tune-a-1-train", None, "tune-a")
        append(connection, kind="strike", run="tune-a-train", reason="the tuning died")
    write_runs()
    clone.write({"ledger": (trial.record(),)})
    commit_all(clone, "the best so far")
    clone.forget()
    entries = open_ledger().entries()
    assert {one.run: one.spend.events for one in entries if one.struck is None} == {
        "tune-a-1-train": TRAIN.events
    }


def test_a_run_that_joins_two_tables_joins_them_elsewhere_though_it_was_struck(clone):
    clone.run_on(TRAIN)
    commit_all(clone, "first")
    ledger = Ledger()
    ledger.reserve(replace(RENAMED, fingerprint=TRAIN.fingerprint), None)
    ledger.strike(ledger.entries()[-1].number, "interrupted")
    clone.run_on(RENAMED)
    total = ledger.total(RENAMED)
    commit_all(clone, "of the renamed table, edited since")
    clone.forget()
    assert open_ledger().total(RENAMED) == pytest.approx(total)
    assert total is not None
    assert total > 1.2 * TRAIN.epsilon


def test_its_own_metrics_tell_of_a_run_rather_than_others(clone):
    clone.run_on(TRAIN)
    commit_all(clone, "first")
    commit = clone.run("git", "rev-parse", "HEAD").strip()
    clone.run_on(TRAIN)
    commit_all(clone, "second")
    clone.forget()
    assert open_ledger().entries()[0].revision == commit


def test_what_a_run_was_made_from_and_read_the_same_table_is_of_that_table(clone):
    # The one before is on record nowhere, but the deal says that both read the same.
    ledger = Ledger(clone.folder / "elsewhere.sqlite")
    booking = Booking(TRAIN, None, ledger, ledger.reserve(TRAIN, None))
    deals = {"before": 2, "of another table": 1, booking.run: 2}
    spend = PublicSpend(**TRAIN.public())
    releases = [
        Record(run=run, spend=spend.model_copy(update={"deal": deals[run]})) for run in deals
    ]
    clone.write({"ledger": (booking.record(),), "releases": releases})
    read = {entry.run: entry.spend.fingerprint for entry in open_ledger().entries()}
    assert read.pop("of another table").startswith("unknown")
    assert read == {"before": "one", booking.run: "one"}
