"""What the results of `benchmarks.utility` say: `UTILITY.md`, and its pictures beside it."""

import math
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import utility_pictures
from benchmarks.machine import machine
from benchmarks.suite import FITTED, UNSEEN
from benchmarks.utility_figures import (
    CEILINGS,
    PRIVATE,
    above_best_temperature,
    cell_means,
    differences,
    share_kept,
    share_not_below,
)

RIVALS = ("diffprivlib LR", "diffprivlib RF", "DP-EBM", "notebook")

# Tables that count as large, and as huge, by their training rows.
LARGE, HUGE = 100_000, 1_000_000

NOTES = """\
A cell is a table at an ε; δ = min(1e-5, 0.1 / training rows). Each repeat has another split and
other noise, the same for all methods; differences are between equal splits. All methods know the
same public bounds and nothing else. {repeats}

- **default**: `auto`, by the pipeline's own code. **temperature 1**: the same runs, had their
  probabilities not been calibrated.
- **oracle**: the most accurate of the default and 40 other settings (the five nearest to the
  default's path of 3, 8, 20, 50, 120, 280, 650, 1,500, 3,500, 8,000, 20,000 and 50,000 × clip 3, 5
  × relu, tanh × numbers as they are or in 8 pieces; momentum 0.5 to 0.9 by the path), calibrated as
  the default is, ignoring what that choice would cost in privacy; found by successive halving (all
  once, 6 of them twice more, 2 of them two times more; twice as often where fewer than 600 rows
  train) on other splits, and then run anew. Where more than 50,000 rows train, only clip 5 is tried
  (all once, 3 of them once more), and at 1,000,000 rows there is no oracle. To choose, batches have
  at most 512 rows or a 160th of the table, at the same noise in an averaged step.
- **notebook**: Adam at 1e-3, clip 1, 25 epochs, batches of 64 rows or of an 80th if that is more
  (64 would take an hour on the largest table), on the same public features, with the same
  network.
- **diffprivlib** 0.6.6 runs beside scikit-learn 1.6.1, since it cannot with this project's; its
  guarantee has δ = 0. **DP-EBM** (interpret) can do two classes only and has no cells with more.
- Where more than 50,000 rows train, the project runs twice, and whatever else once.
- **Log loss above the best temperature**: less that of the same probabilities with their
  logarithms scaled by the factor that is best on the test rows, and normalised. **Calibration
  error**: expected calibration error, 15 bins of equal width of the largest probability; on few
  test rows honest probabilities have some, too (about 0.05 on 300).
- **Share kept**: (accuracy − majority) / (accuracy of the best model without privacy − majority),
  in cells where that model is a point above the majority.
- Generated tables of fewer than 16,000 rows are tested on 4,000 further rows instead of a fifth,
  which sharpens the figures. No better than the majority: mean accuracy not above always
  predicting the training side's most frequent class; better: above it by more than two standard
  errors.
"""


def write(frame: pd.DataFrame, folder: Path) -> None:
    """Write the report and its pictures into `folder`."""
    (folder / "UTILITY.md").write_text("\n".join(_report(frame)) + "\n", "utf-8")
    utility_pictures.accuracy_and_loss(frame).savefig(folder / "utility.png", dpi=80)
    utility_pictures.calibration(frame).savefig(folder / "calibration.png", dpi=80)


# --- the report ----------------------------------------------------------------------------------


def _report(frame: pd.DataFrame) -> Iterator[str]:
    yield "# How accurate the default is\n"
    yield f"Output of `make bench-utility` on {date.today()}: {machine()}.\n"
    yield NOTES.format(repeats=_repeats(frame))
    yield "![accuracy and log loss against ε](utility.png)\n"
    yield from _targets(frame)
    yield "## Calibration\n"
    yield "![log loss before and after calibration](calibration.png)\n"
    for group, names in (("Unseen by the rule", UNSEEN), ("Used to fit the rule", FITTED)):
        if frame.table.isin(names).any():
            yield from _group(group, frame[frame.table.isin(names)])
    yield from _sample(frame)
    yield "## Every cell\n"
    yield (
        "Accuracy in %, ± its standard error, over each method's own repeats; only the differences "
        "above are between equal splits. AUC is for two classes.\n"
    )
    for name in frame.table.unique():
        yield from _cells(name, frame[frame.table == name])


def _repeats(frame: pd.DataFrame) -> str:
    counts = frame.groupby(["table", "epsilon", "method"]).size().groupby("method")
    texts = [
        f"{method} {low} to {high}" if low < high else f"{method} {low}"
        for method, low, high in zip(
            counts.min().index, counts.min().to_list(), counts.max().to_list(), strict=True
        )
    ]
    return f"Repeats per cell: {', '.join(texts)}."


