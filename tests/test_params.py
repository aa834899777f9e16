"""params.yaml: what it may say, and what a user reads who said something else."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from stages.errors import UserError
from stages.params import Params, load_params, sweep

FILE = Path(__file__).parent.parent / "params.yaml"


@pytest.fixture
def load(tmp_path):
    """Return a function that loads the repository's own parameters with some of them changed."""

    def load_with(_without=(), **changes):
        content = yaml.safe_load(FILE.read_text("utf-8")) | changes
        for name in _without:
            del content[name]
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content), "utf-8")
        return load_params(path)

    return load_with


@pytest.fixture
def refusal(load):
    """Return a function that loads changed parameters and returns the message that refuses them."""

    def load_and_fail(_without=(), **changes):
        with pytest.raises(UserError) as refused:
            load(_without, **changes)
        return str(refused.value)

    return load_and_fail


def test_the_repositorys_own_parameters_are_valid():
    params = load_params(FILE)
    assert params.target_epsilon == 3.5
    assert params.schema_path == Path("data/sample_medical_data.schema.json")
    assert params.simulation_seed is None


def uncommented(text):
    """Return the parameters that have no comment on the line above."""
    lines = text.splitlines()
    return [
        line.split(":")[0]
        for above, line in zip(["", *lines], lines, strict=False)
        if line.strip() and not line.startswith(("#", " ", "-")) and not above.startswith("# ")
    ]


def test_every_parameter_has_a_comment_above_it():
    text = FILE.read_text("utf-8")
    assert uncommented(text) == []
    # The check reads lines, so it has to see every parameter as one.
    lines = [line.split(":")[0] for line in text.splitlines() if line and line[0] not in "# -"]
    assert sorted(lines) == sorted(field.alias or name for name, field in fields())
    assert uncommented("# what it is\none: 1\ntwo: 2\n\nthree: 3\n") == ["two", "three"]


def fields():
    return Params.model_fields.items()


def test_parameters_have_no_defaults():
    assert all(field.is_required() for _, field in fields())


@pytest.mark.parametrize("name", ["target_epsilon", "init_seed"])
def test_parameters_cannot_be_changed(name):
    with pytest.raises(ValidationError, match="frozen"):
        setattr(load_params(FILE), name, 100)


def test_numbers_may_be_text_as_dvc_writes_them(load):
    # `dvc exp run -S target_delta=1e-6` writes 1e-06, which YAML 1.1 reads as text.
    assert yaml.safe_load("1e-06") == "1e-06"
    assert load(target_delta="1e-06").target_delta == 1e-6
    assert load(batch_size="64").batch_size == 64


def test_whole_numbers_may_stand_for_real_ones(load):
    params = load(target_epsilon=1, epochs=20, batch_size=64.0)
    assert (params.target_epsilon, params.epochs, params.batch_size) == (1.0, 20.0, 64)


@pytest.mark.parametrize(
    "name",
    ["train_size", "evaluation_epsilon", "privacy_budget", "tuning_trial", "simulation_seed"],
)
@pytest.mark.parametrize("empty", [None, ""])  # the latter is what `dvc exp run -S name=` leaves
def test_some_parameters_may_be_empty(load, name, empty):
    assert getattr(load(**{name: empty, "target_delta": 1e-5}), name) is None


def test_delta_follows_the_declared_size():
    # A tenth of 1 / rows, and 1e-5 at most.
    for rows, delta in ((100, 1e-5), (1070, 1e-5), (10_000, 1e-5), (10**6, 1e-7), (10**7, 1e-8)):
        for spelt in (rows, float(rows), str(rows)):  # as DVC may write a number
            params = load_params(overrides={"train_size": spelt})
            assert params.target_delta == pytest.approx(delta)
    assert load_params(overrides={"target_delta": 2e-6}).target_delta == 2e-6
    with pytest.raises(UserError, match="needs a declared `train_size`"):
        load_params(overrides={"train_size": None})


REFUSED = [
    ("test_fraction", 1.0, "less than 1"),
    ("test_fraction", 0, "greater than 0"),
    ("split_seed", -1, "greater than or equal to 0"),
    ("train_size", 0, "greater than or equal to 1"),
    ("target_epsilon", 0, "greater than 0"),
    ("target_epsilon", 101, "less than or equal to 100"),
    ("target_epsilon", float("inf"), "a finite number"),
    ("target_epsilon", float("nan"), "a finite number"),
    ("target_epsilon", "low", "a valid number"),
    ("target_delta", 1, "less than 1"),
    ("evaluation_epsilon", -1, "greater than 0"),
    ("exact_metrics", "perhaps", "a valid boolean"),
    ("privacy_budget", 0, "greater than 0"),
    ("mode", "resume", "'new' or 'continue'"),
    ("hidden_sizes", 64, "a valid list"),
    ("hidden_sizes", [64, 0], "greater than or equal to 1"),
    ("activation", "gelu", "'relu' or 'tanh' or `auto`"),
    ("init_seed", 2**32, "less than 4294967296"),
    ("batch_size", 0.5, "a valid integer"),
    ("epochs", 0, "greater than 0"),
    ("epochs", None, "a value or `auto`"),
    ("learning_rate", -0.1, "greater than 0"),
    ("momentum", 1, "less than 1"),
    ("max_grad_norm", 0, "greater than 0"),
    ("metric_noise_ratio", 0, "greater than 0"),
    ("simulation_seed", "x", "a valid integer"),
]


