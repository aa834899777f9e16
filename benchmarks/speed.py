"""How fast, and how large: the project beside its peers, in one run. `make bench`, or `QUICK=1`.

Whatever is compared takes turns, in rounds, on the same machine under the same load; a ratio is the
median of the rounds' ratios. One thread each. Writes `benchmarks/RESULTS.md`. Commands of the
project run in its own environment, the first on PATH, and its peers in the benchmark's.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import yaml
from threadpoolctl import threadpool_limits

from benchmarks import large_tables, time_to_accuracy
from benchmarks.machine import machine
from benchmarks.peers import CONTENDERS, of_people
from benchmarks.timing import QUICK, Run, Seconds, in_turns, ratio, run

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/RESULTS.md"

# Rows of the table and of a batch.
SIZES = [(1_070, 64), (100_000, 1_024), (1_000_000, 4_096), (10_000_000, 4_096)]
# Of people with as many rows each, how many a step samples.
ROWS_EACH, PEOPLE = 5, 1_024
PIPELINE_ROUNDS = 2 if QUICK else 7
FEATURES = 9


def main() -> None:
    threadpool_limits(1)
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        for line in _results(Path(scratch)):
            print(line, flush=True)
            lines.append(line)
    if not QUICK:
        RESULTS.write_text("\n".join(lines) + "\n", "utf-8")


def _results(scratch: Path) -> Iterator[str]:
    yield "# Benchmarks\n"
    yield (
        f"Output of `make bench` on {date.today()}: {machine()}. Times are medians; ratios are "
        "medians of ratios within a round.\n"
    )
    project = _copy_of_the_project(scratch / "project")
    yield from _steps(SIZES[:3] if QUICK else SIZES)
    yield from _pipeline(project, scratch)
    yield from _refusals(project)
    yield from large_tables.results(project, scratch)
    yield from time_to_accuracy.results()


# --- a training step -----------------------------------------------------------------------------


def _steps(sizes: Sequence[tuple[int, int]]) -> Iterator[str]:
    found = {size: _time_steps(*size) for size in sizes}
    yield "## A training step\n"
    yield (
        "Milliseconds a step, and times plain PyTorch's. Network 9–128–64–2. An epoch is rows ÷ "
        "batch steps.\n"
    )
    yield "| rows / batch | steps an epoch | " + " | ".join(CONTENDERS) + " |"
    yield "| --- | --- |" + " --- |" * len(CONTENDERS)
    for (rows, batch), times in found.items():
        cells = [
            f"{1000 * statistics.median(seconds):.3g} ({ratio(seconds, times['plain PyTorch'])})"
            for seconds in times.values()
        ]
        size = f"{rows:,} / {batch:,}"
        yield f"| {size} | {rows / batch:.0f} | " + " | ".join(cells) + " |"
    yield "\n| an epoch, seconds | " + " | ".join(CONTENDERS) + " |"
    yield "| --- |" + " --- |" * len(CONTENDERS)
    for (rows, batch), times in found.items():
        cells = [f"{statistics.median(seconds) * rows / batch:.3g}" for seconds in times.values()]
        yield f"| {rows:,} / {batch:,} | " + " | ".join(cells) + " |"
    if len(found) > 1:
        yield from _flatness()
    yield from _people()


def _time_steps(rows: int, batch: int) -> dict[str, Seconds]:
    features, labels = _random_table(rows)
    steps = {name: make(features, labels, batch) for name, make in CONTENDERS.items()}
    return in_turns(steps)


def _flatness() -> Iterator[str]:
    """The cost of rows that are not in the batch."""
    few, many = SIZES[1][0], SIZES[2][0] if QUICK else SIZES[-1][0]
    batch = SIZES[-1][1]
    steps = {rows: CONTENDERS["this project"](*_random_table(rows), batch) for rows in (few, many)}
    times = in_turns({str(rows): step for rows, step in steps.items()})
    yield (
        f"\nThis project's step at {many:,} rows ÷ at {few:,} rows, with batches of {batch:,}: "
        f"**{ratio(times[str(many)], times[str(few)])}** (target ≤ 1.2).\n"
    )


def _random_table(rows: int) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(0)
    features = source.random((rows, FEATURES), dtype=np.float32) * 2 - 1
    return features, (source.random(rows) < 0.2).astype(np.int64)


def _people() -> Iterator[str]:
    """A step of people beside one of as many rows."""
    rows = ROWS_EACH * 100 * PEOPLE
    features, labels = _random_table(rows)
    persons = np.random.default_rng(1).permutation(rows).astype(np.uint64) // ROWS_EACH
    times = in_turns(
        {
            "people": of_people(features, labels, persons, PEOPLE),
            "rows": CONTENDERS["this project"](features, labels, ROWS_EACH * PEOPLE),
        }
    )
    yield (
        f"A step of {PEOPLE:,} people with {ROWS_EACH} rows each ÷ a step of as many single rows: "
        f"**{ratio(times['people'], times['rows'])}** (target ≤ 1.5).\n"
    )


# --- the pipeline --------------------------------------------------------------------------------


def _pipeline(project: Path, scratch: Path) -> Iterator[str]:
    (scratch / "plots").mkdir()
    notebook = [sys.executable, "-m", "benchmarks.notebook"]
    commands = {
        "`dvc repro -f`": ["dvc", "repro", "-f"],
        '`python -c "import torch, opacus"`': ["python", "-c", "import torch, opacus"],
        "the usual notebook as a script": [
            *notebook,
            "data/sample_medical_data.csv",
            str(scratch / "plots"),
        ],
    }
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(PIPELINE_ROUNDS):
        for name, command in commands.items():
            runs[name].append(run(command, project))
    times = {name: [run.seconds for run in found] for name, found in runs.items()}
    repro = times["`dvc repro -f`"]
    yield "## End to end on the sample\n"
    yield "| command | seconds | `dvc repro -f` ÷ it | target |"
    yield "| --- | --- | --- | --- |"
    for (name, seconds), target in zip(times.items(), ("", "≤ 2.4", "≤ 0.75"), strict=True):
        yield f"| {name} | {statistics.median(seconds):.2f} | {ratio(repro, seconds)} | {target} |"
    yield ""


def _refusals(project: Path) -> Iterator[str]:
    """How soon a mistake in params.yaml is told."""
    commands = {
        "preprocess": ["python", "-m", "stages.preprocess"],
        "train": ["python", "-m", "stages.launch", "1", "train"],
        "evaluate": ["python", "-m", "stages.evaluate"],
        "plot": ["python", "-m", "stages.plot"],
    }
    text = (project / "params.yaml").read_text("utf-8")
    (project / "params.yaml").write_text(yaml.safe_dump(yaml.safe_load(text) | {"epochs": -1}))
    found: dict[str, Seconds] = {name: [] for name in ["numpy", *commands]}
    for _ in range(PIPELINE_ROUNDS):
        found["numpy"].append(run(["python", "-c", "import numpy"], project).seconds)
        for name, command in commands.items():
            found[name].append(run(command, project, expect=1).seconds)
    (project / "params.yaml").write_text(text, "utf-8")
    told = (
        f"{name} {statistics.median(found[name]):.2f} s "
        f"({ratio(found[name], found['numpy'])} times `import numpy`)"
        for name in commands
    )
    yield f"A refused parameter is told by {', '.join(told)}; target ≤ 5.\n"


def _copy_of_the_project(folder: Path) -> Path:
    """Clone what is committed, and make every output once."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    run(["dvc", "repro"], folder)
    return folder


if __name__ == "__main__":
    main()
