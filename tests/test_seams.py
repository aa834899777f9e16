"""What is told at the seams between runs, each by the smallest thing that would forget it."""

import json
import re
import shutil
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from benchmarks.released_figures import counted, scored_rows
from stages.books.records import PublicSpend, Record
from stages.books.store import Ledger
from stages.books.told import RUNS
from stages.errors import UserError
from stages.evaluation.release import CountRelease
from stages.params import load_params
from stages.pricing import prices_after, spends_of
from stages.privacy.events import Gaussian, from_json
from stages.privacy.gaussian import epsilon_gaussian
from stages.privacy.history import Spend, total_epsilon
from stages.tabular.split import split_name
from stages.training.checkpoint import NOTHING
from stages.training.output import Trained, warn_of_overflow
from stages.training.past import NO_PAST, Past
from tests.conftest import ROOT, Project, reseal, told
from tests.test_tune import SAMPLE_SCHEMA_READ, SAMPLE_TABLE


def test_an_ancestors_changed_table_is_told_by_all_its_descendants():
    checkpoint = replace(
        NOTHING, tensors={"weights": torch.zeros(1)}, about={"table_changed": True}
    )
    unchanged_since = Past(checkpoint, "c" * 40, "h" * 32, data_changed=False)
    assert unchanged_since.parent is not None
    assert unchanged_since.parent.table_changed
    assert not Past(replace(checkpoint, about={"table_changed": False})).table_changed


def test_what_stands_for_a_missing_cell_is_part_of_the_splits_name():
    schema = SAMPLE_SCHEMA_READ
    other = schema.model_copy(update={"missing_values": ("", "NA")})
    assert split_name(0.2, 0, schema) != split_name(0.2, 0, other)


