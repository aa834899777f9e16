"""Make the bundle that may leave the building, or verify one: `python -m stages.publish --help`.

The bundle holds the model with its schema, the statement, the report, metrics, plots and a model
card; no checkpoint, no commit, nothing of dvc.lock, and no value of any private row.
"""

import argparse
import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stages import plot
from stages.books.store import Ledger
from stages.commands import run
from stages.errors import UserError
from stages.evaluation.metrics import metrics_of
from stages.evaluation.tables import confusion_rows, roc_rows, table_of
from stages.files import read_csv, whole_folder, write_csv, write_json, write_text
from stages.model.files import CONTENTS, SUMS, load_model
from stages.params import Params, load_params
from stages.privacy.attack import figures_of as told
from stages.privacy.events import DiscreteLaplace, Event, Steps, from_json
from stages.privacy.renyi import epsilon_renyi
from stages.reporting import figures
from stages.reporting.statement import Evidence, Release, Statement, load_statement, make_statement
from stages.reporting.text import render
from stages.tabular.leaks import leaks
from stages.tabular.schema import Schema
from stages.training.accounting import effective_noise_multiplier, privacy_profile, spent_by
from stages.training.curves import ending, from_csv
from stages.training.monitors import MONITORS
from stages.versions import commits_with, file_at

STATEMENT = "statement.yaml"

# What leaves, by its place in the bundle; tables come on top, and figures are drawn anew.
MODEL = {f"model/{name}": Path("models/classifier") / name for name in (*CONTENTS, SUMS)}
METRICS = ("metrics/train.json", "metrics/evaluate.json")
TABLES = ("attack", "subgroups", "test_counts", "training")
# What follows from these is made anew, so that it cannot be of another run.
DERIVED = ("confusion", "privacy_utility", "roc")

EXPECTED = (
    *(*MODEL, *METRICS, "README.md", "report.html", "report.md"),
    *(f"plots/{table}.csv" for table in (*TABLES, *DERIVED)),
    *(f"plots/{name}" for name in plot.PICTURES),
)

# How far ε may be from the stated one when it is computed again, as a share: rounding on other
# machines is a millionth of that.
TOLERANCE = 1e-3
# Room for the thousandths of a row to which a table is rounded, in figures between 0 and a few.
ROUNDED_TABLE = 1e-3
# More mechanisms than any run of this pipeline releases.
MOST_EVENTS = 64


