"""The stage as a whole, run as DVC runs it."""

import csv
import os
import pty
import subprocess
import sys
import termios

import numpy as np
import pytest

from stages import preprocess
from stages.errors import UserError
from stages.params import load_params
from stages.tabular.people import read_people
from stages.tabular.prepared import Prepared
from stages.tabular.schema import Schema
from tests.tabular.conftest import (
    HEADER,
    SAMPLE,
    SAMPLE_SCHEMA,
    change_schema,
    refusal,
    write_table,
)

FILES = [
    "about.json",
    "schema.json",
    "source.json",
    "test_features.npy",
    "test_groups.npy",
    "test_labels.npy",
    "train_features.npy",
    "train_labels.npy",
]


def prepared(project):
    assert project.stage("preprocess") == "", "no progress bar outside a terminal"
    folder = project.folder / "data/prepared"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_output_is_the_same_bytes_each_time(project):
    first = prepared(project)
    assert sorted(first) == FILES
    assert prepared(project) == first


@pytest.mark.parametrize(
    "edit", [lambda text: f"{text}{text.splitlines()[1]}\n", str.upper], ids=["longer", "as long"]
)
def test_a_table_that_is_written_while_it_is_read_is_refused(project, monkeypatch, edit):
    # Its hash would be that of other rows, by which the ledger knows whose they are.
    table = project.folder / load_params(project.folder / "params.yaml").data

    def written_meanwhile(*arguments):
        batches = list(read_people(*arguments))
        table.write_text(edit(table.read_text()))
        yield from batches
        if edit is not str.upper:
            raise ValueError("as where the rows are more than they were")

    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(preprocess, "read_people", written_meanwhile)
    with pytest.raises(UserError, match="changed while it was read"):
        preprocess.main()
    assert not (project.folder / "data/prepared/source.json").exists()


def sides_of(project):
    table = Prepared.open(project.folder / "data/prepared")
    return {"train": table.train, "test": table.test}


def encoded_by_hand(age, sex, bmi, children, smoker, region, charges):
    return [
        (float(age) - 18) / 46 * 2 - 1,
        (sex == "male") * 2 - 1,
        (float(bmi) - 10) / 50 * 2 - 1,
        float(children) / 5 * 2 - 1,
        (smoker == "yes") * 2 - 1,
        *(region == r for r in ("northeast", "northwest", "southeast", "southwest")),
        float(charges) > 15000,
    ]


def test_output_holds_every_row_once(project):
    prepared(project)
    with SAMPLE.open(newline="") as file:
        expected = np.array([encoded_by_hand(**row) for row in csv.DictReader(file)], np.float32)
    sides = sides_of(project).values()
    found = np.vstack([np.column_stack(side[:2]) for side in sides]).astype(np.float32)

    def in_order(rows):
        rounded = np.round(rows.astype(np.float64), 5)
        return rounded[np.lexsort(rounded.T)]

    np.testing.assert_allclose(in_order(found), in_order(expected), atol=2e-5)
    assert Schema.load(project.folder / "data/prepared/schema.json") == Schema.load(SAMPLE_SCHEMA)


def test_it_describes_itself(project):
    change_schema(project, lambda fields: None, report_by=["region", "sex"])
    prepared(project)
    table = Prepared.open(project.folder / "data/prepared")
    regions = ("northeast", "northwest", "southeast", "southwest")
    assert table.groups == {"region": regions, "sex": ("female", "male")}
    assert table.classes == ("charges ≤ 15000", "charges > 15000")
    assert table.unit == "row"
    assert table.source.data == "data/sample_medical_data.csv"
    # The codes are those of the encoded columns: four of the region, ±1 of the sex.
    features, groups = table.test.features, table.test_groups
    start = table.features.index("region=northeast")
    np.testing.assert_array_equal(groups[:, 0], features[:, start : start + 4].argmax(axis=1))
    np.testing.assert_array_equal(groups[:, 1], features[:, table.features.index("sex=male")] > 0)


def test_rows_keep_their_side_and_order_when_one_is_removed(project):
    prepared(project)
    before = {side: np.column_stack(arrays[:2]) for side, arrays in sides_of(project).items()}
    lines = SAMPLE.read_text().splitlines()
    del lines[100]
    write_table(project, "\n".join(lines))
    prepared(project)
    after = {side: np.column_stack(arrays[:2]) for side, arrays in sides_of(project).items()}
    (shorter,) = [side for side in before if len(after[side]) < len(before[side])]
    (same,) = [side for side in before if side != shorter]
    np.testing.assert_array_equal(after[same], before[same])
    assert len(after[shorter]) == len(before[shorter]) - 1
    gone = int(np.flatnonzero((after[shorter] != before[shorter][:-1]).any(axis=1))[0])
    np.testing.assert_array_equal(after[shorter], np.delete(before[shorter], gone, axis=0))


@pytest.mark.parametrize("threshold", [1e9, 0])
def test_whether_a_table_is_prepared_does_not_hang_on_the_last_row_of_a_class(project, threshold):
    # That it was refused, or was not, would tell of that row; `schema check` tells the owner.
    change_schema(project, lambda fields: fields["charges"].update(threshold=threshold))
    prepared(project)


@pytest.mark.parametrize(("fraction", "side"), [(1e-9, "test"), (1 - 1e-9, "train")])
def test_an_empty_side_is_refused(project, fraction, side):
    project.set(test_fraction=fraction)
    message = refusal(project)
    assert f"no row falls on the {side} side" in message
    assert "`test_fraction`" in message


def test_earlier_output_survives_a_refusal(project):
    before = prepared(project)
    write_table(project, f"{HEADER}\n1,2\n")
    refusal(project)
    folder = project.folder / "data/prepared"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_progress_is_shown_on_a_terminal(project):
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    command = [sys.executable, "-m", "stages.preprocess"]
    subprocess.run(command, cwd=project.folder, stderr=terminal, check=True)
    os.set_blocking(screen, False)
    shown = os.read(screen, 10_000).decode()
    os.close(terminal)
    os.close(screen)
    assert "rows/s" in shown


def test_start_up_stays_light():
    heavy = "{'torch', 'opacus', 'pandas', 'sklearn', 'scipy'}"
    code = f"import sys, stages.preprocess; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
