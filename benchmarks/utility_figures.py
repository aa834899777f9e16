"""Figures that the report and the pictures of `benchmarks.utility` share, one for each cell.

A cell is a table at an ε; each series is indexed by both.
"""

import numpy as np
import pandas as pd

PEERS = ("diffprivlib LR", "diffprivlib RF", "DP-EBM")
PRIVATE = ("default", "oracle", "notebook", *PEERS)
CEILINGS = ("LR, no privacy", "MLP, no privacy", "boosting, no privacy")

CELL = ["table", "epsilon"]

# By how much a model without privacy has to better the majority for a share of that to mean much.
LEAST_GAIN = 0.01


def cell_means(frame: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return a method's mean figures."""
    return frame[frame.method == method].groupby(CELL).mean(numeric_only=True)


def above_best_temperature(frame: pd.DataFrame, method: str) -> pd.Series:
    """Return by how much a method's log loss exceeds that of the best temperature."""
    means = cell_means(frame, method)
    return means.log_loss - means.best_log_loss


def differences(frame: pd.DataFrame, other: str) -> pd.Series:
    """Return the default's accuracy less another's, between equal splits."""
    beside = frame[frame.method == other]
    keys = ["table", "repeat"] if other in CEILINGS else [*CELL, "repeat"]
    both = frame[frame.method == "default"].merge(beside, on=keys, suffixes=("", "_other"))
    return (both.accuracy - both.accuracy_other).groupby([both.table, both.epsilon]).mean()


def share_not_below(difference: pd.Series) -> float:
    """Return the share of cells in which the default is at least as accurate."""
    return float((difference > -1e-9).mean())  # equal figures may differ by rounding


def share_kept(frame: pd.DataFrame) -> pd.Series:
    """Return the share of the way from the majority to the best model without privacy."""
    free = frame[frame.method.isin(CEILINGS)]
    means = free.groupby(["table", "method"])[["accuracy", "majority"]].mean()
    gain = (means.accuracy - means.majority).groupby("table").max()
    repeats = free[["table", "repeat"]].drop_duplicates()
    ours = frame[frame.method == "default"].merge(repeats, on=["table", "repeat"])
    kept = (ours.accuracy - ours.majority).groupby([ours.table, ours.epsilon]).mean()
    gains = gain.reindex(kept.index.get_level_values("table")).to_numpy()
    return (kept / np.where(gains >= LEAST_GAIN, gains, np.nan)).dropna()
