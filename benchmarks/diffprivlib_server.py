"""diffprivlib behind a pipe, since it needs another scikit-learn than the project.

Reads pickled requests from standard input and answers each on standard output with the test rows'
class probabilities. `benchmarks.rivals` starts it.
"""

import pickle
import sys
import warnings
from typing import Any

import numpy as np
from diffprivlib.models import LogisticRegression, RandomForestClassifier
from threadpoolctl import threadpool_limits


def main() -> None:
    warnings.simplefilter("ignore")  # that few steps did not converge, at every other fit
    threadpool_limits(1)
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(_answer(**request), sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _answer(
    kind: str, epsilon: float, classes: int, seed: int, x: Any, y: Any, x_test: Any
) -> np.ndarray:
    features = x.shape[1]
    if kind == "logistic":
        # No row in [-1, 1]^d is longer than √d.
        model = LogisticRegression(epsilon=epsilon, data_norm=features**0.5, random_state=seed)
    else:
        model = RandomForestClassifier(
            epsilon=epsilon,
            bounds=(-np.ones(features), np.ones(features)),
            classes=list(range(classes)),
            random_state=seed,
        )
    probabilities: np.ndarray = model.fit(x, y).predict_proba(x_test)
    return probabilities


if __name__ == "__main__":
    main()
