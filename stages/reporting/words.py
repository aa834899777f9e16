"""How numbers are written in the report."""

import math
from collections.abc import Callable, Mapping

from stages.evaluation.result import EvaluateResult


def number(value: float | str | None, form: str, missing: str = "none") -> str:
    """Return a number, or the text of one, in a form of Python's; `missing` where there is none."""
    if isinstance(value, str):
        value = float(value)
    return missing if value is None else format(value, form)


def off(test: EvaluateResult, figure: str) -> float | None:
    """Return ± of a test figure for new patients; of earlier versions, which have none, the noise.

    None if neither is told.
    """
    told = test.off(figure)
    return told.noise if told.new_patients is None else told.new_patients


def with_off(test: EvaluateResult, figure: str, form: str) -> str:
    """Return a test figure, if it was released, and its ± for new patients."""
    if figure not in test.figures:
        return "not released"
    plus_minus = off(test, figure)
    shown = f"{test.figures[figure]:{form}}"
    return shown if plus_minus is None else f"{shown} ± {plus_minus:{form}}"


def around(test: EvaluateResult, figure: str, most: float) -> tuple[float, float, float]:
    """Return a test figure, and the ends of its ± as far as it can be, from 0 to `most`."""
    value, plus_minus = test.figures[figure], off(test, figure) or 0.0
    return value, max(0.0, value - plus_minus), min(most, value + plus_minus)


def short(text: str, most: int = 16) -> str:
    """Return a text that, if it is longer than `most` characters, ends after as many, in …"""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def people(count: float | str) -> str:
    """Return an estimate of a count of people as a whole number."""
    return f"{round(max(0.0, float(count))):,}"


def odds(chance: float | None) -> str:
    """Return a chance above 0 as `1 in so many`."""
    return "none" if chance is None else f"1 in {round(1 / chance):,}"


def factor(epsilon: float) -> str:
    """Return e^ε in two digits, rounded up."""
    unit = 10 ** (math.floor(epsilon / math.log(10)) - 1)
    return f"{math.ceil(math.exp(epsilon) / unit) * unit:,.10g}"


def right(attack: Mapping[str, float]) -> str:
    """Return how often in 100 the best guess is right, where half are members; rounded up."""
    return str(math.ceil(50 * (1 + attack["advantage"])))


def up(share: float) -> str:
    """Return a share as so many in 100, rounded up to a tenth."""
    return f"{math.ceil(1000 * share) / 10:.1f}"


FILTERS: Mapping[str, Callable[..., str]] = {
    function.__name__: function for function in (number, people, odds, factor, right, up)
}
