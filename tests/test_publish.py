"""What may leave the building: what a bundle holds, what is refused, what verifying catches."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from stages.books.sqlite import append
from stages.books.store import Ledger
from stages.books.told import RUNS
from stages.errors import UserError
from stages.evaluation.result import EvaluateResult
from stages.model.classifier import Classifier, load
from stages.model.files import CONTENTS, SUMS
from stages.model.portable import to_onnx
from stages.reporting.bundle import for_others, publish
from stages.reporting.drawings import PICTURES
from stages.reporting.run import Run
from stages.reporting.statement import checksum_of, load_statement, make_statement, to_yaml
from stages.reporting.templates import fill
from stages.reporting.verify import hashes_of, parameters_of, verify
from stages.tabular.schema import Schema
from stages.training.result import ParentRun, TrainResult
from stages.versions.commits import SHALLOW
from tests.conftest import ROOT, Project, commit_all, copy_project, reseal
from tests.examples import SCHEMAS
from tests.model.test_portable import random_model

TABLES = (
    *("attack", "confusion", "effects", "privacy_utility", "roc", "subgroups", "test_counts"),
    "training",
)


@pytest.fixture(scope="module")
def made(default_run, tmp_path_factory):
    """A project in which a run has been made and a bundle of it published."""
    folder = tmp_path_factory.mktemp("publish") / "project"
    project = Project(shutil.copytree(default_run.folder, folder))
    project.run(sys.executable, "-m", "stages.publish", "bundle")
    return project


@pytest.fixture
def bundle(made, tmp_path):
    """A copy of the bundle, to tamper with."""
    return Path(shutil.copytree(made.folder / "bundle", tmp_path / "bundle"))


@pytest.fixture
def workspace(made, tmp_path, monkeypatch):
    """A copy of the project, without the bundle, as the working folder."""
    folder = tmp_path / "project"
    shutil.copytree(made.folder, folder, ignore=shutil.ignore_patterns("bundle", "__pycache__"))
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return folder


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def change_result(kind, folder, change):
    """Change what a metrics file rests on, and its headline to match."""
    evidence = kind.read(folder).model_dump(mode="json")
    change(evidence)
    kind.model_validate(evidence).write(folder)


# --- the bundle ----------------------------------------------------------------------------------


def test_a_bundle_verifies_where_there_is_nothing_else(bundle):
    # Neither the project nor its environment: the bundle, the code and what it is written in.
    done = subprocess.run(
        [sys.executable, "-m", "stages.publish", "--verify", bundle.name],
        cwd=bundle.parent,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "both accountants" in done.stdout
    assert load_statement(bundle / "statement.yaml")["checksum"] in done.stdout


def test_where_scores_would_be_nothing_but_noise_none_is_told_drawn_or_published(tmp_path):
    project = copy_project(tmp_path / "project")
    # At ε = 0.1 each of six bins would have a deviation of 52 rows, and there are 268.
    project.set(target_epsilon=0.1, epochs=2)
    for stage in ("preprocess", "train", "evaluate", "plot"):
        project.stage(stage)
    folder = project.folder
    assert json.loads((folder / "metrics/evaluate.json").read_text())["test_loss"] is None
    assert not {"loss", "roc_auc"} & EvaluateResult.read(folder).figures.keys()
    html = (folder / "plots/report.html").read_text()
    assert "Log loss, ROC area and whatever else hangs on predicted probabilities" in html
    assert html.count("At this ε the scores of so few test rows") == 2
    assert "| not released |" in project.run(sys.executable, "-m", "stages.compare")
    project.run(sys.executable, "-m", "stages.publish", "bundle")
    project.run(sys.executable, "-m", "stages.publish", "--verify", "bundle")
    assert "log loss not released" in (folder / "bundle/statement.yaml").read_text()


def test_it_holds_what_may_leave_and_nothing_else(bundle):
    names = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert names == {
        *("README.md", "model.onnx", "report.html", "report.md", "statement.yaml"),
        *("metrics/train.json", "metrics/evaluate.json"),
        *(f"model/{name}" for name in (*CONTENTS, SUMS)),
        *(f"plots/{name}" for name in PICTURES),
        *(f"plots/{name}.csv" for name in TABLES),
    }


def test_it_tells_no_hash_or_path_of_private_files(made, bundle):
    source = json.loads((made.folder / "data/prepared/source.json").read_text())
    for path in bundle.rglob("*.*"):
        content = path.read_bytes()
        assert source["fingerprint"].encode() not in content, path
        assert source["data"].encode() not in content, path


def test_the_report_leads_to_its_pictures(bundle):
    markdown = (bundle / "report.md").read_text()
    for name in PICTURES:
        assert f"](plots/{name})" in markdown


def test_what_was_continued_and_whose_rows_were_read_stay_at_home(workspace):
    statement = load_statement(workspace / "plots/statement.yaml")
    run = Run.read(workspace, load(workspace / "models/classifier"), parameters_of(statement))
    here = ParentRun(commit="c" * 40, checkpoint="h" * 32, data_changed=False, table_changed=True)
    run = replace(run, train=run.train.model_copy(update={"parent": here}))
    assert run.train.record.read is not None
    told = for_others(run)
    assert told.train.parent == ParentRun(data_changed=False, table_changed=True)
    for result, at_home in ((told.train, run.train), (told.test, run.test)):
        assert [record.read for record in result.ledger] == [None]
        assert "fingerprint" not in json.dumps(result.content)
        assert "fingerprint" in json.dumps(at_home.content)
        same = {"ledger": at_home.ledger} | ({"parent": here} if result is told.train else {})
        assert result.model_copy(update=same) == at_home


# --- the model card ------------------------------------------------------------------------------


def test_hubs_read_the_card_and_its_figures(bundle):
    card = ModelCard.load(bundle / "README.md")
    assert card.data.library_name == "onnx"
    assert (card.data.license, card.data.license_name) == (
        "other",
        "to-be-chosen-by-the-data-owner",
    )
    assert {"differential-privacy", "tabular"} < {*card.data.tags}
    utility = load_statement(bundle / "statement.yaml")["evidence"]["utility"]
    told = {result.metric_type: result for result in card.data.eval_results}
    assert {name: result.metric_value for name, result in told.items()} == utility["figures"]
    for name, result in told.items():
        off = utility["plus_minus"][name]
        assert f"± {off['new_patients']:.4f} for new patients" in result.metric_name
        assert f"± {off['noise']:.4f} of noise" in result.metric_name
        assert result.task_type == "tabular-classification"
    # What the hub's classes make of it says the same again.
    again = ModelCardData(**yaml.safe_load(card.data.to_yaml()))
    assert again.to_dict() == card.data.to_dict()


def predicted_by_the_card(card, folder):
    """What the code on the card says of ROWS.csv, in a folder where there is no pipeline."""
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    printing = "import json; print(json.dumps([label.tolist(), probabilities.tolist()]))"
    done = subprocess.run(
        [sys.executable, "-c", code + printing],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    return code, *json.loads(done.stdout)


def test_the_cards_five_lines_predict_where_there_is_nothing_but_the_bundle(made, bundle):
    table = made.folder / "data/sample_medical_data.csv"
    shutil.copyfile(table, bundle / "ROWS.csv")
    shutil.rmtree(bundle / "model")
    code, label, probabilities = predicted_by_the_card((bundle / "README.md").read_text(), bundle)
    assert len(code.splitlines()) == 5
    frame = pd.read_csv(table)
    classifier = load(made.folder / "models/classifier")
    assert label == classifier.predict(frame).tolist()
    np.testing.assert_allclose(probabilities, classifier.predict_proba(frame), rtol=0, atol=1e-6)


def test_the_card_reads_dates_as_they_are_declared(made, tmp_path):
    schema = Schema.load(SCHEMAS / "drafts/lymph_node.schema.json")
    classifier = Classifier(random_model(schema), schema)
    (tmp_path / "model.onnx").write_bytes(to_onnx(classifier.model, schema))
    frame = pd.read_csv(SCHEMAS / "tables/lymph_node.csv.gz", dtype=str, keep_default_na=False)
    frame.to_csv(tmp_path / "ROWS.csv", index=False)
    statement = load_statement(made.folder / "plots/statement.yaml")
    run = Run.read(made.folder, classifier, parameters_of(statement))
    card = fill("model_card.md", run=run, statement=statement)
    _, label, probabilities = predicted_by_the_card(card, tmp_path)
    found = classifier.predict_frame(frame, on_error="skip")
    answered = found["error"].isna()
    assert answered.mean() > 0.9
    np.testing.assert_allclose(
        np.array(probabilities)[answered], found.iloc[:, -3:-1][answered], rtol=0, atol=1e-6
    )
    assert {*np.array(label)[~answered]} <= {""}


# --- what verifying catches ----------------------------------------------------------------------


def leaves(content, place=()):
    """Yield the way to each value that is no list or mapping."""
    if not isinstance(content, dict | list):
        yield place
        return
    for key in content if isinstance(content, dict) else range(len(content)):
        yield from leaves(content[key], (*place, key))


def tampered(value):
    match value:
        case bool():
            return not value
        case int() | float():
            return 0.9 * value + 0.05
        case None:
            return 1.0
        case _:
            return f"{value} "


def test_each_field_of_the_statement_that_is_tampered_with_is_caught(bundle):
    path = bundle / "statement.yaml"
    intact = path.read_text()
    places = list(leaves(yaml.safe_load(intact)))
    assert len(places) > 80
    for place in places:
        content = yaml.safe_load(intact)
        inner = content
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = tampered(inner[place[-1]])
        path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
        with pytest.raises(UserError, match=r"statement\.yaml|does not agree"):
            verify(bundle)


def test_each_file_that_is_tampered_with_is_caught(bundle):
    for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
        intact = path.read_bytes()
        path.write_bytes(intact + b" ")
        if path.name != "statement.yaml":
            with pytest.raises(UserError, match=f"{path.name} was changed"):
                verify(bundle)
        path.unlink()
        with pytest.raises(UserError, match=path.name):
            verify(bundle)
        path.write_bytes(intact)
    (bundle / "history.json").write_text("{}")
    with pytest.raises(UserError, match=r"history\.json does not belong to it"):
        verify(bundle)


RESULTS = {"train": TrainResult, "evaluate": EvaluateResult}


def forge(bundle, name, change):
    """Change metrics and write a statement, hashes and checksum to match, as a forger would."""
    change_result(RESULTS[name], bundle, change)
    seal(bundle)


def seal(bundle):
    """Write the statement anew, as it follows from the files that are there."""
    before = load_statement(bundle / "statement.yaml")
    run = Run.read(bundle, load(bundle / "model"), parameters_of(before))
    published = date.fromisoformat(before["deployment"]["basic"]["publication_date"])
    statement = make_statement(run, published=published, files=hashes_of(bundle))
    (bundle / "statement.yaml").write_text(to_yaml(statement))


def test_a_forger_who_changes_nothing_passes(bundle):
    forge(bundle, "train", lambda train: None)
    verify(bundle)


def set_steps(train, **values):
    for events in (train["history"], train["ledger"][0]["spend"]["events"]):
        events[0]["steps"].update(values)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("train", lambda m: m.update(epsilon_prv=3.0), "ε by privacy random variables"),
        ("train", lambda m: m.update(epsilon_pld=3.0), "ε by loss distributions"),
        ("train", lambda m: m.update(epsilon_renyi=3.0), "ε by Rényi divergence"),
        ("train", lambda m: m.update(epsilon=3.0), "ε of the training"),
        ("train", lambda m: m.update(epsilon_replace_one=3.5), "ε of replacing a row"),
        ("train", lambda m: m.update(delta=1e-6), "ε by loss distributions"),
        ("train", lambda m: m.update(noise_multiplier=9.0), "noise multiplier of a step"),
        ("train", lambda m: m.update(steps=51), "number of steps"),
        ("train", lambda m: m.update(sample_rate=0.9), "sampling rate"),
        ("train", lambda m: set_steps(m, noise_multiplier=8.0), "ε by loss distributions"),
        ("train", lambda m: set_steps(m, steps=60), "ε by loss distributions"),
        ("train", lambda m: m["attack"].update(advantage=0.3), "attack: advantage"),
        ("evaluate", lambda m: m.update(epsilon=1.0), "ε of the test figures"),
        ("evaluate", lambda m: m.update(epsilon_overall=3.0), "ε of the whole"),
    ],
)
def test_a_forger_who_matches_everything_else_is_caught_by_the_accountants(
    bundle, name, change, told
):
    forge(bundle, name, change)
    with pytest.raises(UserError, match=told):
        verify(bundle)


def test_a_headline_that_does_not_follow_from_its_evidence_is_caught(bundle):
    change_json(bundle / "metrics/evaluate.json", lambda content: content.update(test_accuracy=1.0))
    seal(bundle)
    with pytest.raises(UserError, match=r"evaluate\.json does not begin with what follows"):
        verify(bundle)


def changed_tensor(content, name, change):
    (tensor,) = [tensor for tensor in content.graph.initializer if tensor.name == name]
    array = change(onnx.numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))


def changed_category(content):
    (sex,) = [node for node in content.graph.node if node.input[:] == ["sex"]]
    (texts,) = [entry for entry in sex.attribute if entry.name == "keys_strings"]
    texts.strings[0], texts.strings[1] = texts.strings[1], texts.strings[0]


ONNX_FORGERIES = {
    "a weight": (
        lambda content: changed_tensor(content, "layer0.weight", lambda w: np.nextafter(w, w + 1)),
        "layer0.weight",
    ),
    "a bound": (
        lambda content: changed_tensor(content, "age: maximum", lambda bound: bound + 1),
        "age: maximum",
    ),
    "a category": (changed_category, "LabelEncoder"),
}


@pytest.mark.parametrize("what", ONNX_FORGERIES)
def test_an_onnx_file_that_is_not_of_the_model_is_caught(bundle, what):
    forge_onnx, told = ONNX_FORGERIES[what]
    content = onnx.load(bundle / "model.onnx")
    forge_onnx(content)
    onnx.save(content, bundle / "model.onnx")
    seal(bundle)
    with pytest.raises(UserError, match=rf"model\.onnx: `{told}.*does not follow from model/"):
        verify(bundle)


def test_effects_of_another_model_are_caught(bundle):
    path = bundle / "plots/effects.csv"
    rows = path.read_text()
    place = rows.index(",0.")
    path.write_text(f"{rows[:place]},0.5{rows[place + 4 :]}")
    seal(bundle)
    with pytest.raises(UserError, match=r"effects\.csv does not follow from the model"):
        verify(bundle)


def test_a_bundle_of_an_older_version_is_refused_by_it(bundle):
    path = bundle / "statement.yaml"
    content = load_statement(path)
    del content["version"]  # as version 0.1.0 wrote it, with flat metrics beside it
    path.write_text(yaml.safe_dump(content))
    (bundle / "metrics/evaluate.json").write_text('{"accuracy": 0.9}')
    with pytest.raises(UserError, match=r"made by version 0\.1\.0 .* verify it with that version"):
        verify(bundle)


def test_a_statement_that_does_not_follow_from_its_metrics_is_caught(bundle):
    path = bundle / "statement.yaml"
    content = load_statement(path)
    content["deployment"]["dp_variant"]["unprotected_quantities"] = "none"
    path.write_text(sealed(content))
    with pytest.raises(UserError, match="unprotected_quantities` does not follow"):
        verify(bundle)


def sealed(content):
    """Return the text of a statement with the checksum that it should have."""
    return to_yaml({**content, "checksum": checksum_of(content)})


def put(content, path, value):
    *outer, last = path.split(".")
    for key in outer:
        content = content[int(key) if key.isdigit() else key]
    content[int(last) if last.isdigit() else last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("evidence.epsilon", -1),
        ("evidence.epsilon", "small"),
        ("evidence.training.planned_in_advance", 1),
        ("evidence.training.history.0.steps.sample_rate", 2),
        ("evidence.training.history.0.steps.steps", 0),
        ("evidence.training.history.0.steps.noise_multiplier", 0),
        ("evidence.training.history.0.steps.surprise", 1),
        ("evidence.training.history.0", {"steps": {}, "more": {}}),
        ("evidence.testing.spend.0", {"unheard_of": {"epsilon": 1.0}}),
        ("evidence.testing.spend.0.gaussian.noise_multiplier", -1),
        ("evidence.training.surprise", None),
        ("evidence.training.surprise", 1),
        ("evidence.attack.test_figures", {"advantage": 1.5}),
        ("deployment.privacy_loss.number_of_privacy_units", True),
        ("deployment.privacy_loss.privacy_parameters.delta", 1),
        ("deployment.deployment_model.model_name", "Local"),
        ("deployment.basic.publication_date", "20260101"),
        ("deployment.basic.surprise", ""),
        ("surprise", None),
    ],
)
def test_a_sealed_statement_that_is_out_of_shape_is_refused_by_name(bundle, path, value):
    content = load_statement(bundle / "statement.yaml")
    put(content, path, value)
    (bundle / "statement.yaml").write_text(sealed(content))
    with pytest.raises(UserError, match=f"`{path}[^`]*` does not follow".replace(".", r"\.")):
        verify(bundle)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("evidence.parameters.test_fraction", 1, r"`evidence\.parameters`: `test_fraction` should"),
        ("evidence.parameters.surprise", 1, r"`evidence\.parameters`: `surprise` is not underst"),
        ("deployment.basic.publication_date", "1/1/2026", "Invalid isoformat string: '1/1/2026'"),
        ("deployment.basic.publication_date", None, "TypeError"),
    ],
)
def test_what_a_statement_is_made_again_from_is_checked_itself(bundle, path, value, told):
    content = load_statement(bundle / "statement.yaml")
    put(content, path, value)
    (bundle / "statement.yaml").write_text(sealed(content))
    with pytest.raises(UserError, match=told):
        verify(bundle)


@pytest.mark.parametrize("path", ["checksum", "evidence", "deployment", "url_slug"])
def test_what_is_missing_from_a_statement_is_refused_by_name(bundle, path):
    content = load_statement(bundle / "statement.yaml")
    del content[path]
    text = to_yaml(content) if path == "checksum" else sealed(content)
    (bundle / "statement.yaml").write_text(text)
    with pytest.raises(UserError, match=path):
        verify(bundle)


def test_verifying_what_is_no_bundle_says_so(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        verify(tmp_path)
    (tmp_path / "statement.yaml").write_text("evidence: [")
    with pytest.raises(UserError, match="expected YAML"):
        verify(tmp_path)


# --- what is refused -----------------------------------------------------------------------------


def refused(told):
    with pytest.raises(UserError, match=told):
        publish(Path("bundle"))
    assert not Path("bundle").exists()
    assert not list(Path().glob(".bundle*"))


def set_parameter(name, value):
    path = Path("params.yaml")
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join(f"{name}: {value}" if line.startswith(f"{name}:") else line for line in lines)
    )


def test_the_project_as_it_is_may_publish(workspace):
    # The control of the refusals below.
    publish(Path("bundle"))
    assert Path("bundle/statement.yaml").exists()


@pytest.mark.parametrize(
    ("parameter", "why"),
    [
        ({"simulation_seed": 1, "epochs": 2}, "simulation_seed is set"),
        ({"exact_metrics": "true"}, "exact_metrics is on"),
    ],
)
def test_what_epsilon_does_not_cover_is_refused(workspace, made, parameter, why):
    for name, value in parameter.items():
        set_parameter(name, value)
    project = type(made)(workspace)
    for stage in ("train", "evaluate", "plot"):
        project.stage(stage)
    refused(why)


def test_a_monitor_that_did_not_pass_is_refused(workspace):
    change_result(TrainResult, Path(), lambda m: m["monitors_passed"].remove("batch sizes: total"))
    refused("batch sizes: total")


def test_a_model_that_states_another_epsilon_is_refused(workspace):
    folder = Path("models/classifier")
    change_json(folder / "model.json", lambda model: model["privacy"].update(epsilon=1.0))
    refused("not those that training wrote")
    reseal(folder)
    refused("states another ε")


MIXTURES = {
    "model": ("models/classifier", "the model is not that of metrics/train"),
    "test figures": ("metrics/evaluate.json", "measured another model"),
    "curves": ("plots/training.csv", "training.csv does not end with"),
    "test counts": ("plots/test_counts.csv", "test_counts.csv does not have"),
}


@pytest.fixture(scope="module")
def another(made, tmp_path_factory):
    """The files of another run with the same settings in the same repository."""
    folder = shutil.copytree(made.folder, tmp_path_factory.mktemp("another") / "project")
    for stage in ("train", "evaluate"):
        Project(folder).stage(stage)
    return folder


@pytest.mark.parametrize("part", MIXTURES)
def test_a_part_of_another_run_with_the_same_settings_is_refused(workspace, another, part):
    place, told = MIXTURES[part]
    if Path(place).is_dir():
        shutil.copytree(another / place, place, dirs_exist_ok=True)
    else:
        shutil.copy(another / place, place)
    shutil.copy(another / "privacy-ledger.sqlite", "privacy-ledger.sqlite")
    assert told in Project(workspace).stage("plot", expect=1)
    refused(told)


def test_a_run_that_was_struck_is_refused(workspace):
    ledger = Ledger()
    with ledger.writing() as connection:
        for entry in ledger.entries():
            append(connection, kind="strike", run=entry.run, reason="never ran")
    refused("was struck")


def test_a_run_that_was_published_is_not_struck(workspace, made):
    ledger = Ledger()
    for entry in reversed(ledger.entries()):
        with pytest.raises(UserError, match=f"bundle {made.folder}/bundle was made of it"):
            ledger.strike(entry.number, "nobody has seen it")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s["evidence"].pop("parameters"), r"`evidence\.parameters`: .* is missing"),
        (lambda s: put(s, "evidence.parameters.test_fraction", 1), "`test_fraction` should be"),
        (lambda s: put(s, "evidence.epsilon", -1), "tells of another run"),
        (lambda s: put(s, "deployment.basic.surprise", ""), "tells of another run"),
        (lambda s: s.pop("evidence"), r"`evidence\.parameters`: .* is missing"),
        (lambda s: s.pop("deployment"), "tells of another run"),
    ],
)
def test_a_statement_that_is_out_of_shape_is_refused(workspace, change, told):
    path = Path("plots/statement.yaml")
    content = load_statement(path)
    change(content)
    path.write_text(sealed(content))
    refused(told)


def test_metrics_of_another_run_are_refused(workspace):
    change_result(EvaluateResult, Path(), lambda metrics: metrics["figures"].update(accuracy=0.99))
    refused("does not have the figures")


def test_less_for_all_runs_than_for_this_one_is_refused(workspace):
    change_result(EvaluateResult, Path(), lambda metrics: metrics.update(epsilon_total=2.0))
    refused("a smaller ε of all runs on record than of this one")


def test_a_ledger_over_budget_is_refused(workspace):
    set_parameter("privacy_budget", 3.4)
    refused("above `privacy_budget` 3.4")
    set_parameter("privacy_budget", 3.6)
    publish(Path("bundle"))


def test_a_clone_without_a_ledger_publishes_what_it_holds(workspace):
    runs = {entry.run for entry in Ledger().entries()}
    for path in Path().glob("privacy-ledger.sqlite*"):
        path.unlink()
    publish(Path("bundle"))
    assert {entry.run for entry in Ledger().entries()} == runs


def test_runs_of_commits_count_in_the_total_that_leaves(workspace, made):
    project = type(made)(workspace)
    alone = total_in(publish(Path("bundle")))
    shutil.rmtree("bundle")

    change_result(TrainResult, Path(), lambda m: m["ledger"][0].update(run="of a clone"))
    commit_all(project, "a run that another clone made")
    project.run("git", "checkout", "--quiet", "HEAD~1")
    assert total_in(publish(Path("bundle"))) > alone


def test_a_shallow_clone_publishes_nothing(workspace, monkeypatch):
    monkeypatch.setattr("stages.reporting.bundle.hidden_past", lambda: SHALLOW)
    refused("this clone is shallow")


def test_what_is_not_known_of_other_runs_is_not_told(workspace):
    ledger = Ledger()
    own = replace(ledger.entries()[0].spend, unit="person by an id that was declared since")
    ledger.settle(ledger.reserve(own, None), own.events)
    assert total_in(publish(Path("bundle"))) is None
    assert total_in(verify(Path("bundle"))) is None
    assert "| not known |" in Path("bundle/report.md").read_text()
    set_parameter("privacy_budget", 100)
    shutil.rmtree("bundle")
    refused("is not known")


def test_the_bundle_tells_the_total_at_the_time_that_it_leaves(workspace):
    ledger = Ledger()
    own = ledger.entries()[0].spend
    before = total_in(load_statement(Path("plots/statement.yaml")))
    ledger.settle(ledger.reserve(own, None), own.events)
    told = total_in(publish(Path("bundle")))
    assert told == ledger.total(own)
    assert before
    assert told > before
    assert total_in(verify(Path("bundle"))) == told


def test_runs_that_only_the_ledger_of_another_clone_had_count_in_the_total_that_leaves(workspace):
    alone = total_in(publish(Path("bundle")))
    shutil.rmtree("bundle")
    lines = Path(RUNS).read_text().splitlines()
    theirs = json.loads(lines[0]) | {"run": "theirs"}
    Path(RUNS).write_text("\n".join([*lines, json.dumps(theirs)]))
    assert total_in(publish(Path("bundle"))) > alone


def total_in(statement):
    return statement["evidence"]["ledger"]["epsilon_total"]


def test_a_folder_that_exists_is_left_alone(workspace):
    Path("kept").mkdir()
    with pytest.raises(UserError, match="exists already"):
        publish(Path("kept"))
    assert not list(Path("kept").iterdir())


# --- values of private rows ----------------------------------------------------------------------


def test_a_private_value_in_what_would_leave_is_caught(workspace):
    charges = Path("data/sample_medical_data.csv").read_text().splitlines()[7].split(",")[-1]
    change_result(TrainResult, Path(), lambda m: m.update(learning_rate=float(charges)))
    refused("`charges` in row 7 is in ")


def test_a_private_row_in_what_would_leave_is_caught(workspace, monkeypatch):
    row = Path("data/sample_medical_data.csv").read_text().splitlines()[7]

    def with_an_example(template, **values):
        text = fill(template, **values)
        return f"{text}\n{row}\n" if template == "report.md" else text

    monkeypatch.setattr("stages.reporting.report.fill", with_an_example)
    refused(r"the whole row in row 7 is in report\.md")
