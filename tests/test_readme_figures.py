"""Figures on the pages are those of the run or benchmark that they come from."""

import csv
import math
import re

import pytest
import yaml

from stages.evaluation.result import EvaluateResult
from stages.training.result import TrainResult
from tests.conftest import ROOT
from tests.pages import MAIN, read

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


def bold(what):
    """Return the figure that is set in bold in a line of the results."""
    (line,) = [line for line in output("RESULTS.md").splitlines() if what in line]
    return float(line.split("**")[1])


def ours(rows):
    return ratio(rows, 3)


def opacus():
    sizes = ("1,070 / 64", "100,000 / 1,024", "1,000,000 / 4,096", "10,000,000 / 4,096")
    return [ratio(size, 4) for size in sizes]


def below_the_grid(column):
    return -float(row("UTILITY.md", "oracle")[column])


def tables():
    """Return how many tables the default is compared on."""
    return sum(map(int, re.findall(r"(\d+) tables, \d+ cells", output("UTILITY.md"))))


def unseen(pattern):
    """Return the figures of the first line about tables that the rule never saw."""
    found = re.search(pattern, output("UTILITY.md"), flags=re.MULTILINE)
    assert found
    return [float(figure) for figure in found.groups()]


def kept(epsilon):
    return unseen(rf"^\| {epsilon} \|.*\| (\d+)% \| \d+% \|$")


def target(what):
    return unseen(rf"^\| unseen: {what}.*\| (\S+) \| \S+ \|$")


def accuracy(epsilon):
    """Return the accuracy of the default on the sample."""
    return float(row("UTILITY.md", f"{epsilon} | 40")[3].split()[0])


def log_losses(epsilon):
    """Return the log loss on the sample, of the default and of the grid's best."""
    section = output("UTILITY.md").split("### sample\n")[1]
    cells = re.findall(rf"^\| {epsilon} \|(.*)\|$", section, flags=re.MULTILINE)[0].split("|")
    return float(cells[6]), float(cells[7])


def odds(epsilon):
    """Return how sure, in %, somebody becomes at most who began with a coin toss."""
    return 100 / (1 + math.exp(-epsilon))


def charges():
    with (ROOT / "data/sample_medical_data.csv").open() as file:
        return [float(cells["charges"]) for cells in csv.DictReader(file)]


# (page, what stands there, with a group for each figure, the figures, as they are written)
FIGURES = [
    (MAIN, r"At ε = (\S+) the committed run", [TEST.epsilon_overall], "{:.3g}"),
    (
        MAIN,
        r"right on (\S+) % ± (\S+) % of new patients, of which ± (\S+) % is privacy noise; .*? is "
        r"right on (\S+) %",
        [
            *(100 * TEST.accuracy, 100 * (TEST.off("accuracy").new_patients or math.nan)),
            *(100 * (TEST.off("accuracy").noise or math.nan), 100 * TEST.base_rate),
        ],
        "{:.1f}",
    ),
    (
        MAIN,
        r"ROC area (\S+) ± (\S+) and log loss (\S+) ± ([\d.]+\d)",
        [
            *(TEST.figures["roc_auc"], TEST.off("roc_auc").new_patients or math.nan),
            *(TEST.loss, TEST.off("loss").new_patients or math.nan),
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
        r"five rows each takes (\S+) times .*? Parquet (\S+) times as fast "
        r".*? takes (\S+) times as long as plain PyTorch at its best",
        [bold("with 5 rows each"), bold("Rows a second"), bold("Private ÷ plain")],
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
        r"at ε = 1 the log loss is (\S+) \(the grid has (\S+)\)",
        [*log_losses(1)],
        "{:.3f}",
    ),
    (
        "stages/evaluation/README.md",
        r"accuracy .*? (\S+) at ε = 1 and (\S+) at ε = 3.5",
        [accuracy(1), accuracy(3.5)],
        "{:.4f}",
    ),
    (
        "benchmarks/README.md",
        r"as the notebook in (\S+) % of the cells, and as DP-EBM in (\S+) %",
        [
            *unseen(r"^\| notebook \|.*\| (\d+)% \|$"),
            *unseen(r"^\| DP-EBM \|.*\| (\d+)% \|$"),
        ],
        "{:.0f}",
    ),
    (
        "benchmarks/README.md",
        r"keeps (\S+) % of the way .*? at ε = 1, and (\S+) % at 3.5",
        [
            *unseen(r"^\| 1 \|.*\| (\d+)% \| \d+% \|$"),
            *unseen(r"^\| 3.5 \|.*\| (\d+)% \| \d+% \|$"),
        ],
        "{:.0f}",
    ),
    (
        "benchmarks/README.md",
        r"log loss is (\S+) above that of the best temperature in the median cell",
        target("log loss − that of the best temperature, median cell"),
        "{:.4f}",
    ),
    (
        "benchmarks/README.md",
        r"learned by heart \((\S+), 120,000 rows",
        target("log loss − that of the best temperature, worst cell"),
        "{:.4f}",
    ),
    (
        "benchmarks/README.md",
        r"on (\d+) tables at three ε",
        [tables()],
        "{}",
    ),
    (
        "stages/privacy/README.md",
        r"can become at most (\d+) % sure; at ε = 3.5, (\d+) %",
        [odds(1), odds(3.5)],
        "{:.0f}",
    ),
    ("stages/reporting/README.md", r"ε alone would allow (\d+)", [odds(3.5)], "{:.0f}"),
    (
        "data/README.md",
        r"set: (\S+) rows of .*?; (\d+) rows have charges above 15,000",
        [len(charges()), sum(value > 15_000 for value in charges())],
        "{:,}",
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
    found = [re.split(r" {2,}", line) for line in output("AUDIT.txt").splitlines()[1:9]]
    assert told == [
        [right[0], right[1], right[2], wrong[2]]
        for right, wrong in zip(found[::2], found[1::2], strict=True)
    ]
