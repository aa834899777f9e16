"""The privacy report: one content, as a page for people and as Markdown for pull requests."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from stages.reporting.statement import (
    RELEASED,
    TRUST,
    DiscreteLaplaceEvent,
    Release,
    Statement,
)

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Points:
    """A list."""

    points: Sequence[str]
    kind: str = "points"


@dataclass(frozen=True)
class Grid:
    """A table, whose first column heads its rows."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = "grid"


@dataclass(frozen=True)
class Pictures:
    """Figures side by side: by name on the page, and the files that show them elsewhere."""

    names: Sequence[str]
    files: Sequence[str]
    caption: str
    kind: str = "pictures"


Block = Text | Points | Grid | Pictures


@dataclass(frozen=True)
class Section:
    """A chapter of the report."""

    anchor: str
    title: str
    blocks: Sequence[Block]


def render(
    template: str,
    statement: Statement,
    release: Release,
    *,
    graphics: Mapping[str, str] | None = None,
    pictures: str = "",
) -> str:
    """Return the report as text.

    Args:
        template: name of a file in `templates/`.
        statement, release: what is told.
        graphics: SVG elements by name, for a page that holds its figures.
        pictures: path from the report to the pictures, for one that does not.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=template.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(
        title=title(release),
        warning=warning(statement),
        opening=opening(statement),
        label=label(statement),
        sections=sections(statement, release),
        metrics=_metric_rows(statement),
        classes=release.classes,
        fields=release.fields,
        graphics=graphics or {},
        pictures=pictures,
    )


def title(release: Release) -> str:
    """Return what the report is about."""
    return f"Privacy report: a classifier of {' / '.join(release.classes)}"


def warning(statement: Statement) -> str | None:
    """Return what has to stand above everything else where there is no guarantee."""
    why = statement.evidence.no_guarantee
    return None if why is None else f"Not private, not for publication: {why}."


def opening(statement: Statement) -> list[str]:
    """Return the sentences that a patient can read."""
    evidence = statement.evidence
    model = evidence.attack.model_and_curves
    if evidence.epsilon is None or evidence.delta is None or model is None:
        return [
            "This run makes no promise to anybody in the table: whoever sees its figures may be "
            "able to tell who was in it and what their rows said."
        ]
    return [
        "Whether or not you are in this table changes what anyone can learn from this model by at "
        f"most a factor of {_factor(evidence.epsilon)}: no conclusion about you becomes more than "
        "that many times as likely because you took part, nor because you did not, except with a "
        f"chance of about {_odds(evidence.delta)}.",
        "Somebody who guesses whether you are in the table by tossing a coin is right 50 times in "
        f"100. Even if they knew everybody else's rows, the model would let them be right at most "
        f"{_right(model)} times in 100, and the test figures at most "
        f"{_right(evidence.attack.test_figures)}, if yours was a row they were measured on.",
    ]


def label(statement: Statement) -> list[tuple[str, str, str]]:
    """Return the figures to be seen at a glance: what, how much, and in a few words."""
    evidence = statement.evidence
    utility, total = evidence.utility, evidence.ledger.epsilon_total
    interval = utility["interval"]
    return [
        ("ε", _number(evidence.epsilon, ".2f"), "smaller protects better: 1 is strong, 8 is weak"),
        ("δ", _odds(evidence.delta), "the chance, roughly, to be let down altogether"),
        (
            "right on test rows",
            f"{utility['accuracy']:.1%}",
            "exactly" if interval is None else f"± {interval['accuracy']:.1%} of privacy noise",
        ),
        ("ε of all runs so far", _number(total, ".2f"), _budget(evidence.ledger.privacy_budget)),
    ]


def sections(statement: Statement, release: Release) -> list[Section]:
    """Return the report's chapters."""
    return [
        Section("promise", "The promise", _promise(statement, release)),
        Section("use", "How good the model is", _use(statement, release)),
        Section("attack", "What an attacker can do", _attack(statement)),
        Section("mechanism", "How it was made private", _mechanism(statement)),
        Section("input", "What went in, and what is taken for granted", _input(release)),
        Section("ledger", "The ledger: this run among others", _ledger(statement)),
        Section("lineage", "Where it comes from", _lineage(statement)),
        Section("limits", "Limits", [Points(_limits(release))]),
    ]


