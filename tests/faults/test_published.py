"""Every number that Git tracks after a run is listed here with the release that it comes from.

Whoever adds a figure has to say which release pays for it: a new key, column, picture or file
without an entry fails. And what an entry says is checked where it can be: exact figures of the
private rows are searched for, and the pictures are drawn again from released tables alone.
"""

import csv
import hashlib
import json
import re
import shutil
from dataclasses import replace
from fnmatch import fnmatchcase
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics

from stages import plot
from stages.evaluation.result import EvaluateResult
from stages.model.files import load_model
from stages.model.perceptron import predict_probabilities
from stages.tabular.prepared import SIDES, Prepared
from stages.training.result import PilotScore, TrainResult
from tests.conftest import commit_all, copy_project
from tests.faults.replay import as_in_a_bundle, train_and_continue

TRAINING = "training mechanism"
COUNTS = "test count release"
AFTER_COUNTS = "post-processing of released counts"
PARAMETER = "public parameter"
ACCOUNTANTS = "derived from the accountants"
PRIVATE = "private repository only"
SAID = "not covered by ε, as `not_covered` beside it says"

# What is published (file: key) and the release it comes from. `*` stands for any text.
REGISTRY = {
    "metrics/train.json: run": PARAMETER,  # a random number
    "metrics/train.json: evidence.accuracy": TRAINING,
    "metrics/train.json: evidence.loss": TRAINING,
    "metrics/train.json: evidence.accuracy_noise": ACCOUNTANTS,
    "metrics/train.json: evidence.loss_noise": ACCOUNTANTS,
    "metrics/train.json: evidence.epsilon": ACCOUNTANTS,
    "metrics/train.json: evidence.epsilon_prv": ACCOUNTANTS,
    "metrics/train.json: evidence.epsilon_pld": ACCOUNTANTS,
    "metrics/train.json: evidence.epsilon_renyi": ACCOUNTANTS,
    "metrics/train.json: evidence.epsilon_replace_one": ACCOUNTANTS,
    "metrics/train.json: evidence.delta": PARAMETER,
    "metrics/train.json: evidence.no_guarantee": PARAMETER,
    "metrics/train.json: evidence.noise_multiplier": ACCOUNTANTS,
    "metrics/train.json: evidence.metric_noise_multiplier": ACCOUNTANTS,
    "metrics/train.json: evidence.max_grad_norm": PARAMETER,
    "metrics/train.json: evidence.learning_rate": PARAMETER,
    "metrics/train.json: evidence.momentum": PARAMETER,
    "metrics/train.json: evidence.average_decay": PARAMETER,
    "metrics/train.json: evidence.activation": PARAMETER,
    "metrics/train.json: evidence.pieces": TRAINING,  # where a pilot chose
    "metrics/train.json: evidence.pilot": PARAMETER,  # none
    "metrics/train.json: evidence.pilot.activation": PARAMETER,
    "metrics/train.json: evidence.pilot.pieces": PARAMETER,
    "metrics/train.json: evidence.pilot.accuracy": TRAINING,
    "metrics/train.json: evidence.pilot.accuracy_noise": TRAINING,
    "metrics/train.json: evidence.pilot.chosen": TRAINING,
    "metrics/train.json: evidence.inverse_temperature": TRAINING,
    "metrics/train.json: evidence.sample_rate": PARAMETER,
    "metrics/train.json: evidence.steps": PARAMETER,
    # The same list on every table, see monitors.
    "metrics/train.json: evidence.monitors_passed": PARAMETER,
    "metrics/train.json: evidence.not_covered": PARAMETER,
    "metrics/train.json: evidence.attack.*": ACCOUNTANTS,
    "metrics/train.json: evidence.versions": PARAMETER,
    "metrics/train.json: evidence.history.steps.noise_multiplier": ACCOUNTANTS,
    "metrics/train.json: evidence.history.steps.sample_rate": PARAMETER,
    "metrics/train.json: evidence.history.steps.steps": PARAMETER,
    "metrics/train.json: evidence.parent": PARAMETER,
    "metrics/train.json: evidence.parent.commit": PARAMETER,
    "metrics/train.json: evidence.parent.checkpoint": TRAINING,  # a hash of what was released
    "metrics/train.json: evidence.parent.data_changed": SAID,
    "metrics/train.json: evidence.parent.table_changed": SAID,
    "metrics/train.json: evidence.releases.run": PARAMETER,  # random numbers
    "metrics/train.json: evidence.releases.measures": PARAMETER,
    "metrics/train.json: evidence.releases.spend.side": PARAMETER,
    "metrics/train.json: evidence.releases.spend.events.*": ACCOUNTANTS,
    "metrics/train.json: evidence.releases.spend.epsilon": ACCOUNTANTS,
    "metrics/train.json: evidence.releases.spend.delta": PARAMETER,
    # Whether releases read the same table and split.
    "metrics/train.json: evidence.releases.spend.deal": SAID,
    "metrics/train.json: evidence.ledger.spend.deal": PARAMETER,  # always 1
    "metrics/train.json: evidence.ledger.run": PARAMETER,  # a random number
    "metrics/train.json: evidence.ledger.read.*": PRIVATE,
    "metrics/train.json: evidence.ledger.measures": PARAMETER,
    "metrics/train.json: evidence.ledger.spend.side": PARAMETER,
    "metrics/train.json: evidence.ledger.spend.events.steps.noise_multiplier": ACCOUNTANTS,
    "metrics/train.json: evidence.ledger.spend.events.steps.sample_rate": PARAMETER,
    "metrics/train.json: evidence.ledger.spend.events.steps.steps": PARAMETER,
    "metrics/train.json: evidence.ledger.spend.epsilon": ACCOUNTANTS,
    "metrics/train.json: evidence.ledger.spend.delta": PARAMETER,
    "plots/training.csv: epoch": PARAMETER,
    "plots/training.csv: loss": TRAINING,
    "plots/training.csv: loss_noise": TRAINING,
    "plots/training.csv: loss_noise_shared": TRAINING,
    "plots/training.csv: accuracy": TRAINING,
    "plots/training.csv: accuracy_noise": TRAINING,
    "plots/training.csv: accuracy_noise_shared": TRAINING,
    "plots/training.csv: *_smoothed": TRAINING,
    "plots/training.csv: *_low": TRAINING,
    "plots/training.csv: *_high": TRAINING,
    "plots/training.csv: epsilon": ACCOUNTANTS,
    "plots/training.png": TRAINING,
    # What the model does on a public grid.
    "plots/effects.csv: feature": PARAMETER,
    "plots/effects.csv: value": PARAMETER,
    "plots/effects.csv: class": PARAMETER,
    "plots/effects.csv: strength": TRAINING,
    "plots/effects.csv: probability": TRAINING,
    "plots/effects.csv: low": TRAINING,
    "plots/effects.csv: high": TRAINING,
    "plots/effects.png": TRAINING,
    "plots/attack.csv: false_positive_rate": PARAMETER,
    "plots/attack.csv: true_positive_rate": ACCOUNTANTS,
    "plots/attack.png": ACCOUNTANTS,
    # What the report and the statement hold is copied from the metrics and the released tables.
    "plots/report.html": TRAINING,
    "plots/report.md": TRAINING,
    "plots/statement.yaml": TRAINING,
    "plots/privacy_utility.csv: epsilon": ACCOUNTANTS,
    "plots/privacy_utility.csv: base_rate": AFTER_COUNTS,
    "plots/privacy_utility.csv: accuracy*": AFTER_COUNTS,
    "plots/privacy_utility.csv: loss*": AFTER_COUNTS,
    "metrics/evaluate.json: epsilon": ACCOUNTANTS,
    "metrics/evaluate.json: test_accuracy": AFTER_COUNTS,
    "metrics/evaluate.json: test_loss": AFTER_COUNTS,
    "metrics/evaluate.json: evidence.figures.base_rate": AFTER_COUNTS,
    "metrics/evaluate.json: evidence.figures.gain": AFTER_COUNTS,
    "metrics/evaluate.json: evidence.figures.accuracy": AFTER_COUNTS,
    "metrics/evaluate.json: evidence.figures.loss": AFTER_COUNTS,
    "metrics/evaluate.json: evidence.figures.balanced_accuracy": AFTER_COUNTS,
    "metrics/evaluate.json: evidence.figures.precision": AFTER_COUNTS,
    "metrics/evaluate.json: evidence.figures.recall": AFTER_COUNTS,
    "metrics/evaluate.json: evidence.figures.f1": AFTER_COUNTS,
    "metrics/evaluate.json: evidence.figures.roc_auc": AFTER_COUNTS,
    "metrics/evaluate.json: evidence.plus_minus.*": AFTER_COUNTS,
    "metrics/evaluate.json: evidence.no_guarantee": PARAMETER,
    "metrics/evaluate.json: evidence.confusion_matrix": AFTER_COUNTS,
    "metrics/evaluate.json: evidence.epsilon": ACCOUNTANTS,
    "metrics/evaluate.json: evidence.epsilon_overall": ACCOUNTANTS,
    "metrics/evaluate.json: evidence.epsilon_total": ACCOUNTANTS,
    "metrics/evaluate.json: evidence.releases.run": PARAMETER,  # random numbers
    "metrics/evaluate.json: evidence.releases.measures": PARAMETER,
    "metrics/evaluate.json: evidence.releases.spend.side": PARAMETER,
    "metrics/evaluate.json: evidence.releases.spend.events.*": ACCOUNTANTS,
    "metrics/evaluate.json: evidence.releases.spend.epsilon": ACCOUNTANTS,
    "metrics/evaluate.json: evidence.releases.spend.delta": PARAMETER,
    # Whether releases read the same table and split.
    "metrics/evaluate.json: evidence.releases.spend.deal": SAID,
    "metrics/evaluate.json: evidence.ledger.spend.deal": PARAMETER,  # always 1
    "metrics/evaluate.json: evidence.ledger.run": PARAMETER,  # a random number
    "metrics/evaluate.json: evidence.ledger.read.*": PRIVATE,
    "metrics/evaluate.json: evidence.ledger.measures": PARAMETER,  # the random number of another
    "metrics/evaluate.json: evidence.ledger.spend.side": PARAMETER,
    "metrics/evaluate.json: evidence.ledger.spend.events.gaussian.noise_multiplier": ACCOUNTANTS,
    "metrics/evaluate.json: evidence.ledger.spend.epsilon": ACCOUNTANTS,
    "metrics/evaluate.json: evidence.ledger.spend.delta": PARAMETER,
    # All runs, as they tell of themselves.
    "metrics/runs.jsonl: run": PARAMETER,
    "metrics/runs.jsonl: past": PARAMETER,
    "metrics/runs.jsonl: struck": SAID,
    "metrics/runs.jsonl: measures": PARAMETER,
    "metrics/runs.jsonl: read.*": PRIVATE,
    "metrics/runs.jsonl: edition": PRIVATE,  # a hash of all the others
    "metrics/runs.jsonl: metrics": PRIVATE,  # hashes of other files in metrics/
    "metrics/runs.jsonl: spend.side": PARAMETER,
    "metrics/runs.jsonl: spend.deal": PARAMETER,
    "metrics/runs.jsonl: spend.events.*": ACCOUNTANTS,
    "metrics/runs.jsonl: spend.epsilon": ACCOUNTANTS,
    "metrics/runs.jsonl: spend.delta": PARAMETER,
    "plots/test_counts.csv: probability_of": PARAMETER,
    "plots/test_counts.csv: label": PARAMETER,
    # Chosen in sight of a first part of the release.
    "plots/test_counts.csv: probability_from": AFTER_COUNTS,
    "plots/test_counts.csv: probability_to": AFTER_COUNTS,
    "plots/test_counts.csv: rows": COUNTS,
    "plots/subgroups.csv: column": PARAMETER,
    "plots/subgroups.csv: group": PARAMETER,
    "plots/subgroups.csv: name": PARAMETER,
    "plots/subgroups.csv: rows": COUNTS,
    "plots/subgroups.csv: accuracy": AFTER_COUNTS,
    "plots/subgroups.csv: recall": AFTER_COUNTS,
    "plots/subgroups.csv: *_new_patients": AFTER_COUNTS,
    "plots/subgroups.csv: *_noise": AFTER_COUNTS,
    "plots/confusion.csv: actual": AFTER_COUNTS,
    "plots/confusion.csv: predicted": AFTER_COUNTS,
    "plots/roc.csv: false_positive_rate": AFTER_COUNTS,
    "plots/roc.csv: true_positive_rate": AFTER_COUNTS,
    "plots/confusion_matrix.png": AFTER_COUNTS,
    "plots/roc.png": AFTER_COUNTS,
    "plots/calibration.png": AFTER_COUNTS,
    "dvc.lock: schema": PARAMETER,
    "dvc.lock: *.cmd": PARAMETER,
    "dvc.lock: *.params.params.yaml.*": PARAMETER,
    "dvc.lock: *.params.metrics/train.json.run": PARAMETER,
    "dvc.lock: *.deps.stages/*": PARAMETER,
    "dvc.lock: *.deps.data/*.schema.json.*": PARAMETER,
    # Hashes and sizes of private files tell two tables apart for certain.
    "dvc.lock: *.deps.data/*.csv.*": PRIVATE,
    "dvc.lock: *.deps.data/prepared.*": PRIVATE,
    "dvc.lock: *.outs.data/prepared.*": PRIVATE,
    # Those of released files tell what the files tell.
    # How often the model was evaluated.
    "dvc.lock: *.outs.models/evaluations.txt.*": PARAMETER,
    "dvc.lock: *.deps.models/evaluations.txt.*": PARAMETER,
    "dvc.lock: *.outs.models/classifier.*": TRAINING,
    "dvc.lock: *.outs.models/checkpoint.*": TRAINING,
    "dvc.lock: *.outs.metrics/train.json.*": TRAINING,
    "dvc.lock: *.outs.plots/training.*": TRAINING,
    "dvc.lock: *.outs.plots/effects.*": TRAINING,
    "dvc.lock: *.outs.plots/attack.*": ACCOUNTANTS,
    "dvc.lock: *.outs.metrics/runs.jsonl.*": ACCOUNTANTS,
    "dvc.lock: *.outs.plots/report.*": TRAINING,
    "dvc.lock: *.outs.plots/statement.yaml.*": TRAINING,
    "dvc.lock: *.outs.plots/privacy_utility.csv.*": AFTER_COUNTS,
    "dvc.lock: *.outs.metrics/evaluate.json.*": AFTER_COUNTS,
    "dvc.lock: *.outs.plots/confusion*": AFTER_COUNTS,
    "dvc.lock: *.outs.plots/roc*": AFTER_COUNTS,
    "dvc.lock: *.outs.plots/calibration.png.*": AFTER_COUNTS,
    "dvc.lock: *.outs.plots/test_counts.csv.*": AFTER_COUNTS,
    "dvc.lock: *.outs.plots/subgroups.csv.*": AFTER_COUNTS,
    "models/.gitignore": PARAMETER,
}


