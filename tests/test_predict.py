"""Predicting new rows, from Python and from the command line."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from sklearn.metrics import accuracy_score

from stages.errors import UserError
from stages.model.files import save_model
from stages.model.perceptron import CHUNK_ROWS, Architecture, predict_logits
from stages.predict import load
from stages.tabular import reader
from stages.tabular.encode import labels
from stages.tabular.reader import read_batches
from stages.tabular.schema import Schema
from stages.training.network import as_arrays, build_network
from tests.conftest import ROOT, reseal
from tests.tabular.conftest import SAMPLE, SAMPLE_SCHEMA, schema_of

PRIVACY = {"epsilon": 1.0, "delta": 1e-5}


def save_untrained(folder, schema):
    shape = Architecture(len(schema.feature_names), len(schema.class_names), [128, 64], "tanh")
    save_model(
        folder,
        as_arrays(build_network(shape)),
        features=schema.feature_names,
        classes=schema.class_names,
        schema_text=schema.to_json(),
        privacy=PRIVACY,
    )
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of the sample's schema, which need not have learned anything."""
    return save_untrained(tmp_path_factory.mktemp("model"), Schema.load(SAMPLE_SCHEMA))


@pytest.fixture(scope="module")
def classifier(model):
    return load(model)


@pytest.fixture(scope="module")
def patients():
    return arrow_csv.read_csv(SAMPLE).drop_columns(["charges"])


def predict(*arguments, stdin=None, expect=0):
    done = subprocess.run(
        [sys.executable, "-m", "stages.predict", *map(str, arguments)],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        check=False,
    )
    assert done.returncode == expect, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done.stderr.decode() if expect else done.stdout


