"""The privacy statement: what the report says, for machines.

`deployment` is a record in the shape of OpenDP's deployments registry, ready to be sent there once
the owner has filled in who he is; `evidence` is what it rests on, from which anybody can compute ε
again. Every number is copied from the metrics as it stands there.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.errors import UserError

FILL_IN = "to be filled in by the data owner"

UNIT = "one row of the table, which is one person"
NEIGHBOURS = "two tables that differ by one added or removed row"
UNIT_BY_ID = "one person: all rows of one id, of which one is used"
NEIGHBOURS_BY_ID = "two tables that differ by all rows of one added or removed person"
TRUST = (
    "Central: whoever runs the pipeline sees the table and is trusted with it. Nobody who sees "
    "what is published has to be trusted, whatever else they know and however many of them collude."
)
RELEASED = (
    "the model",
    "the training curves",
    "the checkpoint that a later run can continue (covered, but no part of a bundle)",
    "the test metrics and every figure and plot made from them",
    "this report",
)
NOT_PROTECTED = (
    "what the table's owner declared in public: columns, bounds, categories, the approximate "
    "number of rows",
    "what holds for people in general, and for you too, whether or not you are in the table",
    "other releases about the same people, which the ledger adds up, and whether the table was "
    "changed between them, which the total can tell",
)
NOT_PROTECTED_WITHOUT_ID = (
    "a person with more than one row, whose promise is weaker the more rows there are"
)


@dataclass(frozen=True)
class Release:
    """All that is told of a run; every part of it is public.

    Attributes:
        train, test: metrics/train.json and metrics/evaluate.json.
        fields: the schema's fields, as its file declares them.
        classes: names of the label's classes.
        parameters: of params.yaml, those that the statement tells.
        test_attack: what an attacker can do with the test figures, like `attack` in `train`.
        subgroups: the rows of plots/subgroups.csv but the first, which is everyone.
    """

    train: Mapping[str, Any]
    test: Mapping[str, Any]
    fields: Sequence[Mapping[str, Any]]
    classes: Sequence[str]
    parameters: Mapping[str, Any]
    test_attack: Mapping[str, float]
    subgroups: Sequence[Mapping[str, str]]

    @property
    def no_guarantee(self) -> str | None:
        """Why ε does not cover the release, or None if it does."""
        return self.train.get("no_guarantee") or self.test.get("no_guarantee")

    @property
    def id(self) -> str | None:
        """The column that says whose row it is, if there is one."""
        return next((field["name"] for field in self.fields if field["role"] == "id"), None)

    @property
    def unit(self) -> str:
        """Who is protected."""
        return UNIT_BY_ID if self.id else UNIT

    @property
    def neighbours(self) -> str:
        """Which tables are not to be told apart."""
        return NEIGHBOURS_BY_ID if self.id else NEIGHBOURS

    @property
    def not_covered(self) -> list[str]:
        """What the run told about the rows exactly, and what no run protects."""
        rows = () if self.id else (NOT_PROTECTED_WITHOUT_ID,)
        return [*self.train["not_covered"], *NOT_PROTECTED, *rows]


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Steps(_Told):
    noise_multiplier: Positive
    sample_rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1)]


class StepsEvent(_Told):
    steps: Steps


class DiscreteLaplace(_Told):
    epsilon: Positive


class DiscreteLaplaceEvent(_Told):
    discrete_laplace: DiscreteLaplace


class BestOfMany(_Told):
    events: list[StepsEvent | DiscreteLaplaceEvent]
    mean: Annotated[float, Field(gt=1)]
    shape: float


class BestOfManyEvent(_Told):
    best_of_many: BestOfMany


Event = StepsEvent | DiscreteLaplaceEvent | BestOfManyEvent


class Curator(_Told):
    data_curator_name: str
    data_curator_type: str


class Basic(_Told):
    name: str
    data_curators: list[Curator]
    description: str
    intended_use: str
    data_product_type: Literal["Machine learning model"]
    data_product_region: str
    data_product_sector: str
    publication_date: date | None


class Variant(_Told):
    variant_name: Literal["Approximate DP"]
    data_domain: str
    unprotected_quantities: str


class PrivacyParameters(_Told):
    epsilon: Positive | None
    delta: Annotated[float, Field(gt=0, lt=1)] | None


class PrivacyLoss(_Told):
    privacy_unit: str
    privacy_unit_details: str
    number_of_privacy_units: Literal[1]
    privacy_parameters: PrivacyParameters
    privacy_parameters_details: str


class DeploymentModel(_Told):
    model_name: Literal["Central"]
    trust_assumptions: str
    release_type: Literal["One release"]
    data_source_type: Literal["Static"]
    access_type: Literal["Non-interactive"]


class Implementation(_Told):
    preprocessing_and_hyperparameter_tuning: str
    mechanisms: str
    composition: str
    post_processing: str
    justification: str
    utility: str


class Administrative(_Told):
    status: Literal["Draft"]
    registry_authors: list[str]
    tier: Literal[3]


class Deployment(_Told):
    """A record of the deployments registry."""

    basic: Basic
    dp_variant: Variant
    privacy_loss: PrivacyLoss
    deployment_model: DeploymentModel
    implementation: Implementation
    administrative: Administrative


class Training(_Told):
    """The training side: ε by each accountant, and the mechanism they were told of."""

    epsilon: Positive | None
    delta: Positive | None
    epsilon_prv: Positive | None
    epsilon_pld: Positive | None
    epsilon_renyi: Positive | None
    epsilon_replace_one: Positive | None
    planned_in_advance: bool
    best_of_many: bool
    history: list[StepsEvent]
    spend: list[Event]
    noise_multiplier: Positive
    metric_noise_multiplier: Positive
    max_grad_norm: Positive
    sample_rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1)]
    monitors_passed: list[str]


class Testing(_Told):
    """The test side, where the noise is on counts."""

    epsilon: Positive | None
    spend: list[Event]


class Account(_Told):
    """What all runs on record about the same people had spent when this one had ended."""

    epsilon_total: Positive | None
    privacy_budget: Positive | None


class Attack(_Told):
    """The best attacker's advantage, and his true positives by false positives."""

    model_and_curves: dict[str, Share] | None
    test_figures: dict[str, Share]


