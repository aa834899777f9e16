"""Write a first schema, or check a table against one.

`draft` guesses from rows, and what a schema says is published, so the file has to be public: a code
book, a synthetic sample, last year's open data. `check` prints all problems of the table at once.
"""

import json
import sys
from argparse import Namespace
from pathlib import Path

from stages.commands import new_parser, run
from stages.errors import UserError
from stages.params import load_params
from stages.tabular.draft import draft_schema
from stages.tabular.people import count_people
from stages.tabular.reader import find_problems
from stages.tabular.schema import Schema

NEXT = """\
{count} fields drafted. Before the pipeline takes it:
1. give the field to predict "role": "label", with a "threshold" if it is a number, and drop its
   bounds; mark ids and columns to ignore in the same way;
2. correct each guess from what you know of the field, not from private rows, and remove its
   "confirm"."""


def main() -> None:
    example = "python -m stages.schema draft codebook.csv --public > data/patients.schema.json"
    parser = new_parser(__doc__, example)
    commands = parser.add_subparsers(required=True, title="commands", metavar="COMMAND")
    drafting = commands.add_parser("draft", help="print a schema drafted from a public file")
    drafting.add_argument("table", type=Path, help="CSV or Parquet file that is public")
    drafting.add_argument("--public", action="store_true", help="you declare the file public")
    drafting.set_defaults(command=_draft)
    checking = commands.add_parser("check", help="print the problems of a table")
    checking.add_argument(
        "table", type=Path, nargs="?", help="to check (default: `data` of params.yaml)"
    )
    checking.add_argument(
        "--schema", type=Path, help="its schema (default: `schema` of params.yaml)"
    )
    checking.set_defaults(command=_check)
    arguments = parser.parse_args()
    arguments.command(arguments)


def _draft(arguments: Namespace) -> None:
    if not arguments.public:
        raise UserError(
            f"{arguments.table}: a draft takes bounds and values from the rows, and the schema is "
            "published without noise. Use a file that is public anyway (a code book, a synthetic "
            "sample) and say so with --public; never the private table."
        )
    schema = draft_schema(arguments.table)
    print(json.dumps(schema, indent=2, ensure_ascii=False))
    print(NEXT.format(count=len(schema["fields"])), file=sys.stderr)


def _check(arguments: Namespace) -> None:
    params = load_params()
    table = arguments.table or params.data
    schema = Schema.load(arguments.schema or params.schema_path)
    rows, problems = find_problems(table, schema)
    if problems:
        print(*problems, sep="\n")
        raise UserError(f"{table}: of {rows} rows, some have cells that do not fit the schema.")
    used = count_people(table, schema, params.split_seed)
    size = used * (1 - params.test_fraction)
    off = f"{abs(params.train_size / size - 1):.0%} off" if params.train_size else "not declared"
    print(
        f"{table}: all {rows} rows fit the schema, and {used} of them are used.\n"
        f"For the owner's eyes only: about {size:.0f} are for training; `train_size` is {off}. It "
        "is published: choose a round number that you could have named without counting."
    )


if __name__ == "__main__":
    run(main)
