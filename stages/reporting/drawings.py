"""The drawings of a run, each on axes of its own, and the pictures that they make."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from stages.evaluation.metrics import (
    BIN_EDGES,
    Table,
    Values,
    calibration_curve,
    one_against_rest,
    roc_curve,
)
from stages.privacy.attack import curve_rows
from stages.reporting import effects
from stages.reporting.figures import BLUE, GREY, ORANGE, SHADES, SIDE, picture, save, to_svg
from stages.reporting.run import Run
from stages.reporting.words import with_noise
from stages.training.curves import ending, reach, smoothed

FEW = 3  # classes whose numbers and names have room side by side


def write_pictures(run: Run, folder: Path) -> None:
    """Write every picture of a run into `folder`, its drawings side by side."""
    for name, drawings_of in PICTURES.items():
        save(_picture(run, drawings_of(run)), folder / name)


def graphics_of(run: Run) -> dict[str, list[str]]:
    """Return the drawings of each picture as SVG elements, by the picture's file name."""
    return {
        name: [
            to_svg(_picture(run, [draw]), f"{name} {place}")
            for place, draw in enumerate(drawings_of(run))
        ]
        for name, drawings_of in PICTURES.items()
    }


def loss(run: Run, axes: Axes) -> None:
    """Training loss by epoch, with a band of ±2 standard deviations of the noise."""
    _curve(run, axes, "loss", ".2f")
    axes.set(ylabel="mean cross entropy (nats)", ylim=(0, None))


def accuracy(run: Run, axes: Axes) -> None:
    """Training accuracy by epoch, with a band of ±2 standard deviations of the noise."""
    _curve(run, axes, "accuracy", ".0%", scale=100)
    axes.set(ylabel="rows classified right (%)", ylim=(0, 100))


def _curve(run: Run, axes: Axes, name: str, form: str, scale: float = 1) -> None:
    x = [row["epoch"] for row in run.epochs]
    mean, noise = (scale * values for values in smoothed(run.epochs, name))
    axes.fill_between(
        x, mean - 2 * noise, mean + 2 * noise, color=BLUE, alpha=0.2, linewidth=0, zorder=1
    )
    released = [scale * row[name] for row in run.epochs]
    axes.plot(x, released, ".", color=BLUE, alpha=0.35, markersize=5)
    axes.plot(x, mean, color=BLUE)
    value, deviation = ending(run.epochs, name)
    width, declared = 2 * reach(run.epochs) + 1, run.parameters.train_size
    rows = "all training rows" if declared is None else f"n ≈ {declared:,}"
    line = f"line: mean of {width}, band: ±2 sd" if width > 1 else "band: ±2 sd of the noise"
    axes.set_title(f"Training {name} ends at {value:{form}} ± {2 * deviation:{form}}")
    axes.set_xlabel(f"epoch ({rows}; {line})")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def spent(run: Run, axes: Axes) -> None:
    """ε after each epoch."""
    x = [row["epoch"] for row in run.epochs]
    axes.plot(x, [row["epsilon"] for row in run.epochs], color=ORANGE, linestyle="--")
    axes.set(title="ε if the noise were secret", ylabel="ε spent so far", xlabel="epoch")
    if run.train.epsilon is not None:
        axes.set_title(f"Privacy spent: ε = {run.train.epsilon:.2f}")
        axes.set_ylabel(f"ε spent so far at δ = {run.train.delta:g}")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def confusion(run: Run, axes: Axes) -> None:
    """Test rows by label and prediction, as released, each ± what the noise may hide."""
    counts, noise = run.table.sum(axis=2), _noise(run, lambda table: table.sum(axis=-1))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = len(run.classes) <= FEW
    axes.pcolormesh(shares, cmap=SHADES, vmin=0, vmax=1)
    for (label, predicted), rows in np.ndenumerate(counts):
        share = shares[label, predicted]
        around = "" if run.redraws is None else f" ± {noise[label, predicted]:.1f}"
        axes.text(
            predicted + 0.5,
            label + 0.5,
            f"{rows:.1f}{around}\n{share:.0%} of label" if few else f"{rows:.0f}\n{share:.0%}",
            ha="center",
            va="center",
            color="white" if share > 0.9 else "black",
        )
    places = np.arange(len(run.classes)) + 0.5
    axes.set_xticks(places, run.classes, rotation=0 if few else 90)
    axes.set_yticks(places, run.classes, rotation=90 if few else 0, va="center")
    axes.invert_yaxis()
    axes.set_title(f"{with_noise(run.test, 'accuracy', '.1%')} are right")
    axes.set_xlabel(f"predicted (n = {counts.sum():.1f} test rows)")
    axes.set(ylabel="actual", aspect="equal")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def roc(run: Run, axes: Axes) -> None:
    """True against false positive rate of class 1 at the released score bins, ± the noise.

    With more than two classes, both rates of each class against the others.
    """
    draw = _rates_by_class if len(run.classes) > 2 else _roc_curve
    draw(run, axes)


