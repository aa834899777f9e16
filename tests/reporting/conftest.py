"""A run whose report the tests read."""

import pytest

from tests.conftest import copy_project


def run_all(project):
    for stage in ("preprocess", "train", "evaluate", "plot"):
        project.stage(stage)
    return project.folder


@pytest.fixture(scope="session")
def released(default_run):
    """The folder of a default run."""
    return default_run.folder


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """The folder of a simulation, which nobody may publish."""
    project = copy_project(tmp_path_factory.mktemp("simulated") / "project")
    project.set(simulation_seed=1, epochs=2)
    return run_all(project)
