"""Try several settings and keep only the best, at a price known in advance.

A random number of trials is run, each with settings drawn from the grid; only the best by its
private test metric is kept, and nobody is shown the others. That costs much less than publishing
them all (Papernot & Steinke 2022, "Hyperparameter Tuning with Renyi Differential Privacy").
"""

import signal
import sys

from stages.commands import new_parser, run
from stages.params import load_params, sweep
from stages.tuning.trials import price, refuse_untunable, run_trials

EXAMPLE = "python -m stages.tune -S learning_rate=0.1,0.28 -S momentum=0.5,0.8 --trials 5"


def main() -> None:
    parser = new_parser(__doc__, EXAMPLE)
    parser.add_argument(
        "-S",
        action="append",
        required=True,
        metavar="NAME=VALUE,…",
        dest="sweeps",
        help="values of a setting to choose from; several settings make a grid",
    )
    parser.add_argument(
        "--trials", type=float, default=5, help="how many on average, above 1 (default: 5)"
    )
    arguments = parser.parse_args()
    params, grid = load_params(), list(sweep(arguments.sweeps))
    refuse_untunable(grid, params)
    spends = price(arguments.trials, params)
    costs = ", ".join(f"ε = {spend.epsilon:.3f} on the {spend.side} side" for spend in spends)
    print(f"the best of all trials will have cost {costs}, also if this is interrupted")
    print(
        f"running trials; how many is secret, {arguments.trials:g} on average. Do not look at them "
        "meanwhile (dvc exp show, dvc exp apply): the price is of showing the best alone"
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that losers are removed then, too
    best = run_trials(grid, arguments.trials, params, spends)
    print(f"the best trial is experiment {best}: {costs}. Keep it with: dvc exp apply {best}")


if __name__ == "__main__":
    run(main)
