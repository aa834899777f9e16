"""Where the files of a run are not of one run, as after a stage that ran alone."""

from collections.abc import Iterator
from pathlib import Path

from stages.errors import GO_BACK, UserError
from stages.model.files import load_model
from stages.reporting.run import Run
from stages.training.curves import ending

# Room for the thousandths of a row to which a table is rounded, in figures between 0 and a few.
ROUNDED_TABLE = 1e-3


def refuse_mixtures(run: Run, model: Path) -> None:
    """Make sure that what is told together is of one run.

    Raises:
        UserError: it is not; the message names all of it.
    """
    if mixed := list(mixtures(run, model)):
        raise UserError(
            f"{'; '.join(mixed)}. These are of different runs. Go back, at no ε, with: {GO_BACK}; "
            "or make what is missing with: dvc repro"
        )


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
    if stated["releases"] != [record.model_dump(mode="json") for record in train.releases]:
        yield "the model was made from other releases than metrics/train.json tells"
    runs = dict.fromkeys(record.run for record in (*train.releases, *test.ledger))
    if test.releases and [*runs] != [record.run for record in test.releases]:
        yield "metrics/evaluate.json leaves out releases that the model was made from"
    total, overall = test.epsilon_total, test.epsilon_overall
    if total is not None and overall is not None and total < 0.999 * overall:
        yield "metrics/evaluate.json tells a smaller ε of all runs on record than of this one"
    ends = {name: ending(run.epochs, name)[0] for name in ("loss", "accuracy")}
    if ends != {"loss": train.loss, "accuracy": train.accuracy}:
        yield "plots/training.csv does not end with the figures of metrics/train.json"
    counted = run.counts.figures(ordered=run.schema.label.ordered).items()
    if run.counts.is_noisy and any(
        abs(one.value - test.figures[name]) > ROUNDED_TABLE for name, one in counted
    ):
        yield "plots/test_counts.csv does not have the figures of metrics/evaluate.json"
    everyone = run.groups[0]
    if abs(float(everyone["accuracy"]) - test.accuracy) > ROUNDED_TABLE:
        yield "plots/subgroups.csv does not begin with the accuracy of metrics/evaluate.json"
