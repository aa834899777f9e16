"""The README does what it says: its commands run, its tables are complete."""

import os
import re
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, commit_all, copy_project

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)

# What runs the tests cannot be run by one of them.
RECURSIVE = "make test\n"


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    """A clone as a newcomer has it, with the environment of this test run as its .venv."""
    project = copy_project(tmp_path_factory.mktemp("readme") / "project")
    environment = project.folder / ".venv"
    environment.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    (environment / ".requirements-installed").touch()
    project.run("git", "init", "--quiet", "--initial-branch=main")
    commit_all(project, "clone")
    return project


def test_every_command_runs_in_the_order_of_the_page(newcomer):
    assert RECURSIVE in BLOCKS
    script = "\n".join(block for block in BLOCKS if block != RECURSIVE)
    first, rest = script.split("\nsource", 1)
    newcomer.run("bash", "-euo", "pipefail", "-c", first)
    commit_all(newcomer, "the default run, as main has it")
    newcomer.run("bash", "-euo", "pipefail", "-c", f"source{rest}")
    newcomer.finish_queue()
    assert "Ask for ε = 1" in newcomer.run("git", "log", "--oneline")


def table_rows(header):
    """Return the cells of the Markdown table that starts with `header`, row by row."""
    lines = README[README.index(header) :].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_of_parameters_has_each_one_with_its_default():
    told = {row[0].strip("`"): row[1].strip("`") for row in table_rows("| parameter |")}
    real = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert set(told) == set(real)
    for name, value in real.items():
        assert yaml.safe_load("" if told[name] == "empty" else told[name]) == value, name


def test_the_table_of_dependencies_has_each_direct_one():
    told = {name.strip() for row in table_rows("| package |") for name in row[0].split(",")}
    pinned = (ROOT / "requirements.txt").read_text().split("# what these bring along")[0]
    assert told == set(re.findall(r"^([\w-]+)==", pinned, flags=re.MULTILINE))


def test_every_requirement_is_pinned_exactly():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    loose = [line for line in lines if line and not re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line)]
    assert not loose


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_a_link_leads_to_a_file(link):
    assert os.path.lexists(ROOT / link)
