"""Shared by the tests of the public preprocessing."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stages.tabular.reader import read_batches
from stages.tabular.schema import Schema
from stages.tabular.split import in_test, persons

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data/sample_medical_data.csv"
SAMPLE_SCHEMA = ROOT / "data/sample_medical_data.schema.json"
HEADER = "age,sex,bmi,children,smoker,region,charges"


def make_batch(schema: Schema, columns: Mapping[str, Any]) -> pa.RecordBatch:
    """Build the batch that `read_batches` would make of these values."""
    arrays = {}
    for field in schema.read_fields:
        values = list(columns[field.name])
        if enum := field.vocabulary:
            codes = pa.array([enum.index(value) for value in values], pa.int32())
            arrays[field.name] = pa.DictionaryArray.from_arrays(codes, pa.array(enum))
        else:
            arrays[field.name] = pa.array(values, pa.float64())
    return pa.RecordBatch.from_pydict(arrays)


@pytest.fixture(scope="session")
def schema() -> Schema:
    return Schema.load(SAMPLE_SCHEMA)


@pytest.fixture(scope="session")
def sample(schema) -> pa.RecordBatch:
    """The sample's 1,338 rows as one batch."""
    return pa.Table.from_batches(read_batches(SAMPLE, schema)).combine_chunks().to_batches()[0]


@pytest.fixture
def read(tmp_path, schema) -> Callable[[str], pa.RecordBatch]:
    """Read CSV text, of the sample's columns, as one batch."""

    return lambda text: read_text(tmp_path, schema, text)


def held_back(batch, schema, test_fraction, split_seed):
    """Say which rows of a batch belong to the test side."""
    return in_test(persons(batch, schema, split_seed), test_fraction)


def schema_of(folder: Path, *fields: dict[str, Any], **rest: Any) -> Schema:
    """Load a schema of these fields, to which a numeric label `y` is added if none is a label."""
    label = {"name": "y", "type": "number", "role": "label", "threshold": 0}
    if not any(field.get("role") == "label" for field in fields):
        fields = (*fields, label)
    path = folder / "schema.json"
    path.write_text(json.dumps({"fields": fields, **rest}))
    return Schema.load(path)


def read_text(folder: Path, schema: Schema, text: str) -> pa.RecordBatch:
    """Read CSV text as one batch."""
    path = folder / "table.csv"
    path.write_text(text, newline="")
    (batch,) = read_batches(path, schema)
    return batch


def change_schema(project, change: Callable[[dict[str, Any]], object], **rest: Any) -> None:
    """Apply `change` to the fields, by name, of a project's schema file; set the `rest`."""
    path = project.folder / "data/sample_medical_data.schema.json"
    content = json.loads(path.read_text())
    change({field["name"]: field for field in content["fields"]})
    path.write_text(json.dumps(content | rest))


def write_table(project, content: str | bytes) -> None:
    """Put another table in the place of a project's sample, which is read-only."""
    path = project.folder / "data/sample_medical_data.csv"
    path.unlink()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def refusal(project) -> str:
    """Run the real stage, check that it refuses and leaves nothing behind; return its message."""
    before = sorted(project.folder.glob("data/**/*"))
    message: str = project.refused("preprocess")
    assert sorted(project.folder.glob("data/**/*")) == before
    return message
