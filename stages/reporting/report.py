"""Write the report of a run: Markdown, a page, pictures, and a point for `dvc plots diff`."""

import math
from pathlib import Path

from stages.evaluation.result import EvaluateResult
from stages.files import write_csv, write_text
from stages.reporting.drawings import draw, graphics_of, write_pictures
from stages.reporting.page import page
from stages.reporting.run import Run
from stages.reporting.statement import Statement
from stages.reporting.templates import fill
from stages.reporting.words import around


def write_report(run: Run, statement: Statement, folder: Path, plots: Path) -> None:
    """Write report.md and report.html into `folder`, and into `plots`, in or below it, the rest."""
    figures = draw(run)
    write_pictures(figures, plots)
    write_csv(plots / "privacy_utility.csv", [utility_point(run.test)])
    write_csv(plots / "effects.csv", [*run.classifier.learned.rows(run.classes)])
    to_plots = "".join(f"{part}/" for part in plots.relative_to(folder).parts)
    markdown = fill("report.md", run=run, statement=statement, plots=to_plots)
    write_text(folder / "report.md", markdown)
    write_text(folder / "report.html", page(markdown, graphics_of(figures)))


def utility_point(test: EvaluateResult) -> dict[str, float | None]:
    """Return ε of the run, and accuracy and loss with the ends of their ±, as a row of CSV."""
    point: dict[str, float | None] = {"epsilon": test.epsilon_overall, "base_rate": test.base_rate}
    for name, most in (("accuracy", 1.0), ("loss", math.inf)):
        ends = around(test, name, most) if name in test.figures else (None, None, None)
        value, low, high = ends
        point |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return point
