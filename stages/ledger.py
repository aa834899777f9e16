"""Look at the privacy ledger and mend it.

Without a command: runs and totals for each table of people, and the price of another run.
"""

from argparse import Namespace
from pathlib import Path
from typing import Any

from stages.books.listing import by_people, export, listing, of_table, running_totals
from stages.books.rebuild import open_ledger, own_ledger, rebuild, strike
from stages.books.runs import untold, write_runs
from stages.commands import new_parser, run
from stages.params import load_params
from stages.pricing import another_run, price_list
from stages.reporting.figures import refuse_other_names, running_total, save


def main() -> None:
    parser = new_parser(__doc__, "python -m stages.ledger plan -S target_epsilon=0.5,1,2")
    parser.set_defaults(command=_show)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, (command, words, arguments) in COMMANDS.items():
        one = commands.add_parser(name, help=words, description=words)
        one.set_defaults(command=command)
        for flag, options in arguments.items():
            one.add_argument(flag, **options)
    arguments = parser.parse_args()
    arguments.command(arguments)


def _show(_: Namespace) -> None:
    params, ledger = load_params(), open_ledger()
    if not (entries := ledger.entries()):
        print("The privacy ledger is empty: no run is on record here.")
    for people in by_people(entries):
        print("\n".join(listing(people, params, ledger)))
    print(another_run(params), untold(entries), sep="", end="")


def _plan(arguments: Namespace) -> None:
    print("total so far, and after each run if it is made:", *price_list(arguments.S), sep="\n")


def _rebuild(_: Namespace) -> None:
    added = rebuild(ledger := own_ledger())
    print(f"entered {added} runs that were missing; the ledger has {len(ledger.entries())} now")


def _strike(arguments: Namespace) -> None:
    strike(arguments.number, arguments.reason)
    write_runs()
    print(f"entry {arguments.number} no longer counts: {arguments.reason}")


def _export(arguments: Namespace) -> None:
    export(open_ledger().some_entries(), arguments.file)


def _figure(arguments: Namespace) -> None:
    refuse_other_names("figure", arguments.file)
    params, ledger = load_params(), open_ledger()
    delta, budget, table = params.target_delta, params.privacy_budget, str(params.data)
    people = of_table(ledger.some_entries(), params)
    before, totals = ledger.at_least(people[0].spend), running_totals(people, delta)
    save([running_total(totals, delta, budget, table, before)], arguments.file)


SWEEP = {"action": "append", "default": [], "metavar": "NAME=VALUE,…", "help": "as of dvc exp run"}
STRIKE = {"number": {"type": int}, "--reason": {"required": True, "help": "stays on record"}}
COMMANDS: dict[str, Any] = {
    "plan": (_plan, "price runs before they are made: the total after each", {"-S": SWEEP}),
    "rebuild": (_rebuild, "enter what commits and experiments tell of", {}),
    "strike": (_strike, "let a run made here no longer count, which nobody has seen", STRIKE),
    "export": (_export, "write all entries", {"file": {"type": Path, "help": ".csv or .json"}}),
    "figure": (_figure, "draw the running total", {"file": {"type": Path, "help": ".png"}}),
}

if __name__ == "__main__":
    run(main)
