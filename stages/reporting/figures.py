"""The figures, in one visual language: few lines, direct labels, noise drawn, titles that find."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.reporting.metrics import (
    BIN_EDGES,
    Table,
    calibration_curve,
    one_against_rest,
    roc_curve,
)

# Okabe & Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6B6B6B"

HEIGHT = 4.6  # inches

STYLE: Any = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "lines.linewidth": 2,
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
}


def training(epochs: Sequence[Mapping[str, float]], metrics: Mapping[str, Any]) -> Figure:
    """Loss, accuracy and ε after each epoch; bands are ±2 standard deviations of the noise."""
    figure, (loss, accuracy, epsilon) = _subplots(3, width=12)
    _curve(loss, epochs, "loss")
    _title(loss, f"Training loss ends at {epochs[-1]['loss']:.2f}")
    loss.set_ylabel("mean cross entropy")
    _curve(accuracy, epochs, "accuracy", scale=100)
    _title(accuracy, f"Training accuracy ends at {epochs[-1]['accuracy']:.0%}")
    accuracy.set_ylabel("rows classified right (%)")
    steps = [row["epoch"] for row in epochs]
    epsilon.plot(steps, [row["epsilon"] for row in epochs], color=ORANGE, marker=".")
    _title(epsilon, _spent_title(metrics))
    epsilon.set(xlabel="epoch", ylabel="ε spent so far")
    epsilon.set_ylim(bottom=0)
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch (band: ±2 sd of the privacy noise)")
    for axes in (loss, accuracy, epsilon):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _marked(figure, metrics)


def confusion_matrix(table: Table, classes: Sequence[str], metrics: Mapping[str, Any]) -> Figure:
    """Test rows by label and prediction, as released."""
    confusion = table.sum(axis=2)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    few = len(classes) <= 4
    side = max(5.0, 0.55 * len(classes) + 2)
    figure, (axes,) = _subplots(1, width=side, height=max(HEIGHT, side - 0.4))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (label, predicted), rows in np.ndenumerate(confusion):
        share = shares[label, predicted]
        axes.text(
            predicted,
            label,
            f"{rows:.0f}\n{share:.0%} of label" if few else f"{rows:.0f}",
            ha="center",
            va="center",
            color="white" if share > 0.5 else "black",
        )
    axes.set_xticks(range(len(classes)), classes, rotation=0 if few else 90)
    axes.set_yticks(range(len(classes)), classes, rotation=90 if few else 0, va="center")
    _title(axes, f"Accuracy {_with_interval(metrics, 'accuracy')}")
    axes.set(
        xlabel=f"predicted ({confusion.sum():.0f} test rows)",
        ylabel="actual",
    )
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return _marked(figure, metrics)


def roc(table: Table, classes: Sequence[str], metrics: Mapping[str, Any]) -> Figure:
    """True against false positive rate of class 1 at the released score bins.

    With more than two classes, both rates of each class against the rest.
    """
    if len(classes) > 2:
        return _marked(_rates_by_class(table, classes, metrics), metrics)
    false_positives, true_positives = roc_curve(table)
    figure, (axes,) = _subplots(1, width=4.8)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    axes.text(0.62, 0.55, "guessing", color=GREY)
    axes.plot(false_positives, true_positives, color=BLUE, marker=".")
    _title(axes, f"ROC area {_with_interval(metrics, 'roc_auc', percent=False)}")
    axes.set(
        xlabel=f"false positive rate of “{classes[1]}”",
        ylabel="true positive rate",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        aspect="equal",
    )
    return _marked(figure, metrics)


def _rates_by_class(table: Table, classes: Sequence[str], metrics: Mapping[str, Any]) -> Figure:
    false_positives, true_positives = one_against_rest(table).T
    figure, (axes,) = _subplots(1, width=5.5, height=max(HEIGHT, 0.35 * len(classes)))
    places = range(len(classes))
    axes.plot(true_positives, places, "o", color=BLUE, label="found (true positive rate)")
    axes.plot(false_positives, places, "s", color=ORANGE, label="false alarm rate")
    axes.set_yticks(places, classes)
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    _title(axes, f"Mean recall {_with_interval(metrics, 'recall')}")
    axes.set(xlabel=f"share, of {table.sum():.0f} test rows each class against the rest")
    axes.set_xlim(-0.02, 1.02)
    return figure


def calibration(table: Table, classes: Sequence[str], metrics: Mapping[str, Any]) -> Figure:
    """Share of class 1 against its predicted probability; dots grow with the rows behind them.

    With more than two classes, rows by the probability that the model gave to their own class.
    """
    if len(classes) > 2:
        return _marked(_own_class(table, metrics), metrics)
    share, rows = calibration_curve(table)
    middle = (BIN_EDGES[1:] + BIN_EDGES[:-1]) / 2
    filled = rows >= 1
    figure, (axes,) = _subplots(1, width=4.8)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    axes.text(0.55, 0.62, "perfect", color=GREY, ha="right")
    axes.scatter(middle[filled], share[filled], s=12 + rows[filled], color=BLUE, alpha=0.8)
    _title(axes, f"Log loss {_with_interval(metrics, 'loss', percent=False)}")
    axes.set(
        xlabel=f"predicted probability of “{classes[1]}”",
        ylabel="share that is",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        aspect="equal",
    )
    return _marked(figure, metrics)


def _own_class(table: Table, metrics: Mapping[str, Any]) -> Figure:
    rows = table.sum(axis=(0, 1))
    figure, (axes,) = _subplots(1, width=4.8)
    width = np.diff(BIN_EDGES)
    share = rows / max(float(rows.sum()), 1.0)
    axes.bar(BIN_EDGES[:-1], share / width, width, align="edge", color=BLUE, edgecolor="white")
    _title(axes, f"Log loss {_with_interval(metrics, 'loss', percent=False)}")
    axes.set(
        xlabel="probability given to the row's own class",
        ylabel=f"density of {rows.sum():.0f} test rows",
        xlim=(0, 1),
    )
    return figure


def running_total(totals: Sequence[float], delta: float, budget: float | None) -> Figure:
    """ε of everything released about the same people, after each entry of the ledger."""
    figure, (axes,) = _subplots(1, width=6.5)
    axes.step(range(1, len(totals) + 1), totals, where="post", color=ORANGE)
    axes.plot(range(1, len(totals) + 1), totals, ".", color=ORANGE)
    if budget is not None:
        axes.axhline(budget, color=GREY, linestyle="--", linewidth=1)
        axes.text(1, budget, "privacy_budget", color=GREY, va="bottom")
    _title(axes, f"ε = {totals[-1]:.2f} spent in {len(totals)} releases")
    axes.set(xlabel="release", ylabel=f"total ε at δ = {delta:g}")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _subplots(columns: int, width: float, height: float = HEIGHT) -> tuple[Figure, list[Axes]]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(1, columns, squeeze=False)
    return figure, list(axes[0])


def _title(axes: Axes, finding: str) -> None:
    axes.set_title(finding, loc="left", weight="bold", fontsize=12)


def _curve(axes: Axes, epochs: Sequence[Mapping[str, float]], name: str, scale: float = 1) -> None:
    x = [row["epoch"] for row in epochs]
    y = scale * np.array([row[name] for row in epochs])
    band = 2 * scale * np.array([row[f"{name}_noise"] for row in epochs])
    axes.fill_between(x, y - band, y + band, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(x, y, color=BLUE, marker=".")


def _spent_title(metrics: Mapping[str, Any]) -> str:
    if metrics["epsilon"] is None:
        return "ε if the noise were secret"
    return f"Privacy spent: ε = {metrics['epsilon']:.2f}"


def _with_interval(metrics: Mapping[str, Any], name: str, *, percent: bool = True) -> str:
    form = ".1%" if percent else ".3f"
    value = format(metrics[name], form)
    interval = metrics.get("interval", {}).get(name)
    return f"{value} ± {format(interval, form)}" if interval is not None else value


def _marked(figure: Figure, metrics: Mapping[str, Any]) -> Figure:
    """Say across a figure that ε does not cover what it shows."""
    if metrics["epsilon"] is None:
        figure.text(
            0.5,
            0.5,
            "NOT PRIVATE\n" + metrics["no_guarantee"].split(":")[0],
            ha="center",
            va="center",
            rotation=20,
            fontsize=20,
            color=ORANGE,
            alpha=0.5,
        )
    return figure
