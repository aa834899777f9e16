"""Comparing runs: the table and the picture are of the revisions that were asked for."""

import json
import sys

import pytest

from stages import compare as report
from tests.conftest import commit_all, copy_project

FIGURES = {
    "accuracy": 0.93,
    "loss": 0.25,
    "interval": {"accuracy": 0.02, "loss": 0.05},
    "epsilon_overall": 3.5,
    "epsilon_total": 7.0,
}
PUBLIC = {**FIGURES, "epsilon_overall": 1.0, "accuracy": 0.8, "epsilon_total": 1.0}
SIMULATED = {**FIGURES, "epsilon_overall": None, "no_guarantee": "simulation_seed is set"}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A repository with a run in its first commit and another in the workspace."""
    project = copy_project(tmp_path_factory.mktemp("report") / "project")
    project.run("git", "init", "--quiet", "--initial-branch=main")
    commit_all(project, "no run yet")
    project.run("git", "tag", "start")
    write(project, PUBLIC)
    commit_all(project, "a run")
    write(project, FIGURES)
    return project


def write(project, metrics):
    path = project.folder / "metrics/evaluate.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(metrics))


def compare(project, *arguments, expect=0):
    return project.run(sys.executable, "-m", "stages.compare", *arguments, expect=expect)


def test_revisions_are_compared_with_the_workspace(compared):
    assert compare(compared, "--rev", "main").splitlines() == [
        "| revision | ε | accuracy | log loss | ε of all runs by then |",
        "| --- | --- | --- | --- | --- |",
        "| workspace | 3.5 | 93.0% ± 2.0% | 0.250 ± 0.050 | 7 |",
        "| main | 1 | 80.0% ± 2.0% | 0.250 ± 0.050 | 1 |",
    ]


def test_a_picture_is_drawn(compared):
    compare(compared, "--rev", "main", "--picture", "picture.png")
    assert (compared.folder / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_an_experiment_is_found_by_its_name(compared):
    head = compared.run("git", "rev-parse", "HEAD").strip()
    compared.run("git", "update-ref", f"refs/exps/aa/{head[2:]}/brave-vole", head)
    assert "| brave-vole | 1 |" in compare(compared, "--rev", "brave-vole")


@pytest.mark.parametrize(
    ("name", "told"), [("nowhere", "there is none of that name"), ("start", "is not part of it")]
)
def test_a_revision_without_a_run_is_refused(compared, name, told):
    message = compare(compared, "--rev", name, expect=1)
    assert message.startswith(f"error: --rev {name}: ")
    assert told in message
    assert "Traceback" not in message


def test_a_simulation_is_listed_but_makes_no_promise():
    lines = report.table({"workspace": SIMULATED})
    assert "| workspace | no promise: simulation_seed is set | 93.0%" in lines[-1]
