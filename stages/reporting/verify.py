"""Verify a bundle by itself, with neither the private table nor its repository at hand."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from stages.books.records import deal_of, epsilon_of, seen_by
from stages.errors import UserError
from stages.evaluation.result import EvaluateResult
from stages.explain import mistakes
from stages.files import read_csv, read_json
from stages.model.classifier import load
from stages.model.files import CONTENTS, SUMS
from stages.model.portable import differences
from stages.privacy.attack import figures_of
from stages.privacy.events import BestOfMany, DiscreteLaplace, Event, Steps, from_json
from stages.privacy.gaussian import epsilon_gaussian, is_gaussian, precision
from stages.privacy.renyi import epsilon_renyi
from stages.reporting.drawings import PICTURES
from stages.reporting.mixtures import ROUNDED_TABLE, mixtures
from stages.reporting.run import Parameters, Run
from stages.reporting.statement import (
    FILE_NAME,
    Statement,
    checksum_of,
    load_statement,
    make_statement,
)
from stages.training.accounting import effective_noise_multiplier, privacy_profile, spent_by
from stages.training.result import TrainResult

# How far ε may be from the stated one when it is computed again, as a share: rounding on other
# machines is a millionth of that.
TOLERANCE = 1e-3
# How far a number may be from one that is worked out again without noise, as a share.
ROUNDED = 1e-9
# More mechanisms than any run of this pipeline releases.
MOST_EVENTS = 64

MODEL_ONNX = "model.onnx"

# What a bundle holds, by its place there: the released tables, and all but the statement, which
# tells the hashes of these.
TABLES = ("plots/attack.csv", "plots/subgroups.csv", "plots/test_counts.csv", "plots/training.csv")
EXPECTED = (
    *(f"model/{name}" for name in (*CONTENTS, SUMS)),
    *(str(result.path) for result in (TrainResult, EvaluateResult)),
    *TABLES,
    *(f"plots/{name}.csv" for name in ("confusion", "effects", "privacy_utility", "roc")),
    *(f"plots/{name}" for name in PICTURES),
    *("README.md", "report.html", "report.md", MODEL_ONNX),
)


def verify(folder: Path) -> Statement:
    """Check a bundle and return its statement.

    The files are held against the statement, the statement against what follows from metrics and
    schema, and ε against both accountants, who are told the mechanisms in the metrics.

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


def parameters_of(statement: Statement) -> Parameters:
    """Return what a statement tells of params.yaml.

    Raises:
        UserError: it does not, or of values that these cannot have.
    """
    try:
        return Parameters.model_validate(statement["evidence"]["parameters"])
    except ValidationError as error:
        wrong = "; ".join(map(str, mistakes(error, Parameters)))
    except (KeyError, TypeError) as error:
        wrong = f"{error} is missing"
    raise UserError(
        f"{FILE_NAME}: `evidence.parameters`: {wrong}. Make the statement again with dvc repro, or "
        "ask for an intact copy."
    )


def hashes_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a bundle but the statement, by its place."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / FILE_NAME
    }


def _problems(statement: Statement, folder: Path) -> Iterator[str]:
    evidence = statement["evidence"]
    changed = list(_changed_files(folder, evidence["files"]))
    if statement.get("checksum") != checksum_of(statement):
        changed.append(f"{FILE_NAME} was changed: it has another checksum")
    if changed:  # what is not as it was written need not be understood
        yield from changed
        return
    run = Run.read(folder, load(folder / "model"), parameters_of(statement))
    spends = [record.spend for record in (run.train.record, *run.test.ledger)]
    if any(len(spend.events) > MOST_EVENTS for spend in spends):
        yield f"metrics/ tell of more than {MOST_EVENTS} mechanisms"
        return
    for result in (run.train, run.test):
        if read_json(folder / result.path) != result.content:
            yield f"{result.path} does not begin with what follows from its evidence"
    yield from mixtures(run, folder / "model")
    model = run.classifier
    for part in differences((folder / MODEL_ONNX).read_bytes(), model.model, model.schema):
        yield f"{MODEL_ONNX}: `{part}` does not follow from model/"
    effects = model.learned.rows(run.classes)
    if not _agree(read_csv(folder / "plots/effects.csv"), [*effects]):
        yield "plots/effects.csv does not follow from the model"
    published = date.fromisoformat(statement["deployment"]["basic"]["publication_date"])
    again = make_statement(run, published=published, files=evidence["files"])
    for place in _differences(statement, again):
        yield f"{FILE_NAME}: `{place}` does not follow from metrics/ and model/"
    # Whatever is no step has not what the accountants ask for.
    last = cast(Steps, from_json(run.train.history)[-1])
    again_computed = (*_of_mechanism(run.train, last), *_of_accountants(run, last))
    for name, stated, computed in again_computed:
        if not _alike(stated, computed):
            found = "not known" if computed is None else f"{computed:.6g}"
            yield f"{name} is stated as {stated}, but comes out as {found}"


