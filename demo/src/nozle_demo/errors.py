"""What can stop a demonstration, each with the exit code that it ends with."""


class DemoError(Exception):
    """A sentence for the terminal; the demonstration ends with `exit_code`."""

    exit_code = 1


class UsageError(DemoError):
    """Bad options, an unreadable trace, or a data directory that another demonstration was played in."""

    exit_code = 2


class ServerGoneError(DemoError):
    """The server does not answer any more; the journal is kept, so another run goes on from here."""

    exit_code = 3


class RefusedError(DemoError):
    """The server answered a call with a status that the demonstration has no use for."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
