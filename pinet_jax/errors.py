"""The one exception for mistakes a user can mend."""


class UserError(Exception):
    """Bad input: one sentence that names the file, the field and the mend.

    The programs print it without a traceback and exit with code 2.
    """