def _alike(stated: float | None, computed: float | None) -> bool:
    if stated is None or computed is None:
        return stated is computed
    return math.isclose(stated, computed, rel_tol=TOLERANCE)


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


def _agree(told: Sequence[Mapping[str, str]], derived: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the rows of a table are those that follow, but for how machines round."""

    def alike(cell: str, value: Any) -> bool:
        return cell == value or (
            isinstance(value, float) and abs(float(cell) - value) <= ROUNDED_TABLE
        )

    return len(told) == len(derived) and all(
        ours.keys() == theirs.keys() and all(alike(ours[key], theirs[key]) for key in ours)
        for ours, theirs in zip(told, derived, strict=True)
    )


def _differences(stated: Any, derived: Any, place: str = "") -> Iterator[str]:
    """Yield the places at which a statement is not what follows; `derived` tells how far to look.

    Types count, as Python takes true for 1.
    """
    if type(stated) is type(derived) and isinstance(derived, dict | list):
        one, other = (
            each if isinstance(each, dict) else dict(enumerate(each)) for each in (stated, derived)
        )
        for key in sorted({*one, *other}, key=str):
            inner = f"{place}.{key}" if place else str(key)
            yield from _differences(one.get(key, _ABSENT), other.get(key, _ABSENT), inner)
    elif type(stated) is not type(derived) or not _equal(stated, derived):
        yield place


def _equal(stated: Any, derived: Any) -> bool:
    """Whether two values are the same, but for how machines round."""
    numbers = isinstance(stated, float) and isinstance(derived, float)
    return math.isclose(stated, derived, rel_tol=ROUNDED) if numbers else stated == derived


_ABSENT = object()  # None is a value

# What is computed again: its name, and the values as stated and as they come out.
Figures = Iterator[tuple[str, float | None, float | None]]


def _of_mechanism(train: TrainResult, last: Steps) -> Figures:
    noise = effective_noise_multiplier(train.noise_multiplier, train.metric_noise_multiplier)
    yield "the noise multiplier of a step", noise, last.noise_multiplier
    yield "the sampling rate", train.sample_rate, last.sample_rate
    yield "the number of steps", train.steps, last.steps


def _of_accountants(run: Run, last: Steps) -> Figures:
    train, delta = run.train, run.train.delta or math.nan
    own = train.record
    deal = deal_of(own.run, train.releases)
    past = seen_by("train", [one for one in train.releases if one.run != own.run], deal)
    planned = not past
    spent = spent_by([*past, last], delta, run.parameters.target_epsilon, planned=planned)
    yield "ε by privacy random variables", train.epsilon_prv, spent.prv
    yield "ε by loss distributions", train.epsilon_pld, spent.pld
    yield "ε by Rényi divergence", train.epsilon_renyi, spent.renyi

    events = from_json(own.spend.events)
    best_of_many = any(isinstance(event, BestOfMany) for event in events)
    replaced = None if best_of_many else spent.replace_one
    yield "ε of replacing a row", train.epsilon_replace_one, replaced
    own_alone = epsilon_renyi(events, delta) if best_of_many else spent.epsilon
    trained = max(own_alone, epsilon_of(train.releases, delta))
    tested = _epsilon_of_counts(run.test_events, delta)
    yield "ε of the training", train.epsilon, trained
    yield "ε of the test figures", run.test.epsilon, tested
    # Each release at the δ that it was asked for with, which may be another than the model's.
    alone = {own.run: own_alone if planned else None} | {
        one.run: _epsilon_of_counts(run.test_events, one.spend.delta) for one in run.test.ledger
    }
    for record in run.releases:
        if (computed := alone.get(record.run)) is not None:
            yield f"ε of the release {record.run}", record.spend.epsilon, computed
    yield "ε of the whole", run.epsilon, epsilon_of(run.releases, delta)

    others = seen_by("test", train.releases, deal)
    profile = privacy_profile([*past, *events], planned=planned, of_others=others)
    for key, value in figures_of(profile).items():
        yield f"attack: {key}", (train.attack or {}).get(key), value


def _epsilon_of_counts(events: Sequence[Event], delta: float) -> float:
    if is_gaussian(events):
        return epsilon_gaussian(precision(events), delta)
    pure = [event.epsilon for event in events if isinstance(event, DiscreteLaplace)]
    return sum(pure) if len(pure) == len(events) else epsilon_renyi(events, delta)
