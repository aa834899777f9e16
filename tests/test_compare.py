"""Comparing runs: the table, the picture and the frame are of the revisions that were asked for."""

import sys

import pytest

from stages.errors import UserError
from stages.evaluation.result import EvaluateResult, PlusMinus
from stages.reporting.comparison import draw, runs, table
from stages.training.result import TrainResult
from tests.conftest import ROOT, commit_all, copy_project

FIGURES = EvaluateResult(
    figures={"accuracy": 0.93, "base_rate": 0.78, "gain": 0.15, "loss": 0.25},
    plus_minus={
        "accuracy": PlusMinus(new_patients=0.03, noise=0.02),
        "gain": PlusMinus(new_patients=0.04, noise=0.03),
        "loss": PlusMinus(new_patients=0.06, noise=0.05),
    },
    confusion_matrix=[[150.0, 6.0], [8.0, 36.0]],
    epsilon=3.5,
    epsilon_overall=3.5,
    epsilon_total=7.0,
)
PUBLIC = FIGURES.model_copy(
    update={
        "figures": {"accuracy": 0.8, "base_rate": 0.78, "gain": 0.02, "loss": 0.25},
        "epsilon_overall": 1.0,
        "epsilon_total": 1.0,
    }
)
SIMULATED = FIGURES.model_copy(
    update={"epsilon_overall": None, "no_guarantee": "simulation_seed is set"}
)
WIDEST = FIGURES.model_copy(
    update={
        "figures": {"accuracy": 1.0, "loss": 10.125},
        "plus_minus": {
            "accuracy": PlusMinus(new_patients=0.999, noise=0.999),
            "loss": PlusMinus(new_patients=10.125, noise=10.125),
        },
        "epsilon_overall": 0.0012345,
    }
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A repository with a run in its first commit and another in the workspace."""
    project = copy_project(tmp_path_factory.mktemp("report") / "project")
    project.run("git", "init", "--quiet", "--initial-branch=main")
    commit_all(project, "no run yet")
    project.run("git", "tag", "start")
    TrainResult.read(ROOT).write(project.folder)
    (project.folder / EvaluateResult.path).write_text("{}")
    commit_all(project, "something else in the place of a run")
    project.run("git", "tag", "foreign")
    PUBLIC.write(project.folder)
    commit_all(project, "a run")
    FIGURES.write(project.folder)
    return project


def compare(project, *arguments, expect=0):
    return project.run(sys.executable, "-m", "stages.compare", *arguments, expect=expect)


def test_revisions_are_compared_with_the_workspace(compared):
    assert compare(compared, "--rev", "main").splitlines() == [
        "| revision  | accuracy     | noise  | base rate | log loss      | ε   | all runs |",
        "| --------- | ------------ | ------ | --------- | ------------- | --- | -------- |",
        "| workspace | 93.0% ± 3.0% | ± 2.0% | 78.0%     | 0.250 ± 0.060 | 3.5 | 7        |",
        "| main      | 80.0% ± 3.0% | ± 2.0% | 78.0%     | 0.250 ± 0.060 | 1   | 1        |",
        "",
        "main: not distinguishable from always saying the largest class",
        "",
        "report: plots/report.html",
    ]


def test_without_revisions_it_is_the_workspace_alone(compared):
    assert [line.split()[1] for line in compare(compared).splitlines() if "±" in line] == [
        "workspace"
    ]


def test_a_line_has_at_most_100_columns():
    lines = table({"a-branch-with-a-name-that-takes-too-much": WIDEST})
    assert max(len(line) for line in lines) <= 100
    assert "| a-branch-with-a-… | 100.0%" in lines[-1]


def test_a_picture_is_drawn(compared):
    compare(compared, "--rev", "main", "--picture", "picture.png")
    assert (compared.folder / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_without_a_point_is_refused(tmp_path):
    with pytest.raises(UserError, match="none of these runs makes a promise"):
        draw({"workspace": SIMULATED}, tmp_path / "picture.png")


def test_an_experiment_is_found_by_its_name(compared):
    head = compared.run("git", "rev-parse", "HEAD").strip()
    compared.run("git", "update-ref", f"refs/exps/aa/{head[2:]}/brave-vole", head)
    lines = compare(compared, "--rev", "brave-vole").splitlines()
    assert [line.split(" | ")[5].strip() for line in lines if "| brave-vole" in line] == ["1"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere", "there is none of that name"),
        ("start", "is not part of it"),
        ("foreign", "`confusion_matrix`: Field required"),
    ],
)
def test_a_revision_without_a_run_is_refused(compared, name, told):
    message = compare(compared, "--rev", name, expect=1)
    assert message.startswith(f"error: --rev {name}: ")
    assert told in message
    assert "Traceback" not in message


def test_a_simulation_is_listed_but_makes_no_promise():
    lines = table({"workspace": SIMULATED})
    (row,) = (line for line in lines if line.startswith("| workspace | 93.0%"))
    assert "| none |" in row
    assert "workspace: no promise: simulation_seed is set" in lines[-1]


def test_a_run_of_an_earlier_version_tells_its_noise_alone():
    old = {
        "figures": {"accuracy": 0.93, "loss": 0.25},
        "interval": {"accuracy": 0.006, "loss": 0.05},
        "confusion_matrix": [[150.0, 6.0], [8.0, 36.0]],
        "epsilon": 3.5,
        "epsilon_overall": 3.5,
    }
    test = EvaluateResult.of({"evidence": [old]})
    assert test.off("accuracy") == PlusMinus(new_patients=None, noise=0.006)
    assert (test.base_rate, test.is_guessing) == (0.78, False)
    lines = table({"old": test})
    assert "| old      | 93.0% ± 0.6% | ± 0.6% | 78.0% " in lines[2]
    assert lines[-1] == "\nold: of an earlier version, whose ± is the noise alone"


def test_notebooks_get_every_released_figure(compared, monkeypatch):
    pytest.importorskip("pandas")
    monkeypatch.chdir(compared.folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    frame, train = runs("main"), TrainResult.read(compared.folder)
    assert frame.index.name == "revision"
    assert [*frame.index] == ["workspace", "main"]
    assert frame.loc["workspace", "accuracy"] == 0.93
    assert frame.loc["main", "accuracy"] == 0.8
    assert frame.loc["main", "accuracy_new_patients"] == 0.03
    assert frame.loc["main", "accuracy_noise"] == 0.02
    assert frame.loc["main", "base_rate"] == 0.78
    assert frame.loc["main", "train_loss"] == train.loss
    assert frame.loc["main", "train_loss_noise"] == 2 * train.loss_noise
    assert [*frame["epsilon"]] == [3.5, 1.0]
    assert [*frame["epsilon_total"]] == [7.0, 1.0]


@pytest.mark.parametrize("module", ["compare", "publish", "plot"])
def test_help_helps_and_what_is_unknown_is_refused_before_anything_happens(compared, module):
    before = {path: path.stat().st_mtime_ns for path in compared.folder.rglob("*.*")}
    command = (sys.executable, "-B", "-m", f"stages.{module}")
    said = compared.run(*command, "--help")
    assert f"example:\n  python -m stages.{module}" in said
    assert "--unheard-of" in compared.run(*command, "folder", "--unheard-of", expect=2)
    assert {path: path.stat().st_mtime_ns for path in compared.folder.rglob("*.*")} == before
