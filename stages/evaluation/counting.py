"""The test rows, counted exactly: what the release of them adds noise to."""

from stages.evaluation.counted import Counted, add_rows, nothing
from stages.model.perceptron import Model, predict_probabilities
from stages.tabular.prepared import Prepared


def count(model: Model, prepared: Prepared) -> Counted:
    """Count all test rows, of which a chunk is held at a time."""
    classes = len(prepared.classes)
    counted = nothing(classes, {name: len(own) for name, own in prepared.groups.items()})
    features, labels = prepared.test
    start = 0
    for probabilities in predict_probabilities(model, features):
        rows = slice(start, start := start + len(probabilities))
        add_rows(counted, labels[rows], probabilities, prepared.test_groups[rows])
    return counted
