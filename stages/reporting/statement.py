"""The privacy statement: what the report says, for machines.

`deployment` is a record in the shape of OpenDP's deployments registry, ready to be sent there once
the owner has filled in who he is; `evidence` is what it rests on, from which anybody can compute ε
again. Every number is copied from the metrics as it stands there.
"""

import hashlib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.errors import UserError
from stages.privacy.attack import figures_of
from stages.privacy.events import BestOfMany, DiscreteLaplace, Event, Positive, from_json
from stages.reporting.run import Parameters, Run
from stages.reporting.templates import fill
from stages.training.result import TrainResult

# Of the pipeline, whose versions need not understand each other's statements.
VERSION = "0.2.0"

FILE_NAME = "statement.yaml"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Share = Annotated[float, Field(ge=0, le=1)]


class Curator(_Part):
    data_curator_name: str
    data_curator_type: str


class Basic(_Part):
    name: str
    data_curators: list[Curator]
    description: str
    intended_use: str
    data_product_type: Literal["Machine learning model"]
    data_product_region: str
    data_product_sector: str
    publication_date: date | None


class Variant(_Part):
    variant_name: Literal["Approximate DP"]
    data_domain: str
    unprotected_quantities: str


class PrivacyParameters(_Part):
    epsilon: Positive | None
    delta: Annotated[float, Field(gt=0, lt=1)] | None


class PrivacyLoss(_Part):
    privacy_unit: str
    privacy_unit_details: str
    number_of_privacy_units: Literal[1]
    privacy_parameters: PrivacyParameters
    privacy_parameters_details: str


class DeploymentModel(_Part):
    model_name: Literal["Central"]
    trust_assumptions: str
    release_type: Literal["One release"]
    data_source_type: Literal["Static"]
    access_type: Literal["Non-interactive"]


class Implementation(_Part):
    preprocessing_and_hyperparameter_tuning: str
    mechanisms: str
    composition: str
    post_processing: str
    justification: str
    utility: str


class Administrative(_Part):
    status: Literal["Draft"]
    registry_authors: list[str]
    tier: Literal[3]


class Deployment(_Part):
    """A record of the deployments registry."""

    basic: Basic
    dp_variant: Variant
    privacy_loss: PrivacyLoss
    deployment_model: DeploymentModel
    implementation: Implementation
    administrative: Administrative


class Training(_Part):
    """The training side: ε by each accountant, and the mechanism they were told of."""

    epsilon: Positive | None
    delta: Positive | None
    epsilon_prv: Positive | None
    epsilon_pld: Positive | None
    epsilon_renyi: Positive | None
    epsilon_replace_one: Positive | None
    planned_in_advance: bool
    history: list[Event]
    spend: list[Event]
    noise_multiplier: Positive
    metric_noise_multiplier: Positive
    max_grad_norm: Positive
    sample_rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1)]
    monitors_passed: list[str]

    @property
    def best_of_many(self) -> bool:
        """Whether it is the best of a random number of trainings, none of which is shown."""
        return any(isinstance(event, BestOfMany) for event in self.spend)


class Testing(_Part):
    """The test side, where the noise is on counts."""

    epsilon: Positive | None
    spend: list[Event]

    @property
    def counts(self) -> list[DiscreteLaplace]:
        """What was spent on counts that were released for certain."""
        return [event for event in self.spend if isinstance(event, DiscreteLaplace)]

    @property
    def is_pure(self) -> bool:
        """Whether its ε holds with δ = 0."""
        return self.epsilon is not None and len(self.counts) == len(self.spend)


class Utility(_Part):
    """What the model is good for: see `EvaluateResult`, and plots/subgroups.csv."""

    figures: dict[str, float]
    interval: dict[str, float] | None
    confusion_matrix: list[list[float]]
    subgroups: list[dict[str, str]]


class Account(_Part):
    """What all runs on record about the same people had spent when this one had ended."""

    epsilon_total: Positive | None
    privacy_budget: Positive | None


class Attack(_Part):
    """The best attacker's advantage, and his true positives by false positives."""

    model_and_curves: dict[str, Share] | None
    test_figures: dict[str, Share]


