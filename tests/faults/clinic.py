"""A table with fields of every kind that the sample has not, and several rows of a person."""

import numpy as np

FIELDS: list[dict[str, object]] = [
    {"name": "who", "role": "id", "repeated": "keep latest", "latest": "seen"},
    {"name": "born", "type": "date", "role": "reference", "format": "%d.%m.%Y"},
    {
        **{"name": "seen", "type": "datetime", "parts": ["month", "weekday"]},
        "since": {"field": "born", "unit": "years", "minimum": 0, "maximum": 100},
    },
    {"name": "smokes", "type": "boolean", "missing": "category"},
    {
        **{"name": "bmi", "type": "number", "cutoffs": [18.5, 25, 30], "missing": "midpoint"},
        "constraints": {"minimum": 10, "maximum": 60},
    },
    {"name": "cost", "type": "number", "role": "label", "thresholds": [5000, 15000]},
]
CLINIC = {"fields": FIELDS, "report_by": ["smokes"]}


def visit(source, who, day):
    """A row of one person, who is `who` years old."""
    smokes, bmi = source.choice(["yes", "no", ""]), source.choice(["17.5", "25", "45.1", ""])
    seen = f"2020-{day % 12 + 1:02}-{day % 28 + 1:02} 10:{day % 60:02}"
    return f"p{who},01.07.{1919 + who},{seen},{smokes},{bmi},{source.integers(25000)}"


AT_MOST = 3
ALL_ROWS = {
    **CLINIC,
    "fields": [
        {"name": "who", "role": "id", "repeated": "use all", "at_most": AT_MOST},
        *FIELDS[1:],
    ],
}


def visits_of(who):
    """How many a person has: one, as many as are used, and more."""
    return (1, AT_MOST, 3 * AT_MOST, 2)[who % 4]


def shuffled_histories():
    """The visits of 60 people, one to nine of each."""
    source = np.random.default_rng(2)
    rows = [visit(source, who, day) for who in range(60) for day in range(visits_of(who))]
    return [rows[place] for place in source.permutation(len(rows))]
