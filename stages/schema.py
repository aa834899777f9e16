"""Write a first schema, or check a table against one.

`draft` guesses from rows, and what a schema says is published, so the file has to be public: a code
book, a synthetic sample, last year's open data. `check` prints all problems of the table at once.
"""

import sys
from argparse import Namespace
from pathlib import Path

from stages.commands import new_parser, run
from stages.errors import UserError
from stages.params import load_params
from stages.tabular.draft import as_text, draft_schema
from stages.tabular.look import owners_look
from stages.tabular.people import count_people
from stages.tabular.reader import find_problems
from stages.tabular.schema import Schema

NEXT = """\
{count} fields drafted. Before the pipeline takes it:
1. give the field to predict "role": "label" in the place of its bounds, with a "threshold" (or
   "thresholds" between bands) if it is a number of more than a few values;
2. look at each guess, which its line "confirm" names: correct it from what you know of the field,
   not from private rows, and remove the line."""


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
    print(as_text(schema))
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
    print(f"{table}: all rows fit the schema.")
    if sys.stdout.isatty():
        print(owners_look(table, schema, used * (1 - params.test_fraction), params.train_size))
    else:
        print("What they hold is told at a terminal only, for the owner's eyes.")


if __name__ == "__main__":
    run(main)
