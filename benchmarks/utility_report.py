"""What the results of `benchmarks.utility` say: `UTILITY.md` and `utility.png`."""

import math
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.machine import machine
from benchmarks.suite import FITTED, UNSEEN
from stages.reporting.figures import BLUE, GREY, ORANGE, STYLE

PEERS = ("diffprivlib LR", "diffprivlib RF", "DP-EBM")
PRIVATE = ("default", "oracle", "notebook", *PEERS)
CEILINGS = ("LR, no privacy", "MLP, no privacy", "boosting, no privacy")

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

NOTES = """\
A cell is a table at an ε; δ = min(1e-5, 0.1 / training rows). Each repeat has another split and
other noise, the same for all methods; differences are between equal splits. All methods know the
same public bounds and nothing else. {repeats}

- **default**: `auto`, by the pipeline's own code. **oracle**: the most accurate of the default and
  48 other settings (path 3, 8, 20, 50, 120, 280, 650, 1,500 × clip 1.5, 3, 5 × relu, tanh;
  momentum 0.5, on paths above 200 0.8), ignoring what that choice would cost in privacy; found by
  successive halving (all once, 8 of them twice more, 2 of them three times more; twice as often
  where fewer than 600 rows train) on other splits, and then run anew. Where more than 20,000 rows
  train, four paths and the clips 3 and 5 are tried. To choose, batches have at most 1,024 rows or
  an 80th of the table, at the same noise in an averaged step.
- **notebook**: Adam at 1e-3, clip 1, 25 epochs, batches of 64 rows or of an 80th if that is more
  (64 would take an hour on the largest table), on the same public features, with the same
  network.
- **diffprivlib** 0.6.6 runs beside scikit-learn 1.6.1, since it cannot with this project's; its
  guarantee has δ = 0. **DP-EBM** (interpret) can do two classes only and has no cells with more.
- Generated tables of fewer than 16,000 rows are tested on 4,000 further rows instead of a fifth,
  which sharpens the figures. No better than the majority: mean accuracy not above always
  predicting the training side's most frequent class; better: above it by more than two standard
  errors.
"""


def write(frame: pd.DataFrame, folder: Path) -> None:
    """Write the report and its picture into `folder`."""
    (folder / "UTILITY.md").write_text("\n".join(_report(frame)) + "\n", "utf-8")
    _picture(frame).savefig(folder / "utility.png", dpi=80)


# --- the report ----------------------------------------------------------------------------------


def _report(frame: pd.DataFrame) -> Iterator[str]:
    yield "# How accurate the default is\n"
    yield f"Output of `make bench-utility` on {date.today()}: {machine()}.\n"
    yield NOTES.format(repeats=_repeats(frame))
    yield "![accuracy and log loss against ε](utility.png)\n"
    yield from _targets(frame)
    for group, names in (("Unseen by the rule", UNSEEN), ("Used to fit the rule", FITTED)):
        yield from _group(group, frame[frame.table.isin(names)])
    yield from _sample(frame)
    yield "## Every cell\n"
    yield (
        "Accuracy in %, ± its standard error, over each method's own repeats; only the differences "
        "above are between equal splits. AUC is for two classes.\n"
    )
    for name in frame.table.unique():
        yield from _cells(name, frame[frame.table == name])


def _repeats(frame: pd.DataFrame) -> str:
    counts = frame.groupby(["table", "epsilon", "method"]).size().groupby("method")
    texts = [
        f"{method} {low} to {high}" if low < high else f"{method} {low}"
        for method, low, high in zip(
            counts.min().index, counts.min().to_list(), counts.max().to_list(), strict=True
        )
    ]
    return f"Repeats per cell: {', '.join(texts)}."


def _targets(frame: pd.DataFrame) -> Iterator[str]:
    unseen = frame[frame.table.isin(UNSEEN)]
    beside_oracle = _differences(unseen, "oracle")
    yield "## Targets\n"
    yield "| | target | measured | |"
    yield "| --- | --- | --- | --- |"
    yield _target("unseen: default − oracle, median", -0.005, beside_oracle.median())
    yield _target("unseen: default − oracle, worst cell", -0.03, beside_oracle.min())
    for peer in PEERS:
        share = _share_not_below(_differences(unseen, peer))
        yield _target(f"unseen: share of cells with default ≥ {peer}", 0.9, share)
    hopeless = len(_hopeless(frame))
    yield _target(
        "cells where the default is no better than the majority, but a private method is",
        0,
        hopeless,
        most=True,
    )
    beside_smoker = _beside_smoker(frame)
    for epsilon, difference in beside_smoker.items():
        limit = -0.0005 if epsilon >= 0.5 else -0.002 if epsilon >= 0.25 else -0.03
        yield _target(f"sample: accuracy − rule “smoker” at ε = {epsilon:g}", limit, difference)
    noise = frame[frame.method == "noise alone"].accuracy.std()
    yield _target("sample: sd of accuracy by noise alone, ε = 1", 0.002, noise, most=True)
    at_one = frame[(frame.table == "sample") & (frame.epsilon == 1) & (frame.method == "default")]
    yield _target("sample: log loss, ε = 1", 0.28, at_one.log_loss.mean(), most=True)
    yield _target("sample: ROC AUC, ε = 1", 0.885, at_one.roc_auc.mean())
    yield ""


