"""Predict a Parquet table as most would: pandas, and a regression in scikit-learn's pipeline."""

import sys

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NUMBERS, TEXTS = ["age", "bmi", "children"], ["sex", "smoker", "region"]


def main() -> None:
    sample = pd.read_csv("data/sample_medical_data.csv")
    columns = make_column_transformer((StandardScaler(), NUMBERS), (OneHotEncoder(), TEXTS))
    model = make_pipeline(columns, LogisticRegression())
    model.fit(sample[NUMBERS + TEXTS], sample["charges"] > 15_000)
    table, output = sys.argv[1:]
    probabilities = model.predict_proba(pd.read_parquet(table))
    predicted = probabilities.argmax(axis=1)
    told = {"label": model.classes_[predicted], "probability": probabilities.max(axis=1)}
    told |= {str(name): probabilities[:, of] for of, name in enumerate(model.classes_)}
    pd.DataFrame(told).to_parquet(output)


if __name__ == "__main__":
    main()
