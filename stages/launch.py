"""Run a stage in one process or, under torchrun, in several."""

import logging
import os
import runpy
import sys

from stages.commands import OUTPUTS_COME_BACK, new_parser, run
from stages.params import load_params


def main() -> None:
    parser = new_parser(__doc__, "python -m stages.launch 4 train")
    parser.add_argument("processes", help="how many work together, from 1")
    parser.add_argument("stage", choices=["train"], help="the stage that they share")
    arguments = parser.parse_args()
    load_params()  # so that who made a mistake there need not wait for PyTorch to be told
    module = f"stages.{arguments.stage}"
    # Whatever is no number above 1 is left for the stage to complain about.
    if arguments.processes.isdecimal() and int(arguments.processes) > 1:
        _torchrun(int(arguments.processes), module)
    else:
        sys.argv = [module]
        runpy.run_module(module, run_name="__main__")


def _torchrun(processes: int, module: str) -> None:
    # Only several processes need it, and it takes seconds to import.
    from torch.distributed.elastic.multiprocessing.errors import (  # noqa: PLC0415
        ChildFailedError,
    )
    from torch.distributed.run import main as torchrun  # noqa: PLC0415

    # Its log and its traceback would bury the message of the process that failed.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # which it would choose and warn of
    try:
        torchrun(["--standalone", f"--nproc-per-node={processes}", "-m", module])
    except ChildFailedError as error:
        if 0 not in error.failures:
            print(f"error: process {min(error.failures)} of {processes} failed.", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    run(main, hint=OUTPUTS_COME_BACK)
