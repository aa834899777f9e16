"""Look at the privacy ledger and mend it: `python -m stages.ledger --help`."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import yaml

from stages import evaluate, train
from stages.books.store import Entry, Ledger, same_people
from stages.errors import UserError, run
from stages.files import read_json, whole_file, write_csv, write_json
from stages.params import Params, load_params, sweep
from stages.privacy.events import from_json, to_json
from stages.privacy.history import Side, Spend, side_epsilon, total_epsilon
from stages.reporting import figures
from stages.tabular.prepared import load_schema
from stages.tabular.schema import Schema
from stages.tabular.split import split_name
from stages.versions import commits_with, file_at

PREPARED = Path("data/prepared")
METRICS = ("metrics/train.json", "metrics/evaluate.json")


def main() -> None:
    arguments = _parser().parse_args()
    arguments.command(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stages.ledger", description=__doc__)
    parser.set_defaults(command=show)
    commands = parser.add_subparsers(title="commands", metavar="")
    plan = commands.add_parser("plan", help="price runs before they are made")
    plan.add_argument("-S", action="append", default=[], metavar="NAME=VALUE,…", dest="sweeps")
    plan.set_defaults(command=price)
    rebuild = commands.add_parser("rebuild", help="enter what commits and experiments tell of")
    rebuild.set_defaults(command=restore)
    strike = commands.add_parser("strike", help="let an entry no longer count")
    strike.add_argument("number", type=int)
    strike.add_argument("--reason", required=True)
    strike.set_defaults(command=strike_entry)
    export = commands.add_parser("export", help="write all entries to a .csv or .json file")
    export.add_argument("file", type=Path)
    export.set_defaults(command=export_entries)
    figure = commands.add_parser("figure", help="draw the running total into a .png file")
    figure.add_argument("file", type=Path)
    figure.set_defaults(command=draw)
    return parser


def show(_: argparse.Namespace) -> None:
    """Print a table of runs and totals for each table of people, and what another run costs."""
    params = load_params()
    rest = Ledger().entries()
    if not rest:
        print("The privacy ledger is empty. In a fresh clone: python -m stages.ledger rebuild")
    while rest:
        people = same_people(rest, rest[0].spend.data, rest[0].spend.fingerprint)
        _print_people(people, params)
        rest = [entry for entry in rest if entry not in people]
    if params.train_size is not None and (PREPARED / "source.json").exists():
        (total,) = _totals_after([params])
        print(f"\nAnother run with the present params.yaml would bring the total to {total:.3f}.")


def _print_people(entries: Sequence[Entry], params: Params) -> None:
    delta = params.target_delta
    print(f"{entries[0].spend.data}, ε at δ = {delta:g}")
    print("entry  when              run           side   ε alone  total so far  left")
    for entry, total in zip(entries, _running_totals(entries, delta), strict=True):
        name = entry.experiment or (entry.revision or "")[:12]
        note = f"  struck: {entry.struck}" if entry.struck is not None else ""
        note = note or ("" if entry.settled else "  not settled, counts in full")
        print(
            f"{entry.number:>5}  {entry.time[:16].replace('T', ' ')}  {name:<12.12}  "
            f"{entry.spend.side:<5}  {entry.spend.epsilon:>7.3f}  {total:>12.3f}  "
            f"{_left(total, params.privacy_budget)}{note}"
        )
    spends = _counting(entries)
    sides = ", ".join(
        f"{side} side {side_epsilon(spends, side, delta):.3f}" for side in get_args(Side)
    )
    print(f"total {total_epsilon(spends, delta):.3f} ({sides})")


def _left(total: float, budget: float | None) -> str:
    return "no cap" if budget is None else f"{max(0.0, budget - total):.3f}"


def _counting(entries: Sequence[Entry]) -> list[Spend]:
    return [entry.spend for entry in entries if entry.struck is None]


def _running_totals(entries: Sequence[Entry], delta: float) -> list[float]:
    return [
        total_epsilon(_counting(entries[: number + 1]), delta) for number in range(len(entries))
    ]


def price(arguments: argparse.Namespace) -> None:
    """Print what each run of a sweep costs, and the total after it."""
    combinations = list(sweep(arguments.sweeps))
    runs = [load_params(overrides=overrides) for overrides in combinations]
    print("total so far and after each run, none of which has been made:")
    for overrides, total in zip(combinations, _totals_after(runs), strict=True):
        settings = ", ".join(f"{name}={value}" for name, value in overrides.items())
        print(f"  {total:>8.3f}  after {settings or 'a run with the present params.yaml'}")


def _totals_after(runs: Sequence[Params]) -> Iterator[float]:
    """Yield the total after each of `runs`, one after the other, on the prepared table."""
    source = read_json(PREPARED / "source.json")
    people = same_people(Ledger().entries(), source["data"], source["fingerprint"])
    spends = _counting(people)
    for params in runs:
        if params.train_size is None:
            raise UserError("params.yaml: to price a run, `train_size` has to be declared.")
        plan = train.plan_for(params, params.train_size)
        schema = load_schema(PREPARED)
        release = evaluate.release_for(params, len(schema.class_names), len(schema.report_by))
        spends.append(train.spend_for(plan, source, params.target_epsilon))
        spends.append(evaluate.spend_for(release, source, params.target_delta))
        yield total_epsilon(spends, params.target_delta)


def restore(_: argparse.Namespace) -> None:
    """Enter every run that the metrics of a commit or experiment tell of and that is missing."""
    ledger, added = Ledger(), 0
    for commit in commits_with(*METRICS):
        for path in METRICS:
            metrics = json.loads(file_at(commit, path) or "{}")
            for record in metrics.get("ledger", []):
                if record["run"] is not None:
                    spend = _spend_at(commit, record["spend"])
                    added += ledger.restore(spend, record["run"], commit)
    print(f"entered {added} runs that were missing; the ledger has {len(ledger.entries())} now")


def _spend_at(commit: str, content: dict[str, Any]) -> Spend:
    """Return a spend from the metrics at `commit`, with what its parameters say of its table."""
    params = yaml.safe_load(file_at(commit, "params.yaml") or "{}")
    lock = yaml.safe_load(file_at(commit, "dvc.lock") or "{}")
    deps = lock.get("stages", {}).get("preprocess", {}).get("deps", [])
    schema = Schema.model_validate_json(file_at(commit, params["schema"]) or "{}")
    hashes = [dep["md5"] for dep in deps if dep["path"] == params["data"]]
    return Spend(
        data=params["data"],
        fingerprint=hashes[0] if hashes else "unknown",
        split=split_name(float(params["test_fraction"]), params["split_seed"], schema),
        side=content["side"],
        events=tuple(from_json(content["events"])),
        epsilon=content["epsilon"],
        delta=content["delta"],
    )


def strike_entry(arguments: argparse.Namespace) -> None:
    """Let an entry no longer count; the reason stays on record."""
    Ledger().strike(arguments.number, arguments.reason)
    print(f"entry {arguments.number} no longer counts: {arguments.reason}")


def export_entries(arguments: argparse.Namespace) -> None:
    """Write all entries to a .csv or .json file."""
    rows = [_flat(entry) for entry in _some_entries()]
    match arguments.file.suffix:
        case ".json":
            write_json(arguments.file, {"entries": rows})
        case ".csv":
            write_csv(arguments.file, rows)
        case other:
            raise UserError(f"{arguments.file}: expected a .csv or .json file, not {other!r}.")
    print(f"wrote {len(rows)} entries to {arguments.file}")


def _flat(entry: Entry) -> dict[str, Any]:
    content = asdict(entry)
    spend = content.pop("spend")
    return {**content, **spend, "events": to_json(entry.spend.events)}


def draw(arguments: argparse.Namespace) -> None:
    """Draw the running total of the first table's people into a .png file."""
    entries = _some_entries()
    params = load_params()
    people = same_people(entries, entries[0].spend.data, entries[0].spend.fingerprint)
    totals = _running_totals(people, params.target_delta)
    figure = figures.running_total(totals, params.target_delta, params.privacy_budget)
    with whole_file(arguments.file) as scratch:
        figure.savefig(scratch, format="png", dpi=150)
    print(f"drew {len(people)} entries into {arguments.file}")


def _some_entries() -> list[Entry]:
    entries = Ledger().entries()
    if not entries:
        raise UserError("the privacy ledger is empty. Make a run first: dvc repro")
    return entries


if __name__ == "__main__":
    run(main, outputs_hint=False)
