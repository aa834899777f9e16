"""Figures as parts of a page: vector graphics that take their colours from the page's style."""

import html
import io
import re
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from stages.reporting import figures

# The page has these in a light and in a dark shade.
VARIABLES = {
    figures.INK: "var(--ink)",
    figures.GREY: "var(--muted)",
    figures.GRID: "var(--line)",
    figures.BLUE: "var(--blue)",
    figures.ORANGE: "var(--orange)",
}


def to_svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG element for a page, where no other has its `name`.

    Its title and axes are its description to who cannot see it.
    """
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name}
    file = io.StringIO()
    with mpl.rc_context(settings):
        figure.savefig(file, format="svg", facecolor="none", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = _without_unused_ids(text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour.lower(), variable)
    (box,) = re.findall(r'viewBox="[^"]*"', text)
    opening = f'<svg {box} role="img" aria-label="{html.escape(_description(figure))}">'
    body = text[text.index(">") + 1 :]
    return opening + re.sub(r"\n\s*", "\n", body).strip()


def _description(figure: Figure) -> str:
    (axes,) = figure.axes
    title = axes.get_title(loc="left")
    return f"{title}. Across: {axes.get_xlabel()}. Upwards: {axes.get_ylabel()}."


def _without_unused_ids(text: str) -> str:
    used = set(re.findall(r"#([\w.-]+)", text))
    return re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", text)