def main() -> None:
    arguments = _arguments()
    if arguments.verify:
        statement = verify(arguments.folder)
        verdict = "agrees with its statement, and both accountants with the ε in it"
    else:
        statement = publish(arguments.folder)
        verdict = "may leave the building"
    epsilon, delta = statement.evidence.epsilon, statement.evidence.delta
    print(f"{arguments.folder} {verdict}: ε = {epsilon:.4f} at δ = {delta:g}")
    print(f"fingerprint of its statement, to be told by another way: {statement.checksum}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="of the bundle, which must not exist yet")
    parser.add_argument("--verify", action="store_true", help="check the bundle that is there")
    return parser.parse_args()


# --- make ----------------------------------------------------------------------------------------


def publish(folder: Path) -> Statement:
    """Make the bundle in `folder` and return its statement.

    Raises:
        UserError: the folder exists; the run is a simulation, has exact metrics, did not pass its
            monitors, is not on record or over budget; its files do not belong together; or a
            private value was found in what would have left. Nothing is left behind then.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists already. Name a new folder, or remove this one.")
    params = load_params()
    drawn = load_statement(Path("plots") / STATEMENT)
    release = plot.read_release(
        Path(), Schema.load(MODEL["model/schema.json"]), drawn.evidence.parameters
    )
    _refuse_unpublishable(release)
    total = _total_within_budget(release, params)
    if make_statement(release) != drawn:
        raise UserError(
            f"plots/{STATEMENT} tells of another run than metrics/ and models/ hold. Bring them up "
            "to date with: dvc repro"
        )
    # Since the run ended others may have been made, or brought in from the commits of a clone.
    release = replace(release, test={**release.test, "epsilon_total": total})
    with whole_folder(folder) as scratch:
        statement = _fill(scratch, release)
        if found := leaks(scratch, params.data, scratch / "model/schema.json"):
            raise UserError(
                "nothing was published: of the private table, "
                + "; ".join(found)
                + ". Find out how it got there; if the value is public, declare it in the schema."
            )
        verify(scratch)
    return statement


def _fill(folder: Path, release: Release) -> Statement:
    """Write all of the bundle into `folder`, and what it holds into its statement."""
    for name, source in MODEL.items():
        _copy(source, folder / name)
    for name in [f"plots/{table}.csv" for table in TABLES]:
        _copy(Path(name), folder / name)
    release = replace(release, train=_without_commits(release.train))
    for name, content in zip(METRICS, (release.train, release.test), strict=True):
        write_json(folder / name, content)
    statement = make_statement(release, published=datetime.now(UTC).date())
    drawn = plot.figures_of(folder, release)
    plot.write_pictures(folder / "plots", drawn)
    table, classes = table_of(read_csv(folder / "plots/test_counts.csv"))
    write_csv(folder / "plots/confusion.csv", confusion_rows(table, classes))
    write_csv(folder / "plots/roc.csv", roc_rows(table))
    write_csv(folder / "plots/privacy_utility.csv", [figures.utility_point(release.test)])
    write_text(folder / "report.html", plot.page(statement, release, drawn))
    write_text(folder / "report.md", render("report.md", statement, release, pictures="plots/"))
    write_text(folder / "README.md", render("model_card.md", statement, release))
    statement = make_statement(
        release, published=statement.deployment.basic.publication_date, files=_hashes(folder)
    )
    write_text(folder / STATEMENT, statement.to_yaml())
    return statement


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        raise UserError(f"{source}: no such file. Make it with: dvc repro") from None


def _without_commits(train: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out which commit was continued: its id is a hash of dvc.lock, and so of the table."""
    if train["parent"] is None:
        return dict(train)
    kept = {key: train["parent"][key] for key in ("data_changed", "table_changed")}
    return {**train, "parent": kept}


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / STATEMENT
    }


# --- refuse --------------------------------------------------------------------------------------


def _refuse_unpublishable(release: Release) -> None:
    if release.no_guarantee:
        raise UserError(
            f"nothing was published: {release.no_guarantee}, so ε does not cover this run. Empty "
            "`simulation_seed`, set `exact_metrics: false` and run: dvc repro"
        )
    missing = set(MONITORS) - set(release.train["monitors_passed"])
    if missing:
        raise UserError(
            "nothing was published: metrics/train.json does not say that these monitors passed: "
            f"{', '.join(sorted(missing))}. Train again with: dvc repro --force train"
        )
    if mixed := list(_mixtures(Path(), MODEL["model/model.json"].parent, release)):
        raise UserError(
            f"nothing was published: {'; '.join(mixed)}. These are of different runs; bring them "
            "back together with: dvc checkout and git restore metrics plots, or dvc repro"
        )


def _mixtures(folder: Path, model: Path, release: Release) -> Iterator[str]:
    """Yield where model, metrics and tables in `folder` are not of one run."""
    train, test = release.train, release.test
    (training,) = train["ledger"]
    _, description = load_model(model)
    stated = description["privacy"]
    if stated["run"] != training["run"]:
        yield "the model is not that of metrics/train.json"
    if any(stated[key] != train[key] for key in ("epsilon", "delta")):
        yield "the model states another ε or δ than metrics/train.json"
    (testing,) = test["ledger"]
    if testing["measures"] != training["run"]:
        yield "metrics/evaluate.json measured another model than that of metrics/train.json"
    epochs = from_csv(read_csv(folder / "plots/training.csv"))
    if any(ending(epochs, name)[0] != train[name] for name in ("loss", "accuracy")):
        yield "plots/training.csv does not end with the figures of metrics/train.json"
    table, _ = table_of(read_csv(folder / "plots/test_counts.csv"))
    counted = metrics_of(table).items()
    if any(abs(value - test[name]) > ROUNDED_TABLE for name, value in counted):
        yield "plots/test_counts.csv does not have the figures of metrics/evaluate.json"
    everyone = read_csv(folder / "plots/subgroups.csv")[0]
    if abs(float(everyone["accuracy"]) - test["accuracy"]) > ROUNDED_TABLE:
        yield "plots/subgroups.csv does not begin with the accuracy of metrics/evaluate.json"


