"""Make the bundle that may leave the building."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from stages.errors import UserError
from stages.evaluation.tables import confusion_rows, roc_rows
from stages.files import whole_folder, write_csv, write_text
from stages.params import load_params
from stages.reporting.contents import TABLES, hashes_of
from stages.reporting.publishable import refuse_unpublishable
from stages.reporting.report import write_report
from stages.reporting.run import Run
from stages.reporting.statement import (
    FILE_NAME,
    Statement,
    load_statement,
    make_statement,
    parameters_of,
    to_yaml,
)
from stages.reporting.templates import fill
from stages.reporting.verify import verify
from stages.tabular.leaks import leaks
from stages.tabular.schema import Schema
from stages.training.result import TrainResult

CLASSIFIER = Path("models/classifier")


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
    schema = Schema.load(CLASSIFIER / "schema.json")
    run = Run.read(Path(), schema, parameters_of(drawn))
    total = refuse_unpublishable(run, CLASSIFIER, params.privacy_budget)
    if make_statement(run) != drawn:
        raise UserError(
            f"plots/{FILE_NAME} tells of another run than metrics/ and models/ hold. Bring them up "
            "to date with: dvc repro"
        )
    # Since the run ended others may have been made, or brought in from the commits of a clone.
    test = run.test.model_copy(update={"epsilon_total": total})
    run = replace(run, train=without_commits(run.train), test=test)
    with whole_folder(folder) as scratch:
        statement = _fill(scratch, run)
        if found := leaks(scratch, params.data, scratch / "model/schema.json"):
            raise UserError(
                f"nothing was published: of the private table, {'; '.join(found)}. Find out how it "
                "got there; if the value is public, declare it in the schema."
            )
        verify(scratch)
    return statement


def without_commits(train: TrainResult) -> TrainResult:
    """Leave out which commit was continued: its id is a hash of dvc.lock, and so of the table."""
    if train.parent is None:
        return train
    parent = train.parent.model_copy(update={"commit": None, "checkpoint": None})
    return train.model_copy(update={"parent": parent})


def _fill(folder: Path, run: Run) -> Statement:
    """Write all of the bundle into `folder`, and what it holds into its statement."""
    shutil.copytree(CLASSIFIER, folder / "model", copy_function=shutil.copyfile)
    run.train.write(folder)
    run.test.write(folder)
    # What follows from other files is made anew, so that it cannot be of another run.
    write_csv(folder / "plots/confusion.csv", confusion_rows(run.table, run.classes))
    write_csv(folder / "plots/roc.csv", roc_rows(run.table))
    for name in TABLES:
        shutil.copyfile(name, folder / name)
    today = datetime.now(UTC).date()
    statement = make_statement(run, published=today)
    write_report(run, statement, folder, folder / "plots")
    write_text(folder / "README.md", fill("model_card.md", run=run, statement=statement))
    statement = make_statement(run, published=today, files=hashes_of(folder))
    write_text(folder / FILE_NAME, to_yaml(statement))
    return statement
