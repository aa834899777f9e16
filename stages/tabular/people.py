"""Read the rows that count: of a person with several, one, or as many as the schema says."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from stages.errors import UserError
from stages.tabular.encode import labels
from stages.tabular.reader import read_batches
from stages.tabular.schema import Schema
from stages.tabular.split import Tied, kept_rows, persons


def read_people(data: Path, schema: Schema, split_seed: int) -> Iterator[pa.RecordBatch]:
    """Stream a table as `read_batches` does, and of a person's rows those that count.

    Which these are takes a reading of its own.

    Raises:
        UserError: as `read_batches`, or a person has several rows and the schema refuses that.
    """
    if schema.id is None:
        yield from read_batches(data, schema)
        return
    try:
        kept = kept_rows(read_batches(data, schema), schema, split_seed)
    except Tied as error:
        raise UserError(f"{data}: {error}") from None
    if schema.id.repeated == "refuse" and not kept.all():
        raise UserError(
            f"{data}: expected one row for each `{schema.id.name}`, but {(~kept).sum()} of the "
            "rows are further ones. The promise is for a row: remove them, or put "
            '`"repeated": "keep one"` into the schema, or `"use all"` and the most rows of a '
            "person in `at_most`."
        )
    for batch in read_batches(data, schema):
        of_batch, kept = np.split(kept, [batch.num_rows])
        yield batch.filter(pa.array(of_batch))


def count_people(data: Path, schema: Schema, split_seed: int) -> int:
    """Return how many people there are: rows, where the schema has no id.

    Raises:
        UserError: as `read_people`, or the rows are of fewer than two classes.
    """
    rows, people, classes = 0, [], set()
    for batch in read_people(data, schema, split_seed):
        rows += batch.num_rows
        if schema.at_most > 1:
            people.append(persons(batch, schema, split_seed))
        classes |= {*labels(batch, schema).tolist()}
    if len(classes) < 2:
        raise UserError(
            f"{data}: expected rows of two classes or more, but all are of one or none. Correct "
            f"the label `{schema.label.name}` in the schema."
        )
    return len(np.unique(np.concatenate(people))) if people else rows