STEPS = ("noise_multiplier", "sample_rate", "steps")
NOISE = ("", "_noise", "_noise_shared")


# --- what is published ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A repository in which `dvc repro` has been run and everything it wrote is staged.

    ε of the test figures is small, so that no noisy count is the exact one by chance, but large
    enough for scores to be counted.
    """
    made = copy_project(tmp_path_factory.mktemp("published") / "project")
    made.set(evaluation_epsilon=0.25)
    commit_all(made, "before the run")
    made.run("dvc", "repro")
    made.run("git", "add", "--all")
    return made


@pytest.fixture
def copied(project, tmp_path):
    """A copy of what the run wrote, to plant figures in."""
    for name in files_of(project):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project.folder / name, tmp_path / name)
    return tmp_path


def files_of(project):
    """Return the files that Git tracks since the run, or tracks otherwise than before."""
    return project.run("git", "diff", "--cached", "--name-only").split()


def keys_of(folder, name):
    """Return the keys under which a tracked file holds figures, as `file: key`."""
    path = folder / name
    if path.suffix == ".json":
        return [f"{name}: {key}" for key in json_keys(json.loads(path.read_text()))]
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [f"{name}: {key}" for key in json_keys(lines)]
    if path.suffix == ".csv":
        return [f"{name}: {column}" for column in next(csv.reader(path.open()))]
    if path.suffix == ".lock":
        return [f"{name}: {key}" for key in json_keys(yaml.safe_load(path.read_text()))]
    return [name]


def json_keys(content, prefix=""):
    """Yield the path of each leaf; entries of a list are called by their `path`, or not at all."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from json_keys(value, f"{prefix}.{key}" if prefix else key)
    elif isinstance(content, list) and any(isinstance(entry, dict) for entry in content):
        for entry in content:
            own = f"{prefix}.{entry['path']}" if "path" in entry else prefix
            yield from json_keys(entry, own)
    else:
        yield prefix


