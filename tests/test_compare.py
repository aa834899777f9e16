"""Comparing runs: the table, the picture and the frame are of the revisions that were asked for."""

import shutil
import sys
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from stages.errors import UserError
from stages.evaluation.layout import Layout
from stages.evaluation.result import EvaluateResult, PlusMinus
from stages.evaluation.tables import score_rows
from stages.files import write_csv
from stages.reporting import comparison
from stages.reporting.comparison import apart, draw, results_at, runs, subject_of, table
from stages.training.result import TrainResult
from stages.versions.files import WORKSPACE
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
    shutil.copy(ROOT / "dvc.lock", project.folder)
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
        draw({"a table": {"workspace": SIMULATED}}, tmp_path / "picture.png")


@pytest.mark.parametrize("name", ["picture.jpg", "picture", "notes.md", "plots"])
def test_a_name_that_is_no_pictures_is_refused_before_anything_is_read(compared, name):
    message = compare(compared, "--rev", "nowhere", "--picture", name, expect=1)
    assert f"--picture {name}: expected the name of a file that ends in .png" in message
    assert not (compared.folder / name).exists()


def drawn(groups, tmp_path, monkeypatch):
    """The axes of a picture."""
    kept = []
    monkeypatch.setattr(comparison, "save", lambda figures, _: kept.extend(figures))
    draw(groups, tmp_path / "picture.png")
    (axes,) = kept[0].axes
    return axes


def boxes(axes):
    """Where the names of points stand in a drawing."""
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    return [Text.get_window_extent(text, renderer) for text in axes.texts]


def overlaps(found):
    return [(one, other) for one, other in combinations(found, 2) if one.overlaps(other)]


def test_names_of_runs_that_are_close_do_not_overlap(tmp_path, monkeypatch):
    runs_alike = {f"run-{number}": FIGURES for number in range(8)} | {"public": PUBLIC}
    axes = drawn({"a table": runs_alike}, tmp_path, monkeypatch)
    assert len(axes.texts) == 9
    assert overlaps(boxes(axes)) == []
    for text in axes.texts:
        text.set_position((1.03, 90))
    assert overlaps(boxes(axes))


def test_heights_are_moved_no_further_than_they_must_be():
    assert apart([1, 5, 9], 2, 0, 10) == [1, 5, 9]
    assert apart([5, 5, 5], 2, 0, 10) == [5, 7, 9]
    assert apart([9, 9.5, 10], 2, 0, 10) == [6, 8, 10]


def test_runs_about_other_things_share_no_title_and_no_look(tmp_path, monkeypatch):
    alone = drawn({"a": {"workspace": FIGURES}}, tmp_path, monkeypatch)
    assert alone.get_title(loc="left") == "93.0% right at ε = 3.5"
    groups = {"a": {"workspace": FIGURES}, "b": {"main": PUBLIC}}
    axes = drawn(groups, tmp_path, monkeypatch)
    assert "right at" not in axes.get_title(loc="left")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert len({bars[0].get_color() for bars in axes.containers}) == 2
    # Each has its own line for guessing, and no line joins two points.
    assert [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [78, 78]
    assert all(len(bars[0].get_xdata()) == 1 for bars in axes.containers)


def test_runs_on_another_table_or_label_have_a_table_of_their_own(compared):
    lock = compared.folder / "dvc.lock"
    before = lock.read_text()
    lock.write_text(before.replace("data: data/sample_medical_data.csv", "data: data/other.csv"))
    try:
        lines = compare(compared, "--rev", "main").splitlines()
    finally:
        lock.write_text(before)
    titles = [line for line in lines if line.startswith("data/")]
    assert [title.split(": ")[0] for title in titles] == [
        "data/other.csv",
        "data/sample_medical_data.csv",
    ]
    assert sum(line.startswith("| revision") for line in lines) == 2
    rows = {line.split()[1]: number for number, line in enumerate(lines) if "±" in line}
    assert rows["workspace"] < lines.index(titles[1]) < rows["main"]


def test_another_label_is_another_subject(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plots").mkdir()
    subjects = []
    for classes in (("no", "yes"), ("low", "high"), ("a", "b", "other")):
        layout = Layout(len(classes), np.array([3]))
        table = layout.table(np.zeros(layout.size))
        write_csv("plots/test_counts.csv", score_rows(table, classes))
        subjects.append(subject_of("workspace"))
    assert [subject.split(": ")[1] for subject in subjects] == [
        *("no / yes", "low / high", "a / b / other")
    ]


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


def test_a_model_beside_the_figures_of_another_is_refused(compared, tmp_path, monkeypatch):
    # As where `evaluate` is frozen, or failed.
    (own,) = EvaluateResult.read(ROOT).ledger
    monkeypatch.chdir(tmp_path)
    TrainResult.read(ROOT).write()
    FIGURES.model_copy(update={"ledger": (own,)}).write()
    assert results_at(WORKSPACE)[1].ledger == (own,)
    another = own.model_copy(update={"measures": "another"})
    FIGURES.model_copy(update={"ledger": (another,)}).write()
    with pytest.raises(UserError, match=r"measured another model than that of metrics/train\.json"):
        results_at(WORKSPACE)


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
