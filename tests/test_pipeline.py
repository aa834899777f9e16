"""The real `dvc repro` and `dvc exp run`, in a temporary clone."""

import csv
import hashlib
import json
import shutil

import pytest

from stages.books.told import RUNS
from stages.training.curves import ending, from_csv
from tests.conftest import Project, told


@pytest.fixture(scope="module")
def clone(default_run, tmp_path_factory):
    """A copy of the default run, which the tests go on with one after the other."""
    return Project(shutil.copytree(default_run.folder, tmp_path_factory.mktemp("clone") / "copy"))


def digest(project, path="models/classifier/weights.safetensors"):
    return hashlib.sha256((project.folder / path).read_bytes()).hexdigest()


def test_a_run_leaves_model_metrics_and_plots(clone):
    train, test = told(clone, "train"), told(clone, "evaluate")
    assert 0.99 * 3.5 < train["epsilon"] <= 3.5
    assert test["epsilon_overall"] == max(train["epsilon"], test["epsilon"]) <= 3.5
    # On every split of the sample the classifier that only looks at `smoker` reaches 0.9.
    assert test["figures"]["accuracy"] > 0.85
    for name in ("training", "confusion_matrix", "roc", "calibration"):
        assert (clone.folder / f"plots/{name}.png").read_bytes().startswith(b"\x89PNG")
    with (clone.folder / "plots/training.csv").open() as file:
        epochs = from_csv(list(csv.DictReader(file)))
    for name in ("accuracy", "loss"):
        assert ending(epochs, name) == (train[name], train[f"{name}_noise"])
    epsilons = [epoch["epsilon"] for epoch in epochs]
    # Full batches, so that an epoch is a step; of 150 steps the last 8 calibrate.
    assert (len(epsilons), train["steps"]) == (142, 150)
    assert epsilons == sorted(epsilons)
    assert epsilons[-1] == train["epsilon"]


def test_git_carries_metrics_and_plots_and_dvc_the_rest(clone):
    tracked = clone.run("git", "ls-files").split()
    assert {"metrics/train.json", "metrics/evaluate.json", "plots/roc.png", "dvc.lock"} <= {
        *tracked
    }
    assert not [path for path in tracked if path.startswith(("models/c", "data/prepared"))]


def test_a_second_repro_runs_nothing(clone):
    before = digest(clone)
    assert "Running stage" not in clone.run("dvc", "repro")
    assert digest(clone) == before


def test_going_back_restores_the_old_model_without_training(clone):
    first = digest(clone)
    # In a simulation, so that this detour through another model is quick and harmless.
    clone.run("dvc", "exp", "run", "-S", "epochs=2", "-S", "simulation_seed=1")
    assert digest(clone) != first
    output = clone.run("dvc", "exp", "run", "-S", "epochs=auto", "-S", "simulation_seed=null")
    assert "'train' is cached" in output or "Running stage 'train'" not in output
    assert digest(clone) == first
    clone.run("git", "checkout", "--force", "--quiet", ".")


# What a reader of DVC's own tables has: their columns are cut or wrapped beyond this width.
WIDTH = 120


# Of two experiments, the first above and the last far below the default.
EXPERIMENTS = {"less-private": 8.0, "more-private": 0.25}


@pytest.fixture(scope="module")
def experimented(default_run, tmp_path_factory):
    """A copy of the default run with two experiments, of which the workspace has the last."""
    folder = tmp_path_factory.mktemp("experimented") / "copy"
    project = Project(shutil.copytree(default_run.folder, folder))
    for name, epsilon in EXPERIMENTS.items():
        project.run("dvc", "exp", "run", "--name", name, "-S", f"target_epsilon={epsilon}")
    return project


def test_experiments_meet_their_epsilon(experimented):
    for name, epsilon in EXPERIMENTS.items():
        (commit,) = experimented.run(
            "git", "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}"
        ).split()
        train, test = (
            json.loads(experimented.run("git", "show", f"{commit}:metrics/{stage}.json"))
            for stage in ("train", "evaluate")
        )
        assert 0.99 * epsilon < train["evidence"][0]["epsilon"] <= epsilon
        assert test["epsilon"] <= epsilon
    assert "target_epsilon" in experimented.run("dvc", "params", "diff")
    assert "test_accuracy" in experimented.run("dvc", "metrics", "diff")


def tables_of(project):
    env = {"COLUMNS": str(WIDTH)}
    yield project.run("dvc", "metrics", "show", env=env)
    yield project.run("dvc", "metrics", "diff", env=env)
    yield project.run("dvc", "params", "diff", env=env)
    yield project.run("dvc", "exp", "show", "--only-changed", "--no-pager", env=env)


def is_readable(table):
    """Whether no line is wider than a screen, no column is left out and no cell is cut."""
    return "…" not in table and all(len(line) <= WIDTH for line in table.splitlines())


def test_the_tables_of_dvc_are_readable_after_two_experiments(experimented):
    metrics, *rest, experiments = tables_of(experimented)
    assert [table for table in (metrics, *rest, experiments) if not is_readable(table)] == []
    shown = {"epsilon", "test_accuracy", "test_loss"}
    assert set(metrics.split("\n")[0].split()) == {"Path", *shown}
    for name in (*shown, "target_epsilon", *(f"[{name}]" for name in EXPERIMENTS)):
        assert name in experiments


def test_a_table_that_is_cut_is_seen(experimented):
    (experimented.folder / "metrics/evaluate.json").write_text(
        json.dumps({f"a_figure_of_the_test_side_{n}": n for n in range(6)})
    )
    assert not is_readable([*tables_of(experimented)][-1])


def test_experiments_run_elsewhere_and_show_up(clone):
    clone.run("git", "checkout", "--force", "--quiet", ".")
    clone.run("dvc", "exp", "run", "--temp", "--name", "temp", "-S", "epochs=3")
    clone.run("dvc", "exp", "run", "--queue", "--name", "queued", "-S", "epochs=4")
    clone.run("dvc", "queue", "start")
    clone.finish_queue()
    shown = clone.run("dvc", "exp", "show", "--csv")
    assert "temp" in shown
    assert "queued" in shown
    page = clone.run("dvc", "plots", "diff", "HEAD", "temp")
    assert "index.html" in page


def test_what_runs_jsonl_alone_tells_is_in_it_when_it_is_written_anew(copied_run):
    runs = copied_run.folder / RUNS
    lines = runs.read_text().splitlines()
    assert len(lines) >= 2
    theirs = json.loads(lines[0]) | {"run": "of a branch that was squashed"}
    runs.write_text("\n".join([*lines, json.dumps(theirs)]))
    copied_run.run("dvc", "repro", "--force", "--single-item", "plot")
    assert "of a branch that was squashed" in runs.read_text()


def test_reruns_of_the_same_parameters_differ(clone):
    clone.run("dvc", "checkout", "--force")
    first = digest(clone)
    clone.run("dvc", "repro", "--force", "--single-item", "train")
    assert digest(clone) != first
