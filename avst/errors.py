"""The one exception that users are meant to read."""


class AvstError(Exception):
    """A mistake in the input, said in one line that names file, question and field where they apply.

    The command line prints it as `avst: error: …` and exits with status 1; what it says of all other exceptions is
    decided in avst.failures.
    """
