"""Draw the released tables and write the report: the `plot` stage.

Reads metrics/*.json, the tables that training and evaluation left in plots/*.csv, and the model
with its schema; writes pictures, report and statement into plots/. It reads no private row, and
spends nothing. And it lets metrics/runs.jsonl take along what the ledger knows.
"""

from pathlib import Path

from stages.books.runs import write_runs
from stages.commands import run_stage
from stages.files import write_text
from stages.model.files import CLASSIFIER
from stages.params import load_params
from stages.reporting.run import Parameters, Run
from stages.reporting.statement import FILE_NAME, make_statement, to_yaml

PLOTS = Path("plots")


def main() -> None:
    params = load_params()
    # After the parameters, so that who made a mistake there need not wait for matplotlib.
    from stages.model.classifier import load  # noqa: PLC0415
    from stages.reporting.mixtures import refuse_mixtures  # noqa: PLC0415
    from stages.reporting.report import write_report  # noqa: PLC0415

    told = Parameters.model_validate(params, from_attributes=True)
    run = Run.read(Path(), load(CLASSIFIER), told)
    refuse_mixtures(run, CLASSIFIER)
    statement = make_statement(run)
    write_text(PLOTS / FILE_NAME, to_yaml(statement))
    write_report(run, statement, PLOTS, PLOTS)
    write_runs()


if __name__ == "__main__":
    run_stage(main, __doc__)
