"""What can go wrong, as far as a user can mend it."""


class UserError(Exception):
    """A mistake the user can mend.

    The message names the place (file, column, parameter), what was expected, what was seen and
    what to do next.
    """


class BrokenGuaranteeError(UserError):
    """What ran is not what the privacy guarantee assumes; nothing of the run may be published."""
