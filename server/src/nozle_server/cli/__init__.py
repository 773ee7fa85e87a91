"""`nozle-server`: serve, work, and the commands beside a running server."""

from nozle_server.cli.program import main as main  # where the console script has always looked for it
