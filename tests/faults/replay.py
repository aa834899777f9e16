"""Run the real stages on a table and on its neighbours: everything but sampling and noise.

A mechanism is private if what it adds noise to moves by no more than its sensitivity between
neighbouring tables (`breaches` looks at that), if nothing else that is published depends on the
rows at all (`published_blindly`), and if the noise is what the accounting says (the monitors).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml

from stages import evaluate, preprocess, train
from stages.books import store
from stages.books.store import Ledger
from stages.books.told import RUNS
from stages.evaluation import release
from stages.evaluation.release import CountRelease
from stages.model.files import save_model
from stages.model.perceptron import Architecture
from stages.privacy.events import Steps
from stages.tabular.prepared import SIDES, Side, SideName
from stages.tabular.schema import Schema
from stages.training import accounting, calibration, dp_sgd, output, setup
from stages.training.checkpoint import Checkpoint
from stages.training.dp_sgd import PrivateTraining
from stages.training.learner import SecretNoiseOptimizer
from stages.training.monitors import MONITORS, Monitors
from stages.training.network import as_arrays, build_network
from stages.training.past import Past
from stages.training.pilot import Question
from stages.training.plan import Plan
from stages.training.temperature import Temperature
from tests.conftest import ROOT, Project

SCHEMA = "data/sample_medical_data.schema.json"
_, *SAMPLE = (ROOT / "data/sample_medical_data.csv").read_text().splitlines()

USUAL = [row for row in SAMPLE if "northwest" not in row][:56]
TWICE = 3
SPECIAL = {
    "equal to another": USUAL[TWICE],
    "at the upper bounds, training": "64,male,60,5,yes,southwest,63770.42801",
    "at the upper bounds, testing": "64,male,60,5,yes,southwest,50000",
    "at the lower bounds, training": "18,female,10,0,no,northeast,1121.8739",
    "at the lower bounds, testing": "18,female,10,0,no,northeast,1000",
    "beyond the bounds": "120,male,99,17,yes,southeast,1e9",
    "the only one of its region": "33,male,22.705,0,no,northwest,21984.47061",
    "last": "62,female,25.0,0,no,southwest,13451.122",
}
ROWS = [*USUAL, *SPECIAL.values()]
NOTABLE = {"first": 0} | {name: len(USUAL) + n for n, name in enumerate(SPECIAL)}

# Full batches: sampling draws nothing, so that a seeded run of the stage can be repeated.
SETTINGS = {
    "train_size": 50,
    "batch_size": 50,
    "epochs": 3,
    "hidden_sizes": [8],
    "max_grad_norm": 0.5,
}

PARTS = ("features", "labels", "persons")

# Room for float32 sums of about fifty rows.
ROUNDING = 1e-4

Array = npt.NDArray[np.float64]


class StoppedError(Exception):
    """What a stage had in hand when it was about to draw noise."""

    def __init__(self, content):
        super().__init__()
        self.content = content


def _stop(content, *_):
    raise StoppedError(content)


@dataclass(frozen=True)
class Replay:
    """The deterministic part of the pipeline on one table.

    Attributes:
        sides: per side, features, labels, and whose rows they are, as on disk.
        training: the run as the `train` stage sets it up, before its first step.
        weights: the initial ones, flat.
        counts: the tables that the `evaluate` stage adds noise to, for a fixed model.
        person: what a person adds to each of these.
    """

    sides: dict[SideName, Side]
    training: PrivateTraining
    weights: Array
    counts: list[npt.NDArray[np.int64]]
    person: int

    @property
    def plan(self) -> Plan:
        return self.training.plan

    def sums(self, people, scale=1.0):
        """Return the clipped gradient sum and the metric sums of people, un-noised.

        Weights are the initial ones times `scale`; large ones make large gradients and losses.
        """
        self.training.learner.weights.data.copy_(torch.from_numpy(scale * self.weights))
        metrics = self.training._sum_over(np.asarray(people, dtype=np.int64))
        return flat([self.training.learner.weights.grad]), metrics

    def answers(self, people, scale=1.0):
        """Return what people add to the questions that steps without a gradient ask.

        How many a candidate gets right, of two that differ, and by how much it is too sure.
        """
        self.training.learner.weights.data.copy_(torch.from_numpy(scale * self.weights))
        self.training.learner.average_weights.data.copy_(self.training.learner.weights.data)
        model, people = self.training.learner.averaged, np.asarray(people, dtype=np.int64)
        other = replace(model, layers=[(-weight, -bias) for weight, bias in model.layers])
        question, temperature = Question([model, other]), Temperature(model)
        right = self.training._answer(question, people) / question.sensitivity
        return right, self.training._answer(lambda *batch: [temperature.excess(*batch)], people)


def flat(tensors) -> Array:
    return np.concatenate([tensor.detach().double().numpy().ravel() for tensor in tensors])


def sample_schema():
    return json.loads((ROOT / SCHEMA).read_text()) | {"report_by": ["sex", "region"]}


def lay_out(folder: Path, rows=ROWS, schema=None, **settings):
    """Make `folder` a project with a table of `rows`, of the sample's columns or a `schema`'s."""
    (folder / "data").mkdir(parents=True)
    schema = schema or sample_schema()
    header = ",".join(field["name"] for field in schema["fields"])
    (folder / SCHEMA).write_text(json.dumps(schema))
    (folder / "data/sample_medical_data.csv").write_text("\n".join([header, *rows, ""]))
    write_params(folder, **settings)


def write_params(folder: Path, **settings):
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | SETTINGS | settings
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def save_fixed_model(folder: Path):
    """Put a model into `folder` that no row has been seen by, and that is sure of what it says."""
    schema = Schema.load(SCHEMA)
    names, classes = schema.feature_names, schema.class_names
    shape = Architecture(len(names), len(classes), [8], "relu")
    model = build_network(shape, init_seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    folder.mkdir(parents=True)
    promise = {"epsilon": 1.0, "delta": 1e-5, "run": "a run", "releases": []}
    save_model(
        folder,
        as_arrays(model),
        features=schema.feature_names,
        classes=schema.class_names,
        schema_text=schema.to_json(),
        privacy=promise,
    )


def replay(folder: Path, rows=ROWS, schema=None, **settings) -> Replay:
    """Run the stages on a table of `rows` in a new `folder`, up to where noise comes in."""
    lay_out(folder, rows, schema, **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (train, evaluate):  # the ledger takes no part in what is released
            patch.setattr(stage, "book", lambda *_, **__: None)
        patch.setattr(PrivateTraining, "epochs", _stop)

        def record(_, counted, *__):
            _stop(([counted.confusion, *counted.scores, *counted.groups.values()], counted.person))

        patch.setattr(CountRelease, "release", record)
        preprocess.main()
        with pytest.raises(StoppedError) as training:
            train.main()
        save_fixed_model(Path("models/classifier"))
        with pytest.raises(StoppedError) as counts:
            evaluate.main()
        # As they are on disk, whatever a fault makes of reading them.
        sides = {
            side: Side(*(np.load(path) for part in PARTS if (path := on_disk(side, part)).exists()))
            for side in SIDES
        }
    run = training.value.content
    return Replay(sides, run, flat(run.model.parameters()), *counts.value.content)


def on_disk(side, part):
    return Path(f"data/prepared/{side}_{part}.npy")


def without(rows, number):
    return [*rows[:number], *rows[number + 1 :]]


def arrays_of(side: Side):
    return [array for array in side if array is not None]


def rows_by_person(side: Side):
    """The rows of each person, in the order of their first ones."""
    if side.persons is None:
        return [[row] for row in range(len(side.labels))]
    rows: dict[int, list[int]] = {}
    for row, person in enumerate(side.persons.tolist()):
        rows.setdefault(person, []).append(row)
    return list(rows.values())


def lost_person(whole: Side, other: Side):
    """Return the number of whom the arrays `other` lack, or None if that is not all."""
    for person, rows in enumerate(rows_by_person(whole)):
        if all(
            np.array_equal(np.delete(ours, rows, axis=0), theirs)
            for ours, theirs in zip(arrays_of(whole), arrays_of(other), strict=True)
        ):
            return person
    return None


def same(whole: Side, other: Side):
    both = zip(arrays_of(whole), arrays_of(other), strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in both)


def side_that_lost(whole: Replay, other: Replay):
    """Return the side that lost a person, and whom; None where that is not the only difference."""
    for side, untouched in (SIDES, SIDES[::-1]):
        person = lost_person(whole.sides[side], other.sides[side])
        if person is not None and same(whole.sides[untouched], other.sides[untouched]):
            return side, person
    return None


def breaches(whole: Replay, other: Replay) -> list[str]:
    """Say what moves further than it may where `other` is `whole` without one row or person."""
    found = []
    if whole.plan != other.plan:
        found.append("the plan moved")
    if not np.array_equal(whole.weights, other.weights):
        found.append("the initial weights moved")
    lost = side_that_lost(whole, other)
    if lost is None:
        return [*found, "other rows moved"]
    side, person = lost
    found += breaches_of_sums(whole, other, person if side == "train" else None)
    for ours, theirs in zip(whole.counts, other.counts, strict=True):
        if np.abs(ours - theirs).sum() != whole.person * (side == "test") or (ours < theirs).any():
            found.append("test counts moved otherwise than by 1 in one cell")
    return found


def breaches_of_sums(whole: Replay, other: Replay, person: int | None) -> list[str]:
    """The same of the sums that a step adds noise to; `person` is whom `other` lacks in training.

    Not only is the difference bounded: it is what that person contributes where they are alone, so
    that people do not see each other.
    """
    found = []
    for scale in (1.0, 30.0):
        gradient, metrics = whole.sums(range(len(whole.training.people)), scale)
        gradient_without, metrics_without = other.sums(range(len(other.training.people)), scale)
        alone, metrics_alone = whole.sums([] if person is None else [person], scale)
        moved = gradient - gradient_without
        if np.linalg.norm(moved) > whole.plan.max_grad_norm + ROUNDING:
            found.append("the gradient sum moved by more than the clip")
        if np.abs(moved - alone).max() > ROUNDING:
            found.append("a row changed what others contribute to the gradient")
        if np.abs(metrics - metrics_without).max() > 0.5 + ROUNDING:
            found.append("a metric sum moved by more than a half")
        if np.abs(metrics - metrics_without - metrics_alone).max() > ROUNDING:
            found.append("a row changed what others contribute to the metrics")
        of_all = whole.answers(range(len(whole.training.people)), scale)
        of_others = other.answers(range(len(other.training.people)), scale)
        of_one = whole.answers([] if person is None else [person], scale)
        for answer, without_it, by_itself in zip(of_all, of_others, of_one, strict=True):
            if np.linalg.norm(answer - without_it) > 1 + ROUNDING:
                found.append("an answer moved by more than its sensitivity")
            if np.abs(answer - without_it - by_itself).max() > ROUNDING:
                found.append("a row changed what others contribute to an answer")
    return found


def _hold_what_training_releases(patch):
    """Let every function run, but have each mechanism give out the same whatever its rows.

    As if the noise had just made up for what the rows change: possible on every table, so whatever
    else differs has gone round the mechanisms.
    """
    released = np.random.default_rng(0)

    def add_noise(optimizer):
        deviation = optimizer.noise_multiplier * optimizer.max_grad_norm
        for parameter in optimizer.params:
            noisy = deviation * released.standard_normal(parameter.shape)
            parameter.grad = torch.from_numpy(noisy).to(parameter.dtype)

    def cover(_, exact, deviation):
        return deviation * released.standard_normal(len(exact))

    patch.setattr(SecretNoiseOptimizer, "add_noise", add_noise)
    patch.setattr(PrivateTraining, "_cover", cover)
    # What is no noise is not for the monitors, of which their names alone are published.
    patch.setattr(Monitors, "require_passed", lambda *_: [*MONITORS])


def published_blindly(folder: Path, rows=ROWS) -> dict[str, bytes]:
    """Run the stages with what their mechanisms give out held fixed; return all they write.

    Every byte must be the same whatever the table: what differs has gone round the mechanisms.
    """
    with pytest.MonkeyPatch.context() as patch:
        _hold_what_training_releases(patch)
        return _published(folder, rows, patch)


def published_repeatably(folder: Path, rows=ROWS, schema=None) -> dict[str, bytes]:
    """Run the stages as they are, with repeatable noise in training; return all they write."""
    with pytest.MonkeyPatch.context() as patch:
        return _published(folder, rows, patch, schema)


def _published(folder: Path, rows, patch, schema=None) -> dict[str, bytes]:
    lay_out(folder, rows, schema)
    patch.chdir(folder)
    numbers = count()  # instead of the random ids of runs in the ledger
    patch.setattr(
        store, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=f"run {next(numbers)}"))
    )
    patch.setattr(setup, "random_source", lambda *_: np.random.default_rng(0))
    patch.setattr(dp_sgd, "poisson_batch", lambda _, rows, __: np.arange(rows))
    held = np.random.default_rng(1)

    def counts(values, deviation):
        return 9 + deviation * held.standard_normal(len(values))

    patch.setattr(release, "_private", counts)
    preprocess.main()
    train.main()
    evaluate.main()
    return {
        str(path): as_in_a_bundle(path)
        for top in ("models", "metrics", "plots")
        for path in sorted(Path(top).rglob("*"))
        if path.is_file()
    }


def as_in_a_bundle(path: Path) -> bytes:
    """Return what a file tells that leaves the private repository.

    Metrics keep at home which table was read, by its hash, and all that the ledger has;
    tests/test_publish.py looks at bundles.
    """
    content = path.read_bytes()
    if path.name == Path(RUNS).name:
        return b""
    if path.parent.name != "metrics":
        return content
    metrics = json.loads(content)
    for record in metrics["evidence"][0]["ledger"]:
        record.pop("read", None)
    return json.dumps(metrics, ensure_ascii=False).encode()


def train_and_continue(folder: Path, *, forget=False, **settings) -> list[Steps]:
    """Train at ε = 3.5 and go on to 5 in all; return every step that the weights have seen.

    To `forget` is a fault: the second run takes up the weights, but not the steps they have seen.
    """
    lay_out(folder, target_epsilon=3.5)
    Project(folder).run("git", "init", "--quiet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        preprocess.main()
        train.main()
        first = Checkpoint.load(Path("models/checkpoint"))
        loaded = replace(first, history=(), releases=()) if forget else first
        past = Past(loaded, "0" * 40, "0" * 32)
        patch.setattr(train, "load_past", lambda *_: past)
        write_params(folder, target_epsilon=5, mode="continue", continue_from="0" * 40, **settings)
        train.main()
        (*_, second) = Ledger().entries()
    return [*first.history, *(step for step in second.spend.events if isinstance(step, Steps))]


def differing(ours: dict[str, bytes], theirs: dict[str, bytes]) -> list[str]:
    return [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]


def remembering(function):
    """Return `function`, computing each result once: accounting is slow and deterministic."""
    known: dict[str, object] = {}

    def remembered(*arguments, **named):
        key = repr((arguments, named))
        if key not in known:
            known[key] = function(*arguments, **named)
        return known[key]

    return remembered


def quick_accounting() -> Iterator[None]:
    """Compute each accounting once, however many tables are replayed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.training.plan.calibrate", remembering(calibration.calibrate))
        patch.setattr(train, "account", remembering(accounting.account))
        patch.setattr(output, "epsilon_curve", remembering(accounting.epsilon_curve))
        yield
