"""Drawings of what the model has learned: each feature by itself, strongest first, and a pair."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from stages.model.effects import Effect, PairEffect, spelled
from stages.reporting.figures import BLUE, GREY, ORANGE, SHADES
from stages.reporting.run import Run
from stages.reporting.words import short
from stages.tabular.fields import Feature

Drawing = Callable[[Run, Axes], None]

# As many as a page has room for, and a reader patience. The table has the others.
MOST_PANELS, MOST_LEVELS = 8, 12

# Letters in a line of a legend that several names share, and in one of a single name.
ONE_LINE, LONGEST = 24, 36

# Of more than two classes, those that move most are drawn.
LOOKS = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (GREY, ":", "^"))


def drawings_of(run: Run) -> list[Drawing]:
    """Return a drawing for each of the strongest features, and one for the pair if there is one."""
    learned = run.classifier.learned
    panels = [partial(_single, effect) for effect in learned.single[:MOST_PANELS]]
    return [*panels, *([partial(_pair, learned.pair)] if learned.pair else [])]


def _single(effect: Effect, run: Run, axes: Axes) -> None:
    shown = [*_shown_classes(effect.mean, run.classes)]
    draw = _levels if effect.feature.levels else _range
    draw(effect, shown, axes)
    if lines := _legend_lines(shown):
        columns = len(shown) // lines
        axes.legend(frameon=False, fontsize=10, loc="upper left", ncols=columns)
    axes.set_title(f"{short(effect.feature.name, 22)} moves it by {effect.strength:.2f}")


def _shown_classes(mean: npt.NDArray[Any], classes: list[str]) -> Iterator[tuple[int, str, Any]]:
    """Yield number, name and look of the classes that are drawn."""
    moves = np.ptp(mean.reshape(-1, len(classes)), axis=0)
    most = [1] if len(classes) == 2 else sorted(np.argsort(-moves, kind="stable")[: len(LOOKS)])
    for number, look in zip(most, LOOKS, strict=False):
        yield int(number), classes[number], look


def _legend_lines(shown: list[Any]) -> int:
    """Return how many lines a legend takes: one if there is room for all names in it, else each."""
    if len(shown) == 1:
        return 0
    return 1 if sum(len(name) for _, name, _ in shown) <= ONE_LINE else len(shown)


def _range(effect: Effect, shown: list[Any], axes: Axes) -> None:
    """A line over the range, on the scale of the model, with a band; missing is a point apart."""
    there = np.array([cell is not None for cell in effect.cells])
    places = np.arange(len(there)) + 4.0 * ~there
    for number, name, (colour, style, marker) in shown:
        low, mean, high = (v[:, number] for v in (effect.low, effect.mean, effect.high))
        x = places[there]
        axes.fill_between(x, low[there], high[there], color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, mean[there], style, color=colour, label=short(name, LONGEST))
        axes.vlines(places[~there], low[~there], high[~there], color=colour, alpha=0.2, linewidth=8)
        axes.plot(places[~there], mean[~there], marker, color=colour)
    ticks = [*range(0, sum(there), _step(sum(there))), *np.flatnonzero(~there)]
    axes.set_xticks(places[ticks], [_tick(effect.cells[tick]) for tick in ticks])
    axes.set_ylim(-0.02, 1.02 + 0.1 * _legend_lines(shown))
    axes.set_xlabel(_meaning(effect.feature), loc="right")
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_ylabel(_probability(shown))


def _levels(effect: Effect, shown: list[Any], axes: Axes) -> None:
    """A row per level: the mean as a point, nine tenths of the rows as a bar."""
    away = np.abs(effect.mean - effect.mean.mean(axis=0)).max(axis=1)
    places = np.sort(np.argsort(-away, kind="stable")[:MOST_LEVELS])
    rows = np.arange(len(places))
    for order, (number, name, (colour, _, marker)) in enumerate(shown):
        low, mean, high = (v[places, number] for v in (effect.low, effect.mean, effect.high))
        own = rows + 0.25 * (order - (len(shown) - 1) / 2)
        axes.hlines(own, low, high, color=colour, alpha=0.2, linewidth=8 / len(shown))
        axes.plot(
            mean, own, marker, color=colour, label=short(name, LONGEST), markersize=8 - len(shown)
        )
    axes.set_yticks(rows, [_tick(effect.cells[place]) for place in places])
    room = 0.12 * len(rows) * _legend_lines(shown)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.5, -0.5 - room))
    few = "" if len(rows) == len(effect.cells) else f", {len(rows)} of {len(effect.cells)}"
    axes.set_ylabel(_meaning(effect.feature) + few)
    axes.set_xlabel(_probability(shown), loc="right")  # wider than what long levels leave


def _pair(effect: PairEffect, run: Run, axes: Axes) -> None:
    """The mean probability where both features have a value each, in shades."""
    ((number, name, _), *_) = _shown_classes(effect.mean, run.classes)
    across, upwards = effect.features
    mean = effect.mean[:, :, number].T
    axes.pcolormesh(mean, cmap=SHADES, vmin=0, vmax=1, edgecolor="face")
    for (row, column), share in np.ndenumerate(mean):
        if row % _step(len(mean)) == 0 and column % _step(len(mean.T)) == 0:
            colour = "white" if share > 0.9 else "black"
            place = (column + 0.5, row + 0.5)
            axes.text(*place, f"{share:.2f}", ha="center", va="center", color=colour, fontsize=10)
    for axis, cells in zip((axes.xaxis, axes.yaxis), effect.cells, strict=True):
        ticks = [*range(0, len(cells), _step(len(cells)))]
        axis.set_ticks([tick + 0.5 for tick in ticks], [_tick(cells[t]) for t in ticks])
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{short(across.name)} × {short(upwards.name)}")
    meaning = f"{_meaning(across)}\nshades: probability of “{short(name, 20)}”"
    axes.set_xlabel(meaning, loc="right")
    axes.set_ylabel(_meaning(upwards))


def _step(cells: int) -> int:
    """Every which of so many cells has room for its text."""
    return -(-cells // 5)


def _tick(cell: Any) -> str:
    return short(spelled(cell, digits=3))


def _meaning(feature: Feature) -> str:
    return short(feature.description or feature.name, 40)


def _probability(shown: list[Any]) -> str:
    which = "a class" if len(shown) > 1 else f"“{short(shown[0][1], 24)}”"
    return f"probability of {which}"
