"""Compare runs by what they promise and what they are good for.

    python -m stages.compare --rev main --rev more-private --picture privacy_utility.png

prints accuracy, loss and ε of the workspace and of each revision (branch, commit, tag or
experiment) as a Markdown table, with the privacy noise in each figure, and draws them. `dvc plots
diff` overlays the same points in a browser.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.commands import run
from stages.errors import UserError
from stages.files import read_json, whole_file
from stages.reporting import figures
from stages.versions import commit_of, file_at

METRICS = "metrics/evaluate.json"


def main() -> None:
    arguments = _arguments()
    runs = {"workspace": read_json(METRICS), **{name: _metrics_at(name) for name in arguments.revs}}
    print("\n".join(table(runs)))
    if arguments.picture:
        _draw(runs, arguments.picture)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rev", action="append", default=[], metavar="NAME", dest="revs")
    parser.add_argument("--picture", type=Path, metavar="FILE.png")
    return parser.parse_args()


def _metrics_at(name: str) -> dict[str, Any]:
    commit = commit_of(name)
    if commit is None:
        raise UserError(
            f"--rev {name}: expected a branch, commit, tag or experiment, but there is none "
            "of that name here. `dvc exp show` and `git branch` list them."
        )
    text = file_at(commit, METRICS)
    if text is None:
        raise UserError(
            f"--rev {name}: {METRICS} is not part of it. Name a revision in which a run was "
            "committed."
        )
    content: dict[str, Any] = json.loads(text)
    return content


def table(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table, one run a line, by its name."""
    head = ("revision", "ε", "accuracy", "log loss", "ε of all runs by then")
    rows = [
        (
            name,
            _number(metrics["epsilon_overall"]) or f"no promise: {metrics['no_guarantee']}",
            _with_noise(metrics, "accuracy", ".1%"),
            _with_noise(metrics, "loss", ".3f"),
            _number(metrics.get("epsilon_total")) or "not told",
        )
        for name, metrics in runs.items()
    ]
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _with_noise(metrics: Mapping[str, Any], name: str, form: str) -> str:
    noise = metrics.get("interval", {}).get(name)
    return f"{metrics[name]:{form}}" + ("" if noise is None else f" ± {noise:{form}}")


def _draw(runs: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    points = {
        name: figures.utility_point(metrics)
        for name, metrics in runs.items()
        if metrics["epsilon_overall"] is not None
    }
    if not points:
        raise UserError("--picture: none of these runs makes a promise that could be drawn.")
    with whole_file(path) as scratch:
        figures.picture([figures.privacy_utility(points)], width=6.5).savefig(
            scratch, format="png", dpi=150
        )


if __name__ == "__main__":
    run(main)
