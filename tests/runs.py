"""Plans and training runs from plain numbers, for tests that care about few of them."""

from typing import Any

from stages.tabular.prepared import Side
from stages.training.auto import PublicNumbers, Settings
from stages.training.dp_sgd import PrivateTraining
from stages.training.plan import Plan, make_plan
from stages.training.processes import ALONE


def settings(**changes) -> Settings:
    """Settings of one full batch of a row, but for what is given."""
    given: dict[str, Any] = {
        "batch_size": 1,
        "epochs": 1,
        "learning_rate": 0.1,
        "momentum": 0.5,
        "max_grad_norm": 1.0,
        "average_decay": 0.9,
        "activation": "relu",
        "pieces": 0,
    }
    return Settings(**given | changes)


def plan_of(
    *, train_size, target_epsilon, target_delta, metric_noise_ratio, past=(), **asked
) -> Plan:
    """The plan of a run that is `asked` for by some settings."""
    public = PublicNumbers(train_size, 1, 0, 1, target_epsilon, target_delta)
    return make_plan(public, settings(**asked), metric_noise_ratio, past)


def training_of(model, table, plan, source, processes=ALONE, **changes) -> PrivateTraining:
    """A run on `table` (features, labels), ready to start."""
    candidates = [(model, settings(**changes))]
    return PrivateTraining(candidates, Side(*table), plan, source, processes)
