"""Stage: read the private table, split it, encode it, and store it as arrays for training."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.commands import run_stage
from stages.errors import UserError
from stages.files import whole_folder, write_json
from stages.params import Params, load_params
from stages.tabular.encode import about, encode, groups, labels
from stages.tabular.people import read_people
from stages.tabular.prepared import PREPARED, SIDES, SideName, Source, prepared_writer
from stages.tabular.schema import Schema
from stages.tabular.split import in_test, split_name


def main() -> None:
    params = load_params()
    schema = Schema.load(params.schema_path)
    with whole_folder(PREPARED) as folder, ThreadPoolExecutor(1) as other:
        source = other.submit(_source, params, schema)  # hashes the file meanwhile
        _refuse_unusable(_prepare(params, schema, folder), params, schema)
        write_json(folder / "source.json", asdict(source.result()))


def _source(params: Params, schema: Schema) -> Source:
    with params.data.open("rb") as file:
        fingerprint = hashlib.file_digest(file, "md5").hexdigest()
    split = split_name(params.test_fraction, params.split_seed, schema)
    return Source(str(params.data), fingerprint, split)


def _prepare(params: Params, schema: Schema, folder: Path) -> dict[SideName, set[int]]:
    """Fill `folder` and return the classes that each side holds."""
    seen: dict[SideName, set[int]] = {side: set() for side in SIDES}
    with (
        prepared_writer(folder, about(schema), schema.to_json()) as append,
        tqdm(unit=" rows", unit_scale=True, disable=None) as bar,  # None: only on a terminal
    ):
        for batch in read_people(params.data, schema, params.split_seed):
            parts = [part(batch, schema) for part in (encode, labels, groups)]
            test = in_test(batch, schema, params.test_fraction, params.split_seed)
            for side, chosen in zip(SIDES, (~test, test), strict=True):
                features, classes, levels = (part.compress(chosen, axis=0) for part in parts)
                append(side, features, classes, levels)
                seen[side].update(np.unique(classes).tolist())
            bar.update(batch.num_rows)
    return seen


def _refuse_unusable(seen: dict[SideName, set[int]], params: Params, schema: Schema) -> None:
    for side in SIDES:
        if not seen[side]:
            raise UserError(
                f"{params.data}: no row falls on the {side} side. Use a larger table, or change "
                f"`test_fraction` (now {params.test_fraction:g}) or `split_seed` in params.yaml."
            )
    if len(seen["train"]) == 1:
        (only,) = seen["train"]
        raise UserError(
            f"{params.data}: every training row has label `{schema.class_names[only]}`, but two "
            f"classes are needed. Correct the label in {params.schema_path}, or use more rows."
        )


if __name__ == "__main__":
    run_stage(main, __doc__)
