"""The drawings of a run, each on axes of its own, and the pictures that they make."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from stages.evaluation.estimate import SHARE, Measured
from stages.evaluation.metrics import (
    calibration_curve,
    one_against_rest,
    roc_area,
    roc_curve,
    shares_of_labels,
)
from stages.evaluation.scores import Values, bin_means
from stages.evaluation.tables import drawn_roc, shown
from stages.privacy.attack import curve_rows
from stages.reporting import effects
from stages.reporting.figures import BLUE, GREY, INK, ORANGE, SHADES, SIDE, picture, save, to_svg
from stages.reporting.run import Run
from stages.reporting.words import with_off
from stages.training.curves import ending, reach, smoothed

FEW = 3  # classes whose numbers have room with their ±
WIDEST = 0.5  # ± of a share that is drawn


Figures = Mapping[str, Sequence[Figure]]


def draw(run: Run) -> Figures:
    """Return the drawings of each picture of a run, by the picture's file name."""
    return {
        name: [_figure(run, drawing) for drawing in drawings_of(run)]
        for name, drawings_of in PICTURES.items()
    }


def write_pictures(figures: Figures, folder: Path) -> None:
    """Write every picture into `folder`, its drawings side by side."""
    for name, drawn in figures.items():
        save(drawn, folder / name)


def graphics_of(figures: Figures) -> dict[str, list[str]]:
    """Return the drawings of each picture as SVG elements."""
    return {
        name: [to_svg(figure, f"{name} {place}") for place, figure in enumerate(drawn)]
        for name, drawn in figures.items()
    }


def loss(run: Run, axes: Axes) -> None:
    """Training loss by epoch, with a band of ±2 standard deviations of the noise."""
    _curve(run, axes, "loss", ".2f")
    axes.set(ylabel="mean cross entropy (nats)", ylim=(0, None))


def accuracy(run: Run, axes: Axes) -> None:
    """Training accuracy by epoch, with a band of ±2 standard deviations of the noise."""
    _curve(run, axes, "accuracy", ".0%", scale=100)
    axes.set(ylabel="rows classified right (%)")
    mean, noise = smoothed(run.epochs, "accuracy")
    axes.set_ylim(max(0.0, 100 * float((mean - 2 * noise).min()) - 5), 101)


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
    """Test rows by label and prediction, ± the noise, and their share of the label, ± all."""
    rows = run.counts.measure(lambda table: table.confusion)
    shares = run.counts.measure(lambda table: shares_of_labels(table.confusion), SHARE)
    few = len(run.classes) <= FEW
    axes.pcolormesh(shares.value, cmap=SHADES, vmin=0, vmax=1)
    for place, people in np.ndenumerate(shown(rows.value)):
        noise = f" ± {rows.noise[place]:,.0f}" if run.counts.is_noisy else ""
        form = ".0%" if shares.new_patients[place] >= 0.01 else ".1%"
        share = shares.value[place]
        said = f"{share:{form}} ± {shares.new_patients[place]:{form}}"
        axes.text(
            place[1] + 0.5,
            place[0] + 0.5,
            f"{people:,}{noise}\n{said} of label" if few else f"{people:,}\n{share:.0%}",
            ha="center",
            va="center",
            color="white" if share > 0.9 else "black",
        )
    places = np.arange(len(run.classes)) + 0.5
    upright = _side_by_side(run)
    axes.set_xticks(places, run.classes, rotation=0 if upright else 90)
    axes.set_yticks(places, run.classes, rotation=90 if upright else 0, va="center")
    axes.invert_yaxis()
    axes.set_title(f"{with_off(run.test, 'accuracy', '.1%')} are right")
    axes.set_xlabel(f"predicted (n ≈ {_people(run):,}; base rate {run.test.base_rate:.1%})")
    axes.set(ylabel="actual", aspect="equal")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _people(run: Run) -> int:
    return int(shown(run.counts.table.confusion.sum()))


def roc(run: Run, axes: Axes) -> None:
    """True against false positive rate of class 1 at each threshold that scores are counted by.

    With more than two classes, both rates and the ROC area of each class against the others.
    """
    many = len(run.classes) > 2
    two = _roc_curve if run.counts.table.has_scores else _without_scores
    draw = _rates_by_class if many else two
    draw(run, axes)
    axes.set_title(f"{'Mean ' if many else ''}ROC area {with_off(run.test, 'roc_auc', '.3f')}")


def _without_scores(_: Run, axes: Axes) -> None:
    """Say why there is nothing to draw."""
    said = "At this ε the scores of so few test rows\nwould be nothing but noise."
    axes.text(0.5, 0.5, said, color=GREY, ha="center", va="center", transform=axes.transAxes)
    axes.set_axis_off()


def _roc_curve(run: Run, axes: Axes) -> None:
    _unit_square(axes, 0.62, 0.55, "guessing")
    table = run.counts.table
    points = run.counts.measure(lambda table: roc_curve(table.scores[..., 0, :, :]), SHARE)
    false, true = drawn_roc(table.scores[0])
    axes.plot(false, true, color=BLUE, marker=".", markersize=7, linewidth=1.5)
    _bars(axes, (false, true), Measured(*(part[1] for part in points)))
    _bars(axes, (false, true), Measured(*(part[0] for part in points)), along="x")
    others, ones = shown(table.confusion.sum(axis=1))
    axes.set_xlabel(f"false positives among {others:,} “{run.classes[0]}”")
    axes.set_ylabel(f"true positives among {ones:,} “{run.classes[1]}”")


