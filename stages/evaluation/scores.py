"""The scale on which scores are counted: round thresholds, and the bins that a release settles on.

A score is the probability that the model gives to a class. Its scale has steps of 0.02 in the
middle, and of 1, 1.5, 2, 3, 5, 7 and so on to 1e-8 at either end, where the log loss is steep.
"""

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

_ENDS = [digit * 10.0**-power for power in range(8, 1, -1) for digit in (1, 1.5, 2, 3, 5, 7)]
_LOWER = [*_ENDS, *(step / 50 for step in range(5, 25))]

# The thresholds between which every score is counted, and what lies below and above them.
THRESHOLDS = np.array([*_LOWER, 0.5, *(round(1 - p, 9) for p in reversed(_LOWER))])
CELLS = len(THRESHOLDS) + 1
MIDDLE = len(_LOWER)


def logits(probabilities: Values) -> Values:
    """Return log(p / (1 - p)) of probabilities in (0, 1)."""
    found: Values = np.log(probabilities) - np.log1p(-probabilities)
    return found


_LOGITS = logits(THRESHOLDS)

# Share of each cell in the distribution Beta(1/2, 1/2).
_JEFFREYS = np.diff(np.arcsin(np.sqrt([0, *THRESHOLDS, 1]))) * 2 / np.pi

# How far beyond the outermost thresholds logits are taken to reach, in widths of the wider of the
# bins next to them: bins have about as many rows each, and where noise has put two thresholds
# close to each other the end beyond is no shorter for it. Of 1 to 3 the one with which losses are
# nearest to the exact ones over the populations of benchmarks/released_figures.py.
_BEYOND = 1.5


def cells_of(probabilities: Values, of: int) -> Places:
    """Return (rows,) in [0, CELLS): the cell of the score of class `of`, whose upper end it may be.

    Args:
        probabilities: (rows, classes), each row adding up to 1.
        of: the class.
    """
    with np.errstate(divide="ignore"):
        others = np.delete(probabilities, of, axis=1).sum(axis=1)
        odds = np.log(probabilities[:, of]) - np.log(others)
    return np.searchsorted(_LOGITS, odds)


def others_of(own: Values, classes: int) -> Values:
    """Return (CELLS,) where others' classes' scores are, by those (CELLS,) of rows' own classes.

    As if each of the others had an equal part of what the own class's score lacks to 1.
    """
    ends = np.array([0, *THRESHOLDS, 1])
    left = 1 - (ends[1:] + ends[:-1]) / 2
    others: Values = np.zeros(CELLS)
    np.add.at(others, np.searchsorted(THRESHOLDS, left / (classes - 1)), own)
    return others


def choose_thresholds(noisy: Values, deviation: float, bins: int) -> Places:
    """Return places in THRESHOLDS, ascending, that part scores into about `bins` equal bins.

    So bins are where rows are: a threshold between two of which there is nobody tells nothing.

    Args:
        noisy: (CELLS,) rows by cell of their score, with noise.
        deviation: of that noise. As many made-up rows as four times the noise in all cells are
            spread over the scale by Jeffreys' distribution of a chance, so that where there is
            little but noise, bins are narrower towards either end.
        bins: how many, from 2.
    """
    made_up = 4 * deviation * np.sqrt(CELLS) * _JEFFREYS
    below = np.maximum.accumulate(np.cumsum(noisy + made_up))
    wanted = below[-1] * np.arange(1, bins) / bins
    return np.unique(np.abs(below[:-1, None] - wanted).argmin(axis=0))


def with_middle(places: Places) -> Places:
    """Return the places with the one nearest to 1/2, where the prediction changes, moved there."""
    nearest = np.abs(places - MIDDLE).argmin()
    return np.unique(np.where(np.arange(len(places)) == nearest, MIDDLE, places))


def bin_means(thresholds: Values) -> Values:
    """Return (bins,) mean probability of a bin's rows, as if their logits were spread evenly."""
    _, middles, offsets = _bins(thresholds)
    means: Values = (1 / (1 + np.exp(-middles[:, None] - offsets))).mean(axis=-1)
    return means


def _bins(thresholds: Values) -> tuple[Values, Values, Values]:
    """Return widths and middles (bins,) of bins of logits, and offsets (bins, 16) from these."""
    inner = logits(thresholds)
    steps = np.diff(inner) if len(inner) > 1 else np.ones(1)
    beyond = _BEYOND * max(steps[0], steps[-1])
    edges = np.concatenate([[inner[0] - beyond], inner, [inner[-1] + beyond]])
    widths = np.diff(edges)
    offsets = widths[:, None] * ((np.arange(16) + 0.5) / 16 - 0.5)
    return widths, (edges[1:] + edges[:-1]) / 2, offsets


def bin_losses(thresholds: Values) -> Values:
    """Return (2, bins): what a row in a bin adds to a sum of log losses, in nats.

    First if it is not of the class, then if it is. As if the density of a bin's logits changed
    evenly over it, as fast as between the bins beside it: so a row counts there as well.

    Args:
        thresholds: (bins - 1,) probabilities, ascending.
    """
    widths, middles, offsets = _bins(thresholds)
    inside = middles[:, None] + offsets
    losses = np.stack([np.logaddexp(0, inside), np.logaddexp(0, -inside)])
    sums: Values = losses.mean(axis=-1)
    tilted = (losses * offsets).mean(axis=-1) * widths
    # Beyond the outermost bins there is nobody.
    around = np.concatenate([[middles[0] - widths[0]], middles, [middles[-1] + widths[-1]]])
    by_slope = tilted / (around[2:] - around[:-2])
    sums[:, 1:] += by_slope[:, :-1] / widths[1:]
    sums[:, :-1] -= by_slope[:, 1:] / widths[:-1]
    return sums
