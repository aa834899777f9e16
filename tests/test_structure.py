"""The house: which module may know which, and whether dvc.yaml tells DVC the truth about it."""

import ast
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from stages.books.told import RUNS
from stages.params import Params
from tests.conftest import copy_project

ROOT = Path(__file__).parent.parent
STAGES = ("preprocess", "train", "evaluate", "plot")
COMMANDS = ("predict", "schema", "compare", "publish", "tune", "ledger", "launch")

# Which room may know which: each those before it, and the two in the middle not each other.
ORDER = (
    ("versions",),
    ("tabular",),
    ("model",),
    ("privacy",),
    ("books",),
    ("training", "evaluation"),
    ("tuning", "reporting"),
)

# A page.
MOST_LINES = 80

# Modules a stage may import without listing them as a dependency. They can refuse a run but never
# change a byte of its outputs, and a new parameter must not retrain, which would spend privacy.
ONLY_REFUSE = ("errors.py", "params.py", "commands.py", "explain.py", "pricing.py", "books/")

# Raising the budget must not retrain: it can only refuse, though the report tells it. `processes`
# stands in the command.
NO_DEPENDENCY = {"privacy_budget", "privacy_budget_delta", "processes"}


def modules():
    return sorted(path for path in (ROOT / "stages").rglob("*.py") if path.name != "__init__.py")


def source_of(module):
    """Return the path of `a.b.c`, or None where it is no module of ours."""
    path = ROOT / (module.replace(".", "/") + ".py")
    return path if path.exists() else None