def _rates_by_class(run: Run, axes: Axes) -> None:
    rates = run.counts.measure(lambda table: one_against_rest(table.confusion), SHARE)
    drawn = [
        ("false alarms", ORANGE, "s", Measured(*(part[..., 0] for part in rates))),
        ("found", BLUE, "o", Measured(*(part[..., 1] for part in rates))),
    ]
    if run.counts.table.has_scores:
        areas = run.counts.measure(lambda table: roc_area(table.scores), SHARE)
        drawn += [("ROC area", INK, "D", areas)]
    places = np.arange(len(run.classes), dtype=np.float64)
    for name, colour, marker, measured in drawn:
        axes.plot(measured.value, places, marker, color=colour, label=name, markersize=6)
        _bars(axes, (measured.value, places), measured, along="x", colour=colour)
    axes.set_yticks(places, run.classes)
    axes.legend(frameon=False, loc="upper center", ncols=3, fontsize=10, columnspacing=0.8)
    axes.set_xlabel(f"share, each class against the rest (n ≈ {_people(run):,})")
    axes.set(xlim=(-0.02, 1.02), ylim=(len(run.classes) - 0.5, -1.2))


def calibration(run: Run, axes: Axes) -> None:
    """Share of a class against its predicted probability; dots grow with the rows behind them.

    With two classes of class 1, with more of all of them together.
    """
    draw = _calibration_curve if run.counts.table.has_scores else _without_scores
    draw(run, axes)
    axes.set_title(f"Log loss {with_off(run.test, 'loss', '.3f')}")


def _calibration_curve(run: Run, axes: Axes) -> None:
    _unit_square(axes, 0.55, 0.62, "perfect", ha="right")
    table = run.counts.table
    measured = run.counts.measure(lambda table: calibration_curve(table.scores.sum(axis=-3)), SHARE)
    people = np.maximum(table.scores.sum(axis=(0, 1)), 0)
    # Where nearly nobody is, the share is nothing but noise.
    known = measured.new_patients < WIDEST
    x, y = bin_means(table.thresholds)[known], measured.value[known]
    size = 12 + 300 * people[known] / max(float(people.sum()), 1.0)
    axes.scatter(x, y, s=size, color=BLUE, alpha=0.6, linewidth=0)
    _bars(axes, (x, y), Measured(*(part[known] for part in measured)))
    two = len(run.classes) == 2
    of = f"“{run.classes[1]}”" if two else "a class"
    axes.set_xlabel(f"predicted probability of {of}")
    axes.set_ylabel(f"share that is (n ≈ {_people(run):,})")


def _bars(
    axes: Axes,
    points: tuple[Values, Values],
    measured: Measured,
    along: str = "y",
    colour: str = BLUE,
) -> None:
    """Draw what points may be off, above them: wide in pale for new patients, the noise in dark."""
    x, y = points
    centre = {"x": x, "y": y}[along]
    for half, width, alpha, end in (
        (measured.new_patients, 1.0, 0.7, 2.0),
        (measured.noise, 3.0, 0.45, 0.0),
    ):
        ends = np.array([np.minimum(half, centre), np.minimum(half, 1 - centre)])
        look: Any = {f"{along}err": ends, "ecolor": colour, "elinewidth": width, "capsize": end}
        axes.errorbar(x, y, fmt="none", alpha=alpha, zorder=5, **look)


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


def _figure(run: Run, drawing: Drawing) -> Figure:
    return picture(partial(_marked, run, drawing), max(SIDE, _least_width(run, drawing)))


def _least_width(run: Run, drawing: Drawing) -> float:
    """Return how wide a drawing has to be for a row per class, and for the names of these."""
    classes, names = len(run.classes), _width_of_names(run)
    if drawing is confusion:
        cells = classes * (1.5 if classes <= FEW else 0.5)
        return cells + 1 + (0.0 if _side_by_side(run) else names + 0.5)
    if drawing is roc and classes > 2:
        return max(0.5 * classes + 2, 4 + names)
    return 0.0


def _width_of_names(run: Run) -> float:
    """Return about how many inches the longest name of a class takes."""
    return 0.1 * max(map(len, run.classes))


def _side_by_side(run: Run) -> bool:
    """Return whether the names of the classes have room under the columns of a matrix."""
    return len(run.classes) <= FEW and _width_of_names(run) <= SIDE / (len(run.classes) + 1)


def _marked(run: Run, drawing: Drawing, axes: Axes) -> None:
    """Draw, and say across it that ε does not cover what it shows, where that is so."""
    drawing(run, axes)
    if why := run.no_guarantee if drawing in OF_TESTING else run.train.no_guarantee:
        place: Any = {"ha": "center", "va": "center", "transform": axes.transAxes, "zorder": 10}
        look: Any = {"rotation": 20, "fontsize": 20, "weight": "bold", "color": ORANGE}
        box = {"facecolor": "white", "edgecolor": ORANGE, "alpha": 0.8}
        axes.text(0.5, 0.5, "NOT PRIVATE\n" + why.split(":")[0], bbox=box, **place, **look)


def _unit_square(axes: Axes, x: float, y: float, diagonal: str, ha: str = "left") -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    axes.text(x, y, diagonal, color=GREY, ha=ha)
