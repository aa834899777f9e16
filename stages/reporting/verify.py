"""Verify a bundle by itself, with neither the private table nor its repository at hand."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.errors import UserError
from stages.evaluation.metrics import metrics_of
from stages.files import read_json
from stages.model.files import load_model
from stages.privacy.attack import figures_of
from stages.privacy.events import DiscreteLaplace, Event, Steps
from stages.privacy.renyi import epsilon_renyi
from stages.reporting.contents import EXPECTED, hashes_of
from stages.reporting.run import Run
from stages.reporting.statement import (
    FILE_NAME,
    Evidence,
    Statement,
    load_statement,
    make_statement,
)
from stages.tabular.schema import Schema
from stages.training.accounting import effective_noise_multiplier, privacy_profile, spent_by
from stages.training.curves import ending

# How far ε may be from the stated one when it is computed again, as a share: rounding on other
# machines is a millionth of that.
TOLERANCE = 1e-3
# Room for the thousandths of a row to which a table is rounded, in figures between 0 and a few.
ROUNDED_TABLE = 1e-3
# More mechanisms than any run of this pipeline releases.
MOST_EVENTS = 64


def verify(folder: Path) -> Statement:
    """Check a bundle and return its statement.

    The files are held against the statement, the statement against what follows from metrics and
    schema, and ε against both accountants, who are told the mechanisms in the statement.

    Raises:
        UserError: something does not agree; the message names all of it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Name the bundle that publish has made.")
    statement = load_statement(folder / FILE_NAME)
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


def mixtures(run: Run, model: Path) -> Iterator[str]:
    """Yield where the model, metrics and tables of a run are not of one run."""
    train, test = run.train, run.test
    stated = load_model(model)[1]["privacy"]
    if stated["run"] != train.record.run:
        yield "the model is not that of metrics/train.json"
    if (stated["epsilon"], stated["delta"]) != (train.epsilon, train.delta):
        yield "the model states another ε or δ than metrics/train.json"
    if any(record.measures != train.record.run for record in test.ledger):
        yield "metrics/evaluate.json measured another model than that of metrics/train.json"
    ends = {name: ending(run.epochs, name)[0] for name in ("loss", "accuracy")}
    if ends != {"loss": train.loss, "accuracy": train.accuracy}:
        yield "plots/training.csv does not end with the figures of metrics/train.json"
    counted = metrics_of(run.table).items()
    if any(abs(value - test.figures[name]) > ROUNDED_TABLE for name, value in counted):
        yield "plots/test_counts.csv does not have the figures of metrics/evaluate.json"
    everyone = run.groups[0]
    if abs(float(everyone["accuracy"]) - test.accuracy) > ROUNDED_TABLE:
        yield "plots/subgroups.csv does not begin with the accuracy of metrics/evaluate.json"


def _problems(statement: Statement, folder: Path) -> Iterator[str]:
    changed = list(_changed_files(folder, statement.evidence.files))
    if statement.checksum != statement.computed_checksum:
        changed.append(f"{FILE_NAME} was changed")
    yield from changed
    if changed:  # what is not as it was written need not be understood
        return
    sides = (statement.evidence.training, statement.evidence.testing)
    if any(len(side.spend) > MOST_EVENTS for side in sides):
        yield f"{FILE_NAME} tells of more than {MOST_EVENTS} mechanisms"
        return
    schema = Schema.load(folder / "model/schema.json")
    run = Run.read(folder, schema, statement.evidence.parameters)
    yield from _other_headlines(run, folder)
    yield from mixtures(run, folder / "model")
    yield from _differences(statement, run)
    yield from _wrong_figures(statement.evidence)


def _changed_files(folder: Path, stated: Mapping[str, str]) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            yield f"{path.relative_to(folder)} is neither a file nor a folder"
    found = hashes_of(folder)
    for name in sorted({*stated, *found, *EXPECTED}):
        if name not in found:
            yield f"{name} is missing"
        elif name not in stated:
            yield f"{name} does not belong to it"
        elif found[name] != stated[name]:
            yield f"{name} was changed"


def _other_headlines(run: Run, folder: Path) -> Iterator[str]:
    for result in (run.train, run.test):
        if read_json(folder / result.path) != result.content:
            yield f"{result.path} does not begin with what follows from its evidence"


def _differences(statement: Statement, run: Run) -> Iterator[str]:
    """Yield where the statement is not what follows from the run beside it."""
    again = make_statement(
        run,
        published=statement.deployment.basic.publication_date,
        files=statement.evidence.files,
    )
    stated, derived = (dict(_leaves(one.model_dump(mode="json"))) for one in (statement, again))
    for place in sorted({*stated, *derived}):
        if stated.get(place) != derived.get(place):
            yield f"{FILE_NAME}: `{place}` does not follow from metrics/ and model/"


def _leaves(content: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict) and content:
        for key, value in content.items():
            yield from _leaves(value, f"{place}.{key}" if place else key)
    else:
        yield place, content


def _wrong_figures(evidence: Evidence) -> Iterator[str]:
    """Yield what is otherwise when computed again from the mechanisms in the statement."""
    for name, stated, computed in (*_of_mechanism(evidence), *_of_accountants(evidence)):
        if stated is None or not math.isclose(stated, computed, rel_tol=TOLERANCE):
            yield f"{name} is stated as {stated}, but comes out as {computed:.6g}"


# What is computed again: its name, and the values as stated and as they come out.
Figures = Iterator[tuple[str, float | None, float]]


def _of_mechanism(evidence: Evidence) -> Figures:
    training, last = evidence.training, _history(evidence)[-1]
    yield (
        "the noise multiplier of a step",
        effective_noise_multiplier(training.noise_multiplier, training.metric_noise_multiplier),
        last.noise_multiplier,
    )
    yield "the sampling rate", training.sample_rate, last.sample_rate
    yield "the number of steps", training.steps, last.steps


def _of_accountants(evidence: Evidence) -> Figures:
    training, testing, history = evidence.training, evidence.testing, _history(evidence)
    delta, planned = training.delta or math.nan, training.planned_in_advance
    spent = spent_by(history, delta, evidence.parameters.target_epsilon, planned=planned)
    yield "ε by privacy random variables", training.epsilon_prv, spent.prv
    yield "ε by loss distributions", training.epsilon_pld, spent.pld
    yield "ε by Rényi divergence", training.epsilon_renyi, spent.renyi
    yield "ε of replacing a row", training.epsilon_replace_one, spent.replace_one
    trained = epsilon_renyi(training.spend, delta) if training.best_of_many else spent.epsilon
    tested = _epsilon_of_counts(testing.spend, delta)
    yield "ε of the training", training.epsilon, trained
    yield "ε of the test figures", testing.epsilon, tested
    both = trained + tested if evidence.lineage.table_changed else max(trained, tested)
    yield "ε of the whole", evidence.epsilon, both

    events = training.spend if training.best_of_many else history
    stated = evidence.attack.model_and_curves or {}
    for key, value in figures_of(privacy_profile(events, planned=planned)).items():
        yield f"attack: {key}", stated.get(key), value


def _history(evidence: Evidence) -> list[Steps]:
    history = evidence.training.history
    steps = [event for event in history if isinstance(event, Steps)]
    if len(steps) < len(history):
        raise TypeError("a history of anything but steps")
    return steps


def _epsilon_of_counts(events: Sequence[Event], delta: float) -> float:
    pure = [event.epsilon for event in events if isinstance(event, DiscreteLaplace)]
    return sum(pure) if len(pure) == len(events) else epsilon_renyi(events, delta)
