"""Stage: read the private table, split it, encode it, and store it as arrays for training."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from stages.commands import run_stage
from stages.errors import UserError
from stages.files import unchanged, whole_folder, write_json
from stages.params import Params, load_params
from stages.tabular.encode import about, encode, groups, labels
from stages.tabular.people import read_people
from stages.tabular.prepared import PREPARED, SIDES, SideName, prepared_writer
from stages.tabular.schema import Schema
from stages.tabular.split import in_test, persons, source_of


def main() -> None:
    params = load_params()
    schema = Schema.load(params.schema_path)
    # It is read three times: for its hash, for whose rows are whose, and for the rows.
    with whole_folder(PREPARED) as folder, unchanged(params.data), ThreadPoolExecutor(1) as other:
        split = params.test_fraction, params.split_seed
        source = other.submit(source_of, params.data, schema, *split)  # hashes the file meanwhile
        _refuse_an_empty_side(_prepare(params, schema, folder), params)
        write_json(folder / "source.json", asdict(source.result()))


def _prepare(params: Params, schema: Schema, folder: Path) -> dict[SideName, int]:
    """Fill `folder` and return how many rows each side holds."""
    rows = dict.fromkeys(SIDES, 0)
    with (
        prepared_writer(folder, about(schema), schema.to_json()) as append,
        tqdm(unit=" rows", unit_scale=True, disable=None) as bar,  # None: only on a terminal
    ):
        for batch in read_people(params.data, schema, params.split_seed):
            whose = persons(batch, schema, params.split_seed)
            parts = [*(part(batch, schema) for part in (encode, labels, groups)), whose]
            test = in_test(whose, params.test_fraction)
            for side, chosen in zip(SIDES, (~test, test), strict=True):
                append(side, *(part.compress(chosen, axis=0) for part in parts))
                rows[side] += int(chosen.sum())
            bar.update(batch.num_rows)
    return rows


def _refuse_an_empty_side(rows: Mapping[SideName, int], params: Params) -> None:
    """Stop where a side has no row; nothing else of a run may hang on single rows.

    That there are two classes is for `python -m stages.schema check` to tell.
    """
    for side in SIDES:
        if not rows[side]:
            raise UserError(
                f"{params.data}: no row falls on the {side} side. Use a larger table, or change "
                f"`test_fraction` (now {params.test_fraction:g}) or `split_seed` in params.yaml."
            )


if __name__ == "__main__":
    run_stage(main, __doc__)
