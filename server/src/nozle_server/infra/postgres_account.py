"""The operating system's user as whom PostgreSQL runs, because it refuses to run as root.

An ordinary user runs it as himself. Root runs it as `nobody`, or as the owner of a database that exists.
Nothing here creates users or changes the mode of a folder that is not ours.
"""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypedDict

from nozle_server.infra.data_directory import EmbeddedPostgresError

NOBODY = 65534  # on systems whose password file has no such name (minimal containers)


class LaunchOptions(TypedDict, total=False):
    """Arguments of `subprocess` that make the child run as an account."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int

    @classmethod
    def current(cls) -> Self:
        return cls(os.geteuid(), os.getegid())

    @classmethod
    def nobody(cls) -> Self:
        try:
            entry = pwd.getpwnam("nobody")
        except KeyError:
            return cls(NOBODY, NOBODY)
        return cls(entry.pw_uid, entry.pw_gid)

    @classmethod
    def owning(cls, path: Path) -> Self:
        owner = path.stat()
        return cls(owner.st_uid, owner.st_gid)

    @property
    def name(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    def can_enter(self, folder: Path) -> bool:
        """Whether the mode of each folder on the real path, this one included, lets the account through."""
        if self.uid == os.geteuid():
            return os.access(folder, os.X_OK)
        real = folder.resolve()
        return all(self._may_pass(each.stat()) for each in (real, *real.parents))

    def _may_pass(self, folder: os.stat_result) -> bool:
        if folder.st_uid == self.uid:
            return bool(folder.st_mode & stat.S_IXUSR)
        if folder.st_gid == self.gid:
            return bool(folder.st_mode & stat.S_IXGRP)
        return bool(folder.st_mode & stat.S_IXOTH)

    def launch_options(self) -> LaunchOptions:
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def make_directory(path: Path, account: Account, mode: int) -> None:
    """Make `path` the account's, or accept the one that is: nobody else may own it or write into it."""
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != account.uid or status.st_mode & 0o022:
            raise EmbeddedPostgresError(
                f"{path} must be a folder of user {account.name} that others cannot write"
            ) from None
        return
    os.chown(path, account.uid, account.gid)
    path.chmod(mode)
