"""How fast, and how large: the project beside its peers, in one run. `make bench`, or `QUICK=1`.

Whatever is compared takes turns, in rounds, on the same machine under the same load; a ratio is the
median of the rounds' ratios. One thread each. Writes `benchmarks/RESULTS.md`. Commands of the
project run in its own environment, the first on PATH, and its peers in the benchmark's.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as arrow_csv
import yaml
from threadpoolctl import threadpool_limits

from benchmarks.machine import machine
from benchmarks.peers import CONTENDERS, Step
from stages.tabular.fields import Field
from stages.tabular.fields.category import CategoryFeature
from stages.tabular.fields.number import NumberFeature
from stages.tabular.schema import Schema

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/RESULTS.md"
QUICK = os.environ.get("QUICK") == "1"

# Rows of the table and of a batch.
SIZES = [(1_070, 64), (100_000, 1_024), (1_000_000, 4_096), (10_000_000, 4_096)]
TABLES = [1_000_000, 10_000_000]
ROUNDS = 5 if QUICK else 15
PIPELINE_ROUNDS = 2 if QUICK else 7
ROUND_SECONDS = 0.15
# Rows of a generated table that are made at once.
PART = 500_000
FEATURES = 9

Seconds = list[float]


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
    yield from _steps(SIZES[:3] if QUICK else SIZES)
    yield from _pipeline(scratch)
    yield from _tables(scratch, TABLES[:1] if QUICK else TABLES)


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
            f"{1000 * statistics.median(seconds):.3g} ({_ratio(seconds, times['plain PyTorch'])})"
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


def _time_steps(rows: int, batch: int) -> dict[str, Seconds]:
    features, labels = _random_table(rows)
    steps = {name: make(features, labels, batch) for name, make in CONTENDERS.items()}
    return _in_turns(steps)


def _flatness() -> Iterator[str]:
    """The cost of rows that are not in the batch."""
    few, many = SIZES[1][0], TABLES[0] if QUICK else SIZES[-1][0]
    batch = SIZES[-1][1]
    steps = {rows: CONTENDERS["this project"](*_random_table(rows), batch) for rows in (few, many)}
    times = _in_turns({str(rows): step for rows, step in steps.items()})
    yield (
        f"\nThis project's step at {many:,} rows ÷ at {few:,} rows, with batches of {batch:,}: "
        f"**{_ratio(times[str(many)], times[str(few)])}** (target ≤ 1.2).\n"
    )


def _random_table(rows: int) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(0)
    features = source.random((rows, FEATURES), dtype=np.float32) * 2 - 1
    return features, (source.random(rows) < 0.2).astype(np.int64)


def _in_turns(steps: Mapping[str, Step]) -> dict[str, Seconds]:
    """Return each one's seconds a step, one per round."""
    counts = {
        name: max(1, round(ROUND_SECONDS / _seconds(step, 3))) for name, step in steps.items()
    }
    found: dict[str, Seconds] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            found[name].append(_seconds(step, counts[name]))
    return found


def _seconds(step: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - start) / times


def _ratio(seconds: Seconds, others: Seconds) -> str:
    return f"{statistics.median(a / b for a, b in zip(seconds, others, strict=True)):.2f}"


# --- the pipeline --------------------------------------------------------------------------------


def _pipeline(scratch: Path) -> Iterator[str]:
    project = _copy_of_the_project(scratch / "project")
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
            runs[name].append(_run(command, project))
    times = {name: [run.seconds for run in found] for name, found in runs.items()}
    repro = times["`dvc repro -f`"]
    yield "## End to end on the sample\n"
    yield "| command | seconds | `dvc repro -f` ÷ it | target |"
    yield "| --- | --- | --- | --- |"
    for (name, seconds), target in zip(times.items(), ("", "≤ 2.5", "≤ 1.0"), strict=True):
        yield f"| {name} | {statistics.median(seconds):.2f} | {_ratio(repro, seconds)} | {target} |"
    yield ""