def releases_of(key):
    return {release for pattern, release in REGISTRY.items() if fnmatchcase(key, pattern)}


def without_release(folder, names):
    return [key for name in names for key in keys_of(folder, name) if len(releases_of(key)) != 1]


def test_every_published_figure_has_its_release(project):
    assert without_release(project.folder, files_of(project)) == []


# What DVC carries beside what Git does, and the releases that it comes from.
MODEL_FILES = {
    "models/classifier/model.json": {
        *("features", "classes", "hidden_sizes", "activation", "pieces.numbers", "pieces.count"),
        *(f"privacy.{name}" for name in ("run", "epsilon", "delta", "no_guarantee")),
        *(f"privacy.epsilon_{name}" for name in ("prv", "pld", "renyi", "replace_one")),
        *(f"privacy.releases.{name}" for name in ("run", "measures")),
        *(f"privacy.releases.spend.{name}" for name in ("side", "epsilon", "delta", "deal")),
        *(f"privacy.releases.spend.events.steps.{name}" for name in STEPS),
    },
    "models/checkpoint/history.json": {
        "run",
        *(f"history.steps.{name}" for name in STEPS),
        *("epochs.epoch", "epochs.epsilon"),
        *(f"epochs.{name}{more}" for name in ("loss", "accuracy") for more in NOISE),
        *(f"about.{name}" for name in ("architecture", "activation", "pieces", "schema", "split")),
        *("about.simulated", "about.table_changed"),
        *(f"releases.{name}" for name in ("run", "measures")),
        *(f"releases.spend.{name}" for name in ("side", "epsilon", "delta", "deal")),
        *(f"releases.spend.events.steps.{name}" for name in STEPS),
    },
}
TENSORS = {"models/checkpoint/state.safetensors": {"weights", "momentum", "average"}}


