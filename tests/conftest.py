"""What more than one test file needs: a project folder of its own, and the commands run in it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from threadpoolctl import threadpool_limits

from stages.model.files import SUMS, _sums

ROOT = Path(__file__).parent.parent
PROJECT_FILES = (
    *("dvc.yaml", "params.yaml", "stages", "data", ".dvc", ".dvcignore"),
    *(".github", "Makefile", "requirements.txt", "requirements-dev.txt", ".gitignore"),
)

ENVIRONMENT = {
    "PYTHONPATH": "",
    "DVC_NO_ANALYTICS": "1",
    "GIT_AUTHOR_NAME": "tester",
    "GIT_AUTHOR_EMAIL": "tester@example.org",
    "GIT_COMMITTER_NAME": "tester",
    "GIT_COMMITTER_EMAIL": "tester@example.org",
}


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    threadpool_limits(1)  # as the stages do; the workers of a test run share few cores


class Project:
    """A copy of this repository in which a test may run anything."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, *command, expect=0, env=None):
        """Run `command` in the project, check its exit status, return stdout and stderr as text."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, **ENVIRONMENT, "PATH": path, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert done.returncode == expect, output
        return output

    def stage(self, name, expect=0):
        return self.run(sys.executable, "-m", f"stages.{name}", expect=expect)

    def set(self, **params):
        """Change lines of params.yaml, leaving the rest as it is."""
        path = self.folder / "params.yaml"
        lines = path.read_text().splitlines()
        for name, value in params.items():
            (number,) = [i for i, line in enumerate(lines) if line.startswith(f"{name}:")]
            lines[number] = f"{name}: {value}"
        path.write_text("\n".join(lines) + "\n")

    def finish_queue(self, failures=0):
        """Wait until no experiment is queued or running; each look takes DVC about a second.

        Returns what the `failures` experiments printed that must have failed.
        """
        for _ in range(600):
            status = self.run("dvc", "queue", "status")
            if "Queued" not in status and "Running" not in status:
                break
        failed = [line.split()[1] for line in status.splitlines() if "Failed" in line]
        logs = [self.run("dvc", "queue", "logs", name) for name in failed]
        assert len(failed) == failures, "\n".join([status, *logs])
        self.run("dvc", "queue", "stop", "--kill")
        return logs

    def refused(self, stage):
        """Run a stage that should refuse; return its message, having checked that it is one."""
        message = self.stage(stage, expect=1)
        assert "Traceback" not in message
        assert message.startswith("error: ")
        return message


def copy_project(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in PROJECT_FILES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "prepared", "cache", "tmp")
            shutil.copytree(source, folder / name, ignore=ignored)
        elif source.exists():
            shutil.copy(source, folder / name)
    project = Project(folder)
    project.run("git", "init", "--quiet", "--initial-branch=main")
    return project


def told(project, name):
    """What a metrics file of a project rests on."""
    (evidence,) = json.loads((project.folder / f"metrics/{name}.json").read_text())["evidence"]
    return evidence


def reseal(folder):
    """Make a model's checksums right again, as somebody would who swaps a file on purpose."""
    (folder / SUMS).write_text(_sums(folder))


def commit_all(project, message):
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", f"--message={message}")


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path / "project")


@pytest.fixture(scope="session")
def default_run(tmp_path_factory, worker_id):
    """A repository in which the default run has been made and committed, once for all tests.

    It is to be read, or copied.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "default_run"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            made = copy_project(tmp_path_factory.mktemp("default") / "project")
            commit_all(made, "clone")
            made.run("dvc", "repro")
            commit_all(made, "default run")
            made.folder.rename(folder)
    return Project(folder)


@pytest.fixture
def copied_run(default_run, tmp_path):
    """A copy of it."""
    return Project(shutil.copytree(default_run.folder, tmp_path / "copy"))
