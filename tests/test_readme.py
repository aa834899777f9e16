"""The pages do what they say: commands run, links lead somewhere, the main one is short."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, commit_all, copy_project
from tests.pages import MAIN, OTHERS, PAGES, read

# Blocks that are not run, by their page and first line, and why.
NOT_RUN = {
    ("CONTRIBUTING.md", "source .venv/bin/activate"): "installs pre-commit, and runs tests",
}


def blocks(text):
    """Return the shell commands of a page, block by block."""
    return re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_every_exception_is_on_a_page():
    assert {(page, block.splitlines()[0]) for page in PAGES for block in blocks(read(page))} >= {
        *NOT_RUN
    }


# --- commands ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    """A clone as a newcomer has it, with the environment of this test run as its .venv."""
    project = copy_project(tmp_path_factory.mktemp("readme") / "project")
    for name in ("metrics", "plots"):
        shutil.copytree(ROOT / name, project.folder / name)
    environment = project.folder / ".venv"
    environment.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    for stamp in (".requirements-installed", ".requirements-dev-installed"):
        (environment / stamp).touch()
    commit_all(project, "clone")
    return project


def bring_a_table(project):
    """Do what the page asks for by hand: a table of one's own, its schema, and both in params."""
    data = project.folder / "data"
    header, *rows = (data / "sample_medical_data.csv").read_text().splitlines()
    (data / "patients.csv").write_text("\n".join([header, *rows[100:]]) + "\n")
    shutil.copy(data / "sample_medical_data.schema.json", data / "patients.schema.json")
    project.set(data="data/patients.csv", schema="data/patients.schema.json", train_size=990)


# What a page asks to do by hand before a block, by the block's first line.
BY_HAND = {"git switch --create patients": bring_a_table}


def run(project, page, text):
    """Run the blocks of a page as somebody does who reads it from top to bottom."""
    for block in blocks(text):
        first = block.splitlines()[0]
        if (page, first) in NOT_RUN:
            continue
        if first in BY_HAND:
            BY_HAND[first](project)
        project.run("bash", "-euo", "pipefail", "-c", block)


@pytest.fixture(scope="module")
def reader(newcomer):
    """The newcomer, who has done all that the main page says."""
    run(newcomer, MAIN, read(MAIN))
    return newcomer


def test_the_commands_of_the_main_page_run_in_their_order(reader):
    log = reader.run("git", "log", "--oneline", "--all")
    assert "Ask for ε = 1" in log
    assert "Our patients" in log
    assert "data/patients.csv\n" not in reader.run("git", "ls-files", "data")


@pytest.mark.parametrize("page", [page for page in OTHERS if blocks(read(page))])
def test_the_commands_of_a_page_run_after_those_of_the_main_page(reader, page, tmp_path):
    project = copy_of(reader, tmp_path / "project")
    run(project, page, read(page))
    project.finish_queue()


def test_a_command_that_fails_is_seen(project):
    with pytest.raises(AssertionError, match="lost"):
        run(project, MAIN, "```bash\ntrue\ncat lost | head -1\n```\n")


def copy_of(project, folder):
    """Return a copy of a project, on its main branch."""
    shutil.copytree(project.folder, folder, symlinks=True)
    copy = type(project)(folder)
    copy.run("git", "switch", "--quiet", "--force", "main")
    copy.run("dvc", "checkout", "--quiet")
    return copy


# --- links ---------------------------------------------------------------------------------------


def anchors(text):
    """Return the anchors of the headings of a page, as the repository's host makes them."""
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def broken(page, text):
    """Return the relative links in the text of a page that lead nowhere."""
    links = re.findall(r"\]\(([^):]+)\)", text)
    return [link for link in links if not leads_somewhere((ROOT / page).parent, text, link)]


def leads_somewhere(folder, text, link):
    path, _, anchor = link.partition("#")
    if path and not os.path.lexists(folder / path):
        return False
    return not anchor or anchor in anchors((folder / path).read_text() if path else text)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page):
    assert broken(page, read(page)) == []


@pytest.mark.parametrize("link", ["lost.md", "README.md#lost", "#lost"])
def test_a_link_that_leads_nowhere_is_seen(link):
    assert broken(MAIN, f"# Found\n[a](#found) [b](LICENSE) [c]({link})") == [link]


# --- the main page -------------------------------------------------------------------------------


def test_the_main_page_takes_three_minutes():
    assert len(read(MAIN).splitlines()) <= 150
    assert len(read(MAIN).encode()) <= 12_288