def keys_beside(folder):
    """Return the keys of the models' files, and the names of the checkpoint's tensors."""
    keys = {name: {*json_keys(json.loads((folder / name).read_text()))} for name in MODEL_FILES}
    return keys | {name: {*load_file(folder / name)} for name in TENSORS}


def test_the_keys_of_a_models_files_are_a_closed_list(project):
    assert keys_beside(project.folder) == MODEL_FILES | TENSORS
    folders = (project.folder / "models/classifier", project.folder / "models/checkpoint")
    assert {path.name for folder in folders for path in folder.iterdir()} == {
        *("model.json", "schema.json", "weights.safetensors", "sha256sums"),
        *("history.json", "state.safetensors"),
    }


@pytest.fixture(scope="module")
def continued(tmp_path_factory):
    folder = tmp_path_factory.mktemp("continued") / "project"
    train_and_continue(folder)
    return folder


CONTINUED = ["metrics/train.json", "plots/training.csv"]


def test_every_published_figure_of_a_continued_run_has_its_release(continued):
    assert without_release(continued, CONTINUED) == []
    (said,) = TrainResult.read(continued).not_covered
    assert said == "whether the table changed since the run that was continued"


def test_the_registry_lists_nothing_that_is_not_published(project, continued):
    keys = [key for name in files_of(project) for key in keys_of(project.folder, name)]
    keys += [key for name in CONTINUED for key in keys_of(continued, name)]
    # Neither run is one whose plan had a choice.
    keys += [f"metrics/train.json: evidence.pilot.{name}" for name in PilotScore.model_fields]
    unused = [rule for rule in REGISTRY if not any(fnmatchcase(key, rule) for key in keys)]
    assert unused == []


