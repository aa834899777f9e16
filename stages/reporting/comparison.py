"""Runs side by side: the workspace and other revisions of this repository."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from matplotlib.axes import Axes

from stages.errors import UserError
from stages.evaluation.result import EvaluateResult
from stages.reporting.figures import BLUE, GREY, INK, picture, save
from stages.reporting.words import around, number, with_off
from stages.results import Result
from stages.training.result import TrainResult
from stages.versions import commit_of, file_at

if TYPE_CHECKING:
    import pandas as pd

WORKSPACE = "workspace"

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
        [0, 1], losses in nats; what a run does not tell is missing.

    Raises:
        UserError: there is no such revision, or no run in it.
    """
    import pandas as pd  # noqa: PLC0415 - half a second, which the command does without

    names = dict.fromkeys([WORKSPACE, *revisions])
    rows = [
        _figures(result_at(TrainResult, name), result_at(EvaluateResult, name)) for name in names
    ]
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


def result_at(kind: type[Kind], name: str) -> Kind:
    """Return a result of the workspace, or of a revision.

    Raises:
        UserError: there is no such revision, or no run in it.
    """
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
    return [*lines, *(f"\n{_short(name)}: {note}" for name, note in _notes(tests))]


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
        _short(name),
        with_off(test, "accuracy", ".1%"),
        f"± {number(test.off('accuracy').noise, '.1%', '0')}",
        f"{test.base_rate:.1%}",
        with_off(test, "loss", ".3f"),
        number(test.epsilon_overall, ".4g"),
        number(test.epsilon_total, ".4g", "not told"),
    )


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def draw(tests: Mapping[str, EvaluateResult], path: Path) -> None:
    """Draw test accuracy, ± for new patients, against ε of the whole into a PNG, a point per run.

    Raises:
        UserError: none of the runs makes a promise.
    """
    points = {
        name: (test.epsilon_overall, *around(test, "accuracy", 1.0))
        for name, test in tests.items()
        if test.epsilon_overall is not None
    }
    if not points:
        raise UserError("--picture: none of these runs makes a promise that could be drawn.")

    look: Any = {"textcoords": "offset points", "fontsize": 10, "color": GREY}

    def draw_points(axes: Axes) -> None:
        for name, (epsilon, value, low, high) in points.items():
            ends = [[100 * (value - low)], [100 * (high - value)]]
            axes.errorbar(epsilon, 100 * value, ends, fmt="o", color=BLUE, capsize=4)
            base = 100 * tests[name].base_rate
            axes.plot(epsilon, base, "_", color=GREY, markersize=14)
            axes.annotate("base rate", (epsilon, base), xytext=(9, -3), **look)
            place = (epsilon, 100 * value)
            axes.annotate(name, place, xytext=(7, 7), **look | {"color": INK})
        epsilons, values, *_ = zip(*points.values(), strict=True)
        axes.margins(x=0.3, y=0.15)
        axes.set_title(f"{_range(values, '.1%')} right at ε = {_range(epsilons, '.4g')}")
        axes.set(xlabel="ε of all that a run publishes", ylabel="right (%), ± for new patients")
        axes.set_xlim(0, 1.3 * max(epsilons))

    save(picture([draw_points], width=6.5), path)


def _range(values: Sequence[float], form: str) -> str:
    return " to ".join(dict.fromkeys(format(end, form) for end in (min(values), max(values))))
