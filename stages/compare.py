"""Compare runs by what they promise and what they are good for.

Prints a Markdown table of the workspace and of each revision: test accuracy ± for new patients, and
the part of that which is privacy noise; the base rate, which is the accuracy of always saying the
largest class; log loss ± for new patients; ε of all that the run publishes; and ε of all runs on
the table by then. Runs on another table or label have a table of their own. `dvc plots diff`
overlays the same points in a browser. In a notebook,

    from stages.compare import runs
    runs("main", "more-private")

is a pandas DataFrame of all released figures with their ±, a row per revision.
"""

from pathlib import Path

from stages.commands import new_parser, run
from stages.reporting.comparison import (
    by_subject,
    draw,
    results_at,
    runs,
    table,
)
from stages.reporting.figures import refuse_other_names
from stages.versions.files import WORKSPACE

__all__ = ["runs"]

EXAMPLE = "python -m stages.compare --rev main --rev more-private --picture privacy_utility.png"


def main() -> None:
    parser = new_parser(__doc__, EXAMPLE)
    parser.add_argument(
        "--rev",
        action="append",
        default=[],
        metavar="NAME",
        dest="revisions",
        help="a branch, commit, tag or experiment to put beside the workspace; may be repeated",
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE.png", help="draw accuracy against ε into this file"
    )
    arguments = parser.parse_args()
    if arguments.picture:
        refuse_other_names("--picture", arguments.picture)
    tests = {name: results_at(name)[1] for name in (WORKSPACE, *arguments.revisions)}
    groups = by_subject(tests)
    for subject, alike in groups.items():
        if len(groups) > 1:
            print(f"{subject}\n")
        print("\n".join(table(alike)), end="\n\n")
    print("report: plots/report.html")
    if arguments.picture:
        draw(groups, arguments.picture)


if __name__ == "__main__":
    run(main)