class Lineage(_Part):
    """What the run continues, and what it was made with."""

    continued: bool
    table_changed: bool
    versions: list[str]

    def version(self, library: str) -> str:
        """Return the version of a library, empty where it is not told."""
        return dict(entry.split(" ", 1) for entry in self.versions).get(library, "")


class Evidence(_Part):
    """What the record rests on."""

    no_guarantee: str | None
    epsilon: Positive | None
    delta: Positive | None
    not_covered: list[str]
    training: Training
    testing: Testing
    attack: Attack
    utility: Utility
    ledger: Account
    parameters: Parameters
    lineage: Lineage
    files: dict[str, str]


class Statement(_Part):
    """plots/statement.yaml, validated."""

    version: str
    url_slug: str
    deployment: Deployment
    evidence: Evidence
    checksum: str

    @property
    def computed_checksum(self) -> str:
        """What `checksum` should be: a guard against accidents, not against forgers."""
        content = self.model_copy(update={"checksum": ""})
        return hashlib.sha256(content.to_yaml().encode()).hexdigest()

    @property
    def sealed(self) -> "Statement":
        """The same with the checksum that it should have."""
        return self.model_copy(update={"checksum": self.computed_checksum})

    def to_yaml(self) -> str:
        """Return the text of the file, which `load_statement` reads back."""
        return yaml.safe_dump(
            self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
        )


def load_statement(path: Path) -> Statement:
    """Read and validate a statement.

    Raises:
        UserError: there is none, it is of another version, or it is not in shape.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        _refuse_other_versions(path, content)
        return Statement.model_validate(content)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file. The plot stage writes it: run dvc repro. To verify a bundle, "
            "name the folder that `python -m stages.publish` made."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected YAML, but: {error}. Ask for an intact copy.") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path}: `{place}`: {first['msg']}, but it is {first['input']!r:.60}. Make the "
            "statement again with dvc repro, or ask for an intact copy."
        ) from None


def _refuse_other_versions(path: Path, content: Any) -> None:
    if not isinstance(content, dict) or content.get("version") == VERSION:
        return
    version = content.get("version", "0.1.0")  # which did not say so
    raise UserError(
        f"{path}: was made by version {version} of this pipeline, and this is {VERSION}. If it is "
        "a bundle's, verify it with that version; your own run's is made anew by: dvc repro"
    )


def make_statement(
    run: Run, *, published: date | None = None, files: Mapping[str, str] | None = None
) -> Statement:
    """Return the statement of a run.

    Args:
        run: what is told.
        published: the day it leaves the building, if it does.
        files: SHA-256 of each file that leaves with it, by its path.
    """
    words = yaml.safe_load(fill("statement.yaml", run=run, published=published))
    return Statement(
        version=VERSION,
        url_slug="private-classifier",
        deployment=Deployment.model_validate(words["deployment"]),
        evidence=_evidence(run, words["not_covered"], files or {}),
        checksum="",
    ).sealed


def _evidence(run: Run, not_covered: list[str], files: Mapping[str, str]) -> Evidence:
    train, test = run.train, run.test
    return Evidence(
        no_guarantee=run.no_guarantee,
        epsilon=run.epsilon,
        delta=train.delta,
        not_covered=not_covered,
        training=_training(train),
        testing=Testing(
            epsilon=test.epsilon, spend=from_json(test.spend.events if test.spend else [])
        ),
        attack=Attack(model_and_curves=train.attack, test_figures=figures_of(run.test_profile)),
        utility=Utility(
            figures=test.figures,
            interval=test.interval,
            confusion_matrix=test.confusion_matrix,
            subgroups=[dict(group) for group in run.groups[1:]],
        ),
        ledger=Account(
            epsilon_total=test.epsilon_total, privacy_budget=run.parameters.privacy_budget
        ),
        parameters=run.parameters,
        lineage=Lineage(
            continued=train.parent is not None,
            table_changed=train.table_changed,
            versions=list(train.versions),
        ),
        files=dict(files),
    )


def _training(train: TrainResult) -> Training:
    copied = {key: getattr(train, key) for key in Training.model_fields if hasattr(train, key)}
    spend = from_json(train.record.spend.events)
    return Training.model_validate(
        copied | {"planned_in_advance": train.parent is None, "spend": spend}
    )
