"""What scikit-learn asks of a classifier, of one whose training lies behind it.

So `classification_report`, `RocCurveDisplay.from_estimator`, `CalibrationDisplay.from_estimator`,
`permutation_importance` and their like take it, though it is no estimator of theirs: they ask for
these methods by name (https://scikit-learn.org/stable/developers/develop.html).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from stages.errors import UserError

if TYPE_CHECKING:
    from sklearn.utils import Tags


class TrainedClassifier:
    """A classifier that scikit-learn can use and not train."""

    @property
    @abstractmethod
    def classes_(self) -> npt.NDArray[Any]:
        """What `predict` calls the classes."""

    @abstractmethod
    def predict(self, frame: Any) -> npt.NDArray[Any]:
        """Return the most probable class (rows,) of each row."""

    def score(self, frame: Any, labels: Sequence[Any]) -> float:
        """Return the share of rows whose class is predicted right.

        Args:
            frame: the rows.
            labels: (rows,) their classes, as `true_classes` returns them.

        Raises:
            UserError: there is another number of labels, or one that is no class.
        """
        truth, predicted = np.asarray(labels), self.predict(frame)
        if truth.shape != predicted.shape or not np.isin(truth, self.classes_).all():
            raise UserError(
                f"the labels: expected one of {', '.join(map(str, self.classes_))} for "
                f"each of {len(predicted)} rows. The method `true_classes` makes them of a "
                "table's own column."
            )
        return float((predicted == truth).mean())

    def fit(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: scikit-learn looks whether there is such a method.

        Raises:
            UserError: always.
        """
        raise UserError(
            "this model cannot be trained here, because that would spend privacy unseen. Train "
            "one with: dvc repro"
        )

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> NoReturn:
        raise UserError(
            "this model cannot be cloned: scikit-learn clones to train again, on rows of its own "
            "choice, which would spend privacy unseen. Give it to functions that only predict, "
            "such as those called `from_estimator`; or wrap it in sklearn.frozen.FrozenEstimator."
        )

    def __sklearn_tags__(self) -> Tags:
        # Whoever asks has imported it.
        from sklearn.utils import ClassifierTags, Tags, TargetTags  # noqa: PLC0415

        target = TargetTags(required=True, two_d_labels=False)
        return Tags("classifier", target, classifier_tags=ClassifierTags())