def test_python_gives_scikit_learns_shape(classifier, patients):
    probabilities = classifier.predict_proba(patients)
    assert probabilities.shape == (1338, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert classifier.classes_.tolist() == ["charges ≤ 15000", "charges > 15000"]
    most = classifier.classes_[probabilities.argmax(axis=1)]
    assert classifier.predict(patients).tolist() == most.tolist()


LABELS: dict[str, tuple[dict[str, Any], Any]] = {
    "texts": ({"type": "string", "constraints": {"enum": ["low", "high", "mid"]}}, "low high mid"),
    "one of two texts": (
        {"type": "string", "constraints": {"enum": ["<=50K", ">50K"]}, "category": "<=50K"},
        "<=50K >50K",
    ),
    "0 and 1": ({"type": "integer"}, [0, 1]),
    "0.0 and 1.0": ({"type": "number"}, [0.0, 1.0]),
    "stages": ({"type": "integer", "constraints": {"enum": [1, 2, 4]}}, [1, 2, 4]),
    "truth values": ({"type": "boolean"}, [False, True]),
    "truth values as numbers": ({"type": "boolean"}, [0, 1]),
    "truth values as codes": (
        {"type": "boolean", "trueValues": ["2"], "falseValues": ["1"]},
        [1, 2],
    ),
    "truth values as texts": (
        {"type": "boolean", "trueValues": ["yes"], "falseValues": ["no"]},
        "no yes",
    ),
}
NUMBER = {"name": "x", "type": "number", "constraints": {"minimum": -1, "maximum": 1}}


@pytest.mark.parametrize("label", LABELS)
def test_scikit_learns_accuracy_of_the_predictions_is_the_accuracy(tmp_path, label):
    declared, values = LABELS[label]
    values = values.split() if isinstance(values, str) else values
    schema = schema_of(tmp_path, NUMBER, {"name": "y", "role": "label", **declared})
    classifier = load(save_untrained(tmp_path / "model", schema))
    source = np.random.default_rng(0)
    frame = pd.DataFrame({"x": source.uniform(-1, 1, 300), "y": source.choice(values, 300)})
    predicted = classifier.predict(frame)
    right = classifier.predict_proba(frame).argmax(axis=1) == np.concatenate(
        [labels(batch, schema) for batch in read_batches(pa.table(frame), schema)]
    )
    assert 0 < accuracy_score(frame["y"], predicted) == right.mean() < 1
    assert set(predicted.tolist()) <= set(frame["y"].tolist())
    np.testing.assert_array_equal(classifier.true_classes(frame), frame["y"])
    assert classifier.predict_frame(frame)["label"].tolist() == predicted.tolist()


@pytest.mark.parametrize(
    ("declared", "names"),
    [
        ({"threshold": 0}, ["y ≤ 0", "y > 0"]),
        ({"thresholds": [-0.5, 0.5]}, ["y ≤ -0.5", "-0.5 < y ≤ 0.5", "y > 0.5"]),
        ({"thresholds": [-0.5, 0.5], "bands": ["low", "mid", "high"]}, ["low", "mid", "high"]),
    ],
)
def test_bands_are_predicted_by_name_and_the_true_ones_are_at_hand(tmp_path, declared, names):
    schema = schema_of(
        tmp_path, NUMBER, {"name": "y", "type": "number", "role": "label", **declared}
    )
    classifier = load(save_untrained(tmp_path / "model", schema))
    source = np.random.default_rng(0)
    frame = pd.DataFrame({name: source.uniform(-1, 1, 300) for name in "xy"})
    true, predicted = classifier.true_classes(frame), classifier.predict(frame)
    assert classifier.classes_.tolist() == names
    assert set(true) == set(names) >= set(predicted)
    assert 0 < accuracy_score(true, predicted) == (true == predicted).mean() < 1


def test_columns_of_python_objects_will_do(classifier, patients):
    frame = {name: patients.column(name).to_pylist() for name in patients.column_names}
    np.testing.assert_array_equal(
        classifier.predict_proba(frame), classifier.predict_proba(patients)
    )


def test_a_pandas_frame_gives_what_its_columns_give(classifier, patients):
    frame = patients.to_pandas()
    frame.index = frame.index[::-1] * 10
    expected = classifier.predict_proba(patients)
    np.testing.assert_array_equal(classifier.predict_proba(frame), expected)
    assert classifier.predict(frame).tolist() == classifier.predict(patients).tolist()


def test_predictions_come_as_a_frame_that_keeps_the_index(classifier, patients):
    frame = patients.to_pandas().set_index(pd.RangeIndex(13380, 0, -10, name="bed"))
    predicted = classifier.predict_frame(frame)
    pd.testing.assert_index_equal(predicted.index, frame.index)
    assert predicted.columns.tolist() == ["label", "probability", *classifier.classes_]
    np.testing.assert_array_equal(
        predicted[classifier.classes_.tolist()], classifier.predict_proba(patients)
    )
    assert predicted["label"].tolist() == classifier.predict(patients).tolist()
    pd.testing.assert_frame_equal(
        classifier.predict_frame(patients), predicted.reset_index(drop=True)
    )


def test_ids_are_in_the_frame_too(tmp_path):
    age = {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 9}}
    schema = schema_of(tmp_path, {"name": "who", "type": "string", "role": "id"}, age)
    classifier = load(save_untrained(tmp_path / "model", schema))
    rows = pd.DataFrame({"who": ["x", "x"], "age": [1, 2]}, index=["first", "second"])
    assert classifier.predict_frame(rows)["who"].to_dict() == {"first": "x", "second": "x"}


@pytest.mark.parametrize(
    "columns", [{"age": [1, "x"]}, {"age": [1], "sex": ["male", "male"]}], ids=["types", "lengths"]
)
def test_columns_that_are_no_table_are_refused(classifier, columns):
    with pytest.raises(UserError, match="the table: expected columns of one type each"):
        classifier.predict_proba(columns)


def test_the_command_needs_no_pandas():
    code = "import sys, stages.predict; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"False\n"


def test_the_command_prints_what_python_gives(model, classifier, patients, tmp_path):
    csv, out = tmp_path / "patients.csv", tmp_path / "out.parquet"
    arrow_csv.write_csv(patients, csv)
    printed = predict("--model", model, csv)
    assert predict("--model", model, "-", stdin=csv.read_bytes()) == printed
    predict("--model", model, csv, "--output", out)
    table = arrow_csv.read_csv(io.BytesIO(printed))
    assert parquet.read_table(out).equals(table)
    assert table.column_names == ["label", "probability", *classifier.classes_]
    expected = classifier.predict_proba(patients)
    np.testing.assert_array_equal(table.column("charges > 15000"), expected[:, 1])
    np.testing.assert_array_equal(table.column("probability"), expected.max(axis=1))
    assert table.column("label").to_pylist() == classifier.predict(patients).tolist()


