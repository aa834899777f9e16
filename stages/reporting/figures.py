"""The figures, in one visual language: few lines, direct labels, noise drawn, titles that find.

Each is drawn on axes of its own, so that pictures can put several side by side and a page can show
them one by one, on a telephone too.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from stages.evaluation.metrics import (
    BIN_EDGES,
    Table,
    Values,
    calibration_curve,
    one_against_rest,
    roc_curve,
)
from stages.files import whole_file
from stages.training.curves import Epochs, ending, reach, smoothed

# Okabe & Ito's palette, which colour-blind readers can tell apart; lines differ in style as well.
BLUE, ORANGE = "#0072B2", "#D55E00"
INK, GREY, GRID = "#1F2328", "#59636E", "#E3E6EA"

# Black text is legible up to nine tenths of the way, white text at its end. None of the shades is a
# colour of the palette, which a page changes in the dark.
SHADES = LinearSegmentedColormap.from_list("shades", ["#F3F8FB", "#0070B0"])

SIDE = 4.9  # inches, of one drawing
FEW = 3  # classes whose numbers and names have room side by side

STYLE: Any = {
    "font.size": 12,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $5 to $10
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "axes.axisbelow": True,
    "lines.linewidth": 2,
    "figure.constrained_layout.use": True,
    "axes.facecolor": "none",
    "savefig.facecolor": "white",
}

Drawing = Callable[[Axes], None]
Metrics = Mapping[str, Any]


def picture(drawings: Sequence[Drawing], width: float = SIDE) -> Figure:
    """Return the drawings side by side, each `width` inches wide and nearly as high."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width * len(drawings), max(SIDE, width) - 0.3))
        axes = figure.subplots(1, len(drawings), squeeze=False)
        for draw, own in zip(drawings, axes[0], strict=True):
            draw(own)
    _lay_out(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with whole_file(path) as scratch:
        figure.savefig(scratch, format="png", dpi=150)


def _lay_out(figure: Figure) -> None:
    """Find room for everything once; else each saving would, which takes as long as drawing."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")


def loss(epochs: Epochs, rows: str, metrics: Metrics) -> Drawing:
    """Training loss by epoch, with a band of ±2 standard deviations of the noise."""

    def draw(axes: Axes) -> None:
        _curve(axes, epochs, "loss")
        axes.set_ylim(bottom=0)
        _label(axes, f"Training loss ends at {_last(epochs, 'loss', '.2f')}", rows, epochs)
        axes.set_ylabel("mean cross entropy (nats)")
        _mark(axes, metrics)

    return draw


def accuracy(epochs: Epochs, rows: str, metrics: Metrics) -> Drawing:
    """Training accuracy by epoch, with a band of ±2 standard deviations of the noise."""

    def draw(axes: Axes) -> None:
        _curve(axes, epochs, "accuracy", scale=100)
        axes.set_ylim(0, 100)
        _label(axes, f"Training accuracy ends at {_last(epochs, 'accuracy', '.0%')}", rows, epochs)
        axes.set_ylabel("rows classified right (%)")
        _mark(axes, metrics)

    return draw


def spent(epochs: Epochs, metrics: Metrics) -> Drawing:
    """ε after each epoch."""

    def draw(axes: Axes) -> None:
        x = [row["epoch"] for row in epochs]
        axes.plot(x, [row["epsilon"] for row in epochs], color=ORANGE, linestyle="--")
        known = metrics["epsilon"] is not None
        finding = (
            f"Privacy spent: ε = {metrics['epsilon']:.2f}"
            if known
            else "ε if the noise were secret"
        )
        delta = f" at δ = {metrics['delta']:g}" if known else ""
        axes.set(xlabel="epoch", ylabel=f"ε spent so far{delta}")
        _title(axes, finding)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _mark(axes, metrics)

    return draw


def confusion_matrix(
    table: Table, classes: Sequence[str], metrics: Metrics, redraws: Table | None
) -> Drawing:
    """Test rows by label and prediction, as released, each ± what the noise may hide."""
    confusion = table.sum(axis=2)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    interval = None if redraws is None else _spread((confusion,), (redraws.sum(axis=-1),))[0]
    few = len(classes) <= FEW

    def draw(axes: Axes) -> None:
        axes.pcolormesh(shares, cmap=SHADES, vmin=0, vmax=1)
        for (label, predicted), rows in np.ndenumerate(confusion):
            share = shares[label, predicted]
            noise = "" if interval is None else f" ± {interval[label, predicted]:.1f}"
            axes.text(
                predicted + 0.5,
                label + 0.5,
                f"{rows:.1f}{noise}\n{share:.0%} of label" if few else f"{rows:.0f}\n{share:.0%}",
                ha="center",
                va="center",
                color="white" if share > 0.9 else "black",
            )
        places = np.arange(len(classes)) + 0.5
        axes.set_xticks(places, classes, rotation=0 if few else 90)
        axes.set_yticks(places, classes, rotation=90 if few else 0, va="center")
        axes.invert_yaxis()
        axes.set_aspect("equal")
        _title(axes, f"{_with_interval(metrics, 'accuracy')} are right")
        axes.set(xlabel=f"predicted (n = {confusion.sum():.1f} test rows)", ylabel="actual")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        _mark(axes, metrics)

    return draw


def roc(table: Table, classes: Sequence[str], metrics: Metrics, redraws: Table | None) -> Drawing:
    """True against false positive rate of class 1 at the released score bins, ± the noise.

    With more than two classes, both rates of each class against the others.
    """
    if len(classes) > 2:
        return _rates_by_class(table, classes, metrics, redraws)
    rates = roc_curve(table)
    noise = None if redraws is None else _spread(rates, roc_curve(redraws))

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        axes.text(0.62, 0.55, "guessing", color=GREY)
        axes.plot(*rates, color=BLUE, marker=".", markersize=8)
        if noise is not None:
            _noise_bars(axes, *rates, noise[1], noise[0])
        _title(axes, f"ROC area {_with_interval(metrics, 'roc_auc', percent=False)}")
        others, ones = table.sum(axis=(1, 2))
        _unit_square(axes)
        axes.set_xlabel(f"false positives among {others:.1f} “{classes[0]}”")
        axes.set_ylabel(f"true positives among {ones:.1f} “{classes[1]}”")
        _mark(axes, metrics)

    return draw


def calibration(
    table: Table, classes: Sequence[str], metrics: Metrics, redraws: Table | None
) -> Drawing:
    """Share of class 1 against its predicted probability; dots grow with the rows behind them.

    With more than two classes, rows by the probability that the model gave to their own class.
    """
    if len(classes) > 2:
        return _own_class(table, metrics, redraws)
    share, rows = calibration_curve(table)
    middle = (BIN_EDGES[1:] + BIN_EDGES[:-1]) / 2
    filled = rows >= 1
    noise = None if redraws is None else _spread((share,), (calibration_curve(redraws)[0],))[0]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        axes.text(0.55, 0.62, "perfect", color=GREY, ha="right")
        axes.scatter(middle[filled], share[filled], s=14 + rows[filled], color=BLUE, alpha=0.85)
        if noise is not None:
            bars = np.array([np.minimum(noise, share), np.minimum(noise, 1 - share)])
            _noise_bars(axes, middle[filled], share[filled], bars[:, filled])
        _title(axes, f"Log loss {_with_interval(metrics, 'loss', percent=False)}")
        _unit_square(axes)
        axes.set_xlabel(f"predicted probability of “{classes[1]}”")
        axes.set_ylabel(f"share that is (n = {table.sum():.1f})")
        _mark(axes, metrics)

    return draw


def _rates_by_class(
    table: Table, classes: Sequence[str], metrics: Metrics, redraws: Table | None
) -> Drawing:
    rates = one_against_rest(table)
    noise = None if redraws is None else _spread((rates,), (one_against_rest(redraws),))[0].T

    def draw(axes: Axes) -> None:
        places = np.arange(len(classes))
        looks = (("false alarms", ORANGE, "s"), ("found", BLUE, "o"))
        for number, (name, colour, marker) in enumerate(looks):
            bars = None if noise is None else noise[number]
            axes.errorbar(
                rates[:, number], places, xerr=bars, fmt=marker, color=colour, label=name, capsize=3
            )
        axes.set_yticks(places, classes)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(classes) - 0.5, -1.2))
        axes.legend(frameon=False, loc="upper center", ncols=2, fontsize=11)
        _title(axes, f"Found of each class: {_with_interval(metrics, 'recall')}")
        axes.set_xlabel(f"share, each class against the rest (n = {table.sum():.1f})")
        _mark(axes, metrics)

    return draw


def _own_class(table: Table, metrics: Metrics, redraws: Table | None) -> Drawing:
    rows = table.sum(axis=(0, 1))
    width = np.diff(BIN_EDGES)
    total = max(float(rows.sum()), 1.0)
    noise = None if redraws is None else _spread((rows,), (redraws.sum(axis=(1, 2)),))[0]

    def draw(axes: Axes) -> None:
        axes.bar(
            BIN_EDGES[:-1],
            rows / total / width,
            width,
            yerr=None if noise is None else np.minimum(noise, rows) / total / width,
            align="edge",
            color=BLUE,
            edgecolor="white",
            error_kw={"ecolor": GREY, "elinewidth": 1},
        )
        _title(axes, f"Log loss {_with_interval(metrics, 'loss', percent=False)}")
        axes.set(
            xlabel="probability given to the row's own class",
            ylabel=f"density of test rows (n = {table.sum():.1f})",
            xlim=(0, 1),
        )
        _mark(axes, metrics)

    return draw


def attack(curves: Mapping[str, Sequence[Mapping[str, Any]]], no_guarantee: str | None) -> Drawing:
    """The best attacker's true positives against false ones, for what is attacked, by name."""

    points = {
        name: [
            [float(row[rate]) for row in rows]
            for rate in ("false_positive_rate", "true_positive_rate")
        ]
        for name, rows in curves.items()
    }

    def draw(axes: Axes) -> None:
        chance = np.geomspace(1e-4, 1, 50)
        for (name, (false, true)), colour, style in zip(
            points.items(), (BLUE, ORANGE), ("-", "-."), strict=True
        ):
            axes.plot(false, true, color=colour, linestyle=style, label=name)
        axes.plot(chance, chance, color=GREY, linewidth=1, linestyle="--", label="guessing")
        axes.legend(frameon=False, loc="upper left", fontsize=11)
        axes.set(xscale="log", xlim=(0.0008, 1), ylim=(0, 1.02))
        axes.xaxis.set_major_locator(FixedLocator([0.001, 0.01, 0.1, 1]))
        axes.xaxis.set_minor_locator(NullLocator())
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
        found = [
            f"{np.ceil(1000 * np.interp(0.01, false, true)) / 1000:.1%}"
            for false, true in points.values()
        ]
        _title(axes, f"1% mistaken: {' or '.join(found)} found")
        axes.set(xlabel="outsiders taken for members", ylabel="members found, at most")
        _mark(axes, {"epsilon": None, "no_guarantee": no_guarantee} if no_guarantee else None)

    return draw


def utility_point(metrics: Metrics) -> dict[str, Any]:
    """Return what a run adds to the picture of privacy against utility: ε and figures ± noise."""
    point = {"epsilon": metrics["epsilon_overall"]}
    for name, most in (("accuracy", 1.0), ("loss", math.inf)):
        value, noise = metrics[name], metrics.get("interval", {}).get(name, 0.0)
        point[name] = value
        point[f"{name}_low"] = max(0.0, value - noise)
        point[f"{name}_high"] = min(most, value + noise)
    return point


def privacy_utility(points: Mapping[str, Mapping[str, Any]]) -> Drawing:
    """Test accuracy, ± its noise, against ε of the whole; one point per revision, by its name."""

    def draw(axes: Axes) -> None:
        for name, point in points.items():
            x, y = point["epsilon"], 100 * point["accuracy"]
            noise = [[y - 100 * point["accuracy_low"]], [100 * point["accuracy_high"] - y]]
            axes.errorbar(x, y, noise, fmt="o", color=BLUE, capsize=4, elinewidth=1.5)
            axes.annotate(name, (x, y), xytext=(7, 7), textcoords="offset points", fontsize=10)
        _title(
            axes,
            f"{_range(points, 'accuracy', '.1%')} right at ε = {_range(points, 'epsilon', 'g')}",
        )
        axes.set(xlabel="ε of all that a run publishes", ylabel="test rows right (%), ± the noise")
        axes.margins(x=0.3, y=0.15)
        axes.set_xlim(left=0)

    return draw


def running_total(totals: Sequence[float], delta: float, budget: float | None) -> Figure:
    """ε of everything released about the same people, after each entry of the ledger."""

    def draw(axes: Axes) -> None:
        axes.step(range(1, len(totals) + 1), totals, where="post", color=ORANGE)
        axes.plot(range(1, len(totals) + 1), totals, ".", color=ORANGE)
        if budget is not None:
            axes.axhline(budget, color=GREY, linestyle="--", linewidth=1)
            axes.text(1, budget, "privacy_budget", color=GREY, va="bottom")
        _title(axes, f"ε = {totals[-1]:.2f} spent in {len(totals)} releases")
        axes.set(xlabel="release", ylabel=f"total ε at δ = {delta:g}")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return picture([draw], width=6.5)


def _title(axes: Axes, finding: str) -> None:
    axes.set_title(finding, loc="left", weight="bold", fontsize=13)


def _label(axes: Axes, finding: str, rows: str, epochs: Epochs) -> None:
    _title(axes, finding)
    width = 2 * reach(epochs) + 1
    line = f"line: mean of {width}, band: ±2 sd" if width > 1 else "band: ±2 sd of the noise"
    axes.set_xlabel(f"epoch ({rows}; {line})")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _last(epochs: Epochs, name: str, form: str) -> str:
    value, noise = ending(epochs, name)
    return f"{value:{form}} ± {2 * noise:{form}}"


def _curve(axes: Axes, epochs: Epochs, name: str, scale: float = 1) -> None:
    x = np.array([row["epoch"] for row in epochs])
    mean, noise = (scale * values for values in smoothed(epochs, name))
    axes.fill_between(
        x, mean - 2 * noise, mean + 2 * noise, color=BLUE, alpha=0.2, linewidth=0, zorder=1
    )
    released = scale * np.array([row[name] for row in epochs])
    axes.plot(x, released, ".", color=BLUE, alpha=0.35, markersize=5)
    axes.plot(x, mean, color=BLUE)


def _noise_bars(axes: Axes, x: Values, y: Values, up: Values, across: Values | None = None) -> None:
    axes.errorbar(x, y, up, across, fmt="none", ecolor=BLUE, elinewidth=1, alpha=0.5)


def _unit_square(axes: Axes) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")


def _range(points: Mapping[str, Mapping[str, Any]], name: str, form: str) -> str:
    values = [point[name] for point in points.values()]
    ends = dict.fromkeys(format(end, form) for end in (min(values), max(values)))
    return " to ".join(ends)


def _spread(released: Sequence[Values], redrawn: Sequence[Values]) -> list[Values]:
    """Return ± of each point: with chance 0.95 another draw of the noise lies that near."""
    return [
        np.quantile(np.abs(again - once), 0.95, axis=0)
        for once, again in zip(released, redrawn, strict=True)
    ]


def _with_interval(metrics: Metrics, name: str, *, percent: bool = True) -> str:
    form = ".1%" if percent else ".3f"
    value = format(metrics[name], form)
    interval = metrics.get("interval", {}).get(name)
    return f"{value} ± {format(interval, form)}" if interval is not None else value


def _mark(axes: Axes, metrics: Metrics | None) -> None:
    """Say across a drawing that ε does not cover what it shows, where that is so."""
    if metrics is None or metrics["epsilon"] is not None:
        return
    axes.text(
        0.5,
        0.5,
        "NOT PRIVATE\n" + metrics["no_guarantee"].split(":")[0],
        transform=axes.transAxes,
        ha="center",
        va="center",
        rotation=20,
        fontsize=20,
        weight="bold",
        color=ORANGE,
        bbox={"facecolor": "white", "edgecolor": ORANGE, "alpha": 0.8},
        zorder=10,
    )
