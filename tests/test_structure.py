"""The house: which module may know which, and whether dvc.yaml tells DVC the truth about it."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
STAGES = ("preprocess", "train", "evaluate", "plot")
ROOMS = ("tabular", "privacy", "reporting")

# Modules a stage may import without listing them as a dependency. They can refuse a run but never
# change a byte of its outputs, and a new parameter must not retrain, which would spend privacy.
ONLY_REFUSE = {"stages/errors.py", "stages/params.py", "stages/books/store.py"}

# Raising the budget must not retrain: it can only refuse, though the report tells it. `processes`
# stands in the command.
NO_DEPENDENCY = {"privacy_budget", "processes"}


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


def closure(path):
    seen, todo = set(), {path}
    while todo:
        seen |= todo
        todo = {found for known in todo for found in imports(known)} - seen
    return {str(module.relative_to(ROOT)) for module in seen}


def room(path):
    parts = path.relative_to(ROOT / "stages").parts
    return parts[0] if len(parts) > 1 else None


def breaches(path, imported):
    """Return why `path` may not import `imported`; empty if it may."""
    ours, theirs = room(path), room(imported)
    if ours is None:
        return []
    if theirs is None and imported.stem in STAGES:
        return [f"{path} imports the stage {imported}"]
    if theirs in ROOMS and theirs != ours:
        return [f"{path} reaches into the room {theirs}"]
    return []


def test_rooms_import_neither_stages_nor_each_other():
    assert [
        why for path in modules() for other in imports(path) for why in breaches(path, other)
    ] == []


@pytest.mark.parametrize("other", ["stages/train.py", "stages/training/plan.py"])
def test_a_room_that_breaches_is_seen(other):
    assert breaches(ROOT / "stages/evaluation/metrics.py", ROOT / other)


def dvc_stages():
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("stage", STAGES)
def test_the_dependencies_of_a_stage_are_what_it_imports(stage):
    declared = {dep for dep in dvc_stages()[stage]["deps"] if dep.startswith("stages/")}
    templates = {dep for dep in declared if "/templates/" in dep}
    assert declared - templates == closure(ROOT / f"stages/{stage}.py") - ONLY_REFUSE
    assert templates == templates_of(stage)


def templates_of(stage):
    """Return the templates whose names stand in a stage's code."""
    code = (ROOT / f"stages/{stage}.py").read_text()
    found = (ROOT / "stages/reporting/templates").iterdir()
    return {str(path.relative_to(ROOT)) for path in found if f'"{path.name}"' in code}


@pytest.mark.parametrize("stage", STAGES)
def test_the_parameters_of_a_stage_are_what_it_reads(stage):
    tree = ast.parse((ROOT / f"stages/{stage}.py").read_text())
    read = {
        "schema" if node.attr == "schema_path" else node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "params"
    }
    declared = set(dvc_stages()[stage].get("params", []))
    assert read - NO_DEPENDENCY == declared - NO_DEPENDENCY
    assert stage == "plot" or not declared & NO_DEPENDENCY


def test_every_parameter_belongs_to_a_stage():
    declared = {name for stage in dvc_stages().values() for name in stage.get("params", [])}
    assert declared | NO_DEPENDENCY == set(yaml.safe_load((ROOT / "params.yaml").read_text()))


@pytest.mark.parametrize(
    ("stage", "heavy"),
    [
        ("preprocess", {"torch", "opacus", "matplotlib", "sklearn"}),
        ("evaluate", {"torch", "opacus", "dp_accounting", "matplotlib", "sklearn"}),
        ("plot", {"torch", "opacus", "dp_accounting", "sklearn"}),
    ],
)
def test_a_stage_does_not_import_what_it_does_not_need(stage, heavy):
    code = f"import sys, stages.{stage}; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert not heavy & set(printed.split())


def test_nothing_is_kept_between_runs():
    # DVC leaves stages with persisted outputs out of its run-cache, and the run-cache is what gives
    # an old release back instead of spending again.
    assert "persist" not in (ROOT / "dvc.yaml").read_text()