LIMITS = (
    "Floating point: noise on gradients and curves is drawn and added in floating point, whose "
    "last digits are not those of the real numbers that the proof speaks of. Attacks on such "
    "digits are known (Mironov 2012; Jin et al. 2022) and not ruled out here. Noise on test counts "
    "is whole numbers (OpenDP's discrete Laplace), where the difficulty does not arise.",
    "Choosing: whoever looks at several runs and publishes the best has released them all. The "
    "ledger adds up runs on record; what was tried outside it, or learned from the rows by other "
    "means (a bound, a category, a column left out), nobody counts.",
    "Time: how long a run takes is visible to whoever can watch the machine, and is not covered.",
    "Fairness: noise hides small groups more than large ones, and a private model can be worse for "
    "them than the figures of the whole say.",
    "Security: the table, data/prepared, dvc.lock and the ledger stay in the building. "
    "Differential privacy protects what is published, not the machine that holds the rows.",
)


def _limits(release: Release) -> list[str]:
    rows = (
        "One row per person is taken for granted: for somebody with k rows ε is up to k times as "
        "large, and δ larger still. Merge such rows before, or declare an id."
    )
    return [*LIMITS, *([] if release.id else [rows])]


def _promise(statement: Statement, release: Release) -> list[Block]:
    evidence = statement.evidence
    training, testing = evidence.training, evidence.testing
    pure = testing.epsilon and all(isinstance(e, DiscreteLaplaceEvent) for e in testing.spend)
    rows = [
        ("ε of everything below", _number(evidence.epsilon, ".4f")),
        ("ε of the model and its curves", _number(training.epsilon, ".4f")),
        (
            "ε of the test figures",
            _number(testing.epsilon, ".4f") + (" (with δ = 0)" if pure else ""),
        ),
        ("δ", _number(evidence.delta, "g")),
        ("who is protected (unit)", release.unit),
        ("against what (neighbours)", release.neighbours),
        ("ε for replacing one row by another", _number(training.epsilon_replace_one, ".4f")),
        ("who is trusted", TRUST),
    ]
    return [
        Grid("In figures", ("item", "value"), rows),
        Text(
            "What is made, none of it covered by ε:"
            if evidence.no_guarantee
            else "What is released, and covered by ε:"
        ),
        Points(RELEASED),
        Text("What is not protected:"),
        Points(evidence.not_covered),
    ]


def _use(statement: Statement, release: Release) -> list[Block]:
    confusion = statement.evidence.utility["confusion_matrix"]
    head = ("actual", *(f"predicted {name}" for name in release.classes))
    counts = [
        (name, *(f"{rows:.1f}" for rows in own))
        for name, own in zip(release.classes, confusion, strict=True)
    ]
    return [
        Text(_noise(statement)),
        Grid("Measured on rows held back", ("figure", "value", "±"), _metric_rows(statement)),
        Grid("Test rows by label and prediction", head, counts),
        *_subgroups(statement),
        Pictures(
            ["confusion", "roc", "calibration"],
            ["confusion_matrix.png", "roc.png", "calibration.png"],
            _caption(len(release.classes)),
        ),
        Pictures(
            ["loss", "accuracy", "spent"],
            ["training.png"],
            "The training: loss, accuracy and ε spent after each epoch. Bands: the noise.",
        ),
    ]


def _caption(classes: int) -> str:
    if classes > 2:
        return (
            "Test rows by label and prediction; how many of each class are found, and how many of "
            "the others are taken for it; the probability that rows' own classes were given. Bars: "
            "the noise."
        )
    return (
        "Test rows by label and prediction; true against false positives at each threshold; how "
        "often a predicted probability comes true (dots grow with the rows). Bars: the noise."
    )


def _subgroups(statement: Statement) -> list[Block]:
    groups = statement.evidence.utility["subgroups"]
    if not groups:
        return []
    rows = [
        (
            f"{group['column']}: {group['group']}",
            f"{float(group['rows']):.0f} ± {float(group['rows_interval']):.0f}",
            *(
                f"{float(group[name]):.1%} ± {float(group[f'{name}_interval']):.1%}"
                for name in ("accuracy", "recall")
            ),
        )
        for group in groups
    ]
    return [Grid("By subgroup", ("group", "test rows", "accuracy", "recall"), rows)]


def _noise(statement: Statement) -> str:
    evidence = statement.evidence
    if evidence.utility["interval"] is None:
        return "These figures are exact, and protect nobody."
    known = "The noise in these figures is no secret and protects nobody"
    secret = "Each figure carries noise that protects the test rows"
    return (
        f"{known if evidence.no_guarantee else secret}: with chance 95% the exact one lies within "
        "±. Counts have decimals because they are estimates."
    )


