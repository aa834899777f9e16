"""How a stage tells its user what went wrong: one message, exit status 1, no traceback."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake the user can mend.

    The message names the place (file, column, parameter), what was expected, what was seen and
    what to do next.
    """


class BrokenGuaranteeError(UserError):
    """What ran is not what the privacy guarantee assumes; nothing of the run may be published."""


def run(main: Callable[[], None], *, outputs_hint: bool = True) -> None:
    """Run a command's `main`, turning a `UserError` into one message on stderr and exit status 1.

    DVC removes a stage's outputs before it starts the stage, so a stage that refuses has to say how
    the previous ones come back; a command that is no stage passes `outputs_hint=False`.
    """
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UserError as error:
        if os.environ.get("RANK", "0") != "0":
            raise SystemExit(1) from None  # the first of several processes speaks for all
        print(f"error: {error}", file=sys.stderr)
        if outputs_hint:
            print(
                "If DVC started this stage, it removed the previous outputs. Mend this and run dvc "
                "repro: what ran before comes back without running again. Or go back to the last "
                "commit's outputs with: git restore metrics plots && dvc checkout",
                file=sys.stderr,
            )
        raise SystemExit(1) from None
