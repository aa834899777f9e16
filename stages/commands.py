"""How a stage or command speaks to its user: help, one message for a mistake, no traceback."""

import argparse
import errno
import os
import sys
from collections.abc import Callable

from stages.errors import GO_BACK, UserError

OUTPUTS_COME_BACK = f"""\
If DVC started this stage, it removed the previous outputs. The last commit's come back, in a clone
too, with: {GO_BACK}
Then mend what is said above and run: dvc repro"""

COUNTS = """\
If noise had been drawn, the run counts in full in the privacy ledger (python -m stages.ledger)"""

INTERRUPTED = f"""\
interrupted: nothing was written. {COUNTS},
finished or not. Start again with: dvc repro"""

# A disk that is full, or one's share of it.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def new_parser(doc: str | None, example: str = "") -> argparse.ArgumentParser:
    """Return a parser for the module that Python was started with, whose docstring is its help."""
    main = sys.modules["__main__"]
    module = main.__spec__.name if main.__spec__ else "stages"
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=doc,
        epilog=f"example:\n  {example or f'python -m {module}'}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def run_stage(main: Callable[[], None], doc: str | None) -> None:
    """Run a stage of the pipeline, which takes no arguments.

    DVC removes a stage's outputs before it starts the stage, so a stage that refuses has to say how
    the previous ones come back.
    """
    new_parser(doc).parse_args()
    run(main, hint=OUTPUTS_COME_BACK)


def run(main: Callable[[], None], hint: str = "") -> None:
    """Run a command's `main`: a `UserError` or Ctrl-C becomes one message on stderr.

    The exit status is 1 for a mistake, and 130 for Ctrl-C as in a shell.
    """
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UserError as error:
        _speak(f"error: {error}", hint)
        raise SystemExit(1) from None
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        problem = f"{error.strerror} for {error.filename or 'a file'}"
        _speak(f"error: {problem}. Make room and run again.", hint and f"{COUNTS}.", hint)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        _speak(INTERRUPTED if hint else "interrupted")
        raise SystemExit(130) from None


def _speak(*lines: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # the first of several processes speaks for all
        print(*filter(None, lines), sep="\n", file=sys.stderr)