def _roc_curve(run: Run, axes: Axes) -> None:
    _unit_square(axes, 0.62, 0.55, "guessing")
    false, true = roc_curve(run.table)
    across, up = _noise(run, lambda table: np.stack(roc_curve(table), axis=-2))
    axes.plot(false, true, color=BLUE, marker=".", markersize=8)
    axes.errorbar(false, true, up, across, fmt="none", ecolor=BLUE, elinewidth=1, alpha=0.5)
    others, ones = run.table.sum(axis=(1, 2))
    axes.set_title(f"ROC area {with_noise(run.test, 'roc_auc', '.3f')}")
    axes.set_xlabel(f"false positives among {others:.1f} “{run.classes[0]}”")
    axes.set_ylabel(f"true positives among {ones:.1f} “{run.classes[1]}”")


def _rates_by_class(run: Run, axes: Axes) -> None:
    rates, noise = one_against_rest(run.table), _noise(run, one_against_rest)
    places = np.arange(len(run.classes))
    looks = (("false alarms", ORANGE, "s"), ("found", BLUE, "o"))
    for number, (name, colour, marker) in enumerate(looks):
        x, bars = rates[:, number], noise[:, number]
        axes.errorbar(x, places, xerr=bars, fmt=marker, color=colour, label=name, capsize=3)
    axes.set_yticks(places, run.classes)
    axes.legend(frameon=False, loc="upper center", ncols=2, fontsize=11)
    axes.set_title(f"Found of each class: {with_noise(run.test, 'recall', '.1%')}")
    axes.set_xlabel(f"share, each class against the rest (n = {run.table.sum():.1f})")
    axes.set(xlim=(-0.02, 1.02), ylim=(len(run.classes) - 0.5, -1.2))


def calibration(run: Run, axes: Axes) -> None:
    """Share of class 1 against its predicted probability; dots grow with the rows behind them.

    With more than two classes, rows by the probability that the model gave to their own class.
    """
    draw = _own_class if len(run.classes) > 2 else _reliability
    draw(run, axes)
    axes.set_title(f"Log loss {with_noise(run.test, 'loss', '.3f')}")


def _reliability(run: Run, axes: Axes) -> None:
    _unit_square(axes, 0.55, 0.62, "perfect", ha="right")
    share, rows = calibration_curve(run.table)
    noise = _noise(run, lambda table: calibration_curve(table)[0])
    middle = (BIN_EDGES[1:] + BIN_EDGES[:-1]) / 2
    bars = np.array([np.minimum(noise, share), np.minimum(noise, 1 - share)])
    filled = rows >= 1
    x, y = middle[filled], share[filled]
    axes.scatter(x, y, s=14 + rows[filled], color=BLUE, alpha=0.85)
    axes.errorbar(x, y, bars[:, filled], fmt="none", ecolor=BLUE, elinewidth=1, alpha=0.5)
    axes.set_xlabel(f"predicted probability of “{run.classes[1]}”")
    axes.set_ylabel(f"share that is (n = {run.table.sum():.1f})")


