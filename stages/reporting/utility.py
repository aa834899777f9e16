"""Privacy against utility: what a run promises, and what it is good for, as one point."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.evaluation.result import EvaluateResult
from stages.reporting.figures import BLUE, picture


def utility_point(test: EvaluateResult) -> dict[str, float | None]:
    """Return ε of the run, and accuracy and loss with the ends of their ±, as a row of CSV."""
    point = {"epsilon": test.epsilon_overall}
    for name, most in (("accuracy", 1.0), ("loss", math.inf)):
        value, low, high = _around(test, name, most)
        point |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return point


def _around(test: EvaluateResult, name: str, most: float) -> tuple[float, float, float]:
    """Return a figure, and the ends of its ± as far as it can be."""
    value, noise = test.figures[name], test.noise_in(name) or 0.0
    return value, max(0.0, value - noise), min(most, value + noise)


def privacy_utility(tests: Mapping[str, EvaluateResult]) -> Figure:
    """Test accuracy, ± its noise, against ε of the whole; one point per run, by its name.

    Args:
        tests: of runs with a guarantee, at least one.
    """

    def draw(axes: Axes) -> None:
        for name, test in tests.items():
            y, low, high = (100 * share for share in _around(test, "accuracy", 1.0))
            point = (test.epsilon_overall or 0.0, y)
            axes.errorbar(*point, [[y - low], [high - y]], fmt="o", color=BLUE, capsize=4)
            axes.annotate(name, point, xytext=(7, 7), textcoords="offset points", fontsize=10)
        accuracies = _range([test.accuracy for test in tests.values()], ".1%")
        epsilons = _range([test.epsilon_overall or 0.0 for test in tests.values()], "g")
        axes.margins(x=0.3, y=0.15)
        axes.set(
            title=f"{accuracies} right at ε = {epsilons}",
            xlabel="ε of all that a run publishes",
            ylabel="test rows right (%), ± the noise",
            xlim=(0, None),
        )

    return picture([draw], width=6.5)


def _range(values: Sequence[float], form: str) -> str:
    ends = dict.fromkeys(format(end, form) for end in (min(values), max(values)))
    return " to ".join(ends)