class Lineage(_Told):
    continued: bool
    table_changed: bool
    versions: list[str]


class Evidence(_Told):
    """What the record rests on."""

    no_guarantee: str | None
    epsilon: Positive | None
    delta: Positive | None
    not_covered: list[str]
    training: Training
    testing: Testing
    attack: Attack
    utility: dict[str, Any]
    ledger: Account
    parameters: dict[str, Any]
    lineage: Lineage
    files: dict[str, str]


class Statement(_Told):
    """plots/statement.yaml, validated."""

    url_slug: str
    deployment: Deployment
    evidence: Evidence
    checksum: str

    @property
    def computed_checksum(self) -> str:
        """What `checksum` should be: a guard against accidents, not against forgers."""
        content = self.model_copy(update={"checksum": ""})
        return hashlib.sha256(content.to_yaml().encode()).hexdigest()

    def to_yaml(self) -> str:
        """Return the text of the file, which `load_statement` reads back."""
        return yaml.safe_dump(
            self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
        )


def load_statement(path: Path) -> Statement:
    """Read and validate a statement.

    Raises:
        UserError: there is none, or it is not in shape.
    """
    try:
        return Statement.model_validate(yaml.safe_load(path.read_text("utf-8")))
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


def make_statement(
    release: Release,
    *,
    published: date | None = None,
    files: Mapping[str, str] | None = None,
) -> Statement:
    """Return the statement of a release.

    Args:
        release: what is told.
        published: the day it leaves the building, if it does.
        files: SHA-256 of each file that leaves with it, by its path.
    """
    statement = Statement.model_validate(
        {
            "url_slug": "private-classifier",
            "deployment": _deployment(release, published),
            "evidence": _evidence(release, files or {}),
            "checksum": "",
        }
    )
    return statement.model_copy(update={"checksum": statement.computed_checksum})


