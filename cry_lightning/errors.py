"""The one exception that means "the user can mend this"; every room may raise it."""


class UserError(ValueError):
    """A mistake of the user's told in one line: the file, key or shape at fault, and the way out.

    The command line prints it without a traceback and exits with 2.
    """