@pytest.mark.parametrize(("declared", "told"), [(1070, []), (None, ["declare `train_size`"])])
def test_a_number_of_rows_that_was_not_declared_is_confessed(declared, told):
    params = load_params(ROOT / "params.yaml", {"train_size": declared, "target_delta": 1e-5})
    nothing = cast(Any, None)
    trained = Trained(params, nothing, Past(), nothing, [], nothing, nothing)
    assert [words in said for said, words in zip(trained._not_covered(), told, strict=True)] == [
        True for _ in told
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_how_many_gradients_were_no_numbers_is_told_at_a_terminal_only(
    monkeypatch, capsys, terminal
):
    monkeypatch.setattr("sys.stderr", shown := Shown(terminal))
    warn_of_overflow(17)
    assert ("17" in shown.text) == terminal
    assert "17" not in capsys.readouterr().out


class Shown:
    def __init__(self, terminal):
        self.text, self.isatty = "", lambda: terminal

    def write(self, text):
        self.text += text


@pytest.fixture
def released():
    """Ten releases of 300 rows, none of which is in a subgroup.

    By seeds: counts are told in thousandths, in which secret noise repeats a sum once in 500 times.
    """
    counts = counted(*scored_rows(np.random.default_rng(0), 300))
    counts = replace(counts, groups={"ward": np.zeros((10, 2, 2), np.int64)})
    mechanism = CountRelease(5.0, classes=2, groupings=1)
    return [mechanism.release(counts, 300, seed) for seed in range(10)]


def test_subgroups_without_a_row_are_as_noisy_as_others(released):
    assert all(np.count_nonzero(groups["ward"].values) == 40 for _, groups in released)


def test_the_released_table_does_not_tell_the_number_of_rows(released):
    sums = [float(counts.table.confusion.sum()) for counts, _ in released]
    # Each has noise of several rows, and one that is none would be within a millionth.
    assert min(abs(total - 300) for total in sums) > 1e-6
    assert len(set(sums)) == len(sums)


@pytest.fixture
def priced(tmp_path, monkeypatch):
    """A repository without a run, in which the next ones are priced."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    Project(tmp_path).run("git", "init", "--quiet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.pricing.prepared_for", lambda _: SAMPLE_TABLE)


def test_plan_says_which_runs_the_budget_would_refuse_and_goes_on_without_them(priced):
    runs = [
        load_params(overrides={"privacy_budget": 3.0, "target_epsilon": epsilon})
        for epsilon in (2.0, 2.5, 0.5)
    ]
    first, second, third = prices_after(runs)
    assert (first.refused_at, third.refused_at) == (None, None)
    assert second.refused_at is not None
    assert second.refused_at > 3.0
    assert f"refused (`privacy_budget` would have to be {second.refused_at:.3f})" in str(second)
    (alone,) = prices_after(runs[2:])
    assert first.total < third.total < 1.05 * (first.total + alone.total)


def test_plan_prices_no_run_that_a_budget_would_refuse_as_runs_may_be_missing(priced, monkeypatch):
    ledger = Ledger()
    monkeypatch.setattr("stages.pricing.open_ledger", lambda: ledger)
    runs = [load_params(overrides={"privacy_budget": 3.0})]
    assert [*prices_after(runs)]
    ledger.hidden = "commits are missing"
    with pytest.raises(UserError, match="cannot be kept: commits are missing"):
        [*prices_after(runs)]
    (price,) = prices_after([load_params()])
    assert "at least" in str(price)


class Made(Past):
    """A past on another table, of which nothing but its run matters here."""

    @property
    def releases(self):
        spend = PublicSpend(side="train", events=[], epsilon=3, delta=1)
        return [Record(run="before", spend=spend)]

    @property
    def events(self):
        return []


def test_what_a_planned_run_is_made_from_counts_for_all_that_are_planned_after_it(
    priced, monkeypatch
):
    before = Spend("others.csv", "of theirs", "a split", "train", (Gaussian(2.0),), 2.5, 1e-5)
    Ledger().reserve_all({"before": before}, None)
    runs = [load_params(overrides={"target_epsilon": epsilon}) for epsilon in (1.0, 2.0)]
    pasts = iter([Made(), NO_PAST])
    monkeypatch.setattr("stages.pricing.load_past", lambda *_: next(pasts))
    *_, last = prices_after(runs)
    new = [spend for params in runs for spend in spends_of(params, SAMPLE_TABLE)]
    assert last.total == pytest.approx(total_epsilon([before, *new], runs[1].target_delta))
    assert last.total > 1.1 * total_epsilon(new, runs[1].target_delta)


def test_test_figures_are_told_at_the_models_delta_and_each_evaluation_by_its_name(copied_run):
    project = copied_run
    first = (project.folder / "models/evaluations.txt").read_text()
    project.set(target_delta=5e-4)
    project.stage("evaluate")
    test = told(project, "evaluate")
    (event,) = from_json(test["ledger"][0]["spend"]["events"])
    assert isinstance(event, Gaussian)
    precision = event.noise_multiplier**-2
    # At δ = 5e-4 the release was asked for with 3.5; at that of the model it is more.
    assert epsilon_gaussian(precision, 5e-4) < 3.5
    assert epsilon_gaussian(precision, 1e-5) > 4
    assert test["epsilon"] == pytest.approx(epsilon_gaussian(precision, 1e-5), rel=1e-4)
    assert test["epsilon_total"] >= test["epsilon_overall"] >= test["epsilon"]
    # Another evaluation is another, in whichever clone it is made.
    second = (project.folder / "models/evaluations.txt").read_text()
    assert first == "1\n"
    assert re.fullmatch(rf"2 {test['ledger'][0]['run']}\n", second)
    # So are those that no ledger has, by which plot knows them.
    names = []
    for how in (
        *({"exact_metrics": "true"}, {"exact_metrics": "false", "simulation_seed": 3}),
        *({"evaluation_epsilon": 0.3}, {"evaluation_epsilon": 0.3}),
    ):
        project.set(**how)
        project.stage("evaluate")
        names.append((project.folder / "models/evaluations.txt").read_text())
    assert [name.split()[0] for name in names] == ["exact", *["simulated"] * 3]
    assert names[1] != names[2] == names[3]


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_whoever_commits_after_any_stage_that_spends_takes_the_ledger_along(copied_run, stage):
    project = copied_run
    project.set(target_epsilon=1, epochs=2, hidden_sizes="[]", pieces=0)
    (project.folder / RUNS).unlink()
    project.stage(stage)
    known = {json.loads(line)["run"] for line in (project.folder / RUNS).read_text().splitlines()}
    ledger = Ledger(project.folder / "privacy-ledger.sqlite")
    assert told(project, stage)["ledger"][0]["run"] in known
    assert known == {entry.run for entry in ledger.entries()}


def test_an_evaluation_that_is_refused_costs_nothing(copied_run):
    project = copied_run
    model = project.folder / "models/classifier"
    content = json.loads((model / "model.json").read_text())
    del content["privacy"]["releases"]
    (model / "model.json").write_text(json.dumps(content))
    reseal(model)
    before = len(Ledger(project.folder / "privacy-ledger.sqlite").entries())
    assert "does not say what it was made from" in project.refused("evaluate")
    assert len(Ledger(project.folder / "privacy-ledger.sqlite").entries()) == before


def test_test_figures_of_another_question_are_refused_before_they_cost_anything(copied_run):
    project = copied_run
    schema = project.folder / "data/sample_medical_data.schema.json"
    schema.write_text(schema.read_text().replace('"threshold": 15000', '"threshold": 9000'))
    project.stage("preprocess")
    before = len(Ledger(project.folder / "privacy-ledger.sqlite").entries())
    assert "others than those that the model was trained on" in project.refused("evaluate")
    assert len(Ledger(project.folder / "privacy-ledger.sqlite").entries()) == before


@pytest.mark.parametrize(
    ("change", "may"),
    [
        (lambda schema: schema.update(report_by=["region"]), True),
        (lambda schema: schema.pop("public"), True),
        (lambda schema: schema["fields"].append({"name": "note", "role": "ignored"}), True),
        (lambda schema: schema.update(missingValues=["", "NA"]), False),
        (lambda schema: schema["fields"].pop(0), False),
        (lambda schema: schema["fields"][0]["constraints"].update(maximum=200), False),
    ],
    ids=["groups", "public", "another column", "missing values", "a feature", "bounds"],
)
def test_a_model_is_measured_on_rows_that_are_encoded_as_those_it_was_trained_on(change, may):
    schema = json.loads(SAMPLE_TABLE.schema_text)
    change(schema)
    with nullcontext() if may else pytest.raises(UserError, match="Train anew"):
        SAMPLE_TABLE.require_encoding(json.dumps(schema))


def test_exact_figures_of_a_class_that_nobody_is_of_are_numbers(copied_run):
    project = copied_run
    project.set(exact_metrics="true", test_fraction=0.002, split_seed=3)  # three rows of one
    project.stage("preprocess")
    project.stage("evaluate")
    figures = told(project, "evaluate")["figures"]
    assert figures["base_rate"] == 1
    assert figures["roc_auc"] == 0


def test_exact_figures_of_subgroups_are_reported(copied_run):
    project = copied_run
    schema = project.folder / "data/sample_medical_data.schema.json"
    schema.write_text(json.dumps(json.loads(schema.read_text()) | {"report_by": ["smoker"]}))
    project.set(exact_metrics="true")
    for stage in ("preprocess", "evaluate", "plot"):
        project.stage(stage)
    assert re.search(r"smoker: yes \| \d+ ± 0 \|", (project.folder / "plots/report.md").read_text())
