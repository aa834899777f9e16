"""Write a first schema, or check a table against one.

    python -m stages.schema draft codebook.csv --public > data/patients.schema.json
    python -m stages.schema check data/patients.csv

`draft` guesses from rows, and what a schema says is published, so the file has to be public: a code
book, a synthetic sample, last year's open data. `check` prints all problems of the table at once.
"""

import argparse
import json
import sys
from pathlib import Path

from stages.errors import UserError, run
from stages.params import load_params
from stages.tabular.draft import draft_schema
from stages.tabular.encode import labels
from stages.tabular.people import read_people
from stages.tabular.problems import Problem
from stages.tabular.reader import find_problems
from stages.tabular.schema import Schema

NEXT = """\
{count} fields drafted. Before the pipeline takes it:
1. give the field to predict "role": "label", with a "threshold" if it is a number, and drop its
   bounds; mark ids and columns to ignore in the same way;
2. correct each guess from what you know of the field, not from private rows, and remove its
   "confirm"."""


def main() -> None:
    arguments = _arguments()
    arguments.command(arguments)


def draft(arguments: argparse.Namespace) -> None:
    """Print a schema drafted from a public file."""
    if not arguments.public:
        raise UserError(
            f"{arguments.table}: a draft takes bounds and values from the rows, and the schema is "
            "published without noise. Use a file that is public anyway (a code book, a synthetic "
            "sample) and say so with --public; never the private table."
        )
    schema = draft_schema(arguments.table)
    print(json.dumps(schema, indent=2, ensure_ascii=False))
    print(NEXT.format(count=len(schema["fields"])), file=sys.stderr)


def check(arguments: argparse.Namespace) -> None:
    """Print the problems of a table; exit status 1 if there are any."""
    params = load_params()
    table = arguments.table or params.data
    schema = Schema.load(arguments.schema or params.schema_path)
    rows, problems = find_problems(table, schema)
    if problems:
        print(_listing(problems))
        raise UserError(f"{table}: of {rows} rows, some have cells that do not fit the schema.")
    used, classes = 0, set()
    for batch in read_people(table, schema, params.split_seed):
        used += batch.num_rows
        classes |= {*labels(batch, schema).tolist()}
    if len(classes) < 2:
        raise UserError(
            f"{table}: expected rows of two classes or more, but all are of one or none. Correct "
            f"the label `{schema.label.name}` in the schema."
        )
    size = used * (1 - params.test_fraction)
    print(
        f"{table}: all {rows} rows fit the schema, and {used} of them are used. "
        f"`train_size: {float(f'{size:.2g}'):.0f}` would be a round number near enough."
    )


def _listing(problems: list[Problem]) -> str:
    width = max(len("column"), *(len(problem.column) for problem in problems))
    lines = [f"{'column':{width}}  {'cells':>8}  problem"]
    for problem in problems:
        lines.append(f"{problem.column:{width}}  {problem.cells:>8}  expected {problem.expected}")
        lines += [f"{'':{width}}  {'':8}  {example}" for example in problem.examples]
        lines += [f"{'':{width}}  {'':8}  {remedy}" for remedy in problem.remedies]
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.schema",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    drafting = commands.add_parser("draft", help=draft.__doc__)
    drafting.add_argument("table", type=Path, help="CSV or Parquet file that is public")
    drafting.add_argument("--public", action="store_true", help="you declare the file public")
    drafting.set_defaults(command=draft)
    checking = commands.add_parser("check", help=check.__doc__)
    checking.add_argument("table", type=Path, nargs="?", help="(default: `data` of params.yaml)")
    checking.add_argument("--schema", type=Path, help="(default: `schema` of params.yaml)")
    checking.set_defaults(command=check)
    return parser.parse_args()


if __name__ == "__main__":
    run(main, outputs_hint=False)