@cache
def imports(path):
    """Return our own modules that the file imports, at whatever depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {source_of(name) for name in names} - {None}
    return found


def only_refuses(path):
    return str(path.relative_to(ROOT / "stages")).startswith(ONLY_REFUSE)


def closure(path):
    seen, todo = set(), {path}
    while todo:
        seen |= todo
        todo = {
            found for known in todo for found in imports(known) if not only_refuses(found)
        } - seen
    return {str(module.relative_to(ROOT)) for module in seen}


def room(path):
    if not path.is_relative_to(ROOT / "stages"):
        return None
    parts = path.relative_to(ROOT / "stages").parts
    return parts[0] if len(parts) > 1 else None


def rank(room):
    (place,) = [number for number, rooms in enumerate(ORDER) if room in rooms]
    return place


def breaches(path, imported):
    """Return why `path` may not import `imported`; empty if it may."""
    ours, theirs = room(path), room(imported)
    if theirs is None and imported.stem in (*STAGES, *COMMANDS):
        return [f"{path} imports the stage or command {imported}"]
    if ours is not None and theirs is not None and ours != theirs and rank(ours) <= rank(theirs):
        return [f"{path} reaches up or aside into the room {theirs}"]
    return []


def test_rooms_know_only_rooms_before_them_and_nobody_knows_a_stage():
    assert [
        why for path in modules() for other in imports(path) for why in breaches(path, other)
    ] == []


def test_benchmarks_know_rooms_and_no_stage():
    files = (ROOT / "benchmarks").glob("*.py")
    assert [why for path in files for other in imports(path) for why in breaches(path, other)] == []


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("stages/evaluation/metrics.py", "stages/train.py"),
        ("stages/privacy/events.py", "stages/training/plan.py"),
        ("stages/evaluation/metrics.py", "stages/training/plan.py"),
        ("stages/publish.py", "stages/plot.py"),
        ("benchmarks/audit.py", "stages/ledger.py"),
    ],
)
def test_a_breach_is_seen(path, other):
    assert breaches(ROOT / path, ROOT / other)


@pytest.mark.parametrize("script", [*STAGES, *COMMANDS])
def test_a_stage_or_command_is_a_page(script):
    assert len((ROOT / f"stages/{script}.py").read_text().splitlines()) <= MOST_LINES


def dvc_stages():
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def dependencies(stage):
    """Return what a stage is told to depend on of our own code: files and folders."""
    return [dep for dep in dvc_stages()[stage]["deps"] if dep.startswith("stages/")]


def covers(dependency, module):
    return module == dependency or module.startswith(f"{dependency}/")


def needed(stage):
    return closure(ROOT / f"stages/{stage}.py")


@pytest.mark.parametrize("stage", STAGES)
def test_the_dependencies_of_a_stage_are_what_it_imports(stage):
    declared = dependencies(stage)
    assert {m for m in needed(stage) if not any(covers(dep, m) for dep in declared)} == set()
    assert [dep for dep in declared if not any(covers(dep, m) for m in needed(stage))] == []


def test_a_change_of_the_reader_of_tables_does_not_train_anew():
    for stage in ("train", "evaluate"):
        assert {m for m in needed(stage) if "/tabular/" in m} == {"stages/tabular/prepared.py"}


def test_what_draws_and_tells_depends_on_no_private_row():
    plot = dvc_stages()["plot"]
    assert [dep for dep in plot["deps"] if not dep.startswith(("stages/", "models/"))] == []


class Recorded(Params):
    """Parameters that remember which of them were looked at."""

    def __getattribute__(self, name):
        if name in Params.model_fields:
            looked_at.add(Params.model_fields[name].alias or name)
        return super().__getattribute__(name)


looked_at: set[str] = set()


@pytest.fixture(scope="module")
def read_by(tmp_path_factory):
    """What each stage reads of params.yaml, by a run of all of them."""
    project = copy_project(tmp_path_factory.mktemp("recorded") / "project")
    reads = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        content = yaml.safe_load(Path("params.yaml").read_text())
        recorded = Recorded.model_validate({**content, "epochs": 2})
        for stage in STAGES:
            module = importlib.import_module(f"stages.{stage}")
            patch.setattr(module, "load_params", lambda: recorded)
            looked_at.clear()
            module.main()
            reads[stage] = set(looked_at)
    return reads


@pytest.mark.parametrize("stage", STAGES)
def test_the_parameters_of_a_stage_are_what_it_reads(read_by, stage):
    declared = {name for name in dvc_stages()[stage].get("params", []) if isinstance(name, str)}
    # Training prices the evaluation to come, which can only refuse.
    priced = {"evaluation_epsilon"} if stage == "train" else set()
    assert read_by[stage] - NO_DEPENDENCY - priced == declared - NO_DEPENDENCY
    assert stage == "plot" or not declared & NO_DEPENDENCY


def known_parameters():
    return set(yaml.safe_load((ROOT / "params.yaml").read_text()))


def test_every_parameter_belongs_to_a_stage():
    declared = {
        name
        for stage in dvc_stages().values()
        for name in stage.get("params", [])
        if isinstance(name, str)
    }
    assert declared | NO_DEPENDENCY == known_parameters()


@pytest.mark.parametrize(
    ("stage", "heavy"),
    [
        ("preprocess", {"torch", "opacus", "matplotlib", "sklearn", "onnx"}),
        ("evaluate", {"torch", "opacus", "dp_accounting", "matplotlib", "sklearn", "onnx"}),
        ("plot", {"torch", "opacus", "dp_accounting", "sklearn", "onnx"}),
    ],
)
def test_a_stage_does_not_import_what_it_does_not_need(stage, heavy):
    code = f"import sys, stages.{stage}; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert not heavy & set(printed.split())


def test_nothing_is_kept_between_runs_but_what_is_known_of_them():
    # DVC leaves stages with persisted outputs out of its run-cache, and the run-cache is what gives
    # an old release back instead of spending again.
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    kept = {name for name, stage in stages.items() if "persist" in str(stage)}
    assert kept == {"plot"}
    outputs = [one for one in stages["plot"]["outs"] if "persist" in str(one)]
    assert outputs == [{RUNS: {"cache": False, "persist": True}}]
