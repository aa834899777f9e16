"""The pictures beside `UTILITY.md`: accuracy and log loss against ε, and what calibration mends."""

import math
from collections.abc import Iterable

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.suite import FITTED, TABLES, UNSEEN
from benchmarks.utility_figures import CEILINGS, above_best_temperature, differences
from stages.reporting.figures import BLUE, GREY, ORANGE, STYLE

# More of Okabe & Ito's palette; markers tell apart what colours do not.
LOOKS = {
    "default": (BLUE, "o", "-"),
    "oracle": ("black", "", "--"),
    "notebook": (ORANGE, "s", "-"),
    "diffprivlib LR": ("#009E73", "^", "-"),
    "diffprivlib RF": ("#CC79A7", "v", "-"),
    "DP-EBM": ("#E69F00", "D", "-"),
    "LR, no privacy": (GREY, "", ":"),
    "MLP, no privacy": (GREY, "", "--"),
    "boosting, no privacy": (GREY, "", "-."),
}
LABELS = {
    "default": "this project, auto",
    "oracle": "this project, best of the grid",
    "notebook": "the usual notebook's settings",
}
COLUMNS = 4


def accuracy_and_loss(frame: pd.DataFrame) -> Figure:
    """Accuracy and, below it, log loss against ε: a pair of small plots for each table."""
    slots = [*_filled_up(FITTED, frame), *_filled_up(UNSEEN, frame)]
    rows = len(slots) // COLUMNS
    with mpl.rc_context({**STYLE, "font.size": 15}):
        figure = Figure(figsize=(6 * COLUMNS, 8 * rows + 2))
        axes = figure.subplots(2 * rows, COLUMNS, squeeze=False)
    for number, name in enumerate(slots):
        row, column = divmod(number, COLUMNS)
        pair = axes[2 * row, column], axes[2 * row + 1, column]
        if name:
            _pair(*pair, name, frame[frame.table == name])
        else:
            for empty in pair:
                empty.set_axis_off()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title=_finding(frame) + "\n",
        title_fontproperties={"weight": "bold", "size": 22},
        alignment="left",
        loc="outside upper left",
        ncols=COLUMNS,
        frameon=False,
        fontsize=18,
    )
    return figure


def _filled_up(names: Iterable[str], frame: pd.DataFrame) -> list[str]:
    present = [name for name in names if (frame.table == name).any()]
    return present + [""] * (-len(present) % COLUMNS)


def _finding(frame: pd.DataFrame) -> str:
    unseen = frame[frame.table.isin(UNSEEN)]
    told, which = (unseen, " that the rule was not fitted on") if len(unseen) else (frame, "")
    close = (differences(told, "oracle") >= -0.01).mean()
    return (
        "Untuned, the default is within a point of the best of the grid in "
        f"{close:.0%} of cells{which}"
    )


def _pair(accuracy: Axes, loss: Axes, name: str, frame: pd.DataFrame) -> None:
    group = "unseen" if name in UNSEEN else "fitted"
    beside = differences(frame, "oracle")
    behind = f"at worst {max(0.0, -100 * beside.min()):.1f} points below the grid’s best"
    accuracy.set_title(
        f"{group} · {name}\n{behind if len(beside) else 'no grid was tried'}",
        loc="left",
        weight="bold",
        fontsize=15,
    )
    means = frame.groupby(["method", "epsilon"])[["accuracy", "log_loss"]].mean()
    _curves(accuracy, 100 * means.accuracy)
    majority = 100 * frame.majority.mean()
    accuracy.axhline(majority, color="#BBBBBB", linewidth=5, zorder=0, label="always the majority")
    accuracy.set(ylabel="accuracy (%)")
    _curves(loss, means.log_loss)
    ours = means.log_loss[means.index.isin(["default", "oracle"], level="method")]
    loss.set(ylabel="log loss (worse is cut off)", xlabel="ε", ylim=(0, 1.3 * ours.max()))


def _curves(axes: Axes, means: pd.Series) -> None:
    for method, (colour, marker, line) in LOOKS.items():
        if method not in means.index.get_level_values("method"):
            continue
        curve = means[method]
        label = LABELS.get(method, method)
        if method in CEILINGS:
            axes.axhline(curve.iloc[0], color=colour, linestyle=line, linewidth=1.5, label=label)
        else:
            axes.plot(
                curve.index,
                curve,
                color=colour,
                marker=marker,
                linestyle=line,
                linewidth=3.5 if method == "default" else 2,
                zorder=3 if method in ("default", "oracle") else 2,
                label=label,
            )
    ticks = sorted(epsilon for epsilon in means.index.unique("epsilon") if math.isfinite(epsilon))
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def calibration(frame: pd.DataFrame) -> Figure:
    """Log loss above the best temperature's, before and after: a column for each ε."""
    before, after = (above_best_temperature(frame, name) for name in ("temperature 1", "default"))
    epsilons = list(after.index.unique("epsilon"))
    names = [name for name in TABLES if name in after.index.unique("table")][::-1]
    with mpl.rc_context({**STYLE, "font.size": 13}):
        figure = Figure(figsize=(5 + 4.5 * len(epsilons), 2.5 + 0.36 * len(names)))
        columns = figure.subplots(1, len(epsilons), sharex=True, sharey=True, squeeze=False)[0]
    for axes, epsilon in zip(columns, sorted(epsilons), strict=True):
        pair = [part.xs(epsilon, level="epsilon").reindex(names) for part in (before, after)]
        for place, (left, right) in enumerate(zip(*pair, strict=True)):
            axes.plot([left, right], [place, place], color="#BBBBBB", linewidth=2, zorder=1)
        places = np.arange(len(names))
        axes.scatter(pair[0], places, color=ORANGE, marker="s", label="temperature 1")
        axes.scatter(pair[1], places, color=BLUE, label="temperature learned privately")
        axes.set_title(f"ε = {epsilon:g}", loc="left", weight="bold")
        axes.set_xscale("symlog", linthresh=0.003)
        ticks = [0, 0.003, 0.01, 0.03, 0.1, 0.3, 1]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlim=(-0.0005, 1.2 * max(0.03, before.max(), after.max())))
        axes.set(xlabel="log loss above the best temperature’s", ylim=(-0.7, len(names) - 0.3))
        axes.set_yticks(places, names)
    handles, labels = columns[0].get_legend_handles_labels()
    better = (after <= before + 1e-3).mean()
    figure.legend(
        handles,
        labels,
        title=(
            f"Calibration takes log loss to {after.median():.3f} above the best temperature’s in "
            f"the median cell, from {before.median():.3f};\nit helps or does no harm (0.001) in "
            f"{better:.0%} of cells\n"
        ),
        title_fontproperties={"weight": "bold", "size": 15},
        alignment="left",
        loc="outside upper left",
        ncols=2,
        frameon=False,
    )
    return figure
