"""Draw the released figures and write the report: the `plot` stage. It reads no private row."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stages.commands import run_stage
from stages.evaluation.metrics import Table, possible_cells
from stages.evaluation.release import CountRelease
from stages.evaluation.tables import table_of
from stages.files import read_csv, read_json, whole_file, write_csv, write_text
from stages.params import load_params
from stages.privacy.attack import (
    Profile,
    curve_rows,
    profile_of_counts,
    profile_of_promise,
)
from stages.privacy.attack import (
    figures_of as told,
)
from stages.privacy.events import BestOfMany, DiscreteLaplace, Event, from_json
from stages.reporting import figures
from stages.reporting.figures import Drawing
from stages.reporting.statement import Release, Statement, make_statement
from stages.reporting.svg import to_svg
from stages.reporting.text import render
from stages.tabular.schema import Schema
from stages.training.curves import from_csv

# The pictures, by file.
PICTURES = {
    "training.png": "training",
    "confusion_matrix.png": "confusion",
    "roc.png": "roc",
    "calibration.png": "calibration",
    "attack.png": "attack",
}
# What one picture shows side by side, and the page one by one.
TRAINING = ("loss", "accuracy", "spent")

REDRAWS = 1000


def main() -> None:
    params = load_params()
    release = read_release(
        Path(),
        Schema.load(params.schema_path),
        {
            "target_epsilon": params.target_epsilon,
            "test_fraction": params.test_fraction,
            "split_seed": params.split_seed,
            "train_size": params.train_size,
            "privacy_budget": params.privacy_budget,
        },
    )
    plots, statement = Path("plots"), make_statement(release)
    drawn = figures_of(Path(), release)
    write_pictures(plots, drawn)
    write_csv(plots / "privacy_utility.csv", [figures.utility_point(release.test)])
    write_text(plots / "statement.yaml", statement.to_yaml())
    write_text(plots / "report.md", render("report.md", statement, release))
    write_text(plots / "report.html", page(statement, release, drawn))


def read_release(folder: Path, schema: Schema, parameters: Mapping[str, Any]) -> Release:
    """Return what is told of the run whose metrics are in `folder`."""
    train, test = (read_json(folder / f"metrics/{side}.json") for side in ("train", "evaluate"))
    return Release(
        train=train,
        test=test,
        fields=schema.model_dump(mode="json")["fields"],
        classes=schema.class_names,
        parameters=parameters,
        test_attack=told(_profile_of(test)),
        subgroups=read_csv(folder / "plots/subgroups.csv")[1:],
    )


def figures_of(folder: Path, release: Release) -> dict[str, Figure]:
    """Return every drawing as a figure by its name, and those of the training in one as well."""
    drawings = _drawings_of(folder, release)
    training = figures.picture([drawings[name] for name in TRAINING])
    return {"training": training} | {
        name: figures.picture([draw], _width(name, release)) for name, draw in drawings.items()
    }


def _drawings_of(folder: Path, release: Release) -> dict[str, Drawing]:
    """Return every drawing by its name, made of the released tables in `folder`."""
    train, test = release.train, release.test
    epochs = from_csv(read_csv(folder / "plots/training.csv"))
    table, classes = table_of(read_csv(folder / "plots/test_counts.csv"))
    redraws = _redraws(table, test)
    declared = release.parameters["train_size"]
    rows = "all training rows" if declared is None else f"n ≈ {declared:,}"
    attacks: dict[str, Sequence[Mapping[str, Any]]] = {
        "model and curves": read_csv(folder / "plots/attack.csv"),
        "test figures": curve_rows(_profile_of(test)),
    }
    return {
        "loss": figures.loss(epochs, rows, train),
        "accuracy": figures.accuracy(epochs, rows, train),
        "spent": figures.spent(epochs, train),
        "confusion": figures.confusion_matrix(table, classes, test, redraws),
        "roc": figures.roc(table, classes, test, redraws),
        "calibration": figures.calibration(table, classes, test, redraws),
        "attack": figures.attack(attacks, release.no_guarantee),
    }


def write_pictures(folder: Path, drawn: Mapping[str, Figure]) -> None:
    """Write every picture into `folder`."""
    for name, figure in PICTURES.items():
        with whole_file(folder / name) as scratch:
            drawn[figure].savefig(scratch, format="png", dpi=150)


def page(statement: Statement, release: Release, drawn: Mapping[str, Figure]) -> str:
    """Return the report as one page that holds its figures."""
    graphics = {name: to_svg(figure, name) for name, figure in drawn.items() if name != "training"}
    return render("report.html", statement, release, graphics=graphics)


def _width(name: str, release: Release) -> float:
    """Return the width of a drawing, which has to grow where each class has a row of its own."""
    by_class = name in {"confusion", "roc"}
    return max(figures.SIDE, 0.5 * len(release.classes) + 2) if by_class else figures.SIDE


def _spend_of(test: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what the release of the test counts spent; None if they are exact."""
    if "ledger" not in test:
        return None
    (run,) = test["ledger"]
    spend: Mapping[str, Any] = run["spend"]
    return spend


def _profile_of(test: Mapping[str, Any]) -> Profile:
    """Return what the release of the test counts gives away; exact ones give all."""
    spend = _spend_of(test)
    if spend is None:
        return profile_of_promise(0.0, 1.0)
    events = from_json(spend["events"])
    if any(isinstance(event, BestOfMany) for event in events):
        return profile_of_promise(spend["epsilon"], spend["delta"])
    return profile_of_counts(list(_counts(events)))


def _redraws(table: Table, test: Mapping[str, Any]) -> Table | None:
    """Return copies of the table with the noise of its release added once more, if it has any."""
    spend = _spend_of(test)
    if spend is None:
        return None
    # Two for the table, one for each grouping.
    epsilons = [event.epsilon for event in _counts(from_json(spend["events"]))]
    mechanism = CountRelease(sum(epsilons), possible_cells(len(table)), len(epsilons) - 2)
    return mechanism.redraws(table, REDRAWS, np.random.default_rng(0))


def _counts(events: Sequence[Event]) -> Iterator[DiscreteLaplace]:
    for event in events:
        match event:
            case DiscreteLaplace():
                yield event
            case BestOfMany():
                yield from _counts(event.events)


if __name__ == "__main__":
    run_stage(main, __doc__)