def test_a_threshold_decides_who_is_called_the_second_class(model, classifier, patients):
    probabilities = classifier.predict_proba(patients)[:, 1]
    threshold = float(np.quantile(probabilities, 0.8))
    printed = predict("--model", model, "--threshold", threshold, SAMPLE)
    rows = pd.read_csv(io.BytesIO(printed))
    called = rows["label"] == classifier.classes_[1]
    assert np.array_equal(called, probabilities > threshold)
    assert 0 < called.sum() < len(called)
    # The probability is that of the label, which need no longer be the most probable one.
    expected = np.where(called, probabilities, 1 - probabilities)
    np.testing.assert_allclose(rows["probability"], expected)
    # At a half it is what it is without.
    assert predict("--model", model, "--threshold", 0.5, SAMPLE) == predict(
        "--model", model, SAMPLE
    )


@pytest.mark.parametrize("threshold", [-0.1, 1.5, "nan"])
def test_a_threshold_that_is_no_probability_is_refused(model, threshold):
    message = predict("--model", model, f"--threshold={threshold}", SAMPLE, expect=1)
    assert "expected a probability from 0 to 1" in message
    assert "Traceback" not in message


def test_a_threshold_is_refused_where_it_would_mean_nothing(tmp_path):
    schema = schema_of(
        tmp_path,
        {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 9}},
        {
            "name": "stage",
            "type": "string",
            "role": "label",
            "constraints": {"enum": ["mild", "severe", "critical"]},
        },
    )
    (tmp_path / "rows.csv").write_text("age\n3\n")
    folder = save_untrained(tmp_path / "model", schema)
    message = predict("--model", folder, "--threshold=0.2", tmp_path / "rows.csv", expect=1)
    assert "goes with two classes, and this model tells 3 apart" in message


def test_a_label_in_the_file_is_not_read(model, tmp_path):
    with_labels = predict("--model", model, SAMPLE)
    other = tmp_path / "other.csv"
    header, *rows = SAMPLE.read_text().splitlines()
    unlabelled = [row.rpartition(",")[0] + ",unknown" for row in rows]
    other.write_text("\n".join([header, *unlabelled]))
    assert predict("--model", model, other) == with_labels


def test_ids_travel_along_and_may_repeat_or_be_absent(tmp_path):
    age = {"name": "age", "type": "integer", "constraints": {"minimum": 0, "maximum": 9}}
    schema = schema_of(tmp_path, {"name": "who", "type": "string", "role": "id"}, age)
    folder = save_untrained(tmp_path / "model", schema)
    table = tmp_path / "new.csv"
    table.write_text("who,age\nx,1\nx,2\n")
    printed = arrow_csv.read_csv(io.BytesIO(predict("--model", folder, table)))
    assert printed.column("who").to_pylist() == ["x", "x"]
    table.write_text("age\n1\n")
    assert b"who" not in predict("--model", folder, table)


FAULTS = {
    "unknown category": (b"19,female,27.9,0,perhaps,southwest\n", "expected one of `no`, `yes`"),
    "too few cells": (b"19,female\n", "Expected 6 columns, got 2"),
    "no rows": (b"", "there are no rows"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_rows_are_refused_as_in_training(model, fault):
    row, says = FAULTS[fault]
    header = b"age,sex,bmi,children,smoker,region\n"
    assert says in predict("--model", model, "-", stdin=header + row, expect=1)


def test_a_missing_feature_is_refused(classifier, patients):
    with pytest.raises(UserError, match="column `bmi` is missing"):
        classifier.predict_proba(patients.drop_columns(["bmi"]))


def test_a_failed_prediction_leaves_no_file(model, tmp_path):
    out = tmp_path / "out.csv"
    predict("--model", model, "-", "--output", out, stdin=b"age\n1\n", expect=1)
    assert list(tmp_path.iterdir()) == []


def test_a_table_is_not_replaced_by_its_predictions_nor_a_folder(model, tmp_path):
    table = tmp_path / "patients.csv"
    shutil.copy(SAMPLE, table)
    (tmp_path / "link.csv").symlink_to(table)
    for output in (table, tmp_path / "link.csv"):
        told = predict("--model", model, table, "--output", output, expect=1)
        assert f"--output {output}: that is the table itself" in told
    assert "it is a folder" in predict("--model", model, table, "--output", tmp_path, expect=1)
    assert table.read_bytes() == Path(SAMPLE).read_bytes()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2 * CHUNK_ROWS + 7), st.integers(0, 2**32 - 1))