def test_what_depends_on_private_files_is_marked_in_the_lock_file(project):
    private = ("data/sample_medical_data.csv", "data/prepared")
    for key in keys_of(project.folder, "dvc.lock"):
        holds = any(f".{path}." in key for path in private)
        assert (releases_of(key) == {PRIVATE}) == holds, key


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["metrics/train.json", "metrics/evaluate.json"])
@pytest.mark.parametrize(
    "plant",
    [
        lambda metrics, rows: metrics.update(rows=rows),
        lambda metrics, rows: metrics["evidence"][0].update(rows=rows),
        lambda metrics, rows: metrics["evidence"][0]["ledger"][0]["spend"].update(rows=rows),
        lambda metrics, rows: metrics["evidence"].append({"rows": rows}),
        lambda metrics, rows: metrics.update(sizes={"train": rows}),
    ],
    ids=["headline", "key", "nested key", "key in a list", "new level"],
)
def test_an_exact_count_under_a_new_key_is_seen(copied, exact, name, plant):
    assert without_release(copied, [name]) == []
    change_json(copied / name, lambda metrics: plant(metrics, exact.rows["train"]))
    assert len(without_release(copied, [name])) == 1


def test_an_exact_count_in_a_new_column_or_file_is_seen(copied, exact):
    (copied / "plots/training.csv").write_text(f"epoch,batch_size\n1,{exact.rows['train']}\n")
    (copied / "plots/gradient_norms.png").write_bytes(b"\x89PNG")
    (copied / "metrics/split.json").write_text(json.dumps(exact.rows))
    files = ["plots/training.csv", "plots/gradient_norms.png", "metrics/split.json"]
    assert without_release(copied, files) == [
        "plots/training.csv: batch_size",
        "plots/gradient_norms.png",
        "metrics/split.json: train",
        "metrics/split.json: test",
    ]


