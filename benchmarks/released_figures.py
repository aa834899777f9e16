"""Are released test figures right on average, and do their intervals cover what they promise?

Draws test sets from known populations, releases each once, and holds the figures against those of
the very rows, which the noise alone is to cover, and of the population, which the interval for new
patients is to cover. No private row is read; RELEASED_FIGURES.txt is its output.

    python -m benchmarks.released_figures > benchmarks/RELEASED_FIGURES.txt
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sklearn_metrics

from stages.evaluation.counted import Counted, add_rows, nothing
from stages.evaluation.estimate import Measured
from stages.evaluation.layout import scored_classes
from stages.evaluation.release import CountRelease, noise_for

RELEASES = 200
DELTA = 1e-5
CLASSES = (2, 5)
ROWS = (268, 2_000, 50_000)
EPSILONS = (0.25, 1.0, 3.5)
SHARPNESS = {"calibrated": 1.0, "over-confident": 2.0, "under-confident": 0.5}
POPULATION = 1_000_000

Rows = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]
Found = Sequence[tuple[Mapping[str, Measured], Mapping[str, float]]]


def scored_rows(
    source: np.random.Generator,
    rows: int,
    classes: int = 2,
    *,
    sharpness: float = 1.0,
    separation: float = 2.0,
) -> Rows:
    """Return labels and probabilities of a classifier that is as sure as it should be, or not.

    Features are normal, and those of a label further by `separation` in a direction of its own, so
    that calibrated logits are the features times that.
    """
    labels = source.integers(0, classes, rows)
    features = source.normal(size=(rows, classes))
    features[np.arange(rows), labels] += separation
    logits = sharpness * separation * features
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return labels, odds / odds.sum(axis=1, keepdims=True)


def counted(
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    groups: npt.NDArray[np.int64] | None = None,
    levels: Mapping[str, int] | None = None,
) -> Counted:
    """Return the exact counts of rows, in groups if they have any."""
    counts = nothing(probabilities.shape[1], levels or {})
    none = np.zeros((len(labels), 0), dtype=np.int64)
    add_rows(counts, labels, probabilities, none if groups is None else groups)
    return counts


def exact_figures(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]
) -> dict[str, float]:
    """Return every figure as scikit-learn has it."""
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, average="binary" if classes == 2 else "macro", zero_division=0
    )
    accuracy = float((predicted == labels).mean())
    base_rate = float(np.bincount(labels, minlength=classes).max() / len(labels))
    areas = [
        sklearn_metrics.roc_auc_score(labels == of, probabilities[:, of])
        for of in scored_classes(classes)
    ]
    return {
        "accuracy": accuracy,
        "base_rate": base_rate,
        "gain": accuracy - base_rate,
        "loss": sklearn_metrics.log_loss(labels, probabilities, labels=range(classes)),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "roc_auc": float(np.mean(areas)),
    }


def releases(
    epsilon: float, rows: int, classes: int = 2, how_many: int = RELEASES, **kind: float
) -> Found:
    """Return the figures of as many new test sets, as released and as they are."""
    source = np.random.default_rng(1)
    mechanism = CountRelease(noise_for(epsilon, DELTA), classes)
    found = []
    for seed in range(how_many):
        labels, probabilities = scored_rows(source, rows, classes, **kind)
        released, _ = mechanism.release(counted(labels, probabilities), rows, seed)
        found.append((released.figures(), exact_figures(labels, probabilities)))
    return found


def off(found: Found, half: str) -> dict[str, npt.NDArray[np.float64]]:
    """Return by released figure of how many ± it was off each time, by which `half` of the two."""
    return {
        name: np.array(
            [
                (float(figures[name].value) - truth[name]) / float(getattr(figures[name], half))
                for figures, truth in found
            ]
        )
        for name in found[0][0]
    }


def _report(found: Found, population: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    of_rows = off(found, "noise")
    of_people = off([(figures, population) for figures, _ in found], "new_patients")
    for name in of_rows:
        errors = np.array([float(figures[name].value) - truth[name] for figures, truth in found])
        noise, people = (
            float(np.mean([getattr(figures[name], half) for figures, _ in found]))
            for half in ("noise", "new_patients")
        )
        yield {
            "figure": name,
            "noise": noise,
            "new": people,
            "bias": float(errors.mean()) / noise,
            "bias_new": float(errors.mean()) / people,
            "rows_covered": float((np.abs(of_rows[name]) <= 1).mean()),
            "people_covered": float((np.abs(of_people[name]) <= 1).mean()),
        }


def main() -> None:
    print(f"{RELEASES} releases each; a share of them that is 0.95 comes out as 0.92 to 0.98 in 95")
    print("of 100 cases. Bias over ± (noise / new patients); covered: very rows, population.\n")
    head = "classes rows ε scores figure ±noise ±new bias/noise bias/new rows population"
    print(
        "{:>7} {:>6} {:>4} {:15} {:17} {:>7} {:>7} {:>10} {:>8} {:>5} {:>10}".format(*head.split())
    )
    for classes, (kind, sharpness) in itertools.product(CLASSES, SHARPNESS.items()):
        source = np.random.default_rng(2)
        everybody = scored_rows(source, POPULATION, classes, sharpness=sharpness)
        population = exact_figures(*everybody) | {"base_rate": 1 / classes}
        population["gain"] = population["accuracy"] - population["base_rate"]
        for rows, epsilon in itertools.product(ROWS, EPSILONS):
            found = releases(epsilon, rows, classes, sharpness=sharpness)
            for one in _report(found, population):
                print(
                    f"{classes:7} {rows:6} {epsilon:4g} {kind:15} {one['figure']:17} "
                    f"{one['noise']:7.4f} {one['new']:7.4f} {one['bias']:+10.2f} "
                    f"{one['bias_new']:+8.2f} {one['rows_covered']:5.2f} "
                    f"{one['people_covered']:10.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
