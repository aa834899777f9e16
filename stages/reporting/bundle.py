"""Make the bundle that may leave the building."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from stages.books.booking import budget_of
from stages.books.people import Budget, Entry
from stages.books.rebuild import open_ledger, own_ledger
from stages.errors import UserError
from stages.evaluation.tables import write_drawn
from stages.files import whole_folder, write_text
from stages.model.classifier import load
from stages.model.files import CLASSIFIER
from stages.model.portable import to_onnx
from stages.params import load_params
from stages.reporting.mixtures import refuse_mixtures
from stages.reporting.report import write_report
from stages.reporting.run import Run
from stages.reporting.statement import FILE_NAME, Statement, load_statement, make_statement, to_yaml
from stages.reporting.templates import fill
from stages.reporting.verify import MODEL_ONNX, TABLES, hashes_of, parameters_of, verify
from stages.tabular.leaks import leaks
from stages.training.monitors import MONITORS
from stages.versions.commits import hidden_past


def publish(folder: Path) -> Statement:
    """Make the bundle in `folder` and return its statement.

    Raises:
        UserError: the folder exists; the run may not be published, see `refuse_unpublishable`; its
            files do not belong together; or a private value was found in what would have left.
            Nothing is left behind then.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists already. Name a new folder, or remove this one.")
    params = load_params()
    drawn = load_statement(Path("plots") / FILE_NAME)
    run = Run.read(Path(), load(CLASSIFIER), parameters_of(drawn))
    total = refuse_unpublishable(run, budget_of(params))
    if make_statement(run) != drawn:
        raise UserError(
            f"plots/{FILE_NAME} tells of another run than metrics/ and models/ hold. Draw it anew, "
            "which costs no ε, with: dvc repro --force --single-item plot"
        )
    # Since the run ended others may have been made, or brought in from the commits of a clone.
    test = run.test.model_copy(update={"epsilon_total": total})
    run = for_others(replace(run, test=test))
    with whole_folder(folder) as scratch:
        statement = _fill(scratch, run)
        if found := leaks(scratch, params.data, scratch / "model/schema.json"):
            raise UserError(
                f"nothing was published: of the private table, {'; '.join(found)}. Find out how it "
                "got there; if the value is public, declare it in the schema."
            )
        verify(scratch)
        own_ledger().note_bundle(folder.resolve(), [str(one.run) for one in run.releases])
    return statement


def refuse_unpublishable(run: Run, budget: Budget | None) -> float | None:
    """Return ε of all that is on record about these people, this run included, if it is known.

    Args:
        run: what would leave.
        budget: what that ε may be at most, if it is capped.

    Raises:
        UserError: the run is a simulation, has exact metrics, did not pass its monitors, is not on
            record or over budget, or its files are of different runs.
    """
    if run.no_guarantee:
        raise _refusal(
            f"{run.no_guarantee}, so ε does not cover this run. Empty `simulation_seed`, set "
            "`exact_metrics: false` and run: dvc repro"
        )
    if missing := {*MONITORS} - {*run.train.monitors_passed}:
        raise _refusal(
            "metrics/train.json does not say that these monitors passed: "
            f"{', '.join(sorted(missing))}. Train again with: dvc repro --force train && dvc repro"
        )
    refuse_mixtures(run, CLASSIFIER)
    if why := hidden_past():
        raise _refusal(why)
    ledger = open_ledger()
    own, *_ = _own_entries(run, ledger.entries())
    ledger.require(*(str(record.run) for record in run.releases))
    total = ledger.total(own.spend, run.train.delta)
    if budget is not None and total is None:
        raise _refusal(
            "ε of all runs on this table is not known, so `privacy_budget` cannot be held. Why, "
            "tells: python -m stages.ledger"
        )
    used = 0.0 if budget is None else ledger.used(own.spend, budget)
    if budget is not None and used > budget.epsilon:
        raise _refusal(
            f"ε of all runs on this table is {used:.3f}, above `privacy_budget` "
            f"{budget.epsilon:g}. Raise `privacy_budget` in params.yaml, or see where it went "
            "with: python -m stages.ledger"
        )
    return total


def _own_entries(run: Run, entries: list[Entry]) -> list[Entry]:
    """Return what a complete ledger has of the run, which has to be what the run tells."""
    known = {entry.run: entry for entry in entries}
    records = (run.train.record, *run.test.ledger)
    own = [known[str(record.run)] for record in records]
    for entry, record in zip(own, records, strict=True):
        if entry.struck is not None or entry.spend.public() != record.spend.model_dump(
            exclude={"deal"}
        ):
            raise _refusal(
                f"the ledger's entry of {record.run} was struck, or tells of another mechanism "
                "than metrics/. Train again with: dvc repro"
            )
    return own


def _refusal(why: str) -> UserError:
    return UserError(f"nothing was published: {why}")


def for_others(run: Run) -> Run:
    """Leave out whose rows were read, and which commit was continued.

    Its id is a hash of dvc.lock, and so of the table, as is what the records tell of that.
    """
    parent = run.train.parent
    if parent is not None:
        parent = parent.model_copy(update={"commit": None, "checkpoint": None})
    train, test = ([one.for_others for one in result.ledger] for result in (run.train, run.test))
    return replace(
        run,
        train=run.train.model_copy(update={"parent": parent, "ledger": train}),
        test=run.test.model_copy(update={"ledger": tuple(test)}),
    )


def _fill(folder: Path, run: Run) -> Statement:
    """Write all of the bundle into `folder`, and what it holds into its statement."""
    shutil.copytree(CLASSIFIER, folder / "model", copy_function=shutil.copyfile)
    run.train.write(folder)
    run.test.write(folder)
    # What follows from other files is made anew, so that it cannot be of another run.
    write_drawn(run.counts.table, run.classes, folder / "plots")
    for name in TABLES:
        shutil.copyfile(name, folder / name)
    today = datetime.now(UTC).date()
    statement = make_statement(run, published=today)
    write_report(run, statement, folder, folder / "plots")
    model = run.classifier
    (folder / MODEL_ONNX).write_bytes(to_onnx(model.model, model.schema))
    front, card = (
        fill(f"model_card.{kind}", run=run, statement=statement) for kind in ("yaml", "md")
    )
    write_text(folder / "README.md", f"---\n{front}---\n{card}")
    statement = make_statement(run, published=today, files=hashes_of(folder))
    write_text(folder / FILE_NAME, to_yaml(statement))
    return statement
