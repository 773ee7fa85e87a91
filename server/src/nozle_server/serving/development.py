"""`nozle-server dev`: serve with an organization whose keys are at hand, the example catalog, and the demonstration."""

import asyncio
import os
import shutil
import signal
import sys
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nozle_server.bootstrap import Services, build_services, open_database
from nozle_server.core.clock import SystemClock
from nozle_server.core.errors import InvalidInput
from nozle_server.identity.model import Mode
from nozle_server.identity.queries import get_time
from nozle_server.infra.data_directory import create_folder
from nozle_server.infra.database import Tx
from nozle_server.infra.logging import configure_logging
from nozle_server.infra.settings import Settings
from nozle_server.infra.yaml_file import read_yaml
from nozle_server.serving.production import Notice, answer_requests
from nozle_server.serving.stopping import Stopped, stop_signals
from nozle_server.serving.workers import Workers
from nozle_server.workflows.apply_catalog import apply_catalog, read_catalog
from nozle_server.workflows.onboarding import open_organization

EXAMPLE_CATALOG = Path("examples") / "ai-saas.yaml"
ENV_FILE = "dev.env"
# What `nozle-demo` ends with when it has reported: all its identities are true, or one is false.
_CAME_TO_ITS_END = (0, 1)


async def serve(settings: Settings, *, trace: str | None, demo: bool, notice: Notice) -> None:
    """Serve with a test organization whose keys stand in `dev.env`, until SIGTERM or SIGINT."""
    create_folder(settings.data_dir)
    log_path = settings.data_dir / "server.log"
    log_path.touch(mode=0o600)
    with log_path.open("ab", buffering=0) as log_file:
        configure_logging(settings.log_level, log_file)
        with suppress(Stopped), stop_signals() as stop:
            async with AsyncExitStack() as stack:
                workers = (
                    stack.enter_context(Workers(settings, log_file=log_file))
                    if settings.workers > 1
                    else None
                )
                with stop.interrupts():
                    database = await stack.enter_async_context(open_database(settings, notice=notice))
                listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
                serving = asyncio.create_task(
                    answer_requests(
                        database, settings, stop, workers=workers, on_listening=listening.set_result
                    )
                )
                waited_for: set[asyncio.Future[Any]] = {serving, listening}
                await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
                if not serving.done():
                    services = build_services(database, settings, SystemClock())
                    await _show(
                        services,
                        listening.result(),
                        serving,
                        trace=trace,
                        demo=demo,
                        notice=notice,
                        log_path=log_path,
                    )
                await serving
                notice("stopped")


async def _show(
    services: Services,
    url: str,
    serving: "asyncio.Task[None]",
    *,
    trace: str | None,
    demo: bool,
    notice: Notice,
    log_path: Path,
) -> None:
    """What a newcomer finds: an organization with something in it, where everything is, and the demonstration."""
    environment = await _organization_for_development(services, url)
    await _apply_example(services, environment)
    env_file = services.settings.data_dir / ENV_FILE
    notice(f"Nozle is serving at {url}\n  keys: . {env_file}\n  logs: {log_path}\n  docs: {url}/docs")
    if demo:
        await _play_demonstration(services.settings, environment, trace, serving)
    if not serving.done():
        notice(
            f"\nServing at {url} until Ctrl-C.  Docs: {url}/docs  Keys: . {env_file}\n"
            f'  curl -H "Authorization: Bearer $NOZLE_SECRET_KEY" {url}/api/v1/margin/summary'
        )


@dataclass(frozen=True, slots=True)
class DevelopmentEnvironment:
    """What `dev.env` tells."""

    url: str
    secret_key: str
    publishable_key: str
    organization_id: str

    def write(self, path: Path) -> None:
        """As shell assignments, readable by the owner alone."""
        text = (
            f"export NOZLE_URL={self.url}\nexport NOZLE_SECRET_KEY={self.secret_key}\n"
            f"export NOZLE_PUBLISHABLE_KEY={self.publishable_key}\nexport NOZLE_ORGANIZATION_ID={self.organization_id}\n"
        )
        temporary = path.with_suffix(".new")
        temporary.touch(mode=0o600)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> "DevelopmentEnvironment | None":
        """What was written before; None when there is nothing usable."""
        with suppress(OSError, KeyError):
            lines = (line.removeprefix("export ") for line in path.read_text(encoding="utf-8").splitlines())
            values = dict(line.split("=", 1) for line in lines if "=" in line)
            return cls(
                values["NOZLE_URL"],
                values["NOZLE_SECRET_KEY"],
                values["NOZLE_PUBLISHABLE_KEY"],
                values["NOZLE_ORGANIZATION_ID"],
            )
        return None


async def _organization_for_development(services: Services, url: str) -> DevelopmentEnvironment:
    """The organization of an earlier start if its key still opens this database, else a new one."""
    path = services.settings.data_dir / ENV_FILE
    earlier = DevelopmentEnvironment.read(path)
    if earlier is not None and await services.keys.find(earlier.secret_key) is not None:
        known = DevelopmentEnvironment(
            url, earlier.secret_key, earlier.publishable_key, earlier.organization_id
        )
    else:
        now = services.clock.now()

        async def create(tx: Tx) -> DevelopmentEnvironment:
            made, secret, publishable = await open_organization(
                tx, name="Demonstration", mode=Mode.TEST, now=now
            )
            return DevelopmentEnvironment(url, secret, publishable, str(made.id))

        known = await services.database.run(create)
    known.write(path)
    return known


async def _apply_example(services: Services, environment: DevelopmentEnvironment) -> None:
    """Apply the example catalog where it lies beside the checkout."""
    principal = await services.keys.find(environment.secret_key)
    if principal is None or not EXAMPLE_CATALOG.exists():
        return
    catalog = read_catalog(read_yaml(EXAMPLE_CATALOG))
    real_now = services.clock.now()

    async def apply(tx: Tx) -> None:
        now = await get_time(tx, principal.org_id, real_now)
        await apply_catalog(tx, org_id=principal.org_id, catalog=catalog, now=now)

    await services.database.run(apply)


async def _play_demonstration(
    settings: Settings, environment: DevelopmentEnvironment, trace: str | None, serving: "asyncio.Task[None]"
) -> None:
    """Run both acts of the demonstration as what they are: a customer's program that knows the address and the key."""
    program = Path(sys.executable).with_name("nozle-demo")
    command = str(program) if program.exists() else shutil.which("nozle-demo")
    if command is None:
        raise InvalidInput("the demonstration is not installed; DEMO=0 leaves it out")
    state = ["--state-dir", str(settings.data_dir / "demo")]
    replay = [command, *state, *(["--trace", trace] if trace else [])]
    # The second act turns the clock on by months, so it waits for a first one that came to its end, whatever its result.
    if await _play(replay, environment, serving) in _CAME_TO_ITS_END:
        await _play([command, "life", *state], environment, serving)


async def _play(
    command: list[str], environment: DevelopmentEnvironment, serving: "asyncio.Task[None]"
) -> int:
    """Run a program beside the server, which takes it along when it ends; its exit code."""
    player = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "NOZLE_URL": environment.url, "NOZLE_SECRET_KEY": environment.secret_key},
    )
    playing = asyncio.create_task(player.wait())
    await asyncio.wait({playing, serving}, return_when=asyncio.FIRST_COMPLETED)
    if not playing.done():
        with suppress(ProcessLookupError):
            player.send_signal(signal.SIGINT)
    return await playing