def _copy_of_the_project(folder: Path) -> Path:
    """Clone what is committed, and make every output once."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    _run(["dvc", "repro"], folder)
    return folder


@dataclass(frozen=True)
class Run:
    """A command that ran: how long, and the most memory it held.

    Attributes:
        seconds: wall clock.
        resident: peak of its resident memory, mapped files included, in MB.
        private: peak of what is its own: memory that no file backs, in MB.
    """

    seconds: float
    resident: float
    private: float


def _run(command: Sequence[str], folder: Path) -> Run:
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with _watching(process.pid) as peak:
        output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{output}")
    return Run(time.perf_counter() - start, *peak)


@contextmanager
def _watching(pid: int) -> Iterator[list[float]]:
    """Yield [resident, private] in MB, which rise to their peaks while the block runs."""
    peak = [0.0, 0.0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            try:
                memory = psutil.Process(pid).memory_info()
            except psutil.Error:
                return
            peak[:] = np.maximum(peak, [memory.rss / 1e6, (memory.rss - memory.shared) / 1e6])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


# --- large tables --------------------------------------------------------------------------------


def _tables(scratch: Path, sizes: Sequence[int]) -> Iterator[str]:
    project = scratch / "project"
    pandas = "import pandas, sys; pandas.read_csv(sys.argv[1])"
    floor = _run(["python", "-c", "import stages.train"], project)
    yield "## Large tables\n"
    yield (
        "`preprocess` against `pandas.read_csv`, each a process of its own; then a training of 20 "
        "steps of 4,096 rows. Memory in MB; for training, what no file backs, over the imports.\n"
    )
    yield (
        "| rows | CSV | preprocess | read_csv | ratio (≤ 1.6) | memory (≤ 250) | read_csv's | "
        "train | memory over imports (≤ 300) |"
    )
    yield "| --- |" * 1 + " --- |" * 8
    for rows in sizes:
        table = scratch / f"{rows}.csv"
        write_table(table, Schema.load(ROOT / "data/sample_medical_data.schema.json"), rows)
        _point_at(project, table, rows)
        ours, theirs = [], []
        for _ in range(max(2, PIPELINE_ROUNDS // 2)):
            ours.append(_run(["python", "-m", "stages.preprocess"], project))
            theirs.append(_run([sys.executable, "-c", pandas, str(table)], project))
        train = _run(["python", "-m", "stages.train"], project)
        seconds = [[run.seconds for run in runs] for runs in (ours, theirs)]
        yield (
            f"| {rows:,} | {table.stat().st_size / 1e6:.0f} MB "
            f"| {statistics.median(seconds[0]):.2f} s | {statistics.median(seconds[1]):.2f} s "
            f"| {_ratio(*seconds)} | {max(run.resident for run in ours):.0f} "
            f"| {max(run.resident for run in theirs):.0f} "
            f"| {train.seconds:.1f} s | {train.private - floor.private:.0f} |"
        )
        table.unlink()
        shutil.rmtree(project / "data/prepared")


def _point_at(project: Path, table: Path, rows: int) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    train_size = round(0.8 * rows)
    params |= {
        "data": str(table),
        "train_size": train_size,
        "target_delta": 0.1 / rows,
        "batch_size": 4_096,
        "epochs": 20 * 4_096 / train_size,
    }
    (project / "params.yaml").write_text(yaml.safe_dump(params), "utf-8")


def write_table(path: Path, schema: Schema, rows: int) -> None:
    """Write a CSV of random rows that fit the schema."""
    source = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, rows, PART):
            size = min(PART, rows - start)
            columns = {field.name: _random_cells(field, size, source) for field in schema.fields}
            options = arrow_csv.WriteOptions(include_header=start == 0, quoting_style="none")
            arrow_csv.write_csv(pa.table(columns), file, options)


def _random_cells(field: Field, rows: int, source: np.random.Generator) -> np.ndarray:
    if isinstance(field, CategoryFeature):
        return np.array(field.constraints.enum)[
            source.integers(len(field.constraints.enum), size=rows)
        ]
    low, high = 0.0, 60_000.0  # of a label, which has no bounds
    if isinstance(field, NumberFeature):
        low, high = field.constraints.minimum, field.constraints.maximum
    if field.type == "integer":
        return source.integers(int(low), int(high) + 1, rows)
    return source.uniform(low, high, rows).round(3)


if __name__ == "__main__":
    main()