def test_a_rows_logits_depend_on_no_other_row(classifier, rows, seed):
    source = np.random.default_rng(seed)
    features = source.uniform(-1, 1, (rows, 9)).astype(np.float32)
    together = np.concatenate(list(predict_logits(classifier.model, features)))
    order = source.permutation(rows)
    shuffled = np.concatenate(list(predict_logits(classifier.model, features[order])))
    assert shuffled.tobytes() == together[order].tobytes()
    one = int(source.integers(rows))
    (alone,) = predict_logits(classifier.model, features[one : one + 1])
    assert alone.tobytes() == together[one].tobytes()


def test_products_of_other_sizes_would_fail_the_test_above(classifier):
    features = np.random.default_rng(0).uniform(-1, 1, (1000, 9)).astype(np.float32)
    _, together = classifier.model.forward(features)
    alone = [classifier.model.forward(features[row : row + 1])[1][0] for row in range(1000)]
    assert np.array(alone).tobytes() != together.tobytes()


# --- rows that cannot be read ---------------------------------------------------------------


def test_a_frames_bad_rows_are_named_by_kind_and_not_to_be_mended_in_the_schema(
    classifier, patients
):
    frame = patients.to_pandas()
    frame["age"] = frame["age"].astype(object)
    frame["age"] = frame["age"].astype(str)
    frame.loc[3, "age"], frame.loc[7, "sex"], frame.loc[9, "bmi"] = "old", None, np.inf
    with pytest.raises(UserError) as caught:
        classifier.predict_proba(frame)
    message = str(caught.value)
    for words in (
        "column `age`: expected a whole number, but found\n  row 3: 'old'\n",
        "column `sex`: expected one of `female`, `male`, but found\n  row 7: nothing\n",
        "column `bmi`: expected a number, but found\n  row 9: 'inf'\n",
    ):
        assert words in message
    assert "schema" not in message
    assert "line" not in message
    with pytest.raises(UserError) as caught:
        classifier.predict_proba(frame.assign(name="Ann"))
    assert str(caught.value).endswith(
        "column 'name' is not in the schema\nRename, add or remove columns."
    )


BAD_ROWS = {
    "an unknown text": (
        b"19,female,27.9,0,perhaps,southwest",
        "`smoker` is 'perhaps'. Correct the",
    ),
    "no number": (b"old,female,27.9,0,no,southwest", "`age` is 'old'. Write numbers with"),
    "two faults": (b"old,x,27.9,0,no,southwest", "`sex` is 'x'. Correct the cells."),
    "nothing": (b"19,female,,0,no,southwest", "`bmi` is ''. Missing values are not accepted here"),
    "short": (b"19,female", "The row has 2 cells instead of 6."),
    "long": (b"19,female,27.9,0,no,southwest,more", "The row has 7 cells instead of 6."),
}


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_rows_that_cannot_be_read_are_skipped_with_the_reason(model, tmp_path, place):
    header, *rows = SAMPLE.read_bytes().splitlines()
    rows = [row.rpartition(b",")[0] for row in rows]
    header = header.rpartition(b",")[0]
    at = {"first": 0, "middle": 600, "last": len(rows)}[place]
    bad = [row for row, _ in BAD_ROWS.values()]
    expected = predict("--model", model, "-", stdin=b"\n".join([header, *rows]))
    path, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    path.write_bytes(b"\n".join([header, *rows[:at], *bad, *rows[at:]]))
    told = predict("--model", model, path, "--on-error", "skip", "--output", out, expect=3)
    assert told == (
        "6 of 1344 rows could not be read and have no answer; why not, their column `error` says.\n"
    )
    header, *lines = out.read_text().splitlines()
    assert header.endswith(',"error"')
    found = list(csv.reader(lines))
    for row, (_, says) in zip(found[at : at + len(bad)], BAD_ROWS.values(), strict=True):
        assert row[:-1] == [""] * 4
        assert says in row[-1]
        assert "schema" not in row[-1]
    answered = [line.removesuffix(",") for line in [*lines[:at], *lines[at + len(bad) :]]]
    assert answered == expected.decode().splitlines()[1:]
    # Without the word it is refused, and names each kind of fault.
    message = predict("--model", model, path, expect=1)
    assert "Expected 6 columns" in message


