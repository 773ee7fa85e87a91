"""Addresses of test databases."""


def with_database(url: str, name: str) -> str:
    """The same server's URL with another database in it."""
    head, _, query = url.partition("?")
    return head.rpartition("/")[0] + "/" + name + ("?" + query if query else "")