def _targets(frame: pd.DataFrame) -> Iterator[str]:
    yield "## Targets\n"
    yield "| | target | measured | |"
    yield "| --- | --- | --- | --- |"
    yield from _targets_of_sample(frame)
    unseen = frame[frame.table.isin(UNSEEN)]
    if len(unseen):  # a quick run may have none
        yield from _targets_of_calibration(unseen)
        yield from _targets_of_accuracy(unseen)
    yield from _targets_of_large_tables(frame)
    yield _target(
        "cells where the default is no better than the majority, but a private method is",
        0,
        len(_hopeless(frame)),
        most=True,
    )
    yield ""


def _targets_of_sample(frame: pd.DataFrame) -> Iterator[str]:
    sample = frame[(frame.table == "sample") & (frame.method == "default")]
    loss = sample.groupby("epsilon").log_loss.mean()
    for epsilon, limit in ((1.0, 0.285), (3.5, 0.27)):
        yield _target(f"sample: log loss, ε = {epsilon:g}", limit, loss[epsilon], most=True)
    for epsilon, difference in _beside_smoker(frame).items():
        limit = -0.0001 if epsilon >= 0.5 else -0.002
        yield _target(f"sample: accuracy − rule “smoker” at ε = {epsilon:g}", limit, difference)
    noise = frame[frame.method == "noise alone"].accuracy.std()
    yield _target("sample: sd of accuracy by noise alone, ε = 1", 0.002, noise, most=True)


def _targets_of_calibration(unseen: pd.DataFrame) -> Iterator[str]:
    above = above_best_temperature(unseen, "default")
    what = "unseen: log loss − that of the best temperature"
    yield _target(f"{what}, median cell", 0.003, above.median(), most=True)
    yield _target(f"{what}, worst cell ({_place(above.idxmax())})", 0.03, above.max(), most=True)
    error = cell_means(unseen[(unseen.epsilon >= 1) & (unseen.rows >= 1_000)], "default")
    what = "unseen: expected calibration error, ε ≥ 1, ≥ 1,000 rows, median cell"
    yield _target(what, 0.02, error.calibration_error.median(), most=True)


def _targets_of_accuracy(unseen: pd.DataFrame) -> Iterator[str]:
    beside = differences(unseen, "oracle")
    yield _target("unseen: accuracy − oracle’s, median cell", -0.003, beside.median())
    what = f"unseen: accuracy − oracle’s, worst cell ({_place(beside.idxmin())})"
    yield _target(what, -0.03, beside.min())
    for rival in RIVALS:
        share = share_not_below(differences(unseen, rival))
        yield _target(f"unseen: share of cells with default ≥ {rival}", 0.95, share)
    kept = share_kept(unseen).groupby("epsilon").median()
    for epsilon, limit in ((1.0, 0.9), (3.5, 0.95)):
        what = f"unseen: share of the way to the best non-private model kept, ε = {epsilon:g}"
        yield _target(f"{what}, median cell", limit, kept[epsilon])


def _targets_of_large_tables(frame: pd.DataFrame) -> Iterator[str]:
    large = frame[frame.rows >= LARGE]
    for epsilon, limit in ((3.5, -0.01), (1.0, -0.03)):
        at_epsilon = large[(large.epsilon == epsilon) | np.isinf(large.epsilon)]
        for table, difference in differences(at_epsilon, CEILINGS[1]).droplevel(1).items():
            yield _target(f"{table}: accuracy − MLP’s, ε = {epsilon:g}", limit, difference)
    default = large[large.method == "default"]
    huge = default.rows >= HUGE
    for size, runs, limit in (("10^5", default[~huge], 60), ("10^6", default[huge], 300)):
        if len(runs):
            what = f"seconds of a training at {size} rows, on one core, slowest"
            yield _target(what, limit, runs.seconds.max(), most=True)


def _target(what: str, limit: float, value: float, *, most: bool = False) -> str:
    met = value <= limit if most else value >= limit
    return f"| {what} | {'≤' if most else '≥'} {limit:g} | {value:.4g} | {_met(met)} |"


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def _place(cell: tuple[str, float]) -> str:
    return f"{cell[0]}, ε = {cell[1]:g}"


def _hopeless(frame: pd.DataFrame) -> list[tuple[str, float, str]]:
    """Return cells in which the default learns nothing and others do: table, ε, who does."""
    private = frame[frame.method.isin(PRIVATE)]
    gain = (private.accuracy - private.majority).groupby(
        [private.table, private.epsilon, private.method]
    )
    mean, error = gain.mean().unstack(), gain.sem().unstack()
    better = mean > 2 * error
    return [
        (*cell, ", ".join(better.columns[better.loc[cell]]))
        for cell in mean.index
        if mean.loc[cell, "default"] <= 0 and better.loc[cell].any()
    ]


