"""One visual language for all figures: few lines, direct labels, noise drawn, titles that find.

Each drawing is a figure of its own, so that a picture can put several side by side and a page can
show them one by one, on a telephone too.
"""

import html
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from stages.errors import UserError
from stages.files import whole_file

# Okabe & Ito's palette, which colour-blind readers can tell apart; lines differ in style as well.
BLUE, ORANGE = "#0072B2", "#D55E00"
INK, GREY, GRID = "#1F2328", "#59636E", "#E3E6EA"

# Black text is legible up to nine tenths of the way, white text at its end. None of the shades is a
# colour of the palette, which a page changes in the dark.
SHADES = LinearSegmentedColormap.from_list("shades", ["#F3F8FB", "#0070B0"])

# The page has these in a light and in a dark shade.
VARIABLES = {
    INK: "var(--ink)",
    GREY: "var(--muted)",
    GRID: "var(--line)",
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
}

SIDE = 4.9  # inches, of one drawing
ACROSS = 3  # drawings in a line of a picture
# Dots per inch: a line of three is not wider than the page on which `dvc plots diff` shows it.
RESOLUTION = 85
WHITE = 255

STYLE: Any = {
    "font.size": 12,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $5 to $10
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 13,
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
    "axes.facecolor": "none",
}

Drawing = Callable[[Axes], None]


def picture(draw: Drawing, width: float = SIDE) -> Figure:
    """Return a figure of one drawing, `width` inches wide and nearly as high.

    Its layout, which takes longer than all else, is made once for all savings.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, max(SIDE, width) - 0.3), facecolor="none")
        draw(figure.add_subplot())
    ConstrainedLayoutEngine().execute(figure)
    return figure


def refuse_other_names(asked: str, path: Path) -> None:
    """Refuse a name under which nobody looks for a picture; `asked` is the option it was given to.

    Raises:
        UserError: it is no PNG file's.
    """
    if path.suffix != ".png" or path.is_dir():
        raise UserError(
            f"{asked} {path}: expected the name of a file that ends in .png. Name one such as "
            "picture.png."
        )


def save(figures: Sequence[Figure], path: Path) -> None:
    """Write figures of one size as PNG, three to a line, whole or not at all."""
    cells = [_pixels(figure) for figure in figures]
    across = min(len(cells), ACROSS)
    cells += [np.full_like(cells[0], WHITE)] * (-len(cells) % across)
    lines = [np.hstack(cells[start : start + across]) for start in range(0, len(cells), across)]
    with whole_file(path) as scratch:
        imsave(scratch, np.vstack(lines), format="png", dpi=RESOLUTION)


def _pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    """(height, width, 4) of a figure on white."""
    figure.set(dpi=RESOLUTION, facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())


def to_svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG element for a page, where no other has its `name`.

    Its title and axes are its description to who cannot see it.
    """
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name}
    figure.set(facecolor="none")
    file = io.StringIO()
    with mpl.rc_context(settings):
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(file, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->\s*", "", text, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda id_: id_[0] if id_[1] in used else "", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour.lower(), variable)
    (box,) = re.findall(r'viewBox="[^"]*"', text)
    (axes,) = figure.axes
    title, across, upwards = axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()
    said = html.escape(f"{title}. Across: {across}. Upwards: {upwards}.")
    body = text[text.index(">") + 1 :]
    return f'<svg {box} role="img" aria-label="{said}">' + re.sub(r"\n\s*", "\n", body).strip()


def running_total(
    totals: Sequence[float], delta: float, budget: float | None, table: str, before: str
) -> Figure:
    """ε of everything released about the people of a table, after each entry of the ledger.

    `before` is said before the total, such as "at least ".
    """

    def draw(axes: Axes) -> None:
        numbers = range(1, len(totals) + 1)
        axes.plot(numbers, totals, color=ORANGE, marker=".", drawstyle="steps-post")
        if budget is not None:
            axes.axhline(budget, color=GREY, linestyle="--", linewidth=1)
            axes.text(1, budget, "privacy_budget", color=GREY, va="bottom")
        axes.set_title(f"{before}ε = {totals[-1]:.2f} spent in {len(totals)} releases")
        axes.set(
            xlabel=f"release about {table}", ylabel=f"total ε at δ = {delta:g}", ylim=(0, None)
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return picture(draw, width=6.5)
