"""Mistakes of the user, made for real: one message, exit status 1, nothing left behind."""

import pytest

from tests.conftest import copy_project, told


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A project whose table is prepared, so that the train stage can start."""
    project = copy_project(tmp_path_factory.mktemp("prepared") / "project")
    project.stage("preprocess")
    return project


@pytest.fixture
def train_refuses(prepared):
    """Return a function that sets parameters, runs `train` and returns its message."""
    original = (prepared.folder / "params.yaml").read_text()

    def refuse(**params):
        prepared.set(**params)
        message = prepared.refused("train")
        for output in ("models", "metrics", "plots"):
            assert not (prepared.folder / output).exists()
        return message

    yield refuse
    (prepared.folder / "params.yaml").write_text(original)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("target_epsilon", 0, "should be greater than 0, but is 0"),
        ("target_epsilon", -1, "should be greater than 0, but is -1"),
        ("target_epsilon", "strong", "should be a valid number"),
        ("target_delta", 1, "should be less than 1, but is 1"),
        ("batch_size", 0, "should be greater than or equal to 1 or `auto`, but is 0"),
        ("activation", "gelu", "should be 'relu' or 'tanh' or `auto`, but is 'gelu'"),
        ("momentum", 1, "should be less than 1 or `auto`, but is 1"),
        ("hidden_sizes", 128, "should be a valid list, but is 128"),
    ],
)
def test_a_value_out_of_range_is_refused_by_whichever_stage_comes_first(project, name, value, told):
    project.set(**{name: value})
    message = project.refused("preprocess")
    assert f"`{name}`" in message
    assert told in message
    assert not (project.folder / "data/prepared").exists()


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"target_delta": 0.001}, ["`target_delta`", "below 0.8 / `train_size`", "0.001"]),
        ({"batch_size": 2000}, ["`batch_size`", "at most `train_size` (1070)", "2000"]),
        ({"target_epsilon": 0.0001}, ["`target_epsilon`", "too small for 150 steps", "`epochs`"]),
        ({"mode": "continue"}, ["`mode: continue`, and only it, needs `continue_from`"]),
    ],
)
def test_a_plan_that_cannot_be_is_refused_before_training(train_refuses, params, told):
    message = train_refuses(**params)
    for words in told:
        assert words in message


def test_the_true_size_of_the_training_side_is_not_told(train_refuses, prepared):
    message = train_refuses(train_size=2000, batch_size=2001)
    header = (prepared.folder / "data/prepared/train_labels.npy").read_bytes()[:128]
    true_size = header.split(b"'shape': (")[1].split(b",")[0].decode()
    assert true_size not in message


def test_a_misspelt_parameter_is_corrected(project):
    path = project.folder / "params.yaml"
    path.write_text(path.read_text().replace("target_epsilon:", "target_epsilom:"))
    message = project.refused("preprocess")
    assert "`target_epsilom` is not understood here: perhaps `target_epsilon` is meant" in message
    assert "`target_epsilon` is missing" in message


@pytest.mark.parametrize(
    ("stage", "missing"),
    [
        ("train", "data/prepared/about.json"),
        ("evaluate", "models/classifier"),
        ("plot", "models/classifier"),
    ],
)
def test_a_stage_without_its_inputs_says_how_to_make_them(project, stage, missing):
    message = project.refused(stage)
    assert missing in message
    assert "dvc repro" in message


def test_metrics_in_the_middle_of_a_merge_are_said_to_be(project):
    (project.folder / "metrics").mkdir()
    (project.folder / "metrics/train.json").write_text("<<<<<<< ours\n{}\n=======\n")
    assert "If a merge left both versions" in project.refused("compare")


def test_a_refusal_says_how_the_previous_outputs_come_back(project):
    project.set(target_epsilon=0)
    assert (
        "git restore --staged --worktree dvc.lock metrics plots && dvc checkout"
        in project.refused("train")
    )


def test_a_run_that_is_not_private_says_so_in_its_metrics(prepared, tmp_path):
    original = (prepared.folder / "params.yaml").read_text()
    prepared.set(simulation_seed=1, epochs=2)
    assert "no privacy guarantee" in prepared.stage("train")
    metrics = told(prepared, "train")
    assert metrics["epsilon"] is None
    assert metrics["no_guarantee"] == "simulation_seed is set"
    (prepared.folder / "params.yaml").write_text(original)
    for output in ("models", "metrics", "plots"):
        (prepared.folder / output).rename(tmp_path / output)