def _own_class(run: Run, axes: Axes) -> None:
    rows, noise = run.table.sum(axis=(0, 1)), _noise(run, lambda table: table.sum(axis=(-3, -2)))
    width = np.diff(BIN_EDGES)
    scale = max(float(rows.sum()), 1.0) * width
    axes.bar(
        BIN_EDGES[:-1],
        rows / scale,
        width,
        yerr=np.minimum(noise, rows) / scale,
        align="edge",
        color=BLUE,
        edgecolor="white",
        error_kw={"ecolor": GREY, "elinewidth": 1},
    )
    axes.set(xlim=(0, 1), xlabel="probability given to the row's own class")
    axes.set_ylabel(f"density of test rows (n = {run.table.sum():.1f})")


def attack(run: Run, axes: Axes) -> None:
    """The best attacker's true positives against false ones, for what is attacked, by name."""
    found = []
    for name, rows, colour, style in (
        ("model and curves", run.attack, BLUE, "-"),
        ("test figures", curve_rows(run.test_profile), ORANGE, "-."),
    ):
        false = [row["false_positive_rate"] for row in rows]
        true = [row["true_positive_rate"] for row in rows]
        axes.plot(false, true, color=colour, linestyle=style, label=name)
        found.append(f"{np.ceil(1000 * np.interp(0.01, false, true)) / 1000:.1%}")
    chance = np.geomspace(1e-4, 1, 50)
    axes.plot(chance, chance, color=GREY, linewidth=1, linestyle="--", label="guessing")
    axes.legend(frameon=False, loc="upper left", fontsize=11)
    axes.set_title(f"1% mistaken: {' or '.join(found)} found")
    axes.set(xlabel="outsiders taken for members", ylabel="members found, at most")
    axes.set(xscale="log", xlim=(0.0008, 1), ylim=(0, 1.02))
    axes.set_xticks([0.001, 0.01, 0.1, 1], ["0.1%", "1%", "10%", "100%"])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


Drawing = Callable[[Run, Axes], None]

# The pictures by file, and what is drawn in each. The page shows the drawings one by one.
PICTURES: dict[str, Callable[[Run], Sequence[Drawing]]] = {
    "training.png": lambda run: (loss, accuracy, spent),
    "confusion_matrix.png": lambda run: (confusion,),
    "roc.png": lambda run: (roc,),
    "calibration.png": lambda run: (calibration,),
    "effects.png": effects.drawings_of,
    "attack.png": lambda run: (attack,),
}

# What tells of the test figures; all else is the training's.
OF_TESTING = (confusion, roc, calibration, attack)


def _picture(run: Run, drawings: Sequence[Drawing]) -> Figure:
    # Where each class has a row of its own, a drawing has to grow with them.
    by_class = not {confusion, roc}.isdisjoint(drawings)
    width = max(SIDE, 0.5 * len(run.classes) + 2) if by_class else SIDE
    return picture([partial(_marked, run, draw) for draw in drawings], width)


def _marked(run: Run, draw: Drawing, axes: Axes) -> None:
    """Draw, and say across it that ε does not cover what it shows, where that is so."""
    draw(run, axes)
    if why := run.no_guarantee if draw in OF_TESTING else run.train.no_guarantee:
        place: Any = {"ha": "center", "va": "center", "transform": axes.transAxes, "zorder": 10}
        look: Any = {"rotation": 20, "fontsize": 20, "weight": "bold", "color": ORANGE}
        box = {"facecolor": "white", "edgecolor": ORANGE, "alpha": 0.8}
        axes.text(0.5, 0.5, "NOT PRIVATE\n" + why.split(":")[0], bbox=box, **place, **look)


def _unit_square(axes: Axes, x: float, y: float, diagonal: str, ha: str = "left") -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    axes.text(x, y, diagonal, color=GREY, ha=ha)


def _noise(run: Run, figures: Callable[[Table], Values]) -> Values:
    """Return ± of figures of the table: with chance 0.95 another draw of the noise lies that near.

    Where the table is exact it is NaN, of which matplotlib draws no bar.

    Args:
        run: whose table it is.
        figures: what is drawn of a table; leading axes, which redraws have, it keeps.
    """
    released = figures(run.table)
    if run.redraws is None:
        return np.full_like(released, np.nan)
    spread: Values = np.quantile(np.abs(figures(run.redraws) - released), 0.95, axis=0)
    return spread