# --- what is not ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exact(project):
    """The private figures that no published file may hold."""
    folder = project.folder
    prepared = Prepared.open(folder / "data/prepared")
    sides = {side: getattr(prepared, side)[:2] for side in SIDES}
    model, _ = load_model(folder / "models/classifier")
    figures = {f"{side} of the classifier": figures_of(model, *sides[side]) for side in sides}
    tensors = load_file(folder / "models/checkpoint/state.safetensors")
    last = with_weights(model, tensors["weights"])
    figures["train of the last weights"] = figures_of(last, *sides["train"])
    (probabilities,) = predict_probabilities(model, sides["test"][0])
    table = (folder / "data/sample_medical_data.csv").read_bytes()
    return SimpleNamespace(
        rows={side: len(labels) for side, (_, labels) in sides.items()},
        figures={(of, name): v for of, named in figures.items() for name, v in named.items()},
        confusion=sklearn_metrics.confusion_matrix(sides["test"][1], probabilities.argmax(axis=1)),
        hash=hashlib.md5(table).hexdigest(),
    )


def with_weights(model, vector):
    """The model with other weights, given as one vector."""
    layers = []
    for weight, bias in model.layers:
        size = weight.size + bias.size
        new, vector = vector[:size], vector[size:]
        layers.append((new[: weight.size].reshape(weight.shape), new[weight.size :]))
    return replace(model, layers=layers)


def figures_of(model, features, labels):
    _, logits = model.forward(np.array(features))
    return {
        "loss": float(sklearn_metrics.log_loss(labels, softmax(logits.astype(float), axis=1))),
        "accuracy": float((logits.argmax(1) == labels).mean()),
        "roc_auc": float(sklearn_metrics.roc_auc_score(labels, logits[:, 1] - logits[:, 0])),
    }