@pytest.mark.parametrize("block", [700, 5000, 1 << 20])
def test_each_row_has_one_answer_or_reason_whatever_the_blocks(
    classifier, tmp_path, monkeypatch, block
):
    monkeypatch.setattr(reader, "_BLOCK_BYTES", block)
    header, *rows = SAMPLE.read_text().splitlines()
    source = np.random.default_rng(0)
    spoilt: list[str] = []
    bad: dict[int, str] = {}
    for row in rows:
        if source.random() < 0.1:
            bad[len(spoilt)] = "The row has 2 cells instead of 7."
            spoilt.append("1,2")
        if source.random() < 0.05:
            bad[len(spoilt)] = "`age` is 'old'. Write numbers"
            spoilt.append("old" + row[2:])
        spoilt.append(row)
    path = tmp_path / "rows.csv"
    path.write_text("\n".join([header, *spoilt, "1,2"]))
    bad[len(spoilt)] = "The row has 2 cells instead of 7."
    found = pa.concat_tables(classifier.tables(path, on_error="skip")).to_pandas()
    assert len(found) == len(spoilt) + 1
    assert np.flatnonzero(found["error"].notna()).tolist() == [*bad]
    assert all(found["error"][place].startswith(why) for place, why in bad.items())
    expected = np.concatenate([scored for _, scored in classifier.stream(SAMPLE)])
    answered = found[found["error"].isna()][classifier.classes_]
    assert answered.to_numpy().tobytes() == expected.tobytes()


def test_a_file_without_bad_rows_ends_well(model):
    printed = predict("--model", model, SAMPLE, "--on-error", "skip")
    assert printed.splitlines()[0].endswith(b',"error"')


def test_of_100_000_rows_the_others_are_scored_to_the_bit(classifier, patients, tmp_path):
    frame = pa.concat_tables([patients] * 75).slice(0, 100_000).to_pandas().astype(str)
    bad = np.random.default_rng(0).choice(len(frame), 1000, replace=False)
    spoilt = frame.copy()
    spoilt.iloc[bad[:500], 0] = "old"
    spoilt.iloc[bad[400:], 4] = "perhaps"
    path = tmp_path / "rows.csv"
    spoilt.to_csv(path, index=False)
    found = pa.concat_tables(classifier.tables(path, on_error="skip")).to_pandas()
    assert np.flatnonzero(found["label"].isna()).tolist() == sorted(bad)
    assert np.flatnonzero(found["error"].notna()).tolist() == sorted(bad)
    good = np.setdiff1d(np.arange(100_000), bad)
    expected = classifier.predict_proba(frame.iloc[good])
    assert found[classifier.classes_].to_numpy()[good].tobytes() == expected.tobytes()


def test_python_skips_rows_too(classifier, patients):
    frame = patients.to_pandas().astype(str)
    frame.index = frame.index + 5
    frame.loc[7, "age"] = "old"
    found = classifier.predict_frame(frame, on_error="skip")
    assert found.index[found["label"].isna()].tolist() == [7]
    assert found.loc[7, "error"].startswith("`age` is 'old'. Write numbers")


# --- the model's files ----------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    return save_untrained(tmp_path / "copy", Schema.load(SAMPLE_SCHEMA))


