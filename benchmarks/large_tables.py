"""Large tables: how long they take to prepare, to train on and to predict, and in what memory."""

import json
import shutil
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import yaml
from pyarrow import parquet

from benchmarks.timing import QUICK, Run, ratio, run
from stages.tabular.fields import Field, Id
from stages.tabular.fields.category import CategoryFeature
from stages.tabular.fields.number import NumberFeature
from stages.tabular.schema import Schema

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "data/sample_medical_data.schema.json"
SCHEMA = Schema.load(SAMPLE)

SIZES = [1_000_000] if QUICK else [1_000_000, 10_000_000]
ROUNDS = 2 if QUICK else 3
# Rows of a generated table that are made at once.
PART = 500_000
ROWS_EACH = 10


def results(project: Path, scratch: Path) -> Iterator[str]:
    """Yield lines of Markdown; `project` is a copy of this one that may be changed."""
    yield from _preprocess(project, scratch)
    yield from _people(project, scratch)
    yield from _predict(project, scratch)


def _preprocess(project: Path, scratch: Path) -> Iterator[str]:
    pandas = "import pandas, sys; pandas.read_csv(sys.argv[1])"
    floor = run(["python", "-c", "import stages.train"], project)
    yield "## Large tables\n"
    yield (
        "`preprocess` against `pandas.read_csv`, each a process of its own; then a training of 20 "
        "steps of 4,096 rows. Memory in MB; for training, what no file backs, over the imports.\n"
    )
    yield (
        "| rows | CSV | preprocess | read_csv | ratio (≤ 1.5) | memory (≤ 250) | read_csv's | "
        "train | memory over imports (≤ 300) |"
    )
    yield "| --- |" * 1 + " --- |" * 8
    for rows in SIZES:
        table = scratch / f"{rows}.csv"
        write_table(table, SCHEMA, rows)
        _point_at(project, table, rows)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(run(["python", "-m", "stages.preprocess"], project))
            theirs.append(run([sys.executable, "-c", pandas, str(table)], project))
        train = run(["python", "-m", "stages.train"], project)
        seconds = [[run.seconds for run in runs] for runs in (ours, theirs)]
        yield (
            f"| {rows:,} | {table.stat().st_size / 1e6:.0f} MB "
            f"| {statistics.median(seconds[0]):.2f} s | {statistics.median(seconds[1]):.2f} s "
            f"| {ratio(*seconds)} | {max(run.resident for run in ours):.0f} "
            f"| {max(run.resident for run in theirs):.0f} "
            f"| {train.seconds:.1f} s | {train.private - floor.private:.0f} |"
        )
        table.unlink()
        shutil.rmtree(project / "data/prepared")


def _point_at(project: Path, table: Path, rows: int, **others: str) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    train_size = round(0.8 * rows)
    params |= {
        "data": str(table),
        "train_size": train_size,
        "target_delta": 0.1 / rows,
        "batch_size": 4_096,
        "epochs": 20 * 4_096 / train_size,
        **others,
    }
    (project / "params.yaml").write_text(yaml.safe_dump(params), "utf-8")


def write_table(path: Path, schema: Schema, rows: int) -> None:
    """Write a CSV of random rows that fit the schema."""
    source = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, rows, PART):
            size = min(PART, rows - start)
            options = arrow_csv.WriteOptions(include_header=start == 0, quoting_style="none")
            arrow_csv.write_csv(_random_rows(schema, size, source, rows), file, options)


def _random_rows(schema: Schema, size: int, source: np.random.Generator, rows: int = 0) -> pa.Table:
    return pa.table(
        {field.name: _random_cells(field, size, source, rows) for field in schema.fields}
    )


def _random_cells(field: Field, rows: int, source: np.random.Generator, in_all: int) -> np.ndarray:
    if isinstance(field, Id):
        return source.integers(in_all // ROWS_EACH, size=rows)
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


# --- people with many rows -----------------------------------------------------------------------


def _people(project: Path, scratch: Path) -> Iterator[str]:
    """Preprocess a shuffled table of people with ten rows each, all of which are used."""
    rows, table = SIZES[-1], scratch / "visits.csv"
    schema = json.loads(SAMPLE.read_text("utf-8"))
    person = {"name": "who", "type": "integer", "role": "id"}
    schema["fields"].append(person | {"repeated": "use all", "at_most": 2 * ROWS_EACH})
    path = scratch / "visits.schema.json"
    path.write_text(json.dumps(schema), "utf-8")
    write_table(table, Schema.load(path), rows)
    _point_at(project, table, rows // ROWS_EACH, schema=str(path))
    found = run(["python", "-m", "stages.preprocess"], project)
    yield (
        f"\n`preprocess` of {rows:,} rows of {rows // ROWS_EACH:,} people, shuffled, which are all "
        f"used: {found.seconds:.1f} s, {found.resident:.0f} MB.\n"
    )
    table.unlink()
    shutil.rmtree(project / "data/prepared")
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text("utf-8"), "utf-8")


# --- predicting ----------------------------------------------------------------------------------


def _predict(project: Path, scratch: Path) -> Iterator[str]:
    """From Parquet to Parquet, beside logistic regression with the usual pipeline."""
    rows, table = SIZES[-1], scratch / "new.parquet"
    _write_parquet(table, rows)
    output = str(scratch / "predicted.parquet")
    commands = {
        "this project": ["python", "-m", "stages.predict", str(table), "--output", output],
        "scikit-learn": [sys.executable, "-m", "benchmarks.logistic", str(table), output],
    }
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            runs[name].append(run(command, project))
    seconds = {name: [one.seconds for one in found] for name, found in runs.items()}
    yield "## Predicting\n"
    yield (
        f"{rows:,} rows from Parquet to Parquet, each a process of its own, and scikit-learn's "
        "logistic regression with its pipeline on the same table.\n"
    )
    yield "| | seconds | rows a second | memory, MB |\n| --- | --- | --- | --- |"
    for name, found in runs.items():
        median = statistics.median(seconds[name])
        memory = max(one.resident for one in found)
        yield f"| {name} | {median:.1f} | {rows / median:,.0f} | {memory:.0f} |"
    rate = ratio(seconds["scikit-learn"], seconds["this project"])
    yield f"\nRows a second ÷ scikit-learn's: **{rate}** (target ≥ 1.0).\n"
    table.unlink()


def _write_parquet(path: Path, rows: int) -> None:
    source = np.random.default_rng(0)
    with parquet.ParquetWriter(path, _random_rows(SCHEMA, 1, source).schema) as writer:
        for start in range(0, rows, PART):
            writer.write_table(_random_rows(SCHEMA, min(PART, rows - start), source))
