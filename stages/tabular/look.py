"""What the owner of a table wants to see of it before training: exact, and for no other eyes."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.tabular.encode import labels
from stages.tabular.fields.base import ABOVE, BELOW
from stages.tabular.reader import read_batches, read_everything
from stages.tabular.schema import Schema

# Share of a column that may be clipped without a word.
USUALLY_CLIPPED = 0.02


def owners_look(table: Path, schema: Schema, training: float, train_size: int | None) -> str:
    """Return the shares of each column's special cells, of classes, and of rows per person.

    Args:
        table: whose rows fit the schema.
        schema: its schema.
        training: number of people that are for training.
        train_size: what is declared of it.
    """
    sampled = "people" if schema.at_most > 1 else "rows"
    parts = (
        ["For the owner's eyes only: exact figures of private rows. Publish none of them."],
        _columns(table, schema),
        _classes(table, schema),
        _people(table, schema),
        _size(training, train_size, sampled),
    )
    return "\n".join(line for part in parts for line in part)


def _columns(table: Path, schema: Schema) -> Iterator[str]:
    rows, counts = 0, Counter[tuple[str, str]]()
    for batch in read_everything(table, schema):
        rows += batch.num_rows
        for field in schema.read_fields:
            for share, mask in field.notable(batch).items():
                counts[field.name, share] += int(mask.sum())
    yield f"rows: {rows}"
    for field in schema.read_fields:
        shares = {share: n / rows for (name, share), n in counts.items() if name == field.name}
        if shares:
            told = (f"{value:.1%} {share}" for share, value in shares.items())
            yield f"  {field.name}: {', '.join(told)}"
        clipped = sum(v for share, v in shares.items() if share.startswith((BELOW, ABOVE)))
        if clipped > USUALLY_CLIPPED:
            yield (
                f"  warning: {clipped:.1%} of `{field.name}` is clipped to its bounds. Widen them "
                "if the field reaches further, as you know it and not as this table has it."
            )


def _classes(table: Path, schema: Schema) -> Iterator[str]:
    counts = np.zeros(len(schema.class_names), dtype=np.int64)
    for batch in read_batches(table, schema):
        counts += np.bincount(labels(batch, schema), minlength=len(counts))
    yield "classes:"
    for name, share in zip(schema.class_names, counts / counts.sum(), strict=True):
        yield f"  {name}: {share:.1%}"


def _people(table: Path, schema: Schema) -> Iterator[str]:
    if schema.id is None:
        return
    rows_of = Counter[object]()
    for batch in read_batches(table, schema):
        rows_of.update(batch.column(schema.id.name).to_pylist())
    with_rows = Counter(rows_of.values())
    used = f"at most {schema.at_most} rows each are" if schema.at_most > 1 else "one row each is"
    yield f"people, by `{schema.id.name}`: {len(rows_of)}, of whom {used} used"
    for rows, people in sorted(with_rows.items()):
        yield f"  with {rows} row{'s' * (rows > 1)}: {people / len(rows_of):.1%}"


def _size(training: float, train_size: int | None, sampled: str) -> Iterator[str]:
    off = f"{abs(train_size / training - 1):.0%} off" if train_size else "not declared"
    yield (
        f"training: about {training:.0f} {sampled}; `train_size` is {off}. It is published: choose "
        "a round number that you could have named without counting."
    )