def _target(what: str, limit: float, value: float, *, most: bool = False) -> str:
    met = value <= limit if most else value >= limit
    return f"| {what} | {'≤' if most else '≥'} {limit:g} | {value:.4g} | {_met(met)} |"


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def _differences(frame: pd.DataFrame, other: str) -> pd.Series:
    """Return the default's accuracy less another's in each cell, between equal splits."""
    wide = frame[frame.method.isin(["default", other])].pivot_table(
        index=["table", "epsilon", "repeat"], columns="method", values="accuracy"
    )
    difference = (wide["default"] - wide[other]).dropna()
    return difference.groupby(level=["table", "epsilon"]).mean()


def _share_not_below(difference: pd.Series) -> float:
    return float((difference > -1e-9).mean())  # equal figures may differ by rounding


def _hopeless(frame: pd.DataFrame) -> list[tuple[str, float, str]]:
    """Return cells in which the default learns nothing and others do: table, ε, who does."""
    private = frame[frame.method.isin(PRIVATE)]
    gain = (private.accuracy - private.majority).groupby(
        [private.table, private.epsilon, private.method]
    )
    mean, error = gain.mean().unstack(), gain.sem().unstack()
    better = mean > 2 * error
    return [
        (*cell, ", ".join(better.columns[better.loc[cell]]))
        for cell in mean.index
        if mean.loc[cell, "default"] <= 0 and better.loc[cell].any()
    ]


def _group(group: str, frame: pd.DataFrame) -> Iterator[str]:
    cells = len(frame[frame.method == "default"].groupby(["table", "epsilon"]))
    yield f"## {group}: {frame.table.nunique()} tables, {cells} cells\n"
    yield "| default − | cells | median | worst | in | share of cells ≥ 0 |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for other in PRIVATE[1:]:
        difference = _differences(frame, other)
        table, epsilon = difference.idxmin()
        yield (
            f"| {other} | {len(difference)} | {difference.median():+.4f} | {difference.min():+.4f} "
            f"| {table}, ε = {epsilon:g} | {_share_not_below(difference):.0%} |"
        )
    yield "\nNo better than the majority, although a private method is:\n"
    hopeless = _hopeless(frame)
    yield from (f"- {table}, ε = {epsilon:g}: {who}" for table, epsilon, who in hopeless)
    yield "" if hopeless else "none.\n"


def _beside_smoker(frame: pd.DataFrame) -> pd.Series:
    sample = frame[frame.table == "sample"]
    rule = sample[sample.method == "smoker"].set_index("repeat").accuracy
    default = sample[sample.method == "default"]
    difference = default.accuracy - default.repeat.map(rule)
    return difference.groupby(default.epsilon).mean()


def _sample(frame: pd.DataFrame) -> Iterator[str]:
    default = frame[(frame.table == "sample") & (frame.method == "default")]
    yield "## The sample, by default\n"
    yield "| ε | splits | accuracy − “smoker” | accuracy | log loss | ROC AUC |"
    yield "| --- | --- | --- | --- | --- | --- |"
    beside_smoker = _beside_smoker(frame)
    for epsilon, runs in default.groupby("epsilon"):
        figures = " | ".join(
            f"{runs[column].mean():.4f} ± {runs[column].sem():.4f}"
            for column in ("accuracy", "log_loss", "roc_auc")
        )
        yield f"| {epsilon:g} | {len(runs)} | {beside_smoker[epsilon]:+.4f} | {figures} |"
    yield ""


def _cells(name: str, frame: pd.DataFrame) -> Iterator[str]:
    ceilings = [f"{method} {_percent(frame, method)}" for method in CEILINGS]
    majority = 100 * frame[frame.method == "default"].majority.mean()
    yield f"### {name}\n"
    yield f"Majority {majority:.1f}; {'; '.join(ceilings)}.\n"
    yield (
        f"| ε | {' | '.join(PRIVATE)} | log loss: default | oracle | AUC: default "
        "| setting of the default | of the oracle |"
    )
    yield "| --- |" + " --- |" * (len(PRIVATE) + 5)
    for epsilon, cell in frame[np.isfinite(frame.epsilon)].groupby("epsilon"):
        means = cell.groupby("method")[["log_loss", "roc_auc"]].mean()
        settings = cell.groupby("method").setting.first()
        yield (
            f"| {epsilon:g} | {' | '.join(_percent(cell, method) for method in PRIVATE)} "
            f"| {means.log_loss['default']:.3f} | {means.log_loss['oracle']:.3f} "
            f"| {_or_dash(means.roc_auc['default'])} "
            f"| {settings['default'].removeprefix('default: ')} | {settings['oracle']} |"
        )
    yield ""


def _or_dash(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _percent(frame: pd.DataFrame, method: str) -> str:
    accuracy = 100 * frame[frame.method == method].accuracy
    return f"{accuracy.mean():.1f} ± {accuracy.sem():.1f}" if len(accuracy) else "–"


# --- the picture ---------------------------------------------------------------------------------


def _picture(frame: pd.DataFrame) -> Figure:
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
    unseen = _differences(frame[frame.table.isin(UNSEEN)], "oracle")
    close = (unseen >= -0.01).mean()
    return (
        f"Untuned, the default is within a point of the best of the grid in {close:.0%} of cells "
        "that the rule was not fitted on"
    )


def _pair(accuracy: Axes, loss: Axes, name: str, frame: pd.DataFrame) -> None:
    group = "unseen" if name in UNSEEN else "fitted"
    behind = max(0.0, -100 * _differences(frame, "oracle").min())
    accuracy.set_title(
        f"{group} · {name}\nat worst {behind:.1f} points below the grid’s best",
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
    ours = means.log_loss[["default", "oracle"]]
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
