"""What the released tables look like as rows of CSV, for DVC's plots and for the plot stage."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.evaluation.estimate import Measured
from stages.evaluation.layout import Layout, Table, scored_classes
from stages.evaluation.metrics import roc_curve
from stages.evaluation.scores import THRESHOLDS, Values
from stages.files import write_csv

Rows = list[dict[str, Any]]

_CONFUSION = ("actual", "predicted")
_ROC = ("false_positive_rate", "true_positive_rate")

# As many made-up people as Git and a browser take with ease.
MOST_ROWS = 10_000

# Points of a ROC curve that is the mean of several.
MEAN_POINTS = 51


def score_rows(table: Table, classes: Sequence[str]) -> Rows:
    """Return a row per count of scores, whose label is a class or, of several, `other`.

    Where scores were not counted, all are in one bin, from 0 to 1.
    """
    ends = [0.0, *map(float, table.thresholds), 1.0]
    others = classes[0] if len(classes) == 2 else "other"
    scored = [classes[of] for of in scored_classes(len(classes))]
    scores = table.scores if table.has_scores else _in_one_bin(table.confusion)
    return [
        {
            "probability_of": scored[of],
            "label": scored[of] if own else others,
            "probability_from": ends[place],
            "probability_to": ends[place + 1],
            "rows": round(float(count), 3),
        }
        for (of, own, place), count in np.ndenumerate(scores)
    ]


def _in_one_bin(confusion: Values) -> Values:
    """Return scores (scored classes, 2, 1) as if there were one bin: all others, and all of it."""
    of_label = confusion.sum(axis=1)
    own = of_label[[*scored_classes(len(of_label))]]
    return np.stack([of_label.sum() - own, own], axis=-1)[..., None]


def classes_told(scores: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the classes that `score_rows` tells of; of earlier versions those of its labels."""
    scored = dict.fromkeys(row["probability_of"] for row in scores if "probability_of" in row)
    return [*scored] if len(scored) > 1 else [*dict.fromkeys(row["label"] for row in scores)]


def counts_of(
    confusion: Sequence[Sequence[float]], scores: Sequence[Mapping[str, str]]
) -> tuple[Layout, Values]:
    """Return the counts that the confusion matrix and `score_rows` tell, and what is where."""
    inner = {float(row["probability_from"]) for row in scores} - {0.0}
    places = [np.abs(THRESHOLDS - value).argmin() for value in sorted(inner)]
    layout = Layout(len(confusion), np.array(places, dtype=np.int64))
    counts = [float(row["rows"]) for row in scores] if layout.scored else []
    return layout, np.append(np.ravel(confusion), counts)


def shown(counts: Values) -> npt.NDArray[np.int64]:
    """Return estimates of counts as whole people."""
    whole: npt.NDArray[np.int64] = np.maximum(counts, 0).round().astype(np.int64)
    return whole


def confusion_rows(confusion: Values, classes: Sequence[str]) -> Rows:
    """Return one row per counted person, as DVC's `confusion` template wants it.

    They are made up from the released counts, rounded: no row stands for a real one. Of more than
    `MOST_ROWS` they are the proportions.
    """
    counts = np.maximum(confusion, 0)
    whole = shown(counts * min(1.0, MOST_ROWS / max(1.0, float(counts.sum()))))
    return [
        dict(zip(_CONFUSION, (classes[label], classes[predicted]), strict=True))
        for (label, predicted), rows in np.ndenumerate(whole)
        for _ in range(rows)
    ]


def drawn_roc(scores: Values) -> Values:
    """Return a ROC curve (2, points) as it is drawn: within the square, and never falling."""
    return np.maximum.accumulate(np.clip(roc_curve(scores), 0, 1), axis=-1)


def roc_rows(table: Table) -> Rows:
    """Return the points of the ROC curve, with more than two classes of the mean of theirs.

    None, if scores were not counted.
    """
    if not table.has_scores:
        return []
    curves = [drawn_roc(scores) for scores in table.scores]
    if len(curves) == 1:
        ((false, true),) = curves
    else:
        false = np.linspace(0, 1, MEAN_POINTS)
        true = np.mean([np.interp(false, *curve) for curve in curves], axis=0)
    return [
        dict(zip(_ROC, (round(float(x), 4), round(float(y), 4)), strict=True))
        for x, y in zip(false, true, strict=True)
    ]


def write_drawn(table: Table, classes: Sequence[str], folder: Path) -> None:
    """Write confusion.csv and roc.csv into `folder`, which may have no rows, for DVC to draw."""
    write_csv(folder / "confusion.csv", confusion_rows(table.confusion, classes), _CONFUSION)
    write_csv(folder / "roc.csv", roc_rows(table), _ROC)


def group_rows(
    column: str, levels: Sequence[str], figures: Mapping[str, Measured], *, noisy: bool
) -> Rows:
    """Return a row of test figures per subgroup, each with its ±.

    Args:
        column: what the rows are grouped by.
        levels: names of the groups.
        figures: by name, each (levels,).
        noisy: whether there is noise in them.
    """
    return [
        {"column": column, "group": level, "name": f"{column}: {level}" if level else column}
        | dict(_cells_of(figures, number, noisy=noisy))
        for number, level in enumerate(levels)
    ]


def _cells_of(
    figures: Mapping[str, Measured], number: int, *, noisy: bool
) -> Iterator[tuple[str, float]]:
    for name, measured in figures.items():
        value, noise, new_patients = (round(float(part[number]), 4) for part in measured)
        yield name, value
        if name != "rows":
            yield f"{name}_new_patients", new_patients
        if noisy:
            yield f"{name}_noise", noise
