"""The statement keeps its shape, and whatever is out of shape is refused."""

import copy
import tomllib

import pytest
import yaml

from stages.errors import UserError
from stages.reporting.statement import VERSION, load_statement
from tests.conftest import ROOT

# The sections that a record of OpenDP's deployments registry has, as of its template of 2026.
REGISTRY = {
    "basic",
    "dp_variant",
    "privacy_loss",
    "deployment_model",
    "implementation",
    "administrative",
}


@pytest.fixture(scope="module")
def content(released):
    return yaml.safe_load((released / "plots/statement.yaml").read_text())


def test_it_validates_and_has_the_registrys_sections(released, content):
    statement = load_statement(released / "plots/statement.yaml")
    assert statement.to_yaml() == (released / "plots/statement.yaml").read_text()
    assert statement.checksum == statement.computed_checksum
    assert set(content["deployment"]) == REGISTRY


def test_a_simulation_has_a_statement_without_epsilon(simulated):
    statement = load_statement(simulated / "plots/statement.yaml")
    assert statement.evidence.no_guarantee == "simulation_seed is set"
    assert statement.evidence.epsilon is None
    assert statement.deployment.privacy_loss.privacy_parameters.epsilon is None
    assert statement.evidence.attack.model_and_curves is None


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
        ("evidence.training.history.0.steps.sample_rate", 2),
        ("evidence.training.history.0.steps.steps", 0),
        ("evidence.training.history.0.steps.noise_multiplier", 0),
        ("evidence.training.history.0.steps.surprise", 1),
        ("evidence.training.history.0", {"steps": {}, "more": {}}),
        ("evidence.testing.spend.0", {"unheard_of": {"epsilon": 1.0}}),
        ("evidence.testing.spend.0.discrete_laplace.epsilon", -1),
        ("evidence.parameters.test_fraction", 1),
        ("evidence.training.surprise", 1),
        ("evidence.attack.test_figures", {"advantage": 1.5}),
        ("deployment.privacy_loss.privacy_parameters.delta", 1),
        ("deployment.deployment_model.model_name", "Local"),
        ("deployment.basic.publication_date", "1/1/2026"),
        ("deployment.basic.surprise", ""),
    ],
)
def test_what_is_out_of_shape_is_refused_by_name(content, tmp_path, path, value):
    planted = copy.deepcopy(content)
    put(planted, path, value)
    (tmp_path / "statement.yaml").write_text(yaml.safe_dump(planted))
    with pytest.raises(UserError, match=path.replace(".", r"\.")):
        load_statement(tmp_path / "statement.yaml")


@pytest.mark.parametrize("path", ["checksum", "evidence", "deployment"])
def test_what_is_missing_is_refused_by_name(content, tmp_path, path):
    planted = {key: value for key, value in content.items() if key != path}
    (tmp_path / "statement.yaml").write_text(yaml.safe_dump(planted))
    with pytest.raises(UserError, match=path):
        load_statement(tmp_path / "statement.yaml")


def test_it_bears_the_version_of_the_package(content):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert content["version"] == VERSION == project["version"]


@pytest.mark.parametrize("version", [None, "0.1.0", "0.3.0"])
def test_a_statement_of_another_version_is_refused_by_it(content, tmp_path, version):
    planted = {**content, "version": version}
    if version is None:  # as version 0.1.0 wrote it
        del planted["version"]
    (tmp_path / "statement.yaml").write_text(yaml.safe_dump(planted))
    with pytest.raises(UserError, match=f"made by version {version or '0.1.0'} of this pipeline"):
        load_statement(tmp_path / "statement.yaml")