def _total_within_budget(release: Release, params: Params) -> float:
    """Return ε of all that is on record about these people, this run included.

    Raises:
        UserError: it is above the budget, or the record is not complete.
    """
    ledger = Ledger()
    entries = {entry.run: entry for entry in ledger.entries()}
    runs = [
        record["run"] for metrics in (release.train, release.test) for record in metrics["ledger"]
    ]
    if unknown := [run for run in runs if run not in entries]:
        raise UserError(
            f"nothing was published: the ledger does not know this run ({unknown[0]}), as after "
            "cloning. Commit the run, then: python -m stages.ledger rebuild"
        )
    if missing := _runs_in_commits() - {*entries}:
        raise UserError(
            f"nothing was published: the ledger lacks {len(missing)} runs that commits or "
            "experiments hold, as after cloning, so its total is too low. Bring them in with: "
            "python -m stages.ledger rebuild"
        )
    for metrics in (release.train, release.test):
        for record in metrics["ledger"]:
            entry = entries[record["run"]]
            if entry.struck is not None or entry.spend.public() != record["spend"]:
                raise UserError(
                    f"nothing was published: the ledger's entry of {record['run']} was struck, or "
                    "tells of another mechanism than metrics/. Train again with: dvc repro"
                )
    total = ledger.total(entries[runs[0]].spend)
    if params.privacy_budget is not None and total > params.privacy_budget:
        raise UserError(
            f"nothing was published: ε of all runs on this table is {total:.3f}, above "
            f"`privacy_budget` {params.privacy_budget:g}. Raise `privacy_budget` in params.yaml, "
            "or see where it went with: python -m stages.ledger"
        )
    return total


def _runs_in_commits() -> set[str]:
    """Return every run on record in a commit or experiment."""
    texts = (file_at(commit, path) for commit in commits_with(*METRICS) for path in METRICS)
    return {
        record["run"]
        for text in texts
        if text
        for record in json.loads(text).get("ledger", [])
        if record["run"]
    }


# --- verify --------------------------------------------------------------------------------------


