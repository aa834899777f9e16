"""scikit-learn takes the model for a classifier of its own, and can neither train nor copy it."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibrationDisplay
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.metrics import RocCurveDisplay, accuracy_score, classification_report, roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.utils.validation import check_is_fitted

from stages.errors import UserError
from stages.model.classifier import Classifier, load
from tests.conftest import ROOT
from tests.tabular.conftest import SAMPLE


@pytest.fixture(scope="module")
def classifier(default_run):
    """The model of the default run."""
    return load(default_run.folder / "models/classifier")


@pytest.fixture(scope="module")
def patients():
    return pd.read_csv(SAMPLE).sample(frac=1, random_state=0)


@pytest.fixture(scope="module")
def labels(classifier, patients):
    return classifier.true_classes(patients)


def test_it_is_a_classifier_that_is_fitted(classifier):
    assert is_classifier(classifier)
    check_is_fitted(classifier)
    assert classifier.n_features_in_ == len(classifier.feature_names_in_) == 6


def test_labels_are_made_of_the_tables_own_column(patients, labels):
    expected = np.where(patients["charges"] > 15000, "charges > 15000", "charges ≤ 15000")
    assert labels.tolist() == expected.tolist()


def test_it_scores_as_classifiers_do(classifier, patients, labels):
    assert classifier.score(patients, labels) == accuracy_score(
        labels, classifier.predict(patients)
    )
    assert classifier.score(patients, pd.Series(labels)) > 0.85


@pytest.mark.parametrize("wrong", [[0, 1], ["charges > 15000"], ["yes"] * 1338])
def test_labels_that_are_none_are_refused(classifier, patients, wrong):
    with pytest.raises(UserError, match="expected one of charges ≤ 15000, charges > 15000"):
        classifier.score(patients, wrong)


def test_rows_without_a_label_are_told(classifier, patients):
    planted = patients.assign(charges=[np.nan, *patients["charges"].tolist()[1:]])
    with pytest.raises(UserError, match="charges"):
        classifier.true_classes(planted)
    dropping = classifier.schema.label.model_copy(update={"missing": "drop"})
    fields = (*classifier.schema.features, dropping)
    schema = classifier.schema.model_copy(update={"fields": fields})
    with pytest.raises(UserError, match="1 of 1338 rows have no `charges`"):
        Classifier(classifier.model, schema).true_classes(planted)
    with pytest.raises(UserError, match="charges"):
        classifier.true_classes(patients.drop(columns="charges"))


def test_a_report_is_made_of_it(classifier, patients, labels):
    report = classification_report(labels, classifier.predict(patients), output_dict=True)
    assert report["accuracy"] == classifier.score(patients, labels)
    assert {*classifier.classes_} < {*report}


def test_a_roc_curve_is_drawn_of_it(classifier, patients, labels):
    display = RocCurveDisplay.from_estimator(classifier, patients, labels)
    of_the_second = classifier.predict_proba(patients)[:, 1]
    area = roc_auc_score(labels == classifier.classes_[1], of_the_second)
    assert display.roc_auc == pytest.approx(area)
    assert area > 0.8
    # Without being told, this one takes the name that sorts last for the class that is looked for.
    assert roc_auc_score(labels, of_the_second) == pytest.approx(1 - area)


def test_its_calibration_is_drawn(classifier, patients, labels):
    display = CalibrationDisplay.from_estimator(classifier, patients, labels, n_bins=5)
    np.testing.assert_array_equal(display.y_prob, classifier.predict_proba(patients)[:, 1])


def test_permutations_tell_what_it_looks_at(classifier, patients, labels):
    frame = patients.drop(columns="charges")
    found = permutation_importance(classifier, frame, labels, n_repeats=2, random_state=0)
    strongest = frame.columns[found.importances_mean.argmax()]
    assert strongest == "smoker" == classifier.effects()["feature"].iloc[0]


def test_training_and_cloning_are_refused_with_a_message(classifier, patients, labels):
    with pytest.raises(UserError, match="cannot be trained here"):
        classifier.fit(patients, labels)
    with pytest.raises(UserError, match="cannot be cloned"):
        clone(classifier)
    with pytest.raises(UserError, match="cannot be cloned"):
        cross_val_score(classifier, patients, labels)
    clone(FrozenEstimator(classifier))


def test_predicting_does_not_import_scikit_learn():
    code = "import sys, stages.predict; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"False\n"
