"""Other tables run end to end with a schema and parameters alone."""

import csv
import shutil

import numpy as np
import pyarrow.csv as arrow_csv
import pytest

from stages.model.perceptron import predict_logits
from stages.predict import load
from stages.tabular.encode import encode
from stages.tabular.prepared import Prepared
from stages.tabular.reader import read_batches
from tests.conftest import commit_all, copy_project, told
from tests.examples import SCHEMAS, write_breast_cancer, write_clinic

EXAMPLES = {
    # training rows: 80 % of 569; of 1,500 people, less a twentieth without outcome
    "breast_cancer": (write_breast_cancer, 450),
    "clinic": (write_clinic, 1150),
}


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request, tmp_path_factory):
    """A project in which the example's table stands in the sample's place, after `dvc repro`."""
    name = request.param
    write, train_size = EXAMPLES[name]
    project = copy_project(tmp_path_factory.mktemp(name) / "project")
    write(project.folder / f"data/{name}.csv")
    shutil.copy(SCHEMAS / f"{name}.schema.json", project.folder / "data")
    project.set(data=f"data/{name}.csv", schema=f"data/{name}.schema.json", train_size=train_size)
    commit_all(project, "clone")
    project.run("dvc", "repro")
    return name, project


def test_a_schema_and_parameters_are_enough(example):
    name, project = example
    train, test = told(project, "train"), told(project, "evaluate")
    assert 0.97 * 3.5 < train["epsilon"] <= 3.5
    assert 0.97 * 3.5 < test["epsilon_overall"] <= 3.5
    # Always saying the most frequent class is right in 63 % and 45 % of the rows.
    assert test["figures"]["accuracy"] > {"breast_cancer": 0.85, "clinic": 0.6}[name]
    for figure in ("training", "confusion_matrix", "roc", "calibration"):
        assert (project.folder / f"plots/{figure}.png").read_bytes().startswith(b"\x89PNG")


def test_subgroups_are_reported_with_their_noise(example):
    name, project = example
    with (project.folder / "plots/subgroups.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = {
        row["column"]: [r["group"] for r in rows if r["column"] == row["column"]] for row in rows
    }
    wards = [*(f"ward {number}" for number in range(12)), "(other)", "(missing)"]
    assert columns == {"everyone": [""]} | (
        {"smoker": ["no", "yes"], "ward": wards} if name == "clinic" else {}
    )
    everyone = float(rows[0]["rows"])
    for column, groups in columns.items():
        counted = [float(row["rows"]) for row in rows if row["column"] == column]
        assert len(counted) == len(groups)
        # Rows add up to those of the whole, but for noise of deviation 4 on at most 56 counts.
        assert np.sum(counted) == pytest.approx(everyone, abs=150)
    assert all(float(row["accuracy_noise"]) > 0 for row in rows)


def logits_by_row(model, features):
    """What the model says of each encoded row, by the row's bytes."""
    logits = np.concatenate(list(predict_logits(model, features)))
    return {
        row.tobytes(): said.tobytes()
        for row, said in zip(np.asarray(features), logits, strict=True)
    }


def test_predict_gives_the_very_logits_that_evaluate_measured(example):
    name, project = example
    classifier = load(project.folder / "models/classifier")
    table = project.folder / f"data/{name}.csv"
    batches = read_batches(table, classifier.schema, scoring=True)
    features = np.concatenate([encode(batch, classifier.schema) for batch in batches])
    predicted = logits_by_row(classifier.model, features)
    prepared = Prepared.open(project.folder / "data/prepared")
    for side in (prepared.train, prepared.test):
        evaluated = logits_by_row(classifier.model, side.features)
        assert evaluated.items() <= predicted.items()
    # The command prints what Python gives.
    project.run("python", "-m", "stages.predict", f"data/{name}.csv", "--output", "out.csv")
    printed = arrow_csv.read_csv(project.folder / "out.csv")
    (_, probabilities) = zip(*classifier.stream(table), strict=True)
    np.testing.assert_array_equal(
        np.stack([printed.column(name) for name in classifier.classes_], axis=1),
        np.concatenate(probabilities),
    )


def test_the_report_tells_of_subgroups_and_the_bundle_verifies(example):
    name, project = example
    page = (project.folder / "plots/report.html").read_text()
    assert ("By subgroup" in page) == (name == "clinic")
    if name == "clinic":
        assert "of each person at most 2 rows are used" in page.lower()
        assert "one person: all rows of one id, of which at most 2 are used" in page
        assert "ward: ward 7" in page
    project.run("python", "-m", "stages.publish", "bundle")
    project.run("python", "-m", "stages.publish", "--verify", "bundle")
