"""The statement has its shape and its version; `test_publish.py` has what is out of shape."""

import tomllib

import pytest
import yaml

from stages.errors import UserError
from stages.reporting.statement import VERSION, checksum_of, load_statement, to_yaml
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
    assert to_yaml(statement) == (released / "plots/statement.yaml").read_text()
    assert statement["checksum"] == checksum_of(statement)
    assert set(content["deployment"]) == REGISTRY


def test_a_simulation_has_a_statement_without_epsilon(simulated):
    statement = load_statement(simulated / "plots/statement.yaml")
    assert statement["evidence"]["no_guarantee"] == "simulation_seed is set"
    assert statement["evidence"]["epsilon"] is None
    assert statement["deployment"]["privacy_loss"]["privacy_parameters"]["epsilon"] is None
    assert statement["evidence"]["attack"]["model_and_curves"] is None


def test_it_bears_the_version_of_the_package(content):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert content["version"] == VERSION == project["version"]


@pytest.mark.parametrize("version", [None, "0.1.0", "0.2.0"])
def test_a_statement_of_another_version_is_refused_by_it(content, tmp_path, version):
    planted = {**content, "version": version}
    if version is None:  # as version 0.1.0 wrote it
        del planted["version"]
    (tmp_path / "statement.yaml").write_text(yaml.safe_dump(planted))
    with pytest.raises(UserError, match=f"made by version {version or '0.1.0'} of this pipeline"):
        load_statement(tmp_path / "statement.yaml")
