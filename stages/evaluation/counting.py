"""The test rows, counted exactly: what the release of them adds noise to."""

from stages.evaluation.counted import Counted, add_rows, nothing
from stages.model.perceptron import Model, predict_probabilities
from stages.tabular.prepared import Prepared

# In so many parts a person with several rows is counted. Parts of a power of two add up exactly
# when they are floating point numbers of people, of up to eight billion.
PARTS = 2**20


def count(model: Model, prepared: Prepared) -> Counted:
    """Count all test rows, of which a chunk is held at a time."""
    classes = len(prepared.classes)
    person = PARTS if prepared.at_most > 1 else 1
    counted = nothing(classes, {name: len(own) for name, own in prepared.groups.items()}, person)
    test, groups = prepared.test, prepared.test_groups
    parts = test.parts_of_a_person(person)
    start = 0
    for probabilities in predict_probabilities(model, test.features):
        rows = slice(start, start := start + len(probabilities))
        add_rows(counted, test.labels[rows], probabilities, groups[rows], parts[rows])
    return counted