def _metric_rows(statement: Statement) -> list[tuple[str, str, str]]:
    utility = statement.evidence.utility
    noise = utility["interval"] or {}
    return [
        (name.replace("_", " "), f"{value:.4f}", f"{noise[name]:.4f}" if name in noise else "exact")
        for name, value in utility.items()
        if isinstance(value, float)
    ]


def _attack(statement: Statement) -> list[Block]:
    attack = statement.evidence.attack
    model, test = attack.model_and_curves, attack.test_figures
    if statement.evidence.epsilon is None or model is None:
        return [Text("Without a guarantee there is no bound on what an attacker can do.")]
    rows = [
        (_percent(float(key.removeprefix(PREFIX))), _up(model[key]), _up(test[key]))
        for key in model
        if key.startswith(PREFIX)
    ]
    at = f"{PREFIX}0.01"
    sides = (
        "A row that was edited between the runs may be on both sides, and what they find adds up."
        if statement.evidence.lineage.table_changed
        else "No row is on both sides."
    )
    return [
        Text(
            "Suppose that somebody knows every other row of the table, knows yours as well, and "
            "wants to find out whether you are in it. If they are ready to take 1 outsider in 100 "
            f"for a member, they find at most {100 * _ceiling(model[at]):.1f} members in 100 by "
            f"the model and its curves, and at most {100 * _ceiling(test[at]):.1f} in 100 by the "
            f"test figures, if your row is one that they were measured on. {sides}"
        ),
        Grid(
            "Most members found, by outsiders taken for members (rounded up)",
            ("false positives", "true positives by the model", "by the test figures"),
            [*rows, ("largest advantage", _up(model["advantage"]), _up(test["advantage"]))],
        ),
        Pictures(
            ["attack"],
            ["attack.png"],
            "Members found, at most, against outsiders taken for members, by the best attacker.",
        ),
        Text(
            "These follow from the trade-off curves of the mechanisms that really ran "
            f"({_source(statement)}, not from ε and δ, which say less), and bound every attack, "
            "also those not yet invented. Attacks seen in practice reach a part of it."
        ),
    ]


def _source(statement: Statement) -> str:
    training = statement.evidence.training
    if training.best_of_many:
        return "the model's by Rényi divergence, as the best of many was kept"
    if not training.planned_in_advance:
        return "the model's by Rényi divergence, as it continues another"
    return "from their privacy loss distributions"


PREFIX = "true_positives_at_"


def _mechanism(statement: Statement) -> list[Block]:
    training, lineage = statement.evidence.training, statement.evidence.lineage
    versions = dict(entry.split(" ", 1) for entry in lineage.versions)
    prv, pld = versions.get("opacus", ""), versions.get("dp-accounting", "")
    counts = [
        event.discrete_laplace.epsilon
        for event in statement.evidence.testing.spend
        if isinstance(event, DiscreteLaplaceEvent)
    ]
    noise = ", ".join(f"ε = {epsilon:g}" for epsilon in counts) or "the best of many releases"
    rows = [
        ("clip norm C: most that a row moves a sum of gradients", f"{training.max_grad_norm:g}"),
        ("noise multiplier σ: noise over C", f"{training.noise_multiplier:.4f}"),
        ("noise multiplier of the curves", f"{training.metric_noise_multiplier:.4f}"),
        ("sampling rate q: chance of a row to be in a step", f"{training.sample_rate:.6g}"),
        ("steps", f"{training.steps:d}"),
        (f"ε by privacy random variables (Opacus {prv})", _number(training.epsilon_prv, ".4f")),
        (f"ε by loss distributions (dp-accounting {pld})", _number(training.epsilon_pld, ".4f")),
        ("ε by Rényi divergence, if planned on the way", _number(training.epsilon_renyi, ".4f")),
        ("which of them counts", _which(statement)),
        ("discrete Laplace noise on test counts", noise),
    ]
    return [
        Text(
            "In each step of the training every row is drawn with chance q. The gradient of each "
            "drawn row is cut to length C, the gradients are added up, and Gaussian noise of "
            "deviation σ·C is added to the sum; loss and accuracy get noise of their own, which is "
            "accounted together with it. Two accountants by different authors compute ε of the "
            "steps that really ran, and the run fails if they disagree."
        ),
        Grid("Mechanism and accounting", ("item", "value"), rows),
        Text("Monitors watched the realised noise, batches and clipping. All of them passed:"),
        Points(training.monitors_passed),
    ]


def _which(statement: Statement) -> str:
    training = statement.evidence.training
    if training.best_of_many:
        return "the best of a random number of runs, by Rényi divergence"
    if not training.planned_in_advance:
        return "the largest, as the run continues an earlier one"
    return "the larger of the first two, as the plan was fixed in advance"


