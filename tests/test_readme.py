"""The pages do what they say: commands run, links lead somewhere, figures are the files' own."""

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.evaluation.result import EvaluateResult
from stages.training.result import TrainResult
from tests.conftest import ROOT, commit_all, copy_project

NAMES = ("README.md", "CONTRIBUTING.md")

# Blocks that are not run, by their page and first line, and why.
NOT_RUN = {
    ("CONTRIBUTING.md", "source .venv/bin/activate"): "installs pre-commit, and runs tests",
}


def pages():
    """Return the paths of all pages in the repository, the main one first."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.md")
    found = subprocess.check_output(command, cwd=ROOT, text=True).split()
    return sorted((path for path in found if Path(path).name in NAMES), key=len)


PAGES = pages()
MAIN, OTHERS = "README.md", [page for page in PAGES if page != "README.md"]


def read(page):
    return (ROOT / page).read_text()


def blocks(page):
    """Return the shell commands of a page, block by block."""
    return re.findall(r"^```bash\n(.*?)^```", read(page), flags=re.MULTILINE | re.DOTALL)


def test_every_exception_is_on_a_page():
    assert {(page, block.splitlines()[0]) for page in PAGES for block in blocks(page)} >= {*NOT_RUN}


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
    project.run("git", "init", "--quiet", "--initial-branch=main")
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


def run(project, page):
    """Run the blocks of a page as somebody does who reads it from top to bottom."""
    for block in blocks(page):
        first = block.splitlines()[0]
        if (page, first) in NOT_RUN:
            continue
        if first in BY_HAND:
            BY_HAND[first](project)
        project.run("bash", "-euo", "pipefail", "-c", block)


@pytest.fixture(scope="module")
def reader(newcomer):
    """The newcomer, who has done all that the main page says."""
    run(newcomer, MAIN)
    return newcomer


def test_the_commands_of_the_main_page_run_in_their_order(reader):
    log = reader.run("git", "log", "--oneline", "--all")
    assert "Ask for ε = 1" in log
    assert "Our patients" in log
    assert "data/patients.csv\n" not in reader.run("git", "ls-files", "data")


@pytest.mark.parametrize("page", [page for page in OTHERS if blocks(page)])
def test_the_commands_of_a_page_run_after_those_of_the_main_page(reader, page, tmp_path):
    project = copy_of(reader, tmp_path / "project")
    run(project, page)
    project.finish_queue()


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


# --- figures -------------------------------------------------------------------------------------

# Where figures come from. Only these know the files' keys.
TRAIN, TEST = TrainResult.read(ROOT), EvaluateResult.read(ROOT)
STATEMENT = yaml.safe_load((ROOT / "plots/statement.yaml").read_text())
ATTACK = STATEMENT["evidence"]["attack"]


def right_of_100(mechanism):
    """How often of 100 a coin toss is right at most, rounded up: 50 and half the advantage."""
    return math.ceil(50 + 50 * ATTACK[mechanism]["advantage"])


def output(name):
    return (ROOT / "benchmarks" / name).read_text()


def row(name, start):
    """Return the cells of the first line of a benchmark's table that starts with `start`."""
    (line, *_) = [line for line in output(name).splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def ratio(rows, column):
    """Return the times of a plain step in a cell such as `0.558 (1.33)`."""
    cell = row("RESULTS.md", rows)[column]
    return float(cell[cell.index("(") + 1 : -1])


def ours(rows):
    return ratio(rows, 3)


def opacus():
    sizes = ("1,070 / 64", "100,000 / 1,024", "1,000,000 / 4,096", "10,000,000 / 4,096")
    return [ratio(size, 4) for size in sizes]


def below_the_grid(column):
    return -float(row("UTILITY.md", "oracle")[column])


def sample(epsilon):
    """Return accuracy of the default, log loss of the default and of the grid, on the sample."""
    default = row("UTILITY.md", f"{epsilon} | 40")
    return float(default[3].split()[0])


def log_losses(epsilon):
    section = output("UTILITY.md").split("### sample\n")[1]
    (line, *_) = [line for line in section.splitlines() if line.startswith(f"| {epsilon} |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    return float(cells[7]), float(cells[8])


# (page, what stands there, with a group for each figure, the figures, as they are written)
FIGURES = [
    (MAIN, r"At ε = (\S+) the committed run", [TEST.epsilon_overall], "{:.3g}"),
    (
        MAIN,
        r"right on (\S+) % ± (\S+) %",
        [100 * TEST.accuracy, 100 * (TEST.interval or {})["accuracy"]],
        "{:.1f}",
    ),
    (
        MAIN,
        r"ROC area (\S+) ± (\S+) and log loss (\S+) ± ([\d.]+\d)",
        [
            *(TEST.figures["roc_auc"], (TEST.interval or {})["roc_auc"]),
            *(TEST.loss, (TEST.interval or {})["loss"]),
        ],
        "{:.3f}",
    ),
    (
        "stages/privacy/README.md",
        r"larger \((\S+) in the committed run",
        [TRAIN.epsilon_replace_one],
        "{:.2f}",
    ),
    (
        "stages/privacy/README.md",
        r"where ε of the training is ([\d.]+\d)",
        [TRAIN.epsilon],
        "{:.3f}",
    ),
    ("stages/books/README.md", r"main come to ε = ([\d.]+\d)", [TEST.epsilon_total], "{:.1f}"),
    (
        "stages/reporting/README.md",
        r"at most (\d+) times, and the test figures at most (\d+)",
        [right_of_100("model_and_curves"), right_of_100("test_figures")],
        "{}",
    ),
    (
        "benchmarks/README.md",
        r"takes (\S+) times a plain PyTorch step at batches of 64 .*?, (\S+) times at 1,024 and "
        r"(\S+) times at 4,096, where Opacus' usual loop takes (\S+) to (\S+) times",
        [
            *(ours("1,070 / 64"), ours("100,000 / 1,024"), ours("1,000,000 / 4,096")),
            *(min(opacus()), max(opacus())),
        ],
        "{:.2f}",
    ),
    (
        "benchmarks/README.md",
        r"`dvc repro` takes (\S+) times as long .*?, and (\S+) times as long as the usual notebook",
        [
            float(row("RESULTS.md", '`python -c "import torch, opacus"`')[2]),
            float(row("RESULTS.md", "the usual notebook as a script")[2]),
        ],
        "{:.2f}",
    ),
    (
        "benchmarks/README.md",
        r"it is (\S+) below the grid's best in the median cell; the worst is (\S+) below",
        [below_the_grid(2), below_the_grid(3)],
        "{:.4f}",
    ),
    (
        "benchmarks/README.md",
        r"at ε = 1 the log loss is (\S+) where the grid has (\S+)\)",
        [*log_losses(1)],
        "{:.3f}",
    ),
    (
        "stages/evaluation/README.md",
        r"accuracy .*? (\S+) at ε = 1 and (\S+) at ε = 3.5",
        [sample(1), sample(3.5)],
        "{:.4f}",
    ),
]


def differences(text, pattern, values, form):
    """Return the figures in `text` that are not `values`: (told, expected) of each."""
    found = re.search(pattern, " ".join(text.split()))
    assert found, f"expected on the page: {pattern}"
    expected = [form.format(value) for value in values]
    return [pair for pair in zip(found.groups(), expected, strict=True) if len({*pair}) > 1]


@pytest.mark.parametrize(("page", "pattern", "values", "form"), FIGURES)
def test_a_figure_is_that_of_its_file(page, pattern, values, form):
    assert differences(read(page), pattern, values, form) == []


def test_a_figure_that_differs_is_seen():
    text = "right on 93.1 % ± 0.6 %\nof the rows"
    pattern = r"right on (\S+) % ± (\S+) % of"
    assert differences(text, pattern, [93.12, 0.58], "{:.1f}") == []
    assert differences(text, pattern, [93.12, 0.71], "{:.1f}") == [("0.6", "0.7")]


def cells_of(page, header):
    """Return the rows of the Markdown table on a page that starts with `header`."""
    text = read(page)
    lines = text[text.index(header) :].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_of_continuing_is_its_output():
    told = cells_of("stages/training/README.md", "| at ε = 3.5 |")
    lines = output("CONTINUING.txt").splitlines()[2:]
    assert told == [re.split(r" {2,}", line.strip()) for line in lines]


def test_the_table_of_the_audit_is_its_output():
    told = cells_of("stages/training/README.md", "| attack |")
    found = [re.split(r" {2,}", line) for line in output("AUDIT.txt").splitlines()[1:5]]
    assert told == [
        [right[0], right[1], right[2], wrong[2]]
        for right, wrong in zip(found[::2], found[1::2], strict=True)
    ]


# --- the main page -------------------------------------------------------------------------------


def test_the_main_page_takes_three_minutes():
    assert len(read(MAIN).splitlines()) <= 150
    assert len(read(MAIN).encode()) <= 12_288
