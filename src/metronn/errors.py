"""The errors a user can meet. Each knows the exit code of the command that ends with it."""

from typing import ClassVar


class MetronnError(Exception):
    """Base of all errors shown to the user as one message without a traceback.

    The message says where, what was found, what is allowed and what to change. `exit_code` is the status
    of the command: 1 checked and failed, 2 bad request, 3 a tool is missing or broken.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """The text shown to the user."""
        return str(self.args[0])


class ModelError(MetronnError):
    """The request cannot be understood: a bad model, data file, option, board or system."""

    exit_code = 2


class InfeasibleError(MetronnError):
    """The request is understood and no design can meet it."""

    exit_code = 1


class ToolError(MetronnError):
    """A tool is missing, failed or cannot be used."""

    exit_code = 3


class MismatchError(MetronnError):
    """Two rungs of the verification disagree, a required one was not run, or a build is not as it was compiled."""

    exit_code = 1
