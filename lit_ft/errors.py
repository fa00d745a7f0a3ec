"""The one exception that means "the user can mend this"."""


class UserError(ValueError):
    """A mistake in the user's input, settings or surroundings.

    `__main__` prints its text as one line after `lit_ft: error:` and exits with code 2, without a
    traceback. The text says what was expected, what was found (with the value), and the fix as a flag.
    Any other exception is a bug of ours and keeps its traceback.
    """


def as_user_error(error: Exception) -> UserError:
    """The Trainer's own complaint about its arguments, as one line."""
    return error if isinstance(error, UserError) else UserError(f"trainer settings: {error}")
