"""The one exception that users are meant to read."""


class AvstError(Exception):
    """A mistake in the input, said in one line that names file, question and field where they apply.

    The command line prints it as `avst: error: …` and exits with status 1; what it says of all other exceptions is
    decided in avst.failures.
    """


class Interrupted(Exception):
    """A run that a signal asked to end, and that has. signum: which signal;  the text says how to go on."""

    def __init__(self, signum: int, words: str) -> None:
        super().__init__(words)
        self.signum = signum

    @property
    def status(self) -> int:
        """What shells expect: 143 for SIGTERM, 130 for Ctrl-C."""
        return 128 + self.signum


class EndedElsewhere(BaseException):
    """Another process of this run has failed, and a signal has said so in the midst of anything. No broad `except` on
    the way out may take it for the failure of a reward or a logger."""
