"""What can go wrong, as far as a user can mend it."""

# What several messages say of the way on.
GO_BACK = "git restore --staged --worktree dvc.lock metrics plots && dvc checkout"
AMID_A_MERGE = (
    "If a merge left both versions in it, keep one whole: git checkout --ours dvc.lock metrics "
    "plots, or --theirs"
)


class UserError(Exception):
    """A mistake the user can mend.

    The message names the place (file, column, parameter), what was expected, what was seen and
    what to do next.
    """


class BrokenGuaranteeError(UserError):
    """What ran is not what the privacy guarantee assumes; nothing of the run may be published."""
