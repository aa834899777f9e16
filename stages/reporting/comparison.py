"""Runs side by side: the workspace and other revisions of this repository."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, cycle
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from matplotlib.axes import Axes

from stages.errors import UserError
from stages.evaluation.result import EvaluateResult
from stages.evaluation.tables import classes_told
from stages.reporting.figures import BLUE, GREY, INK, ORANGE, picture, save
from stages.reporting.words import around, number, short, with_off
from stages.results import Result
from stages.training.result import TrainResult
from stages.versions.commits import commit_of
from stages.versions.files import WORKSPACE, file_at
from stages.versions.locks import parameters_at

if TYPE_CHECKING:
    import pandas as pd

TEST_COUNTS = "plots/test_counts.csv"

# A line fits into 100 columns if a revision's name takes no more than these.
LONGEST_NAME = 17

HEAD = ("revision", "accuracy", "noise", "base rate", "log loss", "ε", "all runs")

Kind = TypeVar("Kind", bound=Result)


def runs(*revisions: str) -> "pd.DataFrame":
    """Return all released figures of the workspace and of each revision.

    Args:
        revisions: branches, commits, tags or experiments.

    Returns:
        A row per run, by the name of its revision. Test figures have their names in
        metrics/evaluate.json, training figures begin with `train_`. `…_new_patients` and
        `…_noise` are ± of a figure, each with chance 0.95: how far it may be from what it is on
        ever more people like these, and from the exact one of these very rows. Shares are in
        [0, 1], losses in nats; what a run does not tell is missing. Only runs of one `subject`, the
        table and its label, can be compared.

    Raises:
        UserError: there is no such revision, or no run in it.
    """
    import pandas as pd  # noqa: PLC0415 - half a second, which the command does without

    names = dict.fromkeys([WORKSPACE, *revisions])
    rows = [{"subject": subject_of(name)} | _figures(*results_at(name)) for name in names]
    return pd.DataFrame(rows, index=pd.Index(names, name="revision"))


def _figures(train: TrainResult, test: EvaluateResult) -> dict[str, float | None]:
    return {
        **test.figures,
        **{
            f"{name}_{kind}": value
            for name, off in test.plus_minus.items()
            for kind, value in off
            if value is not None
        },
        "base_rate": test.base_rate,
        "train_accuracy": train.accuracy,
        "train_accuracy_noise": 2 * train.accuracy_noise,
        "train_loss": train.loss,
        "train_loss_noise": 2 * train.loss_noise,
        "epsilon": test.epsilon_overall,
        "epsilon_total": test.epsilon_total,
        "delta": train.delta,
    }


def results_at(name: str) -> tuple[TrainResult, EvaluateResult]:
    """Return the results of the workspace, or of a revision.

    Raises:
        UserError: there is no such revision, or no run in it; or they are of different runs.
    """
    train, test = _result_at(TrainResult, name), _result_at(EvaluateResult, name)
    if any(record.measures not in (None, train.record.run) for record in test.ledger):
        raise UserError(
            f"{name}: {test.path} measured another model than that of {train.path}, so ε of both "
            "together is not known. Measure this one with: dvc repro"
        )
    return train, test


def _result_at(kind: type[Kind], name: str) -> Kind:
    if name == WORKSPACE:
        return kind.read()
    commit = commit_of(name)
    if commit is None:
        raise UserError(
            f"--rev {name}: expected a branch, commit, tag or experiment, but there is none "
            "of that name here. `dvc exp show` and `git branch` list them."
        )
    text = file_at(commit, str(kind.path))
    if text is None:
        raise UserError(
            f"--rev {name}: {kind.path} is not part of it. Name a revision in which a run was "
            "committed."
        )
    try:
        return kind.of(json.loads(text))
    except UserError as error:
        raise UserError(f"--rev {name}: {error}") from None


def table(tests: Mapping[str, EvaluateResult]) -> list[str]:
    """Return the lines of a Markdown table, a run a line, and below it why some promise nothing."""
    rows = [HEAD, *(_cells(name, test) for name, test in tests.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    padded = ([c.ljust(width) for c, width in zip(row, widths, strict=True)] for row in rows)
    lines = [f"| {' | '.join(cells)} |" for cells in padded]
    return [*lines, *(f"\n{short(name, LONGEST_NAME)}: {note}" for name, note in _notes(tests))]


def _notes(tests: Mapping[str, EvaluateResult]) -> Iterator[tuple[str, str]]:
    """Yield what the table cannot tell of a run."""
    for name, test in tests.items():
        if test.no_guarantee:
            yield name, f"no promise: {test.no_guarantee}"
        if test.off("accuracy").new_patients is None:
            yield name, "of an earlier version, whose ± is the noise alone"
        if test.is_guessing:
            yield name, "not distinguishable from always saying the largest class"


def _cells(name: str, test: EvaluateResult) -> tuple[str, ...]:
    return (
        short(name, LONGEST_NAME),
        with_off(test, "accuracy", ".1%"),
        f"± {number(test.off('accuracy').noise, '.1%', '0')}",
        f"{test.base_rate:.1%}",
        with_off(test, "loss", ".3f"),
        number(test.epsilon_overall, ".4g"),
        number(test.epsilon_total, ".4g", "not told"),
    )


def by_subject(tests: Mapping[str, EvaluateResult]) -> dict[str, dict[str, EvaluateResult]]:
    """Return the runs by what they are about, as only those about the same can be compared."""
    groups: dict[str, dict[str, EvaluateResult]] = {}
    for name, test in tests.items():
        groups.setdefault(subject_of(name), {})[name] = test
    return groups


def subject_of(name: str) -> str:
    """Return what a run is about: the table's path and the names of the label's classes."""
    commit = WORKSPACE if name == WORKSPACE else commit_of(name) or name
    data = parameters_at(commit, "preprocess").get("data", "a table that is not told")
    counts = csv.DictReader(io.StringIO(file_at(commit, TEST_COUNTS) or ""))
    classes = classes_told([*counts])
    return f"{data}: {' / '.join(classes) or 'a label that is not told'}"


# Runs about one table and label look alike, and unlike the others.
LOOKS = ((BLUE, "o"), (ORANGE, "s"), (GREY, "^"), (INK, "D"))


def draw(groups: Mapping[str, Mapping[str, EvaluateResult]], path: Path) -> None:
    """Draw test accuracy, ± for new patients, against ε of the whole into a PNG, a point per run.

    Beside them stands the accuracy of always saying the largest class, of each table and label.

    Args:
        groups: the runs by what they are about.
        path: the file.

    Raises:
        UserError: none of the runs makes a promise.
    """
    promised = {
        subject: {name: test for name, test in tests.items() if test.epsilon_overall is not None}
        for subject, tests in groups.items()
    }
    promised = {subject: tests for subject, tests in promised.items() if tests}
    if not promised:
        raise UserError("--picture: none of these runs makes a promise that could be drawn.")

    def draw_points(axes: Axes) -> None:
        for (subject, tests), (colour, marker) in zip(promised.items(), cycle(LOOKS)):
            for test in tests.values():
                value, low, high = around(test, "accuracy", 1.0)
                ends = [[100 * (value - low)], [100 * (high - value)]]
                place = (test.epsilon_overall or 0.0, 100 * value)
                axes.errorbar(*place, ends, fmt=marker, color=colour, capsize=4)
            rate = 100 * float(np.mean([test.base_rate for test in tests.values()]))
            axes.axhline(rate, color=colour, linewidth=1, linestyle="--")
            axes.plot([], [], marker, color=colour, label=short(subject, 60))
        axes.set(xlabel="ε of all that a run publishes; dashed: the base rate")
        axes.set(ylabel="right (%), ± for new patients", xlim=(0, None))
        axes.margins(y=0.15)
        axes.set_title(_title(promised))
        if len(promised) > 1:
            axes.legend(frameon=False, fontsize=10, loc="upper left", bbox_to_anchor=(0, -0.15))
        _name_points(axes, dict(chain(*(tests.items() for tests in promised.values()))))

    save([picture(draw_points, width=7.5)], path)


def _title(groups: Mapping[str, Mapping[str, EvaluateResult]]) -> str:
    """Return what runs about one thing found; nothing can be said of several at once."""
    if len(groups) > 1:
        return "Runs on several tables or labels"
    (tests,) = groups.values()
    values = [test.accuracy for test in tests.values()]
    epsilons = [test.epsilon_overall or 0.0 for test in tests.values()]
    return f"{_range(values, '.1%')} right at ε = {_range(epsilons, '.4g')}"


def _name_points(axes: Axes, tests: Mapping[str, EvaluateResult]) -> None:
    """Write the runs' names in a column to the right, in the order of their points."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    names = sorted(tests, key=lambda name: tests[name].accuracy)
    gap = (high - low) / max(18, len(names))
    heights = apart([100 * tests[name].accuracy for name in names], gap, low, high)
    for name, height in zip(names, heights, strict=True):
        axes.annotate(
            short(name, LONGEST_NAME),
            (tests[name].epsilon_overall or 0.0, 100 * tests[name].accuracy),
            xytext=(1.03, height),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=10,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "alpha": 0.6},
        )


def apart(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return sorted heights, moved as little as it takes to be `gap` apart from `low` to `high`."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + gap if moved else low))
    ceiling = high
    for place in reversed(range(len(moved))):
        moved[place] = min(moved[place], ceiling)
        ceiling = moved[place] - gap
    return moved


def _range(values: Sequence[float], form: str) -> str:
    return " to ".join(dict.fromkeys(format(end, form) for end in (min(values), max(values))))
