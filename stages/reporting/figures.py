"""One visual language for all figures: few lines, direct labels, noise drawn, titles that find.

Each drawing has axes of its own, so that a picture can put several side by side and a page can show
them one by one, on a telephone too.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.files import whole_file

# Okabe & Ito's palette, which colour-blind readers can tell apart; lines differ in style as well.
BLUE, ORANGE = "#0072B2", "#D55E00"
INK, GREY, GRID = "#1F2328", "#59636E", "#E3E6EA"

# Black text is legible up to nine tenths of the way, white text at its end. None of the shades is a
# colour of the palette, which a page changes in the dark.
SHADES = LinearSegmentedColormap.from_list("shades", ["#F3F8FB", "#0070B0"])

SIDE = 4.9  # inches, of one drawing

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


def running_total(totals: Sequence[float], delta: float, budget: float | None) -> Figure:
    """ε of everything released about the same people, after each entry of the ledger."""

    def draw(axes: Axes) -> None:
        axes.step(range(1, len(totals) + 1), totals, where="post", color=ORANGE)
        axes.plot(range(1, len(totals) + 1), totals, ".", color=ORANGE)
        if budget is not None:
            axes.axhline(budget, color=GREY, linestyle="--", linewidth=1)
            axes.text(1, budget, "privacy_budget", color=GREY, va="bottom")
        set_title(axes, f"ε = {totals[-1]:.2f} spent in {len(totals)} releases")
        axes.set(xlabel="release", ylabel=f"total ε at δ = {delta:g}")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return picture([draw], width=6.5)


def set_title(axes: Axes, finding: str) -> None:
    """Say above a drawing what is to be seen in it."""
    axes.set_title(finding, loc="left", weight="bold", fontsize=13)
