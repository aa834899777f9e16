"""Two tables of other shapes than the sample's, with schemas in tests/examples/.

`breast_cancer` is scikit-learn's: 569 rows of 30 numbers, and a text label. `clinic` is generated:
three classes, an id with repeated rows, categories, missing values, semicolons.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
from sklearn.datasets import load_breast_cancer, load_diabetes

SCHEMAS = Path(__file__).parent / "examples"


def write_breast_cancer(path):
    """Write the breast cancer table, benign (1) or malignant (0), with its names."""
    data = load_breast_cancer()
    columns = {
        name.replace(" ", "_"): data.data[:, number]
        for number, name in enumerate(data.feature_names)
    }
    columns["diagnosis"] = np.array(["malignant", "benign"])[data.target]
    arrow_csv.write_csv(pa.table(columns), path)


def write_diabetes(path):
    """Write the diabetes table: 442 patients, and how far the disease got within a year."""
    data = load_diabetes(scaled=False)
    columns = dict(zip(data.feature_names, data.data.T, strict=True))
    arrow_csv.write_csv(pa.table(columns | {"progression": data.target}), path)


def clinic(patients=1500, seed=0):
    """Return columns of text: every twentieth patient has two rows, a tenth of values miss."""
    source = np.random.default_rng(seed)
    people = np.concatenate([np.arange(patients), np.arange(0, patients, 20)])
    age = source.integers(18, 90, patients)[people]
    ward = source.integers(0, 12, patients)[people]
    dose = np.round(source.lognormal(2, 1.5, len(people)), 2)
    smoker = source.integers(0, 2, patients)[people]
    score = (age - 54) / 20 + (ward % 3 - 1) + smoker + source.normal(0, 0.5, len(people))
    columns = {
        "patient": np.array([f"p{number:05d}" for number in people], dtype=object),
        "age": age.astype(str).astype(object),
        "ward": np.array([f"ward {number}" for number in ward], dtype=object),
        "dose": dose.astype(str).astype(object),
        "smoker": np.array(["no", "yes"], dtype=object)[smoker],
        "notes": np.array([f'said: "hm; {number}"' for number in people], dtype=object),
        "outcome": np.array(["home", "ward", "intensive"], dtype=object)[
            np.digitize(score, [-0.2, 1.2])
        ],
    }
    for name, cell in (("age", "NA"), ("ward", ""), ("dose", ""), ("outcome", "NA")):
        columns[name][source.random(len(people)) < 0.05] = cell
    columns["ward"][source.random(len(people)) < 0.02] = "ward of tomorrow"
    return columns


def write_clinic(path, **options):
    """Write the clinic's table."""
    arrow_csv.write_csv(
        pa.table(
            {name: pa.array(values, pa.string()) for name, values in clinic(**options).items()}
        ),
        path,
        arrow_csv.WriteOptions(delimiter=";"),
    )