def _evidence(release: Release, files: Mapping[str, str]) -> dict[str, Any]:
    train, test = release.train, release.test
    (training,) = train["ledger"]
    parent = train["parent"] or {}
    epsilons = {key: train.get(key) for key in Training.model_fields if key.startswith("epsilon")}
    mechanism = ("noise_multiplier", "metric_noise_multiplier", "max_grad_norm", "sample_rate")
    return {
        "no_guarantee": release.no_guarantee,
        "epsilon": None if release.no_guarantee else test["epsilon_overall"],
        "delta": train["delta"],
        "not_covered": release.not_covered,
        "training": {
            **epsilons,
            "delta": train["delta"],
            "planned_in_advance": train["parent"] is None,
            "best_of_many": "best_of_many" in training["spend"]["events"][0],
            "history": train["history"],
            "spend": training["spend"]["events"],
            **{key: train[key] for key in (*mechanism, "steps", "monitors_passed")},
        },
        "testing": {
            "epsilon": test["epsilon"],
            "spend": [event for run in test.get("ledger", []) for event in run["spend"]["events"]],
        },
        "attack": {
            "model_and_curves": train["attack"],
            "test_figures": dict(release.test_attack),
        },
        "utility": {
            key: value
            for key, value in test.items()
            if isinstance(value, float) and not key.startswith("epsilon")
        }
        | {
            "interval": test.get("interval"),
            "confusion_matrix": test["confusion_matrix"],
            "subgroups": [dict(row) for row in release.subgroups],
        },
        "ledger": {
            "epsilon_total": test.get("epsilon_total"),
            "privacy_budget": release.parameters["privacy_budget"],
        },
        "parameters": dict(release.parameters),
        "lineage": {
            "continued": train["parent"] is not None,
            "table_changed": parent.get("table_changed", False),
            "versions": train["versions"],
        },
        "files": dict(files),
    }


def _deployment(release: Release, published: date | None) -> dict[str, Any]:
    train, test = release.train, release.test
    covered = release.no_guarantee is None
    names = ", ".join(field["name"] for field in release.fields)
    return {
        "basic": {
            "name": f"Classifier of {' / '.join(release.classes)}",
            "data_curators": [{"data_curator_name": FILL_IN, "data_curator_type": FILL_IN}],
            "description": (
                "A neural network trained on one row per person with differential privacy, with "
                "its training curves, test metrics and plots."
            ),
            "intended_use": f"To predict {' or '.join(release.classes)} for a new row.",
            "data_product_type": "Machine learning model",
            "data_product_region": FILL_IN,
            "data_product_sector": FILL_IN,
            "publication_date": published,
        },
        "dp_variant": {
            "variant_name": "Approximate DP",
            "data_domain": f"Tables with the columns {names}, each within its declared bounds.",
            "unprotected_quantities": "; ".join(release.not_covered),
        },
        "privacy_loss": {
            "privacy_unit": release.unit,
            "privacy_unit_details": f"Adjacent: {release.neighbours}.",
            "number_of_privacy_units": 1,
            "privacy_parameters": {
                "epsilon": test["epsilon_overall"] if covered else None,
                "delta": train["delta"] if covered else None,
            },
            "privacy_parameters_details": (
                "Of both sides of the split together; `evidence` has each."
                if covered
                else f"No guarantee: {release.no_guarantee}."
            ),
        },
        "deployment_model": {
            "model_name": "Central",
            "trust_assumptions": TRUST,
            "release_type": "One release",
            "data_source_type": "Static",
            "access_type": "Non-interactive",
        },
        "implementation": {
            "preprocessing_and_hyperparameter_tuning": (
                "Encoded by the declared schema alone, nothing fitted on rows; each row's side of "
                "the split depends on that row alone. Settings follow from public numbers, unless "
                "set by hand; choosing them by looking at earlier runs is covered by the ledger."
            ),
            "mechanisms": (
                "DP-SGD: Gaussian noise on sums of clipped gradients and of two metrics per step, "
                "Poisson sampling, noise from AES-128 in counter mode (randomgen) in floating "
                "point. Test counts: discrete Laplace noise on integers (OpenDP)."
            ),
            "composition": (
                "Steps by privacy loss distributions (dp-accounting) and by privacy random "
                "variables (Opacus), the larger counts; by Rényi divergence where a run was "
                "continued or the best of many kept. The two sides of the split compose in "
                "parallel."
            ),
            "post_processing": "Metrics, plots and this statement follow from noisy figures.",
            "justification": "ε and δ were chosen by the data owner.",
            "utility": f"Test accuracy {test['accuracy']:.4f}, log loss {test['loss']:.4f}.",
        },
        "administrative": {"status": "Draft", "registry_authors": [FILL_IN], "tier": 3},
    }
