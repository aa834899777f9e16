"""The only reader of params.yaml: typed, validated, without defaults of its own."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from stages.errors import UserError
from stages.explain import Mistake, mistakes


def _no_boolean(value: object) -> object:
    # YAML reads `yes` as true, and Python would take true for the number 1.
    if isinstance(value, bool):
        raise ValueError(f"should be a number, not a boolean, but is {value}")
    return value


# Numbers may arrive as text: DVC writes `-S target_delta=1e-6` as `1e-06`, a string to PyYAML.
Real = Annotated[float, BeforeValidator(_no_boolean), Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_no_boolean)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]
Positive = Annotated[Real, Field(gt=0)]


def _auto(value: object) -> object:
    if value is None:
        raise ValueError("should be a value or `auto`, but is None")
    return None if value == "auto" else value


# δ if it is `auto`: a tenth of what publishing one row at random would satisfy, or this if less.
DELTA_SHARE, LARGEST_DELTA = 0.1, 1e-5

# `auto` in the file is None here: derived from public numbers (stages.training.auto).
AUTO = BeforeValidator(_auto)


class Params(BaseModel):
    """params.yaml, validated. The file itself says what each parameter does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path
    schema_path: Path = Field(alias="schema")
    test_fraction: Annotated[Real, Field(gt=0, lt=1)]
    split_seed: Seed
    train_size: Annotated[Whole, Field(ge=1)] | None

    target_epsilon: Annotated[Real, Field(gt=0, le=100)]
    # A number even where the file says `auto`. Below 1e-12 the accountants' arithmetic no longer
    # tells δ from rounding.
    target_delta: Annotated[Real, Field(ge=1e-12, lt=1)]
    evaluation_epsilon: Annotated[Real, Field(gt=0, le=100)] | None
    exact_metrics: bool
    privacy_budget: Annotated[Real, Field(gt=0)] | None
    privacy_budget_delta: Annotated[Real, Field(gt=0, lt=1)]

    hidden_sizes: list[Annotated[Whole, Field(ge=1)]]
    activation: Annotated[Literal["relu", "tanh"] | None, AUTO]
    init_seed: Seed

    mode: Literal["new", "continue"]
    continue_from: str | None
    tuning_trial: str | None
    batch_size: Annotated[Annotated[Whole, Field(ge=1)] | None, AUTO]
    epochs: Annotated[Positive | None, AUTO]
    learning_rate: Annotated[Positive | None, AUTO]
    momentum: Annotated[Annotated[Real, Field(ge=0, lt=1)] | None, AUTO]
    max_grad_norm: Annotated[Positive | None, AUTO]
    average_decay: Annotated[Annotated[Real, Field(ge=0, lt=1)] | None, AUTO]
    pieces: Annotated[Annotated[Whole, Field(ge=0, le=64)] | None, AUTO]
    processes: Annotated[Whole, Field(ge=1)]
    metric_noise_ratio: Positive

    simulation_seed: Seed | None

    @field_validator("target_delta", mode="before")
    @classmethod
    def _delta_that_suits_the_table(cls, given: Any, known: ValidationInfo) -> Any:
        if given != "auto":
            return given
        # What is no number of rows has been refused by its own check.
        rows = known.data.get("train_size", 1)
        if rows is None:
            raise ValueError(
                "at `auto` needs a declared `train_size`, of which δ is to be far below the "
                "inverse: declare it, or set a number here"
            )
        return min(LARGEST_DELTA, DELTA_SHARE / rows)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.mode == "continue") != (self.continue_from is not None):
            raise ValueError(
                "`mode: continue`, and only it, needs `continue_from` (commit, tag, experiment): "
                f"now `mode` is {self.mode!r} and `continue_from` is {self.continue_from!r}"
            )
        if self.tuning_trial is not None and self.mode == "continue":
            raise ValueError("`tuning_trial` goes with `mode: new`: only new runs can be tuned")
        return self


def load_params(
    path: str | Path = "params.yaml", overrides: Mapping[str, Any] | None = None
) -> Params:
    """Read and validate params.yaml, with `overrides` in place of what the file says.

    Raises:
        UserError: the file is missing or no YAML mapping, or a parameter is missing, misspelt or
            out of range.
    """
    try:
        content = yaml.safe_load(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file. Run from the repository's root, or bring it back with: "
            f"git restore {path}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        why = str(error).replace("<unicode string>", str(path))
        raise UserError(
            f"{path}: not valid YAML: {why}. Mend the place it names; if a merge left both "
            "versions of a line there, keep one."
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected lines of `name: value`, found {type(content).__name__}.")
    # What `dvc exp run -S name=` leaves is an empty text.
    given = {k: None if v == "" else v for k, v in {**content, **(overrides or {})}.items()}
    try:
        return Params.model_validate(given)
    except ValidationError as error:
        lines = (_explanation(mistake) for mistake in mistakes(error, Params))
        raise UserError("\n".join(f"{path}: {line}" for line in lines)) from None


def sweep(settings: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield every combination of `name=value,value,…`, as `dvc exp run -S` would queue them.

    Raises:
        UserError: a setting has no `=`.
    """
    values: dict[str, list[Any]] = {}
    for setting in settings:
        name, given, choices = setting.partition("=")
        if not given:
            raise UserError(f"-S {setting}: expected NAME=VALUE,…, such as target_epsilon=1,2.")
        # Commas within brackets belong to one value, as in hidden_sizes=[128,64],[].
        try:
            values[name] = [yaml.safe_load(one) for one in re.split(r",(?![^\[]*\])", choices)]
        except yaml.YAMLError:
            raise UserError(f"-S {setting}: a value is not valid YAML. Correct it.") from None
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))


def _explanation(mistake: Mistake) -> str:
    if not mistake.place:
        return f"{mistake}. Change one of the two."
    name = str(mistake.place[0])
    if mistake.type == "missing":
        return f"{mistake}. Add a line `{name}: …`; `git show HEAD:params.yaml` has one."
    if mistake.type == "extra_forbidden":
        return f"{mistake}."
    auto = mistake.type != "value_error" and AUTO in Params.model_fields[name].metadata
    or_auto = " or `auto`" if auto else ""
    return f"`{name}` {mistake.problem}{or_auto}{mistake.seen}. Change it and run again."