FILES = ("model.json", "schema.json", "weights.safetensors", "sha256sums")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_noticed_anywhere(copy, name):
    path = copy / name
    whole = path.read_bytes()
    source = np.random.default_rng(0)
    for place in {0, len(whole) - 1, *source.integers(0, len(whole), 40).tolist()}:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(source.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="not those that training wrote"):
            load(copy)
    path.write_bytes(whole)
    load(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed(copy, name):
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"there is no {name}"):
        load(copy)


def test_a_foreign_file_is_noticed(copy):
    (copy / "weights.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match=r"found weights\.pkl"):
        load(copy)


def test_a_pickle_is_refused_and_never_run(copy, tmp_path):
    import pickle

    class Payload:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    (copy / "weights.safetensors").write_bytes(pickle.dumps(Payload()))
    reseal(copy)
    with pytest.raises(UserError, match="expected weights in the safetensors format"):
        load(copy)
    assert not (tmp_path / "ran").exists()


TAMPERED = {
    "foreign tensor": lambda t: t | {"more": np.zeros(1, np.float32)},
    "missing tensor": lambda t: {name: t[name] for name in list(t)[1:]},
    "wrong shape": lambda t: t | {"layer0.bias": np.zeros(127, np.float32)},
    "turned round": lambda t: t | {"layer0.weight": np.zeros((9, 128), np.float32)},
    "double precision": lambda t: t | {"layer0.bias": np.zeros(128, np.float64)},
    "not a number": lambda t: t | {"layer0.bias": np.full(128, np.nan, np.float32)},
}


@pytest.mark.parametrize("how", TAMPERED)
def test_other_tensors_than_the_networks_are_refused(copy, how):
    from safetensors.numpy import load_file, save_file

    path = copy / "weights.safetensors"
    save_file(TAMPERED[how](load_file(path)), path)
    reseal(copy)
    with pytest.raises(UserError, match=r"expected finite float32 numbers in tensors"):
        load(copy)


def as_json(change):
    def changed(path):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return changed


def swap_first_two(schema):
    schema["fields"][0], schema["fields"][2] = schema["fields"][2], schema["fields"][0]


DESCRIPTIONS = {
    "unknown activation": ("model.json", as_json(lambda m: m.update(activation="exec"))),
    "no activation": ("model.json", as_json(lambda m: m.pop("activation"))),
    "no layers": ("model.json", as_json(lambda m: m.pop("hidden_sizes"))),
    "layers of text": ("model.json", as_json(lambda m: m.update(hidden_sizes=["128", 64]))),
    "a list": ("model.json", lambda path: path.write_text("[]")),
    "no JSON": ("model.json", lambda path: path.write_text("{")),
    "no UTF-8": ("model.json", lambda path: path.write_bytes(b"\xff")),
    "a deep hole": ("model.json", lambda path: path.write_text("[" * 100_000)),
    "a deep schema": ("schema.json", lambda path: path.write_text("[" * 100_000)),
    "columns swapped": ("schema.json", as_json(swap_first_two)),
    "a column ignored": ("schema.json", as_json(lambda s: s["fields"].pop(0))),
    "another label": ("schema.json", as_json(lambda s: s["fields"][-1].update(threshold=1))),
}


@pytest.mark.parametrize("what", DESCRIPTIONS)
def test_a_description_that_does_not_fit_is_refused_in_a_message(copy, what):
    name, change = DESCRIPTIONS[what]
    change(copy / name)
    reseal(copy)
    with pytest.raises(UserError, match=r"expected|not of one model"):
        load(copy)


def test_a_folder_in_the_place_of_a_file_is_refused(copy):
    (copy / "model.json").unlink()
    (copy / "model.json").mkdir()
    with pytest.raises(UserError, match=r"there is no model\.json"):
        load(copy)


def test_weights_that_overflow_answer_nothing(copy, patients):
    from safetensors.numpy import load_file, save_file

    path = copy / "weights.safetensors"
    save_file({name: np.full_like(t, 3e38) for name, t in load_file(path).items()}, path)
    reseal(copy)
    with pytest.raises(UserError, match="no numbers"), np.errstate(all="ignore"):
        load(copy).predict_proba(patients)


def test_no_model_is_refused_in_a_message(tmp_path):
    with pytest.raises(UserError, match="Make one with: dvc repro"):
        load(tmp_path / "nothing")