def _group(group: str, frame: pd.DataFrame) -> Iterator[str]:
    cells = len(frame[frame.method == "default"].groupby(["table", "epsilon"]))
    yield f"## {group}: {frame.table.nunique()} tables, {cells} cells\n"
    yield "| accuracy of default − | cells | median | worst | in | share of cells ≥ 0 |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for other in (*PRIVATE[1:], *CEILINGS):
        difference = differences(frame, other)
        if len(difference):
            yield (
                f"| {other} | {len(difference)} | {difference.median():+.4f} "
                f"| {difference.min():+.4f} | {_place(difference.idxmin())} "
                f"| {share_not_below(difference):.0%} |"
            )
    yield (
        "\n| ε | log loss above the best temperature: median | worst | in | before: median "
        "| calibration error: median | share kept: median | worst |"
    )
    yield "| --- |" + " --- |" * 7
    kept = share_kept(frame)
    for epsilon, here in frame[np.isfinite(frame.epsilon)].groupby("epsilon"):
        above = above_best_temperature(here, "default")
        before = above_best_temperature(here, "temperature 1")
        error = cell_means(here, "default").calibration_error
        share = kept[kept.index.get_level_values("epsilon") == epsilon]
        yield (
            f"| {epsilon:g} | {above.median():.4f} | {above.max():.4f} | {above.idxmax()[0]} "
            f"| {before.median():.4f} | {error.median():.4f} "
            f"| {share.median():.0%} | {share.min():.0%} |"
        )
    yield "\nNo better than the majority, although a private method is:\n"
    hopeless = _hopeless(frame)
    yield from (f"- {table}, ε = {epsilon:g}: {who}" for table, epsilon, who in hopeless)
    yield "" if hopeless else "none.\n"


def _beside_smoker(frame: pd.DataFrame) -> pd.Series:
    sample = frame[frame.table == "sample"]
    rule = sample[sample.method == "smoker"].set_index("repeat").accuracy
    default = sample[sample.method == "default"]
    difference = default.accuracy - default.repeat.map(rule)
    return difference.groupby(default.epsilon).mean()


def _sample(frame: pd.DataFrame) -> Iterator[str]:
    default = frame[(frame.table == "sample") & (frame.method == "default")]
    yield "## The sample, by default\n"
    yield "| ε | splits | accuracy − “smoker” | accuracy | log loss | ROC AUC |"
    yield "| --- | --- | --- | --- | --- | --- |"
    beside_smoker = _beside_smoker(frame)
    for epsilon, runs in default.groupby("epsilon"):
        figures = " | ".join(
            f"{runs[column].mean():.4f} ± {runs[column].sem():.4f}"
            for column in ("accuracy", "log_loss", "roc_auc")
        )
        yield f"| {epsilon:g} | {len(runs)} | {beside_smoker[epsilon]:+.4f} | {figures} |"
    yield ""


def _cells(name: str, frame: pd.DataFrame) -> Iterator[str]:
    ceilings = [f"{method} {_percent(frame, method)}" for method in CEILINGS]
    majority = 100 * frame[frame.method == "default"].majority.mean()
    yield f"### {name}\n"
    yield f"Majority {majority:.1f}; {'; '.join(ceilings)}.\n"
    yield (
        f"| ε | {' | '.join(PRIVATE)} | log loss: default | oracle "
        "| default at temperature 1 | at the best | calibration error | AUC: default "
        "| setting of the default | ended with | setting of the oracle |"
    )
    yield "| --- |" + " --- |" * (len(PRIVATE) + 9)
    for epsilon, cell in frame[np.isfinite(frame.epsilon)].groupby("epsilon"):
        means = cell.groupby("method")[
            ["log_loss", "best_log_loss", "calibration_error", "roc_auc"]
        ].mean()
        default = means.loc["default"]
        loss = means.log_loss
        settings = cell.groupby("method").setting.first()
        chosen = cell[cell.method == "default"].chosen.value_counts()
        yield (
            f"| {epsilon:g} | {' | '.join(_percent(cell, method) for method in PRIVATE)} "
            f"| {default.log_loss:.3f} | {_or_dash(loss.get('oracle', math.nan))} "
            f"| {loss['temperature 1']:.3f} | {default.best_log_loss:.3f} "
            f"| {default.calibration_error:.3f} | {_or_dash(default.roc_auc)} "
            f"| {settings['default']} "
            f"| {', '.join(f'{which} {times}×' for which, times in chosen.items())} "
            f"| {settings.get('oracle', '–')} |"
        )
    yield ""


def _or_dash(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _percent(frame: pd.DataFrame, method: str) -> str:
    accuracy = 100 * frame[frame.method == method].accuracy
    if len(accuracy) > 1:
        return f"{accuracy.mean():.1f} ± {accuracy.sem():.1f}"
    return f"{accuracy.mean():.1f}" if len(accuracy) else "–"
