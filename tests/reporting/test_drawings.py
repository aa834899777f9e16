"""Pictures of classes with long names: all that is written has room, and so has what is drawn."""

import json
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from matplotlib.figure import Figure

from stages.model.classifier import load
from stages.reporting import drawings, effects
from stages.reporting.drawings import draw
from stages.reporting.figures import picture
from stages.reporting.run import Run
from stages.reporting.statement import load_statement
from stages.reporting.verify import parameters_of
from tests.conftest import ROOT, copy_project
from tests.reporting.conftest import run_all

SCHEMA = "data/sample_medical_data.schema.json"

# Of several classes with two bounds in each name.
FEW, MANY = [5_000, 15_000], [4_000, 8_000, 12_000, 20_000]

# Inches that are enough to see a curve in, or shades of several classes.
ENOUGH = 2.4

# By as many a letter may stick out of its line.
EDGE = 0.05


@pytest.fixture(scope="module", params=[FEW, MANY], ids=["few", "many"])
def run(request, tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("names") / "project")
    # At ε = 1 scores are counted.
    project.set(target_epsilon=1, epochs=2)
    schema = json.loads((ROOT / SCHEMA).read_text())
    label = schema["fields"][-1]
    del label["threshold"]
    label["thresholds"] = request.param
    (project.folder / SCHEMA).write_text(json.dumps(schema))
    folder = run_all(project)
    parameters = parameters_of(load_statement(folder / "plots/statement.yaml"))
    return Run.read(folder, load(folder / "models/classifier"), parameters)


def faults(run):
    """Yield what has no room in the drawings of a run."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        figures = draw(run)
    for warning in told:
        yield "all", str(warning.message)
    for name, each in figures.items():
        for figure in each:
            yield from ((name, fault) for fault in faults_of(figure))


def faults_of(figure: Figure):
    (axes,) = figure.axes
    wide, high = figure.get_size_inches()
    inner = axes.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    if min(inner.width, inner.height) < ENOUGH:
        yield f"{inner.width:.1f} by {inner.height:.1f} inches are left"
    drawn = figure.get_tightbbox()
    if min(drawn.x0, drawn.y0, wide - drawn.x1, high - drawn.y1) < -EDGE:
        yield f"{drawn} is drawn on {wide} by {high}"


def test_names_have_room_and_leave_enough(run):
    assert [*faults(run)] == []


def test_names_have_room_whichever_pair_is_drawn(run):
    pair, single = run.classifier.learned.pair, run.classifier.learned.single
    (upwards,) = (effect for effect in single if effect.feature.name == "region")
    # Of the classes that move most the first is told of, whose name has two bounds then.
    for across in single:
        features, cells = (across.feature, upwards.feature), (across.cells, upwards.cells)
        mean = np.zeros((*map(len, cells), len(run.classes)))
        mean[0, 0, 1:] = 1
        drawn = replace(pair, features=features, cells=cells, mean=mean)
        assert [*faults_of(picture(partial(effects._pair, drawn, run)))] == []


@pytest.mark.parametrize(
    ("module", "name"), [(drawings, "_least_width"), (effects, "_legend_lines")]
)
def test_drawings_that_do_not_grow_with_the_names_would_be_seen(run, monkeypatch, module, name):
    monkeypatch.setattr(module, name, lambda *_: 1)
    assert [*faults(run)]