def _input(release: Release) -> list[Block]:
    parameters = release.parameters
    size = parameters["train_size"]
    rows = [
        (field["name"], field["description"] or "", _domain(field, release.classes))
        for field in release.fields
    ]
    return [
        Text(
            "The table was encoded by its declared schema alone. The owner declared columns, "
            "bounds and categories in advance and without looking at rows, or the promise is "
            "weaker than it says. Numbers beyond their bounds are cut to them; what is missing or "
            "unknown is treated as declared here; anything else stops the run."
        ),
        Grid("Declared in public", ("column", "what it is", "values"), rows),
        Points(
            [
                f"{parameters['test_fraction']:.0%} of the rows are held back for testing; which "
                "side a row is on depends on that row alone, so no row moves another.",
                "The number of training rows was not declared, and its true value is used."
                if size is None
                else f"The number of training rows was declared as about {size:,}.",
                _people(release),
            ]
        ),
    ]


def _people(release: Release) -> str:
    if release.id is None:
        return "Each person is taken to have one row."
    return f"Of each person one row is used; whose it is, the column {release.id} says."


def _domain(field: Mapping[str, Any], classes: Sequence[str]) -> str:
    if field["role"] == "id":
        return "whose row it is; not read by the model"
    if field["role"] == "ignored":
        return "not read"
    policy = MISSING.get(field["missing"], "")
    if field["role"] == "label":
        return "the label: " + " or ".join(classes) + policy
    limits = field["constraints"]
    if "enum" in limits:
        other = ", or any other" if field["other"] else ""
        return ", ".join(limits["enum"]) + other + policy
    scale = ", by its logarithm" if field["transform"] else ""
    return f"{limits['minimum']:g} to {limits['maximum']:g}{scale}{policy}"


MISSING = {
    "drop": "; rows without it are left out",
    "midpoint": "; if missing, the middle of these, marked as missing",
    "category": "; or missing",
}


def _ledger(statement: Statement) -> list[Block]:
    evidence = statement.evidence
    rows = [
        ("this run, training side", _number(evidence.training.epsilon, ".4f")),
        ("this run, test side", _number(evidence.testing.epsilon, ".4f")),
        ("this run, whole", _number(evidence.epsilon, ".4f")),
        ("all runs on record, this one included", _number(evidence.ledger.epsilon_total, ".4f")),
        ("budget", _budget(evidence.ledger.privacy_budget)),
    ]
    return [
        Text(
            "Releases about the same people add up. Who has seen other runs on this table has to "
            "reckon with the total, which stays valid although each run was chosen in sight of "
            "those before. It counts what the ledger knew when this run ended."
        ),
        Grid("ε spent", ("what", "ε"), rows),
    ]


def _lineage(statement: Statement) -> list[Block]:
    lineage = statement.evidence.lineage
    changed = (
        "It had changed since the run that was continued, so both sides' ε are added."
        if lineage.table_changed
        else "No change of it is on record."
    )
    rows = [
        (
            "the table",
            f"Its fingerprint is kept in the owner's ledger and in no published file. {changed}",
        ),
        (
            "earlier runs in this model",
            "Continues an earlier run, whose steps ε includes."
            if lineage.continued
            else "None: trained from public initial weights.",
        ),
        (
            "code and parameters",
            "Those of the commit that holds this report, in the owner's repository.",
        ),
        ("made with", ", ".join(lineage.versions)),
    ]
    return [Grid("Lineage", ("what", "state"), rows)]


def _number(value: float | None, form: str) -> str:
    return "none" if value is None else format(value, form)


def _odds(chance: float | None) -> str:
    return "none" if chance is None else f"1 in {round(1 / chance):,}"


def _budget(budget: float | None) -> str:
    return "no privacy_budget is set" if budget is None else f"privacy_budget is {budget:g}"


def _factor(epsilon: float) -> str:
    """Return e^ε in two digits, rounded up."""
    unit = 10 ** (math.floor(epsilon / math.log(10)) - 1)
    return f"{math.ceil(math.exp(epsilon) / unit) * unit:,.10g}"


def _right(attack: Mapping[str, float]) -> str:
    """Return how often in 100 the best guess is right, where half are members; rounded up."""
    return str(math.ceil(50 * (1 + attack["advantage"])))


def _ceiling(share: float) -> float:
    return math.ceil(1000 * share) / 1000


def _up(share: float) -> str:
    return _percent(_ceiling(share))


def _percent(share: float) -> str:
    return f"{share:.1%}"
