"""`nozle-server`: serve, work, and the commands beside a running server."""

import signal


def main() -> None:
    """The console script.

    Reading our own code takes a second or more. A signal that comes meanwhile is kept until the command says what it means
    (`serving.stopping`): the first process of a container would never hear of one that it has no handler for.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    from nozle_server.cli import program

    program.main()
