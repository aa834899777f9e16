"""Draw the released tables and write the report: the `plot` stage.

Reads metrics/*.json, the tables that training and evaluation left in plots/*.csv, and the schema;
writes pictures, report and statement into plots/. It reads no private row, and spends nothing.
"""

from pathlib import Path

from stages.commands import run_stage
from stages.files import write_text
from stages.params import load_params
from stages.reporting.report import write_report
from stages.reporting.run import Parameters, Run
from stages.reporting.statement import FILE_NAME, make_statement
from stages.tabular.schema import Schema

PLOTS = Path("plots")


def main() -> None:
    params = load_params()
    parameters = Parameters(
        target_epsilon=params.target_epsilon,
        test_fraction=params.test_fraction,
        split_seed=params.split_seed,
        train_size=params.train_size,
        privacy_budget=params.privacy_budget,
    )
    run = Run.read(Path(), Schema.load(params.schema_path), parameters)
    statement = make_statement(run)
    write_text(PLOTS / FILE_NAME, statement.to_yaml())
    write_report(run, statement, PLOTS, PLOTS)


if __name__ == "__main__":
    run_stage(main, __doc__)