@pytest.mark.parametrize(("name", "value", "expected"), REFUSED)
def test_a_bad_value_is_named_with_what_was_expected_and_seen(refusal, name, value, expected):
    message = refusal(**{name: value})
    assert f"params.yaml: `{name}` should be {expected}" in message
    seen = value[-1] if isinstance(value, list) else value
    assert f", but is {seen!r}. Change it and run again." in message


@pytest.mark.parametrize("name", ["batch_size", "epochs", "target_epsilon", "train_size"])
def test_a_boolean_is_no_number(refusal, name):
    # YAML reads `yes` and `on` as true, and Python takes true for 1.
    message = refusal(**{name: True})
    assert f"`{name}` should be a number" in message
    assert "but is True" in message


def test_every_bad_value_is_named_at_once(refusal):
    message = refusal(epochs=0, momentum=2)
    assert "`epochs`" in message
    assert "`momentum`" in message


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("epoch", "epochs"), ("target_epsilonn", "target_epsilon"), ("shema", "schema")],
)
def test_a_misspelt_name_gets_the_near_one(refusal, misspelt, meant):
    assert f"`{misspelt}` is not understood here: perhaps `{meant}` is meant" in refusal(
        **{misspelt: 1}
    )


def test_a_name_like_no_parameter_is_to_be_removed(refusal):
    assert "`zzz` is not understood here: remove it" in refusal(zzz=1)


def test_a_missing_parameter_is_named(refusal):
    message = refusal(("epochs",))
    assert "params.yaml: `epochs` is missing. Add a line `epochs: …`" in message
    assert message.count("\n") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected lines of `name: value`, found NoneType"),
        ("- 1\n- 2\n", "expected lines of `name: value`, found list"),
        ("epochs: [1", "not valid YAML: while parsing a flow sequence"),
        ("epochs: \x00", "not valid YAML: unacceptable character"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, expected):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        load_params(path)
    assert str(refused.value).startswith(f"{path}: {expected}")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xff\xfe\xfa: 1")
    with pytest.raises(UserError, match=r"params\.yaml: not valid YAML: 'utf-8' codec"):
        load_params(path)


def test_a_missing_file_is_refused_with_the_way_back(tmp_path):
    with pytest.raises(UserError, match=r"no such file\. .* git restore .*params\.yaml"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("mode", "parent"), [("continue", None), ("new", "v1")], ids=["no parent", "needless parent"]
)
def test_continuing_and_its_parent_go_together(refusal, mode, parent):
    message = refusal(mode=mode, continue_from=parent)
    assert "`mode: continue`, and only it, needs `continue_from`" in message
    assert f"now `mode` is {mode!r} and `continue_from` is {parent!r}" in message


def test_only_new_runs_are_tuned(refusal, load):
    message = refusal(mode="continue", continue_from="v1", tuning_trial="t1")
    assert "`tuning_trial` goes with `mode: new`" in message
    assert load(mode="continue", continue_from="v1").continue_from == "v1"


def test_overrides_take_the_place_of_what_the_file_says():
    params = load_params(FILE, {"epochs": "2", "hidden_sizes": []})
    assert (params.epochs, params.hidden_sizes) == (2, [])
    assert params.target_epsilon == load_params(FILE).target_epsilon
    with pytest.raises(UserError, match="perhaps `epochs` is meant"):
        load_params(FILE, {"epoch": 2})


def test_a_sweep_is_every_combination():
    settings = ["target_epsilon=1,2.5", "hidden_sizes=[128,64],[]", "activation=tanh"]
    assert list(sweep(settings)) == [
        {"target_epsilon": epsilon, "hidden_sizes": sizes, "activation": "tanh"}
        for epsilon in (1, 2.5)
        for sizes in ([128, 64], [])
    ]
    assert list(sweep([])) == [{}]


def test_a_setting_of_a_sweep_without_a_value_is_refused():
    with pytest.raises(UserError, match="-S epochs: expected NAME=VALUE"):
        list(sweep(["epochs"]))