def verify(folder: Path) -> Statement:
    """Check a bundle by itself, with neither the private table nor its repository at hand.

    The files are held against the statement, the statement against what follows from metrics and
    schema, and ε against both accountants, who are told the mechanisms in the statement.

    Raises:
        UserError: something does not agree; the message names all of it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Name the bundle that publish has made.")
    statement = load_statement(folder / STATEMENT)
    try:
        problems = list(_problems(statement, folder))
    except UserError:
        raise
    except Exception as error:  # whatever a forger's files do to those that read them
        problems = [f"its files cannot be understood ({type(error).__name__}: {error})"]
    if problems:
        raise UserError(
            f"{folder}: the bundle does not agree with its statement:\n  "
            + "\n  ".join(problems)
            + "\nDo not rely on it; ask the data owner for an intact copy."
        )
    return statement


def _problems(statement: Statement, folder: Path) -> Iterator[str]:
    changed = list(_changed_files(folder, statement.evidence.files))
    if statement.checksum != statement.computed_checksum:
        changed.append(f"{STATEMENT} was changed")
    yield from changed
    if changed:  # what is not as it was written need not be understood
        return
    sides = (statement.evidence.training, statement.evidence.testing)
    if any(len(side.spend) > MOST_EVENTS for side in sides):
        yield f"{STATEMENT} tells of more than {MOST_EVENTS} mechanisms"
        return
    yield from _differences(statement, folder)
    yield from _wrong_figures(statement.evidence)


def _changed_files(folder: Path, stated: Mapping[str, str]) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            yield f"{path.relative_to(folder)} is neither a file nor a folder"
    found = _hashes(folder)
    for name in sorted({*stated, *found, *EXPECTED}):
        if name not in found:
            yield f"{name} is missing"
        elif name not in stated:
            yield f"{name} does not belong to it"
        elif found[name] != stated[name]:
            yield f"{name} was changed"


def _differences(statement: Statement, folder: Path) -> Iterator[str]:
    """Yield where the statement is not what follows from the metrics and the schema beside it."""
    schema = Schema.load(folder / "model/schema.json")
    release = plot.read_release(folder, schema, statement.evidence.parameters)
    yield from _mixtures(folder, folder / "model", release)
    again = make_statement(
        release,
        published=statement.deployment.basic.publication_date,
        files=statement.evidence.files,
    )
    stated, derived = (dict(_leaves(one.model_dump(mode="json"))) for one in (statement, again))
    for place in sorted({*stated, *derived}):
        if stated.get(place) != derived.get(place):
            yield f"{STATEMENT}: `{place}` does not follow from metrics/ and model/"


def _leaves(content: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict) and content:
        for key, value in content.items():
            yield from _leaves(value, f"{place}.{key}" if place else key)
    else:
        yield place, content


def _wrong_figures(evidence: Evidence) -> Iterator[str]:
    """Yield what is otherwise when computed again from the mechanisms in the statement."""
    for name, stated, computed in _figures(evidence):
        if stated is None or not math.isclose(stated, computed, rel_tol=TOLERANCE):
            yield f"{name} is stated as {stated}, but comes out as {computed:.6g}"


def _figures(evidence: Evidence) -> Iterator[tuple[str, float | None, float]]:
    """Yield name, stated and computed value of everything that the mechanisms decide."""
    training, testing = evidence.training, evidence.testing
    scale, delta = evidence.parameters["target_epsilon"], training.delta or math.nan
    history = [Steps(**event.steps.model_dump()) for event in training.history]
    spend, counts = (
        from_json([event.model_dump() for event in side.spend]) for side in (training, testing)
    )
    last = history[-1]
    yield (
        "the noise multiplier of a step",
        effective_noise_multiplier(training.noise_multiplier, training.metric_noise_multiplier),
        last.noise_multiplier,
    )
    yield "the sampling rate", training.sample_rate, last.sample_rate
    yield "the number of steps", training.steps, last.steps

    spent = spent_by(history, delta, scale, planned=training.planned_in_advance)
    yield "ε by privacy random variables", training.epsilon_prv, spent.prv
    yield "ε by loss distributions", training.epsilon_pld, spent.pld
    yield "ε by Rényi divergence", training.epsilon_renyi, spent.renyi
    yield "ε of replacing a row", training.epsilon_replace_one, spent.replace_one
    trained = epsilon_renyi(spend, delta) if training.best_of_many else spent.epsilon
    tested = _epsilon_of_counts(counts, delta)
    yield "ε of the training", training.epsilon, trained
    yield "ε of the test figures", testing.epsilon, tested
    both = trained + tested if evidence.lineage.table_changed else max(trained, tested)
    yield "ε of the whole", evidence.epsilon, both

    best = told(
        privacy_profile(
            spend if training.best_of_many else history, planned=training.planned_in_advance
        )
    )
    for key, value in best.items():
        yield f"attack: {key}", (evidence.attack.model_and_curves or {}).get(key), value


def _epsilon_of_counts(events: Sequence[Event], delta: float) -> float:
    pure = [event.epsilon for event in events if isinstance(event, DiscreteLaplace)]
    return sum(pure) if len(pure) == len(events) else epsilon_renyi(events, delta)


if __name__ == "__main__":
    run(main)
