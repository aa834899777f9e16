"""The prepared arrays on disk."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import UserError
from stages.files import write_json
from stages.tabular.encode import about
from stages.tabular.prepared import SIDES, Prepared, prepared_writer
from stages.tabular.schema import Schema
from tests.tabular.conftest import SAMPLE_SCHEMA

SCHEMA = Schema.load(SAMPLE_SCHEMA)
WIDTH = len(SCHEMA.feature_names)
ABOUT = replace(about(SCHEMA), groups={"sex": ("female", "male")})
SOURCE = {"data": "a.csv", "fingerprint": "0f", "split": "0.2 by seed 0"}


def some_rows(count, seed=0):
    source = np.random.default_rng(seed)
    features = source.uniform(-1, 1, (count, WIDTH)).astype(np.float32)
    return features, source.integers(0, 2, count)


def write(folder, sides, cuts=()):
    """Write a prepared table, whose groups are its labels."""
    folder.mkdir(exist_ok=True)
    with prepared_writer(folder, ABOUT, SCHEMA.to_json()) as append:
        for side, (features, labels) in sides.items():
            pieces = zip(np.split(features, cuts), np.split(labels, cuts), strict=True)
            for some_features, some_labels in pieces:
                append(
                    side,
                    some_features,
                    some_labels,
                    some_labels[:, np.newaxis],
                    some_labels.astype(np.uint64),
                )
    write_json(folder / "source.json", SOURCE)


def sides_of(folder):
    prepared = Prepared.open(folder)
    return {"train": prepared.train, "test": prepared.test}


def test_what_is_written_is_read(tmp_path):
    sides = {"train": some_rows(100), "test": some_rows(30, seed=1)}
    write(tmp_path / "prepared", sides)
    for side in SIDES:
        features, labels, _ = sides_of(tmp_path / "prepared")[side]
        np.testing.assert_array_equal(features, sides[side][0], strict=True)
        np.testing.assert_array_equal(labels, sides[side][1], strict=True)
    prepared = Prepared.open(tmp_path / "prepared")
    assert prepared.schema_text == SCHEMA.to_json()
    assert asdict(prepared.source) == SOURCE
    assert {key: getattr(prepared, key) for key in asdict(ABOUT)} == asdict(ABOUT)


def test_the_groups_of_the_test_side_alone_are_kept(tmp_path):
    test = some_rows(30, seed=1)
    write(tmp_path / "prepared", {"train": some_rows(100), "test": test}, cuts=[7])
    groups = Prepared.open(tmp_path / "prepared").test_groups
    np.testing.assert_array_equal(groups, test[1][:, np.newaxis], strict=True)
    assert not (tmp_path / "prepared/train_groups.npy").exists()


def test_arrays_are_mapped_and_read_only(tmp_path):
    write(tmp_path / "prepared", {"train": some_rows(10)})
    for array in Prepared.open(tmp_path / "prepared").train[:2]:
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_files_are_plain_npy(tmp_path):
    features, labels = some_rows(10)
    write(tmp_path / "prepared", {"train": (features, labels)})
    for name, array in (("features", features), ("labels", labels)):
        np.save(tmp_path / "plain.npy", array)
        written = (tmp_path / f"prepared/train_{name}.npy").read_bytes()
        assert written == (tmp_path / "plain.npy").read_bytes()


@given(st.lists(st.integers(0, 1000), max_size=8).map(sorted))
def test_bytes_do_not_depend_on_the_batches(tmp_path_factory, cuts):
    folder = tmp_path_factory.mktemp("store")
    sides = {"train": some_rows(1000), "test": some_rows(1000, seed=1)}
    write(folder / "whole", sides)
    write(folder / "pieces", sides, cuts)
    for path in (folder / "whole").iterdir():
        assert path.read_bytes() == (folder / "pieces" / path.name).read_bytes()


def test_a_side_without_rows_is_readable(tmp_path):
    write(tmp_path / "prepared", {})
    features, labels, _ = Prepared.open(tmp_path / "prepared").test
    assert features.shape == (0, WIDTH)
    assert labels.shape == (0,)


@pytest.mark.parametrize(
    ("features", "says"),
    [
        (np.zeros((5, WIDTH + 1), np.float32), rf"expected rows of \({WIDTH},\) <f4"),
        (np.zeros((5, WIDTH), np.float64), "got .* float64"),
    ],
)
def test_rows_of_another_shape_or_type_are_refused(tmp_path, features, says):
    classes = np.zeros(5, np.int64)
    with (
        pytest.raises(ValueError, match=says),
        prepared_writer(tmp_path, ABOUT, SCHEMA.to_json()) as append,
    ):
        append("train", features, classes, classes[:, np.newaxis], classes.astype(np.uint64))


def test_a_folder_that_is_not_prepared_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no such file.*dvc repro"):
        Prepared.open(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["about.json", "train_labels.npy"])
def test_a_folder_that_an_older_version_wrote_is_refused(tmp_path, name):
    write(tmp_path, {"train": some_rows(10)})
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: no such file.*newer version.*dvc repro"):
        _ = Prepared.open(tmp_path).train