def texts(folder, names):
    """Return what may leave the private repository, by name; pictures are tested below."""
    kinds = (".json", ".csv", ".md", ".html", ".yaml", "ignore")
    return {n: as_in_a_bundle(folder / n).decode() for n in names if n.endswith(kinds)}


def numbers(text):
    return re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.])", text)


def holds_figure(text, figure):
    """Whether a number of six or more digits is `figure` to as many digits as it has."""
    return any(
        len(digits := re.sub(r"[eE].*|^0\.0*|\.", "", number)) >= 6
        and abs(float(number) - figure) <= 0.6 * figure * 10.0 ** (1 - len(digits[:15]))
        for number in numbers(text)
    )


def holds_count(text, count):
    """Whether a whole number, written without a decimal point, is `count`.

    Only public numbers are written so: epochs, steps. Noisy counts have a decimal point, except in
    the report.
    """
    return str(count) in numbers(text)


def found_in(text, exact):
    """Return the private figures that a text gives away.

    False alarms: none for counts, see `holds_count`, nor for losses and areas, since noisy ones
    have 16 digits. The accuracy of 281 test rows is a fraction that a noisy table hits about once
    in 100,000 runs.
    """
    found = [name for name, figure in exact.figures.items() if holds_figure(text, figure)]
    found += [("rows", side) for side, rows in exact.rows.items() if holds_count(text, rows)]
    return found + [("hash",)] * (exact.hash in text)


def test_no_exact_figure_is_published(project, exact):
    for name, text in texts(project.folder, files_of(project)).items():
        found = found_in(text, exact)
        if name.startswith("plots/report."):
            # There noisy counts are whole people, which may be right by chance. Below it is made
            # again of released tables alone.
            found = [figure for figure in found if figure[0] != "rows"]
        assert found == [], name
    released = EvaluateResult.read(project.folder)
    # The noise in each has a deviation of 15 to 18: all four are that near once in two million
    # runs, as often as a normal variable of their covariance C is: 1 / √((2π)⁴ det C).
    assert not np.allclose(released.confusion_matrix, exact.confusion, atol=0.5)


def test_an_exact_figure_under_a_listed_key_is_seen(copied, exact):
    name = "metrics/train.json"
    for key, figure in exact.figures.items():
        for written in (figure, round(figure, 8)):
            change_json(copied / name, lambda metrics, x=written: metrics.update(loss=x))
            assert key in found_in(texts(copied, [name])[name], exact)


def test_an_exact_count_or_hash_under_a_listed_key_is_seen(copied, exact):
    name = "metrics/train.json"
    for key, count in exact.rows.items():
        change_json(copied / name, lambda metrics, x=count: metrics.update(steps=x))
        assert found_in(texts(copied, [name])[name], exact) == [("rows", key)]
    change_json(copied / name, lambda metrics: metrics.update(steps=20, parent=exact.hash))
    assert found_in(texts(copied, [name])[name], exact) == [("hash",)]


def test_pictures_and_report_are_made_of_what_is_released(project, copied, monkeypatch):
    drawn = ("*.png", "report.*", "statement.yaml", "privacy_utility.csv", "effects.csv")
    pictures = {path: path.read_bytes() for kind in drawn for path in (copied / "plots").glob(kind)}
    assert len(pictures) == 11
    for path in pictures:
        path.unlink()
    # No row is within reach here, only what is released.
    shutil.copy(project.folder / "params.yaml", copied)
    shutil.copytree(project.folder / "models/classifier", copied / "models/classifier")
    assert not (copied / "data").exists()
    monkeypatch.chdir(copied)
    plot.main()
    assert {path: path.read_bytes() for path in pictures} == pictures


def test_no_exact_figure_is_in_the_model_or_the_checkpoint(project, exact):
    for path in (project.folder / "models").rglob("*.json"):
        assert found_in(path.read_text(), exact) == [], path.name
