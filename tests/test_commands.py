"""Every module that is run answers --help, refuses what it does not know, and can be stopped."""

import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from stages.commands import run
from stages.files import write_json
from stages.model.files import save_model
from stages.model.perceptron import Model
from stages.training.checkpoint import NOTHING
from tests.conftest import ENVIRONMENT, ROOT, copy_project

MODULES = sorted(
    path.stem
    for path in (ROOT / "stages").glob("*.py")
    if 'if __name__ == "__main__":' in path.read_text()
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = copy_project(tmp_path_factory.mktemp("commands") / "project")
    made.run("git", "init", "--quiet")
    return made


def contents(project):
    """What is in a project's files, the ledger's included, but for Python's own cache."""
    return {
        path: hashlib.sha256(path.read_bytes()).digest()
        for path in project.folder.rglob("*")
        if path.is_file() and not {".git", "__pycache__"} & set(path.parts)
    }


def test_the_modules_that_are_run_are_these():
    assert set(MODULES) == {
        *("preprocess", "train", "evaluate", "plot", "launch"),
        *("compare", "ledger", "predict", "publish", "schema", "tune"),
    }


@pytest.mark.parametrize("module", MODULES)
def test_help_is_told_and_nothing_is_done(project, module):
    before = contents(project)
    said = project.run(sys.executable, "-m", f"stages.{module}", "--help")
    assert said.startswith(f"usage: python -m stages.{module} ")
    assert "example:\n  " in said
    assert contents(project) == before


@pytest.mark.parametrize("module", MODULES)
def test_an_unknown_argument_is_refused_and_nothing_is_done(project, module):
    before = contents(project)
    said = project.run(sys.executable, "-m", f"stages.{module}", "--colour=red", expect=2)
    assert "Traceback" not in said
    assert contents(project) == before


def test_a_full_disk_is_told_in_words(tmp_path, capsys):
    # By what stands for one on Linux, whichever way a file is written.
    (tmp_path / ".out.json.partial").symlink_to("/dev/full")
    for name in ("weights.safetensors", "state.safetensors"):
        (tmp_path / name).symlink_to("/dev/full")
    model = Model([(np.zeros((2, 1), np.float32), np.zeros(2, np.float32))], "relu")
    told: dict[str, Any] = {"features": ["x"], "classes": ["no"], "schema_text": "", "privacy": {}}
    checkpoint = replace(NOTHING, tensors={"weights": torch.zeros(1)})
    for write in (
        lambda: write_json(tmp_path / "out.json", {}),
        lambda: save_model(tmp_path, model, **told),
        lambda: checkpoint.save(tmp_path),
    ):
        with pytest.raises(SystemExit, match="1"):
            run(write, "Go back.")
        said = capsys.readouterr().err
        assert said.startswith("error: No space left on device for a file. Make room")
        assert "counts in full in the privacy ledger" in said
        assert said.endswith("\nGo back.\n")
    assert not (tmp_path / "out.json").exists()


def test_an_interrupted_training_is_one_message_and_counts_in_full(project):
    project.set(epochs=100_000, target_epsilon=100)
    project.stage("preprocess")
    stage = subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=project.folder,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Which a suite that runs in the background has its children ignore.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert stage.stdout
    assert "signal to noise" in stage.stdout.readline()
    while not project.run(sys.executable, "-m", "stages.ledger").count("counts in full"):
        assert stage.poll() is None
    stage.send_signal(signal.SIGINT)
    _, said = stage.communicate(timeout=60)
    assert stage.returncode == 130
    assert said.startswith("interrupted: nothing was written.")
    assert "Traceback" not in said
    assert not (project.folder / "models/classifier").exists()
