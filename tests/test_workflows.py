"""What the workflows of the repository's host run, run here."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions

import yaml

from tests.conftest import ROOT
from tests.test_requirements import direct_pins

WORKFLOWS = ROOT / ".github/workflows"


def steps(workflow):
    """Return the shell commands of a workflow's steps."""
    jobs = yaml.safe_load((WORKFLOWS / workflow).read_text())["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def step(workflow, holds):
    (found,) = [command for command in steps(workflow) if holds in command]
    return found


def check_lock(project, expect):
    shutil.copy(ROOT / "dvc.lock", project.folder)
    return project.run("bash", "-c", step("compare.yaml", "stale_lock"), expect=expect)


def test_a_lock_of_the_present_parameters_is_current(project):
    check_lock(project, expect=0)


def test_an_edit_of_params_yaml_without_a_run_is_seen(project):
    project.set(target_epsilon=1)
    output = check_lock(project, expect=1)
    assert "train ran with target_epsilon=3.5, and params.yaml has 1" in output
    assert "dvc repro" in output
    assert "Traceback" not in output


def test_the_comparison_installs_the_pins_that_it_imports():
    install = step("compare.yaml", "pip install").removeprefix("pip install")
    pins = subprocess.check_output(["bash", "-c", f"echo {install}"], cwd=ROOT, text=True).split()
    assert {pin.split("==")[0] for pin in pins} == imported("stages.compare") | {"ruamel.yaml"}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)


def imported(module):
    """Return the direct pins that importing `module` imports."""
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    names = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split()
    known = packages_distributions()
    return {package for name in names for package in known.get(name, [])} & direct_pins(
        "requirements.txt"
    )


def test_tests_run_on_every_python_that_is_promised():
    (job,) = yaml.safe_load((WORKFLOWS / "ci.yaml").read_text())["jobs"].values()
    assert job["strategy"]["matrix"]["python-version"] == ["3.11", "3.12", "3.13"]
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()
    assert step("ci.yaml", ".ci/run") == "bash .ci/run"
